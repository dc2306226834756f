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

// plain returns the conditions with literals for what is marked.
func (p proof) plain() string {
	var b strings.Builder
	p.each(func(text string) { b.WriteString(text) }, func(_, _, sql string) { b.WriteString(sql) })
	return b.String()
}

// prepared returns the conditions with parameters for what is marked, and their
// values.
func (p proof) prepared() (string, []string) {
	var b strings.Builder
	var args []string
	p.each(func(text string) { b.WriteString(text) }, func(typ, value, _ string) {
		args = append(args, value)
		b.WriteString("$")
		b.WriteString(strconv.Itoa(len(args)))
		b.WriteString("::")
		b.WriteString(typ)
	})
	return b.String(), args
}

// each goes through the conditions: what is text, and what is marked.
func (p proof) each(text func(string), value func(typ, text, sql string)) {
	for i, c := range p {
		if i > 0 {
			text(" AND ")
		}
		for {
			before, rest, found := strings.Cut(c, mark)
			text(before)
			if !found {
				break
			}
			var typ, v, sql string
			typ, rest, _ = strings.Cut(rest, mark)
			v, rest, _ = strings.Cut(rest, mark)
			sql, c, _ = strings.Cut(rest, mark)
			value(typ, v, sql)
		}
	}
}
