package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// scope is the hypertable of a query and how its columns may be named.
type scope struct {
	snap      *catalog.Snapshot
	hyper     *catalog.Hypertable
	relation  *catalog.Relation
	schema    string // as written, "" when unqualified
	written   string // the table's name as written
	alias     string // by which columns are qualified
	aliased   bool   // an alias hides the table's own name
	timeIsUTC bool   // the time column is timestamptz: an instant
	integer   bool   // the time column is an integer
	dims      []*dim // joined to it
	trustLogs bool   // Context.TrustLogs
}

// plainSelect says whether the clauses of a SELECT are those that are followed.
func plainSelect(s *pg_query.SelectStmt) Reason {
	switch {
	case s.IntoClause != nil:
		return ReasonAggNotSelect
	case s.Op != pg_query.SetOperation_SETOP_NONE, len(s.ValuesLists) > 0:
		return ReasonAggSetOperation
	case s.WithClause != nil:
		return ReasonAggCTE
	case len(s.DistinctClause) > 0 && s.DistinctClause[0].GetNode() != nil: // DISTINCT ON
		return ReasonAggDistinct
	case len(s.LockingClause) > 0:
		return ReasonAggLocking
	case s.GroupDistinct:
		return ReasonAggGroupingSets
	case s.LimitOption == pg_query.LimitOption_LIMIT_OPTION_WITH_TIES:
		return ReasonAggLimit
	case len(s.FromClause) == 0:
		return ReasonAggNotHypertable
	}
	return ""
}

// fromClause resolves FROM as the session would.
func fromClause(from []*pg_query.Node, c *Context, snap *catalog.Snapshot) (*scope, Reason) {
	if len(from) == 1 && from[0].GetJoinExpr() == nil {
		return fromTable(from[0], c, snap)
	}
	t := &joinTree{c: c, snap: snap}
	for _, n := range from {
		if _, reason := t.item(n); reason != "" {
			return nil, reason
		}
	}
	if t.scope == nil {
		return nil, ReasonAggNotHypertable
	}
	t.scope.dims = t.dims
	names := map[string]bool{t.scope.alias: true}
	for _, d := range t.dims {
		if names[d.alias] {
			return nil, ReasonAggJoin // two of one name: the server is to say so
		}
		names[d.alias] = true
	}
	return t.scope, ""
}

// fromTable resolves a FROM item that is a hypertable.
func fromTable(from *pg_query.Node, c *Context, snap *catalog.Snapshot) (*scope, Reason) {
	rv := from.GetRangeVar()
	switch {
	case from.GetRangeSubselect() != nil:
		return nil, ReasonAggSubquery
	case rv == nil, !rv.Inh, rv.Catalogname != "" && rv.Catalogname != c.Database:
		return nil, ReasonAggFrom
	case rv.Alias != nil && len(rv.Alias.Colnames) > 0:
		return nil, ReasonAggFrom
	}
	relation := resolve(rv, c, snap)
	if relation == nil {
		return nil, ReasonAggNotHypertable
	}
	hyper := hypertableNamed(snap, relation.Name)
	if hyper == nil {
		return nil, ReasonAggNotHypertable
	}
	if n := relation.Name; c.NoTables[n.Name] || c.NoTables[n.Schema+"."+n.Name] {
		return nil, ReasonRouteOff
	}
	for _, a := range snap.Aggregates {
		if a.ID == hyper.ID {
			return nil, ReasonAggHierarchical
		}
	}
	if relation.RowSecurity {
		return nil, ReasonAggRowSecurity
	}
	integer := integerTypes[hyper.TimeType]
	if hyper.TimeType != oidTimestamptz && hyper.TimeType != oidTimestamp && !integer {
		return nil, ReasonAggTimeType
	}
	s := &scope{
		snap: snap, hyper: hyper, relation: relation, schema: rv.Schemaname, written: rv.Relname, alias: rv.Relname,
		timeIsUTC: hyper.TimeType == oidTimestamptz, integer: integer, trustLogs: c.TrustLogs,
	}
	if rv.Alias != nil {
		s.alias, s.aliased = rv.Alias.Aliasname, true
	}
	if _, ok := relation.Column(hyper.TimeColumn); !ok {
		return nil, ReasonAggCatalog
	}
	return s, ""
}

// resolve finds the relation as PostgreSQL does: the first schema of the search
// path that has the name. Temporary tables, and what changed since the snapshot,
// are left to the guard.
func resolve(rv *pg_query.RangeVar, c *Context, snap *catalog.Snapshot) *catalog.Relation {
	if rv.Schemaname != "" {
		return snap.Relations[catalog.Name{Schema: rv.Schemaname, Name: rv.Relname}]
	}
	for _, schema := range c.SearchPath {
		if r := snap.Relations[catalog.Name{Schema: schema, Name: rv.Relname}]; r != nil {
			return r
		}
	}
	return nil
}

func hypertableNamed(snap *catalog.Snapshot, name catalog.Name) *catalog.Hypertable {
	for _, h := range snap.Hypertables {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// column resolves a reference to a column of the hypertable; false for whole
// rows, *, system columns and anything qualified by another name.
func (s *scope) column(ref *pg_query.ColumnRef) (catalog.Column, bool) {
	names, ok := stringsOf(ref.Fields)
	if !ok || len(names) == 0 {
		return catalog.Column{}, false
	}
	switch len(names) {
	case 1:
		if s.ambiguous(names[0]) {
			return catalog.Column{}, false
		}
	case 2:
		if names[0] != s.alias {
			return catalog.Column{}, false
		}
	case 3:
		if s.aliased || names[0] != s.relation.Name.Schema || names[1] != s.alias {
			return catalog.Column{}, false
		}
	default:
		return catalog.Column{}, false
	}
	return s.relation.Column(names[len(names)-1])
}

// value is what an aggregate function is called on: a column of the hypertable, or
// an expression over its columns of type float8, whose name is its text.
func (s *scope) value(n *pg_query.Node) (catalog.Column, bool) {
	if ref := n.GetColumnRef(); ref != nil {
		return s.column(ref)
	}
	if !s.float(n) {
		return catalog.Column{}, false
	}
	text, reason := render(s.snap, n, func(r *renderer, n *pg_query.Node) bool {
		ref := n.GetColumnRef()
		if ref == nil {
			return false
		}
		c, _ := s.column(ref)
		r.write(ident(c.Name))
		return true
	})
	return catalog.Column{Name: text, Type: oidFloat8, TypMod: -1}, reason == ""
}

// widened is the bigint column of a cast of it to numeric, which its sum and average
// make anyway; other nodes are returned as they are.
func (s *scope) widened(n *pg_query.Node) *pg_query.Node {
	if c := n.GetTypeCast(); c != nil && typeNamed(c.TypeName, "numeric") && c.Arg.GetColumnRef() != nil && !s.snap.UserTypes["numeric"] {
		if column, ok := s.column(c.Arg.GetColumnRef()); ok && column.Type == oidInt8 {
			return c.Arg
		}
	}
	return n
}

// float reports whether an expression is arithmetic over columns of type float8 and
// numbers, so that it is of that type itself.
func (s *scope) float(n *pg_query.Node) bool {
	if e := n.GetAExpr(); e != nil {
		switch lastName(e.Name) {
		case "+", "-", "*", "/":
			return e.Kind == pg_query.A_Expr_Kind_AEXPR_OP && e.Lexpr != nil &&
				(s.float(e.Lexpr) && (s.float(e.Rexpr) || isNumber(e.Rexpr)) || isNumber(e.Lexpr) && s.float(e.Rexpr))
		}
		return false
	}
	if ref := n.GetColumnRef(); ref != nil {
		c, ok := s.column(ref)
		return ok && c.Type == oidFloat8
	}
	return false
}

func isNumber(n *pg_query.Node) bool {
	c := n.GetAConst()
	return c.GetIval() != nil || c.GetFval() != nil
}

// isTime reports whether the node is the bare time column.
func (s *scope) isTime(n *pg_query.Node) bool {
	ref := n.GetColumnRef()
	if ref == nil {
		return false
	}
	c, ok := s.column(ref)
	return ok && c.Name == s.hyper.TimeColumn
}

// stringsOf returns the names in a list of String nodes.
func stringsOf(nodes []*pg_query.Node) ([]string, bool) {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		s := n.GetString_()
		if s == nil {
			return nil, false
		}
		out[i] = s.Sval
	}
	return out, true
}
