package router

import (
	"context"
	"encoding/csv"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/demo"
	"qvpgw/internal/embedded"
	"qvpgw/internal/pgtest"
)

// overRealBars asks the statements over real bars instead of the made ones, and puts
// these back.
func (l *live) overRealBars(t *testing.T, cases []goldenCase) {
	t.Helper()
	ctx := context.Background()
	rows := realBars(t)
	l.exec(t, "CREATE TABLE made AS SELECT * FROM market_data; TRUNCATE market_data")
	defer l.exec(t, "DROP TABLE made")
	columns := []string{"timestamp", "symbol", "open", "high", "low", "close", "volume"}
	if _, err := l.conn.CopyFrom(ctx, pgx.Identifier{"market_data"}, columns, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	l.refresh(t, "NULL", "NULL")
	l.settle(t)
	snap := l.snapshot(t)
	answers := 0
	for _, c := range cases {
		if plan, _ := planText(t, c.sql, liveContext(), snap, time.Now()); plan == nil {
			continue // the bars of the last days are made
		}
		if o, _ := l.check(t, "real bars", c, snap); o[0] == answered {
			answers++
		}
	}
	t.Logf("%d of %d statements were answered over %d real bars", answers, len(cases), len(rows))
	if answers < 120 {
		t.Errorf("%d statements were answered over real bars, want 120", answers)
	}
	l.exec(t, "TRUNCATE market_data; INSERT INTO market_data SELECT * FROM made")
	l.refresh(t, "NULL", "NULL")
	l.settle(t)
}

// realBars are rows of market_data between 2024-01-04 and 2024-03-15: of the gzipped
// CSV file that QVPGW_BARS names, else the demo's minutes, moved there by whole days.
// The two symbols are those of the golden statements.
func realBars(t *testing.T) [][]any {
	t.Helper()
	from, to := time.Date(2024, 1, 4, 0, 0, 0, 0, time.UTC), time.Date(2024, 3, 15, 0, 0, 0, 0, time.UTC)
	var rows [][]any
	if bars := pgtest.Bars(t); bars != nil {
		lines, err := csv.NewReader(strings.NewReader(strings.Join(bars, ""))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]string{}
		for _, line := range lines { // timestamp, symbol, open, high, low, close, volume
			at, err := time.Parse(time.RFC3339, line[0])
			if err != nil {
				t.Fatal(err)
			}
			if names[line[1]] == "" && len(names) < 2 {
				names[line[1]] = [...]string{"SPY", "SPX"}[len(names)]
			}
			symbol := names[line[1]]
			if symbol == "" || at.Before(from) || !at.Before(to) {
				continue
			}
			row := []any{at, symbol}
			for _, v := range line[2:6] {
				x, err := strconv.ParseFloat(v, 64)
				if err != nil {
					t.Fatal(err)
				}
				row = append(row, x)
			}
			volume, err := strconv.ParseInt(line[6], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, append(row, volume))
		}
		return rows
	}
	cache, err := pgtest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	path, err := embedded.File(filepath.Join(cache, "embedded"), "vega-datasets/data/sp500-2000.csv")
	if err != nil {
		t.Fatal(err)
	}
	daily, err := demo.ReadBars(path)
	if err != nil {
		t.Fatal(err)
	}
	set, err := demo.NewDataset(daily)
	if err != nil {
		t.Fatal(err)
	}
	move := from.Sub(set.Minutes[0].Time.Truncate(24 * time.Hour))
	for i, b := range set.Minutes {
		at := b.Time.Add(move)
		if !at.Before(to) {
			break
		}
		if i%4 == 0 { // a quarter of them keeps the test short
			rows = append(rows, []any{at, [...]string{"SPY", "SPX"}[i/4%2], b.Open, b.High, b.Low, b.Close, b.Volume})
		}
	}
	return rows
}
