package schema

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
)

// settledBars is the embedded database with bars of half a year, refreshed by hour
// and by week.
func settledBars(t *testing.T) *pgx.Conn {
	t.Helper()
	dsn := pgtest.Embedded(t).DSN()
	if err := Migrate(context.Background(), dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	t.Cleanup(func() {
		_ = conn.Close(context.Background())
		if _, err := NewMigrator(dsn, Options{Yes: true}).Goto(context.Background(), 0); err != nil {
			t.Error(err)
		}
		exec(t, connect(t, dsn), "DROP SCHEMA qvpgw CASCADE")
	})
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol, close, volume) SELECT at, 'A', 1, 10 FROM generate_series('2024-01-04 00:07'::timestamptz, '2024-06-28', '3 hours') at")
	exec(t, conn, "CALL refresh_continuous_aggregate('market_data_1h', NULL, '2024-06-27 12:00')")
	exec(t, conn, "CALL refresh_continuous_aggregate('market_data_1w', NULL, '2024-06-27 12:00')")
	return conn
}

func settleAll(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if err := Settle(context.Background(), conn.PgConn()); err != nil {
		t.Fatal(err)
	}
}

// aggregateOf finds a continuous aggregate in a fresh snapshot.
func aggregateOf(t *testing.T, conn *pgx.Conn, view string) (*catalog.Snapshot, *catalog.Aggregate) {
	t.Helper()
	s := load(t, conn)
	for _, a := range s.Aggregates {
		if a.View.Name == view {
			return s, a
		}
	}
	t.Fatalf("no aggregate %s", view)
	return nil, nil
}

// unequalHours counts the hours in which the aggregate's stored rows differ from the
// table's, below its watermark.
func unequalHours(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	_, a := aggregateOf(t, conn, "market_data_1h")
	return value(t, conn, fmt.Sprintf(`
SELECT count(*) FROM (
  SELECT time_bucket('1 hour', timestamp) AS bucket, symbol, sum(volume) AS volume, sum(close) AS closes FROM market_data WHERE timestamp < '2024-06-27' GROUP BY 1, 2) r
FULL JOIN (SELECT bucket, symbol, volume, sum_close FROM %s WHERE bucket < '2024-06-27') m USING (bucket, symbol)
WHERE (r.volume, r.closes) IS DISTINCT FROM (m.volume, m.sum_close)`, a.Materialization))
}

// They share a database, in this order: it takes longest to make.
func TestAggregatesAreSettled(t *testing.T) {
	conn := settledBars(t)
	for _, step := range []struct {
		name string
		test func(*testing.T, *pgx.Conn)
	}{
		{"up to the threshold (trap T1)", settledToThreshold},
		{"after MERGE (trap T2)", settledAfterMerge},
		{"though the keeper is killed between any two statements", settledThoughKilled},
		{"but not by a chunk that was made anew", settledByItsChunks},
		{"or say why they are not", unsettledSaysWhy},
		{"but history before the oldest chunk is not refreshed", historyStays},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, conn) }) {
			return
		}
	}
}

func settledToThreshold(t *testing.T, conn *pgx.Conn) {
	settleAll(t, conn)
	s, hour := aggregateOf(t, conn, "market_data_1h")
	raw := s.Hypertables[hour.RawID]
	if hour.Settled.Start > raw.Chunks[0].Start || hour.Settled.End != raw.Threshold {
		t.Errorf("settled is %+v, the table begins at %d, the threshold is %d", hour.Settled, raw.Chunks[0].Start, raw.Threshold)
	}
	if r := s.Relations[raw.Name]; r.Log != catalog.CorrectionsLogged || r.Triggers != hour.Settled.Triggers || r.Triggers == "" {
		t.Errorf("the table's triggers are %q, the settled point's %q", r.Triggers, hour.Settled.Triggers)
	}
	if _, day := aggregateOf(t, conn, "market_data_1d"); day.Settled.Start > raw.Chunks[0].Start {
		// Another aggregate's refresh moved the threshold that they share.
		t.Errorf("market_data_1d is settled in %+v", day.Settled)
	}

	// A new threshold: the newly covered range alone is refreshed.
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol, close, volume) VALUES ('2024-06-29 12:07', 'A', 1, 10)")
	exec(t, conn, "CALL refresh_continuous_aggregate('market_data_1h', '2024-06-27', '2024-06-30')")
	settleAll(t, conn)
	s, again := aggregateOf(t, conn, "market_data_1h")
	if end := s.Hypertables[hour.RawID].Threshold; end <= raw.Threshold || again.Settled.End != end || again.Settled.Start != hour.Settled.Start {
		t.Errorf("settled is %+v after the threshold rose from %d to %d", again.Settled, raw.Threshold, end)
	}
}

func settledAfterMerge(t *testing.T, conn *pgx.Conn) {
	merge := func(at, action string) {
		exec(t, conn, "MERGE INTO market_data m USING (VALUES ('"+at+"'::timestamptz)) v (at) ON m.timestamp >= v.at AND m.timestamp < v.at + interval '6 hours' WHEN MATCHED THEN "+action)
	}
	merge("2024-03-01", "UPDATE SET volume = 1000")
	if n := unequalHours(t, conn); n != "2" {
		t.Fatalf("%s hours are unequal after MERGE", n)
	}
	_, hour := aggregateOf(t, conn, "market_data_1h")
	at := int64(1709253000000000) // 2024-03-01 00:30
	dirty := func(a *catalog.Aggregate) bool {
		for _, s := range a.Invalid {
			if s.Start <= at && s.End > at {
				return true
			}
		}
		return false
	}
	if !dirty(hour) {
		t.Errorf("the snapshot's invalid ranges are %v", hour.Invalid)
	}
	settleAll(t, conn)
	if n := unequalHours(t, conn); n != "0" {
		t.Errorf("%s hours are unequal after settling", n)
	}
	if n := value(t, conn, "SELECT count(*) FROM qvpgw.changes"); n != "0" {
		t.Errorf("%s rows are left in the change log", n)
	}

	// A DELETE's range is not known: everything is settled anew.
	merge("2024-02-01", "DELETE")
	if n := unequalHours(t, conn); n == "0" {
		t.Fatal("no hour is unequal after MERGE")
	}
	if _, hour := aggregateOf(t, conn, "market_data_1h"); !dirty(hour) {
		t.Errorf("the snapshot's invalid ranges are %v", hour.Invalid)
	}
	settleAll(t, conn)
	_, after := aggregateOf(t, conn, "market_data_1h")
	if n := unequalHours(t, conn); n != "0" || !reflect.DeepEqual(after.Settled, hour.Settled) || dirty(after) {
		t.Errorf("%s hours are unequal after settling %+v, invalid %v", n, after.Settled, after.Invalid)
	}

	// While the trigger was away, nothing was logged.
	exec(t, conn, "SELECT qvpgw.unwatch('market_data')")
	if s, _ := aggregateOf(t, conn, "market_data_1h"); s.Relations[catalog.Name{Schema: "public", Name: "market_data"}].Log != catalog.NotLogged {
		t.Error("the table counts as logged without triggers")
	}
	merge("2024-04-01", "UPDATE SET volume = 1")
	exec(t, conn, "SELECT qvpgw.watch('market_data')")
	s, away := aggregateOf(t, conn, "market_data_1h")
	if s.Relations[catalog.Name{Schema: "public", Name: "market_data"}].Triggers == away.Settled.Triggers {
		t.Error("what was settled before the triggers were away counts after")
	}
	settleAll(t, conn)
	if n := unequalHours(t, conn); n != "0" {
		t.Errorf("%s hours are unequal after the triggers were away", n)
	}
}

// settledThoughKilled has one keeper after another that is lost after some statements,
// the last of which was done or not.
func settledThoughKilled(t *testing.T, conn *pgx.Conn) {
	exec(t, conn, "DELETE FROM qvpgw.settled")
	exec(t, conn, "MERGE INTO market_data USING (VALUES (1)) x ON timestamp >= '2024-05-01' AND timestamp < '2024-05-02' WHEN MATCHED THEN UPDATE SET volume = 77")
	if n := unequalHours(t, conn); n == "0" {
		t.Fatal("no hour is unequal after MERGE")
	}
	lost := errors.New("the connection was lost")
	q := PgConnQuery(conn.PgConn())
	kills := 0
	for statements := 5; ; statements += 3 {
		left := statements
		var s Settler
		more, err := true, error(nil)
		for more && err == nil {
			more, err = s.Round(context.Background(), func(ctx context.Context, sql string) (rows [][]string, err error) {
				if left--; left > 0 || left == 0 && kills%2 == 0 {
					rows, err = q(ctx, sql)
				}
				if left <= 0 && err == nil {
					err = lost
				}
				return rows, err
			})
		}
		if err == nil {
			break
		}
		if !errors.Is(err, lost) {
			t.Fatal(err)
		}
		kills++
		exec(t, conn, "SELECT pg_advisory_unlock_all()") // as the end of its session does
	}
	s, hour := aggregateOf(t, conn, "market_data_1h")
	raw := s.Hypertables[hour.RawID]
	if n := unequalHours(t, conn); n != "0" || kills < 3 {
		t.Errorf("%s hours are unequal after %d kills", n, kills)
	}
	if hour.Settled.Start > raw.Chunks[0].Start || hour.Settled.End != raw.Threshold {
		t.Errorf("settled is %+v after %d kills, the table begins at %d, the threshold is %d", hour.Settled, kills, raw.Chunks[0].Start, raw.Threshold)
	}
}

func historyStays(t *testing.T, conn *pgx.Conn) {
	exec(t, conn, "DELETE FROM qvpgw.settled")
	exec(t, conn, "SELECT drop_chunks('market_data', older_than => '2024-03-08'::timestamptz)")
	before := value(t, conn, "SELECT count(*) FROM market_data_1h WHERE bucket < '2024-03-01'")
	settleAll(t, conn)
	if after := value(t, conn, "SELECT count(*) FROM market_data_1h WHERE bucket < '2024-03-01'"); after != before || before == "0" {
		t.Errorf("%s hours of what retention dropped are left of %s", after, before)
	}
	s, hour := aggregateOf(t, conn, "market_data_1h")
	if first := s.Hypertables[hour.RawID].Chunks[0].Start; hour.Settled.Start != first {
		t.Errorf("settled from %d, the oldest chunk begins at %d", hour.Settled.Start, first)
	}
}

// settledByItsChunks drops a chunk of an aggregate and has a refresh make it anew for one
// late row: the rest of its range is in no log.
func settledByItsChunks(t *testing.T, conn *pgx.Conn) {
	settleAll(t, conn)
	s, hour := aggregateOf(t, conn, "market_data_1h")
	if held := s.Hypertables[hour.ID].Chunks; len(hour.Settled.Chunks) != len(held) || len(held) < 2 {
		t.Fatalf("settled chunks %d, the aggregate has %v", hour.Settled.Chunks, held)
	}
	exec(t, conn, "SELECT drop_chunks('market_data_1h', older_than => '2024-05-01'::timestamptz)")
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol, close, volume) VALUES ('2024-02-10 12:07', 'A', 1, 10)")
	exec(t, conn, "CALL refresh_continuous_aggregate('market_data_1h', NULL, NULL)")
	if n := unequalHours(t, conn); n == "0" {
		t.Fatal("the chunk that was made anew lacks nothing")
	}
	s, hour = aggregateOf(t, conn, "market_data_1h")
	fresh := 0
	for _, c := range s.Hypertables[hour.ID].Chunks {
		if !slices.Contains(hour.Settled.Chunks, c.ID) {
			fresh++
		}
	}
	if fresh == 0 {
		t.Errorf("settled chunks %d have the new one of %v", hour.Settled.Chunks, s.Hypertables[hour.ID].Chunks)
	}
	settleAll(t, conn)
	if n := unequalHours(t, conn); n != "0" {
		t.Errorf("%s hours are unequal after the keeper settled the new chunk", n)
	}
	s, hour = aggregateOf(t, conn, "market_data_1h")
	for _, c := range s.Hypertables[hour.ID].Chunks {
		if !slices.Contains(hour.Settled.Chunks, c.ID) {
			t.Errorf("chunk %d is not settled: %+v", c.ID, hour.Settled)
		}
	}
}

func unsettledSaysWhy(t *testing.T, conn *pgx.Conn) {
	exec(t, conn, "SELECT qvpgw.unwatch('market_data')")
	settleAll(t, conn)
	if _, hour := aggregateOf(t, conn, "market_data_1h"); hour.Settled.Reason != UnsettledNoLog {
		t.Errorf("it says %+v", hour.Settled)
	}
	exec(t, conn, "SELECT qvpgw.watch('market_data')")
	settleAll(t, conn)
	if _, hour := aggregateOf(t, conn, "market_data_1h"); hour.Settled.Reason != "" || hour.Settled.End == 0 {
		t.Errorf("it says %+v", hour.Settled)
	}
}

// server answers a Settler's statements, and notes them.
type server struct {
	said    []string
	oldest  int // transaction that still runs
	next    int
	settled string
	refused error
	taken   bool // another gateway settles
}

func (v *server) query(_ context.Context, sql string) ([][]string, error) {
	v.said = append(v.said, strings.Join(strings.Fields(sql), " "))
	switch {
	case strings.Contains(sql, "server_version_num"):
		return [][]string{{"170000", "2.23.0", "", "timescale", "f", "chunk.dropped", "t", "t"}}, nil
	case strings.Contains(sql, "try_advisory_lock"):
		return [][]string{{map[bool]string{true: "f", false: "t"}[v.taken]}}, nil
	case strings.Contains(sql, "RECURSIVE"):
		row := []string{"7", "1", "0", "4711", "t", "timestamp with time zone", "7200000000", "604800000000", "1704103200000000", "", "", "", "", "99", "{1,2}", "1704067200000000", "t", "30:1703980800000000:1704585600000000,31:1704092400000000:1709000000000000", "30"}
		if v.settled != "" {
			copy(row[9:], strings.Fields(v.settled))
		}
		return [][]string{row}, nil
	case strings.Contains(sql, "pg_current_xact_id()") && !strings.Contains(sql, "INSERT"):
		v.next++
		return [][]string{{fmt.Sprint(v.next)}}, nil
	case strings.Contains(sql, "pg_snapshot_xmin"):
		return [][]string{{map[bool]string{true: "t", false: "f"}[v.oldest >= v.next]}}, nil
	case strings.HasPrefix(sql, "CALL"):
		return nil, v.refused
	}
	return nil, nil
}

func (v *server) times(part string) (n int) {
	for _, s := range v.said {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

func TestTrapT1NothingIsRefreshedWhileAWriterOfThatMomentRuns(t *testing.T) {
	ctx := context.Background()
	v := &server{oldest: 90, next: 100, settled: "1704067200000000 1704096000000000 {1,2}"}
	var s Settler
	for range 3 {
		if more, err := s.Round(ctx, v.query); more || err != nil {
			t.Fatal(more, err)
		}
	}
	if n := v.times("CALL"); n != 0 {
		t.Fatalf("%d refreshes although transaction 90 runs", n)
	}
	if n := v.times("SELECT pg_current_xact_id()"); n != 1 {
		t.Errorf("%d ids were taken for one rise", n)
	}
	v.oldest = 101
	if more, err := s.Round(ctx, v.query); !more || err != nil {
		t.Fatal(more, err)
	}
	if n := v.times("CALL refresh_continuous_aggregate(4711::regclass, '2024-01-01 06:00:00+00'::timestamptz, '2024-01-01 10:00:00+00'::timestamptz, force => true)"); n != 1 {
		t.Errorf("the refresh is not that of the newly covered range: %q", v.said)
	}
	if n := v.times("VALUES (7, 1704067200000000, 1704103200000000, '{1,2}', '', '{30,31}')"); n != 1 {
		t.Errorf("it was not recorded: %q", v.said)
	}

	// What was not recorded is done again, by whoever comes next.
	v = &server{oldest: 101, next: 100, settled: "1704067200000000 1704096000000000 {1,2}", refused: errors.New("the connection was lost")}
	if _, err := new(Settler).Round(ctx, v.query); err == nil || v.times("INSERT INTO qvpgw.settled") != 0 {
		t.Errorf("a refresh that failed was recorded: %v, %q", err, v.said)
	}
	if v.times("pg_advisory_unlock") != 1 {
		t.Error("the lock was kept")
	}
}

func TestOfSeveralGatewaysOneSettles(t *testing.T) {
	v := &server{oldest: 101, next: 100, settled: "1704067200000000 1704096000000000 {1,2}", taken: true}
	var s Settler
	if more, err := s.Round(context.Background(), v.query); more || err != nil {
		t.Fatal(more, err)
	}
	if n := v.times("CALL") + v.times("qvpgw.settled"); n != 0 {
		t.Errorf("it worked beside another one: %q", v.said)
	}
	if n := v.times("pg_advisory_unlock"); n != 0 {
		t.Error("it gave back a lock that it did not have")
	}
	v.taken = false
	if more, err := s.Round(context.Background(), v.query); !more || err != nil || v.times("CALL") == 0 {
		t.Errorf("it did nothing once the other one was gone: %v, %v, %q", more, err, v.said)
	}
}
