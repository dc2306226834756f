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

// mark delimits a marked value: mark, type, mark, value, mark, literal, mark. No SQL
// text has this byte.
const mark = "\x00"

// marked marks a value: typ is the type of the parameter that may stand for it,
// text the value in PostgreSQL's text format, sql how it is written as a literal.
func marked(typ, text, sql string) string {
	return mark + typ + mark + text + mark + sql + mark
}

// markedInt marks a value of type int8.
func markedInt(n int64) string {
	text := strconv.FormatInt(n, 10)
	return marked("pg_catalog.int8", text, text)
}

// markedInts marks a list of int4, of which text is "1,2,3".
func markedInts(text string) string {
	return marked("pg_catalog.int4[]", "{"+text+"}", "'{"+text+"}'::pg_catalog.int4[]")
}

// written writes the conditions twice: with literals for what is marked, and with
// parameters and their values.
func (p proof) written() (plain, prepared string, args []string) {
	size := 0
	for _, c := range p {
		size += len(c) + len(" AND ")
	}
	var a, b strings.Builder
	a.Grow(size)
	b.Grow(size)
	for i, c := range p {
		if i > 0 {
			a.WriteString(" AND ")
			b.WriteString(" AND ")
		}
		for {
			before, rest, found := strings.Cut(c, mark)
			a.WriteString(before)
			b.WriteString(before)
			if !found {
				break
			}
			var typ, value, sql string
			typ, rest, _ = strings.Cut(rest, mark)
			value, rest, _ = strings.Cut(rest, mark)
			sql, c, _ = strings.Cut(rest, mark)
			args = append(args, value)
			a.WriteString(sql)
			b.WriteString("$")
			b.WriteString(strconv.Itoa(len(args)))
			b.WriteString("::")
			b.WriteString(typ)
		}
	}
	return a.String(), b.String(), args
}
