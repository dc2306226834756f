package router

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fuzzQuery is one statement with the values of its parameters.
type fuzzQuery struct {
	sql     string
	session fuzzSession
	planned fuzzSession // what the planner is told of it
	behind  string      // what holds that the planner does not know of
	args    [][]byte
	types   []uint32 // of args, as the server resolved them
	binary  bool     // args are sent so
	ordered bool     // by all columns: one answer only
	copied  bool     // COPY of sql
	forms   []string // what the case is one of, for the counts
}

func (q fuzzQuery) text() string {
	if q.copied {
		return "COPY (" + q.sql + ") TO STDOUT"
	}
	return q.sql
}

var fuzzZones = []string{"UTC", "UTC", "UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin"}

// fuzzAsker makes one query over a world.
type fuzzAsker struct {
	*fuzzWorld
	target fuzzAggregate // that the query is made for
	args   [][]byte
	params bool
	style  string // DateStyle
	// settled: the answer of the whole may not hang on the last bits of a sum.
	settled bool
	forms   []string
}

func (g *fuzzAsker) form(name string) { g.forms = append(g.forms, name) }

// query gives a new case, or one that was asked before with other literals.
func (w *fuzzWorld) query() fuzzQuery {
	if len(w.past) > 0 && w.chance(1, 4) {
		return w.again(w.past[w.IntN(len(w.past))])
	}
	g := &fuzzAsker{fuzzWorld: w, target: w.aggs[w.IntN(len(w.aggs))]}
	g.params = w.chance(1, 5)
	if g.target.upper && w.chance(1, 3) {
		g.target = w.aggs[0]
	}
	zone := fuzzZones[w.IntN(len(fuzzZones))]
	if (zone == "Asia/Kolkata" || zone == "Australia/Lord_Howe") && !g.fine() && w.chance(4, 5) {
		zone = w.one("UTC", "America/New_York", "Europe/Berlin") // whole hours align with more buckets
	}
	q := fuzzQuery{session: w.session(zone)}
	g.style = q.session.style
	sql, columns := g.statement()
	if w.chance(2, 3) {
		q.ordered = true
		sql += " ORDER BY " + ordinals("", columns)
		if w.chance(1, 3) {
			sql += fmt.Sprintf(" LIMIT %d", 1+w.IntN(12)) + w.one("", "", " OFFSET 2")
		}
	}
	q.sql, q.args, q.forms = sql, g.args, g.forms
	if len(q.args) > 0 {
		q.binary = w.chance(1, 2)
		q.forms = append(q.forms, "parameters in "+map[bool]string{true: "binary", false: "text"}[q.binary])
	} else if w.chance(1, 20) {
		q.copied = true
		q.forms = append(q.forms, "COPY TO")
	}
	q.planned = q.session
	q.forms = append(append(q.forms, "time is "+w.moment), q.session.forms()...)
	if len(w.past) < 12 {
		w.past = append(w.past, q)
	} else {
		w.past[w.IntN(len(w.past))] = q
	}
	return q
}

// statement is a SELECT of any form, and how many columns it has.
func (g *fuzzAsker) statement() (sql string, columns int) {
	switch n := g.IntN(24); {
	case n < 11:
		return g.block()
	case n < 13: // as Power BI and QuickSight nest
		g.form("nested")
		inner, c := g.block()
		sql = "SELECT * FROM (" + inner + ") x" + g.one("", "", " WHERE NOT x.o1 IS NULL")
		if g.chance(1, 2) {
			return "SELECT x.*, " + g.one("row_number() OVER (ORDER BY "+ordinals("x.o", c)+")", "count(*) OVER ()", "dense_rank() OVER (ORDER BY x.o1)") + " AS w FROM (" + inner + ") x", c + 1
		}
		return sql, c
	case n < 14:
		return g.deeper()
	case n < 16:
		g.form("WITH")
		g.settled = true
		inner, _ := g.block()
		return "WITH q AS " + g.one("", "MATERIALIZED ", "NOT MATERIALIZED ") + "(" + inner + ") SELECT " + g.one("count(*), max(o1::text), min(o1::text)", "count(DISTINCT o1), count(o1), 7") + " FROM q", 3
	case n < 18:
		g.form("arms of set operations")
		a, b, c := g.arms()
		return a + g.one(" UNION ALL ", " UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT ALL ") + b, c
	case n < 19:
		g.form("scalar sub-query")
		inner, _ := g.totals(1)
		return "SELECT d.k, d.class, (" + inner + ") AS v FROM " + g.table + "_d d", 3
	case n < 20 && slices.Contains(g.target.dims, "g1"):
		g.form("IN sub-query")
		return "SELECT d.k, d.label FROM " + g.table + "_d d WHERE d.k IN (SELECT g1 FROM " + g.table + " WHERE " + g.bounds("") + " GROUP BY g1 HAVING count(*) > " + g.one("1", "10", "40") + ")", 2
	case n < 22:
		return g.over()
	}
	g.form("two joined")
	g.settled = true
	return g.twice()
}

// fine reports whether the target's buckets are shorter than an hour.
func (g *fuzzAsker) fine() bool {
	return strings.Contains(g.target.width, "minute") && g.target.width != "90 minutes"
}

func ordinals(prefix string, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = prefix + strconv.Itoa(i+1)
	}
	return strings.Join(list, ", ")
}

// block is one SELECT of the grammar, its columns named o1, o2 and so on.
func (g *fuzzAsker) block() (sql string, columns int) {
	keys := g.keys()
	from, prefix, on := g.from()
	join := on != ""
	if join {
		for i, k := range keys { // their columns qualified
			keys[i] = withPrefix(k, prefix)
		}
		keys = append(keys, g.one("d.class", "d.k", "d.class % 2"))
	}
	where := g.wheres(prefix, on)
	having := ""
	if g.chance(1, 7) {
		having = " HAVING " + g.one("count(*) > 1", "count(*) >= 5 AND count(*) < 60", "NOT count(*) = 3")
	}
	if len(keys) > 0 && g.chance(1, 12) && having == "" { // SELECT DISTINCT over the keys
		return "SELECT DISTINCT " + named(keys) + " FROM " + from + where, len(keys)
	}
	outputs := slices.Clone(keys)
	for range 1 + g.IntN(4) {
		outputs = append(outputs, g.call(prefix, join))
	}
	if len(keys) > 0 && g.chance(1, 6) {
		g.form("window")
		outputs = append(outputs, g.window(keys, prefix, join))
	}
	group := ""
	if len(keys) > 0 {
		group = " GROUP BY " + g.grouping(keys)
		if strings.Contains(group, "(GROUPED") {
			g.form("grouping sets")
			group = strings.ReplaceAll(group, "(GROUPED", "(")
			outputs = append(outputs, "GROUPING("+strings.Join(keys[:1+g.IntN(len(keys))], ", ")+")")
		}
	}
	return "SELECT " + named(outputs) + " FROM " + from + where + group + having, len(outputs)
}

func named(outputs []string) string {
	list := make([]string, len(outputs))
	for i, o := range outputs {
		list[i] = o + " AS o" + strconv.Itoa(i+1)
	}
	return strings.Join(list, ", ")
}

// withPrefix puts the prefix before the columns of an expression of keys or calls.
func withPrefix(text, prefix string) string {
	if prefix == "" {
		return text
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); {
		c := text[i]
		if c == '\'' {
			quoted = !quoted
		}
		j := i
		for j < len(text) && (text[j] >= 'a' && text[j] <= 'z' || text[j] >= '0' && text[j] <= '9' || text[j] == '_') {
			j++
		}
		if j == i || quoted {
			b.WriteByte(c)
			i++
			continue
		}
		if word := text[i:j]; (word == "t" || slices.Contains(fuzzNames, word)) && (i == 0 || text[i-1] != '.') {
			b.WriteString(prefix)
		}
		b.WriteString(text[i:j])
		i = j
	}
	return b.String()
}

// bucket is an expression over the time column, mostly one that the target holds.
func (g *fuzzAsker) bucket() string {
	if g.whole {
		return g.wholeBucket()
	}
	width := g.target.width
	coarse := []string{"time_bucket('1 day', t)", "time_bucket('2 days', t)", "time_bucket('6 hours', t)", "date_trunc('day', t)", "date_trunc('week', t)", "date_trunc('month', t)", "t::date", "extract(dow FROM t)", "to_char(t, 'YYYY-MM-DD')", "extract(hour FROM t)", "time_bucket('1 week', t)", "time_bucket('1 month', t)", "date_trunc('quarter', t)", "to_char(t, 'IYYY-IW')"}
	fine := []string{"time_bucket('1 hour', t)", "time_bucket('3600.000s', t)", "date_trunc('hour', t)", "floor(extract(epoch FROM t) / 3600) * 3600", "time_bucket('90 minutes', t)", "to_char(t, 'YYYY-MM-DD HH24')", "time_bucket('15 minutes', t)", "time_bucket('3 hours', t)"}
	if g.zoned {
		coarse = append(coarse, "date_trunc('day', t, 'Australia/Lord_Howe')", "date_trunc('day', t AT TIME ZONE 'Asia/Kolkata')", "CAST(t AT TIME ZONE 'Europe/Berlin' AS date)", "time_bucket('1 day', t, 'Europe/Berlin')", "time_bucket('1 day', t, INTERVAL '6 hours')",
			"time_bucket('4 hours', t, 'America/New_York')", "time_bucket('1 month', t, 'Europe/Berlin')", "date_bin('1 day', t, TIMESTAMPTZ '2001-01-01 00:00:00+00')", "time_bucket('1 day', t, 'Australia/Lord_Howe')", "time_bucket('12 hours', t, timezone => 'Asia/Kolkata')")
		fine = append(fine, "date_bin('30 minutes', t, TIMESTAMPTZ '2001-01-01 00:00:00+00')", "DATE_TRUNC('hour', t) + INTERVAL '15 minutes' * FLOOR(EXTRACT(MINUTE FROM t) / 15)", "time_bucket('1 hour', t, 'Australia/Lord_Howe')", "date_trunc('hour', t, 'Australia/Lord_Howe')")
	}
	switch {
	case g.params && g.chance(1, 5):
		g.form("width or unit in a parameter")
		switch g.IntN(3) {
		case 0:
			return "time_bucket(" + g.param(g.one(width, "1 day", "7 days")) + "::interval, t)"
		case 1:
			return "date_trunc(" + g.param(g.one("day", "week", "hour", "month")) + ", t)"
		}
		return "time_bucket(" + g.param(g.one(width, "2 days", "24:00:00")) + ", t)"
	case g.chance(1, 4):
		return "time_bucket('" + width + "', t)"
	case g.zoned && g.chance(1, 10):
		return formTexts[g.IntN(len(formTexts))]
	case g.chance(1, 3) && (g.fine() || strings.Contains("1 hour 01:00:00", width)):
		return fine[g.IntN(len(fine))]
	case width == "1 month":
		return g.one("time_bucket('1 month', t)", "time_bucket('3 months', t)", "time_bucket('1 year', t)", "date_trunc('month', t)", "date_trunc('year', t)")
	case width == "1 week":
		return g.one("time_bucket('1 week', t)", "time_bucket('14 days', t)", "date_trunc('week', t)", "to_char(t, 'IYYY-IW')")
	}
	return coarse[g.IntN(len(coarse))]
}

// keys are the expressions of GROUP BY.
func (g *fuzzAsker) keys() []string {
	var keys []string
	if g.chance(3, 5) {
		keys = append(keys, g.bucket())
		if g.chance(1, 10) {
			keys = append(keys, g.bucket())
		}
	}
	for _, d := range g.target.dims {
		if g.chance(1, 2) {
			switch d {
			case "g1":
				d = g.one(d, d, d, "left(g1, 1)", "coalesce(g1, '-')", "g1 IS NULL")
			case "g2":
				next := "g2 + 1"
				if g.compressed { // which the original has several times then; see fence
					next = d
				}
				d = g.one(d, d, d, "g2 % 2", next, "g2 > 1")
			}
			keys = append(keys, d)
		}
	}
	if g.chance(1, 40) {
		keys = append(keys, g.one("g1", "g2", "vc", "gn"))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// from is what the rows come from, the prefix that columns must have, and what a join
// asks for in WHERE, "true" where it stands in ON already, "" where there is none.
func (g *fuzzAsker) from() (text, prefix, on string) {
	dims := g.target.dims
	if g.chance(1, 5) && (slices.Contains(dims, "g1") || slices.Contains(dims, "g2")) {
		g.form("join")
		equal := g.one("d.k = h.g1", "h.g1 = d.k", "d.k = h.g1 AND d.class < 3")
		if !slices.Contains(dims, "g1") || slices.Contains(dims, "g2") && g.chance(1, 3) {
			equal = g.one("d.class = h.g2", "h.g2 = d.class AND d.label IS NOT NULL")
		}
		h, d := g.table+" h", g.table+"_d d"
		switch g.IntN(6) {
		case 0:
			return h + " LEFT JOIN " + d + " ON " + equal, "h.", "true"
		case 1:
			return d + " RIGHT JOIN " + h + " ON " + equal, "h.", "true"
		case 2:
			return d + ", " + h, "h.", equal
		case 3:
			return g.one(h+" FULL JOIN "+d, h+" RIGHT JOIN "+d, d+" LEFT JOIN "+h, h+" INNER JOIN "+d, h+" CROSS JOIN "+g.table+"_d e JOIN "+d) + " ON " + equal, "h.", "true"
		}
		return h + " JOIN " + d + " ON " + equal, "h.", "true"
	}
	switch g.IntN(10) {
	case 0:
		return "public." + g.table + " AS h", g.one("", "h."), ""
	case 1:
		return "(SELECT * FROM " + g.table + ") x", "", ""
	case 2:
		return "(SELECT t, " + strings.Join(fuzzNames, ", ") + " FROM " + g.table + " WHERE " + g.bounds("") + ") x", "", ""
	case 3:
		return "(SELECT y.* FROM (SELECT * FROM " + g.table + " z) y WHERE " + g.bounds("y.") + ") x", "x.", ""
	}
	return g.table, "", ""
}

func (g *fuzzAsker) wheres(prefix, on string) string {
	var list []string
	if on != "" {
		if on != "true" {
			list = append(list, on)
		}
		if g.chance(1, 4) {
			list = append(list, "d.class <> 9")
		}
	}
	if g.chance(3, 5) && (g.target.width != "1 month" && g.target.width != "1 week" || g.chance(1, 4)) {
		list = append(list, g.bounds(prefix))
	}
	if len(g.target.dims) > 0 && g.chance(1, 3) {
		list = append(list, g.dimension(prefix))
	}
	if !g.whole && g.chance(1, 10) && (g.fine() || g.target.width == "1 hour") {
		list = append(list, withPrefix(g.one("extract(hour FROM t) < 12", "extract(dow FROM t) IN (1, 2, 6)", "date_trunc('day', t) >= '"+g.at().Format(time.DateOnly)+"'"), prefix))
	}
	if g.chance(1, 40) {
		list = append(list, prefix+"i4 > 0")
	}
	if len(list) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(list, " AND ")
}

// dimension is a condition on a grouped column.
func (g *fuzzAsker) dimension(prefix string) string {
	d := g.target.dims[g.IntN(len(g.target.dims))]
	switch d {
	case "g1":
		if g.params && g.chance(1, 2) {
			return prefix + "g1 = " + g.param(g.one("a", "b", "none"))
		}
		return withPrefix(g.one("g1 = 'a'", "g1 IN ('a', 'b', 'none')", "g1 <> 'c'", "g1 IS NOT NULL", "g1 IS NULL", "(g1 = 'b' OR g1 IS NULL)", "NOT g1 LIKE 'a%'", "g1 IS DISTINCT FROM 'a'", "coalesce(g1, 'a') = 'a'"), prefix)
	case "g2":
		return withPrefix(g.one("g2 = 1", "g2 BETWEEN 1 AND 2", "g2 IS NULL", "g2 > 0 AND g2 < 3", "g2 % 2 = 1", "g2 IN (1, -7)", "NOT g2 = 2", "g2 = ANY ('{1,3}')"), prefix)
	case "g3":
		return prefix + g.one("g3", "g3 = true", "g3 IS TRUE", "g3 IS NOT NULL", "g3 = false")
	}
	return prefix + d + " = 1"
}

func (g *fuzzAsker) param(value string) string {
	g.args = append(g.args, []byte(value))
	if g.chance(1, 60) {
		g.args[len(g.args)-1] = nil // NULL
	}
	return "$" + strconv.Itoa(len(g.args))
}

// bounds keeps the time column in a range, with ragged ends mostly.
func (g *fuzzAsker) bounds(prefix string) string {
	low, high := g.at(), g.at()
	if high.Before(low) {
		low, high = high, low
	}
	if g.chance(5, 6) { // long
		low, high = g.from0().Add(low.Sub(g.from0())/4), high.Add(g.from0().AddDate(0, 0, g.days).Sub(high)*3/4)
		low, high = low.Truncate(time.Microsecond), high.Truncate(time.Microsecond)
	}
	column := prefix + "t"
	switch g.IntN(8) {
	case 0:
		return column + " BETWEEN " + g.bound(low) + " AND " + g.bound(high)
	case 1:
		return column + g.one(" >= ", " > ") + g.bound(low)
	case 2:
		return column + g.one(" < ", " <= ") + g.bound(high)
	case 3:
		return g.bound(low) + " <= " + column + " AND " + column + " < " + g.bound(high)
	}
	return column + g.one(" >= ", " >= ", " > ") + g.bound(low) + " AND " + column + g.one(" < ", " < ", " <= ") + g.bound(high)
}

func (g *fuzzAsker) from0() time.Time { return g.fuzzWorld.from }

func (g *fuzzAsker) bound(at time.Time) string {
	if g.whole {
		n := at.Unix()
		switch {
		case g.params && g.chance(2, 3):
			return g.param(strconv.FormatInt(n, 10))
		case g.chance(1, 4):
			return g.one(fmt.Sprintf("'%d'", n), fmt.Sprintf("%d::%s", n, g.moment), fmt.Sprintf("%d + 86400", n-86400), fmt.Sprintf("%d.5", n))
		}
		return strconv.FormatInt(n, 10)
	}
	text := fuzzText(at)
	if g.params && g.chance(2, 3) {
		return g.param(g.one(text, text, at.Format(time.DateOnly)))
	}
	if g.recent && g.chance(1, 2) {
		age := int(time.Since(at).Hours())
		return g.one(fmt.Sprintf("now() - interval '%d hours'", age), fmt.Sprintf("current_date - %d", age/24), fmt.Sprintf("date_trunc('day', now()) - interval '%d days'", age/24), fmt.Sprintf("now() - interval '%d days' - interval '7 minutes'", age/24))
	}
	if !strings.HasPrefix(g.style, "ISO") && g.chance(1, 4) { // some read another day
		return at.Format(g.one("'02/01/2006 15:04:05'", "'01/02/2006'", "'02.01.2006'"))
	}
	switch g.IntN(7) {
	case 0:
		return "'" + text + "Z'"
	case 1:
		return "timestamptz '" + text + "+05:30'"
	case 2:
		return "'" + text + "'::timestamp"
	case 3:
		return "date '" + text[:10] + "'"
	case 4:
		return "'" + text[:10] + "'"
	}
	return "'" + text + "'"
}

// call is an expression over aggregate functions of the target.
func (g *fuzzAsker) call(prefix string, join bool) string {
	if len(g.target.stored) == 0 || g.chance(1, 30) {
		return withPrefix(g.one("count(*)", "sum(i4)", "avg(f4)", "max(gn)", "stddev(i4)", "sum(DISTINCT i4)", "array_agg(i4)", "min(gn)"), prefix)
	}
	if join && g.chance(1, 6) {
		return g.one("count(DISTINCT d.class)", "max(d.label)", "min(d.class)", "count(*)")
	}
	if len(g.target.dims) > 0 && g.chance(1, 10) {
		d := g.target.dims[g.IntN(len(g.target.dims))]
		g.form("DISTINCT over a key")
		return withPrefix(g.one("count(DISTINCT "+d+")", "array_agg(DISTINCT "+d+")", "count(DISTINCT "+d+" IS NULL)"), prefix)
	}
	has := func(c string) bool { return slices.Contains(g.target.stored, c) }
	for range 20 {
		c := g.target.stored[g.IntN(len(g.target.stored))]
		fn, rest, _ := strings.Cut(c, "(")
		argument := strings.TrimSuffix(rest, ")")
		if (fn == "first" || fn == "last") && (!g.unique || g.chance(3, 4)) {
			continue
		}
		if (fn == "avg" || fn == "stddev" || argument == "f4" && fn == "sum" || argument == "nu" && fn == "min") && !g.chance(1, 10) {
			continue
		}
		if g.settled && !g.exact && (argument == "f8" || argument == "f4") && !strings.Contains("min max count", fn) {
			continue
		}
		if fn == "avg" || fn == "stddev" {
			return withPrefix(c, prefix)
		}
		if fn == "sum" && has("count("+argument+")") && g.chance(1, 2) {
			c = "avg(" + argument + ")"
		}
		c = strings.ReplaceAll(c, ",", ", ")
		filter := ""
		if len(g.target.dims) > 0 && g.chance(1, 10) && !strings.Contains("first last", fn) {
			filter = " FILTER (WHERE " + g.dimension("") + ")"
			if strings.Contains(filter, "$") {
				filter = ""
				g.args = g.args[:len(g.args)-1]
			} else {
				g.form("FILTER")
			}
		}
		c += filter
		if g.chance(1, 8) {
			switch {
			case strings.Contains("i2 i4 nu nf", argument) && fn != "bit_xor":
				c = g.one("coalesce("+c+", -1)", c+" IS NULL", "-"+c, "round("+c+"::numeric, 1)", "CASE WHEN "+c+" > 10 THEN 'high' ELSE 'low' END", "greatest("+c+", 3)", "nullif("+c+", 0)")
			case has("count(*)"):
				c = "CASE WHEN count(*) > 3 THEN " + c + " END"
			}
		}
		return withPrefix(c, prefix)
	}
	return "count(*)"
}

// window is a window function over groups, with one answer: of grouping sets, a
// group of NULL and one of all values tie but for GROUPING.
func (g *fuzzAsker) window(keys []string, prefix string, join bool) string {
	order := "ORDER BY " + strings.Join(keys, ", ")
	keys = append(keys[:len(keys):len(keys)], "GROUPING("+strings.Join(keys, ", ")+")")
	if order += ", " + keys[len(keys)-1]; len(keys) == 2 {
		keys = keys[:1]
	}
	if len(keys) > 1 && g.chance(1, 2) {
		order = "PARTITION BY " + keys[0] + " ORDER BY " + strings.Join(keys[1:], ", ")
	}
	return g.one("sum(count(*)) OVER ("+order+")", "row_number() OVER ("+order+")", "rank() OVER (ORDER BY count(*) DESC)", "lag(count(*)) OVER ("+order+")",
		"max(count(*)) OVER ("+order+" ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)", "count(*) OVER ()", "first_value(count(*)) OVER ("+order+")", "ntile(3) OVER ("+order+")")
}

// grouping is what stands after GROUP BY; (GROUPED marks grouping sets.
func (g *fuzzAsker) grouping(keys []string) string {
	list := strings.Join(keys, ", ")
	switch {
	case g.chance(1, 3):
		return ordinals("", len(keys))
	case g.chance(1, 9):
		return "ROLLUP (GROUPED" + list + ")"
	case g.chance(1, 14):
		return "CUBE (GROUPED" + list + ")"
	case g.chance(1, 14) && len(keys) > 1:
		return "GROUPING SETS (GROUPED(" + list + "), (" + keys[0] + "), ())"
	}
	return list
}
