package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// columnName gives the name that PostgreSQL gives an output column without AS, as
// FigureColname in parse_target.c does.
func columnName(n *pg_query.Node) string {
	name, _ := figureName(n)
	if name == "" {
		return "?column?"
	}
	return name
}

// figureName returns the name and its strength: 2 is certain, 1 yields to a better
// one further out, 0 is none.
func figureName(n *pg_query.Node) (string, int) {
	switch v := n.GetNode().(type) {
	case *pg_query.Node_ColumnRef:
		if name := lastName(v.ColumnRef.Fields); name != "" {
			return name, 2
		}
	case *pg_query.Node_FuncCall:
		return functionName(v.FuncCall), 2
	case *pg_query.Node_AExpr:
		if v.AExpr.Kind == pg_query.A_Expr_Kind_AEXPR_NULLIF {
			return "nullif", 2
		}
	case *pg_query.Node_TypeCast:
		name, strength := figureName(v.TypeCast.Arg)
		if strength <= 1 {
			return lastName(v.TypeCast.TypeName.GetNames()), 1
		}
		return name, strength
	case *pg_query.Node_CaseExpr:
		name, strength := figureName(v.CaseExpr.Defresult)
		if strength <= 1 {
			return "case", 1
		}
		return name, strength
	case *pg_query.Node_GroupingFunc:
		return "grouping", 2
	case *pg_query.Node_AArrayExpr:
		return "array", 2
	case *pg_query.Node_CoalesceExpr:
		return "coalesce", 2
	case *pg_query.Node_MinMaxExpr:
		if v.MinMaxExpr.Op == pg_query.MinMaxOp_IS_GREATEST {
			return "greatest", 2
		}
		return "least", 2
	case *pg_query.Node_SqlvalueFunction:
		switch v.SqlvalueFunction.Op {
		case pg_query.SQLValueFunctionOp_SVFOP_CURRENT_DATE:
			return "current_date", 2
		case pg_query.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP:
			return "current_timestamp", 2
		case pg_query.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP:
			return "localtimestamp", 2
		}
	}
	return "", 0
}
