package router

import (
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// place says where a moment in the texts of a candidate comes from; i is the number of
// the span or the raw arm.
type place struct {
	at placeKind
	i  int
}

type placeKind byte

const (
	spanStart placeKind = iota + 1
	spanEnd
	spanLast // the last moment of a span
	armFrom
	armTo
	lowest // the query's bounds, see armSet
	highest
)

// first and last are the ends of what the aggregate answers.
func (d *candidate) first() place { return place{spanStart, 0} }
func (d *candidate) last() place  { return place{spanEnd, len(d.spans) - 1} }

// micros is the moment at a place, on the time column's scale.
func (d *candidate) micros(p place) int64 {
	switch p.at {
	case spanStart:
		return d.spans[p.i].Start
	case spanEnd:
		return d.spans[p.i].End
	case spanLast:
		return d.spans[p.i].End - 1
	case armFrom:
		return d.arms.arms[p.i].from
	case armTo:
		return d.arms.arms[p.i].to
	case lowest:
		return d.arms.low
	}
	return d.arms.high
}

// code is what stands for a part of a text that differs between texts of a shape.
type code struct {
	form codeForm
	place
	n int // of provenValue: which literal of the bound
}

type codeForm byte

const (
	timeLiteral  codeForm = iota + 1 // with its type
	momentValue                      // as a parameter
	numberValue                      // as a parameter of type int8
	provenValue                      // of the i-th bound
	writtenBound                     // the i-th bound as the user wrote it
	overStored                       // the i-th condition, over the materialization
	overRaw                          // over the hypertable
)

// codeMark begins a code; neither it nor mark is in any SQL text.
const codeMark = "\x01"

func (c code) String() string {
	return codeMark + strings.Join([]string{strconv.Itoa(int(c.form)), strconv.Itoa(int(c.at)), strconv.Itoa(c.i), strconv.Itoa(c.n)}, " ") + codeMark
}

// append appends what a code stands for.
func (d *candidate) append(b []byte, c code) []byte {
	sc := d.query.scope
	switch c.form {
	case timeLiteral:
		b = append(sc.appendMoment(append(b, '\''), d.micros(c.place)), "'::"...)
		return append(b, sc.timeType()...)
	case momentValue:
		return sc.appendMoment(b, d.micros(c.place))
	case numberValue:
		return strconv.AppendInt(b, d.micros(c.place), 10)
	case provenValue:
		bound := &d.span.all[c.i]
		if bound.plain {
			return append(b, bound.text...)
		}
		part, rest, _ := strings.Cut(bound.proven, mark)
		for range 3*c.n + 2 {
			part, rest, _ = strings.Cut(rest, mark)
		}
		return append(b, part...)
	case writtenBound:
		bound := &d.span.all[c.i]
		if !bound.plain {
			return append(b, bound.text...)
		}
		b = append(b, '\'')
		for i := range len(bound.text) {
			if bound.text[i] == '\'' {
				b = append(b, '\'')
			}
			b = append(b, bound.text[i])
		}
		return append(b, '\'')
	}
	return append(b, d.query.conditions[c.i].text(d, c)...)
}

// condition is a conjunct's texts as a sketch needed them last.
type condition struct {
	literals    []*pg_query.A_Const
	values      []string // of the literals then
	stored, raw string   // "" where it was not needed
}

// text is that of the conjunct of which c is the code. It was rendered without an error
// when the sketch was made.
func (o *condition) text(d *candidate, c code) string {
	for i, l := range o.literals {
		if v := valueOf(l); o.values[i] != v {
			o.values[i], o.stored, o.raw = v, "", ""
		}
	}
	snap, n := d.query.scope.snap, d.query.conds[c.i]
	if c.form == overRaw {
		if o.raw == "" {
			o.raw, _ = render(snap, n, d.query.overRaw)
		}
		return o.raw
	}
	if o.stored == "" {
		o.stored, _ = render(snap, n, d.overStored)
	}
	return o.stored
}

// valueOf is a literal's value, with what kind of literal it is.
func valueOf(c *pg_query.A_Const) string {
	switch v := c.Val.(type) {
	case *pg_query.A_Const_Sval:
		return v.Sval.Sval
	case *pg_query.A_Const_Ival:
		return "\x00i" + strconv.Itoa(int(v.Ival.Ival))
	case *pg_query.A_Const_Fval:
		return "\x00f" + v.Fval.Fval
	}
	return "\x00"
}

// or gives the text of a code, or the code where texts are coded.
func (d *candidate) or(c code) string {
	if d.coded {
		return c.String()
	}
	return string(d.append(nil, c))
}

// time spells a moment with its type.
func (d *candidate) time(p place) string { return d.or(code{form: timeLiteral, place: p}) }

// moment marks a moment for the proof, number marks it in TimescaleDB's internal time.
func (d *candidate) moment(p place) string {
	return marked(d.query.scope.timeType(), d.or(code{form: momentValue, place: p}))
}

func (d *candidate) number(p place) string {
	return marked("pg_catalog.int8", d.or(code{form: numberValue, place: p}))
}

func (d *candidate) boundText(i int) string {
	return d.or(code{form: writtenBound, place: place{i: i}})
}

// proven is the i-th bound for the proof.
func (d *candidate) proven(i int) string {
	bound := &d.span.all[i]
	text := bound.proven
	if bound.plain {
		text = marked(d.query.scope.timeType(), bound.text)
	}
	if !d.coded {
		return text
	}
	parts := strings.Split(text, mark) // text, type, value, text, type, value, …, text
	for n := 0; 3*n+2 < len(parts); n++ {
		parts[3*n+2] = code{form: provenValue, place: place{i: i}, n: n}.String()
	}
	return strings.Join(parts, mark)
}

// conditionText is the i-th condition over the materialization or the hypertable.
func (d *candidate) conditionText(i int, form codeForm, over func(*renderer, *pg_query.Node) bool) (string, Reason) {
	if d.coded {
		return code{form: form, place: place{i: i}}.String(), ""
	}
	return render(d.query.scope.snap, d.query.conds[i], over)
}
