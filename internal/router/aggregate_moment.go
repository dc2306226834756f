package router

import (
	"strings"
	"time"

	"qvpgw/internal/rollup"
)

// zoneOffset is the offset from UTC that a timestamp literal names.
type zoneOffset struct {
	known  bool
	micros int64
}

// parseTimestamp reads an ISO 8601 date or timestamp as every DateStyle does:
// 2024-01-02, 2024-01-02 03:04, 2024-01-02T03:04:05.678Z, 2024-01-02 03:04:05+05:30.
// It returns microseconds since the Unix epoch as if the clock were UTC's, and the
// offset. It reports false for everything else that PostgreSQL would take.
func parseTimestamp(s string) (int64, zoneOffset, bool) {
	s = strings.TrimSpace(s)
	if len(s) < 10 {
		return 0, zoneOffset{}, false
	}
	micros, ok := dayOf(s[:10])
	if !ok {
		return 0, zoneOffset{}, false
	}
	rest := s[10:]
	if len(rest) == len(" 15:04:05") && (rest[0] == ' ' || rest[0] == 'T') && rest[3] == ':' && rest[6] == ':' {
		if h, m, s := digits(rest[1:3]), digits(rest[4:6]), digits(rest[7:9]); uint(h) < 24 && uint(m) < 60 && uint(s) < 60 {
			return micros + int64(h*3600+m*60+s)*rollup.Second, zoneOffset{}, true
		}
	}
	if rest == "" {
		return micros, zoneOffset{}, true
	}
	if rest[0] != ' ' && rest[0] != 'T' {
		return 0, zoneOffset{}, false
	}
	clock, zone := rest[1:], ""
	if i := strings.IndexAny(clock, "Zz+-"); i >= 0 {
		clock, zone = clock[:i], clock[i:]
	}
	clock = strings.TrimRight(clock, " ")
	layout := "15:04:05" // it reads fractions too
	if strings.Count(clock, ":") == 1 {
		layout = "15:04"
	}
	t, err := time.Parse(layout, clock)
	if err != nil || len(clock) > len("15:04:05.999999") {
		return 0, zoneOffset{}, false
	}
	offset, ok := parseOffset(zone)
	return micros + t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds(), offset, ok
}

// dayOf reads 2024-01-02 as microseconds.
func dayOf(s string) (int64, bool) {
	year, month, day := digits(s[:4]), digits(s[5:7]), digits(s[8:10])
	if s[4] != '-' || s[7] != '-' || year < 1 || month < 1 || day < 1 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return t.UnixMicro(), t.Day() == day && t.Month() == time.Month(month)
}

// digits reads decimal digits, -1 when there is something else.
func digits(s string) int {
	n := 0
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return -1
		}
		n = 10*n + int(c)
	}
	return n
}

func parseOffset(s string) (zoneOffset, bool) {
	if s == "" {
		return zoneOffset{}, true
	}
	if s == "Z" || s == "z" {
		return zoneOffset{known: true}, true
	}
	sign := int64(1)
	if s[0] == '-' {
		sign = -1
	}
	for _, layout := range []string{"15", "15:04", "1504"} {
		if t, err := time.Parse(layout, s[1:]); err == nil && len(layout) == len(s)-1 {
			return zoneOffset{known: true, micros: sign * t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()}, true
		}
	}
	return zoneOffset{}, false
}

// momentText spells a moment as PostgreSQL reads it under every DateStyle.
func momentText(micros int64, instant bool) string {
	return string(appendMoment(nil, micros, instant))
}

func appendMoment(b []byte, micros int64, instant bool) []byte {
	t := time.UnixMicro(micros).UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		b = t.AppendFormat(b, "2006-01-02 15:04:05.999999")
	} else {
		hour, minute, second := t.Clock()
		two := func(n int, before byte) { b = append(b, before, byte('0'+n/10), byte('0'+n%10)) }
		b = append(b, byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10))
		two(int(month), '-')
		two(day, '-')
		two(hour, ' ')
		two(minute, ':')
		two(second, ':')
		if part := t.Nanosecond() / 1000; part > 0 {
			b = append(b, '.')
			for unit := 100_000; part > 0; unit /= 10 {
				b = append(b, byte('0'+part/unit))
				part %= unit
			}
		}
	}
	if instant {
		b = append(b, "+00"...)
	}
	return b
}

// moment is a value of the clock that a bound's expression has when it is
// evaluated at the time of planning.
type moment struct {
	kind  momentKind
	micro int64 // of an instant: since the Unix epoch; of a clock or date: as if the clock were UTC's
	// moving: the value grows with now(). until: the moment at which it next jumps,
	// zero if it does not.
	moving bool
	until  time.Time
}

type momentKind uint8

const (
	kindInstant momentKind = iota + 1 // timestamptz
	kindClock                         // timestamp
	kindDate
)

// in converts the moment to the time column's own scale, as a comparison does.
func (m moment) in(instant bool, zone *time.Location) int64 {
	if (m.kind == kindInstant) == instant {
		return m.micro
	}
	if instant {
		return fromClock(m.micro, zone)
	}
	return toClock(m.micro, zone)
}

// toClock returns what the zone's clock shows at the instant, as if it were UTC's.
func toClock(micros int64, zone *time.Location) int64 {
	_, seconds := time.UnixMicro(micros).In(zone).Zone()
	return micros + int64(seconds)*1_000_000
}

// fromClock returns an instant at which the zone's clock shows that.
func fromClock(micros int64, zone *time.Location) int64 {
	t := time.UnixMicro(micros).UTC()
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone).UnixMicro()
}
