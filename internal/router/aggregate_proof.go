package router

import (
	"fmt"
	"strconv"
	"strings"
)

// proof collects conditions that are joined by AND. Values that differ between
// statements of one shape are marked in them, so that one text with parameters does
// for all: the server plans it once.
type proof []string

func (p *proof) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// mark delimits a marked value: mark, type, mark, value, mark. No SQL text has this byte.
const mark = "\x00"

// marked marks a value: typ is the type of the parameter that may stand for it, text
// the value in PostgreSQL's text format.
func marked(typ, text string) string { return mark + typ + mark + text + mark }

// markedInt marks a value of type int8.
func markedInt(n int64) string { return marked("pg_catalog.int8", strconv.FormatInt(n, 10)) }

// markedInts marks a list of int4, of which text is "1,2,3".
func markedInts(text string) string { return marked("pg_catalog.int4[]", "{"+text+"}") }

// conditions joins them; of what is marked the types stay, between marks, and args are
// the values.
func (p proof) conditions() (text string, args []string) {
	args = make([]string, 0, 2*len(p))
	var b strings.Builder
	for i, c := range p {
		if i > 0 {
			b.WriteString(" AND ")
		}
		for {
			before, rest, found := strings.Cut(c, mark)
			b.WriteString(before)
			if !found {
				break
			}
			var typ, value string
			typ, rest, _ = strings.Cut(rest, mark)
			value, c, _ = strings.Cut(rest, mark)
			args = append(args, value)
			b.WriteString(mark)
			b.WriteString(typ)
			b.WriteString(mark)
		}
	}
	return b.String(), args
}

// spelled writes conditions, put being what stands for their n-th value of that type.
func spelled(conditions string, put func(n int) string) string {
	var b strings.Builder
	b.Grow(len(conditions) + len(conditions)/4)
	for n := 0; ; n++ {
		before, rest, found := strings.Cut(conditions, mark)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		var typ string
		typ, conditions, _ = strings.Cut(rest, mark)
		b.WriteString(put(n))
		b.WriteString("::")
		b.WriteString(typ)
	}
}

// plain writes conditions with literals for their values.
func plain(conditions string, args []string) string {
	return spelled(conditions, func(n int) string { return literal(args[n]) })
}

// prepared writes conditions with parameters for their values.
func prepared(conditions string) string {
	return spelled(conditions, func(n int) string { return "$" + strconv.Itoa(n+1) })
}
