package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// benchPool is the number of server connections of both poolers.
const benchPool = 20

// benchRun is how long a comparison takes and how much it says.
type benchRun struct {
	rounds  int
	scale   int
	clients []int
	amount  func(clients int) []string // pgbench's options for the length of one cell
}

// The full run is what figures are quoted from; the short one is part of the
// tests and shows that every cell can be measured.
var (
	fullBench = benchRun{
		rounds: 5, scale: 10, clients: []int{1, 8, 64},
		amount: func(int) []string { return []string{"-T", "4"} },
	}
	shortBench = benchRun{
		rounds: 1, scale: 1, clients: []int{1, 8, 64},
		amount: func(clients int) []string { return []string{"-t", strconv.Itoa(3200 / clients)} },
	}
)

// benchTarget is one way to the server.
type benchTarget struct {
	name string
	dsn  string
	pid  int // of the pooler; 0: none
}

// benchSample is one cell of one round.
type benchSample struct {
	tps float64
	cpu float64 // processor time of the pooler, microseconds a transaction
}

// TestBench compares the gateway with PgBouncer and with no pooler at all. The
// three take turns, so that what else the machine does hits all of them alike;
// ratios are taken within a round, and medians over the rounds count.
// QVPGW_BENCH=full runs it at length and gives the figures.
func TestBench(t *testing.T) {
	run, full := shortBench, os.Getenv("QVPGW_BENCH") == "full"
	if full {
		run = fullBench
	}
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	c.Pgbench(t, dsn, "-i", "-q", "-s", strconv.Itoa(run.scale))
	targets := [3]benchTarget{{name: "direct", dsn: dsn}, benchBouncer(t, c, database), benchGateway(t, c, database)}
	for _, target := range targets {
		for _, protocol := range []string{"simple", "prepared"} {
			benchCell(t, c, target, protocol, 64, shortBench.amount(64)) // warm-up
		}
	}

	table := newBenchTable()
	for _, protocol := range []string{"simple", "prepared"} {
		for _, clients := range run.clients {
			var samples [3][]benchSample
			for range run.rounds {
				for i, target := range targets {
					samples[i] = append(samples[i], benchCell(t, c, target, protocol, clients, run.amount(clients)))
				}
			}
			r := summarise(samples)
			table.add(protocol, clients, r)
			for name, v := range r.figures() {
				if v <= 0 {
					t.Errorf("bench.%s.%d.%s is %v", protocol, clients, name, v)
				}
				if full {
					figure.Print(t, fmt.Sprintf("bench.%s.%d.%s", protocol, clients, name), v)
				}
			}
		}
	}
	fmt.Print(table)
}

func benchBouncer(t *testing.T, c *pgtest.Cluster, database string) benchTarget {
	b := c.PgBouncer(t, fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
pool_mode = transaction
max_client_conn = 500
default_pool_size = %d
max_prepared_statements = 200
log_connections = 0
log_disconnections = 0
`, c.Port, benchPool))
	return benchTarget{name: "pgbouncer", dsn: b.DSN(database), pid: b.PID()}
}

func benchGateway(t *testing.T, c *pgtest.Cluster, database string) benchTarget {
	pid, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {size: %d, overflow: 0}
auth: {method: trust}
schema: {migrate: false}
`, c.Port, database, pgtest.Superuser, benchPool))
	return benchTarget{name: "qvpgw", dsn: fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgtest.Superuser, addr, database), pid: pid}
}

var (
	benchTPS   = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)`)
	benchCount = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
)

// benchCell runs pgbench once.
func benchCell(t *testing.T, c *pgtest.Cluster, target benchTarget, protocol string, clients int, amount []string) benchSample {
	t.Helper()
	before := benchCPU(t, target.pid)
	out := c.Pgbench(t, target.dsn, append([]string{"-n", "-S", "-M", protocol, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients))}, amount...)...)
	used := benchCPU(t, target.pid) - before
	return benchSample{tps: benchNumber(t, benchTPS, out), cpu: float64(used) / float64(time.Microsecond) / benchNumber(t, benchCount, out)}
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

// benchResult is one cell over all rounds: medians.
type benchResult struct {
	direct, bouncer, gateway benchSample
	vsBouncer, vsDirect      float64 // transactions/s of the gateway to theirs
	cpuVsBouncer             float64
}

func summarise(s [3][]benchSample) benchResult {
	tps := func(x benchSample) float64 { return x.tps }
	cpu := func(x benchSample) float64 { return x.cpu }
	median := func(i int) benchSample {
		return benchSample{tps: medianOf(s[i], nil, tps), cpu: medianOf(s[i], nil, cpu)}
	}
	return benchResult{
		direct: median(0), bouncer: median(1), gateway: median(2),
		vsBouncer: medianOf(s[2], s[1], tps), vsDirect: medianOf(s[2], s[0], tps), cpuVsBouncer: medianOf(s[2], s[1], cpu),
	}
}

// figures are what is printed of a cell, by the end of the figure's name.
func (r benchResult) figures() map[string]float64 {
	return map[string]float64{
		"tps": r.gateway.tps, "vs_pgbouncer": r.vsBouncer, "vs_direct": r.vsDirect,
		"cpu_us": r.gateway.cpu, "cpu_vs_pgbouncer": r.cpuVsBouncer,
	}
}

// benchTable is the comparison for people.
type benchTable struct{ strings.Builder }

func newBenchTable() *benchTable {
	t := &benchTable{}
	fmt.Fprintf(t, "%-9s %7s  %30s  %20s  %26s\n", "", "", "transactions/s", "qvpgw's to", "pooler's µs a transaction")
	fmt.Fprintf(t, "%-9s %7s  %9s %10s %9s  %10s %9s  %10s %7s %7s\n",
		"protocol", "clients", "direct", "pgbouncer", "qvpgw", "pgbouncer", "direct", "pgbouncer", "qvpgw", "ratio")
	return t
}

func (t *benchTable) add(protocol string, clients int, r benchResult) {
	fmt.Fprintf(t, "%-9s %7d  %9.0f %10.0f %9.0f  %10.2f %9.2f  %10.1f %7.1f %7.2f\n", protocol, clients,
		r.direct.tps, r.bouncer.tps, r.gateway.tps, r.vsBouncer, r.vsDirect, r.bouncer.cpu, r.gateway.cpu, r.cpuVsBouncer)
}
