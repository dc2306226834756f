package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Period is a length of time that is counted in days, as ages of rows are; a day
// has 24 hours. 0 is none: no limit.
type Period time.Duration

// Day is 24 hours.
const Day Period = Period(24 * time.Hour)

var periodUnits = []struct {
	suffix string
	length Period
}{
	{"w", 7 * Day},
	{"d", Day},
	{"h", Period(time.Hour)},
	{"m", Period(time.Minute)},
	{"s", Period(time.Second)},
}

// String gives the period in the largest of days, hours, minutes and seconds that
// divides it: "7d", "90m"; "none" for 0.
func (p Period) String() string {
	if p == 0 {
		return "none"
	}
	for _, u := range periodUnits[1:] {
		if p%u.length == 0 {
			return strconv.FormatInt(int64(p/u.length), 10) + u.suffix
		}
	}
	return time.Duration(p).String()
}

func parsePeriod(s string) (Period, error) {
	if strings.EqualFold(s, "none") {
		return 0, nil
	}
	for _, u := range periodUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n <= 0 || n > int64(1<<63-1)/int64(u.length) {
			break
		}
		return Period(n) * u.length, nil
	}
	return 0, fmt.Errorf("%q is not a period; write a whole number with a unit, as 30m, 12h, 7d or 52w, or none", s)
}
