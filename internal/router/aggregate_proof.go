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

// plain writes the conditions with literals for what is marked.
func (p proof) plain() string {
	return p.written(func(b *strings.Builder, _, _, sql string) { b.WriteString(sql) })
}

// prepared writes them with parameters for what is marked, and the values of those.
func (p proof) prepared() (text string, args []string) {
	args = make([]string, 0, 2*len(p))
	text = p.written(func(b *strings.Builder, typ, value, _ string) {
		args = append(args, value)
		b.WriteString("$")
		b.WriteString(strconv.Itoa(len(args)))
		b.WriteString("::")
		b.WriteString(typ)
	})
	return text, args
}

// written writes the conditions, and by put what is marked in them.
func (p proof) written(put func(b *strings.Builder, typ, value, sql string)) string {
	size := 0
	for _, c := range p {
		size += len(c) + len(" AND ")
	}
	var b strings.Builder
	b.Grow(size)
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
			var typ, value, sql string
			typ, rest, _ = strings.Cut(rest, mark)
			value, rest, _ = strings.Cut(rest, mark)
			sql, c, _ = strings.Cut(rest, mark)
			put(&b, typ, value, sql)
		}
	}
	return b.String()
}
