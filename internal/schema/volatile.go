package schema

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"qvpgw/internal/catalog"
)

// loadVolatile reads chunks, thresholds, watermarks, what is known to be not
// materialized, and whether the server is in recovery, in one query, and returns a copy of s with them.
func (l *Loader) loadVolatile(ctx context.Context, q Query, s *catalog.Snapshot) (*catalog.Snapshot, error) {
	if !l.known {
		if _, _, err := l.facts(ctx, q); err != nil {
			return nil, err
		}
	}
	const what = "chunks and watermarks"
	rows, err := read(ctx, q, what, l.layout.volatileSQL(), 9)
	if err != nil {
		return nil, err
	}
	v := catalog.Volatile{Chunks: map[int32][]catalog.Chunk{}, Thresholds: map[int32]int64{}, Watermarks: map[int32]int64{}, Settled: map[int32]catalog.Settled{}, Distinct: map[int32]map[string]int64{}}
	changed, invalid := map[int32][]catalog.Span{}, map[int32][]catalog.Span{}
	counts := map[[2]int32]int64{} // by hypertable and chunk
	var n numbers
	for _, row := range rows {
		id, start, end := n.int32(row[1]), n.int64(row[5]), n.int64(row[6])
		switch row[0] {
		case "chunk":
			v.Chunks[id] = append(v.Chunks[id], catalog.Chunk{
				ID: n.int32(row[2]), Name: catalog.Name{Schema: row[3], Name: row[4]}, Start: start, End: end,
				Compressed: catalog.Name{Schema: row[7], Name: row[8]},
			})
		case "rows":
			start = about(start)
			row[5] = strconv.FormatInt(start, 10)
			counts[[2]int32{id, n.int32(row[2])}] = start
		case "distinct":
			start = about(start)
			row[5] = strconv.FormatInt(start, 10)
			if v.Distinct[id] == nil {
				v.Distinct[id] = map[string]int64{}
			}
			v.Distinct[id][row[3]] = start
		case "threshold":
			v.Thresholds[id] = start
		case "watermark":
			v.Watermarks[id] = start
		case "settled":
			v.Settled[id] = catalog.Settled{Span: catalog.Span{Start: start, End: end}, Reason: row[3], Triggers: row[4], Chunks: n.list32(row[7])}
		case "changed":
			changed[id] = append(changed[id], span64(start, end))
		case "invalid":
			invalid[id] = append(invalid[id], span64(start, end))
		case "recovery":
			v.InRecovery = start == 1
		}
	}
	if n.err != nil {
		return nil, fmt.Errorf("cannot understand the catalog's %s: %w", what, n.err)
	}
	for id, chunks := range v.Chunks {
		for i, c := range chunks {
			if rows, known := counts[[2]int32{id, c.ID}]; known && c.Compressed.Name == "" {
				chunks[i].Rows = max(1, rows)
			}
		}
		slices.SortFunc(chunks, func(a, b catalog.Chunk) int {
			return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID))
		})
	}
	v.Invalid = invalidSpans(s.Aggregates, changed, invalid)
	var sum checksum
	sum.add(what, rows)
	v.Moment = sum.String()
	return s.With(v), nil
}

// about rounds a number that ANALYZE estimated to steps of an eighth of its magnitude,
// so that a table that grows is not another moment each time that somebody looks.
func about(n int64) int64 {
	if n < 16 {
		return n
	}
	shift := bits.Len64(uint64(n)) - 4
	return (n + 1<<(shift-1)) >> shift << shift
}

// span64 makes a span of a log's lowest and greatest value.
func span64(lowest, greatest int64) catalog.Span {
	if greatest < math.MaxInt64 {
		greatest++
	}
	return catalog.Span{Start: lowest, End: greatest}
}

// invalidSpans gathers, for each aggregate, what the logs say is not
// materialized: its own, its hypertable's, and those of the aggregate that it
// stands on.
func invalidSpans(aggregates []*catalog.Aggregate, changed, invalid map[int32][]catalog.Span) map[int32][]catalog.Span {
	byID := map[int32]*catalog.Aggregate{}
	for _, a := range aggregates {
		byID[a.ID] = a
	}
	all := make(map[int32][]catalog.Span, len(aggregates))
	for _, a := range aggregates {
		var spans []catalog.Span
		for at := a; at != nil; at = byID[at.RawID] {
			spans = append(append(spans, invalid[at.ID]...), changed[at.RawID]...)
		}
		all[a.ID] = merge(spans)
	}
	return all
}

// merge sorts spans and joins those that touch, in place.
func merge(spans []catalog.Span) []catalog.Span {
	slices.SortFunc(spans, func(a, b catalog.Span) int { return cmp.Compare(a.Start, b.Start) })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && s.Start <= merged[n-1].End {
			merged[n-1].End = max(merged[n-1].End, s.End)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}
