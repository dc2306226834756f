package gateway_test

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestACancelEndsTheWaitForTheCatalog has the catalog be read once and not again
// when somebody changed it.
func TestACancelEndsTheWaitForTheCatalog(t *testing.T) {
	dsn := nativeDatabase(t, "")
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, NewLoader: func() gateway.LoadFunc {
		reads := 0
		return func(gateway.QueryFunc, *catalog.Snapshot, *catalog.Touched) (*catalog.Snapshot, error) {
			if reads++; reads > 1 {
				<-never
			}
			return &catalog.Snapshot{}, nil
		}
	}})
	p, other := dial(t, addr, dsn), dial(t, addr, dsn)
	p.want("SELECT 1", "1")
	other.must("CREATE TABLE made (x int)")
	p.send(simple("SELECT x FROM made"))
	if got := cancelled(t, addr, p); got != "57014" {
		t.Errorf("got %q", got)
	}
}

// TestACancelFindsAStatementThatHasNoServerConnectionYet has connecting take long.
func TestACancelFindsAStatementThatHasNoServerConnectionYet(t *testing.T) {
	dsn := nativeDatabase(t, "")
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var slow atomic.Bool
	held, release := make(chan bool, 16), make(chan bool)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if slow.Load() {
					held <- true
					<-release
				}
				server, err := net.Dial("tcp", net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)))
				if err != nil {
					return
				}
				defer server.Close()
				go func() { _, _ = io.Copy(server, c); server.Close() }()
				_, _ = io.Copy(c, server)
			}()
		}
	}()
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}, NewLoader: noCatalog, Backend: func(database, user string) (*pgconn.Config, error) {
		return pgconn.ParseConfig("postgres://" + user + "@" + l.Addr().String() + "/" + database + "?sslmode=disable")
	}})
	p := dial(t, addr, dsn)
	p.want("SELECT 1", "1")
	for end := time.Now().Add(patience); g.Pools()[0].Idle == 0; { // it is given back after the answer
		if time.Now().After(end) {
			t.Fatal("the server connection is not given back")
		}
		time.Sleep(time.Millisecond)
	}
	dial(t, addr, dsn).must("BEGIN")
	slow.Store(true)
	p.send(simple("SELECT 2"))
	select {
	case <-held:
	case <-time.After(patience):
		t.Fatal("no server connection is opened")
	}
	cancel(t, addr, p.pid, p.key)
	close(release)
	if got := rowsOf(p.reply(1)); got != "57014" {
		t.Errorf("got %q", got)
	}
	p.want("SELECT 3", "3")
}

// TestAnIdleServerConnectionThatWasEndedCostsNobodyAnError ends all of them between
// two statements, again and again.
func TestAnIdleServerConnectionThatWasEndedCostsNobodyAnError(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE TABLE notes (n int)")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2, CheckDelay: time.Hour}})
	p, killer := dial(t, addr, dsn), direct(t, dsn)
	for i := range 20 {
		killer.must("SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
		time.Sleep(time.Duration(i%3) * time.Millisecond)
		p.must(fmt.Sprintf("INSERT INTO notes VALUES (%d)", i))
	}
	p.want("SELECT count(*) FROM notes", "20")
}

// TestProcessIDsArePositive has every generation, and numbers that begin anew: pgjdbc
// cancels nothing with a negative one.
func TestProcessIDsArePositive(t *testing.T) {
	for generation := range 300 {
		for _, last := range []uint32{0, 1, 1<<24 - 2, 1<<24 - 1, 1<<31 - 1, 1<<32 - 1} {
			if pid := gateway.NextPID(last, generation); int32(pid) <= 0 || pid == last {
				t.Errorf("after %d of generation %d comes %d", last, generation, int32(pid))
			}
		}
	}
}
