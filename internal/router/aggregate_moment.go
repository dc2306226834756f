package router

import (
	"strings"
	"time"
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
	day, err := time.Parse("2006-01-02", s[:10])
	if err != nil || day.Year() < 1 {
		return 0, zoneOffset{}, false
	}
	rest := s[10:]
	micros := day.UnixMicro()
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
	b = time.UnixMicro(micros).UTC().AppendFormat(b, "2006-01-02 15:04:05.999999")
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
