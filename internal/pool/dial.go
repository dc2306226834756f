package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/netloop"
	"qvpgw/internal/wire"
)

// dialHost opens a connection to one host: pgconn finds its address, does TLS and
// the startup, a login of ours the SCRAM in between, and the socket is taken over.
func (p *Pool) dialHost(to *host, opt Options, params map[string]string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, opt.ConnectTimeout)
	defer cancel()
	var notices []*pgconn.Notice
	cfg := to.config.Copy()
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n) }
	if params != nil {
		cfg.RuntimeParams = params
	}
	if opt.Loops != nil {
		cfg.DialFunc = opt.Loops.Dial
	}
	chooses := opt.Target != "" && opt.Target != Any
	if chooses && opt.Target != PreferStandby {
		cfg.ValidateConnect = opt.Target.validate
	}
	if opt.Balance != "" && opt.Balance != InOrder {
		cfg.LookupFunc = opt.Balance.lookup(int(p.dials.Load()), cfg.LookupFunc)
	}
	pc, err := pgconn.ConnectConfig(ctx, p.logIn(cfg, opt.Keys))
	if err != nil {
		return nil, err
	}
	standby := false
	if chooses {
		if standby, _, err = roleOf(ctx, pc); err != nil {
			_ = pc.Close(ctx)
			return nil, err
		}
	}
	if err := pc.SyncConn(ctx); err != nil {
		_ = pc.Close(ctx)
		return nil, fmt.Errorf("cannot take over the connection to %s: %w", to.name, err)
	}
	h, err := pc.Hijack()
	if err != nil {
		_ = pc.Close(ctx)
		return nil, fmt.Errorf("cannot take over the connection to %s: %w", to.name, err)
	}
	if unread := h.Frontend.ReadBufferLen(); unread != 0 || h.TxStatus != 'I' {
		_ = h.Conn.Close()
		return nil, fmt.Errorf("cannot take over the connection to %s: %d bytes unread, status %q", to.name, unread, h.TxStatus)
	}
	n, login := loggedIn(h.Conn)
	_ = n.SetDeadline(time.Time{})
	c := &Conn{
		Net: n, Login: login, PID: h.PID, key: h.SecretKey, Params: maps.Clone(h.ParameterStatuses),
		Bucket: p.buckets.empty, pool: p, created: time.Now(), where: -1, Notices: notices,
		server: to.config, host: to.name, standby: standby, share: 1 - lifetimeSpread*rand.Float64(),
	}
	if a, ok := h.Conn.RemoteAddr().(*net.TCPAddr); ok {
		c.address = a.IP.String()
	}
	c.Loop = socket(n)
	c.statements, err = simplelru.NewLRU(maxStatements, func(id uint64, _ struct{}) {
		c.evicted = append(c.evicted, id)
	})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	c.Stream.Reset(c.Net, nil)
	return c, nil
}

// DialOwn opens a connection for one client alone, with the startup parameters of
// that client: it is none of the pool's, and CloseOwn ends it. Only settings that
// a pooled connection cannot be given, as replication, are worth one.
func (p *Pool) DialOwn(owner uint64, params map[string]string) (*Conn, error) {
	hosts, opt := p.candidates()
	var failed []error
	for _, h := range hosts {
		c, err := p.dialOwn(h, opt, params)
		if err == nil {
			c.state.Store(owner << 16)
			return c, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

func (p *Pool) dialOwn(to *host, opt Options, params map[string]string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, opt.ConnectTimeout)
	defer cancel()
	cfg := to.config.Copy()
	cfg.RuntimeParams = params
	if opt.Target != "" && opt.Target != Any && opt.Target != PreferStandby {
		cfg.ValidateConnect = opt.Target.validate
	}
	pc, err := pgconn.ConnectConfig(ctx, p.logIn(cfg, opt.Keys))
	if err != nil {
		return nil, err
	}
	h, err := pc.Hijack()
	if err != nil {
		_ = pc.Close(ctx)
		return nil, fmt.Errorf("cannot take over the connection to %s: %w", to.name, err)
	}
	if unread := h.Frontend.ReadBufferLen(); unread != 0 {
		_ = h.Conn.Close()
		return nil, fmt.Errorf("cannot take over the connection to %s: %d bytes unread", to.name, unread)
	}
	n, login := loggedIn(h.Conn)
	_ = n.SetDeadline(time.Time{})
	c := &Conn{
		Net: n, Login: login, PID: h.PID, key: h.SecretKey, Params: maps.Clone(h.ParameterStatuses),
		Bucket: p.buckets.empty, pool: p, created: time.Now(), where: -1, server: to.config, host: to.name,
	}
	c.Stream.Reset(c.Net, nil)
	return c, nil
}

// CloseOwn ends a connection that DialOwn opened.
func (c *Conn) CloseOwn() {
	c.state.Store(0) // no cancel reaches it any more
	_ = c.Net.Close()
}

// socket returns the loops' connection under n, which may be TLS, or nil.
func socket(n net.Conn) *netloop.Conn {
	if t, ok := n.(*tls.Conn); ok {
		n = t.NetConn()
	}
	c, _ := n.(*netloop.Conn)
	return c
}

// lifetimeSpread is by how much of Options.Lifetime connections' lives differ.
const lifetimeSpread = 0.1

// dialCancel opens the connection on which a cancel request goes to the server
// at addr: with TLS wherever the server connections have it.
func dialCancel(ctx context.Context, server *pgconn.Config, addr net.Addr) (net.Conn, error) {
	n, err := server.DialFunc(ctx, addr.Network(), addr.String())
	if err != nil {
		return nil, err
	}
	if server.TLSConfig == nil {
		return n, nil
	}
	if d, ok := ctx.Deadline(); ok {
		_ = n.SetDeadline(d)
	}
	if server.SSLNegotiation == "direct" {
		return tls.Client(n, server.TLSConfig), nil
	}
	if _, err := n.Write(wire.AppendSSLRequest(nil)); err != nil {
		_ = n.Close()
		return nil, err
	}
	var answer [1]byte
	if _, err := n.Read(answer[:]); err != nil {
		_ = n.Close()
		return nil, err
	}
	if answer[0] != 'S' {
		return n, nil
	}
	return tls.Client(n, server.TLSConfig), nil
}
