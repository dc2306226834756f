package router

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// armSet is what is read besides the aggregate: raw rows before the first span,
// between spans, and after the last one.
type armSet struct {
	low, high int64 // the query's bounds with slack: no row outside [low, high] is asked for
	arms      []rawRange
	chunks    []catalog.Chunk // of the hypertable, that the arms can touch
}

// rawRange is [from, to) of the time axis, read from the hypertable. An open end
// is bounded by the query's own conditions.
type rawRange struct {
	from, to            int64
	openLeft, openRight bool
}

// rawArms decides which raw arms can give rows: those that overlap a chunk. A bound
// relative to now() is given one bucket of slack, so that a clock that differs
// does not refuse the plan.
func (d *candidate) rawArms() *armSet {
	a := &armSet{low: rollup.MinTime, high: rollup.MaxTime}
	if b := d.span.low; b != nil {
		a.low = b.at
		if b.moving {
			a.low -= d.view.Grid.Approx()
		}
	}
	end := rollup.MaxTime
	if b := d.span.high; b != nil {
		a.high = b.at
		if b.moving {
			a.high += d.view.Grid.Approx() + aggregateRewriteMargin.Microseconds()
		}
		end = a.high + 1 // time <= high may be asked for
	}
	if low := d.span.low; low == nil || low.moving || d.span.from < d.lo() {
		a.add(d.raw.Chunks, rawRange{from: a.low, to: d.lo(), openLeft: true})
	}
	for i := 1; i < len(d.spans); i++ {
		a.add(d.raw.Chunks, rawRange{from: d.spans[i-1].End, to: d.spans[i].Start})
	}
	if high := d.span.high; high == nil || high.moving || d.span.to > d.hi() {
		a.add(d.raw.Chunks, rawRange{from: d.hi(), to: end, openRight: true})
	}
	return a
}

func (a *armSet) add(chunks []catalog.Chunk, r rawRange) {
	touched := rollup.Overlapping(chunks, r.from, r.to)
	if len(touched) == 0 {
		return
	}
	a.arms = append(a.arms, r)
	for _, c := range touched {
		if !slices.Contains(a.chunks, c) {
			a.chunks = append(a.chunks, c)
		}
	}
}

// emit writes the SELECT and what its answer rests on.
func (d *candidate) emit(b *blocks) (*piece, Reason) {
	d.arms = d.rawArms()
	p := &piece{candidate: d, cost: d.estimate(d.arms)}
	if !d.writable(d.arms) {
		return nil, ReasonAggTimeBound
	}
	p.inner = d.snapshotProof()
	var reason Reason
	if p.texts, reason = d.texts(); reason != "" {
		return nil, reason
	}
	for _, r := range d.recipes {
		p.float = p.float || r.Float
	}
	if !b.checked {
		if p.parsed, reason = d.parsesBack(p.texts.alone()); reason != "" {
			return nil, reason
		}
	}
	return p, ""
}

// queryParts are the texts that a rewritten query is put together from.
type queryParts struct {
	head     string // SELECT list FROM the union
	where    string // its conditions, "" without
	grouping string
	having   string // "" without
	tail     string // windows, order and limit
	oneGroup bool   // there is a group of no rows, which stands for all
}

// alone is the query for behind a guard.
func (q *queryParts) alone() string {
	text := q.head
	if q.where != "" {
		text += " WHERE " + q.where
	}
	text += q.grouping
	if q.having != "" {
		text += " HAVING " + q.having
	}
	return text + q.tail
}

// within is the query for inside a transaction, where each statement has a snapshot
// of its own and the locks come before it: at READ COMMITTED. It gives no row where
// the proof fails. What the transaction has written itself is in no log yet.
func (q *queryParts) within(all string) string {
	var above, having string
	if q.where != "" {
		above = " AND " + q.where
	}
	switch {
	case q.oneGroup && q.having != "":
		having = " HAVING pg_catalog.count(*) > 0 AND " + q.having
	case q.oneGroup:
		having = " HAVING pg_catalog.count(*) > 0"
	case q.having != "":
		having = " HAVING " + q.having
	}
	return q.head + " WHERE (SELECT pg_catalog.current_setting('transaction_isolation') = 'read committed' AND pg_catalog.pg_current_xact_id_if_assigned() IS NULL AND " +
		all + ")" + above + q.grouping + having + q.tail
}

// writable reports whether every moment in the texts has one spelling: years 1 to
// 9999.
func (d *candidate) writable(a *armSet) bool {
	ok := func(b *bound, micros int64) bool {
		return b == nil || d.query.scope.integer || time.UnixMicro(micros).UTC().Year() >= 1 && time.UnixMicro(micros).UTC().Year() <= 9999
	}
	return ok(d.span.low, a.low) && ok(d.span.high, a.high)
}

// expires is when the estimates of bounds relative to now() stop being good.
func (d *candidate) expires(now time.Time) time.Time {
	at := d.span.validUntil
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	half := aggregateRewriteMargin / 2
	if b := d.span.low; b != nil && b.moving {
		earlier(now.Add(time.Duration(d.lo()-b.at)*time.Microsecond - half))
	}
	if b := d.span.high; b != nil && b.moving {
		earlier(now.Add(time.Duration(d.view.Grid.Approx())*time.Microsecond + half))
	}
	return at
}

// lock names every relation whose rows the rewritten query may read, each by
// ONLY: the hypertable with the chunks of the raw arms, and the materialization
// with its chunks, compressed ones too. A chunk that is dropped, truncated,
// compressed or decompressed between the snapshot and the read would tear the
// answer.
func (d *candidate) lock(arms *armSet) []string {
	var names []string
	add := func(n catalog.Name) { names = append(names, "ONLY "+relationText(n)) }
	chunk := func(c *catalog.Chunk) {
		add(c.Name)
		if c.Compressed.Name != "" {
			add(c.Compressed)
		}
	}
	if len(arms.chunks) > 0 {
		add(d.raw.Name)
		for i := range arms.chunks {
			chunk(&arms.chunks[i])
		}
	}
	for _, dim := range d.query.scope.dims {
		names = append(names, relationText(dim.relation.Name)) // with what inherits from it
	}
	add(d.view.Aggregate.Materialization)
	for c := range d.inSpans(d.held.Chunks) {
		chunk(c)
	}
	return names
}

// ranges lists what is read from where, in order of time.
func (d *candidate) ranges(arms *armSet) []timePart {
	out := make([]timePart, 0, len(d.spans)+len(arms.arms))
	for _, s := range d.spans {
		out = append(out, timePart{source: d.view.Aggregate.View, from: s.Start, to: s.End})
	}
	for _, arm := range arms.arms {
		p := timePart{source: d.raw.Name, from: arm.from, to: arm.to}
		if arm.openLeft {
			if p.openLeft = d.span.low == nil; !p.openLeft {
				p.from = d.span.low.at
			}
		}
		if arm.openRight {
			if p.openRight = d.span.high == nil; !p.openRight {
				p.to = d.span.high.at
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b timePart) int { return cmp.Compare(a.from, b.from) })
	for i := range out {
		out[i].integer = d.query.scope.integer
	}
	return out
}

func displayName(n catalog.Name) string {
	if n.Schema == "public" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

// partColumn is a column of the union that holds partials.
type partColumn struct {
	rollup.Part
	function string // the user's spelling of first or last
}

// parts numbers the partials of all recipes; equal ones share a column.
func (d *candidate) parts() (columns []partColumn, numbers [][]int) {
	numbers = make([][]int, len(d.recipes))
	for i, recipe := range d.recipes {
		for _, p := range recipe.Parts {
			n := -1
			for j, have := range columns {
				if have.Part == p {
					n = j
				}
			}
			if p.Order && d.single() {
				continue // each value stands alone
			}
			if n < 0 {
				n = len(columns)
				columns = append(columns, partColumn{p, d.query.calls[i].function})
			}
			numbers[i] = append(numbers[i], n)
		}
	}
	return columns, numbers
}

// texts writes the rewritten query.
func (d *candidate) texts() (queryParts, Reason) {
	q := d.query
	columns, numbers := d.parts()
	var out queryParts
	var failed Reason
	put := combine
	single := d.single()
	if single {
		put = pick
	}
	combined := func(call int, filter string) string {
		return put(d.recipes[call].Combine, q.calls[call].function, filter, numbers[call])
	}
	group := func(n *pg_query.Node) string {
		text, reason := q.groupExpr(n, combined)
		if reason != "" && failed == "" {
			failed = reason
		}
		return text
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	if len(q.stmt.DistinctClause) > 0 {
		b.WriteString("DISTINCT ")
	}
	for i, name := range q.names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(group(q.target(i)))
		b.WriteString(" AS ")
		b.WriteString(ident(name))
	}
	union, reason := d.union(columns)
	if reason != "" {
		return out, reason
	}
	b.WriteString(" FROM ")
	b.WriteString(union)
	out.head = b.String()
	var where []string
	for _, n := range q.above {
		text, reason := q.joinedExpr(n)
		if reason != "" {
			return out, reason
		}
		where = append(where, text)
	}
	if !single {
		out.grouping = q.grouping()
		out.oneGroup = q.groups != nil || out.grouping == ""
	}
	if n := q.stmt.HavingClause; n != nil && single {
		where = append(where, group(n))
	} else if n != nil {
		out.having = group(n)
	}
	out.where = strings.Join(where, " AND ")
	b.Reset()
	windows, reason := q.windows(combined)
	if reason != "" {
		return out, reason
	}
	b.WriteString(windows)
	for i, o := range q.order {
		word := ", "
		if i == 0 {
			word = " ORDER BY "
		}
		b.WriteString(word)
		if o.ordinal > 0 {
			b.WriteString(strconv.Itoa(o.ordinal))
		} else {
			b.WriteString(group(o.node))
		}
		b.WriteString(o.suffix)
	}
	if n := q.stmt.LimitCount; n != nil {
		b.WriteString(" LIMIT " + group(n))
	}
	if n := q.stmt.LimitOffset; n != nil {
		b.WriteString(" OFFSET " + group(n))
	}
	out.tail = b.String()
	return out, failed
}

// union writes what the groups are made of: stored rows and, from raw arms, rows of
// their form.
func (d *candidate) union(columns []partColumn) (string, Reason) {
	stored, reason := d.storedArm(columns)
	if reason != "" {
		return "", reason
	}
	union := "(" + stored
	for i := range d.arms.arms {
		union += " UNION ALL " + d.rawArm(columns, d.armConditions(i))
	}
	union += d.query.fence() + ") AS " + unionAlias
	if len(d.query.scope.dims) > 0 {
		return d.query.from(union)
	}
	return union, ""
}

// storedArm reads the spans from the materialization: one row a bucket and group.
func (d *candidate) storedArm(columns []partColumn) (string, Reason) {
	q := d.query
	var list []string
	for i, k := range q.keys {
		text, reason := render(q.scope.snap, k.node, d.overStored)
		if reason != "" {
			return "", reason
		}
		list = append(list, text+" AS k"+strconv.Itoa(i+1))
	}
	for i, c := range columns {
		text := storedAlias + "." + ident(c.Stored)
		if c.AsText {
			text += "::pg_catalog.text"
		}
		list = append(list, text+" AS a"+strconv.Itoa(i+1))
	}
	bucket := storedAlias + "." + ident(d.view.Bucket)
	spans := make([]string, len(d.spans))
	for i := range d.spans {
		spans[i] = bucket + " >= " + d.time(place{spanStart, i}) + " AND " + bucket + " < " + d.time(place{spanEnd, i})
	}
	where := spans
	if len(spans) > 1 {
		where = []string{
			bucket + " >= " + d.time(d.first()), bucket + " < " + d.time(d.last()), // for the exclusion of chunks
			"(" + strings.Join(spans, " OR ") + ")",
		}
	}
	for i := range q.conds {
		text, reason := d.conditionText(i, overStored, d.overStored)
		if reason != "" {
			return "", reason
		}
		where = append(where, text)
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM " + relationText(d.view.Aggregate.Materialization) + " AS " + storedAlias +
		" WHERE " + strings.Join(where, " AND "), ""
}

// overStored writes columns of the materialization for those of the hypertable.
func (d *candidate) overStored(r *renderer, n *pg_query.Node) bool {
	if d.isBucket(n) {
		r.write(storedAlias, ".", ident(d.view.Bucket))
		return true
	}
	ref := n.GetColumnRef()
	if ref == nil {
		return false
	}
	c, ok := d.query.scope.column(ref)
	name := d.view.Dims[c.Name]
	if c.Name == d.query.scope.hyper.TimeColumn {
		name = d.view.Bucket
	}
	if !ok || name == "" {
		r.fail(ReasonAggDimension)
		return true
	}
	r.write(storedAlias, ".", ident(name))
	return true
}

// isBucket reports whether an expression gives each stored bucket back, with its type:
// it cuts the time column to the aggregate's own grid. Doing so once more for each
// stored row would take longer than reading it.
func (d *candidate) isBucket(n *pg_query.Node) bool {
	f := n.GetFuncCall()
	if f == nil || !cutsTime[functionName(f)] || !slices.ContainsFunc(f.Args, d.query.scope.isTime) {
		return false
	}
	form, ok := d.query.clock.form(n)
	return ok && form.grid == d.view.Grid && (form.zone == "" || utcZones[form.zone])
}

// cutsTime are the functions that give the start of a bucket in the type of the time
// column that they are given.
var cutsTime = setOf("time_bucket", "date_trunc", "date_bin")

// armConditions keeps a raw arm on its range. At an open end the query's own
// bounds hold; a bound that is not constant is joined by the constant that the
// guard proves, so that chunks are excluded when the statement is planned.
func (d *candidate) armConditions(i int) []string {
	moment, arm := rawAlias+"."+ident(d.raw.TimeColumn), d.arms.arms[i]
	var out []string
	if !arm.openLeft {
		out = append(out, moment+" >= "+d.time(place{armFrom, i}))
	}
	if !arm.openRight {
		out = append(out, moment+" < "+d.time(place{armTo, i}))
	}
	varies := func(b *bound) bool { return b != nil && (b.moving || !b.until.IsZero()) }
	if arm.openLeft && varies(d.span.low) {
		out = append(out, moment+" >= "+d.time(place{at: lowest}))
	}
	if arm.openRight && varies(d.span.high) {
		out = append(out, moment+" <= "+d.time(place{at: highest}))
	}
	if arm.openLeft || arm.openRight {
		for i, b := range d.span.all {
			out = append(out, moment+" "+b.operator()+" ("+d.boundText(i)+")")
		}
	}
	return out
}

// rawArm aggregates raw rows by the query's own groups into the partials that the
// materialization holds, with the expressions that the aggregate is made of.
func (d *candidate) rawArm(columns []partColumn, where []string) string {
	q := d.query
	var list []string
	for i, k := range q.keys {
		list = append(list, k.raw+" AS k"+strconv.Itoa(i+1))
	}
	moment := rawAlias + "." + ident(d.raw.TimeColumn)
	for i, c := range columns {
		value, ok := q.values[c.Partial.Column]
		if !ok {
			value = rawAlias + "." + ident(c.Partial.Column)
		}
		text := ""
		switch {
		case c.Order && c.Partial.Func == rollup.Min:
			text = "pg_catalog.min(" + moment + ")"
		case c.Order:
			text = "pg_catalog.max(" + moment + ")"
		case c.Partial.Func == rollup.Count && c.Partial.Column == "":
			text = "pg_catalog.count(*)"
		case c.Partial.Func == rollup.First, c.Partial.Func == rollup.Last:
			text = c.function + "(" + value + ", " + moment + ")"
		default:
			text = "pg_catalog." + c.Partial.Func.String() + "(" + value + ")"
		}
		list = append(list, text+" AS a"+strconv.Itoa(i+1))
	}
	for i := range q.conds {
		text, _ := d.conditionText(i, overRaw, q.overRaw) // analyze rendered it before
		where = append(where, text)
	}
	out := "SELECT " + strings.Join(list, ", ") + " FROM " + relationText(d.raw.Name) + " AS " + rawAlias + " WHERE " + strings.Join(where, " AND ")
	if len(q.keys) == 0 {
		return out + " HAVING pg_catalog.count(*) > 0" // no row of nulls from an empty arm
	}
	return out + " GROUP BY " + strings.Join(q.rawGroups(), ", ")
}

// rawGroups are what a raw arm groups by: the keys, but for those that are derived their
// columns, which are put together above.
func (q *aggQuery) rawGroups() []string {
	var groups []string
	add := func(text string) {
		if !slices.Contains(groups, text) {
			groups = append(groups, text)
		}
	}
	for i, k := range q.keys {
		columns := q.derivedFrom(k.node)
		if len(columns) == 0 {
			add(strconv.Itoa(i + 1))
		}
		for _, c := range columns {
			add(rawAlias + "." + ident(c))
		}
	}
	return groups
}

// fence has the server group the rows of all arms only when they are put together, where
// a key is derived by arithmetic, a function or a cast: of these TimescaleDB holds some
// to keep the order.
func (q *aggQuery) fence() string {
	for _, k := range q.keys {
		switch k.node.Node.(type) {
		case *pg_query.Node_AExpr, *pg_query.Node_FuncCall, *pg_query.Node_TypeCast:
			if x := k.node.GetAExpr(); (x == nil || ordersAlike(x)) && len(q.derivedFrom(k.node)) > 0 {
				return " OFFSET 0"
			}
		}
	}
	return ""
}

// ordersAlike says whether an operator is one by which a column's order may be kept.
func ordersAlike(x *pg_query.A_Expr) bool {
	return x.Kind == pg_query.A_Expr_Kind_AEXPR_OP && strings.ContainsAny(x.Name[len(x.Name)-1].GetString_().GetSval(), "+-*/")
}

// derivedFrom returns the columns of a key that is an expression over grouped columns;
// none for another. TimescaleDB takes compressed rows for sorted by such an expression
// when the column is one that it segments by, and then gives a group several times.
func (q *aggQuery) derivedFrom(key *pg_query.Node) (columns []string) {
	if key.GetColumnRef() != nil {
		return nil
	}
	timed := false
	_, _ = render(q.scope.snap, key, func(r *renderer, n *pg_query.Node) bool {
		if ref := n.GetColumnRef(); ref != nil {
			c, _ := q.scope.column(ref)
			timed = timed || c.Name == q.scope.hyper.TimeColumn
			columns = append(columns, c.Name)
		}
		return q.overRaw(r, n)
	})
	if timed {
		return nil
	}
	return columns
}

func (b bound) operator() string {
	op := "<"
	if b.lower {
		op = ">"
	}
	if !b.strict {
		op += "="
	}
	return op
}
