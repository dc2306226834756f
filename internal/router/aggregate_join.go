package router

import (
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// dim is a table that is joined to the hypertable on columns that are grouped: a
// stored row then joins as each of the rows does that it stands for, and partials
// multiply as rows do.
type dim struct {
	relation *catalog.Relation
	alias    string
	aliased  bool
	text     string          // as it stands in FROM
	merged   map[string]bool // columns that USING takes from the hypertable
}

// joinTree reads a FROM clause: one hypertable, and tables joined to it.
type joinTree struct {
	c     *Context
	snap  *catalog.Snapshot
	scope *scope
	dims  []*dim
}

// item reads a FROM item and reports whether the hypertable is in it.
func (t *joinTree) item(n *pg_query.Node) (hyper bool, reason Reason) {
	j := n.GetJoinExpr()
	if j == nil {
		return t.relation(n)
	}
	left, reason := t.item(j.Larg)
	if reason != "" {
		return false, reason
	}
	before := len(t.dims)
	right, reason := t.item(j.Rarg)
	switch {
	case reason != "":
		return false, reason
	case j.IsNatural, j.Alias != nil, j.JoinUsingAlias != nil:
		return false, ReasonAggJoin
	case j.Jointype == pg_query.JoinType_JOIN_INNER:
	case j.Jointype == pg_query.JoinType_JOIN_LEFT && !right:
	case j.Jointype == pg_query.JoinType_JOIN_RIGHT && !left:
	default:
		return false, ReasonAggOuterJoin
	}
	for _, u := range j.UsingClause {
		name := u.GetString_().GetSval()
		if !left || len(t.dims) != before+1 || j.Jointype == pg_query.JoinType_JOIN_RIGHT || t.snap.UserOperators["="] {
			return false, ReasonAggJoin
		}
		d := t.dims[before]
		if _, ok := t.scope.relation.Column(name); !ok {
			return false, ReasonAggJoin
		}
		if _, ok := d.relation.Column(name); !ok {
			return false, ReasonAggJoin
		}
		if d.merged == nil {
			d.merged = map[string]bool{}
		}
		d.merged[name] = true
	}
	return left || right, ""
}

func (t *joinTree) relation(n *pg_query.Node) (hyper bool, reason Reason) {
	sc, reason := fromTable(n, t.c, t.snap)
	if reason == "" {
		if t.scope != nil {
			return false, ReasonAggJoin // two hypertables
		}
		t.scope = sc
		return true, ""
	}
	rv := n.GetRangeVar()
	if reason != ReasonAggNotHypertable || rv == nil || !rv.Inh || rv.Catalogname != "" || rv.Alias != nil && len(rv.Alias.Colnames) > 0 {
		return false, reason
	}
	r := resolve(rv, t.c, t.snap)
	if r == nil || r.Kind != 'r' && r.Kind != 'p' {
		return false, ReasonAggJoin
	}
	d := &dim{relation: r, alias: rv.Relname, text: ident(rv.Relname)}
	if rv.Schemaname != "" {
		d.text = ident(rv.Schemaname) + "." + d.text
	}
	if rv.Alias != nil {
		d.alias, d.aliased = rv.Alias.Aliasname, true
		d.text += " AS " + ident(d.alias)
	}
	if d.alias == unionAlias {
		return false, ReasonAggJoin
	}
	t.dims = append(t.dims, d)
	return false, ""
}

// dimension resolves a reference to a column of a joined table and writes it.
func (s *scope) dimension(ref *pg_query.ColumnRef) (string, bool) {
	names, ok := stringsOf(ref.Fields)
	if !ok || len(names) == 0 || len(names) > 3 {
		return "", false
	}
	name := names[len(names)-1]
	text := ""
	for _, d := range s.dims {
		if _, has := d.relation.Column(name); !has {
			continue
		}
		switch len(names) {
		case 1:
			if d.merged[name] {
				return "", false // the hypertable's
			}
			if text != "" {
				return "", false // ambiguous
			}
		case 2:
			if names[0] != d.alias {
				continue
			}
		case 3:
			if d.aliased || names[0] != d.relation.Name.Schema || names[1] != d.alias {
				continue
			}
		}
		text = ident(d.alias) + "." + ident(name)
	}
	if _, both := s.relation.Column(name); both && len(names) == 1 {
		return "", false
	}
	return text, text != ""
}

// ambiguous reports whether a joined table has a column of that name too, so that the
// bare name is ambiguous.
func (s *scope) ambiguous(name string) bool {
	for _, d := range s.dims {
		if _, has := d.relation.Column(name); has && !d.merged[name] {
			return true
		}
	}
	return false
}

// touches reports whether an expression has a column of a joined table.
func (s *scope) touches(n *pg_query.Node) bool {
	found := false
	if len(s.dims) == 0 {
		return false
	}
	visit(n, func(m any) bool {
		if ref, ok := m.(*pg_query.ColumnRef); ok {
			_, is := s.dimension(ref)
			found = found || is
		}
		return !found
	})
	return found
}

// joinedExpr writes an expression over joined rows: what it takes from the
// hypertable alone becomes keys of the union, columns of joined tables stay.
func (q *aggQuery) joinedExpr(n *pg_query.Node) (string, Reason) {
	return render(q.scope.snap, n, func(r *renderer, n *pg_query.Node) bool {
		if ref := n.GetColumnRef(); ref != nil {
			if text, ok := q.scope.dimension(ref); ok {
				r.write(text)
				return true
			}
		}
		if n.GetList() != nil || !q.mentionsColumn(n) || q.scope.touches(n) {
			return false
		}
		i, reason := q.hiddenKey(n)
		if reason != "" {
			r.fail(reason)
			return true
		}
		r.write(keyColumn(i))
		return true
	})
}

// joins reads the conditions of the joins, so that their keys are known.
func (q *aggQuery) joins() Reason {
	if len(q.scope.dims) == 0 {
		return ""
	}
	_, reason := q.from("")
	return reason
}

// from writes the FROM clause over the union.
func (q *aggQuery) from(union string) (string, Reason) {
	list := make([]string, len(q.stmt.FromClause))
	for i, n := range q.stmt.FromClause {
		text, reason := q.fromItem(n, union)
		if reason != "" {
			return "", reason
		}
		list[i] = text
	}
	return strings.Join(list, ", "), ""
}

// joinWords are the kinds of join that joinTree lets through.
var joinWords = map[pg_query.JoinType]string{
	pg_query.JoinType_JOIN_INNER: " JOIN ", pg_query.JoinType_JOIN_LEFT: " LEFT JOIN ", pg_query.JoinType_JOIN_RIGHT: " RIGHT JOIN ",
}

func (q *aggQuery) fromItem(n *pg_query.Node, union string) (string, Reason) {
	j := n.GetJoinExpr()
	if j == nil {
		rv := n.GetRangeVar()
		alias := rv.Relname
		if rv.Alias != nil {
			alias = rv.Alias.Aliasname
		}
		for _, d := range q.scope.dims {
			if d.alias == alias {
				return d.text, ""
			}
		}
		return union, ""
	}
	left, reason := q.fromItem(j.Larg, union)
	if reason != "" {
		return "", reason
	}
	right, reason := q.fromItem(j.Rarg, union)
	if reason != "" {
		return "", reason
	}
	if j.Rarg.GetJoinExpr() != nil {
		right = "(" + right + ")"
	}
	switch {
	case len(j.UsingClause) > 0:
		var on []string
		for _, u := range j.UsingClause {
			name := u.GetString_().GetSval()
			field := &pg_query.Node{Node: &pg_query.Node_ColumnRef{ColumnRef: &pg_query.ColumnRef{Fields: []*pg_query.Node{u}}}}
			ours, reason := q.joinedExpr(field)
			if reason != "" {
				return "", reason
			}
			for _, d := range q.scope.dims {
				if d.merged[name] && strings.HasPrefix(right, d.text) {
					on = append(on, ours+" = "+ident(d.alias)+"."+ident(name))
				}
			}
		}
		return left + joinWords[j.Jointype] + right + " ON " + strings.Join(on, " AND "), ""
	case j.Quals != nil:
		on, reason := q.joinedExpr(j.Quals)
		return left + joinWords[j.Jointype] + right + " ON " + on, reason
	}
	return left + " CROSS JOIN " + right, ""
}
