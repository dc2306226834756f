package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// What a statement costs the server, in raw rows that it aggregates in the same time.
// They are set by hand: the right order, not a measurement. make bench-aggregates
// measures each of them on its server and prints it beside.
const (
	costRoute = 3000 // BEGIN, LOCK, the proof, COMMIT, and their messages
	costArm   = 800  // planning and putting together one more arm of the union
	costChunk = 100  // planning and opening a chunk with its indexes
	costLock  = 10   // of one relation
	// costStored is a row of the aggregate: partials are put together as raw rows are.
	costStored = 1
	// costSkipped is what a row costs that the statement's conditions leave out, as a
	// part of one that it aggregates: an index may or may not find the others alone.
	costSkipped = 0.01
)

// cost is what answering one SELECT costs from the aggregate and from raw rows.
type cost struct {
	routed, raw float64
	known       bool // ANALYZE has told the rows of every chunk that raw is about
}

// plus adds up the costs of two SELECTs of one statement, which share their proof.
func (c cost) plus(o cost) cost {
	return cost{c.routed + o.routed, c.raw + o.raw, c.known && o.known}
}

// cheaperRaw reports whether the original is known to be the cheaper one.
func (c cost) cheaperRaw() bool { return c.known && c.raw < c.routed+costRoute }

// cheaperRaw reports whether the statement is known to be cheaper as it is.
func (b *blocks) cheaperRaw() bool {
	total := cost{known: true}
	for _, p := range b.pieces {
		total = total.plus(p.cost)
	}
	return total.cheaperRaw()
}

// estimate says what the candidate's answer costs, but for the proof.
func (d *candidate) estimate(arms *armSet) cost {
	share := d.query.share()
	c := cost{known: true}
	c.raw, c.known = d.rows(d.span.from, d.span.to, share)
	for _, a := range arms.arms {
		rows, _ := d.rows(max(a.from, d.span.from), min(a.to, d.span.to), share)
		c.routed += costArm + rows
	}
	c.routed += costLock * float64(len(arms.chunks))
	for range d.inSpans(d.held.Chunks) {
		c.routed += costChunk + costLock
	}
	for _, s := range d.spans {
		c.routed += d.stored(s, share)
	}
	return c
}

// rows is what raw rows in [from, to) cost, and whether their number is known.
func (d *candidate) rows(from, to int64, share float64) (n float64, known bool) {
	n, chunks, known := d.counted(from, to)
	return costChunk*float64(chunks) + n*share, known
}

// counted is how many raw rows there are in [from, to), in how many chunks, and whether
// ANALYZE has counted all of them.
func (d *candidate) counted(from, to int64) (n float64, chunks int, known bool) {
	known = true
	for i := range d.raw.Chunks {
		c := &d.raw.Chunks[i]
		if c.Start >= to || c.End <= from {
			continue
		}
		chunks++
		known = known && c.Rows > 0
		n += float64(c.Rows) * part(c, from, to)
	}
	return n, chunks, known
}

// stored is what the rows of the aggregate in a span cost: those that ANALYZE has counted
// in a chunk, which lie where the raw rows do (a chunk of an aggregate is wide, and its
// data may begin or end amid it), else one for each bucket and each value of the columns
// that it groups by. There are no more than of these, as far as they are known, nor than
// raw rows.
func (d *candidate) stored(s catalog.Span, share float64) float64 {
	n := 0.0
	for i := range d.held.Chunks {
		c := &d.held.Chunks[i]
		from, to := max(c.Start, s.Start), min(c.End, s.End)
		if from >= to {
			continue
		}
		full, sure := float64(to-from)/float64(d.view.Grid.Approx()), true
		for name := range d.view.Dims {
			groups := d.raw.Distinct[name]
			full *= float64(max(1, groups))
			sure = sure && groups > 0
		}
		raw, _, known := d.counted(from, to)
		rows := float64(c.Rows) * part(c, from, to)
		if all, _, counted := d.counted(c.Start, c.End); counted && all > 0 {
			rows = float64(c.Rows) * raw / all
		}
		switch {
		case c.Rows == 0:
			rows = full
		case sure:
			rows = min(rows, full)
		}
		if known {
			rows = min(rows, raw)
		}
		n += rows * share
	}
	return n * costStored
}

// part is how much of a chunk lies in [from, to).
func part(c *catalog.Chunk, from, to int64) float64 {
	return float64(min(c.End, to)-max(c.Start, from)) / float64(c.End-c.Start)
}

// share is what a row of the hypertable costs on average, by the columns that the
// conditions fix to one value or to some, as far as the number of values is known.
func (q *aggQuery) share() float64 {
	taken := 1.0
	for name, n := range q.chosen {
		if all := q.scope.hyper.Distinct[name]; all > int64(n) {
			taken *= float64(n) / float64(all)
		}
	}
	return taken + (1-taken)*costSkipped
}

// choose notes a column that the conjunct compares by = with one value, or by IN with
// some.
func (q *aggQuery) choose(x *pg_query.A_Expr) {
	if lastName(x.Name) != "=" || q.mentionsColumn(x.Rexpr) {
		return
	}
	c, ok := q.scope.column(x.Lexpr.GetColumnRef())
	if !ok {
		return
	}
	n := 1
	if x.Kind == pg_query.A_Expr_Kind_AEXPR_IN {
		n = len(x.Rexpr.GetList().GetItems())
	} else if x.Kind != pg_query.A_Expr_Kind_AEXPR_OP {
		return
	}
	if have := q.chosen[c.Name]; have == 0 || n < have {
		q.chosen[c.Name] = n
	}
}
