package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
)

// plan plans a case as the gateway does; nil when it passes.
func (r *fuzzRun) plan(t *testing.T, p *Router, q fuzzQuery) *AggregateRewrite {
	t.Helper()
	c := r.context(q.planned)
	text := q.text()
	plan := p.Plan(c, []byte(text))
	if plan.AtBind {
		params := make([]Param, len(q.args))
		for i, a := range q.args {
			params[i] = Param{Type: catalog.OID(q.types[i]), Value: a, Binary: q.binary}
		}
		plan = p.Bound(c, []byte(text), params)
	}
	if plan.Aggregates == nil {
		r.reasons[plan.Reason]++
	}
	return plan.Aggregates
}

// describe asks for the types of the parameters, and for their values in binary
// when the case sends them so; an error is the original's too.
func (r *fuzzRun) describe(q *fuzzQuery) error {
	if len(q.args) == 0 {
		return nil
	}
	described, err := r.conn.PgConn().Prepare(context.Background(), "", q.sql, nil)
	if err != nil {
		return err
	}
	q.types = described.ParamOIDs
	if !q.binary {
		return nil
	}
	names := make([]string, len(q.args))
	for i := range names {
		names[i] = fmt.Sprintf("$%d", i+1)
	}
	reply := r.conn.PgConn().ExecParams(context.Background(), "SELECT "+strings.Join(names, ", "), q.args, q.types, nil, []int16{1}).Read()
	if reply.Err != nil {
		return reply.Err
	}
	q.args = make([][]byte, len(names))
	for i, v := range reply.Rows[0] {
		q.args[i] = bytes.Clone(v)
	}
	return nil
}

// execute runs a statement with the case's parameters.
func (r *fuzzRun) execute(sql string, q fuzzQuery) (*answer, error) {
	if q.copied {
		return r.copyOut(sql)
	}
	var formats []int16
	if q.binary {
		formats = []int16{1}
	}
	return r.formatted(sql, q.args, q.types, formats)
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

// fuzzCase is one case that is asked.
type fuzzCase struct {
	*fuzzRun
	t     *testing.T
	seed  uint64
	world *fuzzWorld
	q     fuzzQuery
	own   string // what the transaction does first, in the form inside one
}

func (f *fuzzCase) fail(what, difference string, rw *AggregateRewrite) {
	f.t.Helper()
	f.differences++
	q := f.q
	f.t.Errorf("seed %d, case %d, %s: %s\nsession %+v, planned for %+v %s, parameters %q, before in the transaction: %q\nstatement: %s\nplan: %s %v\nsent: %s", f.seed, f.cases, what, difference, q.session, q.planned, q.behind, q.args, f.own, q.text(), rw.View, rw.Ranges(), rw.SQL)
}

func (f *fuzzCase) compare(what string, want, got *answer, rw *AggregateRewrite) {
	f.t.Helper()
	d := difference(want, got, f.q.ordered, false)
	if d != "" && rw.Float && !f.world.exact && difference(want, got, f.q.ordered, true) == "" {
		f.lastBits++
		return
	}
	if d != "" {
		f.fail(what, fmt.Sprintf("%s\n%d rows %.40q\nwant %d %.40q", d, len(got.rows), got.rows[:min(len(got.rows), 12)], len(want.rows), want.rows[:min(len(want.rows), 12)]), rw)
	}
}

// ask runs one case by both plans.
func (r *fuzzRun) ask(t *testing.T, seed uint64, w *fuzzWorld, q fuzzQuery, own string) {
	t.Helper()
	f := &fuzzCase{r, t, seed, w, q, own}
	r.as(t, f.q.session)
	routed := false
	if r.describe(&f.q) != nil {
		r.erred++
	} else {
		want, wrong := r.execute(f.q.text(), f.q)
		if wrong != nil {
			r.erred++
		}
		routed = f.answers(want, wrong)
	}
	if routed {
		r.routed++
	}
	for _, form := range q.forms {
		n := r.forms[form]
		n[0]++
		if routed {
			n[1]++
		}
		r.forms[form] = n
	}
}

// answers holds the answers of both plans against the original's; true when there
// was one.
func (f *fuzzCase) answers(want *answer, wrong error) (routed bool) {
	f.t.Helper()
	var first *AggregateRewrite
	for i, p := range f.planners {
		rw := f.plan(f.t, p, f.q)
		if rw == nil || first != nil && rw.SQL == first.SQL && rw.Guard() == first.Guard() && rw.Lock == first.Lock {
			continue
		}
		first = rw
		what := []string{"a new plan", "a plan from before"}[i]
		got, o, err := f.run(f.t, rw, f.q, true)
		switch {
		case err != nil && (strings.Contains(err.Error(), "XX000") || wrong == nil && spared(err)): // TimescaleDB's, or a value's: the original runs
			f.fellBack++
		case err != nil && wrong == nil:
			f.fail(what, err.Error(), rw)
		case err != nil:
		case o == answered && wrong != nil && strings.Contains(wrong.Error(), "XX000"): // an error of TimescaleDB's
		case o == answered && wrong != nil:
			f.fail(what, "the original fails with "+wrong.Error(), rw)
		case o == answered:
			routed = true
			f.compare(what, want, got, rw)
		default:
			f.refused++
			f.unguardedRun(want, wrong, f.snaps[i].snap)
		}
		if rw.HasWithin() && wrong == nil && (f.own != "" || f.world.chance(1, 3)) {
			f.inside(what, rw)
		}
	}
	return routed
}

// spared reports whether an error is a value's, as an overflow, and came before the first
// row. Where a LIMIT or an EXISTS ends the original before it meets that value, it has none.
func spared(err error) bool {
	before, value := (*early)(nil), (*pgconn.PgError)(nil)
	return errors.As(err, &before) && errors.As(err, &value) && strings.HasPrefix(value.Code, "22")
}

// refusal reports whether an error of the lock or the guard lets the original run
// for a reason: a chunk is gone, or the role may not read what is needed.
func refusal(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "42") && strings.Contains(pg.Message, "does not exist") || pg.Code == "42501")
}

// run sends a plan as the gateway does. The guard is asked as text too, now and then.
func (r *fuzzRun) run(t *testing.T, rw *AggregateRewrite, q fuzzQuery, guarded bool) (*answer, outcome, error) {
	t.Helper()
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + rw.Lock
	both := guarded && r.cases%4 == 0
	if both {
		begin += "; " + rw.Guard()
	}
	results, err := r.conn.PgConn().Exec(context.Background(), begin).ReadAll()
	defer r.exec(t, "ROLLBACK")
	if guarded && err == nil {
		var proof *answer
		if proof, err = r.query(rw.Proof, rw.ProofArgs); err == nil {
			said := proof.rows[0][0]
			if both && said != string(results[len(results)-1].Rows[0][0]) {
				return nil, refused, fmt.Errorf("the guard says otherwise than with parameters, %s: %s %q", said, rw.Proof, rw.ProofArgs)
			}
			if said != "t" {
				return nil, refused, nil
			}
		}
	}
	if err != nil {
		if refusal(err) {
			err = nil
		}
		return nil, refused, err
	}
	a, err := r.execute(rw.SQL, q)
	return a, answered, err
}

// unguardedRun sends a refused plan without its proof.
func (f *fuzzCase) unguardedRun(want *answer, wrong error, snap *catalog.Snapshot) {
	f.t.Helper()
	q := f.q
	if len(q.args) > 0 || q.copied || wrong != nil || q.behind != "" {
		return
	}
	b, stmt := blocksOf(f.t, q.sql, f.context(q.planned), snap, time.Now())
	rw, _ := b.plan(stmt)
	if rw == nil {
		return
	}
	if got, o, err := f.run(f.t, rw, q, false); err == nil && o == answered && difference(want, got, q.ordered, true) != "" {
		f.unguarded++
	}
}

// inside runs a plan in a transaction, after what the transaction did itself. A
// reply without rows says nothing.
func (f *fuzzCase) inside(what string, rw *AggregateRewrite) {
	f.t.Helper()
	f.exec(f.t, "BEGIN")
	defer f.exec(f.t, "ROLLBACK")
	if f.own != "" {
		if _, err := f.conn.PgConn().Exec(context.Background(), f.own).ReadAll(); err != nil {
			return
		}
	}
	f.exec(f.t, "SAVEPOINT ours")
	got, err := f.execute(rw.Within(), f.q)
	if err != nil || len(got.rows) == 0 {
		return // the original runs
	}
	f.within++
	f.exec(f.t, "RELEASE SAVEPOINT ours")
	want, err := f.execute(f.q.text(), f.q)
	if err != nil {
		f.fail(what+" inside a transaction", "the original fails with "+err.Error(), rw)
		return
	}
	f.compare(what+" inside a transaction", want, &answer{slices.Clone(got.columns), got.rows}, rw)
}
