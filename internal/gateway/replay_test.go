package gateway_test

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

const killedServer = `< ErrorResponse FATAL 57P01 "terminating connection due to administrator command"
		< close`

// TestAReadWhoseServerConnectionDiesBeforeItAnswersIsRunAgain has the first server
// connection end at the statement, in both gears.
func TestAReadWhoseServerConnectionDiesBeforeItAnswersIsRunAgain(t *testing.T) {
	for _, gear := range []gateway.Gear{gateway.GearAuto, gateway.GearSecond} {
		for _, c := range []struct{ sql, end, want string }{
			{"SELECT 1", "< close", "answered"},
			{"SELECT 1", killedServer, "answered"},
			{"SELECT 1", "< RowDescription n:23\n< DataRow 1\nsleep 50ms\n< close", "08006"},
			{"INSERT INTO t VALUES (1)", "< close", "08006"},
			{"INSERT INTO t VALUES (1)", killedServer, "57P01"},
			{"SELECT nextval('s')", "< close", "08006"},
		} {
			first := pgtest.MustScript(t, answered+"> Query\n"+c.end).Serve(t)
			second := pgtest.MustScript(t, `
				startup
				> Query "`+c.sql+`"
				< CommandComplete "SELECT 0"
				< ReadyForQuery I
			`).Serve(t)
			dials := 0
			_, addr := startGateway(t, "", gateway.Options{
				Pool: pool.Options{Size: 1}, NewLoader: noCatalog, Gear: gear, Loops: -1,
				Backend: func(string, string) (*pgconn.Config, error) {
					conf, err := pgconn.ParseConfig("postgres://postgres@" + first + "/x?sslmode=disable")
					conf.RuntimeParams = map[string]string{}
					conf.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
						if dials++; dials > 1 {
							addr = second
						}
						return (&net.Dialer{}).DialContext(ctx, network, addr)
					}
					return conf, err
				},
			})
			p := dial(t, addr, "postgres://postgres@h/x")
			got := p.query(c.sql)
			if again := slices.ContainsFunc(got, func(l string) bool { return l == "complete SELECT 0" }); again != (c.want == "answered") {
				t.Errorf("gear %v, %s, %s: %q", gear, c.sql, c.end, got)
			}
		}
	}
}

// oneAfterTheOther listens for connections and passes the first to the first address,
// each other one to the next.
func oneAfterTheOther(t *testing.T, addrs ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for _, addr := range addrs {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			go pipe(client, server)
			go pipe(server, client)
		}
		_ = l.Close()
	}()
	return l.Addr().String()
}

// TestAReadOfTheFirstGearWhoseServerConnectionDiesIsRunAgain has the connection end at
// a statement that runs on a loop: it did before, on the same connection.
func TestAReadOfTheFirstGearWhoseServerConnectionDiesIsRunAgain(t *testing.T) {
	const good = "\n> Query \"SELECT 1\"\n< CommandComplete \"SELECT 0\"\n< ReadyForQuery I\n"
	for name, c := range map[string]struct{ end, want string }{
		"before the statement comes":     {"sleep 1ms\n< close", "complete SELECT 0"},
		"at the statement":               {"> Query\n< close", "complete SELECT 0"},
		"with the server's word":         {"> Query\n" + killedServer, "complete SELECT 0"},
		"with its word, before it":       {killedServer, "complete SELECT 0"},
		"in the middle of a message":     {"> Query\n< raw 54 00 00", "complete SELECT 0"},
		"when a part of the answer left": {"> Query\n< RowDescription n:23\n< DataRow 1\nsleep 50ms\n< close", "FATAL 08006"},
		"with another error":             {"> Query\n< ErrorResponse ERROR 57014 \"canceled\"\n< ReadyForQuery I", "ERROR 57014"},
	} {
		t.Run(name, func(t *testing.T) {
			first := pgtest.MustScript(t, answered+good+good+c.end).Serve(t)
			second := pgtest.MustScript(t, "startup"+good).Serve(t)
			m := metrics.New()
			_, addr := startGateway(t, "postgres://postgres@"+oneAfterTheOther(t, first, second)+"/x?sslmode=disable", gateway.Options{
				Pool: pool.Options{Size: 1}, NewLoader: noCatalog, Metrics: m,
			})
			p := dial(t, addr, "postgres://postgres@h/x")
			p.must("SELECT 1") // its plan is known from here on
			p.must("SELECT 1")
			// The client has its answer before the turn is counted.
			for deadline := time.Now().Add(5 * time.Second); gearOf(t, m, "first") != 1; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%v turns ended in the first gear, want 1", gearOf(t, m, "first"))
				}
			}
			got := p.query("SELECT 1")
			if !slices.ContainsFunc(got, func(l string) bool { return len(l) >= len(c.want) && l[:len(c.want)] == c.want }) {
				t.Errorf("got %q, want %s", got, c.want)
			}
		})
	}
}

// gearOf counts the turns that ended in a gear.
func gearOf(t *testing.T, m *metrics.Metrics, gear string) float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			if f.GetName() == "qvpgw_turns_total" && x.GetLabel()[0].GetValue() == gear {
				return x.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there are no turns of the gear %s", gear)
	return 0
}

// TestReadsOutliveTheirKilledServerConnections kills the real ones that are idle.
func TestReadsOutliveTheirKilledServerConnections(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE TABLE outlived (a int); INSERT INTO outlived VALUES (1)")
	m := metrics.New()
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, Metrics: m})
	p := dial(t, addr, dsn)
	p.extended(&pgproto3.Parse{Name: "s", Query: "SELECT a + $1 FROM outlived"}, &pgproto3.Sync{})
	ask := func() {
		t.Helper()
		if got := rowsOf(p.extended(execute("s", "1")...)); got != "2" {
			t.Errorf("the prepared statement: got %q", got)
		}
	}
	kill := func() {
		run(t, dsn, "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
	}
	for range 3 {
		p.want("SELECT a FROM outlived", "1")
		ask()
	}
	if n := gearOf(t, m, "first"); n == 0 {
		t.Error("no turn ended in the first gear: the test tests nothing")
	}
	for range 5 {
		kill()
		p.want("SELECT a FROM outlived", "1")
		kill()
		ask()
		kill()
		// Not a read alone: it may have happened.
		if got := p.rows("INSERT INTO outlived SELECT 1 WHERE false"); got != "57P01" && got != "" {
			t.Errorf("an INSERT got %q", got)
		}
		if p = dial(t, addr, dsn); p.rows("SELECT a FROM outlived") != "1" {
			t.Error("no row")
		}
		p.extended(&pgproto3.Parse{Name: "s", Query: "SELECT a + $1 FROM outlived"}, &pgproto3.Sync{})
		ask()
	}
}
