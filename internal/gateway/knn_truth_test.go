package gateway_test

import (
	"math/rand/v2"
	"os"
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
	"qvpgw/internal/schema"
)

// Extent of the history.
const (
	historyReads     = 10_000 // without QVPGW_KNN_READS
	longHistory      = 100_000
	historyReaders   = 12
	historyWriters   = 5
	historyServers   = 20    // those that wait for a lock of who waits for a connection are fewer
	readsOfAWrite    = 150   // how many reads there are for each write
	hotReads         = 1_500 // so long the same few questions are asked most
	unvalidatedReads = 3_000
)

// truthRun is one run: readers and writers on one world, and what they saw.
type truthRun struct {
	testing.TB
	world     *world
	addr, dsn string
	begun     time.Time
	until     int64 // reads through the gateway

	reads, writes, late, aborted, hungUp atomic.Int64
	foreign                              atomic.Int64
	over                                 atomic.Bool
	log                                  [][]loggedRead // of each reader
	answers                              sync.Map       // string -> string, each once
}

type loggedRead struct {
	table int
	tableRead
}

func (r *truthRun) clock() int64 { return int64(time.Since(r.begun)) }

// intern keeps one copy of each answer.
func (r *truthRun) intern(s string) string {
	kept, _ := r.answers.LoadOrStore(s, s)
	return kept.(string)
}

// choose gives a table, a question and its form: most of the time one of the few that
// all ask in these moments.
func (r *truthRun) choose(rng *rand.Rand) (table, question int, f form) {
	if rng.IntN(16) > 0 {
		rng = rand.New(rand.NewPCG(uint64(r.reads.Load()/hotReads), uint64(rng.IntN(3))))
	}
	return rng.IntN(len(r.world.tables)), rng.IntN(len(truthQuestions)), form(rng.IntN(int(forms)))
}

// truthServer is a cluster in which a commit waits for a standby that never comes,
// until it is cancelled, for those who want to be sure of it: it is in the log then,
// and seen by none. Nobody else waits.
func truthServer(t *testing.T) (dsn string) {
	t.Helper()
	dsn = pgtest.Native(t, pgtest.Setting("synchronous_standby_names", "nobody"), pgtest.Setting("synchronous_commit", "local"), pgtest.MaxConnections(60)).Database(t)
	if _, err := schema.NewMigrator(dsn, schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dsn
}

// TestKNNHistory is the history of many clients who read what others write: through
// the gateway and beside it, in transactions that end well, badly, late or unheard of.
// No answer may be of another state than one that was current while it was asked for,
// nor of another client's role or settings; more than half come from memory. Where
// nothing is validated stale answers must be found (trap T17).
func TestKNNHistory(t *testing.T) {
	reads := int64(historyReads)
	if v := os.Getenv("QVPGW_KNN_READS"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			t.Fatalf("QVPGW_KNN_READS is %q: it must be a number of reads", v)
		}
		reads = n
	}
	dsn := truthServer(t)
	m := metrics.New()
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: historyServers}, Metrics: m})
	r := newTruthRun(t, addr, dsn, reads)
	r.do()
	stale, foreign := r.judge()
	hits := hitsOf(t, m)
	t.Logf("%d reads in %v, %d of them from memory; %d writes, %d committed late, %d aborted, %d whose client hung up",
		r.reads.Load(), time.Since(r.begun).Round(time.Second), int64(hits), r.writes.Load(), r.late.Load(), r.aborted.Load(), r.hungUp.Load())
	figure.Print(t, "knn.history.reads", r.reads.Load())
	figure.Print(t, "knn.history.hits", hits)
	figure.Print(t, "knn.history.stale", stale)
	figure.Print(t, "knn.history.foreign", foreign)
	least := 0.5
	if reads < longHistory {
		least = 0.25 // how few questions are asked again in a short one is chance
	}
	if hits <= least*float64(r.reads.Load()) {
		t.Errorf("%v of %d answers came from memory: not more than %v", hits, r.reads.Load(), least)
	}

	t.Run("without validation stale answers are found", func(t *testing.T) {
		g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: historyServers}})
		gateway.Unproven(g)
		stale := int64(0)
		for range 10 { // how many there are in a round is chance
			r := newTruthRun(quiet{t}, addr, dsn, unvalidatedReads)
			r.do()
			n, _ := r.judge()
			if stale += n; stale > 10 {
				break
			}
		}
		figure.Print(t, "knn.history.unvalidated_stale", stale)
		if stale == 0 {
			t.Error("no answer was stale: the checker sees nothing")
		}
	})
}

// quiet is a test in which what is found is expected.
type quiet struct{ testing.TB }

func (q quiet) Errorf(string, ...any) {}

// hitsOf sums the answers from memory, whatever their labels.
func hitsOf(t *testing.T, m *metrics.Metrics) (n float64) {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasSuffix(f.GetName(), "cache_hits_total") {
			for _, one := range f.Metric {
				n += one.GetCounter().GetValue()
			}
		}
	}
	return n
}

// newTruthRun makes the world anew.
func newTruthRun(t testing.TB, addr, dsn string, reads int64) *truthRun {
	t.Helper()
	r := &truthRun{TB: t, world: newWorld(), addr: addr, dsn: dsn, until: reads, begun: time.Now(), log: make([][]loggedRead, historyReaders)}
	run(t, dsn, "SET lock_timeout = '10s'; DROP SCHEMA IF EXISTS side CASCADE; DROP TABLE IF EXISTS hyper; DROP TABLE IF EXISTS points, logged, parts, kin, secret CASCADE; DROP FUNCTION IF EXISTS touch")
	run(t, dsn, truthSchema)
	run(t, dsn, r.world.fill(newRand(1)))
	return r
}

// do runs readers and writers until there are enough reads.
func (r *truthRun) do() {
	r.Helper()
	var readers, others sync.WaitGroup
	var failed atomic.Bool
	for n := range historyReaders {
		one := newReader(r, readerKinds[n%len(readerKinds)], n)
		readers.Go(func() {
			defer one.conn.Close() // with what it has open
			for r.reads.Load() < r.until && !failed.Load() {
				if err := one.reads(); err != nil {
					failed.Store(true)
					r.Errorf("reader %d, %s: %v", n, one.name, err)
				}
			}
		})
	}
	for n := range historyWriters {
		w := newTruthWriter(r, n)
		others.Go(func() {
			defer func() { _ = w.conn.Close() }()
			for r.turn() {
				w.write()
			}
		})
	}
	others.Go(r.prune)
	readers.Wait()
	r.over.Store(true)
	others.Wait()
}

// turn waits until there were reads enough for one more write; false: it is over.
func (r *truthRun) turn() bool {
	n := r.writes.Add(1)
	for r.reads.Load() < n*readsOfAWrite {
		if r.over.Load() {
			r.writes.Add(-1)
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	return !r.over.Load()
}

// prune keeps the change log so short that answers are at times older than it.
func (r *truthRun) prune() {
	conn, err := pgconn.Connect(r.Context(), r.dsn)
	if err != nil {
		r.Errorf("the change log: %v", err)
		return
	}
	defer conn.Close(r.Context())
	p, q := &schema.Pruner{Age: 200 * time.Millisecond, Rows: 300}, schema.PgConnQuery(conn)
	for !r.over.Load() {
		if _, err := p.Round(r.Context(), q); err != nil {
			r.Errorf("the change log: %v", err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// judge has every read checked and returns how many were of a state that was not
// current, and how many of none that the reader may see.
func (r *truthRun) judge() (stale, foreign int64) {
	r.Helper()
	foreign = r.foreign.Load()
	for _, log := range r.log {
		for _, l := range log {
			t := r.world.tables[l.table]
			t.reads = append(t.reads, l.tableRead)
		}
	}
	told := 0
	for _, t := range r.world.tables {
		for _, f := range t.check(expected) {
			if f.verdict == foreignState {
				foreign++
			} else {
				stale++
			}
			if told++; told <= 8 {
				r.Errorf("%s: reader %s: %s", t.name, readerKinds[f.read.client%len(readerKinds)].name, f)
			}
		}
	}
	return stale, foreign
}
