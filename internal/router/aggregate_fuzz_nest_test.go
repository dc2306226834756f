package router

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// totals is a SELECT of n aggregates without GROUP BY.
func (g *fuzzAsker) totals(n int) (string, int) {
	var outputs []string
	for range n {
		outputs = append(outputs, g.call("", false))
	}
	return "SELECT " + named(outputs) + " FROM " + g.table + g.wheres("", ""), n
}

// arms are two SELECTs with the same columns.
func (g *fuzzAsker) arms() (a, b string, columns int) {
	g.settled = true
	keys := g.keys()
	outputs := append(keys, g.call("", false), g.call("", false))
	group := ""
	if len(keys) > 0 {
		group = " GROUP BY " + strings.Join(keys, ", ")
	}
	text := "SELECT " + named(outputs) + " FROM " + g.table
	return text + g.wheres("", "") + group, text + g.wheres("", "") + group, len(outputs)
}

// twice joins two SELECTs over the hypertable.
func (g *fuzzAsker) twice() (string, int) {
	key := g.bucket()
	arm := func() string {
		return "(SELECT " + key + " AS k, " + g.call("", false) + " AS v FROM " + g.table + g.wheres("", "") + " GROUP BY 1)"
	}
	return "SELECT x.k, x.v, y.v AS w FROM " + arm() + " x " + g.one("JOIN", "LEFT JOIN", "FULL JOIN") + " " + arm() + " y ON x.k = y.k", 3
}

// deeper nests a block twice, or projects it by name.
func (g *fuzzAsker) deeper() (string, int) {
	g.form("nested twice")
	inner, c := g.block()
	switch g.IntN(3) {
	case 0:
		return "SELECT y.* FROM (SELECT x.o1, x.o" + strconv.Itoa(c) + " AS v FROM (" + inner + ") x WHERE x.o1 IS NOT NULL) y", 2
	case 1:
		return "WITH q AS (" + inner + "), r AS (SELECT q.*, 1 AS one FROM q) SELECT r.* FROM r", c + 1
	}
	return "SELECT CASE WHEN y.o1 IS NULL THEN 'none' ELSE 'some' END AS s, y.* FROM (SELECT * FROM (" + inner + ") x) y WHERE y.o1 IS NULL OR y.o1 = y.o1", c + 1
}

// over aggregates what blocks give.
func (g *fuzzAsker) over() (string, int) {
	g.form("aggregated again")
	g.settled = true
	switch g.IntN(5) {
	case 0:
		inner, c := g.block()
		return "SELECT x.o1::text AS k, count(*), count(x.o" + strconv.Itoa(c) + ") FROM (" + inner + ") x GROUP BY 1", 3
	case 1:
		a, b, _ := g.arms()
		return "SELECT count(*), count(u.o1), max(u.o1::text) FROM (" + a + " UNION ALL " + b + ") u", 3
	case 2:
		inner, _ := g.block()
		return "WITH q AS (" + inner + ") SELECT a.o1, b.n FROM q a, (SELECT count(*) AS n FROM q) b", 2
	case 3:
		inner, c := g.totals(2)
		return "SELECT d.k, x.* FROM " + g.table + "_d d, LATERAL (" + inner + ") x", 1 + c
	}
	inner, _ := g.block()
	return "SELECT d.k, d.class FROM " + g.table + "_d d WHERE " + g.one("", "NOT ") + "EXISTS (" + inner + ")", 2
}

var (
	spelledMoments = regexp.MustCompile(`'20[12][0-9]-[0-9][0-9]-[0-9][0-9][^']*'`)
	spelledDate    = regexp.MustCompile(`^20[12][0-9]-[0-9][0-9]-[0-9][0-9]`)
	spelledTime    = regexp.MustCompile(`^ [0-9:.]+`)
	spelledSeconds = regexp.MustCompile(`\b1[67][0-9]{8}\b`)
	spelledNumbers = regexp.MustCompile(`(LIMIT|count\(\*\) >=?) [0-9]+`)
)

// other is a moment spelled as the text spells one.
func (w *fuzzWorld) other(text string) string {
	if spelledSeconds.MatchString(text) {
		return strconv.FormatInt(w.at().Unix(), 10)
	}
	if !spelledDate.MatchString(text) {
		return text
	}
	at, rest := w.at(), text[10:]
	old, _ := time.Parse(time.DateOnly, text[:10])
	middle := w.from.AddDate(0, 0, w.days/2)
	for range 20 { // a lower bound stays one, mostly
		if at.Before(middle) == old.Before(middle) {
			break
		}
		at = w.at()
	}
	if clock := spelledTime.FindString(rest); clock != "" {
		return fuzzText(at) + rest[len(clock):]
	}
	return at.Format(time.DateOnly) + rest
}

// again gives a case that was asked before, mostly with other literals, so that
// plans of known texts and shapes are used, across writes too.
func (w *fuzzWorld) again(q fuzzQuery) fuzzQuery {
	q.types, q.planned = nil, q.session
	if w.chance(1, 4) {
		q.forms = append(q.forms[:len(q.forms):len(q.forms)], "a known text")
		return q
	}
	q.forms = append(q.forms[:len(q.forms):len(q.forms)], "a known shape")
	q.sql = spelledMoments.ReplaceAllStringFunc(q.sql, func(s string) string {
		return "'" + w.other(s[1:len(s)-1]) + "'"
	})
	if w.whole {
		q.sql = spelledSeconds.ReplaceAllStringFunc(q.sql, w.other)
	}
	q.sql = spelledNumbers.ReplaceAllStringFunc(q.sql, func(s string) string {
		return s[:strings.LastIndexByte(s, ' ')+1] + strconv.Itoa(1+w.IntN(15))
	})
	args := make([][]byte, len(q.args))
	for i, a := range q.args {
		if args[i] = a; a != nil {
			args[i] = []byte(w.other(string(a)))
		}
	}
	q.args = args
	return q
}

// wholeBucket is an expression over a time column that is a number of seconds.
func (g *fuzzAsker) wholeBucket() string {
	width := g.width(g.target.width)
	switch {
	case g.params && g.chance(1, 5):
		g.form("width or unit in a parameter")
		return "time_bucket(" + g.param(g.one(width, "86400", "604800")) + "::" + g.moment + ", t)"
	case g.chance(1, 3):
		return "time_bucket(" + width + ", t)"
	case g.chance(1, 3):
		return g.one("t / "+width, "floor(t / "+width+") * "+width, "(t / "+width+") * "+width)
	}
	return g.one("time_bucket(86400, t)", "time_bucket(172800, t)", "time_bucket(604800, t)", "t / 86400", "floor((t)/86400)*86400", "time_bucket(86400, t, 3600)", "time_bucket(21600, t)", "time_bucket(10800, t, 1800)", "t / 3600 / 24", "to_timestamp(t)::date", "time_bucket(86400::"+g.moment+", t)")
}
