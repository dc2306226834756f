package router

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"qvpgw/internal/catalog"
	"qvpgw/internal/figure"
	"qvpgw/internal/schema"
)

const (
	fuzzCases      = 100 // without QVPGW_FUZZ_AGGREGATES
	fuzzWorldCases = 250
	fuzzBlind      = 5 // of a world's cases are asked behind the back of their plans
)

// fuzzRun counts what a run saw.
type fuzzRun struct {
	*live
	session  fuzzSession // the connection's
	contexts map[fuzzSession]*Context
	planners [2]*Router // by the snapshot as it is, and by one from before the last writes
	snaps    [2]movable
	loader   schema.Loader

	cases, routed, refused, fellBack, within, erred int
	differences, unguarded                          int
	lastBits                                        int
	reasons                                         map[Reason]int
	failedWrites                                    map[string]int
	forms                                           map[string][2]int // cases, and routed ones
}

// movable is a catalog whose snapshot the test changes.
type movable struct{ snap *catalog.Snapshot }

func (m *movable) Load() *catalog.Snapshot { return m.snap }

func fuzzNumber(t *testing.T, env string, otherwise int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s is no number", env, text)
	}
	return n
}

// TestFuzzAggregates asks random questions of random hypertables between random
// writes. Every answer from an aggregate, by a plan of the catalog as it is and as it
// was, must be the original's. A plan that the guard refuses runs without guard too:
// some of those answers must be wrong, or the guard is for nothing (trap T17).
// QVPGW_FUZZ_AGGREGATES is the number of cases, QVPGW_FUZZ_SEED the first world.
func TestFuzzAggregates(t *testing.T) {
	total, seed := fuzzNumber(t, "QVPGW_FUZZ_AGGREGATES", fuzzCases), fuzzNumber(t, "QVPGW_FUZZ_SEED", 1)
	r := &fuzzRun{live: newEmpty(t), contexts: map[fuzzSession]*Context{}, reasons: map[Reason]int{}, failedWrites: map[string]int{}, forms: map[string][2]int{}}
	r.exec(t, fuzzRoles)
	defer r.exec(t, fuzzNoRoles)
	t.Logf("the first seed is %d", seed)
	for world := uint64(seed); r.cases < total && r.differences < 10; world++ {
		r.world(t, world, min(total-r.cases, fuzzWorldCases, max(total/3, 25)))
	}
	t.Logf("%d cases: %d routed, %d plans refused by the guard, %d failed as only TimescaleDB does, %d answers inside transactions, %d of the originals failed, %d differ in last bits; passed: %v; writes that failed: %v",
		r.cases, r.routed, r.refused, r.fellBack, r.within, r.erred, r.lastBits, r.reasons, r.failedWrites)
	for _, form := range slices.Sorted(maps.Keys(r.forms)) {
		t.Logf("%s: %d cases, %d routed", form, r.forms[form][0], r.forms[form][1])
	}
	figure.Print(t, "aggregates.fuzz.cases", r.cases)
	figure.Print(t, "aggregates.fuzz.routed", r.routed)
	figure.Print(t, "aggregates.fuzz.differences", r.differences)
	figure.Print(t, "aggregates.fuzz.unguarded_differences", r.unguarded)
	figure.Print(t, "aggregates.fuzz.last_bits", r.lastBits)
	least := r.cases / 2
	if r.cases < 5000 {
		least = r.cases / 3 // how much of a few worlds is routed is chance
	}
	if r.routed < least {
		t.Errorf("%d of %d cases were routed, want %d", r.routed, r.cases, least)
	}
	if r.unguarded == 0 {
		t.Error("no refused plan would have been wrong: the guard was not tested")
	}
}

// look reads the catalog.
func (r *fuzzRun) look(t *testing.T) *catalog.Snapshot {
	t.Helper()
	r.as(t, fuzzPlain)
	s, err := r.loader.Load(context.Background(), schema.ConnQuery(r.conn))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// world asks n cases of the world of that seed.
func (r *fuzzRun) world(t *testing.T, seed uint64, n int) {
	t.Helper()
	r.as(t, fuzzPlain)
	w := newFuzzWorld(t, r.live, seed)
	defer w.drop(t, r.live)
	defer r.as(t, fuzzPlain)
	snap := r.look(t)
	for i := range r.planners {
		r.snaps[i].snap = snap
		r.planners[i] = New(Options{Catalog: &r.snaps[i]})
	}
	wrong := r.differences
	for i := 0; i < n && r.differences <= wrong+2; i++ {
		if i == n/8 && !w.watched && !w.trusting {
			r.as(t, fuzzPlain)
			w.watch(t, r.live)
			r.snaps[0].snap = r.look(t)
		}
		if i == n-fuzzBlind { // the last cases' plans do not know of it
			r.write(t, "DELETE FROM "+w.table+" WHERE i4 > 0 OR g1 = 'a'")
		} else if i < n-fuzzBlind && w.chance(1, 13) {
			for range 1 + w.IntN(3) {
				sql := w.write()
				r.write(t, sql)
				if strings.HasPrefix(sql, "TRUNCATE") && w.chance(3, 4) {
					r.write(t, w.insert(150))
				}
			}
			if w.chance(3, 5) {
				for _, a := range w.aggs {
					r.write(t, refreshAll(a.name))
				}
				r.write(t, "settle")
			}
			if w.chance(4, 5) { // else both plans are from before the writes
				if w.chance(2, 3) {
					r.snaps[1].snap = r.snaps[0].snap
				}
				r.snaps[0].snap = r.look(t)
			}
		}
		q := w.query()
		r.cases++
		own := ""
		if w.chance(1, 25) {
			own = w.own()
		}
		if w.chance(1, 40) {
			r.behind(t, seed, w, q, w.episode())
		} else {
			r.ask(t, seed, w, q, own)
		}
	}
}

// behind asks a case while something holds that its plans do not know of.
func (r *fuzzRun) behind(t *testing.T, seed uint64, w *fuzzWorld, q fuzzQuery, e episode) {
	t.Helper()
	for i, s := range r.snaps { // plans are made on the way too, by a catalog from before
		if s.snap == nil {
			t.Fatalf("no snapshot %d", i)
		}
	}
	if e.change != nil {
		e.change(&q.session)
	}
	planned := q.session
	if e.lie != nil {
		e.lie(&planned)
	}
	q.planned = planned
	q.behind = e.title
	q.forms = append(slices.Clone(q.forms), "behind the plan: "+e.title)
	if e.do != "" {
		r.as(t, fuzzPlain)
		if _, err := r.conn.PgConn().Exec(context.Background(), e.do).ReadAll(); err != nil {
			if !strings.Contains(err.Error(), "pfree called with invalid pointer") { // TimescaleDB's, now and then, of compressed chunks
				t.Fatalf("%v\nin %s", err, e.do)
			}
			r.failedWrites[e.title+": "+err.Error()]++
			return
		}
		defer func() {
			r.as(t, fuzzPlain)
			r.exec(t, e.undo)
		}()
	}
	r.ask(t, seed, w, q, "")
}

func (r *fuzzRun) write(t *testing.T, sql string) {
	t.Helper()
	r.as(t, fuzzPlain)
	if sql == "settle" {
		r.settle(t)
		return
	}
	policy, isPolicy := strings.CutPrefix(sql, "policy ")
	var err error
	if isPolicy {
		var job *answer
		if job, err = r.live.query(policy, nil); err == nil {
			id := job.rows[0][0]
			_, err = r.conn.PgConn().Exec(context.Background(), "CALL run_job("+id+")").ReadAll()
			r.exec(t, "SELECT delete_job("+id+")")
		}
	} else {
		_, err = r.conn.PgConn().Exec(context.Background(), sql).ReadAll()
	}
	if err != nil {
		if r.conn.PgConn().TxStatus() != 'I' {
			r.exec(t, "ROLLBACK")
		}
		word, _, _ := strings.Cut(sql, " ")
		r.failedWrites[word+": "+err.Error()]++
	}
}
