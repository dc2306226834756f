package router

import (
	"strings"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/rollup"
)

// bound is one comparison of the time column with a value.
type bound struct {
	lower  bool // time >= value, time > value
	strict bool // >, <
	value  *pg_query.Node
	plain  bool   // value is a string literal, of which text is the value and proven nothing
	text   string // of value
	proven string // text for the proof, with its literals marked
	at     int64  // its estimate on the time column's scale
	moving bool
	until  time.Time // when the estimate jumps, zero if never
}

// estimator evaluates the expressions that bounds are made of. It need not be
// right: the guard proves every estimate, so a wrong one costs the route only.
type estimator struct {
	now  time.Time
	zone *time.Location // the session's
}

// moment evaluates an expression of type date, timestamp or timestamptz. want is
// the type that an untyped literal takes.
func (e estimator) moment(n *pg_query.Node, want momentKind) (moment, bool) {
	switch v := n.GetNode().(type) {
	case *pg_query.Node_AConst:
		if v.AConst.Isnull || v.AConst.GetSval() == nil {
			return moment{}, false
		}
		return e.literal(v.AConst.GetSval().Sval, want)
	case *pg_query.Node_TypeCast:
		kind, ok := momentType(v.TypeCast.TypeName)
		if !ok {
			return moment{}, false
		}
		m, ok := e.moment(v.TypeCast.Arg, kind)
		if !ok {
			return moment{}, false
		}
		return e.cast(m, kind), true
	case *pg_query.Node_SqlvalueFunction:
		switch v.SqlvalueFunction.Op {
		case pg_query.SQLValueFunctionOp_SVFOP_CURRENT_DATE:
			return e.cast(e.current(), kindDate), true
		case pg_query.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP:
			return e.current(), true
		case pg_query.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP:
			return e.cast(e.current(), kindClock), true
		}
	case *pg_query.Node_FuncCall:
		return e.function(v.FuncCall)
	case *pg_query.Node_AExpr:
		return e.sum(v.AExpr, want)
	}
	return moment{}, false
}

func (e estimator) current() moment {
	return moment{kind: kindInstant, micro: e.now.UnixMicro(), moving: true}
}

func (e estimator) literal(s string, want momentKind) (moment, bool) {
	t, offset, ok := parseTimestamp(s)
	if !ok {
		return moment{}, false
	}
	switch {
	case want == kindInstant && offset.known:
		return moment{kind: want, micro: t - offset.micros}, true
	case want == kindInstant:
		return moment{kind: want, micro: fromClock(t, e.zone)}, true
	case want == kindDate:
		t -= t % rollup.Day
	}
	return moment{kind: want, micro: t}, true // a clock's literal has its offset ignored
}

func momentType(t *pg_query.TypeName) (momentKind, bool) {
	switch {
	case typeNamed(t, "timestamptz"):
		return kindInstant, true
	case typeNamed(t, "timestamp"):
		return kindClock, true
	case typeNamed(t, "date"):
		return kindDate, true
	}
	return 0, false
}

func (e estimator) cast(m moment, kind momentKind) moment {
	if m.kind == kind {
		return m
	}
	switch kind {
	case kindInstant:
		m.micro = fromClock(m.micro, e.zone)
	case kindClock:
		m.micro = m.in(false, e.zone)
	case kindDate:
		clock := m.in(false, e.zone)
		day, _ := rollup.Unit("day")
		m = e.truncate(m, clock, day)
	}
	m.kind = kind
	return m
}

// truncate cuts a clock's value to a grid and notes when it will jump.
func (e estimator) truncate(m moment, clock int64, g rollup.Grid) moment {
	floor := g.Floor(clock)
	if m.moving {
		m.moving = false
		m.until = e.now.Add(time.Duration(g.Next(floor)-clock) * time.Microsecond)
	}
	m.micro = floor
	return m
}

func (e estimator) function(f *pg_query.FuncCall) (moment, bool) {
	switch name := functionName(f); {
	case (name == "now" || name == "transaction_timestamp") && len(f.Args) == 0:
		return e.current(), true
	case name == "date_trunc" && len(f.Args) == 2:
		unit, ok := constString(f.Args[0])
		g, known := rollup.Unit(strings.ToLower(unit))
		m, isMoment := e.moment(f.Args[1], kindInstant)
		if !ok || !known || !isMoment {
			return moment{}, false
		}
		kind := m.kind
		if kind == kindDate {
			m, kind = e.cast(m, kindInstant), kindInstant
		}
		m = e.truncate(m, m.in(false, e.zone), g)
		if kind == kindInstant {
			m.micro = fromClock(m.micro, e.zone)
		}
		m.kind = kind
		return m, true
	case name == "to_timestamp" && len(f.Args) == 2:
		text, ok := constString(f.Args[0])
		format, okFormat := constString(f.Args[1])
		if !ok || !okFormat || !isoFormats[strings.ToUpper(format)] {
			return moment{}, false
		}
		return e.literal(text, kindInstant)
	}
	return moment{}, false
}

// isoFormats are the formats of to_timestamp that mean what parseTimestamp reads.
var isoFormats = setOf("YYYY-MM-DD", "YYYY-MM-DD HH24:MI:SS", "YYYY-MM-DD HH24:MI:SS.US", "YYYY-MM-DD HH24:MI:SS.MS")

func (e estimator) sum(x *pg_query.A_Expr, want momentKind) (moment, bool) {
	op := lastName(x.Name)
	if x.Kind != pg_query.A_Expr_Kind_AEXPR_OP || x.Lexpr == nil || op != "+" && op != "-" {
		return moment{}, false
	}
	if x.Lexpr.GetAConst() != nil {
		return moment{}, false // the type of an untyped literal left of an operator depends on the right side
	}
	m, ok := e.moment(x.Lexpr, want)
	if !ok {
		return moment{}, false
	}
	if days := x.Rexpr.GetAConst().GetIval(); days != nil && m.kind == kindDate {
		n := int64(days.Ival)
		if op == "-" {
			n = -n
		}
		m.micro += n * rollup.Day
		return m, true
	}
	v, ok := interval(x.Rexpr)
	if !ok {
		return moment{}, false
	}
	if op == "-" {
		v = v.Times(-1)
	}
	zone := time.UTC
	if m.kind == kindInstant {
		zone = e.zone
	}
	m.micro = v.AddTo(time.UnixMicro(m.micro).In(zone)).UnixMicro()
	if m.kind == kindDate {
		m.kind = kindClock // date + interval is a timestamp
	}
	return m, true
}

// interval evaluates an interval literal, or one multiplied by a whole number.
func interval(n *pg_query.Node) (rollup.Interval, bool) {
	if v, ok := constInterval(n); ok {
		return v, true
	}
	x := n.GetAExpr()
	if x == nil || x.Kind != pg_query.A_Expr_Kind_AEXPR_OP || lastName(x.Name) != "*" || x.Lexpr == nil {
		return rollup.Interval{}, false
	}
	factor, value := x.Lexpr, x.Rexpr
	if value.GetTypeCast() == nil {
		factor, value = value, factor
	}
	k := factor.GetAConst().GetIval()
	v, ok := constInterval(value)
	if k == nil || !ok || value.GetTypeCast() == nil {
		return rollup.Interval{}, false
	}
	return v.Times(int64(k.Ival)), true
}

// timeRange is what the query's bounds say about time: [from, to) is the estimate.
type timeRange struct {
	from, to   int64
	low, high  *bound // the tightest ones, nil when open: those at lowAt and highAt of all
	all        []bound
	lowAt      int
	highAt     int
	validUntil time.Time // zero: for ever
}

// rangeOf puts bounds together.
func rangeOf(bounds []bound) timeRange {
	r := timeRange{from: rollup.MinTime, to: rollup.MaxTime, all: bounds}
	for i := range bounds {
		b := &bounds[i]
		if !b.until.IsZero() && (r.validUntil.IsZero() || b.until.Before(r.validUntil)) {
			r.validUntil = b.until
		}
		edge := b.at
		if b.lower == b.strict {
			edge++ // t > x is t >= x + 1 µs, t <= x is t < x + 1 µs
		}
		if b.lower && (r.low == nil || edge > r.from) {
			r.from, r.low, r.lowAt = edge, b, i
		}
		if !b.lower && (r.high == nil || edge < r.to) {
			r.to, r.high, r.highAt = edge, b, i
		}
	}
	return r
}

// proven writes a bound for the proof: literals that differ between statements of one
// shape are marked, where a parameter of a type that is known reads them as the
// literal is read.
func (q *aggQuery) proven(value *pg_query.Node, text string) string {
	if v, ok := constInteger(value); ok && q.scope.integer && value.GetAConst() != nil {
		return markedInt(v)
	}
	formatted := false // inside to_timestamp
	out, reason := render(q.scope.snap, value, func(r *renderer, n *pg_query.Node) bool {
		if c := n.GetTypeCast(); c != nil && c.Arg.GetAConst().GetSval() != nil {
			if _, known := momentType(c.TypeName); !known && !integerType(c.TypeName) {
				return false
			}
			typ, reason := render(q.scope.snap, n, nil)
			if reason != "" {
				return false
			}
			typ = strings.TrimSuffix(typ[strings.LastIndex(typ, " AS ")+len(" AS "):], ")")
			r.write("CAST(", marked(typ, c.Arg.GetAConst().GetSval().Sval), " AS ", typ, ")")
			return true
		}
		if f := n.GetFuncCall(); f != nil && functionName(f) == "to_timestamp" && len(f.Args) == 2 && !formatted {
			formatted = true
			r.function(f)
			formatted = false
			return true
		}
		if c := n.GetAConst(); c.GetSval() != nil && formatted {
			r.write(marked("pg_catalog.text", c.GetSval().Sval))
			return true
		}
		return false
	})
	if reason != "" {
		return text
	}
	return out
}
