package schema

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
)

// shape describes every column, index and constraint outside the system's
// schemas, and which tables are hypertables.
const shape = `
SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
  SELECT format('%s.%s %s %s', c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) AS line
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
  UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
  UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT 'hypertable ' || table_name FROM _timescaledb_catalog.hypertable WHERE schema_name = 'public') l`

func TestUpThenDownThenUpGivesTheSameSchema(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		m := NewMigrator(dsn, Options{})
		look := func() string {
			conn := connect(t, dsn)
			defer func() { _ = conn.Close(ctx) }()
			return value(t, conn, shape)
		}
		empty := look()
		first, err := m.Up(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if first.From != -1 || first.To != newest || len(first.Steps) != steps {
			t.Errorf("the first run gave %+v", first)
		}
		made := look()
		for _, want := range []string{
			"market_data.timestamp timestamp with time zone t", "market_data.symbol character varying(20) t",
			"market_data.volume bigint f", "tick_data.exchange character varying(10) f", "hypertable portfolio_values",
			"feature_embeddings.embedding vector(128) f", "volatility_regimes.regime_vector vector(64) f",
			"trades CHECK", "hypertable risk_metrics", "risk_metrics.cvar_95 double precision f", "strategies.parameters jsonb t",
			"positions PRIMARY KEY (strategy, symbol)", "USING hnsw (embedding vector_cosine_ops)",
		} {
			if !strings.Contains(made, want) {
				t.Errorf("the schema has no %q:\n%s", want, made)
			}
		}
		if again, err := m.Up(ctx); err != nil || len(again.Steps) != 0 || again.From != newest || again.To != newest {
			t.Errorf("a second up gave %+v, %v", again, err)
		}
		down, err := m.Down(ctx, steps)
		if err != nil || down.To != -1 || len(down.Steps) != steps || down.Steps[0].Version != newest {
			t.Fatalf("down gave %+v, %v", down, err)
		}
		if got := look(); got != empty {
			t.Errorf("after down there is\n%s\nbefore up there was\n%s", got, empty)
		}
		if _, err := m.Goto(ctx, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Up(ctx); err != nil {
			t.Fatal(err)
		}
		if got := look(); got != made {
			t.Errorf("the second up made\n%s\nthe first made\n%s", got, made)
		}
	})
}

func TestTheEditionDecidesWhetherAggregatesAreMade(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		var heard []string
		r, err := NewMigrator(dsn, Options{Log: func(s string) { heard = append(heard, s) }}).Up(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		s := load(t, connect(t, dsn))
		if s.Community {
			if len(s.Aggregates) != 8 || len(r.Notices) != 0 {
				t.Errorf("%d aggregates and notices %q", len(s.Aggregates), r.Notices)
			}
			return
		}
		if len(s.Aggregates) != 0 || len(r.Notices) != 3 || !strings.Contains(r.Notices[0], "Community edition") || len(heard) != 3 {
			t.Errorf("%d aggregates, notices %q, heard %q", len(s.Aggregates), r.Notices, heard)
		}
		if !strings.Contains(r.Text(), "Community edition") {
			t.Errorf("the text keeps the notice back: %s", r.Text())
		}
	})
}

func TestOneMigratesWhileOthersWait(t *testing.T) {
	dsn := pgtest.Database(t)
	const gateways = 10
	var wg sync.WaitGroup
	results := make([]Result, gateways)
	errs := make([]error, gateways)
	for i := range gateways {
		wg.Go(func() { results[i], errs[i] = NewMigrator(dsn, Options{}).Up(context.Background()) })
	}
	wg.Wait()
	migrated := 0
	for i, r := range results {
		if errs[i] != nil {
			t.Errorf("gateway %d: %v", i, errs[i])
		}
		if r.To != newest {
			t.Errorf("gateway %d is at %d", i, r.To)
		}
		if len(r.Steps) > 0 {
			migrated++
		}
	}
	if migrated != 1 {
		t.Errorf("%d gateways migrated", migrated)
	}
}

func TestARoleWithoutPrivilegesFindsTheSchemaCurrent(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	if err := Migrate(ctx, dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, `CREATE ROLE plain_migrator LOGIN PASSWORD 'x'`)
	defer exec(t, conn, `DROP ROLE plain_migrator`)
	config := conn.Config()
	plain := fmt.Sprintf("host=%s port=%d dbname=%s user=plain_migrator password=x sslmode=disable", config.Host, config.Port, config.Database)
	if err := Migrate(ctx, plain, Options{}); err != nil {
		t.Error(err)
	}
	if s, err := NewMigrator(plain, Options{}).Status(ctx); err != nil || !s.Current() {
		t.Errorf("status is %+v, %v", s, err)
	}
}

// files makes a directory of migrations; pairs of title and up text.
func files(texts ...string) fstest.MapFS {
	dir := fstest.MapFS{}
	for i, text := range texts {
		name := fmt.Sprintf("%06d_step.", i+1)
		up, down, _ := strings.Cut(text, "---")
		dir[name+"up.sql"] = &fstest.MapFile{Data: []byte(up)}
		dir[name+"down.sql"] = &fstest.MapFile{Data: []byte(down)}
	}
	return dir
}

func TestAFailedMigrationLeavesNothingAndSaysWhere(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	good := "CREATE TABLE a (i int); --- DROP TABLE a;"
	cases := []struct{ name, text, file, statement, message string }{
		{"by position", "CREATE TABLE b (i int);\n-- why\nCREATE TABLE c (i nosuchtype);", "line 3, column 19", `"CREATE TABLE c (i nosuchtype)"`, "nosuchtype"},
		{"by count", "CREATE TABLE b (i int);\n\nSELECT 'x;y'; SELECT 1 / (SELECT 0);", "line 3", `"SELECT 1 / (SELECT 0)"`, "division by zero"},
		{"in a block", "DO $x$ BEGIN\n RAISE 'own; trouble' USING HINT = 'do that'; END $x$;", "line 1", `"DO $x$ BEGIN`, "hint: do that"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := NewMigrator(dsn, Options{Files: files(good, c.text)})
			r, err := m.Up(ctx)
			failed, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
				t.Errorf("the server's error is not within %v", err)
			}
			for _, want := range []string{"000002_step.up.sql", c.file, c.statement, c.message, "nothing of this file was kept"} {
				if !strings.Contains(failed.Error(), want) {
					t.Errorf("error %q does not say %q", failed, want)
				}
			}
			if r.To != 1 {
				t.Errorf("the result says version %d", r.To)
			}
			s, err := m.Status(ctx)
			if err != nil || s.Dirty || s.Version != 1 || s.Files[1].State != Pending || s.Files[0].At.IsZero() {
				t.Errorf("status is %+v, %v", s, err)
			}
			conn := connect(t, dsn)
			if value(t, conn, "SELECT to_regclass('b') IS NULL AND to_regclass('a') IS NOT NULL") != "t" {
				t.Error("half of the migration is there")
			}
			mended := NewMigrator(dsn, Options{Files: files(good, "CREATE TABLE b (i int); --- DROP TABLE b;")})
			if r, err := mended.Up(ctx); err != nil || r.To != 2 {
				t.Errorf("after mending: %+v, %v", r, err)
			}
			if _, err := mended.Goto(ctx, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADirtyMarkIsSettledByTheLog(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	m := NewMigrator(dsn, Options{Files: files(
		"CREATE TABLE a (i int); --- DROP TABLE a;", "CREATE TABLE b (i int); --- DROP TABLE b;", "CREATE TABLE c (i int); --- DROP TABLE c;")})
	if _, err := m.Goto(ctx, 2); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	mark := func(version int) {
		t.Helper()
		exec(t, conn, fmt.Sprintf("UPDATE qvpgw.schema_migrations SET version = %d, dirty = true", version))
	}

	mark(3) // killed before its transaction ended
	s, err := m.Status(ctx)
	if err != nil || !s.Dirty || s.Files[2].State != Dirty || !strings.Contains(s.Advice, "goes on from version 2") {
		t.Errorf("status is %+v, %v", s, err)
	}
	if r, err := m.Up(ctx); err != nil || r.From != 2 || r.To != 3 || len(r.Steps) != 1 || r.Mended == "" {
		t.Errorf("up gave %+v, %v", r, err)
	}

	mark(3) // killed after its transaction, before the mark was taken away
	if r, err := m.Up(ctx); err != nil || r.From != 3 || len(r.Steps) != 0 || r.Mended == "" {
		t.Errorf("up gave %+v, %v", r, err)
	}

	mark(1) // by somebody else: the log knows nothing of it
	if _, err := m.Up(ctx); !errors.Is(err, ErrDirty) || !strings.Contains(err.Error(), "migrate force") {
		t.Errorf("up gave %v", err)
	}
	if s, err := m.Status(ctx); err != nil || !strings.Contains(s.Advice, "migrate force") {
		t.Errorf("status is %+v, %v", s, err)
	}
	if r, err := m.Force(ctx, 3); err != nil || r.To != 3 {
		t.Errorf("force gave %+v, %v", r, err)
	}
	if s, err := m.Status(ctx); err != nil || !s.Current() || s.Advice != "" {
		t.Errorf("status is %+v, %v", s, err)
	}
}

func TestAKilledMigrationIsFinishedByTheNextRun(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	slow := files("CREATE TABLE a (i int); SELECT pg_sleep(30); --- DROP TABLE a;")
	done := make(chan error, 1)
	go func() { done <- Migrate(ctx, dsn, Options{Files: slow}) }()
	conn := connect(t, dsn)
	for value(t, conn, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep(30)%'`) == "0" {
	}
	if err := <-done; err == nil {
		t.Fatal("a killed migration succeeded")
	}
	m := NewMigrator(dsn, Options{Files: files("CREATE TABLE a (i int); --- DROP TABLE a;")})
	if s, err := m.Status(ctx); err != nil || !s.Dirty {
		t.Errorf("status is %+v, %v", s, err)
	}
	if r, err := m.Up(ctx); err != nil || r.From != -1 || r.To != 1 {
		t.Errorf("up gave %+v, %v", r, err)
	}
}

func TestACancelledMigrationLeavesNothing(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx, cancel := context.WithCancel(context.Background())
	slow := Options{Files: files("CREATE TABLE a (i int); SELECT pg_sleep(30); --- DROP TABLE a;")}
	done := make(chan error, 1)
	go func() { done <- Migrate(ctx, dsn, slow) }()
	conn := connect(t, dsn)
	for value(t, conn, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep(30)%'`) == "0" {
	}
	cancel()
	if err := <-done; err == nil {
		t.Fatal("a cancelled migration succeeded")
	}
	if s, err := NewMigrator(dsn, slow).Status(context.Background()); err != nil || s.Version != -1 || s.Dirty {
		t.Errorf("status is %+v, %v", s, err)
	}
}

func TestGoingDownOverRowsWantsAYes(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	m := NewMigrator(dsn, Options{})
	if _, err := m.Up(ctx); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol) VALUES ('2024-01-02', 'SPX'), ('2024-01-03', 'SPX')")
	_, err := m.Goto(ctx, 0)
	if err == nil || !strings.Contains(err.Error(), "market_data (2 rows)") || !strings.Contains(err.Error(), "--yes") {
		t.Fatalf("got %v", err)
	}
	if v, dirty, err := m.Version(ctx); v != newest || dirty || err != nil {
		t.Errorf("version %d, dirty %t, %v", v, dirty, err)
	}
	if _, err := m.Goto(ctx, 3); err != nil {
		t.Errorf("empty tables want no yes: %v", err)
	}
	if r, err := NewMigrator(dsn, Options{Yes: true}).Goto(ctx, 0); err != nil || r.To != -1 {
		t.Errorf("with yes: %+v, %v", r, err)
	}
}

func TestBadCommandsAreRefusedWithAReason(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	m := NewMigrator(dsn, Options{})
	for name, c := range map[string]struct {
		do   func() (Result, error)
		want string
	}{
		"down zero":          {func() (Result, error) { return m.Down(ctx, 0) }, "from 1 on"},
		"down too far":       {func() (Result, error) { return m.Down(ctx, newest+1) }, "are applied"},
		"goto nowhere":       {func() (Result, error) { return m.Goto(ctx, 77) }, "no such migration"},
		"force nowhere":      {func() (Result, error) { return m.Force(ctx, 77) }, "no such migration"},
		"a dead address":     {func() (Result, error) { return NewMigrator("host=127.0.0.1 port=1", Options{}).Up(ctx) }, "cannot connect"},
		"no address":         {func() (Result, error) { return NewMigrator("nonsense", Options{}).Up(ctx) }, "cannot read the database's address"},
		"a newer database":   {func() (Result, error) { return newer(ctx, dsn) }, "newer than this program"},
		"a file without way": {func() (Result, error) { return NewMigrator(dsn, Options{Files: oneWay}).Up(ctx) }, "has no way back"},
	} {
		if _, err := c.do(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gave %v", name, err)
		}
	}
}

var oneWay = fstest.MapFS{"000001_x.up.sql": &fstest.MapFile{Data: []byte("SELECT 1")}}

// newer forces a version that a smaller set of files does not know.
func newer(ctx context.Context, dsn string) (Result, error) {
	if _, err := NewMigrator(dsn, Options{}).Force(ctx, newest); err != nil {
		return Result{}, err
	}
	return NewMigrator(dsn, Options{Files: files("SELECT 1; ---")}).Up(ctx)
}

func TestCreateWritesTheNextPairAndOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	up, down, err := Create(dir, "Add risk metrics!")
	if err != nil || filepath.Base(up) != "000001_add_risk_metrics.up.sql" || filepath.Base(down) != "000001_add_risk_metrics.down.sql" {
		t.Fatalf("got %s, %s, %v", up, down, err)
	}
	if up, _, err = Create(dir, "more"); err != nil || filepath.Base(up) != "000002_more.up.sql" {
		t.Errorf("got %s, %v", up, err)
	}
	if _, _, err := Create(dir, "  ?? "); err == nil {
		t.Error("a title without letters is taken")
	}
	if err := os.WriteFile(filepath.Join(dir, "000003_x.down.sql"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Create(dir, "x"); err == nil {
		t.Error("a file was overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "000003_x.up.sql")); !os.IsNotExist(err) {
		t.Errorf("half a pair is left: %v", err)
	}
}

func TestStatementsEndAtTopLevelSemicolons(t *testing.T) {
	text := "-- a; b\nSELECT ';' ; /* ; /* ; */ ; */ SELECT E'\\';' , \"x;\"; ;DO $a$ ; $b$ ; $a$;\nSELECT $1; SELECT 1 "
	want := []string{"SELECT ';' ", `SELECT E'\';' , "x;"`, "DO $a$ ; $b$ ; $a$", "SELECT $1", "SELECT 1"}
	spans := statements(text)
	if len(spans) != len(want) {
		t.Fatalf("got %d statements: %v", len(spans), spans)
	}
	for i, s := range spans {
		if got := text[s.start:s.end]; got != want[i] {
			t.Errorf("statement %d is %q, not %q", i, got, want[i])
		}
	}
	for _, open := range []string{"'x", `"x`, "$$ x", "/* x", "--", "$", "e'\\"} {
		statements("SELECT " + open)
	}
}
