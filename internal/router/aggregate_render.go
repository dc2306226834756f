package router

import (
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// OIDs of types in pg_catalog.
const (
	oidFloat8      catalog.OID = 701
	oidTimestamp   catalog.OID = 1114
	oidTimestamptz catalog.OID = 1184
)

// renderer writes expressions as SQL. It knows a closed set of nodes, built-in
// operators, types and functions; anything else sets reason, after which the text
// is worthless. Every sub-expression is in parentheses where precedence could
// matter, and names are quoted and spelled as the user spelled them, so that the
// session resolves them as it would have resolved the original's.
type renderer struct {
	strings.Builder
	snap   *catalog.Snapshot
	reason Reason // the first obstacle, "" so far
	// replace may write another text for a node; it reports whether it did, or set
	// reason.
	replace func(r *renderer, n *pg_query.Node) bool
}

// render returns the node's text.
func render(snap *catalog.Snapshot, n *pg_query.Node, replace func(*renderer, *pg_query.Node) bool) (string, Reason) {
	r := renderer{snap: snap, replace: replace}
	r.Grow(64) // most texts
	r.expr(n)
	return r.String(), r.reason
}

func (r *renderer) fail(reason Reason) {
	if r.reason == "" {
		r.reason = reason
	}
}

func (r *renderer) write(parts ...string) {
	for _, p := range parts {
		r.WriteString(p)
	}
}

func (r *renderer) expr(n *pg_query.Node) {
	if r.reason != "" {
		return
	}
	if r.replace != nil && r.replace(r, n) || r.reason != "" {
		return
	}
	switch v := n.GetNode().(type) {
	case *pg_query.Node_ColumnRef:
		r.columnRef(v.ColumnRef)
	case *pg_query.Node_AConst:
		r.constant(v.AConst)
	case *pg_query.Node_ParamRef:
		if v.ParamRef.Number < 1 {
			r.fail(ReasonAggExpression)
		}
		r.write("$", strconv.Itoa(int(v.ParamRef.Number)))
	case *pg_query.Node_TypeCast:
		r.write("CAST(")
		r.expr(v.TypeCast.Arg)
		r.write(" AS ")
		r.typeName(v.TypeCast.TypeName)
		r.write(")")
	case *pg_query.Node_AExpr:
		r.operator(v.AExpr)
	case *pg_query.Node_BoolExpr:
		r.boolean(v.BoolExpr)
	case *pg_query.Node_NullTest:
		r.write("(")
		r.expr(v.NullTest.Arg)
		if v.NullTest.Nulltesttype == pg_query.NullTestType_IS_NULL {
			r.write(" IS NULL)")
		} else {
			r.write(" IS NOT NULL)")
		}
	case *pg_query.Node_BooleanTest:
		r.booleanTest(v.BooleanTest)
	case *pg_query.Node_CaseExpr:
		r.caseExpr(v.CaseExpr)
	case *pg_query.Node_CoalesceExpr:
		r.list("COALESCE(", v.CoalesceExpr.Args, ")")
	case *pg_query.Node_MinMaxExpr:
		if v.MinMaxExpr.Op == pg_query.MinMaxOp_IS_GREATEST {
			r.list("GREATEST(", v.MinMaxExpr.Args, ")")
		} else {
			r.list("LEAST(", v.MinMaxExpr.Args, ")")
		}
	case *pg_query.Node_SqlvalueFunction:
		r.valueFunction(v.SqlvalueFunction)
	case *pg_query.Node_FuncCall:
		r.function(v.FuncCall)
	case *pg_query.Node_NamedArgExpr:
		r.write(ident(v.NamedArgExpr.Name), " => ")
		r.expr(v.NamedArgExpr.Arg)
	case *pg_query.Node_AArrayExpr:
		r.list("ARRAY[", v.AArrayExpr.Elements, "]")
	case *pg_query.Node_SubLink:
		r.fail(ReasonAggSubquery)
	case *pg_query.Node_GroupingFunc:
		r.fail(ReasonAggGroupingSets)
	default:
		r.fail(ReasonAggExpression)
	}
}

func (r *renderer) list(open string, nodes []*pg_query.Node, end string) {
	r.write(open)
	for i, n := range nodes {
		if i > 0 {
			r.write(", ")
		}
		r.expr(n)
	}
	r.write(end)
}

func (r *renderer) columnRef(ref *pg_query.ColumnRef) {
	names, ok := stringsOf(ref.Fields)
	if !ok {
		r.fail(ReasonAggColumn)
		return
	}
	r.write(dottedText(names))
}

func (r *renderer) constant(c *pg_query.A_Const) {
	if c.Isnull {
		r.write("NULL")
		return
	}
	switch v := c.Val.(type) {
	case *pg_query.A_Const_Ival:
		r.write(strconv.Itoa(int(v.Ival.GetIval())))
	case *pg_query.A_Const_Fval:
		r.write(v.Fval.GetFval())
	case *pg_query.A_Const_Boolval:
		if v.Boolval.GetBoolval() {
			r.write("TRUE")
		} else {
			r.write("FALSE")
		}
	case *pg_query.A_Const_Sval:
		r.write(literal(v.Sval.GetSval()))
	default:
		r.fail(ReasonAggExpression)
	}
}

// castTypes are the types to which casts are followed, by every name that the
// parser leaves them.
var castTypes = setOf("bool", "boolean", "int2", "int4", "int8", "smallint", "integer", "bigint", "float4", "float8", "real",
	"numeric", "decimal", "text", "varchar", "bpchar", "date", "time", "timestamp", "timestamptz", "interval", "uuid")

func (r *renderer) typeName(t *pg_query.TypeName) {
	names, ok := stringsOf(t.GetNames())
	if !ok || len(names) == 0 || t.Setof || t.PctType || len(t.ArrayBounds) > 1 {
		r.fail(ReasonAggType)
		return
	}
	name := names[len(names)-1]
	if !castTypes[name] || len(names) > 2 || len(names) == 2 && names[0] != "pg_catalog" {
		r.fail(ReasonAggType)
		return
	}
	if r.snap.UserTypes[name] || r.snap.UserCasts {
		r.fail(ReasonAggUserCode)
		return
	}
	r.write(dottedText(names))
	if len(t.Typmods) > 0 {
		r.list("(", t.Typmods, ")")
	}
	if len(t.ArrayBounds) == 1 {
		r.write("[]")
	}
}

// operators are the built-in ones that are followed: immutable or stable and
// without side effects on every built-in type.
var operators = setOf("+", "-", "*", "/", "%", "^", "=", "<>", "<", ">", "<=", ">=", "||", "~", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*")

func (r *renderer) operatorName(nodes []*pg_query.Node) string {
	names, ok := stringsOf(nodes)
	if !ok || len(names) == 0 {
		r.fail(ReasonAggOperator)
		return ""
	}
	name := names[len(names)-1]
	switch {
	case !operators[name], len(names) > 2, len(names) == 2 && names[0] != "pg_catalog":
		r.fail(ReasonAggOperator)
	case r.snap.UserOperators[name]:
		r.fail(ReasonAggUserCode)
	case len(names) == 2:
		return "OPERATOR(pg_catalog." + name + ")"
	}
	return name
}

func (r *renderer) operator(e *pg_query.A_Expr) {
	op := ""
	switch e.Kind {
	case pg_query.A_Expr_Kind_AEXPR_BETWEEN, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN,
		pg_query.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		r.between(e)
		return
	default:
		op = r.operatorName(e.Name)
	}
	switch e.Kind {
	case pg_query.A_Expr_Kind_AEXPR_OP:
		r.write("(")
		if e.Lexpr != nil {
			r.expr(e.Lexpr)
			r.write(" ")
		}
		r.write(op, " ")
		r.expr(e.Rexpr)
		r.write(")")
	case pg_query.A_Expr_Kind_AEXPR_OP_ANY:
		r.binary(e, op+" ANY (", ")")
	case pg_query.A_Expr_Kind_AEXPR_OP_ALL:
		r.binary(e, op+" ALL (", ")")
	case pg_query.A_Expr_Kind_AEXPR_DISTINCT:
		r.binary(e, "IS DISTINCT FROM ", "")
	case pg_query.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		r.binary(e, "IS NOT DISTINCT FROM ", "")
	case pg_query.A_Expr_Kind_AEXPR_NULLIF:
		r.list("NULLIF(", []*pg_query.Node{e.Lexpr, e.Rexpr}, ")")
	case pg_query.A_Expr_Kind_AEXPR_IN:
		r.write("(")
		r.expr(e.Lexpr)
		if op == "=" {
			r.list(" IN (", e.Rexpr.GetList().GetItems(), "))")
		} else {
			r.list(" NOT IN (", e.Rexpr.GetList().GetItems(), "))")
		}
	case pg_query.A_Expr_Kind_AEXPR_LIKE, pg_query.A_Expr_Kind_AEXPR_ILIKE:
		keyword, ok := map[string]string{"~~": "LIKE ", "!~~": "NOT LIKE ", "~~*": "ILIKE ", "!~~*": "NOT ILIKE "}[op]
		if !ok {
			r.fail(ReasonAggOperator)
		}
		r.binary(e, keyword, "")
	default:
		r.fail(ReasonAggExpression)
	}
}

func (r *renderer) binary(e *pg_query.A_Expr, middle, end string) {
	r.write("(")
	r.expr(e.Lexpr)
	r.write(" ", middle)
	r.expr(e.Rexpr)
	r.write(end, ")")
}

func (r *renderer) between(e *pg_query.A_Expr) {
	words := map[pg_query.A_Expr_Kind]string{
		pg_query.A_Expr_Kind_AEXPR_BETWEEN:         " BETWEEN ",
		pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN:     " NOT BETWEEN ",
		pg_query.A_Expr_Kind_AEXPR_BETWEEN_SYM:     " BETWEEN SYMMETRIC ",
		pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM: " NOT BETWEEN SYMMETRIC ",
	}
	if r.snap.UserOperators["<"] || r.snap.UserOperators["<="] || r.snap.UserOperators[">"] || r.snap.UserOperators[">="] {
		r.fail(ReasonAggUserCode)
		return
	}
	ends := e.Rexpr.GetList().GetItems()
	if len(ends) != 2 {
		r.fail(ReasonAggExpression)
		return
	}
	r.write("(")
	r.expr(e.Lexpr)
	r.write(words[e.Kind])
	r.expr(ends[0])
	r.write(" AND ")
	r.expr(ends[1])
	r.write(")")
}

func (r *renderer) boolean(e *pg_query.BoolExpr) {
	switch e.Boolop {
	case pg_query.BoolExprType_NOT_EXPR:
		r.write("(NOT ")
		r.expr(e.Args[0])
		r.write(")")
		return
	case pg_query.BoolExprType_AND_EXPR, pg_query.BoolExprType_OR_EXPR:
	default:
		r.fail(ReasonAggExpression)
		return
	}
	word := " AND "
	if e.Boolop == pg_query.BoolExprType_OR_EXPR {
		word = " OR "
	}
	r.write("(")
	for i, a := range e.Args {
		if i > 0 {
			r.write(word)
		}
		r.expr(a)
	}
	r.write(")")
}

func (r *renderer) booleanTest(t *pg_query.BooleanTest) {
	word, ok := map[pg_query.BoolTestType]string{
		pg_query.BoolTestType_IS_TRUE: "TRUE", pg_query.BoolTestType_IS_NOT_TRUE: "NOT TRUE",
		pg_query.BoolTestType_IS_FALSE: "FALSE", pg_query.BoolTestType_IS_NOT_FALSE: "NOT FALSE",
		pg_query.BoolTestType_IS_UNKNOWN: "UNKNOWN", pg_query.BoolTestType_IS_NOT_UNKNOWN: "NOT UNKNOWN",
	}[t.Booltesttype]
	if !ok {
		r.fail(ReasonAggExpression)
		return
	}
	r.write("(")
	r.expr(t.Arg)
	r.write(" IS ", word, ")")
}

func (r *renderer) caseExpr(c *pg_query.CaseExpr) {
	r.write("CASE")
	if c.Arg != nil {
		if r.snap.UserOperators["="] {
			r.fail(ReasonAggUserCode)
		}
		r.write(" ")
		r.expr(c.Arg)
	}
	for _, n := range c.Args {
		w := n.GetCaseWhen()
		if w == nil {
			r.fail(ReasonAggExpression)
			return
		}
		r.write(" WHEN ")
		r.expr(w.Expr)
		r.write(" THEN ")
		r.expr(w.Result)
	}
	if c.Defresult != nil {
		r.write(" ELSE ")
		r.expr(c.Defresult)
	}
	r.write(" END")
}

// valueFunctions are the SQL functions without parentheses that are followed:
// constant within a transaction.
var valueFunctions = map[pg_query.SQLValueFunctionOp]string{
	pg_query.SQLValueFunctionOp_SVFOP_CURRENT_DATE:      "CURRENT_DATE",
	pg_query.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP: "CURRENT_TIMESTAMP",
	pg_query.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP:    "LOCALTIMESTAMP",
}

func (r *renderer) valueFunction(f *pg_query.SQLValueFunction) {
	text, ok := valueFunctions[f.Op]
	if !ok {
		r.fail(ReasonAggExpression)
		return
	}
	r.write(text)
}

// scalarFunctions are the functions that are followed: built-in or TimescaleDB's,
// free of side effects, constant within a statement for equal arguments.
var scalarFunctions = setOf(
	"abs", "ceil", "ceiling", "floor", "round", "trunc", "sign", "sqrt", "power", "pow", "exp", "ln", "log", "mod", "div",
	"upper", "lower", "initcap", "length", "char_length", "left", "right", "substr", "substring", "btrim", "ltrim", "rtrim",
	"lpad", "rpad", "replace", "split_part", "concat", "starts_with", "strpos", "position", "like_escape",
	"date_trunc", "date_part", "extract", "date_bin", "date", "to_char", "to_timestamp", "timezone", "make_interval",
	"time_bucket", "now", "transaction_timestamp",
)

// volatileFunctions differ from call to call within one statement or between the
// statements of one transaction.
var volatileFunctions = setOf("random", "random_normal", "clock_timestamp", "timeofday", "statement_timestamp", "gen_random_uuid",
	"nextval", "currval", "lastval", "setval", "pg_sleep", "pg_sleep_for", "pg_sleep_until", "set_config", "setseed", "txid_current", "pg_backend_pid")

// aggregateFunctions is every function that aggregates and is no scalar one, as
// far as a better reason depends on it.
var aggregateFunctions = setOf("count", "sum", "min", "max", "avg", "first", "last", "stddev", "stddev_pop", "stddev_samp",
	"variance", "var_pop", "var_samp", "array_agg", "string_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or", "every",
	"bit_and", "bit_or", "bit_xor", "corr", "covar_pop", "covar_samp", "mode", "percentile_cont", "percentile_disc", "histogram",
	"approximate_row_count", "any_value", "regr_slope", "regr_intercept", "regr_r2")

func (r *renderer) function(f *pg_query.FuncCall) {
	names, ok := stringsOf(f.Funcname)
	if !ok || len(names) == 0 || len(names) > 2 {
		r.fail(ReasonAggFunction)
		return
	}
	name := names[len(names)-1]
	switch {
	case f.Over != nil:
		r.fail(ReasonAggWindow)
	case r.snap.UserFunctions[name]:
		r.fail(ReasonAggUserCode)
	case volatileFunctions[name]:
		r.fail(ReasonAggVolatile)
	case aggregateFunctions[name]:
		r.fail(ReasonAggCall)
	case immutableFunction(r.snap, f.Funcname) && !f.FuncVariadic && f.AggFilter == nil:
	case !scalarFunctions[name], f.FuncVariadic, f.AggStar, f.AggDistinct, f.AggFilter != nil, len(f.AggOrder) > 0, f.AggWithinGroup:
		r.fail(ReasonAggFunction)
	}
	r.write(dottedText(names))
	r.list("(", f.Args, ")")
}

func setOf(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// ident quotes a name.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// dottedText quotes and joins the parts of a qualified name.
func dottedText(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = ident(n)
	}
	return strings.Join(quoted, ".")
}

// relationText quotes a relation's name.
func relationText(n catalog.Name) string { return ident(n.Schema) + "." + ident(n.Name) }

// literal quotes a string for standard_conforming_strings = on.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
