package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/netloop"
	"qvpgw/internal/wire"
)

// dial opens a server connection: pgconn finds the host, does TLS and the startup,
// a login of ours the SCRAM in between, and the socket is taken over.
func (p *Pool) dial() (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opt.ConnectTimeout)
	defer cancel()
	var notices []*pgconn.Notice
	cfg := p.opt.Server.Copy()
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n) }
	if p.opt.Loops != nil {
		cfg.DialFunc = p.opt.Loops.Dial
	}
	pc, err := pgconn.ConnectConfig(ctx, p.logIn(cfg))
	if err != nil {
		return nil, err
	}
	if err := pc.SyncConn(ctx); err != nil {
		_ = pc.Close(ctx)
		return nil, fmt.Errorf("cannot take over the connection to %s: %w", p.opt.Server.Host, err)
	}
	h, err := pc.Hijack()
	if err != nil {
		_ = pc.Close(ctx)
		return nil, fmt.Errorf("cannot take over the connection to %s: %w", p.opt.Server.Host, err)
	}
	if unread := h.Frontend.ReadBufferLen(); unread != 0 || h.TxStatus != 'I' {
		_ = h.Conn.Close()
		return nil, fmt.Errorf("cannot take over the connection to %s: %d bytes unread, status %q", p.opt.Server.Host, unread, h.TxStatus)
	}
	n, login := loggedIn(h.Conn)
	_ = n.SetDeadline(time.Time{})
	c := &Conn{
		Net: n, Login: login, PID: h.PID, key: h.SecretKey, Params: maps.Clone(h.ParameterStatuses),
		Bucket: p.buckets.empty, pool: p, created: time.Now(), where: -1, Notices: notices,
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
	ctx, cancel := context.WithTimeout(p.ctx, p.opt.ConnectTimeout)
	defer cancel()
	cfg := p.opt.Server.Copy()
	cfg.RuntimeParams = params
	pc, err := pgconn.ConnectConfig(ctx, p.logIn(cfg))
	if err != nil {
		return nil, err
	}
	h, err := pc.Hijack()
	if err != nil {
		_ = pc.Close(ctx)
		return nil, fmt.Errorf("cannot take over the connection to %s: %w", cfg.Host, err)
	}
	if unread := h.Frontend.ReadBufferLen(); unread != 0 {
		_ = h.Conn.Close()
		return nil, fmt.Errorf("cannot take over the connection to %s: %d bytes unread", cfg.Host, unread)
	}
	n, login := loggedIn(h.Conn)
	_ = n.SetDeadline(time.Time{})
	c := &Conn{
		Net: n, Login: login, PID: h.PID, key: h.SecretKey, Params: maps.Clone(h.ParameterStatuses),
		Bucket: p.buckets.empty, pool: p, created: time.Now(), where: -1,
	}
	c.Stream.Reset(c.Net, nil)
	c.state.Store(owner << 16)
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

// dialCancel opens the connection on which a cancel request goes to the server
// at addr: with TLS wherever the server connections have it.
func (p *Pool) dialCancel(ctx context.Context, addr net.Addr) (net.Conn, error) {
	n, err := p.opt.Server.DialFunc(ctx, addr.Network(), addr.String())
	if err != nil {
		return nil, err
	}
	if p.opt.Server.TLSConfig == nil {
		return n, nil
	}
	if d, ok := ctx.Deadline(); ok {
		_ = n.SetDeadline(d)
	}
	if p.opt.Server.SSLNegotiation == "direct" {
		return tls.Client(n, p.opt.Server.TLSConfig), nil
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
	return tls.Client(n, p.opt.Server.TLSConfig), nil
}
