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
)

// dial opens a server connection: pgconn does the authentication and TLS, then
// hands over the socket.
func (p *Pool) dial() (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opt.ConnectTimeout)
	defer cancel()
	pc, err := pgconn.ConnectConfig(ctx, p.opt.Server.Copy())
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
	if n := h.Frontend.ReadBufferLen(); n != 0 || h.TxStatus != 'I' {
		_ = h.Conn.Close()
		return nil, fmt.Errorf("cannot take over the connection to %s: %d bytes unread, status %q", p.opt.Server.Host, n, h.TxStatus)
	}
	_ = h.Conn.SetDeadline(time.Time{})
	c := &Conn{
		Net: h.Conn, PID: h.PID, key: h.SecretKey, Params: maps.Clone(h.ParameterStatuses),
		Bucket: p.buckets.empty, pool: p, created: time.Now(), where: -1,
	}
	c.statements, err = simplelru.NewLRU(maxStatements, func(id uint64, _ struct{}) {
		c.evicted = append(c.evicted, id)
	})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	c.Stream.Reset(c.Net, nil)
	return c, nil
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
	if _, err := n.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
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
