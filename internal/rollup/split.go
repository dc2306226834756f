package rollup

import (
	"cmp"
	"math"
	"slices"

	"qvpgw/internal/catalog"
)

// Ends of the time axis in internal time. MinTime is the least timestamp of
// PostgreSQL (4714-11-24 BC): TimescaleDB's logs keep the part before it marked
// for ever, and no row lies there.
const (
	MinTime int64 = -210_866_803_200_000_000
	MaxTime int64 = math.MaxInt64
)

// firstYear and lastYear bound the times that are split, the years 1 to 9999: they
// have one spelling in SQL and stay far from overflow. Integers are split between
// MinTime and -MinTime.
const (
	firstYear int64 = -62_135_596_800 * Second
	lastYear  int64 = 253_402_300_800 * Second
)

// Request is what a query reads and what may be answered from an aggregate.
type Request struct {
	From, To int64 // the query's time range [From, To); MinTime and MaxTime when open
	Integer  bool  // time is integers, not microseconds
	// Limit is the end of what the aggregate holds: the least of its watermark, its
	// hypertable's invalidation threshold, and those of the aggregates under it.
	Limit int64
	Raw   []catalog.Chunk // chunks of the hypertable, by Start
	// Held are the chunks of the materialization, by Start, and of those of the
	// aggregates under it. Where raw chunks lie and one of them has none, the
	// aggregate holds nothing, whatever the logs say: a retention policy of an
	// aggregate leaves no trace in them.
	Held    [][]catalog.Chunk
	Invalid []catalog.Span // known to be not materialized
}

// Gathered is the request with what is held nowhere among what is invalid, for requests
// over the same chunks that differ in From and To alone.
func (r Request) Gathered(g Grid) Request {
	r.Invalid = inOrder(append(missing(g, r), r.Invalid...))
	r.Held = nil
	return r
}

// maxSpans bounds the ranges that are read apart: each costs the server planning.
const maxSpans = 6

// Split chooses what the aggregate answers: the ranges of whole buckets that lie
// within the request, below the limit, are held and are not known to be invalid;
// the largest few of them, in order of time, nil when there are none.
func Split(g Grid, r Request) []catalog.Span {
	first, last := firstYear, lastYear
	if r.Integer {
		first, last = MinTime, -MinTime
	}
	if len(r.Raw) == 0 || r.Raw[0].Start < first {
		return nil
	}
	end := min(r.To, r.Limit, last)
	if end < first || r.From >= last {
		return nil
	}
	// Before the first chunk there are no rows: the bucket in which it starts may be
	// taken whole.
	lo, hi := g.Floor(r.Raw[0].Start), g.Floor(end)
	if r.From > lo {
		lo = g.Ceil(r.From)
	}
	if lo >= hi {
		return nil
	}
	var spans []catalog.Span
	holes := r.Invalid
	if r.Held != nil {
		holes = append(missing(g, r), holes...)
	}
	for _, s := range subtract(catalog.Span{Start: lo, End: hi}, inOrder(holes)) {
		s.Start, s.End = g.Ceil(s.Start), g.Floor(s.End)
		if s.End > s.Start {
			spans = append(spans, s)
		}
	}
	if len(spans) > maxSpans {
		slices.SortFunc(spans, func(a, b catalog.Span) int { return cmp.Compare(b.End-b.Start, a.End-a.Start) })
		spans = inOrder(spans[:maxSpans])
	}
	return spans
}

// missing gives the parts of raw chunks that some materialization has no chunk for,
// from the start of the bucket in which a raw chunk starts.
func missing(g Grid, r Request) []catalog.Span {
	var out []catalog.Span
	for _, chunks := range r.Held {
		held := make([]catalog.Span, 0, len(chunks))
		for _, c := range chunks {
			held = append(held, catalog.Span{Start: c.Start, End: c.End})
		}
		held = inOrder(held)
		for _, c := range r.Raw {
			out = append(out, subtract(catalog.Span{Start: g.Floor(c.Start), End: c.End}, held)...)
		}
	}
	return out
}

// inOrder returns spans by their start; they stay as they are.
func inOrder(spans []catalog.Span) []catalog.Span {
	byStart := func(a, b catalog.Span) int { return cmp.Compare(a.Start, b.Start) }
	if slices.IsSortedFunc(spans, byStart) {
		return spans
	}
	return slices.SortedFunc(slices.Values(spans), byStart)
}

// subtract returns what is left of s without the holes, both in order.
func subtract(s catalog.Span, holes []catalog.Span) []catalog.Span {
	var out []catalog.Span
	at := s.Start
	for _, h := range holes {
		if h.End <= at || h.Start >= s.End {
			continue
		}
		if h.Start > at {
			out = append(out, catalog.Span{Start: at, End: h.Start})
		}
		at = max(at, h.End)
	}
	if at < s.End {
		out = append(out, catalog.Span{Start: at, End: s.End})
	}
	return out
}

// Overlapping returns the chunks with a moment in [from, to).
func Overlapping(chunks []catalog.Chunk, from, to int64) []catalog.Chunk {
	var out []catalog.Chunk
	for _, c := range chunks {
		if c.Start < to && c.End > from {
			out = append(out, c)
		}
	}
	return out
}

// rawSpacing is the assumed distance of raw rows of one group, by which raw time
// is weighed against buckets. The catalog has no row counts; a minute is what
// bars and most sensors have.
const rawSpacing = Minute

// Cost estimates the rows read for each group: buckets in the spans, raw rows in
// the rest of [From, To) where the hypertable has chunks. Only its order counts.
func Cost(g Grid, r Request, spans []catalog.Span) int64 {
	var raw, buckets int64
	for _, c := range r.Raw {
		from, to := max(c.Start, r.From), min(c.End, r.To)
		if from >= to {
			continue
		}
		raw += to - from
		for _, s := range spans {
			raw -= max(0, min(to, s.End)-max(from, s.Start))
		}
	}
	for _, s := range spans {
		buckets += (s.End - s.Start) / g.Approx()
	}
	if r.Integer {
		return raw + buckets
	}
	return raw/rawSpacing + buckets
}
