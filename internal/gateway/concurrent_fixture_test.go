package gateway_test

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// barsFrom and barsTo enclose the bars of a concurrentBed, in internal time.
var (
	barsFrom = time.Date(2024, 1, 4, 0, 0, 0, 0, time.UTC).UnixMicro()
	barsTo   = time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

const hourMicros, dayMicros = int64(3600 * 1e6), int64(24 * 3600 * 1e6)

// concurrentBed is a database with a hypertable of bars and two continuous aggregates,
// for many sessions at once. The native backend has TimescaleDB's catalog and chunks
// though not the code of its aggregates: there this test makes the catalog's rows, and
// writers and refreshers do by statements, one after the other and each transaction
// where TimescaleDB has it, what that code does. With QVPGW_TEST_DSN, a TimescaleDB
// that has all of it, the statements are TimescaleDB's own.
type concurrentBed struct {
	dsn        string
	cluster    *pgtest.Cluster // its commits wait for a standby that never comes, if they want to
	copies     int
	real       bool // TimescaleDB logs and refreshes
	ranges     bool // a refresh keeps pending ranges between two transactions, as from 2.22 on
	raw        int32
	aggregates []*heldAggregate
}

// heldAggregate is one of the aggregates.
type heldAggregate struct {
	id    int32
	view  string
	oid   string
	held  string // materialization
	width int64  // microseconds
}

// do runs one statement.
type do func(sql string) ([][]string, error)

const heldColumns = "symbol, count(*) AS count, sum(volume) AS volume, max(price) AS price"

// newConcurrentBed makes a bed whose aggregates are refreshed and settled up to two days
// before the newest bar.
func newConcurrentBed(t *testing.T, ranges bool) *concurrentBed {
	t.Helper()
	b := &concurrentBed{ranges: ranges}
	if b.dsn, b.real = pgtest.Given(); b.real {
		if wrong := unfit(t.Context(), b.dsn); wrong != "" {
			t.Fatalf("QVPGW_TEST_DSN names a server that these tests cannot use: %s; without it they make a server of their own", wrong)
		}
	} else {
		b.cluster = pgtest.Native(t, pgtest.Setting("synchronous_standby_names", "nobody"), pgtest.Setting("synchronous_commit", "local"))
		b.dsn = b.cluster.Database(t)
	}
	ctx := context.Background()
	if err := schema.Migrate(ctx, b.dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, b.dsn, `CREATE TABLE bars (timestamp timestamptz NOT NULL, symbol text NOT NULL, price int, volume bigint);
SELECT create_hypertable('bars', by_range('timestamp', INTERVAL '7 days'));
INSERT INTO bars SELECT t, s, extract(hour FROM t), extract(minute FROM t) + 7 * extract(day FROM t)
FROM unnest(ARRAY['A', 'B']) s, generate_series('2024-01-04'::timestamptz, '2024-01-31 23:50', '100 min') t`)
	if b.real {
		t.Cleanup(func() {
			run(t, b.dsn, "DROP MATERIALIZED VIEW bars_1h, bars_1d; DROP TABLE bars")
			if _, err := schema.NewMigrator(b.dsn, schema.Options{Yes: true}).Goto(ctx, 0); err != nil {
				t.Error(err)
			}
		})
	} else {
		run(t, b.dsn, `CREATE TABLE _timescaledb_catalog.continuous_aggs_materialization_ranges (materialization_id int NOT NULL, lowest_modified_value bigint NOT NULL, greatest_modified_value bigint NOT NULL);
GRANT SELECT ON _timescaledb_catalog.continuous_aggs_materialization_ranges TO PUBLIC;
ALTER TABLE _timescaledb_catalog.continuous_aggs_materialization_invalidation_log DROP CONSTRAINT continuous_aggs_materialization_invalid_materialization_id_fkey;
ALTER TABLE _timescaledb_catalog.continuous_aggs_watermark DROP CONSTRAINT continuous_aggs_watermark_mat_hypertable_id_fkey`)
	}
	b.makeAggregate(t, "bars_1h", "1 hour", hourMicros)
	b.makeAggregate(t, "bars_1d", "1 day", dayMicros)
	run(t, b.dsn, "SELECT qvpgw.watch('bars')")
	b.raw = int32(number(t, b.dsn, "SELECT id FROM _timescaledb_catalog.hypertable WHERE table_name = 'bars'"))
	conn := b.connect(t)
	b.refreshAll(t, conn, barsTo-2*dayMicros)
	b.settleAll(t, conn)
	_ = conn.Close(ctx)
	return b
}

// unfit says why a given server is not one that these tests can use, "" when it is.
func unfit(ctx context.Context, dsn string) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	first, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return err.Error()
	}
	defer first.Close(ctx)
	rows, err := doing(first)("SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), ''), coalesce(current_setting('timescaledb.license', true), ''), current_setting('max_prepared_transactions')")
	switch {
	case err != nil:
		return err.Error()
	case rows[0][0] == "":
		return "its database has no extension timescaledb"
	case rows[0][1] != "timescale":
		return "it has TimescaleDB's Apache edition (timescaledb.license is " + rows[0][1] + "), without continuous aggregates"
	case rows[0][2] == "0":
		return "its max_prepared_transactions is 0, and some writers are held by PREPARE TRANSACTION"
	}
	second, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return "a second session at the same time does not begin: " + err.Error()
	}
	_ = second.Close(ctx)
	return ""
}

func TestAServerThatTheConcurrentTestsCannotUseIsNamed(t *testing.T) {
	c := pgtest.Native(t)
	for _, w := range []struct{ dsn, why string }{
		{c.DSN("template1"), "no extension timescaledb"},
		{c.Database(t), "Apache edition"},
		{c.DSN("nothing"), "does not exist"},
	} {
		if got := unfit(t.Context(), w.dsn); !strings.Contains(got, w.why) {
			t.Errorf("%s: %q, want %q", w.dsn, got, w.why)
		}
	}
}

// copy is a bed as this one was made; a given server's goes on as it is.
func (b *concurrentBed) copy(t *testing.T) *concurrentBed {
	t.Helper()
	if b.real {
		return b
	}
	b.copies++
	c := *b
	u, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	first, name := strings.TrimPrefix(u.Path, "/"), fmt.Sprintf("copy_%d", b.copies)
	for _, sql := range []string{
		"ALTER DATABASE " + first + " ALLOW_CONNECTIONS false", // TimescaleDB's scheduler comes to each
		"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = '" + first + "'",
		"CREATE DATABASE " + name + " TEMPLATE " + first,
	} {
		if err := b.cluster.Exec(context.Background(), "postgres", sql); err != nil {
			t.Fatal(err)
		}
	}
	c.dsn = b.cluster.DSN(name)
	return &c
}

// refreshAll refreshes the aggregates up to an end.
func (b *concurrentBed) refreshAll(t *testing.T, conn *pgconn.PgConn, to int64) {
	t.Helper()
	for _, a := range b.aggregates {
		if err := b.refresh(doing(conn), a, barsFrom, to, false); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *concurrentBed) settleAll(t *testing.T, conn *pgconn.PgConn) {
	t.Helper()
	if err := b.keep(doing(conn)); err != nil {
		t.Fatal(err)
	}
}

func (b *concurrentBed) makeAggregate(t *testing.T, view, width string, micros int64) {
	t.Helper()
	query := fmt.Sprintf("SELECT time_bucket('%s', timestamp) AS bucket, %s FROM bars GROUP BY 1, 2", width, heldColumns)
	a := &heldAggregate{view: view, width: micros}
	b.aggregates = append(b.aggregates, a)
	if b.real {
		run(t, b.dsn, fmt.Sprintf("CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous) AS %s WITH NO DATA", view, query))
		a.id = int32(number(t, b.dsn, "SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_name = '"+view+"'"))
	} else {
		held := "_materialized_" + view
		run(t, b.dsn, fmt.Sprintf(`CREATE TABLE _timescaledb_internal.%[1]s (bucket timestamptz NOT NULL, symbol text, count bigint, volume numeric, price int);
SELECT create_hypertable('_timescaledb_internal.%[1]s', by_range('bucket', INTERVAL '70 days'))`, held))
		a.id = int32(number(t, b.dsn, "SELECT id FROM _timescaledb_catalog.hypertable WHERE table_name = '"+held+"'"))
		a.held = "_timescaledb_internal." + held
		run(t, b.dsn, fmt.Sprintf(`CREATE VIEW %[1]s AS SELECT * FROM %[2]s;
CREATE VIEW _timescaledb_internal.partial_%[1]s AS %[3]s; CREATE VIEW _timescaledb_internal.direct_%[1]s AS %[3]s;
INSERT INTO _timescaledb_catalog.continuous_agg (mat_hypertable_id, raw_hypertable_id, user_view_schema, user_view_name, partial_view_schema, partial_view_name, direct_view_schema, direct_view_name, materialized_only)
SELECT %[4]d, id, 'public', '%[1]s', '_timescaledb_internal', 'partial_%[1]s', '_timescaledb_internal', 'direct_%[1]s', true FROM _timescaledb_catalog.hypertable WHERE table_name = 'bars';
INSERT INTO _timescaledb_catalog.continuous_aggs_bucket_function VALUES (%[4]d, 'public.time_bucket(interval,timestamp with time zone)', '%[5]s'::interval::text, NULL, NULL, NULL, true);
INSERT INTO _timescaledb_catalog.continuous_aggs_watermark VALUES (%[4]d, %[6]d);
INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_invalidation_log VALUES (%[4]d, %[6]d, %[7]d);
INSERT INTO _timescaledb_catalog.continuous_aggs_invalidation_threshold SELECT id, %[6]d FROM _timescaledb_catalog.hypertable WHERE table_name = 'bars' ON CONFLICT DO NOTHING`,
			view, a.held, query, a.id, width, int64(-210866803200000000), int64(math.MaxInt64)))
	}
	a.oid = fmt.Sprint(number(t, b.dsn, "SELECT '"+view+"'::regclass::oid"))
}

func (b *concurrentBed) connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// doing runs statements on a connection.
func doing(conn *pgconn.PgConn) do {
	q := schema.PgConnQuery(conn)
	return func(sql string) ([][]string, error) { return q(context.Background(), sql) }
}

func number(t *testing.T, dsn, sql string) (n int64) {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := doing(conn)(sql)
	if err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
	if _, err := fmt.Sscan(rows[0][0], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// loader reads the catalog as the program does, and takes the native backend for an
// edition with aggregates, of the version whose refreshes this bed follows.
func (b *concurrentBed) loader() gateway.LoadFunc {
	read := wholeLoader()
	if b.real {
		return read
	}
	return func(run gateway.QueryFunc, last *catalog.Snapshot, touched *catalog.Touched) (*catalog.Snapshot, error) {
		s, err := read(func(sql string) ([][]*string, error) {
			return run(strings.ReplaceAll(sql, "current_setting('timescaledb.license', true)", "'timescale'"))
		}, last, touched)
		if s != nil && b.ranges {
			changed := *s
			changed.Timescale = "2.22.1"
			s = &changed
		}
		return s, err
	}
}

func stampOf(micros int64) string {
	return "'" + time.UnixMicro(micros).UTC().Format("2006-01-02 15:04:05.999999") + "+00'::timestamptz"
}

// each runs statements up to the first that fails, in whose place an open transaction
// ends.
func each(d do, list ...string) error {
	for _, sql := range list {
		if _, err := d(sql); err != nil {
			_, _ = d("ROLLBACK")
			return fmt.Errorf("%w\nin %s", err, sql)
		}
	}
	return nil
}

// refresh takes a refresh's transactions: one moves the threshold and what was logged
// of the hypertable to each aggregate; the next takes what lies in the window out of
// the aggregate's log, into pending ranges where the version has them; the last makes
// the rows anew and moves the watermark.
func (b *concurrentBed) refresh(d do, a *heldAggregate, from, to int64, force bool) error {
	from, to = -floorTo(-from, a.width), floorTo(to, a.width)
	if from >= to {
		return &pgconn.PgError{Code: "22023", Message: "refresh window too small"}
	}
	if b.real {
		forced := ""
		if force {
			forced = ", force => true"
		}
		_, err := d(fmt.Sprintf("CALL refresh_continuous_aggregate('%s', %s, %s%s)", a.view, stampOf(from), stampOf(to), forced))
		return err
	}
	if err := each(d,
		"BEGIN",
		fmt.Sprintf("SELECT watermark FROM _timescaledb_catalog.continuous_aggs_invalidation_threshold WHERE hypertable_id = %d FOR UPDATE", b.raw),
		fmt.Sprintf("UPDATE _timescaledb_catalog.continuous_aggs_invalidation_threshold SET watermark = greatest(watermark, %d) WHERE hypertable_id = %d", to, b.raw),
		fmt.Sprintf(`WITH moved AS (DELETE FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log WHERE hypertable_id = %d RETURNING lowest_modified_value, greatest_modified_value)
INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_invalidation_log SELECT id, m.* FROM moved m, unnest(ARRAY[%d, %d]) id`, b.raw, b.aggregates[0].id, b.aggregates[1].id),
		"COMMIT", "BEGIN", "LOCK TABLE "+a.held+" IN EXCLUSIVE MODE"); err != nil {
		return err
	}
	work := [][]string{{fmt.Sprint(from), fmt.Sprint(to)}}
	if !force {
		keep := ""
		if b.ranges {
			keep = fmt.Sprintf(", pending AS (INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_ranges SELECT %d, low, high - 1 FROM work)", a.id)
		}
		var err error
		if work, err = d(fmt.Sprintf(`
WITH cut AS (DELETE FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log WHERE materialization_id = %[1]d AND lowest_modified_value < %[3]d AND greatest_modified_value >= %[2]d RETURNING lowest_modified_value AS low, greatest_modified_value AS high),
rest AS (INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_invalidation_log
  SELECT %[1]d, low, %[2]d - 1 FROM cut WHERE low < %[2]d UNION ALL SELECT %[1]d, %[3]d, high FROM cut WHERE high >= %[3]d),
work AS (SELECT greatest(low, %[2]d) / %[4]d * %[4]d AS low, (least(high, %[3]d - 1) / %[4]d + 1) * %[4]d AS high FROM cut)%[5]s
SELECT * FROM work`, a.id, from, to, a.width, keep)); err != nil {
			_, _ = d("ROLLBACK")
			return err
		}
	} else if b.ranges {
		if err := each(d, fmt.Sprintf("INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_ranges VALUES (%d, %d, %d)", a.id, from, to-1)); err != nil {
			return err
		}
	}
	if b.ranges {
		if err := each(d, "COMMIT", "BEGIN", "LOCK TABLE "+a.held+" IN EXCLUSIVE MODE"); err != nil {
			return err
		}
	}
	for _, r := range work {
		var low, high int64
		if _, err := fmt.Sscan(r[0]+" "+r[1], &low, &high); err != nil {
			return err
		}
		if err := each(d,
			fmt.Sprintf("DELETE FROM %s WHERE bucket >= %s AND bucket < %s", a.held, stampOf(low), stampOf(high)),
			fmt.Sprintf("INSERT INTO %s SELECT time_bucket(%d * interval '1 microsecond', timestamp), %s FROM bars WHERE timestamp >= %s AND timestamp < %s GROUP BY 1, 2", a.held, a.width, heldColumns, stampOf(low), stampOf(high))); err != nil {
			return err
		}
		if b.ranges {
			if err := each(d, fmt.Sprintf("DELETE FROM _timescaledb_catalog.continuous_aggs_materialization_ranges WHERE materialization_id = %d AND lowest_modified_value = %d AND greatest_modified_value = %d", a.id, low, high-1)); err != nil {
				return err
			}
		}
	}
	return each(d,
		fmt.Sprintf("UPDATE _timescaledb_catalog.continuous_aggs_watermark SET watermark = greatest(watermark, coalesce((SELECT (extract(epoch FROM max(bucket)) * 1000000)::bigint + %d FROM %s), watermark)) WHERE mat_hypertable_id = %d", a.width, a.held, a.id),
		"COMMIT")
}

func floorTo(n, width int64) int64 {
	if r := n % width; r < 0 {
		return n - r - width
	} else {
		return n - r
	}
}

// keep does what the keeper does now, and goes on until there is nothing to do.
func (b *concurrentBed) keep(d do) error {
	var s schema.Settler
	for {
		more, err := s.Round(context.Background(), b.refreshing(d))
		if err != nil || !more {
			return err
		}
	}
}

var refreshCall = regexp.MustCompile(`^CALL refresh_continuous_aggregate\((\d+)::regclass, '([^']*)'::timestamptz, '([^']*)'::timestamptz(, force => true)?\)$`)

// refreshing runs the keeper's statements, its refreshes by this bed.
func (b *concurrentBed) refreshing(d do) schema.Query {
	return func(_ context.Context, sql string) ([][]string, error) {
		m := refreshCall.FindStringSubmatch(sql)
		if b.real || m == nil {
			if strings.HasPrefix(sql, "CALL") && !b.real {
				return nil, fmt.Errorf("not understood: %s", sql)
			}
			return d(sql)
		}
		from, err := time.Parse("2006-01-02 15:04:05.999999Z07", m[2])
		if err != nil {
			return nil, err
		}
		to, err := time.Parse("2006-01-02 15:04:05.999999Z07", m[3])
		if err != nil {
			return nil, err
		}
		for _, a := range b.aggregates {
			if a.oid == m[1] {
				return nil, b.refresh(d, a, from.UnixMicro(), to.UnixMicro(), m[4] != "")
			}
		}
		return nil, fmt.Errorf("no aggregate %s", m[1])
	}
}
