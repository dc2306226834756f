package router

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// live is the embedded backend with the migrations' tables, bars of early 2024
// and of the last weeks, and refreshed aggregates.
type live struct {
	conn              *pgx.Conn
	unequal, lastBits int // answers that differed, and that did in the last bits of floats
}

// newEmpty is the embedded backend with the migrations' tables.
func newEmpty(t *testing.T) *live {
	t.Helper()
	ctx := context.Background()
	dsn := pgtest.Embedded(t).DSN()
	if err := schema.Migrate(ctx, dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := schema.NewMigrator(dsn, schema.Options{Yes: true}).Goto(ctx, 0); err != nil {
			t.Error(err)
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.PgConn().Exec(ctx, "DROP SCHEMA qvpgw CASCADE").ReadAll(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return &live{conn: conn}
}

func newLive(t *testing.T) *live {
	t.Helper()
	l := newEmpty(t)
	t.Cleanup(func() {
		if _, err := l.conn.PgConn().Exec(context.Background(), "DROP MATERIALIZED VIEW IF EXISTS ticks_1h; DROP MATERIALIZED VIEW IF EXISTS readings_1h; DROP TABLE IF EXISTS ticks; DROP TABLE IF EXISTS readings; DROP TABLE IF EXISTS plain; DROP FUNCTION IF EXISTS readings_now()").ReadAll(); err != nil {
			t.Error(err)
		}
	})
	l.exec(t, `
INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
SELECT t, s, p, p + 1.5, p - 0.25, CASE WHEN n % 11 = 0 THEN NULL ELSE p + 0.125 END, CASE WHEN n % 7 = 0 THEN NULL ELSE n * 13 % 1009 END
FROM (SELECT t, s, row_number() OVER (ORDER BY t, s) AS n, round((100 + 10 * sin(extract(epoch FROM t) / 7000))::numeric, 2)::float8 AS p
      FROM unnest(ARRAY['SPX', 'SPY']) s, (
        SELECT generate_series('2024-01-04 00:07'::timestamptz, '2024-03-15 12:30', '25 min')
        UNION ALL SELECT generate_series(date_trunc('hour', now()) - interval '45 days', now(), '30 min')) x (t)) y`)
	l.exec(t, `
INSERT INTO tick_data (timestamp, symbol, price, volume, bid, ask, exchange)
SELECT t, s, p, CASE WHEN n % 5 > 0 THEN n % 997 END, p - 0.25, CASE WHEN n % 6 > 0 THEN p + 0.5 END, 'X'
FROM (SELECT t, s, row_number() OVER (ORDER BY t, s)::int AS n, round((800 + 80 * sin(extract(epoch FROM t) / 7000))::numeric)::float8 / 8 AS p
      FROM unnest(ARRAY['SPX', 'SPY']) s, generate_series('2024-01-04 00:07:30'::timestamptz, '2024-02-05 12:30', '11 min') t) y`)
	l.exec(t, `
CREATE TABLE ticks (at timestamp NOT NULL, symbol text, price numeric, size int, ratio real, fee numeric(10, 2), level numeric);
SELECT create_hypertable('ticks', by_range('at', INTERVAL '7 days'));
INSERT INTO ticks SELECT t, (ARRAY['A', 'B', NULL])[1 + n % 3], CASE WHEN n % 5 > 0 THEN (n * 7 % 1000)::numeric / CASE WHEN n % 2 = 0 THEN 100 ELSE 8 END END,
  CASE WHEN n % 4 > 0 THEN n END, n, n % 100, n % 3
FROM (SELECT t, row_number() OVER (ORDER BY t)::int AS n FROM generate_series('2024-01-04'::timestamp, '2024-02-15', '40 min') t) x`)
	l.exec(t, `CREATE TABLE plain AS SELECT * FROM market_data WHERE timestamp < '2024-01-04 06:00' LIMIT 12; ALTER TABLE plain ALTER symbol SET NOT NULL`)
	l.exec(t, `CREATE MATERIALIZED VIEW ticks_1h WITH (timescaledb.continuous) AS
SELECT time_bucket('1 hour', at) AS bucket, symbol, level, count(*) AS n, sum(price) AS price, count(price) AS prices, min(price) AS low,
  sum(size) AS size, count(size) AS sizes, sum(ratio) AS ratio, min(fee) AS fee
FROM ticks GROUP BY 1, 2, 3 WITH NO DATA`)
	l.exec(t, `
CREATE TABLE readings (at bigint NOT NULL, sensor text, value float8, n int);
SELECT create_hypertable('readings', by_range('at', 604800));
CREATE FUNCTION readings_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1711000000::bigint';
SELECT set_integer_now_func('readings', 'readings_now');
INSERT INTO readings SELECT t, (ARRAY['a', 'b', NULL])[1 + i % 3], CASE WHEN i % 7 > 0 THEN i * 5 % 211 END, CASE WHEN i % 4 > 0 THEN i END
FROM (SELECT t, row_number() OVER (ORDER BY t)::int AS i FROM generate_series(1704326407::bigint, 1709326407, 947) t) x`)
	l.exec(t, `CREATE MATERIALIZED VIEW readings_1h WITH (timescaledb.continuous) AS
SELECT time_bucket(3600::bigint, at) AS bucket, sensor, count(*) AS count, sum(n) AS n, max(value) AS high, first(value, at) AS open, min(at) AS first_at, max(at) AS last_at
FROM readings GROUP BY 1, 2 WITH NO DATA`)
	l.refresh(t, "NULL", "NULL")
	for _, name := range []string{"ticks", "readings"} {
		l.exec(t, "CALL refresh_continuous_aggregate('"+name+"_1h', NULL, NULL)")
		l.exec(t, "SELECT qvpgw.watch('"+name+"')")
	}
	l.settle(t)
	return l
}

func (l *live) refresh(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"market_data_1h", "market_data_1d", "market_data_1w", "tick_data_1m", "tick_data_1h", "tick_data_1d", "tick_data_1w"} {
		l.exec(t, fmt.Sprintf("CALL refresh_continuous_aggregate('%s', %s, %s)", name, from, to))
	}
}

func (l *live) settle(t *testing.T) {
	t.Helper()
	if err := schema.Settle(context.Background(), l.conn.PgConn()); err != nil {
		t.Fatal(err)
	}
}

func (l *live) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := l.conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
}

func (l *live) snapshot(t *testing.T) *catalog.Snapshot {
	t.Helper()
	s, err := schema.Load(context.Background(), schema.ConnQuery(l.conn))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is one result as text, with its columns' names, types and modifiers.
type answer struct {
	columns []pgconn.FieldDescription
	rows    [][]string
}

func (l *live) query(sql string, args []string) (*answer, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	return l.formatted(sql, values, nil, nil)
}

// formatted is query with the types and formats of the parameters, of which sql may
// use some only.
func (l *live) formatted(sql string, args [][]byte, types []uint32, formats []int16) (*answer, error) {
	result := l.conn.PgConn().ExecParams(context.Background(), sql, args, types, formats, nil).Read()
	if result.Err != nil && len(result.Rows) == 0 {
		return nil, &early{result.Err}
	}
	if result.Err != nil {
		return nil, result.Err
	}
	a := &answer{columns: slices.Clone(result.FieldDescriptions)}
	for _, row := range result.Rows {
		text := make([]string, len(row))
		for i, v := range row {
			if text[i] = string(v); v == nil {
				text[i] = "NULL"
			}
		}
		a.rows = append(a.rows, text)
	}
	return a, nil
}

// early is an error that came before the first row: the gateway runs the original then.
type early struct{ error }

func (e *early) Unwrap() error { return e.error }

// outcome is what became of a plan.
type outcome uint8

const (
	passed   outcome = iota // the planner did not route
	refused                 // the lock was not had, or the guard said no
	answered                // the guard said yes
)

// routed runs a plan as the gateway does. Without guard it runs the query all the
// same.
func (l *live) routed(t *testing.T, r *AggregateRewrite, args [][]byte, types []uint32, guarded bool) (*answer, outcome) {
	t.Helper()
	l.exec(t, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	defer l.exec(t, "ROLLBACK")
	if _, err := l.conn.PgConn().Exec(context.Background(), r.Lock).ReadAll(); err != nil {
		if !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("%v\nin %s", err, r.Lock)
		}
		return nil, refused
	}
	if guarded {
		guard, err := l.query(r.Guard(), nil)
		if err != nil {
			t.Fatalf("%v\nin %s", err, r.Guard())
		}
		proof, err := l.query(r.Proof, r.ProofArgs)
		if err != nil {
			t.Fatalf("%v\nin %s", err, r.Proof)
		}
		if proof.rows[0][0] != guard.rows[0][0] {
			t.Errorf("the guard says %s, with parameters %s: %s %q", guard.rows[0][0], proof.rows[0][0], r.Proof, r.ProofArgs)
		}
		if guard.rows[0][0] != "t" {
			return nil, refused
		}
	}
	if r.Cursor != nil {
		return l.declared(t, r)
	}
	a, err := l.formatted(r.SQL, args, types, nil)
	if err != nil {
		t.Fatalf("%v\nin %s", err, r.SQL)
	}
	return a, answered
}

// declared opens a cursor as the gateway does, which it does at READ COMMITTED, and
// reads it.
func (l *live) declared(t *testing.T, r *AggregateRewrite) (*answer, outcome) {
	t.Helper()
	l.exec(t, "ROLLBACK; BEGIN; "+r.Lock+"; "+r.SQL)
	name := strings.TrimSuffix(strings.Fields(r.Cursor.Probe)[3], ";")
	first, err := l.query("FETCH 1 IN "+name, nil)
	if err != nil {
		t.Fatalf("%v\nin %s", err, r.SQL)
	}
	l.exec(t, "MOVE BACKWARD ALL IN "+name)
	a, err := l.query("FETCH ALL IN "+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.rows) == 0 {
		return nil, refused
	}
	return a, answered
}

// difference says how two answers differ, "" when they do not. Floats may differ
// by their last bits where a sum was re-associated.
func difference(want, got *answer, ordered, float bool) string {
	if len(want.columns) != len(got.columns) {
		return fmt.Sprintf("%d columns, want %d", len(got.columns), len(want.columns))
	}
	for i, c := range want.columns {
		if g := got.columns[i]; g.Name != c.Name || g.DataTypeOID != c.DataTypeOID || g.TypeModifier != c.TypeModifier {
			return fmt.Sprintf("column %d is %s of type %d (%d), want %s of type %d (%d)", i+1, g.Name, g.DataTypeOID, g.TypeModifier, c.Name, c.DataTypeOID, c.TypeModifier)
		}
	}
	if len(want.rows) != len(got.rows) {
		return fmt.Sprintf("%d rows, want %d", len(got.rows), len(want.rows))
	}
	if !ordered {
		slices.SortFunc(want.rows, slices.Compare)
		slices.SortFunc(got.rows, slices.Compare)
	}
	for i, row := range want.rows {
		for j, w := range row {
			g := got.rows[i][j]
			if g == w || float && (want.columns[j].DataTypeOID == 701 && nearly(g, w) || want.columns[j].DataTypeOID == 0 && nearlyLine(g, w)) {
				continue
			}
			return fmt.Sprintf("row %d column %s is %s, want %s", i+1, want.columns[j].Name, g, w)
		}
	}
	return ""
}

// nearlyLine compares two lines of COPY.
func nearlyLine(a, b string) bool {
	x, y := strings.Split(a, "\t"), strings.Split(b, "\t")
	return slices.EqualFunc(x, y, func(a, b string) bool { return a == b || nearly(a, b) })
}

func nearly(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= 1e-9*math.Max(math.Abs(x), math.Abs(y))
}

// goldenArgs are the values of the golden statements' parameters.
var goldenArgs = map[string][]string{
	"a parameter as the symbol and the limit": {"SPY", "10"},
	"a list in a parameter":                   {"{SPX,SPY}"},
}

// liveOnly are statements that the golden files cannot hold, because their plan
// depends on the clock of the server.
var liveOnly = []goldenCase{
	{title: "the last thirty days by hour", sql: "SELECT time_bucket('1 hour', timestamp) AS h, symbol, first(open, timestamp), last(close, timestamp), count(*), sum(volume) FROM market_data WHERE timestamp > now() - interval '30 days' GROUP BY h, symbol ORDER BY h, symbol"},
	{title: "the last two days until an hour ago", sql: "SELECT symbol, count(*), sum(volume) FROM market_data WHERE timestamp BETWEEN now() - interval '2 days' AND now() - interval '1 hour' GROUP BY symbol ORDER BY symbol"},
	{title: "since midnight ten days ago", sql: "SELECT count(*), max(high) FROM market_data WHERE timestamp >= date_trunc('day', now()) - interval '10 days'"},
	{title: "a range without rows", sql: "SELECT count(*), sum(volume), max(high), first(open, timestamp) FROM market_data WHERE symbol = 'none' AND timestamp >= '2024-01-10'"},
	{title: "ticks by hour", sql: "SELECT time_bucket('1 hour', timestamp) AS h, symbol, first(price, timestamp), max(price), min(price), last(price, timestamp), sum(volume), count(*) FROM tick_data GROUP BY 1, 2 ORDER BY 1, 2"},
	{title: "ticks by week", sql: "SELECT time_bucket('7 days', timestamp) AS w, sum(volume), avg(price), avg(volume), count(ask), min(timestamp), max(timestamp) FROM tick_data WHERE symbol = 'SPY' GROUP BY 1 ORDER BY 1"},
	{title: "ticks by month and their spread", sql: "SELECT date_trunc('month', timestamp) AS m, symbol, avg(ask - bid) AS spread, max(ask - bid), count(ask - bid) FROM tick_data GROUP BY 1, 2 ORDER BY 1, 2"},
	{title: "ticks between ragged ends", sql: "SELECT symbol, count(*), sum(volume), sum(bid) FROM tick_data WHERE timestamp >= '2024-01-09 10:20:30' AND timestamp < '2024-02-01 07:08:09' GROUP BY symbol ORDER BY symbol"},
	{title: "groups without rows", sql: "SELECT symbol, count(*) FROM market_data WHERE symbol = 'none' GROUP BY symbol"},
}

// liveContext is a client's context on the embedded backend.
func liveContext() *Context {
	c := goldenContext()
	c.Database, c.SearchPath = "template1", []string{"public"}
	return c
}

// check runs one statement by its plan under each snapshot and compares every
// answer with the original's. It returns what became of the plans, and whether a
// plan that was refused would have given a wrong answer.
func (l *live) check(t *testing.T, step string, c goldenCase, snaps ...*catalog.Snapshot) (outcomes []outcome, saved bool) {
	t.Helper()
	sql, zone := c.sql, "UTC"
	if rest, ok := strings.CutPrefix(sql, "SET TimeZone = '"); ok {
		zone, sql, _ = strings.Cut(rest, "';")
	}
	l.exec(t, "SET TimeZone = '"+zone+"'")
	sql, params := boundText(t, sql)
	var args [][]byte
	var types []uint32
	for _, p := range params {
		args, types = append(args, p.Value), append(types, uint32(p.Type))
	}
	for _, a := range goldenArgs[c.title] {
		args = append(args, []byte(a))
	}
	ordered := strings.Contains(sql, "ORDER BY")
	if _, query, ok := strings.Cut(sql, " FOR "); ok && strings.HasPrefix(sql, "DECLARE ") {
		sql = query
	}
	want, err := l.formatted(sql, args, types, nil)
	if err != nil {
		t.Fatalf("%s: %s: %v", step, c.title, err)
	}
	for i, snap := range snaps {
		now := time.Now()
		plan, reason := planText(t, c.sql, liveContext(), snap, now)
		if plan == nil {
			if step == "fresh" {
				t.Errorf("%s: %s: passed with %s", step, c.title, reason)
			}
			outcomes = append(outcomes, passed)
			continue
		}
		got, o := l.routed(t, plan, args, types, true)
		outcomes = append(outcomes, o)
		if o == answered {
			if d := difference(want, got, ordered, plan.Float); d != "" {
				l.unequal++
				t.Errorf("%s: %s, snapshot %d: %s\n%s\n%v", step, c.title, i, d, plan.SQL, plan.Ranges())
			} else if difference(want, got, ordered, false) != "" {
				l.lastBits++
			}
			continue
		}
		b, stmt := blocksOf(t, c.sql, liveContext(), snap, now)
		if plan, _ = b.plan(stmt); plan == nil {
			t.Fatalf("%s: %s: planned once only", step, c.title)
		}
		if got, o := l.routed(t, plan, args, types, false); o == answered {
			saved = saved || difference(want, got, ordered, plan.Float) != ""
		}
	}
	return outcomes, saved
}

// liveSteps are writes and refreshes after which statements are asked again, by
// plans of the catalog as it is then and as it was before.
var liveSteps = []struct{ title, do string }{
	{"late insert", "INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('2024-02-10 10:10:10', 'SPY', 1, 999, 1, 2, 77777), ('2024-01-20 10:10:10', 'SPX', 1, 2, 0.5, 2, 5)"},
	{"late reading", "INSERT INTO readings VALUES (1705000001, 'a', 999, 5)"},
	{"readings refreshed in part", "CALL refresh_continuous_aggregate('readings_1h', 1704900000, 1705100000)"},
	{"readings deleted", "DELETE FROM readings WHERE at >= 1706000000 AND at < 1706010000"},
	{"late tick", "INSERT INTO tick_data (timestamp, symbol, price, volume, bid, ask) VALUES ('2024-01-20 10:10:10', 'SPY', 1, 5, 1, 2)"},
	{"refresh of the minutes", "CALL refresh_continuous_aggregate('tick_data_1m', '2024-01-18', '2024-01-25')"},
	{"refresh of the hours", "CALL refresh_continuous_aggregate('tick_data_1h', '2024-01-18', '2024-01-25')"},
	{"the minutes' old chunks dropped", "SELECT drop_chunks('tick_data_1m', older_than => '2024-01-16'::timestamptz)"},
	{"the hours refreshed without them", "CALL refresh_continuous_aggregate('tick_data_1h', NULL, NULL); CALL refresh_continuous_aggregate('tick_data_1d', NULL, NULL)"},
	{"newest insert", "INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES (now(), 'SPY', 1, 2, 1, 2, 3)"},
	{"refresh of a part", "CALL refresh_continuous_aggregate('market_data_1h', '2024-02-01', '2024-02-20'); CALL refresh_continuous_aggregate('market_data_1d', '2024-02-01', '2024-02-20')"},
	{"update", "UPDATE market_data SET volume = volume + 1 WHERE timestamp >= '2024-02-05' AND timestamp < '2024-02-05 03:00'"},
	{"delete", "DELETE FROM market_data WHERE timestamp >= '2024-02-20' AND timestamp < '2024-02-23' AND symbol = 'SPY'"},
	{"refresh", "refresh"},
	{"compressed", "ALTER TABLE market_data SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'timestamp'); SELECT compress_chunk(c) FROM show_chunks('market_data', older_than => '2024-02-20'::timestamptz) c"},
	{"insert into a compressed chunk", "INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('2024-01-30 10:10:10', 'SPY', 1, 999, 1, 2, 77777)"},
	{"update of compressed rows", "UPDATE market_data SET volume = volume + 1 WHERE symbol = 'SPX' AND timestamp >= '2024-02-02' AND timestamp < '2024-02-03'"},
	{"delete of whole compressed batches", "DELETE FROM market_data WHERE symbol = 'SPX' AND timestamp < '2024-01-18'"},
	{"refresh of compressed chunks", "refresh"},
	{"decompressed", "SELECT decompress_chunk(c) FROM show_chunks('market_data', older_than => '2024-02-20'::timestamptz) c"},
	{"refresh after that", "refresh"},
	{"the aggregates' old chunks dropped", "SELECT drop_chunks('market_data_1h', older_than => '2024-01-20'::timestamptz), drop_chunks('market_data_1d', older_than => '2024-01-20'::timestamptz), drop_chunks('market_data_1w', older_than => '2024-01-20'::timestamptz)"},
	{"raw chunks dropped", "SELECT drop_chunks('market_data', older_than => '2024-02-05'::timestamptz)"},
	{"refresh after the drop", "refresh"},
	{"an older chunk made", "INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('2023-12-01 10:10:10', 'SPY', 1, 999, 1, 2, 77777)"},
	{"truncated", "TRUNCATE market_data"},
}

// asked are the statements that are asked after each step.
var asked = setOf("ticks by week", "ticks between ragged ends", "hourly bars of one symbol since a day", "everything, without a bucket", "ragged ends on both sides", "the last thirty days",
	"integer buckets", "integer buckets with an offset", "integer bounds and a width as parameters",
	"as Grafana asks without TimescaleDB", "a condition on the hour of the day", "the day in a zone of whole hours", "the first and last moment")

func TestRoutedAnswersEqualTheOriginals(t *testing.T) {
	l := newLive(t)
	cases := append(readGolden(t, "aggregates_routed.txt"), liveOnly...)
	l.overRealBars(t, cases)
	first := l.snapshot(t)
	through := 0
	for _, c := range cases {
		if o, _ := l.check(t, "fresh", c, first); o[0] != answered {
			t.Errorf("fresh: %s: not answered", c.title)
			continue
		}
		through++
	}
	figure.Print(t, "aggregates.golden.routed", through)
	figure.Print(t, "aggregates.golden.last_bits", l.lastBits)
	defer func() { figure.Print(t, "aggregates.golden.unequal", l.unequal) }()
	fresh, stale, saves, plans := 0, 0, 0, 0
	before := first
	for _, step := range liveSteps {
		for _, sql := range strings.Split(step.do, "; ") {
			if sql == "refresh" {
				l.refresh(t, "NULL", "NULL")
				l.settle(t)
			} else {
				l.exec(t, sql)
			}
		}
		after := l.snapshot(t)
		for _, c := range cases {
			if !asked[c.title] {
				continue
			}
			o, saved := l.check(t, step.title, c, after, before)
			plans++
			if o[0] == answered {
				fresh++
			}
			if o[1] == answered {
				stale++
			}
			if saved {
				saves++
			}
			everything := strings.HasPrefix(c.title, "everything")
			if everything && step.title == "late insert" && (o[0] != answered || o[1] != refused) {
				t.Errorf("%s: %s: outcomes %v, want an answer by the new plan and a refusal of the old one", step.title, c.title, o)
			}
			if everything && strings.HasPrefix(step.title, "refresh") && o[0] != answered {
				t.Errorf("%s: %s: not answered", step.title, c.title)
			}
		}
		before = after
	}
	t.Logf("%d statements; %d plans after %d steps, %d answered by new plans, %d by the last ones; %d wrong answers prevented", len(cases), plans, len(liveSteps), fresh, stale, saves)
	if fresh < plans*3/4 {
		t.Errorf("%d of %d new plans answered, want three quarters", fresh, plans)
	}
	if saves == 0 {
		t.Error("no refused plan would have been wrong: the guard was not tested")
	}
}
