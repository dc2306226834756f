package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// rawAlias, storedAlias and unionAlias name the hypertable, the materialization
// and what comes from both in the rewritten query.
const (
	rawAlias    = "r"
	storedAlias = "m"
	unionAlias  = "u"
)

// aggQuery is a query over one hypertable, taken apart.
type aggQuery struct {
	scope  *scope
	clock  *buckets
	stmt   *pg_query.SelectStmt
	names  []string // of the output columns
	keys   []groupKey
	groups []groupItem      // GROUP BY over the keys; nil where it is all keys that are not hidden
	mixed  []mixedKey       // expressions of GROUP BY over joined tables
	conds  []*pg_query.Node // conjuncts over the hypertable without a bare time column
	above  []*pg_query.Node // conjuncts over joined tables
	bounds []bound
	order  []orderItem

	calls   []aggCall
	callNo  map[string]int    // by the call's text over the hypertable
	values  map[string]string // of expressions that calls are on, over the hypertable
	needs   []need            // of every time expression
	columns map[string]catalog.Column
	pinned  map[string]bool // columns with one value in each group
	chosen  map[string]int  // columns that the conditions leave that many values

	gathers bool // some call has FILTER or DISTINCT inside, so groups must be put together

	conditions []condition  // of conds, in a sketch
	offers     []*candidate // the aggregates that hold what it asks for, of some time

	called bool // the query stands for a call of a function

	// Every expression and window that goes into the new text, for the round trip.
	user        []userExpr
	userWindows string
}

type userExpr struct {
	node *pg_query.Node
	text string // as the user spelled it
}

// groupKey is an expression by which rows are grouped before they are put
// together; raw is its text over the hypertable, by which equal expressions are
// found. A hidden one is no expression of GROUP BY: it is what FILTER or DISTINCT
// inside a call looks at.
type groupKey struct {
	node   *pg_query.Node
	raw    string
	hidden bool
}

// mixedKey is an expression of GROUP BY that looks at joined tables.
type mixedKey struct {
	node *pg_query.Node
	raw  string // by which equal expressions are found
	text string // over joined rows
}

type orderItem struct {
	ordinal int // of an output column, 0 for an expression
	node    *pg_query.Node
	suffix  string // " DESC NULLS LAST"
}

// analyze takes the statement apart and checks all that does not depend on an
// aggregate's definition.
func analyze(s *pg_query.SelectStmt, sc *scope, c *Context, e estimator, called bool) (*aggQuery, Reason) {
	q := &aggQuery{
		scope: sc, stmt: s, called: called, clock: &buckets{scope: sc, zone: c.TimeZone},
		callNo: map[string]int{}, values: map[string]string{}, columns: map[string]catalog.Column{}, pinned: map[string]bool{}, chosen: map[string]int{},
	}
	for _, step := range []func() Reason{
		q.targets, q.joins, q.groupBy, func() Reason { return q.where(s.WhereClause, e) }, q.orderBy, q.outputs, q.limits,
	} {
		if reason := step(); reason != "" {
			return nil, reason
		}
	}
	if len(q.keys)+len(q.mixed)+len(q.calls) == 0 {
		return nil, ReasonAggNotGrouped
	}
	if q.fixedSets() {
		return nil, ReasonAggGroupingSets
	}
	return q, ""
}

func (q *aggQuery) targets() Reason {
	for _, n := range q.stmt.TargetList {
		t := n.GetResTarget()
		if t == nil || len(t.Indirection) > 0 || t.Val == nil {
			return ReasonAggExpression
		}
		name := t.Name
		if name == "" {
			name = columnName(t.Val)
		}
		q.names = append(q.names, name)
	}
	if len(q.names) == 0 {
		return ReasonAggNotGrouped
	}
	return ""
}

func (q *aggQuery) target(i int) *pg_query.Node { return q.stmt.TargetList[i].GetResTarget().Val }

// outputNamed finds the output column of that name; 0 for none, -1 when several
// different ones have it. Columns count from 1.
func (q *aggQuery) outputNamed(name string) int {
	found, text := 0, ""
	for i, n := range q.names {
		if n != name {
			continue
		}
		t, reason := render(q.scope.snap, q.target(i), func(r *renderer, n *pg_query.Node) bool {
			return verbatimCalls(r, n) || q.overJoined(r, n)
		})
		if found != 0 && (reason != "" || t != text) {
			return -1
		}
		if found == 0 {
			found, text = i+1, t
		}
	}
	return found
}

// ordinal returns the output column that an integer constant or a bare name means
// in ORDER BY or GROUP BY; 0 when the node is an expression, -1 when it is wrong.
func (q *aggQuery) ordinal(n *pg_query.Node) int {
	if c := n.GetAConst(); c != nil {
		if i := int(c.GetIval().GetIval()); c.GetIval() != nil && i >= 1 && i <= len(q.names) {
			return i
		}
		return -1
	}
	if names, ok := stringsOf(n.GetColumnRef().GetFields()); ok && len(names) == 1 {
		return q.outputNamed(names[0])
	}
	return 0
}

// rowExpr checks an expression that is computed from a row: grouped columns, and
// the time column inside bucket forms only. It notes what they need and returns
// its text over the hypertable.
func (q *aggQuery) rowExpr(n *pg_query.Node) (string, Reason) {
	return render(q.scope.snap, n, func(r *renderer, n *pg_query.Node) bool {
		if form, ok := q.clock.form(n); ok {
			q.needs = append(q.needs, form)
			text, reason := render(q.scope.snap, n, q.overRaw)
			if reason != "" {
				r.fail(reason)
			}
			r.write(text)
			return true
		}
		if q.scope.isTime(n) {
			r.fail(ReasonAggBucket)
			return true
		}
		if ref := n.GetColumnRef(); ref != nil {
			if c, ok := q.scope.column(ref); ok {
				q.columns[c.Name] = c
			}
		}
		return q.overRaw(r, n)
	})
}

// overRaw writes columns of the hypertable qualified by rawAlias.
func (q *aggQuery) overRaw(r *renderer, n *pg_query.Node) bool {
	ref := n.GetColumnRef()
	if ref == nil {
		return false
	}
	c, ok := q.scope.column(ref)
	if !ok {
		r.fail(ReasonAggColumn)
		return true
	}
	r.write(rawAlias, ".", ident(c.Name))
	return true
}

// overJoined is overRaw with the columns of joined tables: the text by which equal
// expressions are found.
func (q *aggQuery) overJoined(r *renderer, n *pg_query.Node) bool {
	if ref := n.GetColumnRef(); ref != nil {
		if text, ok := q.scope.dimension(ref); ok {
			r.write(text)
			return true
		}
	}
	return q.overRaw(r, n)
}

func (q *aggQuery) orderBy() Reason {
	for _, n := range q.stmt.SortClause {
		s := n.GetSortBy()
		suffix, ok := sortSuffix(s)
		if !ok {
			return ReasonAggOrderBy
		}
		item := orderItem{node: s.Node, suffix: suffix}
		// A name means an output column first, an input column second.
		if item.ordinal = q.ordinal(s.Node); item.ordinal < 0 {
			return ReasonAggOrderBy
		}
		q.order = append(q.order, item)
	}
	return ""
}

// outputs checks the expressions over groups: targets, HAVING and ORDER BY.
func (q *aggQuery) outputs() Reason {
	check := func(n *pg_query.Node) Reason {
		_, reason := q.groupExpr(n, uncombined)
		return reason
	}
	if _, reason := q.windows(uncombined); reason != "" {
		return reason
	}
	for i := range q.names {
		if reason := check(q.target(i)); reason != "" {
			return reason
		}
	}
	if q.stmt.HavingClause != nil {
		if reason := check(q.stmt.HavingClause); reason != "" {
			return reason
		}
	}
	for _, o := range q.order {
		if o.ordinal == 0 {
			if reason := check(o.node); reason != "" {
				return reason
			}
		}
	}
	return ""
}

func uncombined(int, string) string { return "" }

// windows renders the named windows over groups.
func (q *aggQuery) windows(combined func(call int, filter string) string) (string, Reason) {
	return windowClause(q.stmt.WindowClause, func(w *pg_query.WindowDef) (string, Reason) {
		r := renderer{snap: q.scope.snap, replace: func(r *renderer, n *pg_query.Node) bool { return q.overGroups(r, n, combined) }}
		r.windowDefinition(w)
		return r.String(), r.reason
	})
}

// limits checks LIMIT and OFFSET: numbers and parameters, and what checks the
// arguments of a called function.
func (q *aggQuery) limits() Reason {
	for _, n := range []*pg_query.Node{q.stmt.LimitCount, q.stmt.LimitOffset} {
		if n == nil || n.GetAConst() != nil || n.GetParamRef() != nil {
			continue
		}
		if !q.called || q.mentionsColumn(n) {
			return ReasonAggLimit
		}
		if _, reason := render(q.scope.snap, n, nil); reason != "" {
			return reason
		}
	}
	return ""
}

// spelling notes every user expression with its own text for the round trip.
func (q *aggQuery) spelling() Reason {
	var nodes []*pg_query.Node
	for i := range q.names {
		nodes = append(nodes, q.target(i))
	}
	for _, k := range q.keys {
		nodes = append(nodes, k.node)
	}
	for _, o := range q.order {
		if o.ordinal == 0 {
			nodes = append(nodes, o.node)
		}
	}
	for _, b := range q.bounds {
		nodes = append(nodes, b.value)
	}
	nodes = append(append(nodes, q.conds...), q.above...)
	for _, m := range q.mixed {
		nodes = append(nodes, m.node)
	}
	visitAll(q.stmt.FromClause, func(m any) bool {
		if j, ok := m.(*pg_query.JoinExpr); ok && j.Quals != nil {
			nodes = append(nodes, j.Quals)
		}
		return true
	})
	for _, n := range []*pg_query.Node{q.stmt.HavingClause, q.stmt.LimitCount, q.stmt.LimitOffset} {
		if n != nil {
			nodes = append(nodes, n)
		}
	}
	for _, n := range nodes {
		text, reason := render(q.scope.snap, n, verbatimCalls)
		if reason != "" {
			return reason
		}
		q.user = append(q.user, userExpr{n, text})
	}
	var reason Reason
	q.userWindows, reason = windowClause(q.stmt.WindowClause, func(w *pg_query.WindowDef) (string, Reason) {
		r := renderer{snap: q.scope.snap, replace: verbatimCalls}
		r.windowDefinition(w)
		return r.String(), r.reason
	})
	return reason
}
