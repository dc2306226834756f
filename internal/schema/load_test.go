package schema

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
)

func TestThePlatformsTablesAreCleanAndComplete(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		if err := Migrate(ctx, dsn, Options{}); err != nil {
			t.Fatal(err)
		}
		conn := connect(t, dsn)
		exec(t, conn, "INSERT INTO market_data (timestamp, symbol, close) VALUES ('2024-03-01', 'SPX', 1), ('2024-01-02', 'SPX', 2)")
		s := load(t, conn)
		for _, name := range []string{"market_data", "tick_data", "portfolio_values", "risk_metrics", "trades", "feature_embeddings", "volatility_regimes"} {
			r := s.Relations[catalog.Name{Schema: "public", Name: name}]
			if r == nil || !r.Clean || !r.Nextval || r.InsertTrigger || r.Kind != 'r' || len(r.Columns) < 5 {
				t.Errorf("%s is %+v", name, r)
				continue
			}
			if hyper := name == "market_data" || name == "tick_data" || name == "portfolio_values" || name == "risk_metrics"; hyper != (r.HypertableID != 0) {
				t.Errorf("%s has hypertable id %d", name, r.HypertableID)
			}
		}
		bars := s.Relations[catalog.Name{Schema: "public", Name: "market_data"}]
		if c, ok := bars.Column("symbol"); !ok || c.Type != 1043 || c.TypMod != 24 || !c.NotNull {
			t.Errorf("symbol is %+v", c)
		}
		h := s.Hypertables[bars.HypertableID]
		if h.TimeColumn != "timestamp" || h.TimeType != 1184 || len(h.Chunks) != 2 {
			t.Fatalf("market_data is %+v", h)
		}
		week := (7 * 24 * time.Hour).Microseconds()
		january := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC).UnixMicro()
		if c := h.Chunks[0]; c.Start > january || c.End <= january || c.End-c.Start != week || c.Name.Schema != "_timescaledb_internal" || c.Compressed != (catalog.Name{}) {
			t.Errorf("the first chunk is %+v", c)
		}
		if h.Chunks[1].Start < h.Chunks[0].End {
			t.Errorf("chunks are not in order: %+v", h.Chunks)
		}
		if s.ServerVersion < 170000 || s.Timescale == "" || s.Vector == "" || s.InRecovery {
			t.Errorf("versions %d, %q, %q", s.ServerVersion, s.Timescale, s.Vector)
		}
		for _, r := range s.Relations {
			if strings.HasSuffix(r.Name.Name, "_chunk") {
				t.Errorf("%s is a chunk", r.Name)
			}
		}
	})
}

func TestTheFingerprintFollowsDDLAndTheMomentFollowsChunks(t *testing.T) {
	ctx := context.Background()
	dsn := pgtest.Database(t)
	if err := Migrate(ctx, dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	q := ConnQuery(conn)
	var l Loader
	before, err := l.Load(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol) VALUES ('2024-01-02', 'SPX')")
	moved, err := l.loadVolatile(ctx, q, before)
	if err != nil {
		t.Fatal(err)
	}
	id := before.Relations[catalog.Name{Schema: "public", Name: "market_data"}].HypertableID
	if moved.Fingerprint != before.Fingerprint || moved.Moment == before.Moment || len(moved.Hypertables[id].Chunks) != 1 || len(before.Hypertables[id].Chunks) != 0 {
		t.Errorf("a new chunk: fingerprints %s and %s, moments %s and %s", before.Fingerprint, moved.Fingerprint, before.Moment, moved.Moment)
	}
	if rows := moved.Hypertables[id].Chunks[0].Rows; rows != 0 {
		t.Errorf("a chunk that nobody has analyzed has %d rows", rows)
	}
	exec(t, conn, "ANALYZE market_data")
	last := moved.Moment
	if moved, err = l.loadVolatile(ctx, q, before); err != nil {
		t.Fatal(err)
	}
	if rows := moved.Hypertables[id].Chunks[0].Rows; rows != 1 || moved.Moment == last {
		t.Errorf("a chunk of one row has %d once it is analyzed, moments %s and %s", rows, last, moved.Moment)
	}
	whole := load(t, conn)
	if whole.Fingerprint != moved.Fingerprint || whole.Moment != moved.Moment {
		t.Errorf("read again without a change: %s, %s instead of %s, %s", whole.Fingerprint, whole.Moment, moved.Fingerprint, moved.Moment)
	}
	seen := map[string]string{whole.Fingerprint: "nothing"}
	for _, ddl := range []string{
		"CREATE TABLE t (i int)",
		"ALTER TABLE t ADD COLUMN j text",
		"ALTER TABLE t ALTER COLUMN j SET NOT NULL",
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
		"CREATE TRIGGER z BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
		"ALTER TABLE t ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE t RENAME TO u",
		"CREATE VIEW v AS SELECT * FROM u",
		"DROP VIEW v; CREATE VIEW v AS SELECT j FROM u",
		"DROP EXTENSION vector CASCADE",
	} {
		exec(t, conn, ddl)
		f := load(t, conn).Fingerprint
		if old, ok := seen[f]; ok {
			t.Errorf("%q left the fingerprint as after %q", ddl, old)
		}
		seen[f] = ddl
	}
}

func TestARoleWithoutPrivilegesLoadsTheSame(t *testing.T) {
	ctx := context.Background()
	dsn := pgtest.Database(t)
	if err := Migrate(ctx, dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	want := load(t, conn)
	exec(t, conn, "CREATE ROLE plain_loader LOGIN; SET SESSION AUTHORIZATION plain_loader")
	got := load(t, conn)
	exec(t, conn, "RESET SESSION AUTHORIZATION; DROP ROLE plain_loader")
	if got.Fingerprint != want.Fingerprint || got.Moment != want.Moment || len(got.Hypertables) != 4 {
		t.Errorf("got %d hypertables and fingerprint %s, not %s", len(got.Hypertables), got.Fingerprint, want.Fingerprint)
	}
}

func TestADatabaseWithoutExtensionsLoads(t *testing.T) {
	conn := connect(t, pgtest.Database(t))
	exec(t, conn, "DROP EXTENSION timescaledb; DROP EXTENSION vector")
	_ = conn.Close(context.Background())
	conn = connect(t, conn.Config().ConnString())
	exec(t, conn, "CREATE TABLE t (i int)")
	s := load(t, conn)
	if s.Timescale != "" || s.Vector != "" || s.Community || len(s.Hypertables) != 0 {
		t.Errorf("got %+v", s)
	}
	if r := s.Relations[catalog.Name{Schema: "public", Name: "t"}]; r == nil || !r.Clean || len(r.Columns) != 1 {
		t.Errorf("t is %+v", r)
	}
	if s, err := new(Loader).loadVolatile(context.Background(), ConnQuery(conn), s); err != nil || s.Moment == "" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestAggregatesAreReadWithWatermarksAndWhatIsNotMaterialized(t *testing.T) {
	ctx := context.Background()
	dsn := pgtest.Embedded(t).DSN()
	t.Cleanup(func() {
		conn := connect(t, dsn)
		exec(t, conn, "DROP SCHEMA IF EXISTS ca CASCADE")
	})
	conn := connect(t, dsn)
	exec(t, conn, `CREATE SCHEMA ca;
		CREATE TABLE ca.bars (at timestamptz NOT NULL, symbol text NOT NULL, v float8);
		SELECT create_hypertable('ca.bars', by_range('at', interval '7 days'));
		INSERT INTO ca.bars SELECT g, 's', 1 FROM generate_series('2024-01-01'::timestamptz, '2024-02-01', interval '1 hour') g`)
	exec(t, conn, `CREATE MATERIALIZED VIEW ca.daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
		SELECT time_bucket('1 day', at) AS bucket, symbol, sum(v) AS s, count(v) AS n FROM ca.bars GROUP BY 1, 2 WITH NO DATA`)
	exec(t, conn, `CREATE MATERIALIZED VIEW ca.weekly WITH (timescaledb.continuous) AS
		SELECT time_bucket('7 days', bucket) AS bucket, symbol, sum(s) AS s FROM ca.daily GROUP BY 1, 2 WITH NO DATA`)
	exec(t, conn, `CREATE FUNCTION ca.spy(float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 FROM setseed(0)'`)
	exec(t, conn, `CREATE MATERIALIZED VIEW ca.spied WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
		SELECT time_bucket('1 day', at, 'Europe/Berlin', '2001-01-01'::timestamptz) AS bucket, ca.spy(v) AS k, count(*) FROM ca.bars GROUP BY 1, 2 WITH NO DATA`)
	q := ConnQuery(conn)
	var l Loader
	s, err := l.Load(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	find := func(s *catalog.Snapshot, name string) *catalog.Aggregate {
		t.Helper()
		for _, a := range s.Aggregates {
			if a.View == (catalog.Name{Schema: "ca", Name: name}) {
				return a
			}
		}
		t.Fatalf("aggregate %s is not in the snapshot", name)
		return nil
	}
	day := func(d int) int64 { return time.Date(2024, 1, d, 0, 0, 0, 0, time.UTC).UnixMicro() }

	daily, weekly, spied := find(s, "daily"), find(s, "weekly"), find(s, "spied")
	bars := s.Relations[catalog.Name{Schema: "ca", Name: "bars"}]
	if daily.RawID != bars.HypertableID || weekly.RawID != daily.ID || daily.MaterializedOnly || !weekly.MaterializedOnly || !daily.Finalized {
		t.Errorf("aggregates are %+v and %+v", daily, weekly)
	}
	if daily.BucketWidth != "1 day" || !daily.BucketFixed || weekly.BucketWidth != "7 days" || spied.BucketTimeZone != "Europe/Berlin" || spied.BucketOrigin == "" || spied.BucketFixed {
		t.Errorf("buckets are %+v, %+v and %+v", daily, weekly, spied)
	}
	if len(daily.Columns) != 4 || daily.Columns[0].Name != "bucket" || !strings.Contains(daily.Definition, "sum(v) AS s") {
		t.Errorf("daily is %+v", daily)
	}
	if !bars.Clean || bars.InsertTrigger {
		t.Errorf("bars are %q, insert trigger %t", bars.Unclean, bars.InsertTrigger)
	}
	for name, want := range map[string]bool{"daily": true, "weekly": true, "spied": false} {
		if r := s.Relations[catalog.Name{Schema: "ca", Name: name}]; r.Clean != want {
			t.Errorf("%s: clean %t, %q", name, r.Clean, r.Unclean)
		}
	}
	if daily.Watermark > 0 || len(daily.Invalid) == 0 || daily.Invalid[0].Start > day(1) || daily.Invalid[0].End < day(31) {
		t.Errorf("before a refresh the watermark is %d, invalid %v", daily.Watermark, daily.Invalid)
	}

	exec(t, conn, "CALL refresh_continuous_aggregate('ca.daily', NULL, '2024-01-20 12:00+00'::timestamptz)")
	if s, err = l.loadVolatile(ctx, q, s); err != nil {
		t.Fatal(err)
	}
	daily = find(s, "daily")
	h := s.Hypertables[daily.RawID]
	if daily.Watermark != day(20) || !h.HasThreshold || h.Threshold != day(20) {
		t.Errorf("after a refresh the watermark is %d and the threshold %d", daily.Watermark, h.Threshold)
	}
	overlaps := func(spans []catalog.Span, from, to int64) bool {
		return slices.ContainsFunc(spans, func(s catalog.Span) bool { return s.Start < to && s.End > from })
	}
	if overlaps(daily.Invalid, day(1), day(20)) || !overlaps(daily.Invalid, day(20), day(21)) {
		t.Errorf("after a refresh invalid is %v", daily.Invalid)
	}
	if len(s.Hypertables[daily.ID].Chunks) == 0 {
		t.Error("the materialization has no chunks")
	}

	if h.Distinct != nil {
		t.Errorf("before ANALYZE there are %v", h.Distinct)
	}
	exec(t, conn, "INSERT INTO ca.bars VALUES ('2024-01-05 03:00+00', 's', 7)")
	exec(t, conn, "ANALYZE ca.bars")
	if s, err = l.loadVolatile(ctx, q, s); err != nil {
		t.Fatal(err)
	}
	if d := s.Hypertables[daily.RawID].Distinct; len(d) == 0 {
		t.Error("ANALYZE of the hypertable has told no column's values")
	}
	daily, weekly = find(s, "daily"), find(s, "weekly")
	if !overlaps(daily.Invalid, day(5), day(6)) || overlaps(daily.Invalid, day(7), day(8)) || !overlaps(weekly.Invalid, day(5), day(6)) {
		t.Errorf("after a late row invalid is %v and %v", daily.Invalid, weekly.Invalid)
	}

	exec(t, conn, "ALTER TABLE ca.bars SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol'); SELECT compress_chunk(show_chunks('ca.bars', older_than => '2024-01-08'::timestamptz))")
	s = load(t, conn)
	chunks := s.Hypertables[daily.RawID].Chunks
	if c := chunks[0]; c.Compressed.Schema != "_timescaledb_internal" || !strings.HasPrefix(c.Compressed.Name, "compress_hyper_") {
		t.Errorf("the compressed chunk is %+v", c)
	}
	if c := chunks[len(chunks)-1]; c.Compressed != (catalog.Name{}) {
		t.Errorf("the last chunk is %+v", c)
	}
}

func TestALoaderSaysWhatItCouldNotRead(t *testing.T) {
	ctx := context.Background()
	broken := errors.New("connection lost")
	for n, want := range []string{"versions", "what there is", "relations", "columns"} {
		calls := 0
		q := func(context.Context, string) ([][]string, error) {
			calls++
			if calls > n {
				return nil, broken
			}
			switch calls {
			case 1:
				return [][]string{{"170011", "", "", "", "f", "", "t", "f"}}, nil
			case 2:
				return [][]string{{"", "", "", ""}}, nil
			}
			return nil, nil
		}
		if _, err := Load(ctx, q); !errors.Is(err, broken) || !strings.Contains(err.Error(), want) {
			t.Errorf("query %d: %v", n, err)
		}
	}
	for _, rows := range [][][]string{nil, {{"1"}}, {{"x", "", "", "", "f", "", "t", "f"}}} {
		if _, err := Load(ctx, func(context.Context, string) ([][]string, error) { return rows, nil }); err == nil {
			t.Errorf("rows %v are understood", rows)
		}
	}
}

func TestLayoutsOfTimescaleDBGiveTheirOwnQueries(t *testing.T) {
	for _, c := range []struct {
		layout     layout
		has, lacks []string
	}{
		{layout{}, nil, []string{"_timescaledb_catalog"}},
		{layout{present: true, dropped: true, compressedID: true}, []string{"chunk_constraint", "NOT k.dropped", "compressed_chunk_id"}, []string{"materialization_ranges", "relid"}},
		{layout{present: true, chunkOID: true, sliceByID: true, ranges: true}, []string{"k.relid", "s.chunk_id", "materialization_ranges", "compression_settings"}, []string{"chunk_constraint", "k.dropped", "k.table_name"}},
	} {
		sql := c.layout.volatileSQL()
		for _, want := range c.has {
			if !strings.Contains(sql, want) {
				t.Errorf("%+v has no %s", c.layout, want)
			}
		}
		for _, not := range c.lacks {
			if strings.Contains(sql, not) {
				t.Errorf("%+v has %s", c.layout, not)
			}
		}
	}
}

func TestVersionsAreCompared(t *testing.T) {
	for _, c := range []struct {
		a, b string
		less bool
	}{
		{"2.15.0", "2.15.1", true},
		{"2.15.1", "2.15.1", false},
		{"2.23.0-dev", "2.29.0", true},
		{"2.30.0-dev", "2.29.2", false},
		{"3", "2.29.0", false},
		{"", "0.0.1", true},
	} {
		if got := parseVersion(c.a).less(parseVersion(c.b)); got != c.less {
			t.Errorf("%s before %s: %t", c.a, c.b, got)
		}
	}
}

func TestSpansAreMerged(t *testing.T) {
	span := func(start, end int64) catalog.Span { return catalog.Span{Start: start, End: end} }
	got := merge([]catalog.Span{span(10, 20), span(1, 3), span(3, 4), span(15, 17), span64(math.MaxInt64, math.MaxInt64), span(19, 25)})
	want := []catalog.Span{span(1, 4), span(10, 25), span(math.MaxInt64, math.MaxInt64)}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, backend := range []string{"native", "embedded"} {
		b.Run(backend, func(b *testing.B) {
			ctx := context.Background()
			dsn := ""
			if backend == "native" {
				dsn = pgtest.Database(b)
			} else {
				dsn = pgtest.Embedded(b).DSN()
			}
			if err := Migrate(ctx, dsn, Options{}); err != nil {
				b.Fatal(err)
			}
			conn := connect(b, dsn)
			for i := range 20 {
				exec(b, conn, fmt.Sprintf("INSERT INTO market_data (timestamp, symbol) SELECT timestamptz '2024-01-01' + interval '7 days' * %d, 'SPX'", i))
			}
			q := ConnQuery(conn)
			var l Loader
			s, err := l.Load(ctx, q)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("whole", func(b *testing.B) {
				for b.Loop() {
					if _, err := l.Load(ctx, q); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("volatile", func(b *testing.B) {
				for b.Loop() {
					if _, err := l.loadVolatile(ctx, q, s); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func TestEstimatesAreRoundedToAnEighth(t *testing.T) {
	for n, want := range map[int64]int64{0: 0, 1: 1, 15: 15, 16: 16, 17: 18, 100: 104, 1000: 1024, 7777: 7680, 1 << 40: 1 << 40} {
		if got := about(n); got != want {
			t.Errorf("%d is about %d, want %d", n, got, want)
		}
	}
	for n := int64(16); n < 1<<20; n += 7 {
		if off := about(n) - n; off*16 > n || -off*16 > n || about(n) < about(n-1) {
			t.Fatalf("%d is about %d", n, about(n))
		}
	}
}
