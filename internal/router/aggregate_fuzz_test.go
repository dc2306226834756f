package router

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
	"qvpgw/internal/figure"
)

const (
	fuzzCases      = 100 // without QVPGW_FUZZ_AGGREGATES
	fuzzWorldCases = 200
)

// fuzzRun counts what a run saw.
type fuzzRun struct {
	*live
	contexts map[string]*Context
	planners [2]*Router // by the snapshot as it is, and by one from before the last writes
	snaps    [2]movable

	cases, routed, refused, within, erred int
	differences, unguarded                int
	lastBits                              int
	reasons                               map[Reason]int
	failedWrites                          map[string]int
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
	r := &fuzzRun{live: newEmpty(t), contexts: map[string]*Context{}, reasons: map[Reason]int{}, failedWrites: map[string]int{}}
	t.Logf("the first seed is %d", seed)
	for world := uint64(seed); r.cases < total && r.differences < 10; world++ {
		r.world(t, world, min(total-r.cases, fuzzWorldCases, max(total/3, 25)))
	}
	t.Logf("%d cases: %d routed, %d plans refused by the guard, %d answers inside transactions, %d of the originals failed, %d differ in last bits; passed: %v; writes that failed: %v",
		r.cases, r.routed, r.refused, r.within, r.erred, r.lastBits, r.reasons, r.failedWrites)
	figure.Print(t, "aggregates.fuzz.cases", r.cases)
	figure.Print(t, "aggregates.fuzz.routed", r.routed)
	figure.Print(t, "aggregates.fuzz.differences", r.differences)
	figure.Print(t, "aggregates.fuzz.unguarded_differences", r.unguarded)
	figure.Print(t, "aggregates.fuzz.last_bits", r.lastBits)
	if r.routed < r.cases/2 {
		t.Errorf("%d of %d cases were routed, want half", r.routed, r.cases)
	}
	if r.unguarded == 0 {
		t.Error("no refused plan would have been wrong: the guard was not tested")
	}
}

// world asks n cases of the world of that seed.
func (r *fuzzRun) world(t *testing.T, seed uint64, n int) {
	t.Helper()
	w := newFuzzWorld(t, r.live, seed)
	defer w.drop(t, r.live)
	for i := range r.planners {
		r.snaps[i].snap = r.snapshot(t)
		r.planners[i] = New(Options{Catalog: &r.snaps[i]})
	}
	wrong := r.differences
	for range n {
		if w.chance(1, 10) {
			for range 1 + w.IntN(3) {
				r.write(t, w.write())
			}
			if w.chance(1, 3) {
				for _, a := range w.aggs {
					r.write(t, "CALL refresh_continuous_aggregate('"+a.name+"', NULL, NULL)")
				}
				r.write(t, "settle")
			}
			if w.chance(1, 5) {
				continue // both plans are from before the write
			}
			if w.chance(2, 3) {
				r.snaps[1].snap = r.snaps[0].snap
			}
			r.snaps[0].snap = r.snapshot(t)
		}
		q := w.query()
		r.cases++
		r.exec(t, "SET TimeZone = '"+q.zone+"'")
		own := ""
		if w.chance(1, 25) {
			own = w.insert(2)
		}
		r.ask(t, seed, w, q, own)
		if r.differences > wrong+2 {
			return
		}
	}
}

func (r *fuzzRun) write(t *testing.T, sql string) {
	t.Helper()
	r.exec(t, "SET TimeZone = 'UTC'")
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

func (r *fuzzRun) context(w *fuzzWorld, zone string) *Context {
	c := r.contexts[zone]
	if c == nil {
		c = liveContext()
		c.TimeZone = zone
		r.contexts[zone] = c
	}
	return c
}

// plan plans a case as the gateway does; nil when it passes.
func (r *fuzzRun) plan(t *testing.T, p *Router, c *Context, q fuzzQuery) *AggregateRewrite {
	t.Helper()
	text := q.sql
	if q.copied {
		text = "COPY (" + text + ") TO STDOUT"
	}
	plan := p.Plan(c, []byte(text))
	if plan.AtBind {
		params := make([]Param, len(q.args))
		for i, a := range q.args {
			params[i] = Param{Type: catalog.OID(q.types[i]), Value: []byte(a)}
		}
		plan = p.Bound(c, []byte(text), params)
	}
	if plan.Aggregates == nil {
		r.reasons[plan.Reason]++
	}
	return plan.Aggregates
}

// ask runs one case by both plans.
func (r *fuzzRun) ask(t *testing.T, seed uint64, w *fuzzWorld, q fuzzQuery, own string) {
	t.Helper()
	fail := func(what, difference string, rw *AggregateRewrite) {
		r.differences++
		t.Errorf("seed %d, case %d, %s: %s\nTimeZone %s, parameters %q, written before in the transaction: %q\nstatement: %s\nplan: %s %v\nsent: %s", seed, r.cases, what, difference, q.zone, q.args, own, q.sql, rw.View, rw.Ranges, rw.SQL)
	}
	compare := func(what string, want, got *answer, rw *AggregateRewrite) {
		d := difference(want, got, q.ordered, false)
		if d != "" && rw.Float && !w.exact && difference(want, got, q.ordered, true) == "" {
			r.lastBits++
			return
		}
		if d != "" {
			fail(what, d, rw)
		}
	}
	if len(q.args) > 0 {
		described, err := r.conn.PgConn().Prepare(context.Background(), "", q.sql, nil)
		if err != nil {
			r.erred++
			return
		}
		q.types = described.ParamOIDs
	}
	want, wrong := r.original(q)
	c := r.context(w, q.zone)
	routed := false
	var first *AggregateRewrite
	for i, p := range r.planners {
		rw := r.plan(t, p, c, q)
		if rw == nil || first != nil && rw.SQL == first.SQL && rw.Guard == first.Guard && rw.Lock == first.Lock {
			continue
		}
		first = rw
		what := []string{"a new plan", "a plan from before"}[i]
		got, o, err := r.run(t, rw, q, true)
		switch {
		case err != nil && wrong == nil:
			fail(what, err.Error(), rw)
		case err != nil:
		case o == answered && wrong != nil && strings.Contains(wrong.Error(), "XX000"): // an error of TimescaleDB's
		case o == answered && wrong != nil:
			fail(what, "the original fails with "+wrong.Error(), rw)
		case o == answered:
			routed = true
			compare(what, want, got, rw)
		default:
			r.refused++
			r.unguardedRun(t, c, q, r.snaps[i].snap, want, wrong)
		}
		if rw.Within != "" && wrong == nil && (own != "" || w.chance(1, 2)) {
			r.inside(t, q, rw, own, func(want, got *answer) { compare(what+" inside a transaction", want, got, rw) })
		}
	}
	if wrong != nil {
		r.erred++
	}
	if routed {
		r.routed++
	}
}

func (r *fuzzRun) original(q fuzzQuery) (*answer, error) {
	if q.copied {
		return r.copyOut("COPY (" + q.sql + ") TO STDOUT")
	}
	return r.typed(q.sql, q.args, q.types)
}

// copyOut returns the lines of a COPY as rows of one column.
func (r *fuzzRun) copyOut(sql string) (*answer, error) {
	var b bytes.Buffer
	if _, err := r.conn.PgConn().CopyTo(context.Background(), &b, sql); err != nil {
		return nil, err
	}
	a := &answer{columns: []pgconn.FieldDescription{{Name: "line"}}}
	for _, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		a.rows = append(a.rows, []string{line})
	}
	return a, nil
}

// run sends a plan as the gateway does.
func (r *fuzzRun) run(t *testing.T, rw *AggregateRewrite, q fuzzQuery, guarded bool) (*answer, outcome, error) {
	t.Helper()
	guard := rw.Guard
	if !guarded {
		guard = "SELECT true"
	}
	results, err := r.conn.PgConn().Exec(context.Background(), "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "+rw.Lock+"; "+guard).ReadAll()
	defer r.exec(t, "ROLLBACK")
	if err != nil {
		if strings.Contains(err.Error(), "does not exist") {
			err = nil
		}
		return nil, refused, err
	}
	if string(results[2].Rows[0][0]) != "t" {
		return nil, refused, nil
	}
	var a *answer
	if q.copied {
		a, err = r.copyOut(rw.SQL)
	} else {
		a, err = r.typed(rw.SQL, q.args, q.types)
	}
	return a, answered, err
}

// unguardedRun sends a refused plan without its proof.
func (r *fuzzRun) unguardedRun(t *testing.T, c *Context, q fuzzQuery, snap *catalog.Snapshot, want *answer, wrong error) {
	t.Helper()
	if len(q.args) > 0 || q.copied || wrong != nil {
		return
	}
	b, stmt := blocksOf(t, q.sql, c, snap, time.Now())
	rw, _ := b.plan(stmt)
	if rw == nil {
		return
	}
	if got, o, err := r.run(t, rw, q, false); err == nil && o == answered && difference(want, got, q.ordered, true) != "" {
		r.unguarded++
	}
}

// inside runs a plan in a transaction, after what the transaction wrote itself. A
// reply without rows says nothing.
func (r *fuzzRun) inside(t *testing.T, q fuzzQuery, rw *AggregateRewrite, own string, compare func(want, got *answer)) {
	t.Helper()
	r.exec(t, "BEGIN")
	defer r.exec(t, "ROLLBACK")
	if own != "" {
		r.exec(t, own)
	}
	got, err := r.typed(rw.Within, q.args, q.types)
	if err != nil {
		return // the original runs
	}
	if len(got.rows) == 0 {
		return
	}
	r.within++
	want, err := r.typed(q.sql, q.args, q.types)
	if err != nil {
		t.Errorf("%v\nin %s", err, q.sql)
		return
	}
	compare(want, &answer{slices.Clone(got.columns), got.rows})
}
