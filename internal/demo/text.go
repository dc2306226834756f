package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// timeLayout is how the demo writes instants; they are all in UTC.
const timeLayout = "2006-01-02 15:04:05.999999+00"

// line appends a row in COPY's text form. Floats are written so that they read
// back as the same bits. Strings must hold no tab, newline or backslash, as none
// of the demo's do.
func line(dst []byte, values ...any) []byte {
	for i, v := range values {
		if i > 0 {
			dst = append(dst, '\t')
		}
		switch v := v.(type) {
		case string:
			dst = append(dst, v...)
		case int64:
			dst = strconv.AppendInt(dst, v, 10)
		case float64:
			dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
		case time.Time:
			dst = v.UTC().AppendFormat(dst, timeLayout)
		case []float32:
			dst = appendVector(dst, v)
		default:
			panic(fmt.Sprintf("BUG: a %T cannot be copied", v))
		}
	}
	return append(dst, '\n')
}

// appendVector appends v as pgvector reads it: [1,2,3].
func appendVector(dst []byte, v []float32) []byte {
	dst = append(dst, '[')
	for i, x := range v {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendFloat(dst, float64(x), 'g', -1, 32)
	}
	return append(dst, ']')
}

// quote writes s as a string literal.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// grouped writes n with commas between its thousands.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short writes a duration for people, in at most nine characters.
func short(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	default:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	}
}
