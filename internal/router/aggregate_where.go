package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// where splits the condition into bounds of the time column and conjuncts over
// grouped columns.
func (q *aggQuery) where(n *pg_query.Node, e estimator) Reason {
	if n == nil {
		return ""
	}
	if b := n.GetBoolExpr(); b != nil && b.Boolop == pg_query.BoolExprType_AND_EXPR {
		for _, a := range b.Args {
			if reason := q.where(a, e); reason != "" {
				return reason
			}
		}
		return ""
	}
	if handled, reason := q.timeBound(n, e); handled {
		return reason
	}
	if q.scope.touches(n) {
		_, reason := q.joinedExpr(n)
		q.above = append(q.above, n)
		return reason
	}
	_, reason := q.rowExpr(n)
	if reason == ReasonAggBucket {
		reason = ReasonAggTimeFilter
	}
	if reason != "" {
		return reason
	}
	q.conds = append(q.conds, n)
	q.pin(n)
	if x := n.GetAExpr(); x.GetLexpr().GetColumnRef() != nil {
		q.choose(x)
	}
	return ""
}

// pin notes a column that the conjunct fixes to one value.
func (q *aggQuery) pin(n *pg_query.Node) {
	x := n.GetAExpr()
	if x == nil || x.Kind != pg_query.A_Expr_Kind_AEXPR_OP || lastName(x.Name) != "=" || x.Lexpr == nil {
		return
	}
	for _, side := range [][2]*pg_query.Node{{x.Lexpr, x.Rexpr}, {x.Rexpr, x.Lexpr}} {
		ref := side[0].GetColumnRef()
		if ref == nil || q.mentionsColumn(side[1]) {
			continue
		}
		if c, ok := q.scope.column(ref); ok {
			q.pinned[c.Name] = true
		}
	}
}

// timeBound reads a conjunct that compares the bare time column with a value. It
// reports whether the conjunct is one.
func (q *aggQuery) timeBound(n *pg_query.Node, e estimator) (bool, Reason) {
	x := n.GetAExpr()
	if x == nil {
		return false, ""
	}
	if x.Kind == pg_query.A_Expr_Kind_AEXPR_BETWEEN && q.scope.isTime(x.Lexpr) {
		ends := x.Rexpr.GetList().GetItems()
		if len(ends) != 2 {
			return true, ReasonAggTimeFilter
		}
		if reason := q.addBound(true, false, ends[0], e); reason != "" {
			return true, reason
		}
		return true, q.addBound(false, false, ends[1], e)
	}
	if x.Kind != pg_query.A_Expr_Kind_AEXPR_OP || x.Lexpr == nil {
		return false, ""
	}
	op, value := lastName(x.Name), x.Rexpr
	switch {
	case len(x.Name) != 1:
		return false, ""
	case q.scope.isTime(x.Lexpr):
	case q.scope.isTime(x.Rexpr):
		mirrored, ok := map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}[op]
		if !ok {
			return false, ""
		}
		op, value = mirrored, x.Lexpr
	default:
		return false, ""
	}
	if q.scope.snap.UserOperators[op] {
		return true, ReasonAggUserCode
	}
	switch op {
	case ">=", ">":
		return true, q.addBound(true, op == ">", value, e)
	case "<=", "<":
		return true, q.addBound(false, op == "<", value, e)
	case "=":
		if reason := q.addBound(true, false, value, e); reason != "" {
			return true, reason
		}
		return true, q.addBound(false, false, value, e)
	}
	return true, ReasonAggTimeFilter
}

func (q *aggQuery) addBound(lower, strict bool, value *pg_query.Node, e estimator) Reason {
	b := bound{lower: lower, strict: strict, value: value}
	reason := q.evaluate(&b, e)
	if reason == "" {
		q.bounds = append(q.bounds, b)
	}
	return reason
}

// evaluate sets what follows from the literals that are in the bound's value now.
func (q *aggQuery) evaluate(b *bound, e estimator) Reason {
	value := b.value
	parameter := false
	if c := value.GetAConst().GetSval(); c != nil && !q.scope.integer {
		b.plain, b.text, b.proven = true, c.Sval, ""
	} else {
		text, reason := render(q.scope.snap, value, func(r *renderer, n *pg_query.Node) bool {
			parameter = parameter || n.GetParamRef() != nil
			if n.GetColumnRef() != nil {
				r.fail(ReasonAggTimeFilter)
			}
			return false
		})
		if reason != "" {
			return reason
		}
		if parameter {
			return ReasonAggTimeParameter
		}
		b.text, b.proven = text, q.proven(value, text)
	}
	if q.scope.integer {
		at, ok := constInteger(value)
		if !ok {
			return ReasonAggTimeBound
		}
		b.at = at
		return ""
	}
	want := kindClock
	if q.scope.timeIsUTC {
		want = kindInstant
	}
	m, ok := e.moment(value, want)
	if !ok {
		return ReasonAggTimeBound
	}
	if !q.scope.timeIsUTC && m.kind == kindInstant {
		// The comparison puts each row's clock into the session's zone, which in a zone
		// with daylight saving does not keep their order.
		if !utcZones[q.clock.zone] {
			return ReasonAggZone
		}
		q.clock.session = true
	}
	b.at, b.moving, b.until = m.in(q.scope.timeIsUTC, e.zone), m.moving, m.until
	return ""
}
