package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/wire"
)

// dialers is how many clients log in at one time.
const dialers = 16

// Options say what a fleet connects to and as whom.
type Options struct {
	DSN     string // as libpq takes it, a URL or keywords
	Clients int    // at least one

	// Settings are startup parameters of a client, as application_name and TimeZone;
	// they win over those of the DSN. nil: none.
	Settings func(client int) map[string]string
}

// Fleet is a number of clients that are logged in. Its methods are called one at a
// time.
type Fleet struct{ clients []*client }

// client is one connection. It is used by one goroutine at a time.
type client struct {
	conn     net.Conn
	prepared map[*Script]string // prefix of its statements' names
	ready    map[string]bool    // what was sent of Requests.Prepare
	dead     bool
}

// Connect logs all clients in, or none.
func Connect(ctx context.Context, o Options) (*Fleet, error) {
	cfg, err := pgconn.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("cannot use the DSN: %w", err)
	}
	if o.Clients < 1 {
		return nil, fmt.Errorf("cannot run %d clients: at least one is needed", o.Clients)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &Fleet{clients: make([]*client, o.Clients)}
	var wg sync.WaitGroup
	for first := range min(dialers, o.Clients) {
		wg.Go(func() {
			for i := first; i < o.Clients && ctx.Err() == nil; i += dialers {
				conn, err := dial(ctx, cfg.Copy(), o, i)
				if err != nil {
					cancel(fmt.Errorf("cannot connect client %d of %d: %w", i+1, o.Clients, err))
					return
				}
				f.clients[i] = &client{conn: conn, prepared: map[*Script]string{}, ready: map[string]bool{}}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// dial logs one client in and takes its connection from the driver.
func dial(ctx context.Context, cfg *pgconn.Config, o Options, i int) (net.Conn, error) {
	if o.Settings != nil {
		maps.Copy(cfg.RuntimeParams, o.Settings(i))
	}
	pc, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := pc.SyncConn(ctx); err != nil {
		_ = pc.Close(ctx) // the first error says it
		return nil, err
	}
	h, err := pc.Hijack()
	if err != nil {
		_ = pc.Close(ctx) // the first error says it
		return nil, err
	}
	if err := h.Conn.SetDeadline(time.Time{}); err != nil {
		_ = h.Conn.Close() // the first error says it
		return nil, err
	}
	return h.Conn, nil
}

// Len is the number of clients.
func (f *Fleet) Len() int { return len(f.clients) }

// Part is the fleet of the clients from the first up to, not including, end. They
// stay clients of f too, which may do nothing while its parts do.
func (f *Fleet) Part(first, end int) *Fleet { return &Fleet{clients: f.clients[first:end]} }

// Close logs all clients out.
func (f *Fleet) Close() error {
	var errs []error
	for _, c := range f.clients {
		if c == nil || c.dead {
			continue
		}
		_, err := c.conn.Write(wire.AppendTerminate(nil))
		if err = errors.Join(err, c.conn.Close()); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("cannot log %d clients out: %w", len(errs), errs[0])
	}
	return nil
}
