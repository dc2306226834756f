package gateway

import (
	"qvpgw/internal/vector"
	"qvpgw/internal/wire"
)

// area is the ball around a query's vector in which an answer's rows lie, +Inf wide
// where it has fewer rows than it was asked for.
type area struct {
	op    vector.Op
	query vector.Value
	last  float64
}

func (a *area) MayEnter(v []float32) bool {
	if v == nil {
		return vector.MayEnterValue(a.op, &a.query, nil, a.last)
	}
	return vector.MayEnter(a.op, &a.query, v, a.last)
}

// area returns the part of space that the answer speaks of; nil when it is not known.
func (f *filling) area() *area {
	if f.rows == 0 || int64(f.rows) < f.limit() {
		return nil
	}
	query, op, ok := f.query()
	if !ok {
		return nil
	}
	return &area{op: op, query: query, last: f.last}
}

// query returns the vector that the rows are ordered by their distance from, of the
// column's type; false: it is not known.
func (f *filling) query() (v vector.Value, op vector.Op, ok bool) {
	kind, ok := vector.ParseKind(f.facts.VectorType)
	if !ok {
		return v, 0, false
	}
	if op, ok = vector.ParseOp(f.probe.Operator); !ok {
		return v, 0, false
	}
	if f.probe.Cast != "" {
		if cast, ok := vector.ParseKind(f.probe.Cast); !ok || cast != kind {
			return v, 0, false // which of the two is converted is the server's to say
		}
	}
	text, format := []byte(f.probe.Literal), wire.TextFormat
	if n := f.probe.Param; n > 0 {
		if text, format, ok = f.g.param(n); !ok {
			return v, 0, false
		}
		if oid := f.g.oid(n); oid != 0 && oid != f.probe.Type {
			return v, 0, false
		}
	}
	v, err := vector.Decode(kind, int16(format), text)
	return v, op, err == nil
}

// limit is how many rows were asked for, more than there can be when it is not known.
func (f *filling) limit() int64 {
	if n, ok := f.g.number(f.probe.Limit, f.probe.LimitParam); ok && n >= 0 {
		return n
	}
	return 1 << 62
}
