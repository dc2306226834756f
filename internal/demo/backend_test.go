package demo

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/embedded"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// realBars gives the file that the demo is made of.
func realBars(t *testing.T) string {
	t.Helper()
	pgtest.Embedded(t) // installs it
	cache, err := pgtest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	path, err := embedded.File(filepath.Join(cache, "embedded"), "vega-datasets/data/sp500-2000.csv")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheRealFileGivesTheDatasetThatIsDocumented(t *testing.T) {
	bars, err := ReadBars(realBars(t))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDataset(bars)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string][2]int{
		"daily bars": {len(d.Daily), 5105},
		"minutes":    {len(d.Minutes), 46_800},
		"ticks":      {len(d.Ticks), 7800},
		"embeddings": {len(d.Embeddings), 4977},
		"regimes":    {len(d.Regimes), 244},
		"values":     {len(d.Values), 504},
	} {
		if n[0] != n[1] {
			t.Errorf("%d %s, want %d", n[0], name, n[1])
		}
	}
	first, last := d.Daily[0].Time.Format(time.DateOnly), d.Minutes[len(d.Minutes)-1].Time.Format(timeLayout)
	if first != "2000-01-03" || last != "2020-04-17 20:59:00+00" {
		t.Errorf("from %s to %s", first, last)
	}
	for _, at := range lateBars {
		day := at.Truncate(24 * time.Hour)
		if !day.Add(sessionOpen).Before(at) || !at.Before(day.Add(sessionClose)) || at.Truncate(time.Minute).Equal(at) {
			t.Errorf("the late bar of %s is not between the minutes of a session", at)
		}
	}
	for _, b := range d.Daily {
		if b.High >= latePrice {
			t.Errorf("%s reached %v: the late bars' price does not stand out", b.Time, b.High)
		}
	}
}

// tail writes the header and the last n bars of the real file to a file of its
// own: 20 years make a thousand chunks, which take the backend 20 s.
func tail(t *testing.T, n int) string {
	t.Helper()
	text, err := os.ReadFile(realBars(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = append(lines[:1:1], lines[len(lines)-n:]...)
	path := filepath.Join(t.TempDir(), "bars.csv")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// direct is a session without a gateway: nothing is routed.
type direct struct{ client }

func (direct) route(context.Context) (string, error)     { return "pass", nil }
func (direct) set(context.Context, string, string) error { return nil }

// TestLoadAndTourOnTheEmbeddedBackend goes through the demo without its gateway:
// load, load again, mend, and the tour's statements.
func TestLoadAndTourOnTheEmbeddedBackend(t *testing.T) {
	ctx := t.Context()
	dsn := pgtest.Embedded(t).DSN()
	if err := schema.Migrate(ctx, dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	path := tail(t, 200)
	load := func() string {
		t.Helper()
		var progress strings.Builder
		if err := Load(ctx, dsn, path, &progress); err != nil {
			t.Fatalf("%v\n%s", err, progress.String())
		}
		return progress.String()
	}
	ask := func(sql string) string {
		t.Helper()
		conn, err := connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		value, err := queryOne(ctx, conn, sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return value
	}

	load()
	for _, c := range []struct{ what, sql, want string }{
		{
			"minutes that reproduce their day", `
			SELECT count(*) FROM market_data d JOIN (
				SELECT date_trunc('day', timestamp) AS day, first(open, timestamp) AS open, max(high) AS high,
					min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume
				FROM market_data WHERE symbol = 'SPY' GROUP BY day) m
			ON d.timestamp = m.day AND d.open = m.open AND d.high = m.high AND d.low = m.low AND d.close = m.close AND d.volume = m.volume
			WHERE d.symbol = 'SPX'`, "120",
		},
		{
			"ticks that reproduce their minute", `
			SELECT count(*) FROM market_data d JOIN (
				SELECT date_trunc('minute', timestamp) AS minute, first(price, timestamp) AS open, max(price) AS high,
					min(price) AS low, last(price, timestamp) AS close, sum(volume) AS volume
				FROM tick_data WHERE bid <= price AND price <= ask GROUP BY minute) m
			ON d.timestamp = m.minute AND d.open = m.open AND d.high = m.high AND d.low = m.low AND d.close = m.close AND d.volume = m.volume
			WHERE d.symbol = 'SPY'`, "1950",
		},
		{"embeddings of length 1", `SELECT count(*) FROM feature_embeddings WHERE abs(vector_norm(embedding) - 1) < 1e-5`, "72"},
		{"indexes of vectors", `SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'`, "2"},
		{"materialized days", `SELECT count(*) FROM market_data_1d WHERE symbol = 'SPY'`, "120"},
		{
			"the watermark's age", `SELECT _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id))
			FROM _timescaledb_catalog.continuous_agg WHERE user_view_name = 'market_data_1h'`, "2020-04-17 21:00:00+00",
		},
		{"portfolio values", `SELECT count(*) FROM portfolio_values WHERE abs(total_value - cash - equity) < 1e-6`, "170"},
	} {
		if got := ask(c.sql); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}

	if out := load(); strings.Count(out, "already there") != 7 {
		t.Errorf("the second load is not a mere look:\n%s", out)
	}
	conn, err := connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"DELETE FROM feature_embeddings WHERE id % 2 = 0", insertLateBars(), insertNearest(make([]float32, Window)),
	} {
		if err := exec(ctx, conn, sql); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close(ctx)
	if out := load(); strings.Count(out, "already there") != 6 {
		t.Errorf("a set of which half is missing is not loaded alone:\n%s", out)
	}
	if got := ask("SELECT count(*) FROM feature_embeddings"); got != "72" {
		t.Errorf("%s embeddings after mending", got)
	}
	if got := ask("SELECT count(*) FROM market_data WHERE volume = 1234"); got != "0" {
		t.Errorf("%s late bars of an interrupted tour are left", got)
	}

	// A database without a gateway takes the settings but knows no last_route.
	var out strings.Builder
	if _, err := Tour(ctx, dsn, &out); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a tour without a gateway: %v", err)
	}
	tourOf(t, dsn)
	if got := ask("SELECT (SELECT count(*) FROM market_data WHERE volume = 1234) + (SELECT count(*) FROM feature_embeddings) - 72"); got != "0" {
		t.Errorf("%s rows of the tour are left", got)
	}
	if got := ask("SELECT max(high) FROM market_data_1w WHERE symbol = 'SPY'"); got == "4000.25" {
		t.Error("the weekly aggregate was not refreshed after the tour")
	}
}

// tourOf runs the tour's statements without a gateway: all but those that the
// gateway answers itself, and without their routes.
func tourOf(t *testing.T, dsn string) {
	t.Helper()
	ctx := t.Context()
	f, err := prepare(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	if from := f.from.Format(timeLayout); from != "2019-12-19 20:59:00+00" {
		t.Errorf("120 days before the last bar is %s", from)
	}
	conn, err := connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	var lines []step
	for _, s := range steps(f) {
		if strings.HasPrefix(s.query.sql, "SELECT") {
			s.route, s.runs = nil, 1
			lines = append(lines, s)
		}
	}
	var out strings.Builder
	tr := &tour{out: &out, reader: direct{client{conn}}}
	tr.write = func(ctx context.Context, statements []string) error {
		for _, s := range statements {
			if err := exec(ctx, conn, s); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := tr.run(ctx, lines)
	conn.Close(ctx)
	if err != nil || !r.OK() || r.Lines < 12 {
		t.Errorf("%+v %v\n%s", r, err, out.String())
	}
	if err := cleanup(ctx, dsn); err != nil {
		t.Error(err)
	}
}
