package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/bench"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// benchPool is the number of server connections of both poolers.
const benchPool = 20

// benchRun is how long a comparison takes and how much it says.
type benchRun struct {
	full    bool // figures are printed
	rounds  int
	clients []int         // of select-only
	scale   int           // of pgbench's tables
	length  time.Duration // of one side in one round
	count   int           // transactions of all clients of pgbench together if length is 0

	idle, idleTLS int           // clients that do nothing
	active        int           // clients that work among the idle ones
	settle        time.Duration // before idle clients are measured
}

// The full run is what figures are quoted from; the short one is part of the
// tests and shows that everything can be measured.
var (
	fullBench = benchRun{
		full: true, rounds: 5, clients: []int{1, 8, 64}, scale: 10, length: 3 * time.Second,
		idle: 10000, idleTLS: 2000, active: 200, settle: 10 * time.Second,
	}
	shortBench = benchRun{rounds: 1, clients: []int{8}, scale: 1, count: 640, idle: 100, idleTLS: 20, active: 20}
)

// benchParts are the comparisons, by the names that QVPGW_BENCH_ONLY takes.
var benchParts = []benchPart{
	{"select", benchSelect},
	{"mixed", benchMixed},
	{"settings", benchSettings},
	{"tls", benchTLS},
	{"idle", benchIdle},
	{"idle_tls", benchIdleTLS},
	{"gear", benchGear},
}

type benchPart struct {
	name string
	run  func(*testing.T, *benchBed)
}

// TestBench compares the gateway with PgBouncer, and where that says something with
// no pooler at all. All take turns, so that what else the machine does hits all of
// them alike; ratios are taken within a round, and medians over the rounds count.
// QVPGW_BENCH=full runs it at length and gives the figures; QVPGW_BENCH_ONLY=tls,idle
// runs parts, QVPGW_BENCH_ROUNDS and QVPGW_BENCH_SECONDS say how long.
func TestBench(t *testing.T) {
	run := shortBench
	if os.Getenv("QVPGW_BENCH") == "full" {
		run = fullBench
		run.rounds = benchEnv(t, "QVPGW_BENCH_ROUNDS", run.rounds)
		run.length = time.Duration(benchEnv(t, "QVPGW_BENCH_SECONDS", int(run.length/time.Second))) * time.Second
	}
	only := strings.FieldsFunc(os.Getenv("QVPGW_BENCH_ONLY"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range only {
		if !slices.ContainsFunc(benchParts, func(p benchPart) bool { return p.name == name }) {
			t.Fatalf("QVPGW_BENCH_ONLY has no part %q", name)
		}
	}
	c := pgtest.Native(t)
	dsn := c.Database(t)
	c.Pgbench(t, dsn, "-i", "-q", "-s", strconv.Itoa(run.scale))
	b := &benchBed{benchRun: run, Cluster: c, dsn: dsn, database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]}
	for _, p := range benchParts {
		if len(only) == 0 || slices.Contains(only, p.name) {
			t.Run(p.name, func(t *testing.T) { p.run(t, b) })
		}
	}
}

func benchEnv(t *testing.T, name string, value int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return value
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, not a positive number", name, text)
	}
	return n
}

// benchBed is the server and the database that a comparison runs on.
type benchBed struct {
	benchRun
	*pgtest.Cluster
	dsn, database string
}

// benchTarget is one way to the server.
type benchTarget struct {
	name string
	dsn  string
	pid  int // of the pooler; 0: none
}

// bouncer starts PgBouncer with more lines of configuration.
func (b *benchBed) bouncer(t *testing.T, lines string) benchTarget {
	p := b.PgBouncer(t, fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
pool_mode = transaction
max_client_conn = %d
default_pool_size = %d
max_prepared_statements = 200
log_connections = 0
log_disconnections = 0
%s`, b.Port, b.idle+500, benchPool, lines))
	return benchTarget{name: "pgbouncer", dsn: p.DSN(b.database), pid: p.PID()}
}

// gateway starts the gateway with more lines of configuration.
func (b *benchBed) gateway(t *testing.T, lines string) benchTarget {
	pid, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {size: %d, overflow: 0}
limits: {max_clients: %d}
auth: {method: trust}
schema: {migrate: false}
%s`, b.Port, b.database, pgtest.Superuser, benchPool, b.idle+500, lines))
	return benchTarget{name: "qvpgw", dsn: fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgtest.Superuser, addr, b.database), pid: pid}
}

// benchSample is what one side did in one round.
type benchSample struct {
	tps float64
	cpu float64 // processor time of the pooler, microseconds a transaction
}

func sampleTPS(s benchSample) float64 { return s.tps }
func sampleCPU(s benchSample) float64 { return s.cpu }

// alternate measures all targets in turns, in a full run after a short round that
// warms them up.
func (b *benchBed) alternate(targets []benchTarget, warm, measure func(benchTarget) benchSample) [][]benchSample {
	for _, target := range targets {
		if b.full {
			warm(target)
		}
	}
	samples := make([][]benchSample, len(targets))
	for range b.rounds {
		for i, target := range targets {
			samples[i] = append(samples[i], measure(target))
		}
	}
	return samples
}

var (
	benchTPS   = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)`)
	benchLogin = regexp.MustCompile(`(?m)^initial connection time = ([0-9.]+) ms`)
	benchCount = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
)

// pgbench returns functions that run pgbench once with its arguments, shortly and for
// as long as a round takes. pgbench's time begins before its clients are logged in, so
// a round has as much more as that took the last time, twice over.
func (b *benchBed) pgbench(t *testing.T, protocol string, clients int, args ...string) (warm, measure func(benchTarget) benchSample) {
	logins := map[string]time.Duration{}
	with := func(run benchRun) func(benchTarget) benchSample {
		return func(target benchTarget) benchSample {
			all := []string{"-n", "-M", protocol, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients))}
			if run.length > 0 {
				all = append(all, "-T", strconv.Itoa(int((run.length+2*logins[target.name]+time.Second/2)/time.Second)))
			} else {
				all = append(all, "-t", strconv.Itoa(run.count/clients))
			}
			before := benchCPU(t, target.pid)
			out := b.Pgbench(t, target.dsn, append(all, args...)...)
			logins[target.name] = time.Duration(benchNumber(t, benchLogin, out) * float64(time.Millisecond))
			return newBenchSample(benchNumber(t, benchTPS, out), benchCPU(t, target.pid)-before, benchNumber(t, benchCount, out))
		}
	}
	return with(shortBench), with(b.benchRun)
}

func newBenchSample(tps float64, used time.Duration, transactions float64) benchSample {
	return benchSample{tps: tps, cpu: float64(used) / float64(time.Microsecond) / transactions}
}

func benchCPU(t *testing.T, pid int) time.Duration {
	t.Helper()
	if pid == 0 {
		return 0
	}
	d, err := pgtest.CPUTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func benchNumber(t *testing.T, re *regexp.Regexp, out string) float64 {
	t.Helper()
	m := re.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("pgbench printed no %s:\n%s", re, out)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil || v <= 0 {
		t.Fatalf("pgbench printed %q", m[0])
	}
	return v
}

// each is the transactions of each client of a short run; 0: the run has a length.
func (b *benchBed) each(clients int) int {
	if b.length > 0 {
		return 0
	}
	return b.count / clients
}

// load is a run of our own loader in which no statement may fail.
func (b *benchBed) load(t *testing.T, f *bench.Fleet, r bench.Run) bench.Result {
	t.Helper()
	res, err := f.Run(t.Context(), r)
	if err != nil || res.Errors > 0 || res.Transactions == 0 {
		t.Fatalf("the load gave %d transactions and %d errors: %v, %v", res.Transactions, res.Errors, err, res.FirstError)
	}
	return res
}

// fleet logs clients in for the length of the test.
func (b *benchBed) fleet(t *testing.T, o bench.Options) *bench.Fleet {
	t.Helper()
	f, err := bench.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// script is a transaction of our own loader.
func (b *benchBed) script(t *testing.T, text string) *bench.Script {
	t.Helper()
	s, err := bench.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// oneAccount reads a random row, as pgbench -S does.
func (b *benchBed) oneAccount(t *testing.T) *bench.Script {
	t.Helper()
	return b.script(t, fmt.Sprintf("SELECT abalance FROM pgbench_accounts WHERE aid = {1..%d}", b.scale*100000))
}

// figure prints a figure of the full run; a short one gives none.
func (b *benchBed) figure(t *testing.T, name string, value float64) {
	t.Helper()
	if b.full {
		figure.Print(t, name, value)
	}
}

// worst is the larger of two figures: of simple and prepared statements the one that
// costs more counts.
func (b *benchBed) worst(t *testing.T, name string, values ...float64) {
	t.Helper()
	b.figure(t, name, slices.Max(values))
}
