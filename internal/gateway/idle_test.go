package gateway_test

import (
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
			silent.Send(&pgproto3.Query{String: c.first})
			if err := silent.Flush(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan string, 1)
			go func() {
				failed := ""
				for failed == "" {
					failed = endOfReply(silent)
				}
				ended <- failed
			}()
			began := time.Now()
			_, talking := rawLogin(t, addr, dsn)
			for spoke := began; ; {
				select {
				case got := <-ended:
					if want := "FATAL " + c.code; got != want {
						t.Errorf("the silent client got %q, want %q", got, want)
					}
					wantWhole(t, g)
					return
				case <-time.After(limit / 6):
				}
				if time.Since(began) > patience {
					t.Fatal("the silent client is still there")
				}
				before := spoke
				spoke = time.Now()
				talking.Send(&pgproto3.Query{String: "SELECT 1"})
				_ = talking.Flush()
				switch got := endOfReply(talking); {
				case got != "" && time.Since(before) < limit:
					t.Fatalf("the talking client got %s", got)
				case got != "": // a busy machine had it be silent for too long
					spoke = time.Now()
					_, talking = rawLogin(t, addr, dsn)
				}
			}
		})
	}
}

// endOfReply reads up to a ReadyForQuery, or to an error, which it returns.
func endOfReply(f *pgproto3.Frontend) (failed string) {
	for {
		m, err := f.Receive()
		if err != nil {
			return err.Error()
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return m.Severity + " " + m.Code
		case *pgproto3.ReadyForQuery:
			return ""
		}
	}
}
