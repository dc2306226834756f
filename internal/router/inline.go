package router

import (
	"slices"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"qvpgw/internal/catalog"
)

// A function of the platform's schema in FROM is planned as what it stands for:
// the arguments are put into its body, which is the catalog's, never one that is
// known here, and what is constant is folded. A function that is not a plain query,
// or is called in a way that is not followed, is left to the server.
//
//	SELECT … FROM qvp.f(args) … -> inline -> inlined -> around -> k-NN | aggregate | pass
//
// A k-NN query's own text still runs: the expansion only proves what its answer
// depends on. An aggregate's rewritten query takes the place of the original, so its
// guard proves besides that each function is the one of the catalog and may be
// executed.

// inlined is a call of a function and the query that it stands for.
type inlined struct {
	function *catalog.Function
	view     *view
	outer    *pg_query.SelectStmt // the query around the call
	alias    string               // by which its columns are qualified
	names    []string             // of its columns, as the query may use them
	body     *pg_query.SelectStmt // with arguments, folded, one arm
	check    *pg_query.Node       // the body's LIMIT when it can be NULL or an error, no more

	casts map[*pg_query.TypeCast]bool // around arguments
}

// maxArguments bounds the arguments' texts, since the body may repeat them, in bytes.
const maxArguments = 64 << 10

// calledFunction returns the function of the platform that is all that a SELECT
// reads from, as the catalog has it, and its call.
func calledFunction(n *pg_query.SelectStmt, v *view) (*catalog.Function, *pg_query.FuncCall) {
	if n == nil || v.snap == nil || len(n.FromClause) != 1 {
		return nil, nil
	}
	from := n.FromClause[0].GetRangeFunction()
	if from == nil || len(from.Functions) != 1 {
		return nil, nil
	}
	items := from.Functions[0].GetList().GetItems()
	if len(items) == 0 || items[0].GetFuncCall() == nil {
		return nil, nil
	}
	call := items[0].GetFuncCall()
	schema, name, ok := qualified(call.Funcname)
	if !ok || schema == "" {
		return nil, nil
	}
	return v.snap.Functions[catalog.Name{Schema: schema, Name: name}], call
}

// exactFunction returns the function that a call by its whole name means, nil when
// the catalog does not tell. Planners look at the last part of a name, so it must not
// be like that of a built-in one.
func exactFunction(snap *catalog.Snapshot, schema, name string) *catalog.Function {
	if snap == nil || schema == "" || builtinFunctions[name] || timescaleFunctions[name] || vectorFunctions[name] || snap.UserFunctions[name] {
		return nil
	}
	return snap.Functions[catalog.Name{Schema: schema, Name: name}]
}

// immutableFunction reports whether a call by its whole name has a value that depends
// on its arguments alone.
func immutableFunction(snap *catalog.Snapshot, names []*pg_query.Node) bool {
	schema, name, ok := qualified(names)
	f := exactFunction(snap, schema, name)
	return ok && f != nil && f.Volatility == 'i' && !f.Set
}

// inline puts the body of a called function in the place of its call.
func inline(n *pg_query.SelectStmt, f *catalog.Function, call *pg_query.FuncCall, v *view) (*inlined, Reason) {
	from := n.FromClause[0].GetRangeFunction()
	switch {
	case f.Body == "", !f.Set, f.Volatility == 'v', len(f.Columns) == 0, exactFunction(v.snap, f.Name.Schema, f.Name.Name) != f:
		return nil, ReasonInlineFunction
	case from.Lateral, from.Ordinality, from.IsRowsfrom, len(from.Coldeflist) > 0,
		call.AggStar, call.AggDistinct, call.AggFilter != nil, call.Over != nil, call.FuncVariadic, call.AggWithinGroup, len(call.AggOrder) > 0:
		return nil, ReasonInlineCall
	}
	in := &inlined{function: f, view: v, outer: n, alias: f.Name.Name, casts: map[*pg_query.TypeCast]bool{}}
	for _, c := range f.Columns {
		in.names = append(in.names, c.Name)
	}
	if a := from.Alias; a != nil {
		names, ok := stringsOf(a.Colnames)
		if !ok || len(names) > len(in.names) {
			return nil, ReasonInlineCall
		}
		in.alias = a.Aliasname
		copy(in.names, names)
	}
	args, ok := in.arguments(call)
	if !ok {
		return nil, ReasonInlineArgument
	}
	tree, err := pg_query.Parse(f.Body)
	if err != nil || len(tree.Stmts) != 1 || tree.Stmts[0].Stmt.GetSelectStmt() == nil {
		return nil, ReasonInlineFunction
	}
	root := tree.Stmts[0].Stmt
	if !substitute(root, args, in.casts) {
		return nil, ReasonInlineFunction
	}
	fold(root, v)
	body := root.GetSelectStmt()
	if body.WithClause != nil || body.IntoClause != nil {
		return nil, ReasonInlineFunction
	}
	if body = in.oneArm(body); body == nil || !in.ordinals(body) || len(body.TargetList) != len(in.names) {
		return nil, ReasonInlineFunction
	}
	in.body = body
	in.limit()
	return in, ""
}

// arguments returns one expression for each of the function's arguments, cast to its
// type, or false when one is not followed: it must have one value for the whole
// statement, however often the body uses it.
func (in *inlined) arguments(call *pg_query.FuncCall) ([]*pg_query.Node, bool) {
	f := in.function
	args := make([]*pg_query.Node, len(f.Arguments))
	for i, n := range call.Args {
		at := i
		if named := n.GetNamedArgExpr(); named != nil {
			n = named.Arg
			at = slices.IndexFunc(f.Arguments, func(a catalog.Argument) bool { return a.Name == named.Name })
		}
		if at < 0 || at >= len(args) || args[at] != nil {
			return nil, false
		}
		args[at] = n
	}
	size := 0
	for i, a := range f.Arguments {
		if args[i] == nil {
			tree, err := pg_query.Parse("SELECT " + a.Default)
			if a.Default == "" || err != nil || len(tree.Stmts) != 1 || len(tree.Stmts[0].Stmt.GetSelectStmt().GetTargetList()) != 1 {
				return nil, false
			}
			args[i] = tree.Stmts[0].Stmt.GetSelectStmt().TargetList[0].GetResTarget().GetVal()
		}
		if !isVector(args[i]) {
			_, reason := render(in.view.snap, args[i], func(r *renderer, n *pg_query.Node) bool {
				if n.GetColumnRef() != nil || n.GetNamedArgExpr() != nil {
					r.fail(ReasonAggColumn)
				}
				return false
			})
			if reason != "" {
				return nil, false
			}
		}
		size += proto.Size(args[i])
		args[i] = in.cast(args[i], a.Type)
	}
	return args, size <= maxArguments
}

// cast casts an argument to its declared type, as the call does.
func (in *inlined) cast(n *pg_query.Node, to catalog.Name) *pg_query.Node {
	name := typeNameOf(to)
	if c := n.GetTypeCast(); c != nil && proto.Equal(plainTypeName(c.TypeName), name) {
		return n
	}
	c := &pg_query.TypeCast{Arg: n, TypeName: name}
	in.casts[c] = true
	return &pg_query.Node{Node: &pg_query.Node_TypeCast{TypeCast: c}}
}

// typeNameOf writes a type's name as the parser would have it.
func typeNameOf(n catalog.Name) *pg_query.TypeName {
	return &pg_query.TypeName{Names: []*pg_query.Node{pg_query.MakeStrNode(n.Schema), pg_query.MakeStrNode(n.Name)}, Typemod: -1}
}

// plainTypeName is a type's name without its place in the text, built-in ones with
// their schema.
func plainTypeName(t *pg_query.TypeName) *pg_query.TypeName {
	p := proto.Clone(t).(*pg_query.TypeName)
	p.Location = 0
	if len(p.Names) == 1 && builtinTypes[p.Names[0].GetString_().GetSval()] {
		p.Names = []*pg_query.Node{pg_query.MakeStrNode("pg_catalog"), p.Names[0]}
	}
	return p
}

// substitute puts arguments in the place of parameters; false when there is none for
// one. The copies of casts are noted like the casts.
func substitute(n *pg_query.Node, args []*pg_query.Node, casts map[*pg_query.TypeCast]bool) bool {
	ok := true
	walk(n, func(n *pg_query.Node) {
		p := n.GetParamRef()
		if p == nil {
			return
		}
		i := int(p.Number) - 1
		if i < 0 || i >= len(args) {
			ok = false
			return
		}
		c := proto.Clone(args[i]).(*pg_query.Node)
		if was := args[i].GetTypeCast(); was != nil && casts[was] {
			casts[c.GetTypeCast()] = true
		}
		n.Node = c.Node
	})
	return ok
}

// walk calls f for every node below n and then for n. What f puts in a node's place
// is not visited.
func walk(n *pg_query.Node, f func(*pg_query.Node)) {
	if n == nil {
		return
	}
	n.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		walkMessage(v.Message(), f)
		return true
	})
	f(n)
}

func walkMessage(m protoreflect.Message, f func(*pg_query.Node)) {
	if n, ok := m.Interface().(*pg_query.Node); ok {
		walk(n, f)
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() != protoreflect.MessageKind {
			return true
		}
		if !fd.IsList() {
			walkMessage(v.Message(), f)
			return true
		}
		for list, i := v.List(), 0; i < list.Len(); i++ {
			walkMessage(list.Get(i).Message(), f)
		}
		return true
	})
}

// oneArm returns a SELECT as it is, and of UNION ALL the only arm that can give
// rows, with the whole's order and limit; nil when there are more.
func (in *inlined) oneArm(n *pg_query.SelectStmt) *pg_query.SelectStmt {
	if n.Op == pg_query.SetOperation_SETOP_NONE {
		if n.WhereClause != nil && constantOf(n.WhereClause).is(true) {
			n.WhereClause = nil
		}
		return n
	}
	if n.Op != pg_query.SetOperation_SETOP_UNION || !n.All || len(n.LockingClause) > 0 {
		return nil
	}
	left, right := in.oneArm(n.Larg), in.oneArm(n.Rarg)
	if left == nil || right == nil || !in.sameTypes(left, right) {
		return nil
	}
	switch {
	case barren(left):
		left = right
	case !barren(right):
		return nil
	}
	if len(left.SortClause) > 0 || left.LimitCount != nil || left.LimitOffset != nil {
		return nil
	}
	left.SortClause, left.LimitCount, left.LimitOffset, left.LimitOption = n.SortClause, n.LimitCount, n.LimitOffset, n.LimitOption
	return left
}

// barren reports whether a SELECT gives no rows whatever the tables hold.
func barren(n *pg_query.SelectStmt) bool {
	return n.WhereClause != nil && constantOf(n.WhereClause).is(false) &&
		(len(n.GroupClause) > 0 || !hasAggregate(n.TargetList)) && n.HavingClause == nil && len(n.ValuesLists) == 0 &&
		!slices.ContainsFunc(n.GroupClause, func(g *pg_query.Node) bool { return g.GetGroupingSet() != nil })
}

// sameTypes reports whether the columns of two arms have equal types, so that leaving
// one away changes no value of the other.
func (in *inlined) sameTypes(a, b *pg_query.SelectStmt) bool {
	if len(a.TargetList) != len(b.TargetList) {
		return false
	}
	for i := range a.TargetList {
		of := in.typeSign(a, a.TargetList[i].GetResTarget().GetVal())
		if of == "" || of != in.typeSign(b, b.TargetList[i].GetResTarget().GetVal()) {
			return false
		}
	}
	return true
}

// ordinals puts the expressions that numbers in GROUP BY and ORDER BY mean in their
// places; false for what might mean another thing beside other output columns.
func (in *inlined) ordinals(n *pg_query.SelectStmt) bool {
	resolve := func(e *pg_query.Node) *pg_query.Node {
		if c := e.GetAConst(); c != nil {
			i := int(c.GetIval().GetIval())
			if c.GetIval() == nil || i < 1 || i > len(n.TargetList) {
				return nil
			}
			return proto.Clone(n.TargetList[i-1].GetResTarget().GetVal()).(*pg_query.Node)
		}
		if len(e.GetColumnRef().GetFields()) == 1 {
			return nil
		}
		return e
	}
	for _, t := range n.TargetList {
		if r := t.GetResTarget(); r == nil || r.Val == nil || r.Val.GetColumnRef() != nil && len(r.Val.GetColumnRef().Fields) != 2 {
			return false
		}
	}
	for i, g := range n.GroupClause {
		if n.GroupClause[i] = resolve(g); n.GroupClause[i] == nil {
			return false
		}
	}
	for _, s := range n.SortClause {
		by := s.GetSortBy()
		if by == nil {
			return false
		}
		if by.Node = resolve(by.Node); by.Node == nil {
			return false
		}
	}
	return true
}

// limit takes a LIMIT apart that is NULL, or a check, or coalesce(check, number).
func (in *inlined) limit() {
	n := in.body.LimitCount
	if args := n.GetCoalesceExpr().GetArgs(); len(args) == 2 && in.checks(args[0]) {
		if constantOf(args[0]).kind != constNull {
			return
		}
		n = args[1]
		in.body.LimitCount = number(n)
	}
	if n == nil || !in.checks(n) {
		return
	}
	in.body.LimitCount, in.body.LimitOption = nil, pg_query.LimitOption_LIMIT_OPTION_DEFAULT
	if constantOf(n).kind != constNull {
		in.check = n
	}
}

// number takes the cast from an integer literal or parameter.
func number(n *pg_query.Node) *pg_query.Node {
	if c := n.GetTypeCast(); c != nil && (typeNamed(c.TypeName, "int4") || typeNamed(c.TypeName, "int8")) &&
		(c.Arg.GetAConst().GetIval() != nil || c.Arg.GetParamRef() != nil) {
		return c.Arg
	}
	return n
}

// checks reports whether an expression can be nothing but NULL or an error.
func (in *inlined) checks(n *pg_query.Node) bool {
	switch {
	case constantOf(n).kind == constNull:
		return true
	case n.GetTypeCast() != nil:
		return in.checks(n.GetTypeCast().Arg)
	case n.GetFuncCall() != nil:
		schema, name, ok := qualified(n.GetFuncCall().Funcname)
		f := exactFunction(in.view.snap, schema, name)
		return ok && f != nil && f.Refuses && f.Volatility == 'i'
	case n.GetCaseExpr() != nil:
		c := n.GetCaseExpr()
		return (c.Defresult == nil || in.checks(c.Defresult)) &&
			!slices.ContainsFunc(c.Args, func(w *pg_query.Node) bool { return !in.checks(w.GetCaseWhen().GetResult()) })
	}
	return false
}
