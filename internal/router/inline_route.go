package router

import (
	"slices"
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// Why a call of a function of the platform is not planned as what it stands for.
const (
	ReasonInlineFunction Reason = "inline_function"
	ReasonInlineCall     Reason = "inline_call"
	ReasonInlineArgument Reason = "inline_argument"
	ReasonInlineAround   Reason = "inline_around"
)

var inlineReasons = map[Reason]string{
	ReasonInlineFunction: "The function's body is not one plain query that is followed, or the arguments leave more than one branch of it.",
	ReasonInlineCall:     "The function is called WITH ORDINALITY, in ROWS FROM, with a column list or the like.",
	ReasonInlineArgument: "An argument of the function is not a literal, a parameter or an expression that has one value in the statement.",
	ReasonInlineAround:   "The query around the call joins, groups, or uses an expression or clause that cannot be moved into the function's query.",
}

// routeCall looks for something better than Pass for a SELECT from a function of the
// platform. The statement has been surveyed and pins nothing.
func (r *Router) routeCall(m *made, c *Context, v *view, n *pg_query.Node, text []byte, f *catalog.Function, call *pg_query.FuncCall) {
	p := m.plan
	if !worthInlining(f) {
		p.Reason = ReasonPlain
		return
	}
	literal, base := m.literal, *p
	m.literal = true
	r.called(m, c, v, n, f, call, false, false)
	if m.moment && !literal {
		m.template = newTemplate(&base, v.snap, n, text, c.ConformingStrings)
	}
}

// called plans a call. checked and bound are as for aggregate.
func (r *Router) called(m *made, c *Context, v *view, n *pg_query.Node, f *catalog.Function, call *pg_query.FuncCall, checked, bound bool) {
	p := m.plan
	in, reason := inline(n.GetSelectStmt(), f, call, v)
	if reason == "" {
		reason = in.clean(c)
	}
	switch {
	case reason != "":
		p.Reason = reason
	case nearest(in.body) != nil:
		r.routeNeighbours(m, c, in)
		return
	case len(in.body.GroupClause) > 0 || hasAggregate(in.body.TargetList):
		r.routeGroups(m, c, in, checked)
	default:
		p.Reason = ReasonPlain
	}
	if !bound && bindReasons[p.Reason] && c.Route && !r.opt.NoAggregates && hasParameter(n) && aggregates(f) {
		p.Action, p.AtBind, p.Reason = Rewrite, true, ReasonAggTimeParameter
		m.literal, m.moment = true, true
	}
}

// bindReasons are the reasons that the values of parameters may do away with.
var bindReasons = map[Reason]bool{
	ReasonAggTimeParameter: true, ReasonAggTimeFilter: true, ReasonAggTimeBound: true, ReasonAggBucket: true, ReasonInlineFunction: true,
}

// worthInlining reports whether a function's body orders by distance or aggregates,
// or a reason against it is to be told.
func worthInlining(f *catalog.Function) bool {
	return f.Body == "" || aggregates(f) || has(f, func(m any) bool {
		e, ok := m.(*pg_query.A_Expr)
		if !ok {
			return false
		}
		_, name, _ := qualified(e.Name)
		return distances[name]
	})
}

// aggregates reports whether a function's body groups or calls an aggregate function.
func aggregates(f *catalog.Function) bool {
	return has(f, func(m any) bool {
		s, ok := m.(*pg_query.SelectStmt)
		return ok && (len(s.GroupClause) > 0 || hasAggregate(s.TargetList))
	})
}

// has reports whether a function's body has a node of a kind.
func has(f *catalog.Function, kind func(m any) bool) bool {
	tree, err := pg_query.Parse(f.Body)
	if err != nil || len(tree.Stmts) != 1 {
		return false
	}
	found := false
	visit(tree.Stmts[0].Stmt, func(m any) bool {
		found = found || kind(m)
		return !found
	})
	return found
}

// clean surveys the body: it must name nothing but what is known by its whole name.
func (in *inlined) clean(c *Context) Reason {
	s := &survey{c: c, view: in.view, sure: c.SettingsKnown}
	st := s.statement(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: in.body}})
	if s.pins != 0 || s.own || s.leaves|s.ends != 0 || st.DDL || st.Setting != nil || st.Nextval || st.Currval || s.notifies {
		return ReasonUnclean
	}
	return ""
}

// routeNeighbours plans a body that orders by distance: the statement itself runs, and
// its answer may be kept when the body's and what the query around makes of it
// depend on the rows alone.
func (r *Router) routeNeighbours(m *made, c *Context, in *inlined) {
	p := m.plan
	if !c.Cache {
		p.Reason = ReasonKNNOff
		return
	}
	body := in.bare()
	check := in.check
	if check != nil && body.LimitCount == nil {
		p.Reason = ReasonKNNLimit
		return
	}
	k, reason := knn(body, c, in.view, nil)
	if k == nil {
		p.Reason = reason
		return
	}
	if !in.steadyAround() {
		p.Reason = ReasonInlineAround
		return
	}
	k.Proof = strings.Join(append(in.proof(), k.Proof), " AND ")
	p.KNN, p.Reason, p.Action = k, reason, Cached
}

// bare returns the body without the casts around literals and parameters that are
// arguments: what a parameter is cast from is what the call was resolved by.
func (in *inlined) bare() *pg_query.SelectStmt {
	n := &pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: in.body}}
	walk(n, func(n *pg_query.Node) {
		if c := n.GetTypeCast(); c != nil && in.casts[c] && (c.Arg.GetAConst() != nil || c.Arg.GetParamRef() != nil) {
			n.Node = c.Arg.Node
		}
	})
	return in.body
}

// steadyAround reports whether the query around depends on the function's rows alone.
func (in *inlined) steadyAround() bool {
	o := in.outer
	if !plainAround(o) {
		return false
	}
	rel := &catalog.Relation{Name: catalog.Name{Name: in.alias}}
	for i, c := range in.function.Columns {
		col := c.Column
		col.Name = in.names[i]
		rel.Columns = append(rel.Columns, col)
	}
	t := &neighbours{snap: in.view.snap, sources: []source{{rel, in.alias}}}
	for _, target := range o.TargetList {
		if !t.output(target.GetResTarget().GetVal()) {
			return false
		}
	}
	for _, s := range o.SortClause {
		by := s.GetSortBy()
		if len(by.GetUseOp()) > 0 || !t.isColumn(by.GetNode()) && !t.number(by.GetNode()) {
			return false
		}
	}
	return (o.WhereClause == nil || t.condition(o.WhereClause)) && (o.LimitCount == nil || t.limit(o.LimitCount)) && o.LimitOffset == nil
}

// plainAround reports whether a query around a call has no clauses but a target list,
// WHERE, ORDER BY, LIMIT and OFFSET.
func plainAround(o *pg_query.SelectStmt) bool {
	return o.Op == pg_query.SetOperation_SETOP_NONE && o.WithClause == nil && o.IntoClause == nil && len(o.DistinctClause) == 0 &&
		len(o.GroupClause) == 0 && o.HavingClause == nil && len(o.WindowClause) == 0 && len(o.LockingClause) == 0 &&
		len(o.ValuesLists) == 0 && o.LimitOption != pg_query.LimitOption_LIMIT_OPTION_WITH_TIES && len(o.TargetList) > 0
}

// routeGroups plans a body that aggregates, with the query around moved into it.
func (r *Router) routeGroups(m *made, c *Context, in *inlined, checked bool) {
	p := m.plan
	if r.opt.NoAggregates || !c.Route {
		p.Reason = ReasonRouteOff
		return
	}
	flat := in.flatten()
	if flat == nil {
		p.Reason = ReasonInlineAround
		return
	}
	m.moment = true
	b := &blocks{c: c, snap: in.view.snap, now: r.opt.Now(), checked: checked, byCost: !r.opt.AlwaysRoute, called: in.proof()}
	p.Aggregates, p.Reason = b.plan(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: flat}})
	if p.Aggregates != nil {
		p.Action, p.Reason = Rewrite, ReasonAggregate
		m.expires = p.Aggregates.Expires
	}
}

// proof proves that the function is the catalog's, that it is the one which the call
// means, and that it may be executed. Functions that the body still calls are
// resolved by the server as they are in the original.
func (in *inlined) proof() []string {
	f := in.function
	var p proof
	oid := strconv.FormatUint(uint64(f.OID), 10)
	p.addf("(SELECT pg_catalog.count(*) = 1 AND pg_catalog.bool_and(oid = %s AND xmin = %s) FROM pg_catalog.pg_proc WHERE proname = %s AND pronamespace = %d)",
		oid, literal(f.Row), literal(f.Name.Name), f.Schema)
	p.addf("pg_catalog.has_schema_privilege(%d::pg_catalog.oid, 'USAGE')", f.Schema)
	p.addf("pg_catalog.has_function_privilege(%s::pg_catalog.oid, 'EXECUTE')", oid)
	return p
}

// flatten moves the query around the call into the body: its conditions are on groups,
// so they become HAVING; its order comes before the body's. Nil when something of it
// is not followed.
func (in *inlined) flatten() *pg_query.SelectStmt {
	o, b := in.outer, in.body
	if !plainAround(o) || !in.function.Table || b.LimitCount != nil || b.LimitOffset != nil || len(b.DistinctClause) > 0 || len(b.WindowClause) > 0 {
		return nil
	}
	flat := &pg_query.SelectStmt{
		Op:         pg_query.SetOperation_SETOP_NONE,
		FromClause: b.FromClause, WhereClause: b.WhereClause, GroupClause: b.GroupClause, HavingClause: b.HavingClause,
		LimitCount: o.LimitCount, LimitOffset: o.LimitOffset, LimitOption: o.LimitOption,
	}
	var names []string
	for _, n := range o.TargetList {
		t := n.GetResTarget()
		if t == nil || len(t.Indirection) > 0 {
			return nil
		}
		if fields := t.Val.GetColumnRef().GetFields(); len(fields) > 0 && fields[len(fields)-1].GetAStar() != nil {
			if len(fields) > 2 || len(fields) == 2 && fields[0].GetString_().GetSval() != in.alias {
				return nil
			}
			for i, name := range in.names {
				flat.TargetList, names = append(flat.TargetList, target(name, in.output(i))), append(names, name)
			}
			continue
		}
		name := t.Name
		if name == "" {
			name = columnName(t.Val)
		}
		e := in.mapped(t.Val)
		if e == nil {
			return nil
		}
		flat.TargetList, names = append(flat.TargetList, target(name, e)), append(names, name)
	}
	if o.WhereClause != nil {
		w := in.mapped(o.WhereClause)
		if w == nil || b.HavingClause != nil {
			return nil
		}
		flat.HavingClause = w
	}
	for _, n := range o.SortClause {
		if n = in.sorted(n, names); n == nil {
			return nil
		}
		flat.SortClause = append(flat.SortClause, n)
	}
	flat.SortClause = append(flat.SortClause, b.SortClause...)
	if in.check != nil {
		flat.LimitOption = pg_query.LimitOption_LIMIT_OPTION_COUNT
		if flat.LimitCount = in.check; o.LimitCount != nil {
			flat.LimitCount = &pg_query.Node{Node: &pg_query.Node_CoalesceExpr{CoalesceExpr: &pg_query.CoalesceExpr{Args: []*pg_query.Node{in.check, o.LimitCount}}}}
		}
	}
	return flat
}

func target(name string, e *pg_query.Node) *pg_query.Node {
	return &pg_query.Node{Node: &pg_query.Node_ResTarget{ResTarget: &pg_query.ResTarget{Name: name, Val: e}}}
}

// output is the body's expression for a column. That it has the declared type is seen
// when the columns of both statements are described.
func (in *inlined) output(i int) *pg_query.Node {
	return proto.Clone(in.body.TargetList[i].GetResTarget().GetVal()).(*pg_query.Node)
}

// mapped writes an expression over the function's columns as one over the body's; nil
// when it is not followed. A bare column is as it is; inside of another expression it
// has its declared type.
func (in *inlined) mapped(n *pg_query.Node) *pg_query.Node {
	if n.GetColumnRef() != nil {
		if i := in.column(n); i >= 0 {
			return in.output(i)
		}
		return nil
	}
	_, reason := render(in.view.snap, n, func(r *renderer, n *pg_query.Node) bool {
		if n.GetColumnRef() == nil {
			return false
		}
		if in.column(n) < 0 {
			r.fail(ReasonAggColumn)
		}
		return true
	})
	if reason != "" {
		return nil
	}
	e, ok := proto.Clone(n).(*pg_query.Node), true
	walk(e, func(n *pg_query.Node) {
		if n.GetColumnRef() == nil {
			return
		}
		i := in.column(n)
		c := in.function.Columns[i]
		if c.TypMod >= 0 {
			ok = false
		}
		out := in.output(i)
		if t := out.GetTypeCast(); t == nil || !proto.Equal(plainTypeName(t.TypeName), typeNameOf(c.TypeName)) {
			out = &pg_query.Node{Node: &pg_query.Node_TypeCast{TypeCast: &pg_query.TypeCast{Arg: out, TypeName: typeNameOf(c.TypeName)}}}
		}
		n.Node = out.Node
	})
	if !ok {
		return nil
	}
	return e
}

// column returns the number of the function's column that a node names, from 0; -1 for
// none.
func (in *inlined) column(n *pg_query.Node) int {
	names, ok := stringsOf(n.GetColumnRef().GetFields())
	if !ok || len(names) == 0 || len(names) > 2 || len(names) == 2 && names[0] != in.alias {
		return -1
	}
	name := names[len(names)-1]
	i := slices.Index(in.names, name)
	if i >= 0 && slices.Contains(in.names[i+1:], name) {
		return -1
	}
	return i
}

// sorted writes an item of the outer ORDER BY for the flat query. A bare name means an
// output column first, a number always.
func (in *inlined) sorted(n *pg_query.Node, names []string) *pg_query.Node {
	by := proto.Clone(n).(*pg_query.Node).GetSortBy()
	if by == nil || len(by.UseOp) > 0 {
		return nil
	}
	item := &pg_query.Node{Node: &pg_query.Node_SortBy{SortBy: by}}
	if c := by.Node.GetAConst(); c != nil {
		return item // checked with the flat query
	}
	if ref, ok := stringsOf(by.Node.GetColumnRef().GetFields()); ok && len(ref) == 1 {
		if i := slices.Index(names, ref[0]); i >= 0 {
			if slices.Contains(names[i+1:], ref[0]) {
				return nil
			}
			by.Node = pg_query.MakeAConstIntNode(int64(i+1), 0)
			return item
		}
	}
	if by.Node = in.mapped(by.Node); by.Node == nil {
		return nil
	}
	return item
}

// Inlined returns what a lone SELECT from a function of the platform stands for, as
// SQL, "" when it is not planned as that.
func (r *Router) Inlined(c *Context, text []byte) string {
	st := r.current()
	if len(text) > maxText {
		return ""
	}
	_, info := sqltext.AppendShape(nil, text, c.ConformingStrings)
	if unfit(c, info) != nil || info.Moving {
		return ""
	}
	tree, err := pg_query.Parse(string(text))
	if err != nil || len(tree.Stmts) != 1 {
		return ""
	}
	sel := tree.Stmts[0].Stmt.GetSelectStmt()
	f, call := calledFunction(sel, st.view)
	if f == nil {
		return ""
	}
	in, reason := inline(sel, f, call, st.view)
	if reason != "" || in.clean(c) != "" {
		return ""
	}
	shown := in.flatten()
	if shown == nil || nearest(in.body) != nil {
		shown = in.nested()
	}
	out, err := pg_query.Deparse(&pg_query.ParseResult{Version: tree.Version, Stmts: []*pg_query.RawStmt{{Stmt: &pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: shown}}}}})
	if err != nil {
		return ""
	}
	return out
}

// nested is the query around with the body as a sub-query, or the body alone when the
// query around only reads it.
func (in *inlined) nested() *pg_query.SelectStmt {
	b := in.body
	if in.check != nil && b.LimitCount == nil {
		b.LimitCount, b.LimitOption = in.check, pg_query.LimitOption_LIMIT_OPTION_COUNT
	}
	for i, t := range b.TargetList {
		t.GetResTarget().Name = in.names[i]
	}
	o := in.outer
	if len(o.TargetList) == 1 && plainAround(o) && o.WhereClause == nil && len(o.SortClause) == 0 && o.LimitCount == nil && o.LimitOffset == nil {
		if f := o.TargetList[0].GetResTarget().GetVal().GetColumnRef().GetFields(); len(f) == 1 && f[0].GetAStar() != nil {
			return b
		}
	}
	around := proto.Clone(o).(*pg_query.SelectStmt)
	around.FromClause = []*pg_query.Node{{Node: &pg_query.Node_RangeSubselect{RangeSubselect: &pg_query.RangeSubselect{
		Subquery: &pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: b}}, Alias: &pg_query.Alias{Aliasname: in.alias},
	}}}}
	return around
}
