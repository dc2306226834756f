package gateway_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/figure"
	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
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

// extent is how much of everything one run does at least; with a time, it ends
// when that is over.
type extent struct {
	statements, cancels, hangUps, kills int64
	time                                time.Duration
}

func extentOf(statements int64) extent {
	return extent{
		statements: statements,
		cancels:    max(leastDisturbances, statements/500),
		hangUps:    max(leastDisturbances, statements/500),
		kills:      max(leastKills, statements/2500),
	}
}

// extentOfTime is that of a run of d: a kill for each two seconds, five times as
// many cancels and hang-ups.
func extentOfTime(d time.Duration) extent {
	kills := max(leastKills, int64(d/(2*time.Second)))
	return extent{cancels: 5 * kills, hangUps: 5 * kills, kills: kills, time: d}
}

// gears are the ways in which the gateway can be made to serve a client.
var gears = map[string]gateway.Gear{"first": gateway.GearAuto, "second": gateway.GearSecond, "mixed": gateway.GearMixed}

// tortureGears are those to run: QVPGW_TORTURE_GEAR, or all.
func tortureGears(t *testing.T) []string {
	if name := os.Getenv("QVPGW_TORTURE_GEAR"); name != "" {
		if _, ok := gears[name]; !ok {
			t.Fatalf("QVPGW_TORTURE_GEAR is %q: there are %q", name, slices.Sorted(maps.Keys(gears)))
		}
		return []string{name}
	}
	return slices.Sorted(maps.Keys(gears))
}

// tortureExtent is what the environment asks for: QVPGW_TORTURE_TIME, a duration,
// or QVPGW_TORTURE_STATEMENTS; for each gear.
func tortureExtent(t *testing.T) extent {
	if v := os.Getenv("QVPGW_TORTURE_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			t.Fatalf("QVPGW_TORTURE_TIME is %q: it must be a duration like 10m", v)
		}
		return extentOfTime(d)
	}
	if v := os.Getenv("QVPGW_TORTURE_STATEMENTS"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			t.Fatalf("QVPGW_TORTURE_STATEMENTS is %q: it must be a number of statements", v)
		}
		return extentOf(n)
	}
	return extentOf(tortureStatements)
}

// torture is one run: what it shares between its clients, and what they found.
type torture struct {
	testing.TB
	extent
	addr   string // of the gateway
	direct string // DSN of the server itself
	broken bool   // rows are expected to go astray
	// patience is how long a client waits for a message.
	patience time.Duration

	queries, cancelled, hungUp, killed atomic.Int64
	foreign                            atomic.Int64 // what reached a client that it was not for
	leakedSettings                     atomic.Int64 // state of a session that is not the client's own, or not as it left it
	foreignCancels                     atomic.Int64 // 57014 in a client that had sent no cancel
	lost                               atomic.Int64 // connections that ended without the client's doing
	deaf                               atomic.Int64 // those that ended because nobody listened for them any more, not in lost
	losses                             notes        // of both, and of kills: when and how
	stuck                              atomic.Int64 // answers that did not come in time
	missing                            atomic.Int64 // acknowledged rows that are not there, and refused ones that are
	owners                             sync.Map     // value of the sequence -> client that got it
	cancels                            sync.WaitGroup
	begun                              time.Time
}

func TestTorture(t *testing.T) {
	e := tortureExtent(t)
	all := sums{unpinned: 1}
	for _, gear := range tortureGears(t) {
		t.Run("no row, error, notice or setting reaches another client in gear "+gear, func(t *testing.T) {
			r := runTorture(t, e, gear, false)
			r.judge(t)
			all.add(r)
		})
	}
	all.print(t)

	t.Run("a broken hand-over is seen", func(t *testing.T) {
		e := extentOf(brokenStatements)
		e.hangUps *= 5
		// Which hang-ups meet a statement is chance, so a short run may see none.
		var foreign, settings int64
		for round := 0; round < 12 && (foreign == 0 || settings == 0); round++ {
			r := runTorture(t, e, tortureGears(t)[0], true)
			foreign += r.foreign.Load()
			settings += r.leakedSettings.Load()
		}
		figure.Print(t, "torture.broken.foreign_rows", foreign)
		figure.Print(t, "torture.broken.leaked_settings", settings)
		if foreign == 0 || settings == 0 {
			t.Errorf("the hand-over was broken; %d foreign rows and %d leaked settings were found: the torture sees too little", foreign, settings)
		}
	})
}

// judge fails the test for what a run found.
func (r result) judge(t *testing.T) {
	t.Logf("%d statements, %d cancels, %d hang-ups, %d kills, %d connections lost by them and %d that listened, in %v",
		r.done, r.cancelled.Load(), r.hungUp.Load(), r.killed.Load(), r.lost.Load(), r.deaf.Load(), time.Since(r.begun).Round(time.Millisecond))
	if r.foreign.Load() > 0 || r.leakedSettings.Load() > 0 || r.foreignCancels.Load() > 0 {
		t.Errorf("%d rows, errors or notices were foreign, %d settings leaked, %d cancels were foreign",
			r.foreign.Load(), r.leakedSettings.Load(), r.foreignCancels.Load())
	}
	if r.stuck.Load() > 0 || r.missing.Load() > 0 || r.leaked > 0 {
		t.Errorf("%d answers did not come, %d inserts were lost or undead, %d connections leaked", r.stuck.Load(), r.missing.Load(), r.leaked)
	}
	// A kill ends one client, or all that listen.
	if lost, deaf, killed := r.lost.Load(), r.deaf.Load(), r.killed.Load(); lost+min(deaf, 1) > killed {
		t.Errorf("%d clients lost their connection and %d that listened, but %d server connections were killed:\n%s", lost, deaf, killed, r.losses.String())
	}
	if r.unpinned < 0.7 || r.handovers < r.done/10 || r.unknown > 0.01 {
		t.Errorf("a share of %.3f of the transactions left their server connection free, with %d hand-overs; of the pins %.3f are of unknown cause: is everything pinned?",
			r.unpinned, r.handovers, r.unknown)
	}
}

// result is a finished run.
type result struct {
	*torture
	done      int64 // statements
	leaked    int64
	handovers int64
	unpinned  float64 // share of transactions after which the server connection was free
	unknown   float64 // share of pins of unknown cause
}

// sums are the results of all gears; of the shares, the worst.
type sums struct {
	queries, foreign, settings, cancels, leaked, handovers int64
	unpinned, unknown                                      float64
}

func (s *sums) add(r result) {
	s.queries += r.done
	s.foreign += r.foreign.Load()
	s.settings += r.leakedSettings.Load()
	s.cancels += r.foreignCancels.Load()
	s.leaked += r.leaked
	s.handovers += r.handovers
	s.unpinned = min(s.unpinned, r.unpinned)
	s.unknown = max(s.unknown, r.unknown)
}

func (s *sums) print(t *testing.T) {
	figure.Print(t, "torture.queries", s.queries)
	figure.Print(t, "torture.foreign_rows", s.foreign)
	figure.Print(t, "torture.leaked_settings", s.settings)
	figure.Print(t, "torture.foreign_cancels", s.cancels)
	figure.Print(t, "torture.leaked", s.leaked)
	figure.Print(t, "torture.handovers", s.handovers)
	figure.Print(t, "torture.unpinned_share", s.unpinned)
	figure.Print(t, "torture.pins_unknown_share", s.unknown)
}

// tortureSchema is made before the gateway knows the database.
const tortureSchema = `
CREATE TABLE torture_rows (client int NOT NULL, seq bigint NOT NULL, tag text NOT NULL);
CREATE FUNCTION torture_tenant(text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN PERFORM set_config('torture.tenant', $1, false); RETURN $1; END $$;
CREATE TABLE torture_triggered (tag text NOT NULL);
CREATE FUNCTION torture_trigger() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM set_config('torture.trigger', NEW.tag, false); RETURN NEW; END $$;
CREATE TRIGGER torture_trigger BEFORE INSERT ON torture_triggered FOR EACH ROW EXECUTE FUNCTION torture_trigger();
CREATE SEQUENCE torture_sequence;
CREATE TABLE torture_serial (id bigserial, tag text NOT NULL);`

func runTorture(t *testing.T, e extent, gear string, broken bool) result {
	r := &torture{TB: t, extent: e, broken: broken, patience: time.Minute, begun: time.Now()}
	if broken {
		r.patience = time.Second // an answer that went astray does not come
	}
	r.direct = pgtest.Database(t)
	run(t, r.direct, tortureSchema)
	m := metrics.New()
	opt := gateway.Options{
		Pool:    pool.Options{Size: tortureServers, CheckDelay: 30 * time.Second, BrokenHandOver: broken},
		Metrics: m, Gear: gears[gear],
	}
	g, addr := startGateway(t, r.direct, opt)
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

	res := result{torture: r, done: r.queries.Load()}
	if !broken {
		res.leaked = r.leaks(g)
		r.checkRows(clients)
	}
	for _, p := range g.Pools() {
		res.handovers += p.Handovers
	}
	shared, pinned := float64(m.Transactions[metrics.Shared].Load()), float64(m.Transactions[metrics.Pinned].Load())
	res.unpinned = shared / max(shared+pinned, 1)
	var pins, unknown float64
	for i := range metrics.Pins {
		n := metrics.Value(m.Pins[i])
		if pins += n; i == metrics.PinUnparsed {
			unknown += n
		}
		if n > 0 {
			t.Logf("pins by %s: %.0f", i, n)
		}
	}
	res.unknown = unknown / max(pins, 1)
	return res
}

// progress is how much of the run is done.
func (r *torture) progress() float64 {
	if r.time > 0 {
		return time.Since(r.begun).Seconds() / r.time.Seconds()
	}
	return float64(r.queries.Load()) / float64(r.statements)
}

// due claims one more of what should happen want times in the run.
func (r *torture) due(done *atomic.Int64, want int64) bool {
	n := done.Load()
	return n < want && float64(n) <= float64(want)*r.progress() && done.CompareAndSwap(n, n+1)
}

// finished says that everything was done often enough.
func (r *torture) finished() bool {
	if r.broken {
		return r.foreign.Load() >= 20 && r.leakedSettings.Load() > 0 || r.progress() >= 1 ||
			r.foreign.Load() > 0 && time.Since(r.begun) > 5*time.Second
	}
	return r.progress() >= 1 && (r.time > 0 || r.cancelled.Load() >= r.extent.cancels &&
		r.hungUp.Load() >= r.hangUps && r.killed.Load() >= r.kills)
}

// foreigner reports something that is not for the client that got it.
func (r *torture) foreigner(format string, args ...any) {
	if n := r.foreign.Add(1); n <= 20 && !r.broken {
		r.Errorf("foreign: "+format, args...)
	}
}

// leak reports state of a session that its client has not made.
func (r *torture) leak(format string, args ...any) {
	if n := r.leakedSettings.Add(1); n <= 20 && !r.broken {
		r.Errorf("leaked: "+format, args...)
	}
}

// cancelledForeign reports a cancel that hit another's statement.
func (r *torture) cancelledForeign(format string, args ...any) {
	if n := r.foreignCancels.Add(1); n <= 20 && !r.broken {
		r.Errorf("cancelled: "+format, args...)
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
	const victim = `SELECT pg_terminate_backend(pid), pid, state, query FROM pg_stat_activity WHERE datname = current_database()
		AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		if n := r.killed.Load(); n >= r.kills || float64(n) > float64(r.kills)*r.progress() {
			continue
		}
		res, err := conn.Exec(context.Background(), victim).ReadAll()
		if err != nil {
			r.Errorf("cannot kill: %v", err)
			return
		}
		if len(res) == 1 && len(res[0].Rows) == 1 && string(res[0].Rows[0][0]) == "t" {
			r.killed.Add(1)
			r.losses.add("killed %s, %s in %.60q", res[0].Rows[0][1], res[0].Rows[0][2], res[0].Rows[0][3])
		}
	}
}

// notes are lines, each with its time.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
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
	r.Errorf("leaked: %s\n%+v\n%+v", what, g.Pools(), g.Servers())
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

// startGateway is serve without the cache, for clients that wait as long as it takes.
func startGateway(t testing.TB, dsn string, opt gateway.Options) (g *gateway.Server, addr string) {
	t.Helper()
	opt.NoCache = true
	if opt.QueueTimeout == 0 {
		opt.QueueTimeout = time.Hour
	}
	return serve(t, dsn, opt)
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

// newRand is repeatable for each client.
func newRand(n int) *rand.Rand { return rand.New(rand.NewPCG(uint64(n), 17)) }
