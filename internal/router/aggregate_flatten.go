package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// flatten puts the one sub-query in FROM that only projects and filters, or the
// WITH query that FROM names, in its place: BI tools wrap tables so. The result is
// s itself, or an equal statement over what the sub-query reads, and the WITH
// queries that its FROM may name.
func flatten(s *pg_query.SelectStmt, ctes *withQueries) (*pg_query.SelectStmt, *withQueries) {
	for len(s.FromClause) == 1 {
		inner, alias, within := projection(s.FromClause[0], ctes)
		if inner == nil {
			break
		}
		merged := merge(s, inner, alias)
		if merged == nil {
			break
		}
		s, ctes = merged, within
	}
	return s, ctes
}

// withQueries are the WITH queries that are visible where a statement stands,
// those of the innermost WITH last.
type withQueries struct {
	outer *withQueries
	list  []*pg_query.CommonTableExpr
}

// named finds a visible WITH query, and those that are visible inside it; nil when
// the name is none's.
func (w *withQueries) named(name string) (*pg_query.CommonTableExpr, *withQueries) {
	for ; w != nil; w = w.outer {
		for i := len(w.list) - 1; i >= 0; i-- {
			if w.list[i].Ctename == name {
				return w.list[i], &withQueries{outer: w.outer, list: w.list[:i]}
			}
		}
	}
	return nil, nil
}

// projection returns the sub-query that a FROM item stands for and the name by
// which its columns are qualified, when it is no more than columns of rows, with the WITH
// queries that are visible inside it.
func projection(from *pg_query.Node, ctes *withQueries) (*pg_query.SelectStmt, string, *withQueries) {
	var s *pg_query.SelectStmt
	alias := ""
	var columns []*pg_query.Node // names given by the alias
	switch sub, rv := from.GetRangeSubselect(), from.GetRangeVar(); {
	case sub != nil:
		s = sub.Subquery.GetSelectStmt()
		alias, columns = sub.GetAlias().GetAliasname(), sub.GetAlias().GetColnames()
		if alias == "" || sub.Lateral {
			return nil, "", nil
		}
	case rv != nil && rv.Schemaname == "" && rv.Catalogname == "" && rv.Inh:
		cte, within := ctes.named(rv.Relname)
		if cte == nil || cte.Cterecursive || cte.SearchClause != nil || cte.CycleClause != nil || len(cte.Aliascolnames) > 0 {
			return nil, "", nil
		}
		s, alias, ctes = cte.Ctequery.GetSelectStmt(), rv.Relname, within
		if rv.Alias != nil {
			alias, columns = rv.Alias.Aliasname, rv.Alias.Colnames
		}
	}
	if s == nil || len(columns) > 0 || s.WithClause != nil || s.Op != pg_query.SetOperation_SETOP_NONE ||
		len(s.DistinctClause)+len(s.GroupClause)+len(s.WindowClause)+len(s.LockingClause)+len(s.ValuesLists) > 0 ||
		s.HavingClause != nil || s.LimitCount != nil || s.LimitOffset != nil || s.IntoClause != nil || len(s.FromClause) != 1 {
		return nil, "", nil
	}
	for _, n := range s.TargetList {
		if !rowWise(n) {
			return nil, "", nil
		}
	}
	return s, alias, ctes
}

// rowWise reports whether an expression gives one value for each row, of that row.
func rowWise(n *pg_query.Node) bool {
	ok := true
	visit(n, func(m any) bool {
		switch x := m.(type) {
		case *pg_query.FuncCall:
			ok = ok && x.Over == nil && scalarFunctions[functionName(x)]
		case *pg_query.SubLink:
			ok = false
		}
		return ok
	})
	return ok
}

// merge returns outer with its references to columns of inner replaced by the
// expressions that those are; nil when one cannot be.
func merge(outer, inner *pg_query.SelectStmt, alias string) *pg_query.SelectStmt {
	m := merger{alias: alias, columns: map[string]*pg_query.Node{}}
	for _, n := range inner.TargetList {
		if !m.column(n.GetResTarget()) {
			return nil
		}
	}
	out := proto.Clone(outer).(*pg_query.SelectStmt)
	outputs := map[string]bool{}
	for _, n := range out.TargetList {
		t := n.GetResTarget()
		if t == nil || t.Val == nil {
			return nil
		}
		if t.Name == "" {
			t.Name = columnName(t.Val)
		}
		outputs[t.Name] = true
	}
	for _, n := range out.SortClause {
		// A bare name in ORDER BY is an output column's first.
		if ref := n.GetSortBy().GetNode().GetColumnRef(); ref != nil && len(ref.Fields) == 1 && outputs[lastName(ref.Fields)] {
			m.keep(ref)
		}
	}
	for _, n := range out.GroupClause {
		// And in GROUP BY when it is no column's of the sub-query.
		if ref := n.GetColumnRef(); ref != nil && len(ref.Fields) == 1 && m.columns[lastName(ref.Fields)] == nil && outputs[lastName(ref.Fields)] {
			m.keep(ref)
		}
	}
	out.FromClause, out.WithClause = nil, nil
	m.replace(out.ProtoReflect())
	if m.failed {
		return nil
	}
	out.FromClause = inner.FromClause
	switch {
	case inner.WhereClause == nil:
	case out.WhereClause == nil:
		out.WhereClause = inner.WhereClause
	default:
		out.WhereClause = &pg_query.Node{Node: &pg_query.Node_BoolExpr{BoolExpr: &pg_query.BoolExpr{
			Boolop: pg_query.BoolExprType_AND_EXPR, Args: []*pg_query.Node{inner.WhereClause, out.WhereClause},
		}}}
	}
	return out
}

// merger replaces references to the columns of a sub-query.
type merger struct {
	alias   string
	star    bool // the sub-query selects * and nothing else: names mean columns of what it reads
	columns map[string]*pg_query.Node
	kept    map[*pg_query.ColumnRef]bool
	failed  bool
}

func (m *merger) keep(ref *pg_query.ColumnRef) {
	if m.kept == nil {
		m.kept = map[*pg_query.ColumnRef]bool{}
	}
	m.kept[ref] = true
}

// column notes an output column of the sub-query. Untyped literals and parameters
// get their type from where they stand, so they stay there.
func (m *merger) column(t *pg_query.ResTarget) bool {
	if t == nil || t.Val == nil || len(t.Indirection) > 0 {
		return false
	}
	if ref := t.Val.GetColumnRef(); ref != nil && len(ref.Fields) > 0 && ref.Fields[len(ref.Fields)-1].GetAStar() != nil {
		if m.star || len(ref.Fields) > 2 || len(m.columns) > 0 {
			return false
		}
		m.star = true
		return true
	}
	if t.Val.GetAConst() != nil || t.Val.GetParamRef() != nil {
		return false
	}
	name := t.Name
	if name == "" {
		name = columnName(t.Val)
	}
	if m.columns[name] != nil || m.star {
		return false // two columns of one name, or one that * has too
	}
	m.columns[name] = t.Val
	return true
}

// replace goes through a message and puts expressions in the place of references.
func (m *merger) replace(msg protoreflect.Message) {
	if n, ok := msg.Interface().(*pg_query.Node); ok {
		if ref := n.GetColumnRef(); ref != nil {
			m.reference(n, ref)
			return
		}
		if n.GetSubLink() != nil || n.GetSelectStmt() != nil {
			m.failed = true // it may mean our columns by bare names
			return
		}
	}
	msg.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() != protoreflect.MessageKind {
			return true
		}
		if !fd.IsList() {
			m.replace(v.Message())
			return true
		}
		for list, i := v.List(), 0; i < list.Len(); i++ {
			m.replace(list.Get(i).Message())
		}
		return true
	})
}

func (m *merger) reference(n *pg_query.Node, ref *pg_query.ColumnRef) {
	names, ok := stringsOf(ref.Fields)
	switch {
	case m.kept[ref]:
		return
	case !ok, len(names) == 0, len(names) > 2, len(names) == 2 && names[0] != m.alias:
		m.failed = true
		return
	}
	name := names[len(names)-1]
	if value := m.columns[name]; value != nil {
		n.Node = proto.Clone(value).(*pg_query.Node).Node
		return
	}
	if !m.star {
		m.failed = true
		return
	}
	ref.Fields = ref.Fields[len(ref.Fields)-1:]
}
