package router

import (
	"slices"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// numeric are the types of numbers: int8, int2, int4, float4, float8, numeric.
var numeric = map[catalog.OID]bool{20: true, 21: true, 23: true, 700: true, 701: true, 1700: true}

// steady are the types whose values read the same at any moment and under any
// setting, and compare by built-in immutable operators: numbers, bool, char,
// name, text, bpchar, varchar, uuid.
var steady = map[catalog.OID]bool{
	16: true, 18: true, 19: true, 20: true, 21: true, 23: true, 25: true, 700: true, 701: true,
	1042: true, 1043: true, 1700: true, 2950: true,
}

// steadyTypes are the types that a literal in a condition may be cast to.
var steadyTypes = words("int2 int4 int8 float4 float8 numeric bool text varchar bpchar uuid")

const (
	oidJSON  catalog.OID = 114
	oidJSONB catalog.OID = 3802
)

// condition accepts AND, OR and NOT over comparisons of a column with literals
// and parameters.
func (t *neighbours) condition(n *pg_query.Node) bool {
	if b := n.GetBoolExpr(); b != nil {
		for _, a := range b.Args {
			if !t.condition(a) {
				return false
			}
		}
		return true
	}
	if x := n.GetNullTest(); x != nil {
		return t.isColumn(x.Arg) || x.Arg.GetParamRef() != nil
	}
	if x := n.GetBooleanTest(); x != nil {
		return t.isBool(x.Arg)
	}
	if e := n.GetAExpr(); e != nil {
		return t.comparison(e)
	}
	return t.isBool(n) || n.GetAConst().GetBoolval() != nil
}

func (t *neighbours) isBool(n *pg_query.Node) bool {
	col, ok := t.column(n)
	return ok && col.Type == 16
}

var (
	comparisonOperators = words("= <> != < <= > >= ~ !~ ~* !~* ~~ !~~ ~~* !~~*")
	containment         = words("@> <@ ? ?| ?&")
)

func (t *neighbours) comparison(e *pg_query.A_Expr) bool {
	switch e.Kind {
	case pg_query.A_Expr_Kind_AEXPR_IN:
		return t.steady(e.Lexpr) && values(e.Rexpr.GetList().GetItems())
	case pg_query.A_Expr_Kind_AEXPR_BETWEEN, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN,
		pg_query.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		return (t.steady(e.Lexpr) || t.number(e.Lexpr)) && values(e.Rexpr.GetList().GetItems())
	case pg_query.A_Expr_Kind_AEXPR_OP_ANY, pg_query.A_Expr_Kind_AEXPR_OP_ALL:
		// = ANY ($1), = ANY ('{…}'), = ANY (ARRAY[…]): elements read as the column.
		return t.steady(e.Lexpr) && (value(e.Rexpr) || values(e.Rexpr.GetAArrayExpr().GetElements()))
	case pg_query.A_Expr_Kind_AEXPR_OP, pg_query.A_Expr_Kind_AEXPR_DISTINCT, pg_query.A_Expr_Kind_AEXPR_NOT_DISTINCT,
		pg_query.A_Expr_Kind_AEXPR_LIKE, pg_query.A_Expr_Kind_AEXPR_ILIKE:
	default:
		return false
	}
	_, name, ok := qualified(e.Name)
	switch {
	case !ok:
		return false
	case containment[name]:
		col, ok := t.column(e.Lexpr)
		return ok && col.Type == oidJSONB && value(e.Rexpr)
	case !comparisonOperators[name]:
		return false
	}
	return t.operand(e.Lexpr) && value(e.Rexpr) || value(e.Lexpr) && t.operand(e.Rexpr) ||
		t.steady(e.Lexpr) && t.steady(e.Rexpr)
}

// operand accepts what a literal or parameter may be compared with.
func (t *neighbours) operand(n *pg_query.Node) bool { return t.steady(n) || t.number(n) }

// steady accepts a column of a steady type, or a member of a JSON column as text.
func (t *neighbours) steady(n *pg_query.Node) bool {
	if col, ok := t.column(n); ok {
		return steady[col.Type]
	}
	e := n.GetAExpr()
	if e == nil || e.Kind != pg_query.A_Expr_Kind_AEXPR_OP {
		return false
	}
	_, name, ok := qualified(e.Name)
	return ok && (name == "->>" || name == "#>>") && t.member(e.Lexpr) && key(e.Rexpr)
}

// member accepts a JSON column or a member of one.
func (t *neighbours) member(n *pg_query.Node) bool {
	if col, ok := t.column(n); ok {
		return col.Type == oidJSON || col.Type == oidJSONB
	}
	e := n.GetAExpr()
	if e == nil || e.Kind != pg_query.A_Expr_Kind_AEXPR_OP {
		return false
	}
	_, name, ok := qualified(e.Name)
	return ok && (name == "->" || name == "#>") && t.member(e.Lexpr) && key(e.Rexpr)
}

// key accepts the name or number of a JSON member.
func key(n *pg_query.Node) bool {
	c := n.GetAConst()
	return c.GetSval() != nil || c.GetIval() != nil
}

// settledFunctions give what depends on their arguments alone.
var settledFunctions = words("char_length vector_dims")

// settled accepts expressions that depend on literals and parameters alone: what the
// checks of a function's arguments are made of.
func (t *neighbours) settled(n *pg_query.Node) bool {
	all := func(list []*pg_query.Node) bool {
		return !slices.ContainsFunc(list, func(n *pg_query.Node) bool { return !t.settled(n) })
	}
	switch {
	case n.GetAConst() != nil, n.GetParamRef() != nil:
		return true
	case n.GetTypeCast() != nil:
		_, name, ok := qualified(n.GetTypeCast().TypeName.GetNames())
		return ok && (steadyTypes[name] || vectorTypes[name]) && t.settled(n.GetTypeCast().Arg)
	case n.GetNullTest() != nil:
		return t.settled(n.GetNullTest().Arg)
	case n.GetBoolExpr() != nil:
		return all(n.GetBoolExpr().Args)
	case n.GetCoalesceExpr() != nil:
		return all(n.GetCoalesceExpr().Args)
	case n.GetCaseExpr() != nil:
		c := n.GetCaseExpr()
		for _, w := range c.Args {
			if !t.settled(w.GetCaseWhen().GetExpr()) || !t.settled(w.GetCaseWhen().GetResult()) {
				return false
			}
		}
		return (c.Arg == nil || t.settled(c.Arg)) && (c.Defresult == nil || t.settled(c.Defresult))
	case n.GetAExpr() != nil:
		e := n.GetAExpr()
		_, name, ok := qualified(e.Name)
		list := e.Rexpr.GetList().GetItems()
		switch e.Kind {
		case pg_query.A_Expr_Kind_AEXPR_OP:
			return ok && (comparisonOperators[name] || arithmeticOperators[name] || name == "||") && (e.Lexpr == nil || t.settled(e.Lexpr)) && t.settled(e.Rexpr)
		case pg_query.A_Expr_Kind_AEXPR_IN, pg_query.A_Expr_Kind_AEXPR_BETWEEN, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN:
			return t.settled(e.Lexpr) && len(list) > 0 && all(list)
		}
	case n.GetFuncCall() != nil:
		f := n.GetFuncCall()
		_, name, _ := qualified(f.Funcname)
		return (settledFunctions[name] || immutableFunction(t.snap, f.Funcname)) && f.Over == nil && f.AggFilter == nil && !f.FuncVariadic && !f.AggStar && all(f.Args)
	}
	return false
}

// value accepts a literal, a parameter, or a literal cast to a steady type. A
// parameter that is cast is not accepted: the client may declare it a timestamp,
// whose text form may mean now.
func value(n *pg_query.Node) bool {
	if cast := n.GetTypeCast(); cast != nil {
		_, name, ok := qualified(cast.TypeName.GetNames())
		return ok && steadyTypes[name] && len(cast.TypeName.ArrayBounds) == 0 && cast.Arg.GetAConst() != nil
	}
	if e := n.GetAExpr(); e != nil { // -1
		_, name, ok := qualified(e.Name)
		return ok && name == "-" && e.Lexpr == nil && e.Rexpr.GetAConst() != nil
	}
	return n.GetAConst() != nil || n.GetParamRef() != nil
}

func values(list []*pg_query.Node) bool {
	if len(list) == 0 {
		return false
	}
	for _, n := range list {
		if !value(n) {
			return false
		}
	}
	return true
}
