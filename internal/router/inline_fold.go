package router

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// Folding computes what a body's expressions over literals are, as PostgreSQL does
// when it plans: comparisons, AND, OR, NOT, IS NULL and CASE. What is not of these
// forms, or whose literals are not surely read as meant, stays as it is.

type constKind uint8

const (
	constUnknown constKind = iota // not a constant
	constNull
	constBool
	constText // of ASCII characters
	constInt
	constSpan
	constVector
)

// constant is the value of an expression.
type constant struct {
	kind     constKind
	yes      bool
	text     string
	number   int64 // of a vector: its dimensions
	interval rollup.Interval
}

func (c constant) is(b bool) bool { return c.kind == constBool && c.yes == b }

// constantOf reads a literal, bare or cast.
func constantOf(n *pg_query.Node) constant {
	if c := n.GetAConst(); c != nil {
		switch {
		case c.Isnull:
			return constant{kind: constNull}
		case c.GetBoolval() != nil:
			return constant{kind: constBool, yes: c.GetBoolval().Boolval}
		case c.GetIval() != nil:
			return constant{kind: constInt, number: int64(c.GetIval().Ival)}
		case c.GetSval() != nil && ascii(c.GetSval().Sval):
			return constant{kind: constText, text: c.GetSval().Sval}
		}
		return constant{}
	}
	t := n.GetTypeCast()
	if t == nil {
		return constant{}
	}
	c := constantOf(t.Arg)
	switch {
	case c.kind == constNull, c.kind == constText && (typeNamed(t.TypeName, "text") || typeNamed(t.TypeName, "varchar")):
		return c
	case c.kind == constText && typeNamed(t.TypeName, "interval"):
		if v, ok := rollup.ParseInterval(c.text); ok {
			return constant{kind: constSpan, interval: v}
		}
	case (c.kind == constText || c.kind == constInt) && (typeNamed(t.TypeName, "int4") || typeNamed(t.TypeName, "int8")):
		bits := 32
		if typeNamed(t.TypeName, "int8") {
			bits = 64
		}
		if c.kind == constInt {
			return c
		}
		if v, err := strconv.ParseInt(c.text, 10, bits); err == nil && plainInteger.MatchString(c.text) {
			return constant{kind: constInt, number: v}
		}
	case c.kind == constText && len(t.TypeName.Typmods) == 0 && len(t.TypeName.ArrayBounds) == 0:
		if _, name, ok := qualified(t.TypeName.Names); ok && name == "vector" && plainVector.MatchString(c.text) {
			return constant{kind: constVector, number: int64(strings.Count(c.text, ",") + 1)}
		}
	}
	return constant{}
}

var (
	plainInteger = regexp.MustCompile(`^-?[0-9]+$`)
	plainVector  = regexp.MustCompile(`^\[ *-?[0-9.]+(e-?[0-9]+)?( *, *-?[0-9.]+(e-?[0-9]+)?)* *\]$`)
)

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 128 })
}

// notNull reports whether an expression is surely not NULL.
func notNull(n *pg_query.Node) bool {
	switch {
	case n.GetAConst() != nil:
		return !n.GetAConst().Isnull
	case n.GetTypeCast() != nil:
		return notNull(n.GetTypeCast().Arg)
	case n.GetSqlvalueFunction() != nil:
		return true
	case n.GetFuncCall() != nil:
		f := n.GetFuncCall()
		switch functionName(f) {
		case "now", "transaction_timestamp", "date_trunc", "make_interval":
			return !slices.ContainsFunc(f.Args, func(a *pg_query.Node) bool { return !notNull(a) })
		}
	case n.GetAExpr() != nil:
		e := n.GetAExpr()
		switch lastName(e.Name) {
		case "+", "-", "*":
			return e.Kind == pg_query.A_Expr_Kind_AEXPR_OP && e.Lexpr != nil && notNull(e.Lexpr) && notNull(e.Rexpr)
		}
	}
	return false
}

// folder folds one tree.
type folder struct{ view *view }

func fold(n *pg_query.Node, v *view) {
	f := folder{v}
	walk(n, f.node)
}

// put makes a node the constant true or false.
func put(n *pg_query.Node, b bool) {
	n.Node = &pg_query.Node_AConst{AConst: &pg_query.A_Const{Val: &pg_query.A_Const_Boolval{Boolval: &pg_query.Boolean{Boolval: b}}}}
}

func (f folder) node(n *pg_query.Node) {
	switch v := n.Node.(type) {
	case *pg_query.Node_AExpr:
		if b, ok := f.compare(v.AExpr); ok {
			put(n, b)
		} else if f.comparesNull(v.AExpr) {
			n.Node = null().Node
		}
	case *pg_query.Node_BoolExpr:
		f.boolean(n, v.BoolExpr)
	case *pg_query.Node_NullTest:
		isNull := v.NullTest.Nulltesttype == pg_query.NullTestType_IS_NULL
		switch {
		case v.NullTest.Argisrow:
		case constantOf(v.NullTest.Arg).kind == constNull:
			put(n, isNull)
		case notNull(v.NullTest.Arg):
			put(n, !isNull)
		}
	case *pg_query.Node_CaseExpr:
		f.choose(n, v.CaseExpr)
	case *pg_query.Node_FuncCall:
		f.call(n, v.FuncCall)
	}
}

// builtin reports whether an operator or function is the built-in one of that name.
func (f folder) builtin(names []*pg_query.Node, operator bool) (string, bool) {
	schema, name, ok := qualified(names)
	if operator {
		return name, ok && (schema == "" || schema == "pg_catalog") && f.view.operator(schema, name) == clean
	}
	return name, ok && (schema == "" || schema == "pg_catalog" || f.view.snap.Vector != "" && vectorFunctions[name]) && f.view.function(schema, name) == clean
}

// compare computes a comparison of two constants.
func (f folder) compare(e *pg_query.A_Expr) (value, ok bool) {
	name, ok := f.builtin(e.Name, true)
	if !ok && e.Kind == pg_query.A_Expr_Kind_AEXPR_OP || f.view.comparison {
		return false, false
	}
	switch e.Kind {
	case pg_query.A_Expr_Kind_AEXPR_OP:
		return compared(constantOf(e.Lexpr), name, constantOf(e.Rexpr))
	case pg_query.A_Expr_Kind_AEXPR_IN:
		all := true
		for _, item := range e.Rexpr.GetList().GetItems() {
			equal, ok := compared(constantOf(e.Lexpr), "=", constantOf(item))
			if !ok {
				all = false
			} else if equal {
				return name == "=", true
			}
		}
		return name != "=", all
	case pg_query.A_Expr_Kind_AEXPR_BETWEEN, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN:
		ends := e.Rexpr.GetList().GetItems()
		if len(ends) != 2 {
			return false, false
		}
		low, ok := compared(constantOf(e.Lexpr), ">=", constantOf(ends[0]))
		high, ok2 := compared(constantOf(e.Lexpr), "<=", constantOf(ends[1]))
		return (low && high) == (e.Kind == pg_query.A_Expr_Kind_AEXPR_BETWEEN), ok && ok2
	}
	return false, false
}

// comparesNull reports whether an operator compares NULL with something.
func (f folder) comparesNull(e *pg_query.A_Expr) bool {
	name, ok := f.builtin(e.Name, true)
	return ok && e.Kind == pg_query.A_Expr_Kind_AEXPR_OP && e.Lexpr != nil && !f.view.comparison && orders[name] &&
		(constantOf(e.Lexpr).kind == constNull || constantOf(e.Rexpr).kind == constNull)
}

var orders = words("= <> < <= > >=")

func null() *pg_query.Node {
	return &pg_query.Node{Node: &pg_query.Node_AConst{AConst: &pg_query.A_Const{Isnull: true}}}
}

// compared compares texts for equality, and numbers and intervals by order.
func compared(a constant, op string, b constant) (value, ok bool) {
	order := 0
	switch {
	case a.kind != b.kind:
		return false, false
	case a.kind == constText:
		if a.text != b.text {
			order = 1
		}
		if op != "=" && op != "<>" {
			return false, false
		}
	case a.kind == constInt:
		order = sign(a.number, b.number)
	case a.kind == constSpan:
		order = sign(length(a.interval), length(b.interval))
	default:
		return false, false
	}
	switch op {
	case "=":
		return order == 0, true
	case "<>":
		return order != 0, true
	case "<":
		return order < 0, true
	case "<=":
		return order <= 0, true
	case ">":
		return order > 0, true
	case ">=":
		return order >= 0, true
	}
	return false, false
}

func sign(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// length is an interval as PostgreSQL compares it: a month has 30 days.
func length(v rollup.Interval) int64 { return (v.Months*30+v.Days)*rollup.Day + v.Micros }

// boolean drops what does not decide AND and OR, and computes NOT.
func (f folder) boolean(n *pg_query.Node, e *pg_query.BoolExpr) {
	switch e.Boolop {
	case pg_query.BoolExprType_NOT_EXPR:
		if c := constantOf(e.Args[0]); c.kind == constBool {
			put(n, !c.yes)
		}
		return
	case pg_query.BoolExprType_AND_EXPR, pg_query.BoolExprType_OR_EXPR:
	default:
		return
	}
	decides := e.Boolop == pg_query.BoolExprType_OR_EXPR
	if slices.ContainsFunc(e.Args, func(a *pg_query.Node) bool { return constantOf(a).is(decides) }) {
		put(n, decides)
		return
	}
	e.Args = slices.DeleteFunc(e.Args, func(a *pg_query.Node) bool { return constantOf(a).is(!decides) })
	switch len(e.Args) {
	case 0:
		put(n, !decides)
	case 1:
		n.Node = e.Args[0].Node
	}
}

// choose drops the branches of a CASE that are not taken. Its type is that of all its
// branches together, so they must be of one.
func (f folder) choose(n *pg_query.Node, c *pg_query.CaseExpr) {
	if !f.oneType(c) || c.Arg != nil && f.view.comparison {
		return
	}
	var left []*pg_query.Node
	for _, a := range c.Args {
		w := a.GetCaseWhen()
		value := constantOf(w.Expr)
		if c.Arg != nil {
			equal, ok := compared(constantOf(c.Arg), "=", value)
			value = constant{}
			if ok {
				value = constant{kind: constBool, yes: equal}
			}
		}
		if value.is(false) || value.kind == constNull {
			continue
		}
		if value.is(true) {
			c.Defresult = w.Result
			break
		}
		left = append(left, a)
	}
	c.Args = left
	switch {
	case len(left) > 0:
	case c.Defresult == nil:
		n.Node = null().Node
	default:
		n.Node = c.Defresult.Node
	}
}

// oneType reports whether all branches of a CASE surely have one type: they are NULL,
// or all distances, or calls of one function, or casts to one type.
func (f folder) oneType(c *pg_query.CaseExpr) bool {
	sort := ""
	same := func(n *pg_query.Node) bool {
		kind := ""
		switch {
		case n == nil, constantOf(n).kind == constNull && n.GetTypeCast() == nil:
			return true
		case distance(n) != nil:
			kind = "distance"
		case n.GetFuncCall() != nil && immutableFunction(f.view.snap, n.GetFuncCall().Funcname):
			schema, name, _ := qualified(n.GetFuncCall().Funcname)
			kind = "function " + dotted(schema, name)
		case n.GetTypeCast() != nil:
			kind = "type " + plainTypeName(n.GetTypeCast().TypeName).String()
		default:
			return false
		}
		if sort == "" {
			sort = kind
		}
		return sort == kind
	}
	for _, w := range c.Args {
		if !same(w.GetCaseWhen().GetResult()) {
			return false
		}
	}
	return same(c.Defresult)
}

// call computes the length of a text and the dimensions of a vector.
func (f folder) call(n *pg_query.Node, call *pg_query.FuncCall) {
	if len(call.Args) != 1 {
		return
	}
	name, ok := f.builtin(call.Funcname, false)
	c := constantOf(call.Args[0])
	value := int64(0)
	switch {
	case !ok:
		return
	case name == "char_length" && c.kind == constText:
		value = int64(len(c.text))
	case name == "vector_dims" && c.kind == constVector:
		value = c.number
	case (name == "char_length" || name == "vector_dims") && c.kind == constNull:
		n.Node = null().Node
		return
	default:
		return
	}
	if value <= 1<<31-1 {
		n.Node = pg_query.MakeAConstIntNode(value, 0).Node
	}
}

// typeSign stands for the type of an expression: equal signs, equal types. "" for what
// is not followed.
func (in *inlined) typeSign(from *pg_query.SelectStmt, n *pg_query.Node) string {
	if c := n.GetTypeCast(); c != nil {
		return plainTypeName(c.TypeName).String()
	}
	if ref := n.GetColumnRef(); ref != nil && len(from.FromClause) == 1 {
		rv := from.FromClause[0].GetRangeVar()
		names, ok := stringsOf(ref.Fields)
		if rv == nil || rv.Schemaname == "" || !ok || len(names) != 2 {
			return ""
		}
		rel := in.view.snap.Relations[catalog.Name{Schema: rv.Schemaname, Name: rv.Relname}]
		if rel == nil {
			return ""
		}
		if c, ok := rel.Column(names[1]); ok {
			return strconv.FormatUint(uint64(c.Type), 10)
		}
	}
	if f := n.GetFuncCall(); f != nil && f.Over == nil {
		schema, name, ok := qualified(f.Funcname)
		sign := dotted(schema, name) + "("
		for _, a := range f.Args {
			arg := in.typeSign(from, a)
			if !ok || arg == "" {
				return ""
			}
			sign += arg + ","
		}
		return sign
	}
	return ""
}
