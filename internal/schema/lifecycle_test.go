package schema

import (
	"context"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/demo"
	"qvpgw/internal/embedded"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// lifecycle is a database whose bars grow old.
type lifecycle struct {
	*testing.T
	conn *pgx.Conn
	dsn  string
}

func (l *lifecycle) ask(sql string) string {
	l.Helper()
	rows, err := ConnQuery(l.conn)(context.Background(), sql)
	if err != nil {
		l.Fatalf("%v\nin %s", err, sql)
	}
	var lines []string
	for _, row := range rows {
		lines = append(lines, strings.Join(row, "|"))
	}
	return strings.Join(lines, "\n")
}

func (l *lifecycle) number(sql string) int64 {
	l.Helper()
	n, err := strconv.ParseInt(l.ask(sql), 10, 64)
	if err != nil {
		l.Fatalf("%v\nin %s", err, sql)
	}
	return n
}

// run runs the job of a policy, as TimescaleDB's scheduler would.
func (l *lifecycle) run(object string, kind PolicyKind) {
	l.Helper()
	for proc, k := range jobKinds {
		if k == kind {
			id := l.ask(fmt.Sprintf("SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = '%s' AND proc_name = '%s'", object, proc))
			l.ask("CALL run_job(" + id + ")")
		}
	}
}

const barColumns = "timestamp, symbol, open, high, low, close, volume"

func (l *lifecycle) copy(table, columns, text string) {
	l.Helper()
	if _, err := l.conn.PgConn().CopyFrom(context.Background(), strings.NewReader(text), "COPY "+table+" ("+columns+") FROM STDIN (FORMAT csv)"); err != nil {
		l.Fatal(err)
	}
}

// load brings bars, ticks and portfolio values.
func (l *lifecycle) load() {
	l.Helper()
	if lines := pgtest.Bars(l.T); lines != nil {
		for piece := range slices.Chunk(lines, 20_000) {
			l.copy("market_data", barColumns, strings.Join(piece, ""))
		}
		return
	}
	cache, err := pgtest.Cache()
	if err != nil {
		l.Fatal(err)
	}
	path, err := embedded.File(filepath.Join(cache, "embedded"), "vega-datasets/data/sp500-2000.csv")
	if err != nil {
		l.Fatal(err)
	}
	daily, err := demo.ReadBars(path)
	if err != nil {
		l.Fatal(err)
	}
	d, err := demo.NewDataset(daily[len(daily)-150:])
	if err != nil {
		l.Fatal(err)
	}
	text := func(rows int, row func(i int) []any) string {
		var b strings.Builder
		w := csv.NewWriter(&b)
		for i := range rows {
			var fields []string
			for _, v := range row(i) {
				if t, ok := v.(time.Time); ok {
					v = t.Format(time.RFC3339Nano)
				}
				fields = append(fields, fmt.Sprint(v))
			}
			if err := w.Write(fields); err != nil {
				l.Fatal(err)
			}
		}
		w.Flush()
		return b.String()
	}
	bars := func(symbol string, bars []demo.Bar) string {
		return text(len(bars), func(i int) []any {
			b := bars[i]
			return []any{b.Time, symbol, b.Open, b.High, b.Low, b.Close, b.Volume}
		})
	}
	l.copy("market_data", barColumns, bars(demo.Daily, d.Daily)+bars(demo.Minute, d.Minutes))
	l.copy("tick_data", "timestamp, symbol, price, volume, bid, ask", text(len(d.Ticks), func(i int) []any {
		t := d.Ticks[i]
		return []any{t.Time, demo.Minute, t.Price, t.Volume, t.Bid, t.Ask}
	}))
	l.copy("portfolio_values", "timestamp, total_value, cash, equity", text(len(d.Values), func(i int) []any {
		v := d.Values[i]
		return []any{v.Time, v.Total, v.Cash, v.Equity}
	}))
}

// since is how long ago a moment was, in whole seconds.
func since(t time.Time) time.Duration { return time.Since(t).Truncate(time.Second) }

// TestPoliciesDoWhatTheySay runs each policy's job over real bars, as old as they
// are, and looks at what became of the rows.
func TestPoliciesDoWhatTheySay(t *testing.T) {
	ctx := context.Background()
	l := &lifecycle{T: t, dsn: pgtest.OwnEmbedded(t).DSN()}
	if err := Migrate(ctx, l.dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	l.conn = connect(t, l.dsn)
	l.load()
	small := pgtest.Bars(t) == nil

	var ends []time.Time // of the chunks of bars, in order
	for _, s := range strings.Split(l.ask("SELECT extract(epoch FROM range_end)::bigint FROM timescaledb_information.chunks WHERE hypertable_name = 'market_data' ORDER BY range_end"), "\n") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, time.Unix(n, 0))
	}
	dropped, packed := len(ends)/3, len(ends)-4 // so many of the oldest
	const later = 3 * day                       // than a chunk's end: the job's clock moves
	cut, pack := ends[dropped-1].Add(later), ends[packed-1].Add(later)
	retain := since(cut)
	w := &Policies{
		Tables: []TablePolicy{
			{Table: "market_data", ChunkInterval: 7 * day, CompressAfter: since(pack), SegmentBy: "symbol", OrderBy: "timestamp DESC", Retain: retain},
			{Table: "tick_data", ChunkInterval: 7 * day, CompressAfter: day, SegmentBy: "symbol", OrderBy: "timestamp DESC"},
			{Table: "portfolio_values", ChunkInterval: 7 * day, CompressAfter: day, OrderBy: "timestamp DESC"},
		},
		Aggregates: []RefreshPolicy{
			{Aggregate: "market_data_1h", Bucket: time.Hour, Until: time.Hour, Every: time.Hour},
			{Aggregate: "market_data_1d", Bucket: day, Until: day, Every: time.Hour},
			{Aggregate: "market_data_1w", Until: 7 * day, Every: time.Hour},
			{Aggregate: "tick_data_1m", Bucket: time.Minute, Until: time.Hour, Every: time.Hour},
			{Aggregate: "tick_data_1h", Bucket: time.Hour, Until: time.Hour, Every: time.Hour},
			{Aggregate: "tick_data_1d", Bucket: day, Until: day, Every: time.Hour},
			{Aggregate: "tick_data_1w", Until: 7 * day, Every: time.Hour},
			{Aggregate: "portfolio_values_1d", Bucket: day, Until: day, Every: time.Hour},
		},
	}
	apply := func(yes bool) PolicyReport {
		t.Helper()
		r, err := w.Apply(ctx, ConnQuery(l.conn), yes)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	// A refresh from the beginning and a retention do not go together: whichever is
	// there keeps the other away.
	if p := apply(false).policy("market_data_1w", Refreshing); p.State != PolicyHeld || !strings.Contains(p.Why, "the retention of market_data drops rows") {
		t.Errorf("with a retention the refresh from the beginning is %+v", p)
	}
	w.Tables[0].Retain = 0
	apply(false)
	w.Tables[0].Retain = retain
	for i := range 3 {
		w.Aggregates[i].Off = true
	}
	if p := apply(true).policy("market_data", Retention); p.State != PolicyHeld || !strings.Contains(p.Why, "is refreshed from the beginning") {
		t.Errorf("with refreshes from the beginning the retention is %+v", p)
	}
	for _, a := range []string{"market_data_1h", "market_data_1d", "market_data_1w"} {
		l.run(a, Refreshing)
	}
	for i := range 3 {
		w.Aggregates[i].Off, w.Aggregates[i].From = false, retain-day
	}
	// What would drop rows at once wants a yes.
	held := apply(false).policy("market_data", Retention)
	if held.State != PolicyHeld || !strings.Contains(held.Why, fmt.Sprintf("drop %d chunks at once", dropped)) || !strings.Contains(held.Why, "--yes") {
		t.Errorf("unasked the retention is %+v", held)
	}
	if r := apply(true); len(r.Unsettled()) > 0 || len(r.Changes) != 1 {
		t.Fatalf("the policies are not as wanted:\n%s", r.Text())
	}

	const sum = "SELECT count(*), sum(hashtext(m::text)::bigint) FROM market_data m"
	const kept = "SELECT count(*), sum(count), sum(volume), sum(hashtext(a::text)::bigint) FROM market_data_1d a"
	rows, aggregated := l.ask(sum), l.ask(kept)
	if n := l.number("SELECT sum(count)::bigint FROM market_data_1w"); n != l.number("SELECT count(*) FROM market_data") {
		t.Errorf("the refreshes materialized %d bars of %s", n, rows)
	}

	l.run("market_data", Compression)
	if got, want := l.ask("SELECT count(*) FILTER (WHERE is_compressed), count(*) FILTER (WHERE is_compressed AND range_end > to_timestamp("+fmt.Sprint(pack.Unix())+")), count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'market_data'"),
		fmt.Sprintf("%d|0|%d", packed, len(ends)); got != want {
		t.Errorf("of the chunks %s are compressed (of them too young; all), not %s", got, want)
	}
	if got := l.ask(sum); got != rows {
		t.Errorf("compressed rows are %s, they were %s", got, rows)
	}
	if got := l.ask(kept); got != aggregated {
		t.Errorf("over compressed rows the aggregate has %s, it had %s", got, aggregated)
	}
	before := l.number("SELECT before_compression_total_bytes FROM hypertable_compression_stats('market_data')")
	after := l.number("SELECT after_compression_total_bytes FROM hypertable_compression_stats('market_data')")
	t.Logf("%d of %d chunks compressed: %d bytes before, %d after", packed, len(ends), before, after)
	figure.Print(t, "schema.compression.before_bytes", before)
	figure.Print(t, "schema.compression.after_bytes", after)
	figure.Print(t, "schema.compression.ratio", float64(before)/float64(after))
	if before < 2*after {
		t.Errorf("%d bytes became %d: not even half", before, after)
	}

	// A late bar is refreshed where the policy reaches, in a compressed chunk too,
	// and nowhere else.
	inside, outside := ends[packed-1].Add(-day), ends[0].Add(-day)
	for _, at := range []time.Time{inside, outside} {
		l.ask("INSERT INTO market_data (timestamp, symbol, close, volume) VALUES ('" + at.UTC().Format(time.RFC3339) + "', 'LATE', 1, 1)")
	}
	for range 2 { // a run by batches sees what the run before it took from the hypertable's log
		for _, a := range []string{"market_data_1h", "market_data_1d", "market_data_1w"} {
			l.run(a, Refreshing)
		}
	}
	if got := l.ask("SELECT bucket = date_trunc('day', timestamptz '" + inside.UTC().Format(time.RFC3339) + "'), count FROM market_data_1d WHERE symbol = 'LATE'"); got != "t|1" {
		t.Errorf("the late bars' buckets are %q", got)
	}
	aggregated = l.ask(kept)

	l.run("market_data", Retention)
	if got := l.ask("SELECT count(*), min(range_end) = to_timestamp(" + fmt.Sprint(ends[dropped].Unix()) + ") FROM timescaledb_information.chunks WHERE hypertable_name = 'market_data'"); got != fmt.Sprintf("%d|t", len(ends)-dropped) {
		t.Errorf("after the retention there are %s chunks (the oldest is the right one)", got)
	}
	for _, a := range []string{"market_data_1h", "market_data_1d", "market_data_1w"} {
		l.run(a, Refreshing)
	}
	if got := l.ask(kept); got != aggregated {
		t.Errorf("the aggregate has %s, before the retention it had %s", got, aggregated)
	}
	// What the rule about the refresh's reach prevents.
	l.ask("CALL refresh_continuous_aggregate('market_data_1d', NULL, to_timestamp(" + fmt.Sprint(ends[dropped-1].Unix()) + "))")
	if got := l.ask(kept); got == aggregated {
		t.Error("a refresh of dropped ranges emptied nothing: the rule is for nothing")
	}
	if !small {
		return
	}

	for _, a := range []string{"tick_data_1m", "tick_data_1h", "tick_data_1d", "tick_data_1w", "portfolio_values_1d"} {
		l.run(a, Refreshing)
	}
	for table, aggregate := range map[string]string{"tick_data": "tick_data_1w", "portfolio_values": "portfolio_values_1d"} {
		want := l.ask("SELECT count(*) FROM " + table)
		if got := l.ask("SELECT sum(count)::bigint FROM " + aggregate); got != want {
			t.Errorf("%s has %s rows of %s's %s", aggregate, got, table, want)
		}
		l.run(table, Compression)
		if got := l.ask("SELECT bool_and(is_compressed) FROM timescaledb_information.chunks WHERE hypertable_name = '" + table + "'"); got != "t" {
			t.Errorf("%s is compressed: %s", table, got)
		}
		if got := l.ask("SELECT count(*) FROM " + table); got != want {
			t.Errorf("%s has %s rows, it had %s", table, got, want)
		}
	}
}
