package router

import (
	"strconv"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// integerTypes are those of time columns that count something.
var integerTypes = map[catalog.OID]bool{oidInt8: true, oidInt2: true, oidInt4: true}

const oidInt8 catalog.OID = 20

// integerForm reports whether the node is a function of an integer time column that is
// constant on a grid, and which: time_bucket(n, t [, offset]) and t / n, which
// floor(t / n) * n and its like are made of.
func (b *buckets) integerForm(n *pg_query.Node) (need, bool) {
	if f := n.GetFuncCall(); f != nil && functionName(f) == "time_bucket" && !f.AggStar && f.Over == nil {
		grid, arg, ok := integerGrid(f.Args)
		return need{grid: grid, start: true}, ok && b.scope.isTime(arg)
	}
	e := n.GetAExpr()
	if e == nil || e.Kind != pg_query.A_Expr_Kind_AEXPR_OP || lastName(e.Name) != "/" || len(e.Name) != 1 || !b.scope.isTime(e.Lexpr) {
		return need{}, false
	}
	width, ok := wholeNumber(e.Rexpr)
	if !ok || width < 1 {
		return need{}, false
	}
	return need{grid: rollup.Fixed(width, 0), positive: true}, true
}

// integerGrid returns the grid of time_bucket(width, t [, offset]) over integers and
// the argument that it buckets.
func integerGrid(args []*pg_query.Node) (rollup.Grid, *pg_query.Node, bool) {
	if len(args) < 2 || len(args) > 3 || args[0].GetNamedArgExpr() != nil || args[1].GetNamedArgExpr() != nil {
		return rollup.Grid{}, nil, false
	}
	width, ok := wholeNumber(args[0])
	if !ok || width < 1 {
		return rollup.Grid{}, nil, false
	}
	offset := int64(0)
	if len(args) == 3 {
		third := args[2]
		if named := third.GetNamedArgExpr(); named != nil {
			if named.Name != "offset" {
				return rollup.Grid{}, nil, false
			}
			third = named.Arg
		}
		if offset, ok = wholeNumber(third); !ok {
			return rollup.Grid{}, nil, false
		}
	}
	return rollup.Fixed(width, offset), args[1], true
}

// largestInteger bounds the integers that planning follows: sums and differences of
// several stay far from overflow.
const largestInteger = -rollup.MinTime

// wholeNumber is constInteger without quoted literals, whose type depends on where
// they stand.
func wholeNumber(n *pg_query.Node) (int64, bool) {
	if n.GetAConst().GetSval() != nil {
		return 0, false
	}
	return constInteger(n)
}

// constInteger evaluates an integer literal, also a quoted one, casts of it, and sums
// and differences. It need not be right for a bound, which the guard proves.
func constInteger(n *pg_query.Node) (int64, bool) {
	switch v := n.GetNode().(type) {
	case *pg_query.Node_AConst:
		switch {
		case v.AConst.Isnull:
		case v.AConst.GetIval() != nil:
			return int64(v.AConst.GetIval().Ival), true
		case v.AConst.GetFval() != nil:
			return parseInteger(v.AConst.GetFval().Fval)
		case v.AConst.GetSval() != nil:
			return parseInteger(v.AConst.GetSval().Sval)
		}
	case *pg_query.Node_TypeCast:
		if integerType(v.TypeCast.TypeName) {
			return constInteger(v.TypeCast.Arg)
		}
	case *pg_query.Node_AExpr:
		if v.AExpr.Kind != pg_query.A_Expr_Kind_AEXPR_OP || len(v.AExpr.Name) != 1 {
			return 0, false
		}
		var left int64
		right, ok := constInteger(v.AExpr.Rexpr)
		if v.AExpr.Lexpr != nil && ok {
			left, ok = constInteger(v.AExpr.Lexpr)
		}
		switch sum := left + right; lastName(v.AExpr.Name) {
		case "-":
			sum = left - right
			return sum, ok && within(sum)
		case "+":
			return sum, ok && within(sum)
		}
	}
	return 0, false
}

func integerType(t *pg_query.TypeName) bool {
	return typeNamed(t, "int2") || typeNamed(t, "int4") || typeNamed(t, "int8")
}

func parseInteger(s string) (int64, bool) {
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil && within(v)
}

func within(v int64) bool { return v <= largestInteger && v >= -largestInteger }
