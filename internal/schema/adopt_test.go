package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"qvpgw/internal/catalog"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// byHand are the platform's tables as an older program laid them out.
const byHand = `
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE market_data (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, symbol varchar(20) NOT NULL,
  open float, high float, low float, close float, volume bigint, source text DEFAULT 'feed');
CREATE TABLE tick_data (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL DEFAULT now(), symbol varchar(10) NOT NULL,
  price float, volume bigint, bid float, ask float, exchange text);
CREATE TABLE portfolio_values (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, total_value float, cash float, equity float);
CREATE TABLE risk_metrics (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, var_95 float, cvar_95 float, sharpe_ratio float);
CREATE TABLE trades (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, symbol varchar(20) NOT NULL,
  action varchar(10) NOT NULL CHECK (action IN ('buy', 'sell')), quantity float, price float, commission float, strategy varchar(100));
CREATE TABLE feature_embeddings (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, symbol varchar(20), feature_type varchar(50),
  embedding vector(128), metadata text);
CREATE TABLE volatility_regimes (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, regime_label varchar(50), regime_vector vector(64),
  realized_vol float, vix_level float, skew float, kurtosis float);
CREATE INDEX idx_market_data_symbol ON market_data (symbol, timestamp);
CREATE INDEX market_data_timestamp_idx ON market_data (timestamp, symbol, volume);
GRANT SELECT ON market_data TO PUBLIC;
INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
  SELECT timestamptz '2024-01-02 14:30:00+00' + (i / 12) * interval '1 minute', 'S' || i % 12, 100 + sin(i), 102 + sin(i), 99 + sin(i) / 3, 100 + cos(i), i * 7 % 10007
  FROM generate_series(1, 100000) i`

// onOld is onEach with databases that older programs made; that of the native
// backend has no TimescaleDB yet.
func onOld(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("native", func(t *testing.T) { test(t, bareDatabase(t)) })
	t.Run("embedded", func(t *testing.T) {
		dsn := pgtest.Embedded(t).DSN()
		t.Cleanup(func() {
			if _, err := NewMigrator(dsn, Options{Yes: true}).Goto(context.Background(), 0); err != nil {
				t.Error(err)
			}
			conn := connect(t, dsn)
			exec(t, conn, "DROP SCHEMA qvpgw CASCADE; DROP SCHEMA IF EXISTS kept CASCADE")
		})
		test(t, dsn)
	})
}

// bareDatabase has no extension.
func bareDatabase(t *testing.T) string {
	t.Helper()
	c := pgtest.Native(t)
	name := "bare_" + strings.ToLower(strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()))
	name = name[:min(len(name), 60)]
	if err := c.Exec(t.Context(), "postgres", "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.DropDatabase(context.Background(), name) })
	return c.DSN(name)
}

func TestTablesLaidOutByHandAreAdoptedWithTheirRows(t *testing.T) {
	rows, differs := int64(0), int64(0)
	onOld(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		conn := connect(t, dsn)
		exec(t, conn, byHand)
		if bars := pgtest.Bars(t); bars != nil {
			exec(t, conn, "TRUNCATE market_data RESTART IDENTITY")
			(&lifecycle{T: t, conn: conn}).copy("market_data", barColumns, strings.Join(bars[:100_000], ""))
		}
		looks, err := pgtest.FillTables(ctx, conn.PgConn())
		if err != nil {
			t.Fatal(err)
		}
		before, err := pgtest.Answers(ctx, conn.PgConn(), looks)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, conn, "CREATE SCHEMA kept; CREATE TABLE kept.market_data AS TABLE market_data")
		_ = conn.Close(ctx)

		m := NewMigrator(dsn, Options{})
		if _, err := m.Up(ctx); !errors.Is(err, ErrOccupied) || !strings.Contains(err.Error(), "migrate up --adopt") || !strings.Contains(err.Error(), "market_data") {
			t.Fatalf("without --adopt up gave %v", err)
		}
		r, err := m.Adopt(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Adopted) != 7 || r.To != len(mustFiles(t)) {
			t.Errorf("it adopted %+v and went to version %d", r.Adopted, r.To)
		}
		conn = connect(t, dsn)
		defer conn.Close(ctx)
		hypertable := value(t, conn, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") == "1"
		for _, a := range r.Adopted {
			want := hypertable && value(t, conn, fmt.Sprintf("SELECT count(*) FROM _timescaledb_catalog.hypertable WHERE schema_name = 'public' AND table_name = %s", catalog.Literal(a.Table))) == "1"
			if a.Hypertable != want {
				t.Errorf("it says of %s that it is a hypertable: %t, and it is: %t", a.Table, a.Hypertable, want)
			}
			if line := fmt.Sprintf("adopted %s: before %d rows, checksum %s; after %d rows, checksum %s", a.Table, a.Rows, a.Checksum, a.Rows, a.Checksum); !strings.Contains(r.Text(), line) {
				t.Errorf("the text has no %q:\n%s", line, r.Text())
			}
			if a.Table == "market_data" {
				rows = a.Rows
				if !a.Hypertable {
					t.Error("market_data is no hypertable")
				}
			}
		}
		if after, err := pgtest.Answers(ctx, conn.PgConn(), looks); err != nil || strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("there were %q, there are %q, %v", before, after, err)
		}
		columns := "id, timestamp, symbol, open, high, low, close, volume, source"
		var n numbers
		differs += n.int64(value(t, conn, fmt.Sprintf(`SELECT (SELECT count(*) FROM (SELECT %[1]s FROM kept.market_data EXCEPT ALL SELECT %[1]s FROM market_data) a)
			+ (SELECT count(*) FROM (SELECT %[1]s FROM market_data EXCEPT ALL SELECT %[1]s FROM kept.market_data) b)`, columns)))

		if got := value(t, conn, "INSERT INTO market_data (timestamp, symbol) VALUES ('2024-05-01', 'NEW') RETURNING id > 100000 AND source = 'feed'"); got != "t" {
			t.Error("a row without id and source does not get the next id and the default")
		}
		if got := value(t, conn, "INSERT INTO tick_data (symbol) VALUES ('NEW') RETURNING timestamp = now()"); got != "t" {
			t.Error("the default of tick_data.timestamp is lost")
		}
		for what, sql := range map[string]string{
			"an index of its own":                     "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexname = 'idx_market_data_symbol'",
			"an index whose name the migrations take": "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexname = 'market_data_timestamp_idx_old'",
			"a grant":         "SELECT count(*) FROM pg_class c CROSS JOIN aclexplode(relacl) x WHERE c.oid = 'market_data'::regclass AND x.grantee = 0",
			"the primary key": "SELECT count(*) FROM pg_constraint WHERE conrelid = 'market_data'::regclass AND contype = 'p' AND cardinality(conkey) = 2",
		} {
			if got := value(t, conn, sql); got != "1" {
				t.Errorf("%s is there %s times", what, got)
			}
		}
		if got := value(t, conn, "SELECT to_regnamespace('qvpgw_adopt') IS NULL"); got != "t" {
			t.Error("the schema aside is left behind")
		}
		_ = conn.Close(ctx)
		if s, err := m.Status(ctx); err != nil || !s.Current() {
			t.Errorf("status is %+v, %v", s, err)
		}
		if again, err := m.Adopt(ctx); err != nil || len(again.Adopted)+len(again.Steps) != 0 {
			t.Errorf("a second adoption gave %+v, %v", again, err)
		}
	})
	figure.Print(t, "schema.adopt.rows", rows)
	figure.Print(t, "schema.adopt.differs", differs)
	if rows != 100003 || differs != 0 {
		t.Errorf("%d bars were adopted, %d differ", rows, differs)
	}
}

func mustFiles(t *testing.T) []file {
	t.Helper()
	list, err := readFiles(NewMigrator("", Options{}).o.Files)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestWhatCannotBeAdoptedIsListedBeforeAnythingIsChanged(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	conn := connect(t, dsn)
	exec(t, conn, `
		CREATE TABLE market_data (id SERIAL PRIMARY KEY, timestamp timestamp, symbol text, open numeric, volume bigint UNIQUE, made int GENERATED ALWAYS AS (id + 1) STORED);
		INSERT INTO market_data (timestamp, symbol, volume) VALUES ('2024-01-02', NULL, 1), ('2024-01-03', repeat('x', 30), 2);
		CREATE TABLE tick_data (id int, timestamp timestamptz NOT NULL, symbol varchar(20) NOT NULL, volume bigint);
		INSERT INTO tick_data VALUES (1, '2024-01-02', 'A', 1), (1, '2024-01-02', 'B', 5000000000), (NULL, '2024-01-03', 'C', 3);
		CREATE TABLE trades (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, action varchar(10) NOT NULL);
		INSERT INTO trades (timestamp, action) VALUES ('2024-01-02', 'hold');`)
	m := NewMigrator(dsn, Options{})
	refused := func() *CannotAdopt {
		t.Helper()
		shapeBefore := value(t, conn, shape)
		_, err := m.Adopt(ctx)
		list, ok := errors.AsType[*CannotAdopt](err)
		if !ok {
			t.Fatalf("got %v", err)
		}
		if got := value(t, conn, shape); got != shapeBefore {
			t.Errorf("there was\n%s\nthere is\n%s", shapeBefore, got)
		}
		if s, err := m.Status(ctx); err != nil || s.Dirty || s.Version != -1 {
			t.Errorf("status is %+v, %v", s, err)
		}
		return list
	}
	list := refused()
	for _, want := range []string{
		"column market_data.timestamp is timestamp without time zone, not timestamp with time zone: ALTER TABLE market_data ALTER COLUMN timestamp TYPE",
		"column market_data.symbol is text, not character varying(20), and 1 of its values do not fit",
		"column market_data.symbol must not be NULL, and is in 1 rows",
		"column market_data.open is numeric, not double precision",
		"column market_data.made is not one of the platform's",
		"market_data_volume_key of market_data is unique without column timestamp",
		"column tick_data.volume is bigint, not integer, and 1 of its values do not fit",
		"column tick_data.id must not be NULL, and is in 1 rows",
		`1 values of ("id", "timestamp") are in tick_data more than once`,
		"trades has no column symbol, which must not be NULL",
		"1 rows of trades are against CHECK",
	} {
		if !strings.Contains(list.Error(), want) {
			t.Errorf("the list has no %q:\n%v", want, list)
		}
	}
	if len(list.Problems) != 11 {
		t.Errorf("there are %d problems, not 11:\n%v", len(list.Problems), list)
	}

	exec(t, conn, `
		CREATE VIEW latest AS SELECT max(timestamp) FROM market_data;
		CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER mine BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION f();
		CREATE TABLE notes (trade int REFERENCES trades)`)
	list = refused()
	for _, want := range []string{"view latest reads market_data: DROP VIEW latest, adopt, then CREATE VIEW latest AS SELECT max", "trigger mine of trades would be lost", "of notes refers to trades"} {
		if !strings.Contains(list.Error(), want) {
			t.Errorf("the list has no %q:\n%v", want, list)
		}
	}
}

// TestAnAdoptionIsAllOrNothing has the last migration fail.
func TestAnAdoptionIsAllOrNothing(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE a (i int, extra text); INSERT INTO a VALUES (1, 'x')")
	up, drop := "CREATE TABLE a (i bigint NOT NULL PRIMARY KEY);", "-- loses: a\nDROP TABLE a;"
	bad := NewMigrator(dsn, Options{Files: files(up+"---"+drop, "SELECT 1 / 0; ---")})
	if _, err := bad.Adopt(ctx); err == nil {
		t.Fatal("a division by zero succeeds")
	}
	if got := value(t, conn, "SELECT string_agg(a::text, ' ') || pg_typeof(min(i)) FROM a"); got != "(1,x)integer" {
		t.Errorf("there is %s", got)
	}
	good := NewMigrator(dsn, Options{Files: files(up+"---"+drop, noTransaction+"SELECT 1; ---")})
	if r, err := good.Adopt(ctx); err != nil || r.To != 2 || len(r.Adopted) != 1 || r.Adopted[0].Rows != 1 {
		t.Errorf("adoption gave %+v, %v", r, err)
	}
	if got := value(t, conn, "SELECT string_agg(a::text, ' ') || pg_typeof(min(i)) FROM a"); got != "(1,x)bigint" {
		t.Errorf("there is %s", got)
	}
}
