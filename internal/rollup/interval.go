package rollup

import (
	"math"
	"strings"
	"time"
)

// Interval is a PostgreSQL interval: its three parts are kept apart because a
// month has no fixed number of days and a day no fixed number of hours.
type Interval struct{ Months, Days, Micros int64 }

// limits keep sums of a few intervals and times far from overflow.
const maxField = int64(1) << 40

// ParseInterval reads the spellings of an interval whose meaning no setting
// changes: "1 hour", "01:00:00", "300.000s", "7 days", "1 mon", "2 weeks 12:30".
// It reports false for everything else, also for what PostgreSQL would take.
func ParseInterval(s string) (Interval, bool) {
	var out Interval
	rest := strings.TrimSpace(s)
	if rest == "" {
		return Interval{}, false
	}
	negative := strings.HasPrefix(rest, "-")
	for fields := 0; rest != ""; fields++ {
		if negative && fields > 0 {
			return Interval{}, false // its sign depends on IntervalStyle
		}
		if fields > 0 && strings.HasPrefix(rest, "-") {
			return Interval{}, false
		}
		number, after, ok := cutNumber(rest)
		if !ok {
			return Interval{}, false
		}
		if strings.HasPrefix(after, ":") {
			micros, ok := parseClock(rest)
			if !ok {
				return Interval{}, false
			}
			out.Micros += micros
			return out, true
		}
		unit, next := cutUnit(strings.TrimLeft(after, " "))
		if unit == "" && next != "" {
			return Interval{}, false
		}
		if !out.add(number, unit) {
			return Interval{}, false
		}
		rest = strings.TrimLeft(next, " ")
	}
	return out, true
}

// decimal is units + fraction/10^6.
type decimal struct {
	units, millionths int64
	negative          bool
}

func cutNumber(s string) (decimal, string, bool) {
	var d decimal
	if strings.HasPrefix(s, "-") {
		d.negative, s = true, s[1:]
	}
	digits := 0
	for ; digits < len(s) && s[digits] >= '0' && s[digits] <= '9'; digits++ {
		if d.units = d.units*10 + int64(s[digits]-'0'); d.units > maxField {
			return d, "", false
		}
	}
	if digits == 0 {
		return d, "", false
	}
	s = s[digits:]
	if !strings.HasPrefix(s, ".") {
		return d, s, true
	}
	s = s[1:]
	scale := int64(100_000)
	digits = 0
	for ; digits < len(s) && s[digits] >= '0' && s[digits] <= '9'; digits++ {
		if scale == 0 {
			return d, "", false // finer than a microsecond: rounded, not worth knowing
		}
		d.millionths += int64(s[digits]-'0') * scale
		scale /= 10
	}
	return d, s[digits:], digits > 0
}

func cutUnit(s string) (unit, rest string) {
	i := 0
	for i < len(s) && (s[i]|0x20) >= 'a' && (s[i]|0x20) <= 'z' {
		i++
	}
	return strings.ToLower(s[:i]), s[i:]
}

func (v *Interval) add(d decimal, unit string) bool {
	n := d.units
	if d.negative {
		n = -n
	}
	switch unit {
	case "year", "years", "y", "yr", "yrs":
		v.Months += n * 12
	case "month", "months", "mon", "mons":
		v.Months += n
	case "week", "weeks", "w":
		v.Days += n * 7
	case "day", "days", "d":
		v.Days += n
	case "hour", "hours", "hr", "hrs", "h":
		return v.addMicros(d, Hour)
	case "minute", "minutes", "min", "mins", "m":
		return v.addMicros(d, Minute)
	case "", "second", "seconds", "sec", "secs", "s":
		return v.addMicros(d, Second)
	case "millisecond", "milliseconds", "ms", "msec", "msecs":
		return v.addMicros(d, 1000)
	default:
		return false
	}
	return d.millionths == 0
}

func (v *Interval) addMicros(d decimal, unit int64) bool {
	if d.units > math.MaxInt64/4/unit || d.millionths*unit%1_000_000 != 0 {
		return false
	}
	n := d.units*unit + d.millionths*unit/1_000_000
	if d.negative {
		n = -n
	}
	v.Micros += n
	return true
}

// parseClock reads "HH:MM", "HH:MM:SS" or "HH:MM:SS.ffffff".
func parseClock(s string) (int64, bool) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	var total int64
	sign := int64(1)
	for i, unit := range []int64{Hour, Minute, Second}[:len(parts)] {
		d, rest, ok := cutNumber(parts[i])
		if !ok || rest != "" || i > 0 && (d.negative || d.units > 59) || i < 2 && d.millionths != 0 || d.units > 1<<30 {
			return 0, false
		}
		if d.negative {
			sign = -1
		}
		total += d.units*unit + d.millionths*unit/1_000_000
	}
	return sign * total, true
}

func (v Interval) fixed() (int64, bool) {
	if v.Months != 0 || v.Days < 0 || v.Micros < 0 || v.Days > 1_000_000 || v.Micros > 1_000_000*Day {
		return 0, false
	}
	micros := v.Days*Day + v.Micros
	return micros, micros > 0
}

func (v Interval) wholeMonths() (int64, bool) {
	return v.Months, v.Months > 0 && v.Months <= 120_000 && v.Days == 0 && v.Micros == 0
}

// Times returns v multiplied by n.
func (v Interval) Times(n int64) Interval {
	return Interval{Months: v.Months * n, Days: v.Days * n, Micros: v.Micros * n}
}

// AddTo returns t + v as PostgreSQL adds an interval: months first, the day cut
// to the month's last one, then days on the clock of t's location, then the rest.
func (v Interval) AddTo(t time.Time) time.Time {
	if v.Months != 0 {
		day := t.Day()
		first := time.Date(t.Year(), t.Month()+time.Month(v.Months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
		last := time.Date(first.Year(), first.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		t = first.AddDate(0, 0, min(day, last)-1)
	}
	if v.Days != 0 {
		t = t.AddDate(0, 0, int(v.Days))
	}
	return time.UnixMicro(t.UnixMicro() + v.Micros).In(t.Location())
}
