package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// TestSilentClientsAreEnded ends a client that says nothing for too long, inside a
// transaction and outside one, and leaves one alone that goes on talking.
func TestSilentClientsAreEnded(t *testing.T) {
	dsn := pgtest.Database(t)
	const limit = 300 * time.Millisecond
	for name, c := range map[string]struct {
		opt   gateway.Options
		first string
		code  string
	}{
		"idle":                  {gateway.Options{IdleTimeout: limit}, "SELECT 1", "57P05"},
		"idle in a transaction": {gateway.Options{IdleInTx: limit}, "BEGIN", "25P03"},
	} {
		t.Run(name, func(t *testing.T) {
			c.opt.Pool = pool.Options{Size: 2}
			g, addr := startGateway(t, dsn, c.opt)
			_, silent := rawLogin(t, addr, dsn)
			_, talking := rawLogin(t, addr, dsn)
			silent.Send(&pgproto3.Query{String: c.first})
			if err := silent.Flush(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan string, 1)
			go func() {
				for {
					m, err := silent.Receive()
					if err != nil {
						ended <- err.Error()
						return
					}
					if e, ok := m.(*pgproto3.ErrorResponse); ok {
						ended <- e.Severity + " " + e.Code
						return
					}
				}
			}()
			for began := time.Now(); ; {
				select {
				case got := <-ended:
					if want := "FATAL " + c.code; got != want {
						t.Errorf("the silent client got %q, want %q", got, want)
					}
					wantWhole(t, g)
					return
				case <-time.After(50 * time.Millisecond):
				}
				if time.Since(began) > 5*time.Second {
					t.Fatal("the silent client is still there after 5 s")
				}
				talking.Send(&pgproto3.Query{String: "SELECT 1"})
				if err := talking.Flush(); err != nil {
					t.Fatal(err)
				}
				for {
					m, err := talking.Receive()
					if err != nil {
						t.Fatalf("the talking client: %v", err)
					}
					if e, ok := m.(*pgproto3.ErrorResponse); ok {
						t.Fatal("the talking client got " + strings.TrimSpace(e.Code+" "+e.Message))
					}
					if _, ok := m.(*pgproto3.ReadyForQuery); ok {
						break
					}
				}
			}
		})
	}
}
