package vector

import "math"

// MayEnter reports whether a row whose column holds v may be among the rows that a
// query by q was answered with, or beside them at the same distance. false is proven:
// the server puts the row strictly behind them. last is the largest distance among
// them as the server computed it, +Inf if there were fewer rows than asked for; v has
// the elements of a value of q's kind. Nothing is allocated.
//
// What the server cannot compare, or sorts as it likes, may enter: other dimensions,
// NaN, zero vectors under <=>.
func MayEnter(op Op, q *Value, v []float32, last float64) bool {
	w := Dense(q.Kind, v)
	if q.Kind == Sparsevec || q.Kind == Bit {
		return true
	}
	return MayEnterValue(op, q, &w, last)
}

// MayEnterValue is MayEnter for a value of any kind. A nil v is NULL, which an
// ascending order puts last: it may enter only where rows are missing.
func MayEnterValue(op Op, q, v *Value, last float64) bool {
	if math.IsNaN(last) || math.IsInf(last, 1) {
		return true
	}
	if v == nil {
		return false
	}
	lo, _, ok := Distance(op, q, v)
	return !ok || lo <= last
}
