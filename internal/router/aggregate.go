package router

import (
	"cmp"
	"math"
	"slices"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// aggregateRewriteMargin is how far the server's clock may run ahead of the
// planner's before a plan with bounds relative to now() is refused by its guard.
// Such a plan expires so that the margin is never used up.
const aggregateRewriteMargin = 30 * time.Second

// plan plans a lone SELECT, or COPY or DECLARE of one, over continuous aggregates, or returns
// nil and the first condition that fails. Bounds relative to now() are estimated by
// the planner's clock; the guard proves the estimate.
func (b *blocks) plan(stmt *pg_query.Node) (*AggregateRewrite, Reason) {
	if s := copied(stmt); s != nil {
		rw, reason := b.selected(s)
		if reason != "" {
			return nil, reason
		}
		return rw.copies(stmt.GetCopyStmt(), s)
	}
	if d := stmt.GetDeclareCursorStmt(); d != nil {
		return b.cursor(d)
	}
	return b.selected(stmt.GetSelectStmt())
}

func (b *blocks) selected(s *pg_query.SelectStmt) (*AggregateRewrite, Reason) {
	c, snap := b.c, b.snap
	switch {
	case s == nil, s.IntoClause != nil:
		return nil, ReasonAggNotSelect
	case !c.SettingsKnown || !c.ConformingStrings:
		return nil, ReasonAggSettings
	case snap.UserCasts:
		return nil, ReasonAggUserCode
	case !provable(snap.Timescale):
		return nil, ReasonAggVersion
	}
	ok := false
	if b.zone, ok = location(c.TimeZone); !ok {
		return nil, ReasonAggZone
	}
	b.ours = map[*pg_query.SelectStmt]bool{}
	top := ReasonAggSetOperation
	if s.Op == pg_query.SetOperation_SETOP_NONE {
		// The statement itself first: then its tree need not be copied.
		var ctes *withQueries
		if s.WithClause != nil {
			ctes = withOf(s.WithClause, nil)
		}
		p, reason := b.answer(s, ctes)
		if p != nil {
			b.pieces = []*piece{p}
			return b.rewrite(nil)
		}
		top = reason
		if groups(s) {
			b.fail(reason)
		}
	}
	whole := proto.Clone(s).(*pg_query.SelectStmt)
	b.within(whole, nil)
	if len(b.pieces) == 0 {
		return nil, cmp.Or(b.reason, top)
	}
	return b.rewrite(whole)
}

// candidate is one aggregate that can answer a query, and how.
type candidate struct {
	query   *aggQuery
	view    *rollup.View
	recipes []rollup.Recipe // of query.calls
	raw     *catalog.Hypertable
	held    *catalog.Hypertable
	under   []*catalog.Hypertable // that the aggregates under it are held in
	holds   rollup.Request        // what the aggregate holds, of all time
	span    timeRange
	spans   []catalog.Span // what the aggregate answers, in order, not empty
	cost    int64
	arms    *armSet
	coded   bool // texts have codes in place of what differs between texts of a shape: see sketch
}

// choose returns the cheapest aggregate of the hypertable that can answer. When
// none can, the reason is that of the one that came furthest.
func choose(q *aggQuery, span timeRange, snap *catalog.Snapshot) (*candidate, Reason) {
	views := viewsOf(snap)
	var best *candidate
	reason, depth := ReasonAggNoAggregates, 0
	for _, a := range snap.Aggregates {
		view := views[a.ID]
		if view != nil && view.Root != q.scope.hyper.ID || view == nil && a.RawID != q.scope.hyper.ID {
			continue
		}
		if view == nil {
			if depth == 0 {
				reason, depth = ReasonAggDefinition, 1
			}
			continue
		}
		cand, why, passed := consider(q, span, view)
		if cand == nil {
			if passed > depth {
				reason, depth = why, passed
			}
			continue
		}
		if cand.cheaper(best) {
			best = cand
		}
	}
	return best, reason
}

// cheaper reports whether the candidate is the better one; other may be nil.
func (d *candidate) cheaper(other *candidate) bool {
	return other == nil || d.cost < other.cost || d.cost == other.cost && d.view.Grid.Approx() > other.view.Grid.Approx()
}

// consider checks one aggregate. It also returns how many conditions held.
func consider(q *aggQuery, span timeRange, view *rollup.View) (*candidate, Reason, int) {
	cand := &candidate{query: q, view: view, span: span, raw: q.scope.hyper, held: q.scope.snap.Hypertables[view.Aggregate.ID]}
	if cand.held == nil || q.scope.snap.Relations[view.Aggregate.Materialization] == nil {
		return nil, ReasonAggCatalog, 2
	}
	for _, u := range view.Under {
		held := q.scope.snap.Hypertables[u.ID]
		if held == nil {
			return nil, ReasonAggCatalog, 2
		}
		cand.under = append(cand.under, held)
	}
	for name, c := range q.columns {
		if _, ok := view.Dims[name]; !ok {
			return nil, ReasonAggDimension, 3
		}
		if !rollup.Groupable(c) {
			return nil, ReasonAggGroupType, 4
		}
	}
	pinned := true
	for name := range view.Dims {
		pinned = pinned && q.pinned[name]
	}
	for _, call := range q.calls {
		recipe, obstacle := view.Derive(call.Call, pinned)
		switch obstacle {
		case rollup.NotStored:
			return nil, ReasonAggNotStored, 5
		case rollup.TypeUnknown:
			return nil, ReasonAggValueType, 5
		case rollup.FirstTies:
			return nil, ReasonAggFirstTies, 5
		}
		cand.recipes = append(cand.recipes, recipe)
	}
	if reason := cand.materialized(); reason != "" {
		return nil, reason, 7
	}
	q.offers = append(q.offers, cand)
	if reason := cand.place(); reason != "" {
		return nil, reason, placing[reason]
	}
	return cand, "", 9
}

// placing says how far an aggregate came that cannot be placed.
var placing = map[Reason]int{ReasonAggBucket: 6, ReasonAggNotMaterial: 7, ReasonAggZone: 7, ReasonAggNarrow: 8}

// materialized notes what the aggregate holds, or says why nothing.
func (d *candidate) materialized() Reason {
	a := d.view.Aggregate
	if !d.raw.HasThreshold || a.Watermark <= rollup.MinTime {
		return ReasonAggNotMaterial
	}
	reason, unsettled := d.unsettled()
	if reason != "" {
		return reason
	}
	req := rollup.Request{
		Integer: d.query.scope.integer, Limit: min(a.Watermark, d.raw.Threshold),
		Raw: d.raw.Chunks, Held: [][]catalog.Chunk{d.settledChunks(a, d.held)}, Invalid: slices.Concat(a.Invalid, unsettled),
	}
	for i, u := range d.view.Under {
		if !d.under[i].HasThreshold || u.Watermark <= rollup.MinTime {
			return ReasonAggNotMaterial
		}
		req.Limit = min(req.Limit, u.Watermark, d.under[i].Threshold)
		req.Held = append(req.Held, d.settledChunks(u, d.under[i]))
		req.Invalid = slices.Concat(req.Invalid, u.Invalid)
	}
	d.holds = req.Gathered(d.view.Grid)
	return ""
}

// place chooses the ranges that the aggregate answers and checks the bucket lemma
// on them.
func (d *candidate) place() Reason {
	req := d.holds
	req.From, req.To = d.span.from, d.span.to
	if low := d.span.low; low != nil && low.moving {
		req.From += aggregateRewriteMargin.Microseconds()
	}
	if high := d.span.high; high != nil && high.moving {
		req.To -= aggregateRewriteMargin.Microseconds()
	}
	for _, n := range d.query.needs {
		if n.zone == "" && !d.view.Grid.Refines(n.grid) {
			return ReasonAggBucket
		}
	}
	d.spans = rollup.Split(d.view.Grid, req)
	if len(d.spans) == 0 {
		if len(rollup.Split(d.view.Grid, unbounded(req))) == 0 {
			return ReasonAggNotMaterial
		}
		return ReasonAggNarrow
	}
	for _, n := range d.query.needs {
		if n.positive && d.lo() < 0 {
			return ReasonAggBucket
		}
		loc, ok := location(n.zone)
		if !ok || !d.view.Grid.RefinesIn(n.grid, loc, d.lo(), d.hi()) {
			if d.view.Grid.Refines(n.grid) {
				return ReasonAggZone
			}
			return ReasonAggBucket
		}
	}
	d.cost = rollup.Cost(d.view.Grid, req, d.spans)
	return ""
}

// unsettled returns what of all time is not settled in the aggregate and in those
// under it, or why nothing is.
func (d *candidate) unsettled() (Reason, []catalog.Span) {
	sc := d.query.scope
	if sc.trustLogs {
		return "", nil
	}
	if sc.relation.Log != catalog.CorrectionsLogged {
		return ReasonAggNoChangeLog, nil
	}
	var out []catalog.Span
	for _, a := range d.levels() {
		s := a.Settled
		switch {
		case s.Reason != "":
			return ReasonAggNotRefreshable, nil
		case s.Triggers != sc.relation.Triggers || s.Start >= s.End:
			return ReasonAggNotSettled, nil
		}
		out = append(out, catalog.Span{Start: math.MinInt64, End: s.Start}, catalog.Span{Start: s.End, End: math.MaxInt64})
	}
	return "", out
}

// settledChunks are those of a materialization that hold all rows of their range.
func (d *candidate) settledChunks(a *catalog.Aggregate, held *catalog.Hypertable) []catalog.Chunk {
	if d.query.scope.trustLogs {
		return held.Chunks
	}
	var out []catalog.Chunk
	for _, c := range held.Chunks {
		if slices.Contains(a.Settled.Chunks, c.ID) {
			out = append(out, c)
		}
	}
	return out
}

// levels are the aggregate and those under it.
func (d *candidate) levels() []*catalog.Aggregate {
	return append([]*catalog.Aggregate{d.view.Aggregate}, d.view.Under...)
}

// lo and hi are the ends of what the aggregate answers.
func (d *candidate) lo() int64 { return d.spans[0].Start }
func (d *candidate) hi() int64 { return d.spans[len(d.spans)-1].End }

// unbounded is the request for all of time.
func unbounded(r rollup.Request) rollup.Request {
	r.From, r.To = rollup.MinTime, rollup.MaxTime
	return r
}
