package router

import (
	"strings"
	"time"
	_ "time/tzdata" // the zone rules, where the machine has none

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/rollup"
)

// need is what one time expression of the query asks of an aggregate: that the
// aggregate's grid refines this one, on the clock of zone.
type need struct {
	grid rollup.Grid
	zone string // "" for UTC or a timestamp without time zone
	// start: the expression differs from one bucket of the grid to the next, as a
	// bucket's start does and the hour of the day does not.
	start bool
	// positive: only from zero on, as division of integers cuts towards zero.
	positive bool
}

// timeTerm is the time column, or the time column on the clock of a zone.
type timeTerm struct {
	instant bool   // timestamptz, not yet on any clock
	zone    string // of a term that is not an instant; "" for a plain timestamp column
	session bool   // zone is the session's TimeZone
	shift   int64  // microseconds that are added on the clock
}

// buckets recognizes expressions that are constant on a grid of times.
type buckets struct {
	scope   *scope
	zone    string // the session's TimeZone
	session bool   // set once the session's TimeZone matters
}

// form reports whether the node is a function of the time column that is constant
// on a grid, and which: time_bucket, date_trunc, a cast to date, extract, date_bin,
// to_char, floor(extract(epoch …) / n).
func (b *buckets) form(n *pg_query.Node) (need, bool) {
	if b.scope.integer {
		return b.integerForm(n)
	}
	if c := n.GetTypeCast(); c != nil {
		if typeNamed(c.TypeName, "date") {
			return b.onClock(c.Arg, "day")
		}
		return need{}, false
	}
	f := n.GetFuncCall()
	if f == nil || f.AggStar || f.Over != nil {
		return need{}, false
	}
	names, ok := stringsOf(f.Funcname)
	if !ok {
		return need{}, false
	}
	switch name := names[len(names)-1]; {
	case name == "time_bucket":
		return b.timeBucket(f.Args)
	case name == "date_bin" && len(f.Args) == 3:
		return b.dateBin(f.Args)
	case name == "date_trunc" && (len(f.Args) == 2 || len(f.Args) == 3):
		return b.dateTrunc(f.Args)
	case name == "date" && len(f.Args) == 1:
		return b.onClock(f.Args[0], "day")
	case (name == "extract" || name == "date_part") && len(f.Args) == 2:
		return b.extract(f.Args)
	case name == "to_char" && len(f.Args) == 2:
		return b.toChar(f.Args)
	case name == "floor" && len(f.Args) == 1:
		return b.epochFloor(f.Args[0])
	}
	return need{}, false
}

// term reports whether the node is the time column, or the column put on a clock
// by a cast to timestamp or AT TIME ZONE.
func (b *buckets) term(n *pg_query.Node) (timeTerm, bool) {
	if b.scope.isTime(n) {
		return timeTerm{instant: b.scope.timeIsUTC}, true
	}
	if c := n.GetTypeCast(); c != nil && len(c.TypeName.GetTypmods()) == 0 {
		t, ok := b.term(c.Arg)
		switch {
		case !ok:
		case typeNamed(c.TypeName, "timestamp"):
			if t.instant {
				t = timeTerm{zone: b.zone, session: true}
			}
			return t, true
		case typeNamed(c.TypeName, "timestamptz") && t.instant:
			return t, true
		}
		return timeTerm{}, false
	}
	f := n.GetFuncCall()
	if f == nil || len(f.Args) != 2 || functionName(f) != "timezone" {
		return timeTerm{}, false
	}
	zone, ok := constString(f.Args[0])
	t, isTerm := b.term(f.Args[1])
	if !ok || !isTerm || !t.instant {
		return timeTerm{}, false
	}
	return timeTerm{zone: zone}, true
}

// clock returns the zone in which the term's fields are read.
func (b *buckets) clock(t timeTerm) string {
	if t.instant {
		b.session = true
		return b.zone
	}
	b.session = b.session || t.session
	return t.zone
}

func (b *buckets) onClock(arg *pg_query.Node, unit string) (need, bool) {
	t, ok := b.shifted(arg)
	grid, known := rollup.Unit(unit)
	if !ok || !known {
		return need{}, false
	}
	zone := b.clock(t)
	if t.shift != 0 {
		// A day may have 23 hours elsewhere, and months have no common length.
		if grid.Months != 0 || t.instant && !utcZones[zone] {
			return need{}, false
		}
		grid = rollup.Fixed(grid.Width, grid.Origin-t.shift)
	}
	return need{grid: grid, zone: zone, start: true}, true
}

// shifted is term for a clock to which days or hours are added, as for weeks that start
// on Sunday.
func (b *buckets) shifted(n *pg_query.Node) (timeTerm, bool) {
	e := n.GetAExpr()
	if e == nil {
		return b.term(n)
	}
	op := lastName(e.Name)
	if e.Kind != pg_query.A_Expr_Kind_AEXPR_OP || len(e.Name) != 1 || op != "+" && op != "-" || e.Lexpr == nil || e.Rexpr.GetTypeCast() == nil {
		return timeTerm{}, false
	}
	t, ok := b.term(e.Lexpr)
	shift, isInterval := constInterval(e.Rexpr)
	if !ok || !isInterval || shift.Months != 0 {
		return timeTerm{}, false
	}
	t.shift = shift.Days*rollup.Day + shift.Micros
	if op == "-" {
		t.shift = -t.shift
	}
	return t, true
}

func (b *buckets) dateTrunc(args []*pg_query.Node) (need, bool) {
	unit, ok := constString(args[0])
	if !ok {
		return need{}, false
	}
	if len(args) == 2 {
		return b.onClock(args[1], strings.ToLower(unit))
	}
	zone, ok := constString(args[2])
	t, isTerm := b.term(args[1])
	grid, known := rollup.Unit(strings.ToLower(unit))
	if !ok || !isTerm || !known || !t.instant {
		return need{}, false
	}
	return need{grid: grid, zone: zone, start: true}, true
}

func (b *buckets) extract(args []*pg_query.Node) (need, bool) {
	field, ok := constString(args[0])
	t, isTerm := b.term(args[1])
	grid, known := rollup.Field(strings.ToLower(field))
	if !ok || !isTerm || !known {
		return need{}, false
	}
	return need{grid: grid, zone: b.clock(t)}, true
}

// timeBucket reads time_bucket(width, t [, origin | offset | zone]).
func (b *buckets) timeBucket(args []*pg_query.Node) (need, bool) {
	if zone, ok := bucketZone(args); ok {
		t, isTerm := b.term(args[1])
		width, isWidth := constInterval(args[0])
		grid, ok := rollup.Bucket(width)
		_, known := location(zone)
		if !isTerm || !t.instant || !isWidth || !ok || !known {
			return need{}, false
		}
		return need{grid: grid, zone: zone, start: true}, true
	}
	grid, arg, ok := bucketGrid(args)
	if !ok {
		return need{}, false
	}
	t, isTerm := b.term(arg)
	if !isTerm {
		return need{}, false
	}
	if t.instant {
		return need{grid: grid, start: true}, true // time_bucket of timestamptz counts in UTC
	}
	return need{grid: grid, zone: b.clock(t), start: true}, true
}

// bucketZone returns the zone of time_bucket(width, t, zone): an untyped literal in
// that place is a text, which is a zone's name.
func bucketZone(args []*pg_query.Node) (string, bool) {
	if len(args) != 3 || args[0].GetNamedArgExpr() != nil || args[1].GetNamedArgExpr() != nil {
		return "", false
	}
	third := args[2]
	if named := third.GetNamedArgExpr(); named != nil {
		if named.Name != "timezone" {
			return "", false
		}
		third = named.Arg
	}
	return constString(third)
}

// bucketGrid returns the grid of a call of time_bucket and the argument that it
// buckets.
func bucketGrid(args []*pg_query.Node) (rollup.Grid, *pg_query.Node, bool) {
	if len(args) < 2 || len(args) > 3 || args[0].GetNamedArgExpr() != nil || args[1].GetNamedArgExpr() != nil {
		return rollup.Grid{}, nil, false
	}
	width, ok := constInterval(args[0])
	if !ok {
		return rollup.Grid{}, nil, false
	}
	if len(args) == 2 {
		grid, ok := rollup.Bucket(width)
		return grid, args[1], ok
	}
	third, name := args[2], ""
	if named := third.GetNamedArgExpr(); named != nil {
		third, name = named.Arg, named.Name
	}
	cast := third.GetTypeCast()
	if cast == nil {
		return rollup.Grid{}, nil, false // a bare literal may be an origin, an offset or a zone
	}
	switch {
	case typeNamed(cast.TypeName, "interval") && (name == "" || name == "offset"):
		offset, ok := constInterval(third)
		if !ok {
			return rollup.Grid{}, nil, false
		}
		grid, ok := rollup.BucketShifted(width, offset)
		return grid, args[1], ok
	case name == "" || name == "origin":
		origin, ok := constOrigin(cast)
		if !ok {
			return rollup.Grid{}, nil, false
		}
		grid, ok := rollup.BucketAt(width, origin)
		return grid, args[1], ok
	}
	return rollup.Grid{}, nil, false
}

func (b *buckets) dateBin(args []*pg_query.Node) (need, bool) {
	width, ok := constInterval(args[0])
	t, isTerm := b.term(args[1])
	cast := args[2].GetTypeCast()
	if !ok || !isTerm || cast == nil {
		return need{}, false
	}
	if typeNamed(cast.TypeName, "timestamptz") != t.instant {
		return need{}, false
	}
	origin, ok := constOrigin(cast)
	if !ok {
		return need{}, false
	}
	grid, ok := rollup.BucketAt(width, origin)
	if !ok {
		return need{}, false
	}
	if t.instant {
		return need{grid: grid, start: true}, true
	}
	return need{grid: grid, zone: b.clock(t), start: true}, true
}

// epochFloor reads the argument of floor(extract(epoch from t) / n), n whole
// seconds.
func (b *buckets) epochFloor(n *pg_query.Node) (need, bool) {
	e := n.GetAExpr()
	if e == nil || e.Kind != pg_query.A_Expr_Kind_AEXPR_OP || lastName(e.Name) != "/" {
		return need{}, false
	}
	seconds := e.Rexpr.GetAConst()
	f := e.Lexpr.GetFuncCall()
	if seconds == nil || seconds.GetIval() == nil || seconds.GetIval().Ival < 1 || f == nil || len(f.Args) != 2 {
		return need{}, false
	}
	if name := functionName(f); name != "extract" && name != "date_part" {
		return need{}, false
	}
	field, ok := constString(f.Args[0])
	t, isTerm := b.term(f.Args[1])
	if !ok || !isTerm || strings.ToLower(field) != "epoch" {
		return need{}, false
	}
	grid := rollup.Fixed(int64(seconds.GetIval().Ival)*rollup.Second, 0)
	if t.instant {
		return need{grid: grid}, true
	}
	return need{grid: grid, zone: b.clock(t)}, true
}

// toChar reads to_char(t, format) for formats of whole fields down to the minute.
func (b *buckets) toChar(args []*pg_query.Node) (need, bool) {
	format, ok := constString(args[1])
	t, isTerm := b.term(args[0])
	if !ok || !isTerm {
		return need{}, false
	}
	unit, ok := finestField(format)
	if !ok {
		return need{}, false
	}
	grid, _ := rollup.Unit(unit)
	return need{grid: grid, zone: b.clock(t)}, true
}

// finestField returns the unit within which a to_char format is constant. Formats
// with anything but whole fields and punctuation are not followed.
func finestField(format string) (string, bool) {
	fields := []struct{ pattern, unit string }{
		{"HH24", "hour"},
		{"YYYY", "year"},
		{"IYYY", "week"},
		{"DDD", "day"},
		{"MM", "month"},
		{"DD", "day"},
		{"MI", "minute"},
		{"IW", "week"},
		{"ID", "day"},
		{"Q", "quarter"},
	}
	units := []string{"minute", "hour", "day", "week", "month", "quarter", "year"}
	finest := len(units)
	for format != "" {
		matched := false
		for _, f := range fields {
			if strings.HasPrefix(format, f.pattern) {
				for i, u := range units {
					if u == f.unit {
						finest = min(finest, i)
					}
				}
				format, matched = format[len(f.pattern):], true
				break
			}
		}
		if matched {
			continue
		}
		if !strings.ContainsRune("-/:. _,", rune(format[0])) {
			return "", false
		}
		format = format[1:]
	}
	if finest == len(units) {
		return "", false
	}
	// Weeks do not nest in months, quarters and years: both change on days.
	if strings.Contains(units[finest], "week") {
		return "day", true
	}
	return units[finest], true
}

// zones that are always at UTC, by the names that PostgreSQL and the zone
// database share.
var utcZones = setOf("UTC", "Etc/UTC", "GMT", "Etc/GMT", "Etc/UCT", "Etc/Zulu", "Etc/Universal", "Etc/Greenwich")

// location returns the zone of that name. Names without a slash, besides UTC and
// GMT, are refused: PostgreSQL may read them as abbreviations or POSIX rules.
func location(name string) (*time.Location, bool) {
	if utcZones[name] || name == "" {
		return time.UTC, true
	}
	if !strings.Contains(name, "/") {
		return nil, false
	}
	loc, err := time.LoadLocation(name)
	return loc, err == nil
}

// typeNamed reports whether t is the plain built-in type of that name.
func typeNamed(t *pg_query.TypeName, name string) bool {
	names, ok := stringsOf(t.GetNames())
	if !ok || len(t.Typmods) > 0 || len(t.ArrayBounds) > 0 || t.Setof {
		return false
	}
	return len(names) == 1 && names[0] == name || len(names) == 2 && names[0] == "pg_catalog" && names[1] == name
}

func functionName(f *pg_query.FuncCall) string { return lastName(f.GetFuncname()) }

func lastName(nodes []*pg_query.Node) string {
	names, ok := stringsOf(nodes)
	if !ok || len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

// constString returns a string literal, bare or cast to text.
func constString(n *pg_query.Node) (string, bool) {
	for c := n.GetTypeCast(); c != nil && typeNamed(c.TypeName, "text"); c = n.GetTypeCast() {
		n = c.Arg
	}
	c := n.GetAConst()
	if c == nil || c.Isnull || c.GetSval() == nil {
		return "", false
	}
	return c.GetSval().Sval, true
}

// constInterval returns an interval literal, bare or cast.
func constInterval(n *pg_query.Node) (rollup.Interval, bool) {
	for c := n.GetTypeCast(); c != nil; c = n.GetTypeCast() {
		if !typeNamed(c.TypeName, "interval") {
			return rollup.Interval{}, false
		}
		n = c.Arg
	}
	c := n.GetAConst()
	if c == nil || c.Isnull || c.GetSval() == nil {
		return rollup.Interval{}, false
	}
	return rollup.ParseInterval(c.GetSval().Sval)
}

// constOrigin returns the moment of a literal cast to timestamptz that names its
// offset from UTC, or cast to timestamp.
func constOrigin(c *pg_query.TypeCast) (int64, bool) {
	a := c.Arg.GetAConst()
	if a == nil || a.Isnull || a.GetSval() == nil {
		return 0, false
	}
	t, offset, ok := parseTimestamp(a.GetSval().Sval)
	switch {
	case !ok:
	case typeNamed(c.TypeName, "timestamptz") && offset.known:
		return t - offset.micros, true
	case typeNamed(c.TypeName, "timestamp"):
		return t, true
	}
	return 0, false
}
