package rollup

import "time"

// Lengths of time in microseconds.
const (
	Second int64 = 1_000_000
	Minute       = 60 * Second
	Hour         = 60 * Minute
	Day          = 24 * Hour
)

// Where the grids of time_bucket start when no origin is given: Monday
// 2000-01-03 for fixed widths, January 2000 for months (TimescaleDB's
// documentation of time_bucket).
const (
	bucketOrigin      = 946_857_600 * Second
	bucketOriginMonth = 30 * 12
)

// Grid is a set of boundaries on the time axis. Either Width or Months is set.
type Grid struct {
	Width  int64 // microseconds between boundaries, 0 for a grid of months
	Months int64 // months between boundaries, 0 for a fixed width
	// Origin is one boundary: microseconds since the Unix epoch for a fixed width,
	// months since January 1970 for months.
	Origin int64
}

// Fixed returns the grid of boundaries origin + n*width, in microseconds.
func Fixed(width, origin int64) Grid {
	return Grid{Width: width, Origin: floorMod(origin, width)}
}

// Monthly returns the grid of every months-th first of a month at midnight,
// counted from origin, a number of months since January 1970.
func Monthly(months, origin int64) Grid {
	return Grid{Months: months, Origin: floorMod(origin, months)}
}

// Bucket returns time_bucket's grid for an interval width without origin and
// offset. It reports false for widths that time_bucket refuses: not positive, or
// months mixed with days or hours.
func Bucket(width Interval) (Grid, bool) {
	if months, ok := width.wholeMonths(); ok {
		return Monthly(months, bucketOriginMonth), true
	}
	if micros, ok := width.fixed(); ok {
		return Fixed(micros, bucketOrigin), true
	}
	return Grid{}, false
}

// BucketAt returns time_bucket's grid of a fixed width with a boundary at origin.
func BucketAt(width Interval, origin int64) (Grid, bool) {
	micros, ok := width.fixed()
	if !ok {
		return Grid{}, false
	}
	return Fixed(micros, origin), true
}

// BucketShifted returns time_bucket's grid of a fixed width, moved by offset.
func BucketShifted(width, offset Interval) (Grid, bool) {
	if offset.Months != 0 {
		return Grid{}, false
	}
	return BucketAt(width, bucketOrigin+offset.Days*Day+offset.Micros)
}

// Unit returns the grid of a unit of date_trunc, by its singular or plural name
// in lower case. Weeks start on Monday, centuries and millennia in 2001.
func Unit(name string) (Grid, bool) {
	switch name {
	case "second", "seconds":
		return Fixed(Second, 0), true
	case "minute", "minutes":
		return Fixed(Minute, 0), true
	case "hour", "hours":
		return Fixed(Hour, 0), true
	case "day", "days":
		return Fixed(Day, 0), true
	case "week", "weeks":
		return Fixed(7*Day, bucketOrigin), true
	case "month", "months":
		return Monthly(1, 0), true
	case "quarter":
		return Monthly(3, 0), true
	case "year", "years":
		return Monthly(12, 0), true
	case "decade", "decades":
		return Monthly(120, 30*12), true
	case "century", "centuries":
		return Monthly(1200, 31*12), true
	case "millennium", "millennia":
		return Monthly(12000, 31*12), true
	}
	return Grid{}, false
}

// Field returns the grid on which a field of extract is constant, and whether
// there is one: extract(hour) is constant within hours, extract(dow) within days.
func Field(name string) (Grid, bool) {
	switch name {
	case "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century", "millennium":
		return Unit(name)
	case "dow", "isodow", "doy":
		return Unit("day")
	case "isoyear":
		return Unit("week")
	}
	return Grid{}, false
}

// Floor returns the greatest boundary that is not after t.
func (g Grid) Floor(t int64) int64 {
	if g.Months == 0 {
		return t - floorMod(t-g.Origin, g.Width)
	}
	d := time.UnixMicro(t).UTC()
	m := int64(d.Year()-1970)*12 + int64(d.Month()) - 1
	return monthStart(m - floorMod(m-g.Origin, g.Months))
}

// Ceil returns the least boundary that is not before t.
func (g Grid) Ceil(t int64) int64 {
	f := g.Floor(t)
	if f == t {
		return t
	}
	return g.Next(f)
}

// Next returns the boundary after boundary b.
func (g Grid) Next(b int64) int64 {
	if g.Months == 0 {
		return b + g.Width
	}
	d := time.UnixMicro(b).UTC()
	return monthStart(int64(d.Year()-1970)*12 + int64(d.Month()) - 1 + g.Months)
}

// Approx returns the width in microseconds, a month counted as 30 days. It serves
// to compare costs only.
func (g Grid) Approx() int64 {
	if g.Months != 0 {
		return g.Months * 30 * Day
	}
	return g.Width
}

// Refines reports whether every boundary of coarse is a boundary of g, both in
// UTC: the bucket lemma.
func (g Grid) Refines(coarse Grid) bool { return g.refinesAt(coarse, 0) }

// refinesAt is Refines for boundaries of coarse that are read on a clock that is
// offset microseconds ahead of UTC.
func (g Grid) refinesAt(coarse Grid, offset int64) bool {
	switch {
	case g.Months != 0 && coarse.Months != 0:
		return offset == 0 && coarse.Months%g.Months == 0 && floorMod(coarse.Origin-g.Origin, g.Months) == 0
	case g.Months != 0:
		return false
	case coarse.Months != 0:
		// Months start at midnights of any day: all of them are boundaries of g
		// if and only if g divides a day and has one of them as a boundary.
		return Day%g.Width == 0 && floorMod(-offset-g.Origin, g.Width) == 0
	}
	return coarse.Width%g.Width == 0 && floorMod(coarse.Origin-offset-g.Origin, g.Width) == 0
}

// RefinesIn is Refines for boundaries of coarse that are read on the clock of loc,
// for times in [from, to). It holds if g refines coarse at every offset from UTC
// that loc has in that range and every change of the offset is a boundary of g:
// then no bucket of g sees two offsets.
func (g Grid) RefinesIn(coarse Grid, loc *time.Location, from, to int64) bool {
	for t := time.UnixMicro(from).In(loc); ; {
		_, seconds := t.Zone()
		if !g.refinesAt(coarse, int64(seconds)*Second) {
			return false
		}
		_, end := t.ZoneBounds()
		if end.IsZero() || end.UnixMicro() >= to {
			return true
		}
		if e := end.UnixMicro(); g.Floor(e) != e {
			return false
		}
		t = end
	}
}

func monthStart(months int64) int64 {
	return time.Date(1970, time.Month(1+months), 1, 0, 0, 0, 0, time.UTC).UnixMicro()
}

func floorMod(a, b int64) int64 {
	m := a % b
	if m < 0 {
		m += b
	}
	return m
}
