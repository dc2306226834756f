package router

import (
	"strings"
	"testing"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// counted is the golden snapshot, of which every chunk has that many rows and the
// hypertable that many symbols.
func counted(t testing.TB, rows, symbols int64) *catalog.Snapshot {
	t.Helper()
	s := goldenSnapshot(t)
	h := s.Hypertables[1]
	for i := range h.Chunks {
		h.Chunks[i].Rows = rows
	}
	h.Distinct = map[string]int64{"symbol": symbols}
	for _, r := range s.Relations {
		r.Clean = true
	}
	return s
}

func TestFewRawRowsAreReadWhereTheyAre(t *testing.T) {
	const (
		week = "timestamp >= '2024-02-01' AND timestamp < '2024-02-08'"
		year = "timestamp >= '2024-01-10'"
	)
	const hours = "SELECT time_bucket('1 hour', timestamp) AS b, symbol, sum(volume) FROM market_data WHERE " + year + " GROUP BY 1, 2"
	sums := func(where string) string {
		return "SELECT symbol, sum(volume) FROM market_data WHERE " + where + " GROUP BY symbol"
	}
	for _, c := range []struct {
		name, sql     string
		rows, symbols int64
		raw           bool
	}{
		{"a week of few rows", sums(week), 500, 10, true},
		{"a week of many rows", sums(week), 50_000, 10, false},
		{"all of few rows", sums(year), 50, 10, true},
		{"all of many rows", sums(year), 5_000, 10, false},
		{"one symbol of many in a week", sums(week + " AND symbol = 'A'"), 10_000, 100, true},
		{"three symbols of many in a week", sums(week + " AND symbol IN ('A', 'B', 'C')"), 10_000, 100, true},
		{"one symbol of two in a week", sums(week + " AND symbol = 'A'"), 20_000, 2, false},
		{"one symbol of nobody knows how many", sums(week + " AND symbol = 'A'"), 10_000, 0, false},
		{"all symbols but one", sums(week + " AND symbol <> 'A'"), 10_000, 100, false},
		{"nobody knows how many rows", sums(week), 0, 10, false},
		{"an hour of a week of many rows", sums("timestamp >= '2024-02-01 10:00' AND timestamp < '2024-02-01 11:00'"), 50_000, 10, true},
		{"hours of which each symbol has a row in each", hours, 16_800, 100, true},
		{"hours of which each symbol has sixty rows in each", hours, 60 * 16_800, 100, false},
		{"two sub-queries", "SELECT * FROM (" + sums(week) + ") a JOIN (" + sums(week) + ") b USING (symbol)", 500, 10, true},
		{"two sub-queries, one over many rows", "SELECT * FROM (" + sums(week) + ") a JOIN (" + sums(year) + ") b USING (symbol)", 3_000, 10, false},
	} {
		r := New(Options{Catalog: one{counted(t, c.rows, c.symbols)}, Now: func() time.Time { return goldenNow }})
		for _, text := range []string{c.sql, strings.ReplaceAll(c.sql, "'A'", "'Z'")} {
			p := r.Plan(goldenContext(), []byte(text))
			if raw := p.Reason == ReasonAggCheaperRaw; raw != c.raw || raw != (p.Aggregates == nil) || raw != (p.Action == Pass) {
				t.Errorf("%s: %s", c.name, describePlan(p))
			}
		}
		always := New(Options{Catalog: one{counted(t, c.rows, c.symbols)}, Now: func() time.Time { return goldenNow }, AlwaysRoute: true})
		if p := always.Plan(goldenContext(), []byte(c.sql)); p.Aggregates == nil {
			t.Errorf("%s: always: %s", c.name, p.Reason)
		}
	}
}

// A chunk of the aggregate is as wide as ten of the hypertable, and its data begins in
// its last fifth: there are as many rows as raw ones.
func TestStoredRowsAreWhereTheRawOnesAre(t *testing.T) {
	const week = 7 * rollup.Day
	raw := &catalog.Hypertable{Distinct: map[string]int64{"symbol": 2}, Chunks: []catalog.Chunk{{Start: 0, End: week, Rows: 3000}, {Start: week, End: 2 * week, Rows: 1000}}}
	held := &catalog.Hypertable{Chunks: []catalog.Chunk{{Start: -8 * week, End: 2 * week, Rows: 2000}}}
	view := &rollup.View{Grid: rollup.Fixed(60_000_000, 0), Dims: map[string]string{"symbol": "symbol"}}
	d := &candidate{raw: raw, held: held, view: view}
	for _, c := range []struct {
		name     string
		from, to int64
		change   func()
		want     float64
	}{
		{"a week", 0, week, func() {}, 1500},
		{"half a week", week, week + week/2, func() {}, 250},
		{"no more than raw rows", 0, week, func() { held.Chunks[0].Rows = 50_000 }, 3000},
		{"no more than buckets and groups", 0, 1000 * 60_000_000, func() { raw.Chunks[0].Rows = 3_000_000 }, 2000},
		{"by the time where raw rows are not counted", 0, week, func() { held.Chunks[0].Rows, raw.Chunks[1].Rows = 2000, 0 }, 200},
	} {
		c.change()
		if got := d.stored(catalog.Span{Start: c.from, End: c.to}, 1); got != c.want {
			t.Errorf("%s: %v rows, want %v", c.name, got, c.want)
		}
	}
}

// The choice depends on the bounds, so a known shape makes it anew.
func TestAKnownShapeChoosesByItsOwnBounds(t *testing.T) {
	c := goldenContext()
	r := New(Options{Catalog: one{counted(t, 3_000, 10)}, Now: func() time.Time { return goldenNow }})
	for i, x := range []struct {
		until string
		want  Reason
	}{
		{"2024-01-12", ReasonAggCheaperRaw}, {"2024-03-10", ReasonAggregate}, {"2024-01-13", ReasonAggCheaperRaw}, {"2024-03-09", ReasonAggregate},
	} {
		p := r.Plan(c, []byte("SELECT symbol, sum(volume) FROM market_data WHERE timestamp >= '2024-01-10' AND timestamp < '"+x.until+"' GROUP BY symbol"))
		if p.Reason != x.want {
			t.Errorf("until %s: %s, want %s", x.until, p.Reason, x.want)
		}
		if n := r.Stat().Parsed; n != 1 {
			t.Errorf("%d texts parsed after %d", n, i+1)
		}
	}
	const bound = "SELECT symbol, sum(volume) FROM market_data WHERE timestamp >= $1 AND timestamp < $2 GROUP BY symbol"
	if p := r.Plan(c, []byte(bound)); !p.AtBind {
		t.Fatalf("before Bind: %s", describePlan(p))
	}
	day := func(s string) Param { return Param{Type: oidTimestamptz, Value: []byte(s)} }
	if p := r.Bound(c, []byte(bound), []Param{day("2024-01-10 00:00:00+00"), day("2024-01-12 00:00:00+00")}); p.Reason != ReasonAggCheaperRaw {
		t.Errorf("bound to two days: %s", describePlan(p))
	}
	if p := r.Bound(c, []byte(bound), []Param{day("2024-01-10 00:00:00+00"), day("2024-03-10 00:00:00+00")}); p.Aggregates == nil {
		t.Errorf("bound to two months: %s", describePlan(p))
	}
}
