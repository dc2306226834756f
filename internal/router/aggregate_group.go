package router

import (
	"slices"
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// groupItem is an element of a GROUP BY that has grouping sets: a key, or several
// items under a word as ROLLUP or, with an empty one, in parentheses.
type groupItem struct {
	key   string // over the union; "" for a list
	word  string
	items []groupItem
}

// text writes the item over the union.
func (g groupItem) text() string {
	if g.key != "" {
		return g.key
	}
	list := make([]string, len(g.items))
	for i, item := range g.items {
		list[i] = item.text()
	}
	return g.word + "(" + strings.Join(list, ", ") + ")"
}

// keyColumn is the i-th key in the union.
func keyColumn(i int) string { return unionAlias + ".k" + strconv.Itoa(i+1) }

// groupingWords are the words of the kinds of grouping sets.
var groupingWords = map[pg_query.GroupingSetKind]string{
	pg_query.GroupingSetKind_GROUPING_SET_EMPTY:  "",
	pg_query.GroupingSetKind_GROUPING_SET_ROLLUP: "ROLLUP ",
	pg_query.GroupingSetKind_GROUPING_SET_CUBE:   "CUBE ",
	pg_query.GroupingSetKind_GROUPING_SET_SETS:   "GROUPING SETS ",
}

func (q *aggQuery) groupBy() Reason {
	sets := false
	for _, n := range q.stmt.GroupClause {
		sets = sets || n.GetGroupingSet() != nil
	}
	for _, n := range q.stmt.GroupClause {
		item, reason := q.groupItem(n, !sets)
		if reason != "" {
			return reason
		}
		if sets {
			q.groups = append(q.groups, item)
		}
	}
	if len(q.stmt.DistinctClause) > 0 && len(q.stmt.GroupClause) == 0 && q.stmt.HavingClause == nil && !hasAggregate(q.stmt.TargetList) {
		// SELECT DISTINCT of rows groups by all that it selects.
		for i := range q.names {
			if _, reason := q.groupKey(q.target(i), true); reason != "" {
				return reason
			}
		}
	}
	return ""
}

// fixedSets says whether the condition may fix a column of grouping sets to one value, or
// to another column's. PostgreSQL before 18 then leaves it out when it sorts, as if the
// rows that sum up over it had that value too and not NULL; over a union it does not know.
func (q *aggQuery) fixedSets() bool {
	if q.groups == nil {
		return false
	}
	var keys []*pg_query.Node
	for _, k := range q.keys {
		if !k.hidden {
			keys = append(keys, k.node)
		}
	}
	for _, m := range q.mixed {
		keys = append(keys, m.node)
	}
	if len(q.scope.dims) > 0 && len(keys) > 1 {
		return true
	}
	for _, n := range slices.Concat(q.conds, q.above) {
		if !equates(n) {
			continue
		}
		fixed := false
		visit(n, func(m any) bool {
			if ref, ok := m.(*pg_query.ColumnRef); ok {
				name := lastName(ref.Fields)
				fixed = fixed || slices.ContainsFunc(keys, func(k *pg_query.Node) bool { return mentions(k, name) })
			}
			return true
		})
		if fixed {
			return true
		}
	}
	return false
}

// equates says whether a condition is, or may be planned as, one that something is equal.
func equates(n *pg_query.Node) bool {
	found := n.GetColumnRef() != nil || n.GetBoolExpr().GetBoolop() == pg_query.BoolExprType_NOT_EXPR
	visit(n, func(m any) bool {
		switch x := m.(type) {
		case *pg_query.A_Expr:
			found = found || lastName(x.Name) == "=" || x.Kind == pg_query.A_Expr_Kind_AEXPR_NOT_DISTINCT
		case *pg_query.BooleanTest:
			found = true
		}
		return true
	})
	return found
}

// groupItem reads an element of GROUP BY. plain: there are no grouping sets, so
// that a column in it has one value in each group.
func (q *aggQuery) groupItem(n *pg_query.Node, plain bool) (groupItem, Reason) {
	var list []*pg_query.Node
	item := groupItem{}
	switch {
	case n.GetGroupingSet() != nil:
		word, ok := groupingWords[n.GetGroupingSet().Kind]
		if !ok {
			return item, ReasonAggGroupingSets
		}
		item.word, list = word, n.GetGroupingSet().Content
	case n.GetRowExpr() != nil && !plain:
		list = n.GetRowExpr().Args
	default:
		// A name means an input column first, an output column second.
		ref := n.GetColumnRef()
		input := false
		if ref != nil && len(ref.Fields) == 1 {
			_, input = q.scope.column(ref)
		}
		if !input {
			if i := q.ordinal(n); i > 0 {
				n = q.target(i - 1)
			} else if i < 0 {
				return item, ReasonAggGroupBy
			}
		}
		var reason Reason
		item.key, reason = q.groupKey(n, plain)
		return item, reason
	}
	for _, n := range list {
		inner, reason := q.groupItem(n, false)
		if reason != "" {
			return item, reason
		}
		item.items = append(item.items, inner)
	}
	return item, ""
}

// groupKey registers an expression of GROUP BY and returns its text over the union.
func (q *aggQuery) groupKey(n *pg_query.Node, plain bool) (string, Reason) {
	if q.scope.touches(n) {
		text, reason := q.joinedExpr(n)
		if reason != "" {
			return "", reason
		}
		raw, reason := render(q.scope.snap, n, q.overJoined)
		if q.mixedText(raw) == "" {
			q.mixed = append(q.mixed, mixedKey{n, raw, text})
		}
		return text, reason
	}
	raw, reason := q.rowExpr(n)
	if reason != "" {
		return "", reason
	}
	if !q.mentionsColumn(n) {
		return "", ReasonAggGroupBy
	}
	if ref := n.GetColumnRef(); ref != nil && plain {
		c, _ := q.scope.column(ref)
		q.pinned[c.Name] = true
	}
	i := q.keyIndex(raw, true)
	switch {
	case i < 0:
		i = len(q.keys)
		q.keys = append(q.keys, groupKey{node: n, raw: raw})
	case q.keys[i].hidden:
		q.keys[i].hidden = false // a join looks at it too
	}
	return keyColumn(i), ""
}

// mixedText is the text of an expression of GROUP BY over joined tables, "" when it
// is none.
func (q *aggQuery) mixedText(raw string) string {
	for _, m := range q.mixed {
		if m.raw == raw {
			return m.text
		}
	}
	return ""
}

// hiddenKey registers an expression that FILTER or DISTINCT inside a call looks at.
func (q *aggQuery) hiddenKey(n *pg_query.Node) (int, Reason) {
	raw, reason := q.rowExpr(n)
	if reason != "" {
		return 0, reason
	}
	if i := q.keyIndex(raw, true); i >= 0 {
		return i, ""
	}
	q.keys = append(q.keys, groupKey{node: n, raw: raw, hidden: true})
	return len(q.keys) - 1, ""
}

func (q *aggQuery) mentionsColumn(n *pg_query.Node) bool {
	found := false
	_, _ = render(q.scope.snap, n, func(_ *renderer, n *pg_query.Node) bool {
		found = found || n.GetColumnRef() != nil
		return false
	})
	return found
}

func (q *aggQuery) keyIndex(raw string, hidden bool) int {
	for i, k := range q.keys {
		if k.raw == raw && (hidden || !k.hidden) {
			return i
		}
	}
	return -1
}

// grouping writes GROUP BY over the union, "" without one.
func (q *aggQuery) grouping() string {
	var list []string
	for _, g := range q.groups {
		list = append(list, g.text())
	}
	if q.groups == nil {
		for i, k := range q.keys {
			if !k.hidden {
				list = append(list, keyColumn(i))
			}
		}
		for _, m := range q.mixed {
			list = append(list, m.text)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return " GROUP BY " + strings.Join(list, ", ")
}
