package router

import (
	"fmt"
	"strings"
	"time"
)

// at gives a time in the range, often at an edge or where a clock changes.
func (w *fuzzWorld) at() time.Time {
	at := w.from.Add(time.Duration(w.Int64N(int64(w.days) * 24 * int64(time.Hour)))).Truncate(time.Microsecond)
	switch w.IntN(8) {
	case 0:
		return at.Truncate(24 * time.Hour)
	case 1:
		return at.Truncate(15 * time.Minute)
	case 2:
		return at.Truncate(time.Hour).Add(-time.Microsecond)
	case 3:
		return at.Truncate(time.Hour)
	case 4:
		return at.Truncate(24 * time.Hour).Add(time.Duration(w.IntN(4*60)-120) * time.Minute)
	}
	return at
}

func fuzzText(at time.Time) string { return at.Format("2006-01-02 15:04:05.999999") }

// stamp is a moment of a row as a literal of the time column's type.
func (w *fuzzWorld) stamp(at time.Time) string {
	if w.whole {
		return fmt.Sprintf("%d::%s", at.Unix(), w.moment)
	}
	if w.zoned {
		return "timestamptz '" + fuzzText(at) + "+00'"
	}
	return "timestamp '" + fuzzText(at) + "'"
}

// rowMoment is the moment of a new row.
func (w *fuzzWorld) rowMoment() time.Time {
	for {
		at := w.at()
		if w.early && w.chance(1, 60) {
			at = time.Unix(w.Int64N(200_000)-100_000, 0)
		}
		if w.whole {
			at = at.Truncate(time.Second)
		}
		if w.unique && w.used[at.UnixMicro()] {
			continue
		}
		w.used[at.UnixMicro()] = true
		return at
	}
}

func (w *fuzzWorld) value(column string) string {
	if w.chance(1, 7) {
		return "NULL"
	}
	special := w.specials && w.chance(1, 40)
	switch column {
	case "g1":
		return w.one("'a'", "'a'", "'b'", "'c'", "'ä'", "''")
	case "g2":
		return w.one("1", "2", "3", "-7")
	case "g3", "b":
		return w.one("true", "false", "true")
	case "gn":
		return w.one("1", "1.0", "2.50", "2.5")
	case "i2":
		return fmt.Sprint(w.IntN(600) - 300)
	case "i4":
		if w.chance(1, 30) {
			return w.one("2147483647", "-2147483648")
		}
		return fmt.Sprint(w.IntN(2000) - 1000)
	case "i8":
		if w.chance(1, 30) {
			return w.one("9223372036854775807", "-9223372036854775807")
		}
		return fmt.Sprint(w.IntN(2_000_000) - 1_000_000)
	case "nu":
		if special {
			return w.one("'NaN'", "'Infinity'", "'-Infinity'")
		}
		return fmt.Sprintf("%.*f", w.IntN(6), float64(w.IntN(200_000)-100_000)/320)
	case "nf":
		if special {
			return "'NaN'"
		}
		return fmt.Sprintf("%.3f", float64(w.IntN(2_000_000)-1_000_000)/1000)
	case "f4", "f8":
		switch {
		case special:
			return w.one("'NaN'", "'Infinity'", "'-Infinity'")
		case w.exact:
			return fmt.Sprintf("%.2f", float64(w.IntN(4000)-2000)/4)
		}
		return fmt.Sprintf("%.17g", 1+w.Float64()*100)
	}
	return w.one("'a'", "'B'", "'ä'", "''", "'zz top'", "'Z'")
}

var fuzzNames = func() []string {
	var names []string
	for _, c := range strings.Split(fuzzColumns, ", ") {
		if name, _, ok := strings.Cut(c, " "); ok && name != "3)" {
			names = append(names, name)
		}
	}
	return names
}()

func (w *fuzzWorld) insert(n int) string {
	rows := make([]string, n)
	var last time.Time
	for i := range rows {
		if last.IsZero() || w.unique || !w.chance(1, 6) {
			last = w.rowMoment()
		}
		values := []string{w.stamp(last)}
		for _, c := range fuzzNames {
			values = append(values, w.value(c))
		}
		rows[i] = "(" + strings.Join(values, ", ") + ")"
	}
	return "INSERT INTO " + w.table + " (t, " + strings.Join(fuzzNames, ", ") + ") VALUES " + strings.Join(rows, ", ")
}
