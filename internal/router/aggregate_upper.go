package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// parseUpper reads the definition of an aggregate over another one, of which under
// says what its columns mean; nil when it is not of the followed form.
func parseUpper(snap *catalog.Snapshot, under *rollup.View, a *catalog.Aggregate) *rollup.View {
	s := definition(a)
	if s == nil {
		return nil
	}
	rv := s.FromClause[0].GetRangeVar()
	name := under.Aggregate.View
	if rv == nil || rv.Relname != name.Name || rv.Schemaname != "" && rv.Schemaname != name.Schema {
		return nil
	}
	u := upperParser{
		snap: snap, under: under, alias: rv.Relname, partials: map[string]rollup.Partial{}, dims: map[string]string{},
		view: &rollup.View{
			Aggregate: a, Root: under.Root, Under: append([]*catalog.Aggregate{under.Aggregate}, under.Under...),
			Dims: map[string]string{}, Partials: map[rollup.Partial]string{},
		},
	}
	if rv.Alias != nil {
		u.alias = rv.Alias.Aliasname
	}
	for p, column := range under.Partials {
		u.partials[column] = p
	}
	for raw, column := range under.Dims {
		u.dims[column] = raw
	}
	for _, n := range s.TargetList {
		u.output(n.GetResTarget())
	}
	for _, n := range s.GroupClause {
		if !u.group(n) {
			return nil
		}
	}
	if !u.bucketed || u.view.Bucket == "" || under.Extra || !under.Grid.Refines(u.view.Grid) {
		return nil
	}
	u.view.Extra = len(u.view.Dims) < u.grouped
	return u.view
}

type upperParser struct {
	snap     *catalog.Snapshot
	under    *rollup.View
	alias    string
	partials map[string]rollup.Partial // by column of the aggregate under this one
	dims     map[string]string         // columns of the hypertable, likewise
	view     *rollup.View
	bucketed bool
	grouped  int // columns in GROUP BY besides the bucket
}

// column returns the column of the aggregate under this one that a node is.
func (u *upperParser) column(n *pg_query.Node) (string, bool) {
	names, ok := stringsOf(n.GetColumnRef().GetFields())
	if !ok || len(names) == 0 || len(names) > 2 || len(names) == 2 && names[0] != u.alias {
		return "", false
	}
	return names[len(names)-1], true
}

func (u *upperParser) bucket(n *pg_query.Node) (rollup.Grid, bool) {
	f := n.GetFuncCall()
	if f == nil || functionName(f) != "time_bucket" || u.snap.UserFunctions["time_bucket"] {
		return rollup.Grid{}, false
	}
	grid, arg, ok := bucketGrid(f.Args)
	if !ok {
		return rollup.Grid{}, false
	}
	name, ok := u.column(arg)
	return grid, ok && name == u.under.Bucket
}

func (u *upperParser) output(t *pg_query.ResTarget) {
	if t == nil || t.Val == nil {
		return
	}
	name := t.Name
	if name == "" {
		name = columnName(t.Val)
	}
	column, ok := storedColumn(u.view.Aggregate, name)
	if !ok {
		return
	}
	if source, ok := u.column(t.Val); ok {
		if raw, ok := u.dims[source]; ok {
			u.view.Dims[raw] = name
		}
		return
	}
	if _, ok := u.bucket(t.Val); ok {
		u.view.Bucket = name
		return
	}
	n := t.Val
	if c := n.GetTypeCast(); c != nil && (typeNamed(c.TypeName, "int8") || typeNamed(c.TypeName, "bigint")) {
		n = c.Arg // the sum of counts is numeric
	}
	f := n.GetFuncCall()
	if f == nil || f.AggStar || f.AggFilter != nil || f.AggDistinct || len(f.AggOrder) > 0 || f.AggWithinGroup || f.Over != nil ||
		u.snap.UserFunctions[functionName(f)] {
		return
	}
	if p, ok := u.partial(f); ok && u.typed(p, column) {
		u.view.Partials[p] = name
	}
}

// partial is what a call over columns of the aggregate under this one gives of the
// hypertable: the sum of sums is a sum, the sum of counts a count.
func (u *upperParser) partial(f *pg_query.FuncCall) (rollup.Partial, bool) {
	fn, ok := rollup.FuncNamed(functionName(f))
	if !ok || len(f.Args) == 0 {
		return rollup.Partial{}, false
	}
	source, ok := u.column(f.Args[0])
	p, known := u.partials[source]
	if !ok || !known {
		return rollup.Partial{}, false
	}
	switch {
	case fn == rollup.Sum && len(f.Args) == 1 && (p.Func == rollup.Sum || p.Func == rollup.Count):
		return p, true
	case (fn == rollup.First || fn == rollup.Last) && len(f.Args) == 2 && p.Func == fn:
		order, ok := u.column(f.Args[1])
		moment := u.partials[order]
		first := moment.Func == rollup.Min && fn == rollup.First || moment.Func == rollup.Max && fn == rollup.Last
		hyper := u.snap.Hypertables[u.view.Root]
		return p, ok && (order == u.under.Bucket || first && hyper != nil && moment.Column == hyper.TimeColumn)
	case len(f.Args) == 1 && p.Func == fn && (fn == rollup.Min || fn == rollup.Max || fn >= rollup.BoolAnd):
		return p, true
	}
	return rollup.Partial{}, false
}

// typed reports whether the column has the type that the partial has over raw rows:
// the two come together in one column.
func (u *upperParser) typed(p rollup.Partial, column catalog.Column) bool {
	source, ok := storedColumn(u.under.Aggregate, u.under.Partials[p])
	return ok && source.Type == column.Type
}

func (u *upperParser) group(n *pg_query.Node) bool {
	if grid, ok := u.bucket(n); ok {
		if u.bucketed {
			return false
		}
		u.bucketed, u.view.Grid = true, grid
		return true
	}
	u.grouped++
	source, ok := u.column(n)
	return ok && u.dims[source] != ""
}

// storedColumn finds a column of an aggregate's materialization.
func storedColumn(a *catalog.Aggregate, name string) (catalog.Column, bool) {
	for _, c := range a.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return catalog.Column{}, false
}

// definition parses an aggregate's definition; nil when it is not of the followed
// form: one table, no condition, nothing but groups.
func definition(a *catalog.Aggregate) *pg_query.SelectStmt {
	if !a.Finalized || a.BucketTimeZone != "" {
		return nil
	}
	tree, err := pg_query.Parse(a.Definition)
	if err != nil || len(tree.Stmts) != 1 {
		return nil
	}
	s := tree.Stmts[0].Stmt.GetSelectStmt()
	if s == nil || plainSelect(s) != "" || len(s.DistinctClause)+len(s.WindowClause) > 0 || len(s.FromClause) != 1 ||
		s.WhereClause != nil || s.HavingClause != nil || s.LimitCount != nil || s.LimitOffset != nil {
		return nil
	}
	return s
}
