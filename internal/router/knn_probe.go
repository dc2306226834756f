package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"qvpgw/internal/catalog"
)

// Probe is a k-NN query that tells, in two columns behind its own, how far each row is
// and which row it is.
type Probe struct {
	SQL string

	Operator string
	Column   string      // whose distance is taken
	Type     catalog.OID // its type
	// The vector: the text of a literal, or the number of a parameter; Cast is the name
	// of the type that it is cast to, "" without.
	Literal string
	Param   int
	Cast    string
	// The number of rows that it is limited to: a literal, or with LimitParam the value of
	// that parameter; -1 and 0 when it is neither.
	Limit      int64
	LimitParam int
	// Skips says that the answer leaves rows out that are nearer.
	Skips bool
}

// hiddenName is what columns behind the client's are called: ORDER BY must not find in
// them what it means in the client's.
const hiddenName = "qvpgw hidden"

// Probe returns the probe of a text whose plan is Cached, by the column that names the
// table's rows; false: it has none, or the order is not from the nearest on.
func (r *Router) Probe(c *Context, text []byte, key string) (Probe, bool) {
	p, tree, name, ok := r.probe(c, text, key)
	if !ok || key == "" {
		return Probe{}, false
	}
	sel := tree.Stmts[0].Stmt.GetSelectStmt()
	sel.TargetList = append(
		sel.TargetList,
		target(hiddenName, proto.Clone(sortedBy(sel)).(*pg_query.Node)),
		target(hiddenName, pg_query.MakeColumnRefNode([]*pg_query.Node{pg_query.MakeStrNode(name), pg_query.MakeStrNode(key)}, -1)),
	)
	var err error
	if p.SQL, err = pg_query.Deparse(tree); err != nil {
		return Probe{}, false
	}
	return p, true
}

// probe reads a text for Probe, without SQL; key is a column that the table must have,
// "" for none. name is what the table is called in the text.
func (r *Router) probe(c *Context, text []byte, key string) (p Probe, tree *pg_query.ParseResult, name string, ok bool) {
	tree, err := pg_query.Parse(string(text))
	if err != nil || len(tree.Stmts) != 1 {
		return p, nil, "", false
	}
	sel := tree.Stmts[0].Stmt.GetSelectStmt()
	e := nearest(sel)
	if e == nil || len(sel.FromClause) != 1 {
		return p, nil, "", false
	}
	from := sel.FromClause[0].GetRangeVar()
	by := sel.SortClause[0].GetSortBy()
	if from == nil || by.SortbyDir != pg_query.SortByDir_SORTBY_DEFAULT && by.SortbyDir != pg_query.SortByDir_SORTBY_ASC ||
		by.SortbyNulls == pg_query.SortByNulls_SORTBY_NULLS_FIRST {
		return p, nil, "", false
	}
	v := r.current().view
	found, _ := v.relations(c, true, from.Schemaname, from.Relname)
	if len(found) != 1 {
		return p, nil, "", false
	}
	name = from.Relname
	if from.Alias != nil {
		name = from.Alias.Aliasname
	}
	t := &neighbours{snap: v.snap, sources: []source{{found[0], name}}}
	_, p.Operator, _ = qualified(e.Name)
	vector := e.Rexpr
	col, ok := t.column(e.Lexpr)
	if !ok || !t.hasDistance(e.Lexpr, p.Operator) {
		vector = e.Lexpr
		if col, ok = t.column(e.Rexpr); !ok {
			return p, nil, "", false
		}
	}
	p.Column, p.Type = col.Name, col.Type
	if cast := vector.GetTypeCast(); cast != nil {
		_, p.Cast, _ = qualified(cast.TypeName.GetNames())
		vector = cast.Arg
	}
	switch {
	case vector.GetParamRef() != nil:
		p.Param = int(vector.GetParamRef().Number)
	case vector.GetAConst().GetSval() != nil:
		p.Literal = vector.GetAConst().GetSval().Sval
	default:
		return p, nil, "", false
	}
	p.Skips = sel.LimitOffset != nil
	p.Limit = -1
	switch n := sel.LimitCount; {
	case n.GetParamRef() != nil:
		p.LimitParam = int(n.GetParamRef().Number)
	case n.GetAConst().GetIval() != nil:
		p.Limit = int64(n.GetAConst().GetIval().Ival)
	}
	if _, ok := found[0].Column(key); key != "" && !ok {
		return p, nil, "", false
	}
	return p, tree, name, true
}
