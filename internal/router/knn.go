package router

import (
	"slices"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// A k-NN query's answer may be kept when it is a function of the text, the
// parameters' bytes, the settings, the role and the rows: no clock, no sequence,
// no session. So each expression must be of a form that is known to be immutable;
// all others refuse. Literals and parameters are compared only with columns whose
// type reads text without looking at the clock (trap T5).

// distances are the operators that order by distance, with the distance's type.
var distances = words("<-> <#> <=> <+> <~> <%>")

// nearest returns what a SELECT sorts by first when it is a distance, nil otherwise.
func nearest(n *pg_query.SelectStmt) *pg_query.A_Expr { return distance(sortedBy(n)) }

// sortedBy returns the expression that a SELECT sorts by first: one that stands in ORDER
// BY, or the output column that is named or counted there; nil: there is none, or it
// cannot be told.
func sortedBy(n *pg_query.SelectStmt) *pg_query.Node {
	if n == nil || len(n.SortClause) == 0 {
		return nil
	}
	by := n.SortClause[0].GetSortBy().GetNode()
	if i := by.GetAConst().GetIval(); i != nil {
		for at, t := range n.TargetList {
			f := t.GetResTarget().GetVal().GetColumnRef().GetFields()
			switch {
			case len(f) > 0 && f[len(f)-1].GetAStar() != nil:
				return nil // nobody counts its columns here
			case at+1 == int(i.Ival):
				return t.GetResTarget().GetVal()
			}
		}
		return nil
	}
	if t := outputNamed(n, by); t != nil {
		return t.Val
	}
	return by
}

// outputNamed returns the output column that a name in ORDER BY means before it means a column
// of the table; where several have that name and are not equal the server refuses.
func outputNamed(n *pg_query.SelectStmt, by *pg_query.Node) *pg_query.ResTarget {
	f := by.GetColumnRef().GetFields()
	if len(f) != 1 || f[0].GetString_() == nil {
		return nil
	}
	for _, t := range n.TargetList {
		if r := t.GetResTarget(); r.GetName() == f[0].GetString_().Sval {
			return r
		}
	}
	return nil
}

// counts reports whether a SELECT with a distance among its output columns sorts by the
// number of one, so that literals have a say in what it sorts by.
func counts(n *pg_query.SelectStmt) bool {
	return slices.ContainsFunc(n.SortClause, func(s *pg_query.Node) bool { return s.GetSortBy().GetNode().GetAConst() != nil }) &&
		slices.ContainsFunc(n.TargetList, func(t *pg_query.Node) bool { return distance(t.GetResTarget().GetVal()) != nil })
}

// distance returns a node that applies a distance operator, nil otherwise.
func distance(n *pg_query.Node) *pg_query.A_Expr {
	e := n.GetAExpr()
	if e == nil || e.Kind != pg_query.A_Expr_Kind_AEXPR_OP || e.Lexpr == nil {
		return nil
	}
	if _, name, ok := qualified(e.Name); !ok || !distances[name] {
		return nil
	}
	return e
}

// knn recognises SELECT … FROM t [JOIN …] [WHERE …] ORDER BY column <op> vector LIMIT k.
// The statement has been surveyed and is clean; text is its own, nil where it stands for
// another one.
func knn(n *pg_query.SelectStmt, c *Context, v *view, text []byte) (*KNN, Reason) {
	switch {
	case n.Op != pg_query.SetOperation_SETOP_NONE, n.WithClause != nil, n.IntoClause != nil,
		len(n.DistinctClause) > 0, len(n.GroupClause) > 0, n.HavingClause != nil,
		len(n.WindowClause) > 0, len(n.LockingClause) > 0, len(n.ValuesLists) > 0, len(n.FromClause) != 1:
		return nil, ReasonKNNForm
	case v.snap.InRecovery:
		return nil, ReasonKNNInRecovery
	}
	t := &neighbours{c: c, view: v, snap: v.snap}
	if reason := t.from(n.FromClause[0]); reason != "" {
		return nil, reason
	}
	switch {
	case n.LimitOffset != nil && !t.limit(n.LimitOffset), n.LimitOption == pg_query.LimitOption_LIMIT_OPTION_WITH_TIES, !t.limit(n.LimitCount):
		return nil, ReasonKNNLimit
	}
	for i, s := range n.SortClause {
		by := s.GetSortBy()
		if len(by.UseOp) > 0 {
			return nil, ReasonKNNOrder
		}
		if i == 0 && !t.isDistance(sortedBy(n)) || i > 0 && !t.isColumn(by.Node) && by.Node.GetAConst().GetIval() == nil && outputNamed(n, by.Node) == nil {
			return nil, ReasonKNNOrder
		}
	}
	for _, target := range n.TargetList {
		if !t.output(target.GetResTarget().GetVal()) {
			return nil, ReasonKNNOutput
		}
	}
	if n.WhereClause != nil && !t.condition(n.WhereClause) {
		return nil, ReasonKNNFilter
	}
	e := nearest(n)
	_, op, _ := qualified(e.Name)
	first := t.of(e.Lexpr)
	if first == nil || !t.hasDistance(e.Lexpr, op) {
		first = t.of(e.Rexpr)
	}
	k := &KNN{Table: first.Name.Schema + "." + first.Name.Name, Operator: op, Tables: []catalog.OID{first.OID}}
	for _, oid := range t.reads {
		if !slices.Contains(k.Tables, oid) {
			k.Tables = append(k.Tables, oid)
		}
	}
	k.Proof = strings.Join(t.proof, " AND ")
	k.Once = len(t.reads) == 1
	if text != nil && k.Once {
		k.Spots = t.spots(n, text, c.ConformingStrings)
	}
	return k, ReasonKNN
}

// neighbours are the tables of a k-NN query: the one whose rows it orders, and what is
// joined to it.
type neighbours struct {
	c       *Context
	view    *view
	snap    *catalog.Snapshot
	sources []source
	using   map[string]bool // columns that a join has merged
	reads   []catalog.OID   // every table that was found, those of sub-queries too
	proof   proof           // that the server finds the same
}

// source is a table and what its columns may be qualified by.
type source struct {
	rel *catalog.Relation
	as  string
}

// column returns the column of a table that a node names.
func (t *neighbours) column(n *pg_query.Node) (catalog.Column, bool) {
	col, _ := t.find(n)
	return col, col.Name != ""
}

// of returns the table whose column a node names, nil without one.
func (t *neighbours) of(n *pg_query.Node) *catalog.Relation {
	_, rel := t.find(n)
	return rel
}

func (t *neighbours) find(n *pg_query.Node) (col catalog.Column, rel *catalog.Relation) {
	f := n.GetColumnRef().GetFields()
	if len(f) != 1 && len(f) != 2 {
		return col, nil
	}
	name := f[len(f)-1].GetString_().GetSval()
	for _, s := range t.sources {
		if len(f) == 2 && f[0].GetString_().GetSval() != s.as {
			continue
		}
		c, ok := s.rel.Column(name)
		switch {
		case !ok:
		case rel == nil:
			col, rel = c, s.rel
		case len(f) == 2 || !t.using[name]:
			return catalog.Column{}, nil // either
		}
	}
	return col, rel
}

func (t *neighbours) isColumn(n *pg_query.Node) bool {
	_, ok := t.column(n)
	return ok
}

// isDistance accepts column <op> vector and vector <op> column.
func (t *neighbours) isDistance(n *pg_query.Node) bool {
	e := distance(n)
	if e == nil {
		return false
	}
	_, op, _ := qualified(e.Name)
	return t.hasDistance(e.Lexpr, op) && t.isVector(e.Rexpr) || t.isVector(e.Lexpr) && t.hasDistance(e.Rexpr, op)
}

// firstNormalOID is where the identifiers of types begin that are not built in,
// as pgvector's are (FirstNormalObjectId in transam.h).
const firstNormalOID catalog.OID = 16384

// bitOID is the built-in type bit, and bitDistances the operators that pgvector has for
// it.
const bitOID catalog.OID = 1560

var bitDistances = words("<~> <%>")

// hasDistance accepts a column of a type that an operator may be the distance of.
func (t *neighbours) hasDistance(n *pg_query.Node, op string) bool {
	col, ok := t.column(n)
	return ok && (col.Type >= firstNormalOID || col.Type == bitOID && bitDistances[op])
}

func (t *neighbours) isVectorColumn(n *pg_query.Node) bool {
	col, ok := t.column(n)
	return ok && col.Type >= firstNormalOID
}

// isVector accepts what isVector does, a call of an immutable function of the platform,
// and a vector of a table's row.
func (t *neighbours) isVector(n *pg_query.Node) bool {
	return isVector(n) || n.GetFuncCall() != nil && t.settled(n) || t.row(n.GetSubLink())
}

// isVector accepts a literal or parameter, bare or cast to one of pgvector's
// types.
func isVector(n *pg_query.Node) bool {
	if cast := n.GetTypeCast(); cast != nil {
		_, name, ok := qualified(cast.TypeName.GetNames())
		if !ok || !vectorTypes[name] && name != "bit" || len(cast.TypeName.ArrayBounds) > 0 {
			return false
		}
		n = cast.Arg
	}
	return n.GetParamRef() != nil || n.GetAConst().GetSval() != nil || n.GetAConst().GetBsval() != nil
}

// limit accepts a number or parameter, and what a function of the platform checks its
// arguments by.
func (t *neighbours) limit(n *pg_query.Node) bool {
	return n.GetParamRef() != nil || n.GetAConst().GetIval() != nil || n.GetCoalesceExpr() != nil && t.settled(n)
}

// output accepts *, columns, distances, and arithmetic on them.
func (t *neighbours) output(n *pg_query.Node) bool {
	if f := n.GetColumnRef().GetFields(); len(f) > 0 && f[len(f)-1].GetAStar() != nil {
		return len(f) == 1 || len(f) == 2 && slices.ContainsFunc(t.sources, func(s source) bool { return s.as == f[0].GetString_().GetSval() })
	}
	return t.isColumn(n) || t.number(n)
}

// arithmetic has the operators and functions that give a number from numbers,
// immutably.
var (
	arithmeticOperators = words("+ - * / %")
	arithmeticFunctions = words("abs round ceil ceiling floor trunc sqrt power exp ln greatest least " +
		"l2_distance cosine_distance inner_product l1_distance vector_dims vector_norm l2_norm")
	vectorArguments = words("l2_distance cosine_distance inner_product l1_distance vector_dims vector_norm l2_norm")
	numberTypes     = words("int2 int4 int8 float4 float8 numeric")
)

// number accepts an expression over numbers: numeric literals and columns,
// distances, arithmetic, and casts to a number.
func (t *neighbours) number(n *pg_query.Node) bool {
	if t.isDistance(n) || n.GetAConst().GetIval() != nil || n.GetAConst().GetFval() != nil {
		return true
	}
	if col, ok := t.column(n); ok {
		return numeric[col.Type]
	}
	if e := n.GetAExpr(); e != nil {
		_, name, ok := qualified(e.Name)
		return ok && e.Kind == pg_query.A_Expr_Kind_AEXPR_OP && arithmeticOperators[name] &&
			(e.Lexpr == nil || t.number(e.Lexpr)) && t.number(e.Rexpr)
	}
	if cast := n.GetTypeCast(); cast != nil {
		_, name, ok := qualified(cast.TypeName.GetNames())
		return ok && numberTypes[name] && len(cast.TypeName.ArrayBounds) == 0 && t.number(cast.Arg)
	}
	if f := n.GetFuncCall(); f != nil {
		return t.call(f)
	}
	if list := n.GetMinMaxExpr().GetArgs(); list != nil {
		return t.numbers(list)
	}
	if list := n.GetCoalesceExpr().GetArgs(); list != nil {
		return t.numbers(list)
	}
	return false
}

func (t *neighbours) numbers(list []*pg_query.Node) bool {
	for _, n := range list {
		if !t.number(n) {
			return false
		}
	}
	return true
}

func (t *neighbours) call(f *pg_query.FuncCall) bool {
	_, name, ok := qualified(f.Funcname)
	if !ok || !arithmeticFunctions[name] || f.Over != nil || f.AggFilter != nil || len(f.AggOrder) > 0 || f.FuncVariadic {
		return false
	}
	if !vectorArguments[name] {
		return t.numbers(f.Args)
	}
	for _, a := range f.Args {
		if !t.isVectorColumn(a) && !isVector(a) {
			return false
		}
	}
	return true
}
