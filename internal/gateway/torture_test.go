package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"qvpgw/internal/figure"
	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
	"qvpgw/internal/rules"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// Extent of the torture. Cancels, hang-ups and kills grow with the statements:
// 1,000, 1,000 and 200 with 500,000.
const (
	tortureClients    = 64
	tortureServers    = 8
	tortureStatements = 15_000 // without QVPGW_TORTURE_STATEMENTS
	brokenStatements  = 6_000
	leastDisturbances = 60
	leastKills        = 12
)

// extent is how much of everything one run does at least.
type extent struct{ statements, cancels, hangUps, kills int64 }

func extentOf(statements int64) extent {
	return extent{
		statements: statements,
		cancels:    max(leastDisturbances, statements/500),
		hangUps:    max(leastDisturbances, statements/500),
		kills:      max(leastKills, statements/2500),
	}
}

// torture is one run: what it shares between its clients, and what they found.
type torture struct {
	testing.TB
	extent
	addr   string // of the gateway
	direct string // DSN of the server itself
	broken bool   // rows are expected to go astray: less patience

	queries, cancelled, hungUp, killed atomic.Int64
	foreign                            atomic.Int64 // what reached a client that it was not for
	lost                               atomic.Int64 // connections that ended without the client's doing
	stuck                              atomic.Int64 // answers that did not come in time
	missing                            atomic.Int64 // acknowledged rows that are not there, and refused ones that are
	cancels                            sync.WaitGroup
	begun                              time.Time
}

func TestTorture(t *testing.T) {
	statements := int64(tortureStatements)
	if v := os.Getenv("QVPGW_TORTURE_STATEMENTS"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			t.Fatalf("QVPGW_TORTURE_STATEMENTS is %q: it must be a number of statements", v)
		}
		statements = n
	}
	t.Run("no row, error or notice reaches another client", func(t *testing.T) {
		begun := time.Now()
		r := runTorture(t, extentOf(statements), false)
		t.Logf("%d statements, %d cancels, %d hang-ups, %d kills, %d connections lost by them, in %v",
			r.queries.Load(), r.cancelled.Load(), r.hungUp.Load(), r.killed.Load(), r.lost.Load(), time.Since(begun).Round(time.Millisecond))
		figure.Print(t, "torture.queries", r.queries.Load())
		figure.Print(t, "torture.foreign_rows", r.foreign.Load())
		figure.Print(t, "torture.leaked", r.leaked)
		figure.Print(t, "torture.handovers", r.handovers)
		figure.Print(t, "torture.unpinned_share", r.unpinned)
		if r.foreign.Load() > 0 || r.stuck.Load() > 0 || r.missing.Load() > 0 || r.leaked > 0 {
			t.Errorf("%d rows, errors or notices were foreign, %d answers did not come, %d inserts were lost or undead, %d connections leaked",
				r.foreign.Load(), r.stuck.Load(), r.missing.Load(), r.leaked)
		}
		if lost, killed := r.lost.Load(), r.killed.Load(); lost > killed {
			t.Errorf("%d clients lost their connection, but %d server connections were killed", lost, killed)
		}
		// Less than nearly all, since whoever is in a transaction while the catalog is
		// read again keeps its connection until that is done.
		if r.unpinned < 0.7 || r.handovers < r.statements/10 {
			t.Errorf("a share of %.3f of the transactions left their server connection free, with %d hand-overs: is everything pinned?", r.unpinned, r.handovers)
		}
	})
	t.Run("a broken hand-over is seen", func(t *testing.T) {
		e := extentOf(brokenStatements)
		e.hangUps *= 5
		// Which hang-ups meet a statement is chance, so a short run may see none.
		var foreign int64
		for round := 0; round < 4 && foreign == 0; round++ {
			foreign = runTorture(t, e, true).foreign.Load()
		}
		figure.Print(t, "torture.broken.foreign_rows", foreign)
		if foreign == 0 {
			t.Error("the hand-over was broken and nothing foreign was found: the torture sees nothing")
		}
	})
}

// result is a finished run.
type result struct {
	*torture
	leaked    int64
	handovers int64
	unpinned  float64 // share of transactions after which the server connection was free
}

// tortureSchema is made before the gateway knows the database.
const tortureSchema = `
CREATE TABLE torture_rows (client int NOT NULL, seq bigint NOT NULL, tag text NOT NULL);
CREATE FUNCTION torture_tenant(text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN PERFORM set_config('torture.tenant', $1, false); RETURN $1; END $$;`

func runTorture(t *testing.T, e extent, broken bool) result {
	r := &torture{TB: t, extent: e, broken: broken, begun: time.Now()}
	r.direct = pgtest.Database(t)
	run(t, r.direct, tortureSchema)
	m := metrics.New()
	g, addr := startGateway(t, r.direct, gateway.Options{
		Pool:    pool.Options{Size: tortureServers, CheckDelay: 30 * time.Second, BrokenHandOver: broken},
		Metrics: m,
	})
	r.addr = addr

	clients := make([]*client, tortureClients)
	var working sync.WaitGroup
	for n := range clients {
		clients[n] = newClient(r, n)
		working.Go(clients[n].work)
	}
	stop := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() { r.kill(stop) })
	working.Wait()
	close(stop)
	killing.Wait()
	r.cancels.Wait()

	res := result{torture: r}
	if !broken {
		res.leaked = r.leaks(g)
		r.checkRows(clients)
	}
	for _, p := range g.Pools() {
		res.handovers += p.Handovers
	}
	shared, pinned := count(t, m.Transactions[metrics.Shared]), count(t, m.Transactions[metrics.Pinned])
	res.unpinned = shared / max(shared+pinned, 1)
	for i := range metrics.Pins {
		if n := count(t, m.Pins[i]); n > 0 {
			t.Logf("pins by %s: %.0f", i, n)
		}
	}
	return res
}

// due claims one more of what should happen want times in the run.
func (r *torture) due(done *atomic.Int64, want int64) bool {
	n := done.Load()
	return n < want && n*r.statements <= want*r.queries.Load() && done.CompareAndSwap(n, n+1)
}

// finished says that everything was done often enough.
func (r *torture) finished() bool {
	if r.broken {
		return r.foreign.Load() >= 20 || r.queries.Load() >= r.statements ||
			r.foreign.Load() > 0 && time.Since(r.begun) > 5*time.Second
	}
	return r.queries.Load() >= r.statements && r.cancelled.Load() >= r.extent.cancels &&
		r.hungUp.Load() >= r.hangUps && r.killed.Load() >= r.kills
}

// patience is how long a client waits for a message.
func (r *torture) patience() time.Duration {
	if r.broken {
		return time.Second
	}
	return time.Minute
}

// foreigner reports something that is not for the client that got it.
func (r *torture) foreigner(format string, args ...any) {
	if n := r.foreign.Add(1); n <= 20 && !r.broken {
		r.Errorf("foreign: "+format, args...)
	}
}

// kill ends server connections of the gateway, spread over the run.
func (r *torture) kill(stop chan struct{}) {
	conn, err := pgconn.Connect(context.Background(), r.direct)
	if err != nil {
		r.Errorf("cannot connect to kill: %v", err)
		return
	}
	defer conn.Close(context.Background())
	const victim = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
		AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		if n := r.killed.Load(); n >= r.kills || n*r.statements > r.kills*r.queries.Load() {
			continue
		}
		res, err := conn.Exec(context.Background(), victim).ReadAll()
		if err != nil {
			r.Errorf("cannot kill: %v", err)
			return
		}
		if len(res) == 1 && len(res[0].Rows) == 1 && string(res[0].Rows[0][0]) == "t" {
			r.killed.Add(1)
		}
	}
}

// leaks counts what is still held once all clients are gone.
func (r *torture) leaks(g *gateway.Server) int64 {
	var leaked int64
	var what string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		leaked, what = 0, ""
		add := func(n int64, name string) {
			if n > 0 {
				leaked += n
				what += fmt.Sprintf("%d %s; ", n, name)
			}
		}
		for _, p := range g.Pools() {
			add(int64(p.Open-p.Idle), "server connections held")
			add(int64(p.Resting), "resting")
			add(int64(p.Waiting), "waiting")
			add(int64(p.Open-tortureServers), "more than the pool's size")
		}
		add(int64(len(g.Clients())), "clients")
		add(int64(goroutines("gateway.(*Server).serveConn")), "sessions' goroutines")
		add(int64(goroutines("pool.(*Conn).Cancel")), "cancels' goroutines")
		rows := run(r, r.direct, `SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
		open, _ := strconv.Atoi(rows[0][0])
		busy, _ := strconv.Atoi(rows[0][1])
		add(int64(open-tortureServers), "sessions of the server beyond the pool's size")
		add(int64(busy), "sessions of the server that are not idle")
		if leaked == 0 {
			return 0
		}
	}
	r.Errorf("leaked: %s", what)
	return leaked
}

// checkRows looks whether what was acknowledged is there and nothing that was
// refused or rolled back.
func (r *torture) checkRows(clients []*client) {
	there := map[string]bool{}
	for _, row := range run(r, r.direct, "SELECT client || ' ' || seq FROM torture_rows") {
		if there[row[0]] {
			r.missing.Add(1)
			r.Errorf("row %s is there twice", row[0])
		}
		there[row[0]] = true
	}
	for _, c := range clients {
		for seq, want := range c.rows {
			if key := fmt.Sprintf("%d %d", c.n, seq); there[key] != want {
				if r.missing.Add(1) <= 20 {
					r.Errorf("row %s: there is %v, the client was told %v", key, there[key], want)
				}
			}
		}
	}
}

// goroutines counts those that have name on their stack.
func goroutines(name string) int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "internal/"+name+"(")
}

// startGateway serves a database by a gateway in this process until the test
// ends. What opt leaves out is filled in.
func startGateway(t testing.TB, dsn string, opt gateway.Options) (g *gateway.Server, addr string) {
	t.Helper()
	if opt.Backend == nil {
		opt.Backend = func(database, user string) (*pgconn.Config, error) {
			c, err := pgconn.ParseConfig(dsn)
			if err == nil {
				c.Database, c.User, c.RuntimeParams = database, user, map[string]string{}
			}
			return c, err
		}
	}
	if opt.Guard == nil {
		opt.Guard = trusting()
	}
	if opt.NewLoader == nil {
		opt.NewLoader = wholeLoader
	}
	set, err := rules.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	opt.Rules = set
	opt.NoCache = true
	g = gateway.New(opt)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = g.Shutdown(ctx) // a test may leave clients
		serving.Wait()
	})
	return g, l.Addr().String()
}

// run executes statements on a connection of its own and returns the rows of the
// last.
func run(t testing.TB, dsn, sql string) [][]string {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatalf("cannot connect: %v", err)
	}
	defer conn.Close(context.Background())
	res, err := conn.Exec(context.Background(), sql).ReadAll()
	if err != nil {
		t.Fatalf("cannot run %q: %v", sql, err)
	}
	var rows [][]string
	for _, r := range res[len(res)-1].Rows {
		row := make([]string, len(r))
		for i, v := range r {
			row[i] = string(v)
		}
		rows = append(rows, row)
	}
	return rows
}

func count(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// newRand is repeatable for each client.
func newRand(n int) *rand.Rand { return rand.New(rand.NewPCG(uint64(n), 17)) }
