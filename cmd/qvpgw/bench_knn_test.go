package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/bench"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

// knnRun is how much of everything there is.
type knnRun struct {
	full             bool
	vectors, part    int // rows of windows and of unindexed
	queries, clients int
	rounds           int
	length           time.Duration // of one side in one round, and of each half of the ingest
	count            int           // requests of a client if length is 0
	asked            int           // queries whose recall and whose neighbourhood is looked at
	distinct         int           // queries of the budget, of which each is new
	hot              int           // queries of the budget that come again
	budget           int           // bytes
}

var (
	fullKNN = knnRun{
		full: true, vectors: 100_000, part: 10_000, queries: 10_000, clients: 32, rounds: 3, length: 5 * time.Second,
		asked: 200, distinct: 1_000_000, hot: 1_000, budget: 64 << 20,
	}
	shortKNN = knnRun{vectors: 2_000, part: 500, queries: 100, clients: 8, rounds: 1, count: 60, asked: 20, distinct: 4_000, hot: 50, budget: 2 << 20}
)

var knnParts = []struct {
	name string
	run  func(*testing.T, *knnBed)
}{
	{"speed", knnSpeed},
	{"ingest", knnIngest},
	{"reuse", knnReuse},
	{"budget", knnBudget},
}

// TestBenchKNN asks for the nearest of many windows of prices again and again, as
// dashboards do: directly, through the gateway without its memory, and from memory.
// QVPGW_BENCH_KNN=full runs it at length and gives the figures, QVPGW_BENCH_ONLY names
// parts of it, QVPGW_BARS a file of bars.
func TestBenchKNN(t *testing.T) {
	r := shortKNN
	if os.Getenv("QVPGW_BENCH_KNN") == "full" {
		r = fullKNN
	}
	b := newKNNBed(t, r)
	only := strings.FieldsFunc(os.Getenv("QVPGW_BENCH_ONLY"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, p := range knnParts {
		if len(only) == 0 || slices.Contains(only, p.name) {
			t.Run(p.name, func(t *testing.T) { p.run(t, b) })
		}
	}
}

// knnBed is the server, its tables and the queries.
type knnBed struct {
	knnRun
	*pgtest.Cluster
	dsn     string
	spare   [][]float32 // windows that are not in the table yet
	queries [][]float32
	draws   zipf
}

func newKNNBed(t *testing.T, r knnRun) *knnBed {
	t.Helper()
	name := "walk"
	if path := os.Getenv("QVPGW_BARS"); path != "" {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		name = fmt.Sprintf("%s %d", info.Name(), info.Size())
	}
	spare := max(r.vectors/50, 200)
	all := knnWindows(t, r.vectors+spare)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	b := &knnBed{knnRun: r, spare: all[r.vectors:], draws: newZipf(r.queries)}
	kind := "knn"
	if !r.full {
		kind = "knn_short"
	}
	b.Cluster = knnServer(t, kind, all[:r.vectors], r.part, fmt.Sprintf("%d windows of %s, %d", r.vectors, name, r.part))
	b.dsn = b.DSN("knn")
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range r.queries {
		b.queries = append(b.queries, perturbed(rng, all[i], 0.1))
	}
	return b
}

// knnTarget is one way to the server.
type knnTarget struct {
	name, dsn, admin string
	pid              int // of the gateway; 0: none
}

// direct is no gateway.
func (b *knnBed) direct() *knnTarget { return &knnTarget{name: "direct", dsn: b.dsn} }

// gateway starts the program with keys of section cache.
func (b *knnBed) gateway(t *testing.T, name, keys string) *knnTarget {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	_ = l.Close()
	pid, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: %s
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: knn, user: %s, sslmode: disable}
pool: {size: %d, overflow: 0}
auth: {method: trust}
schema: {migrate: false}
cache: {%s}
`, admin, b.Port, pgtest.Superuser, benchPool, keys))
	return &knnTarget{name: name, dsn: fmt.Sprintf("postgres://%s@%s/knn?sslmode=disable", pgtest.Superuser, addr), admin: admin, pid: pid}
}

// hits is how many answers came from memory so far.
func (k *knnTarget) hits(t *testing.T) (n float64) {
	t.Helper()
	if k.admin == "" {
		return 0
	}
	for _, v := range k.counts(t, "qvpgw_cache_hits_total") {
		n += v
	}
	return n
}

// counts are the gateway's counters of a name, by their labels.
func (k *knnTarget) counts(t *testing.T, name string) map[string]float64 {
	t.Helper()
	all, err := scrape(t.Context(), k.admin)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]float64{}
	for full, v := range all {
		if labels, ok := strings.CutPrefix(full, name); ok && v > 0 {
			by[labels] = v
		}
	}
	return by
}

// fleet logs clients in at a target.
func (b *knnBed) fleet(t *testing.T, k *knnTarget, clients int) *bench.Fleet {
	t.Helper()
	f, err := bench.Connect(t.Context(), bench.Options{DSN: k.dsn, Clients: clients})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

const knnSQL = "SELECT id FROM windows ORDER BY v <-> $1 LIMIT 10"

// requests are queries for the nearest ten; pick says which, for each client.
func (b *knnBed) requests(pick func(client int) func() int) *bench.Requests {
	groups := make([][]byte, len(b.queries))
	for i, v := range b.queries {
		groups[i] = knnBind(nil, "knn", knnBinary(v))
	}
	return &bench.Requests{
		Prepare: wire.AppendSync(wire.AppendParse(nil, "knn", knnSQL, nil)),
		Next: func(client int) func([]byte) []byte {
			next := pick(client)
			return func(dst []byte) []byte { return append(dst, groups[next()]...) }
		},
	}
}

// popular draws queries as people do: a few of them most of the time.
func (b *knnBed) popular() *bench.Requests {
	return b.requests(func(client int) func() int {
		rng := rand.New(rand.NewPCG(uint64(client), rand.Uint64()))
		return func() int { return b.draws.draw(rng) }
	})
}

// each asks every query once.
func (b *knnBed) each(f *bench.Fleet) bench.Run {
	n := f.Len()
	return bench.Run{Count: (len(b.queries) + n - 1) / n, Requests: b.requests(func(client int) func() int {
		i := client - n
		return func() int { i += n; return i % len(b.queries) }
	})}
}

// run is a load in which nothing may fail.
func (b *knnBed) run(t *testing.T, f *bench.Fleet, r bench.Run) bench.Result {
	t.Helper()
	res, err := f.Run(t.Context(), r)
	if err != nil || res.Errors > 0 || res.Transactions == 0 {
		t.Fatalf("the load gave %d answers and %d errors: %v, %v", res.Transactions, res.Errors, err, res.FirstError)
	}
	return res
}

// knnSample is what one target did in one round.
type knnSample struct {
	qps, p50, p99   float64 // microseconds
	hits            float64 // share of the answers
	server, gateway float64 // processor time, microseconds a query
}

// sample runs the popular queries once.
func (b *knnBed) sample(t *testing.T, k *knnTarget, f *bench.Fleet) knnSample {
	t.Helper()
	return b.sampleOf(t, k, f, bench.Run{Requests: b.popular(), Duration: b.length, Count: b.count})
}

func (b *knnBed) sampleOf(t *testing.T, k *knnTarget, f *bench.Fleet, load bench.Run) knnSample {
	t.Helper()
	hits, own, server := k.hits(t), benchCPU(t, k.pid), b.used(t)
	r := b.run(t, f, load)
	n := float64(r.Transactions)
	each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / n }
	return knnSample{
		qps: r.TPS(), p50: 1e6 * seconds(r.Latencies, 0.5), p99: 1e6 * seconds(r.Latencies, 0.99), hits: (k.hits(t) - hits) / n,
		server: each(b.used(t) - server), gateway: each(benchCPU(t, k.pid) - own),
	}
}

func (b *knnBed) used(t *testing.T) time.Duration {
	t.Helper()
	d, err := b.CPUTime()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// figure gives a figure of the full run; a short one shows that there is one.
func (b *knnBed) figure(t *testing.T, name string, value float64) {
	t.Helper()
	if b.full {
		figure.Print(t, name, value)
	} else {
		t.Logf("%s %.4g", name, value)
	}
}

// knnSpeed compares four ways to the same answers, in turns.
func knnSpeed(t *testing.T, b *knnBed) {
	targets := []*knnTarget{
		b.direct(),
		b.gateway(t, "off", "mode: off"),
		b.gateway(t, "strict", "mode: strict"),
		b.gateway(t, "bounded", "mode: bounded, max_age: 1s"),
	}
	fleets := make([]*bench.Fleet, len(targets))
	samples := make([][]knnSample, len(targets))
	for i, k := range targets {
		fleets[i] = b.fleet(t, k, b.clients)
		if k.name == "strict" || k.name == "bounded" {
			for range 3 { // what came once may not be worth keeping
				b.run(t, fleets[i], b.each(fleets[i]))
			}
		}
	}
	for range b.rounds {
		for i, k := range targets {
			samples[i] = append(samples[i], b.sample(t, k, fleets[i]))
		}
	}
	qps := func(s knnSample) float64 { return s.qps }
	fmt.Printf("%-8s %9s %9s %9s %7s %12s %12s\n", "k-NN", "queries/s", "p50 µs", "p99 µs", "hits", "server µs", "gateway µs")
	for i, k := range targets {
		m := func(by func(knnSample) float64) float64 { return medianOf(samples[i], nil, by) }
		p50, p99 := m(func(s knnSample) float64 { return s.p50 }), m(func(s knnSample) float64 { return s.p99 })
		hits, server, own := m(func(s knnSample) float64 { return s.hits }), m(func(s knnSample) float64 { return s.server }), m(func(s knnSample) float64 { return s.gateway })
		fmt.Printf("%-8s %9.0f %9.0f %9.0f %7.3f %12.1f %12.1f\n", k.name, m(qps), p50, p99, hits, server, own)
		b.figure(t, "knn."+k.name+".qps", m(qps))
		b.figure(t, "knn."+k.name+".p50_us", p50)
		b.figure(t, "knn."+k.name+".p99_us", p99)
		b.figure(t, "knn."+k.name+".hit_rate", hits)
		b.figure(t, "knn."+k.name+".server_cpu_us", server)
		switch k.name {
		case "strict", "bounded":
			b.figure(t, "knn."+k.name+".vs_direct", medianOf(samples[i], samples[0], qps))
			fmt.Printf("%-8s misses since its start: %v\n", k.name, k.counts(t, "qvpgw_cache_misses_total"))
			if hits < 0.9 {
				t.Errorf("%s: %.3f of the answers came from memory", k.name, hits)
			}
		case "off":
			if hits > 0 {
				t.Errorf("answers came from memory where it is off: %.3f", hits)
			}
		}
		if k.name == "strict" {
			b.figure(t, "knn.hit.cpu_us", own)
		}
	}
}
