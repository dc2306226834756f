package router

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"qvpgw/internal/catalog"
)

// blocks looks for the SELECTs of one statement that aggregates can answer: the
// statement itself, or those inside it (sub-queries, WITH queries, arms of set
// operations), each of which is put in the place of the original.
type blocks struct {
	c       *Context
	snap    *catalog.Snapshot
	now     time.Time
	zone    *time.Location
	pieces  []*piece
	ours    map[*pg_query.SelectStmt]bool // the SELECTs that were put in
	reason  Reason                        // why the outermost SELECT that groups is not answered
	called  []string                      // what the guard proves of the function that the statement stands for, nil without one
	byCost  bool                          // a statement whose raw rows are few passes
	checked bool                          // a rewrite of this shape was proven to parse back to what was meant
}

// piece is one SELECT that is answered from an aggregate.
type piece struct {
	*candidate
	inner  proof // what its answer rests on in the snapshot
	texts  queryParts
	cost   cost
	float  bool
	parsed *pg_query.SelectStmt
}

// answer plans one SELECT, or says why not.
func (b *blocks) answer(s *pg_query.SelectStmt, ctes *withQueries) (*piece, Reason) {
	s, ctes = flatten(s, ctes)
	if reason := plainSelect(s); reason != "" {
		return nil, reason
	}
	if namesAny(s.FromClause, ctes) {
		return nil, ReasonAggCTE
	}
	sc, reason := fromClause(s.FromClause, b.c, b.snap)
	if reason != "" {
		return nil, reason
	}
	q, reason := analyze(s, sc, b.c, estimator{now: b.now, zone: b.zone}, b.called != nil)
	if reason != "" {
		return nil, reason
	}
	if !b.checked {
		if reason := q.spelling(); reason != "" {
			return nil, reason
		}
	}
	best, reason := choose(q, rangeOf(q.bounds), b.snap)
	if best == nil {
		return nil, reason
	}
	if !b.checked {
		if reason := roundTrip(q); reason != "" {
			return nil, reason
		}
	}
	return best.emit(b)
}

// namesAny reports whether a table in FROM is a WITH query.
func namesAny(from []*pg_query.Node, ctes *withQueries) bool {
	for _, n := range from {
		if j := n.GetJoinExpr(); j != nil && namesAny([]*pg_query.Node{j.Larg, j.Rarg}, ctes) {
			return true
		}
		if rv := n.GetRangeVar(); rv != nil && rv.Schemaname == "" {
			if cte, _ := ctes.named(rv.Relname); cte != nil {
				return true
			}
		}
	}
	return false
}

// inside returns what stands for s, which is inside of the statement, when it or
// SELECTs inside it are answered from aggregates. s is changed where it is kept.
func (b *blocks) inside(s *pg_query.SelectStmt, ctes *withQueries) *pg_query.SelectStmt {
	if s.Op == pg_query.SetOperation_SETOP_NONE && groups(s) {
		visible := ctes
		if s.WithClause != nil {
			visible = withOf(s.WithClause, ctes)
		}
		p, reason := b.answer(s, visible)
		if p != nil && p.parsed == nil {
			p.parsed, reason = p.parsesBack(p.texts.alone())
		}
		if reason == "" {
			b.pieces = append(b.pieces, p)
			b.ours[p.parsed] = true
			return p.parsed
		}
		b.fail(reason)
	}
	b.within(s, ctes)
	return s
}

// fail keeps the reason of the outermost SELECT, but for one that literals have no
// say in where they have in another's.
func (b *blocks) fail(reason Reason) {
	if b.reason == "" || formReasons[b.reason] && !formReasons[reason] {
		b.reason = reason
	}
}

// within goes into the SELECTs inside s.
func (b *blocks) within(s *pg_query.SelectStmt, ctes *withQueries) {
	ctes = b.with(s, ctes)
	if s.Op != pg_query.SetOperation_SETOP_NONE {
		s.Larg, s.Rarg = b.inside(s.Larg, ctes), b.inside(s.Rarg, ctes)
	}
	b.below(s, ctes)
}

// with goes into the WITH queries of s and returns what is visible below.
func (b *blocks) with(s *pg_query.SelectStmt, ctes *withQueries) *withQueries {
	if s.WithClause == nil {
		return ctes
	}
	visible := &withQueries{outer: ctes}
	for _, n := range s.WithClause.Ctes {
		cte := n.GetCommonTableExpr()
		if s.WithClause.Recursive {
			visible.list = append(visible.list, cte)
		}
		if q := cte.Ctequery.GetSelectStmt(); q != nil && !s.WithClause.Recursive {
			original := proto.Clone(cte).(*pg_query.CommonTableExpr)
			cte.Ctequery.Node = &pg_query.Node_SelectStmt{SelectStmt: b.inside(q, visible)}
			visible.list = append(visible.list, original)
		} else if !s.WithClause.Recursive {
			visible.list = append(visible.list, cte)
		}
	}
	return visible
}

// withOf is what a WITH clause makes visible.
func withOf(w *pg_query.WithClause, outer *withQueries) *withQueries {
	visible := &withQueries{outer: outer}
	for _, n := range w.Ctes {
		cte := proto.Clone(n.GetCommonTableExpr()).(*pg_query.CommonTableExpr)
		cte.Cterecursive = cte.Cterecursive || w.Recursive
		visible.list = append(visible.list, cte)
	}
	return visible
}

// below goes into the sub-queries of s that stand in its expressions and in FROM.
func (b *blocks) below(s *pg_query.SelectStmt, ctes *withQueries) {
	visitMessage(s.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg_query.SelectStmt:
			return x == s // the arms of a set operation were seen
		case *pg_query.WithClause:
			return false
		case *pg_query.Node:
			if q := x.GetSelectStmt(); q != nil {
				x.Node = &pg_query.Node_SelectStmt{SelectStmt: b.inside(q, ctes)}
				return false
			}
		}
		return true
	})
}

// groups reports whether a SELECT groups or aggregates rows of something.
func groups(s *pg_query.SelectStmt) bool {
	return len(s.FromClause) > 0 && (len(s.GroupClause) > 0 || len(s.DistinctClause) > 0 || hasAggregate(s.TargetList))
}

// quietFunctions are those that may stand outside of the answered SELECTs: a
// statement whose proof fails runs twice, and both times they do nothing but
// compute.
func quietFunction(name string) bool {
	return scalarFunctions[name] || aggregateFunctions[name] || windowFunctions[name] || setFunctions[name]
}

var setFunctions = setOf("generate_series", "unnest", "string_to_array", "array_length", "jsonb_build_object", "json_build_object",
	"to_json", "to_jsonb", "row_to_json", "concat_ws", "format", "md5", "age", "justify_interval", "justify_days", "justify_hours",
	"make_timestamptz", "make_timestamp", "make_date", "isfinite", "width_bucket", "regexp_replace", "array_to_string")

// rest checks what stays of a statement around the SELECTs that were put in. It
// returns the relations that it reads, which are locked as a statement of its own
// would lock them before its snapshot.
func (b *blocks) rest(s *pg_query.SelectStmt) ([]string, Reason) {
	var locks []string
	var reason Reason
	fail := func(r Reason) {
		if reason == "" {
			reason = r
		}
	}
	names := map[string]bool{} // of WITH queries
	visitMessage(s.ProtoReflect(), func(m any) bool {
		if cte, ok := m.(*pg_query.CommonTableExpr); ok {
			names[cte.Ctename] = true
		}
		return true
	})
	visitMessage(s.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg_query.SelectStmt:
			return !b.ours[x]
		case *pg_query.LockingClause:
			fail(ReasonAggLocking)
		case *pg_query.IntoClause, *pg_query.InsertStmt, *pg_query.UpdateStmt, *pg_query.DeleteStmt, *pg_query.MergeStmt:
			fail(ReasonAggNotSelect)
		case *pg_query.FuncCall:
			name := functionName(x)
			switch {
			case b.snap.UserFunctions[name]:
				fail(ReasonAggUserCode)
			case volatileFunctions[name]:
				fail(ReasonAggVolatile)
			case !quietFunction(name):
				fail(ReasonAggFunction)
			}
		case *pg_query.RangeVar:
			if x.Schemaname == "" && names[x.Relname] {
				return true
			}
			r := resolve(x, b.c, b.snap)
			if r == nil || r.Kind != 'r' && r.Kind != 'p' {
				fail(ReasonAggFrom)
				return true
			}
			locks = append(locks, relationText(r.Name))
		}
		return true
	})
	return locks, reason
}

// parserVersion is what the parser writes in its trees and wants in those that it
// is given.
var parserVersion = sync.OnceValue(func() int32 {
	tree, err := pg_query.Parse("SELECT 1")
	if err != nil {
		panic("BUG: the parser does not read SELECT 1: " + err.Error())
	}
	return tree.Version
})

// statement puts the answered SELECTs into one text. whole is the statement with
// them in it, nil when it is one of them itself.
func (b *blocks) statement(whole *pg_query.SelectStmt) (sql string, locks []string, reason Reason) {
	if whole == nil {
		return b.pieces[0].texts.alone(), nil, ""
	}
	locks, reason = b.rest(whole)
	if reason != "" {
		return "", nil, reason
	}
	sql, reason = written(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: whole}})
	return sql, locks, reason
}

// rewrite makes the texts of a statement from its pieces.
func (b *blocks) rewrite(whole *pg_query.SelectStmt) (*AggregateRewrite, Reason) {
	if b.byCost && b.cheaperRaw() {
		return nil, ReasonAggCheaperRaw
	}
	sql, locks, reason := b.statement(whole)
	if reason != "" {
		return nil, reason
	}
	rw := &AggregateRewrite{SQL: sql, Memo: new(atomic.Value)}
	session, inner := make(proof, 0, 8), make(proof, 0, 32)
	var views []string
	add := func(list, more []string) []string {
		for _, s := range more {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
		return list
	}
	for _, p := range b.pieces {
		views = add(views, []string{displayName(p.view.Aggregate.View)})
		locks = add(locks, p.lock(p.arms))
		session = add(session, p.sessionProof(b.c))
		inner = add(inner, p.inner)
		rw.ranges = append(rw.ranges, p.ranges(p.arms)...)
		rw.Float = rw.Float || p.float
		if at := p.expires(b.now); rw.Expires.IsZero() || !at.IsZero() && at.Before(rw.Expires) {
			rw.Expires = at
		}
	}
	rw.View = strings.Join(views, ", ")
	rw.Lock = "LOCK TABLE " + strings.Join(locks, ", ") + " IN ACCESS SHARE MODE NOWAIT"
	rw.proves, rw.ProofArgs = slices.Concat(b.called, session, inner).conditions()
	rw.Proof = guarded(prepared(rw.proves))
	if whole == nil {
		alone := b.pieces[0].texts // the plan outlives the piece
		rw.alone = &alone
	}
	return rw, ""
}
