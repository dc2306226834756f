package router

import (
	"strconv"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/rollup"
)

// aggCall is one call of an aggregate function that is put together from partials.
type aggCall struct {
	rollup.Call
	function string // as the user spelled its name
}

// groupExpr renders an expression over groups: keys become columns of the union,
// calls what combined gives for their number and for the FILTER behind them.
func (q *aggQuery) groupExpr(n *pg_query.Node, combined func(call int, filter string) string) (string, Reason) {
	return render(q.scope.snap, n, func(r *renderer, n *pg_query.Node) bool { return q.overGroups(r, n, combined) })
}

func (q *aggQuery) overGroups(r *renderer, n *pg_query.Node, combined func(call int, filter string) string) bool {
	if n.GetAConst() == nil && n.GetParamRef() == nil {
		if raw, reason := render(q.scope.snap, n, q.overJoined); reason == "" {
			if i := q.keyIndex(raw, false); i >= 0 {
				r.write(keyColumn(i))
				return true
			}
			if text := q.mixedText(raw); text != "" {
				r.write(text)
				return true
			}
		}
	}
	if f := n.GetFuncCall(); f != nil && f.Over != nil {
		r.window(f)
		return true
	}
	if f := n.GetFuncCall(); f != nil && distinctFunctions[functionName(f)] && f.AggDistinct {
		text, reason := q.distinctCall(f)
		r.fail(reason)
		r.write(text)
		return true
	}
	if f := n.GetFuncCall(); f != nil && repeatable[functionName(f)] && len(f.Args) == 1 && q.scope.touches(f.Args[0]) {
		text, reason := q.joinedCall(f, "(")
		r.fail(reason)
		r.write(text)
		return true
	}
	if f := n.GetFuncCall(); f != nil {
		if fn, ok := rollup.FuncNamed(functionName(f)); ok {
			filter, reason := q.filter(f)
			i := 0
			if reason == "" {
				i, reason = q.call(f, fn)
			}
			if reason != "" {
				r.fail(reason)
				return true
			}
			r.write(combined(i, filter))
			return true
		}
	}
	if g := n.GetGroupingFunc(); g != nil {
		if q.groups != nil {
			r.list("GROUPING(", g.Args, ")")
			return true
		}
		// Without grouping sets it is 0, and the keys may be grouped already.
		for _, a := range g.Args {
			if _, reason := q.groupExpr(a, combined); reason != "" {
				r.fail(reason)
			}
		}
		if len(q.keys)+len(q.mixed) == 0 {
			r.fail(ReasonAggGroupingSets)
		}
		r.write("CAST(0 AS pg_catalog.int4)")
		return true
	}
	if ref := n.GetColumnRef(); ref != nil {
		_, joined := q.scope.dimension(ref)
		if _, ok := q.scope.column(ref); ok || joined {
			r.fail(ReasonAggUngrouped)
		} else {
			r.fail(ReasonAggColumn)
		}
		return true
	}
	return false
}

// filter writes the FILTER of a call over the union: its condition is a key of its
// own, so that rows for which it holds are never put together with others.
func (q *aggQuery) filter(f *pg_query.FuncCall) (string, Reason) {
	if f.AggFilter == nil {
		return "", ""
	}
	text, reason := q.inside(f.AggFilter)
	switch reason {
	case "":
		return " FILTER (WHERE " + text + ")", ""
	case ReasonAggBucket:
		return "", ReasonAggFilterClause
	}
	return "", reason
}

// inside writes what FILTER and DISTINCT inside a call look at.
func (q *aggQuery) inside(n *pg_query.Node) (string, Reason) {
	q.gathers = true
	if q.scope.touches(n) {
		return q.joinedExpr(n)
	}
	i, reason := q.hiddenKey(n)
	return keyColumn(i), reason
}

// distinctFunctions are those whose result over distinct values of a grouped
// expression depends on the set of values alone.
var distinctFunctions = setOf("count", "sum", "avg", "min", "max", "array_agg")

// distinctCall writes f(DISTINCT x) for a grouped x: every value of x is a key.
func (q *aggQuery) distinctCall(f *pg_query.FuncCall) (string, Reason) {
	return q.joinedCall(f, "(DISTINCT ")
}

// repeatable are the functions whose result is the same however often a value
// comes: those of joined tables need no partials.
var repeatable = setOf("min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or")

// joinedCall writes a call that looks at the keys of the union and at joined tables.
func (q *aggQuery) joinedCall(f *pg_query.FuncCall, open string) (string, Reason) {
	names, ok := stringsOf(f.Funcname)
	switch {
	case !ok, len(names) > 2:
		return "", ReasonAggFunction
	case q.scope.snap.UserFunctions[names[len(names)-1]]:
		return "", ReasonAggUserCode
	case len(f.Args) != 1, len(f.AggOrder) > 0, f.AggWithinGroup, f.FuncVariadic, f.Args[0].GetAConst() != nil, f.Args[0].GetParamRef() != nil:
		return "", ReasonAggFilterClause
	}
	filter, reason := q.filter(f)
	if reason != "" {
		return "", reason
	}
	text, reason := q.inside(f.Args[0])
	if reason == ReasonAggBucket {
		reason = ReasonAggFilterClause
	}
	return dottedText(names) + open + text + ")" + filter, reason
}

// call registers an aggregate call and returns its number.
func (q *aggQuery) call(f *pg_query.FuncCall, fn rollup.Func) (int, Reason) {
	names, ok := stringsOf(f.Funcname)
	switch {
	case !ok, len(names) > 2:
		return 0, ReasonAggFunction
	case q.scope.snap.UserFunctions[names[len(names)-1]]:
		return 0, ReasonAggUserCode
	case f.AggDistinct, len(f.AggOrder) > 0, f.AggWithinGroup, f.FuncVariadic:
		return 0, ReasonAggFilterClause
	}
	call := aggCall{function: dottedText(names)}
	call.Func = fn
	want := 1
	if fn == rollup.First || fn == rollup.Last {
		want = 2
	}
	switch {
	case f.AggStar && fn == rollup.Count:
		call.Star = true
	case len(f.Args) != want:
		return 0, ReasonAggArgument
	case want == 2 && !q.scope.isTime(f.Args[1]):
		return 0, ReasonAggArgument
	case fn == rollup.Count && notNullConstant(f.Args[0]):
		call.Star = true
	default:
		arg := f.Args[0]
		if fn == rollup.Sum || fn == rollup.Avg {
			arg = q.scope.widened(arg)
		}
		c, ok := q.scope.value(arg)
		switch {
		case !ok && arg.GetColumnRef() != nil:
			return 0, ReasonAggColumn
		case !ok:
			return 0, ReasonAggArgument
		case arg.GetColumnRef() == nil:
			raw, reason := render(q.scope.snap, arg, q.overRaw)
			if reason != "" {
				return 0, reason
			}
			q.values[c.Name] = raw
		}
		call.Column, call.Time = c, c.Name == q.scope.hyper.TimeColumn
	}
	key := strconv.Itoa(int(fn)) + " " + call.Column.Name
	if i, ok := q.callNo[key]; ok {
		return i, ""
	}
	q.calls = append(q.calls, call)
	q.callNo[key] = len(q.calls) - 1
	return len(q.calls) - 1, ""
}

func notNullConstant(n *pg_query.Node) bool {
	c := n.GetAConst()
	return c != nil && !c.Isnull && c.GetIval() != nil
}

// verbatimCalls lets through what stands over groups only, in its own spelling:
// aggregate calls that call has checked, window functions and GROUPING.
func verbatimCalls(r *renderer, n *pg_query.Node) bool {
	if g := n.GetGroupingFunc(); g != nil {
		r.list("GROUPING(", g.Args, ")")
		return true
	}
	f := n.GetFuncCall()
	if f == nil {
		return false
	}
	if f.Over != nil {
		r.window(f)
		return true
	}
	if _, ok := rollup.FuncNamed(functionName(f)); !ok && !(f.AggDistinct && distinctFunctions[functionName(f)]) {
		return false
	}
	names, _ := stringsOf(f.Funcname)
	r.write(dottedText(names))
	switch {
	case f.AggStar:
		r.write("(*)")
	case f.AggDistinct:
		r.list("(DISTINCT ", f.Args, ")")
	default:
		r.list("(", f.Args, ")")
	}
	if f.AggFilter != nil {
		r.write(" FILTER (WHERE ")
		r.expr(f.AggFilter)
		r.write(")")
	}
	return true
}
