package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// step is one line of the tour: a statement, run through the gateway as it is and
// again with routing and caching off.
type step struct {
	title string
	query query
	// route is what qvpgw.last_route must say: one of these, as matches compares.
	route []string
	sums  []summed
	runs  int // times it is run each way; the median is shown

	// before runs first: SQL of another client, statement by statement.
	before []string
	// alone: run through the gateway only, for a statement that is the gateway's.
	alone bool
	// check looks at the answer that came through the gateway; may be nil.
	check func(answer) error
}

// facts is what the tour read of the loaded data.
type facts struct {
	from      time.Time // 120 days before the last minute bar
	vector    []float32 // what the k-NN queries look for
	refreshes []string  // statements that bring the aggregates up to date
}

// The rows that the tour adds, and deletes again: bars in two old hours, between
// the minutes that are loaded, with prices above all others; and a vector.
var lateBars = []time.Time{
	time.Date(2020, 1, 15, 15, 7, 30, 0, time.UTC),
	time.Date(2020, 1, 15, 16, 21, 30, 0, time.UTC),
}

const (
	latePrice  = 4000.25
	lateVolume = 1234
	tourMark   = "qvpgw demo tour"
	neighbours = 10
	manyRuns   = 3
)

func insertLateBars() string {
	var rows []string
	for _, at := range lateBars {
		rows = append(rows, fmt.Sprintf("('%s', '%s', %v, %v, %v, %v, %d)",
			at.Format(timeLayout), Minute, latePrice, latePrice, latePrice, latePrice, lateVolume))
	}
	return "INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES " + strings.Join(rows, ", ")
}

func deleteLateBars() string {
	var at []string
	for _, t := range lateBars {
		at = append(at, quote(t.Format(timeLayout)))
	}
	return "DELETE FROM market_data WHERE symbol = '" + Minute + "' AND timestamp IN (" + strings.Join(at, ", ") + ")"
}

func insertNearest(vector []float32) string {
	return fmt.Sprintf("INSERT INTO feature_embeddings (timestamp, symbol, feature_type, embedding, metadata) VALUES ('%s', '%s', '%s', '%s', '%s')",
		lateBars[0].Format(timeLayout), Daily, FeatureType, appendVector(nil, vector), tourMark)
}

func deleteNearest() string {
	return "DELETE FROM feature_embeddings WHERE metadata = '" + tourMark + "'"
}

// ohlcv is the statement that dashboards send, for a bucket expression.
func ohlcv(bucket, where string) string {
	return "SELECT " + bucket + " AS bucket, symbol, first(open, timestamp) AS open, max(high) AS high," +
		" min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume" +
		" FROM market_data WHERE " + where + " GROUP BY bucket, symbol ORDER BY bucket DESC"
}

// steps gives the lines of the tour in their order.
func steps(f facts) []step {
	from := f.from.Format(timeLayout)
	recent := "symbol = '" + Minute + "' AND timestamp >= '" + from + "'"
	hourly := ohlcv("time_bucket('1 hour', timestamp)", recent)
	const hour, day = "rewrite market_data_1h", "rewrite market_data_1d"
	const week = "rewrite" // from the weekly aggregate or the daily one, whichever leaves fewer rows at the edges
	average := []summed{{column: "average", count: "bars"}}

	all := []step{
		{title: "bars by hour", query: query{sql: hourly}, route: []string{hour}},
		{
			title: "bars by day", route: []string{day},
			query: query{sql: ohlcv("time_bucket('1 day', timestamp)", recent), protocol: extended},
		},
		{
			title: "bars by week", route: []string{week},
			query: query{sql: ohlcv("time_bucket('1 week', timestamp)", recent), protocol: prepared},
		},
		{
			title: "bars by hour, date_trunc", route: []string{hour},
			query: query{sql: ohlcv("date_trunc('hour', timestamp)", recent), protocol: prepared},
		},
		{
			title: "bars by day, date_trunc", route: []string{day},
			query: query{sql: ohlcv("date_trunc('day', timestamp)", recent)},
		},
		{
			title: "bars by week, date_trunc", route: []string{week},
			query: query{sql: ohlcv("date_trunc('week', timestamp)", recent), protocol: extended},
		},
		{
			title: "bars by 4 hours, both ends ragged", route: []string{hour},
			query: query{sql: ohlcv("time_bucket('4 hours', timestamp)", recent+" AND timestamp < '2020-04-01 17:45:00+00'")},
		},
		{
			title: "totals, no bucket", route: []string{"rewrite"},
			query: query{sql: "SELECT count(*) AS bars, sum(volume) AS volume, min(low) AS low, max(high) AS high, min(timestamp) AS since" +
				" FROM market_data WHERE " + recent},
		},
		{
			title: "averages by day, a parameter", route: []string{day}, sums: average,
			query: query{
				sql: "SELECT time_bucket('1 day', timestamp) AS day, avg(close) AS average, count(close) AS bars, max(high) - min(low) AS spread" +
					" FROM market_data WHERE symbol = $1 AND timestamp >= '" + from + "' GROUP BY day ORDER BY day",
				args: []string{Minute}, protocol: prepared,
			},
		},
		{
			// Whether the bound of a parameter is followed is the gateway's choice.
			title: "highs by week, all parameters", route: []string{week, "pass"},
			query: query{
				sql: "SELECT time_bucket('1 week', timestamp) AS week, max(high) AS high, count(*) AS bars" +
					" FROM market_data WHERE symbol = $1 AND timestamp >= $2 GROUP BY week ORDER BY week",
				args: []string{Minute, from}, protocol: prepared,
			},
		},
		{
			title: "averages of two symbols, by month", route: []string{"rewrite"}, sums: average,
			query: query{
				sql: "SELECT date_trunc('month', timestamp) AS month, symbol, avg(close) AS average, count(close) AS bars, sum(volume) AS volume" +
					" FROM market_data WHERE symbol IN ('" + Daily + "', '" + Minute + "') AND timestamp >= '" + from + "'" +
					" GROUP BY month, symbol ORDER BY month, symbol", protocol: extended,
			},
		},
		{
			title: "each symbol since 2000", route: []string{"rewrite"},
			query: query{sql: "SELECT symbol, count(*) AS bars, min(low) AS low, max(high) AS high, sum(volume) AS volume" +
				" FROM market_data GROUP BY symbol ORDER BY symbol"},
		},
		{
			title: "median, which no aggregate gives", route: []string{"pass"},
			query: query{
				sql:      "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY close) AS median FROM market_data WHERE " + recent,
				protocol: extended,
			},
		},
		{
			title: "late bars arrive: by hour again", before: []string{insertLateBars()},
			// Both are right: the aggregate beside the hypertable for what is not
			// materialized yet, or the hypertable alone.
			query: query{sql: hourly}, route: []string{hour, "pass"}, check: lateBarsShow,
		},
		{
			title: "by day, date_trunc, again", route: []string{day, "pass"},
			query: query{sql: ohlcv("date_trunc('day', timestamp)", recent), protocol: prepared},
		},
		{
			title: "late bars deleted, refreshed: by hour",
			query: query{sql: hourly}, route: []string{hour},
			before: append([]string{deleteLateBars()}, f.refreshes...),
		},
	}
	all = append(all, neighbourSteps(f)...)
	return append(
		all,
		step{
			title: "DELETE without WHERE", route: []string{"refused delete_without_where"},
			query: query{sql: "DELETE FROM trades"}, check: refusedBy("42501", "delete_without_where"),
		},
		step{
			title: "EXPLAIN (QVPGW) bars by hour", alone: true, route: []string{"local"},
			query: query{sql: "EXPLAIN (QVPGW) " + hourly}, check: mentions("market_data_1h"),
		},
	)
}

// neighbourSteps asks for the nearest windows: at first, again, and after a nearer
// one was inserted by another client.
func neighbourSteps(f facts) []step {
	nearest := query{
		sql: "SELECT id, timestamp, symbol, metadata, embedding <=> $1 AS distance FROM feature_embeddings" +
			" WHERE feature_type = '" + FeatureType + "' ORDER BY embedding <=> $1 LIMIT " + fmt.Sprint(neighbours),
		args: []string{string(appendVector(nil, f.vector))}, protocol: extended,
	}
	literal := query{sql: strings.ReplaceAll(nearest.sql, "$1", quote(nearest.args[0]))}
	return []step{
		{title: "k-NN, first time", query: nearest, runs: 1, route: []string{"cached"}, check: ascending},
		{title: "k-NN, again", query: nearest, route: []string{"cached hit"}, check: ascending},
		{
			title: "k-NN, a nearer one was inserted", query: nearest, runs: 1, route: []string{"cached"},
			before: []string{insertNearest(f.vector)}, check: nearestIsOurs,
		},
		{title: "k-NN, text with a literal", query: literal, runs: 1, route: []string{"cached"}, check: nearestIsOurs},
		{title: "k-NN, text again", query: literal, route: []string{"cached hit"}, check: nearestIsOurs},
	}
}

// lateBarsShow checks that the buckets of the late bars, and only they, have the
// late price as their high.
func lateBarsShow(a answer) error {
	bucket, high := a.column("bucket"), a.column("high")
	var got, want []string
	for row := range a.rows {
		if x, err := a.number(row, high); err == nil && x == latePrice {
			got = append(got, string(a.rows[row][bucket]))
		}
	}
	for _, at := range lateBars {
		want = append(want, at.Truncate(time.Hour).Format("2006-01-02 15:04:05+00"))
	}
	slices.Reverse(want) // the newest bucket comes first
	if !slices.Equal(got, want) {
		return fmt.Errorf("the late bars show in the buckets %v, want %v", got, want)
	}
	return nil
}

// ascending checks that the distances rise strictly, so that their order is the
// only one that is right.
func ascending(a answer) error {
	distance := a.column("distance")
	last := -1.0
	for row := range a.rows {
		d, err := a.number(row, distance)
		if err != nil {
			return err
		}
		if d <= last {
			return fmt.Errorf("row %d is at distance %v after %v", row+1, d, last)
		}
		last = d
	}
	if len(a.rows) != neighbours {
		return fmt.Errorf("%d neighbours, want %d", len(a.rows), neighbours)
	}
	return nil
}

func nearestIsOurs(a answer) error {
	if i := a.column("metadata"); len(a.rows) == 0 || string(a.rows[0][i]) != tourMark {
		return fmt.Errorf("the vector that was inserted is not the nearest")
	}
	return ascending(a)
}

// refusedBy checks for an error of that SQLSTATE whose DETAIL names the rule.
func refusedBy(code, rule string) func(answer) error {
	return func(a answer) error {
		if a.err == nil {
			return fmt.Errorf("it was not refused: %s", a.tag)
		}
		if a.err.Code != code || !strings.Contains(a.err.Detail, rule) {
			return fmt.Errorf("refused with %s and DETAIL %q, want %s and the rule %s", a.err.Code, a.err.Detail, code, rule)
		}
		return nil
	}
}

// mentions checks that some value of the answer contains text.
func mentions(text string) func(answer) error {
	return func(a answer) error {
		for _, row := range a.rows {
			for _, v := range row {
				if strings.Contains(string(v), text) {
					return nil
				}
			}
		}
		return fmt.Errorf("the answer does not mention %s", text)
	}
}
