package pgtest

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestADatabaseHasBothExtensionsAndNothingElse(t *testing.T) {
	conn := connect(t, Database(t))
	have := value[string](t, conn, "SELECT string_agg(extname || ' ' || extversion, ', ' ORDER BY extname) FROM pg_extension")
	if have != "plpgsql 1.0, timescaledb 2.19.3, vector 0.8.0" {
		t.Errorf("extensions: %s", have)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE m(ts timestamptz NOT NULL, v vector(3)); SELECT create_hypertable('m', 'ts'); INSERT INTO m VALUES (now(), '[1,2,3]')"); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, conn, "SELECT count(*) FROM timescaledb_information.chunks"); n != 1 {
		t.Errorf("%d chunks, want 1", n)
	}
	other := connect(t, Database(t))
	if n := value[int](t, other, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != 0 {
		t.Errorf("a fresh database has %d tables of another test", n)
	}
}

func TestOptionsMakeAClusterOfItsOwn(t *testing.T) {
	c := Native(t, MaxConnections(7), Fsync(), Setting("timescaledb.max_background_workers", "3"), HBA("host all plain 127.0.0.1/32 reject"))
	if c == Native(t) {
		t.Fatal("got the shared cluster")
	}
	conn := connect(t, c.DSN("postgres"))
	for name, want := range map[string]string{"max_connections": "7", "fsync": "on", "timescaledb.max_background_workers": "3", "timescaledb.telemetry_level": "off"} {
		if have := value[string](t, conn, "SELECT current_setting($1)", name); have != want {
			t.Errorf("%s = %s, want %s", name, have, want)
		}
	}
	if _, err := pgx.Connect(t.Context(), c.UserDSN(PlainUser, "", "postgres")); err == nil || !strings.Contains(err.Error(), "rejects connection") {
		t.Errorf("the rejected role got %v", err)
	}
}

func TestTheScramRoleNeedsItsPassword(t *testing.T) {
	c := Native(t)
	connect(t, c.UserDSN(ScramUser, ScramPassword, "postgres"))
	if _, err := pgx.Connect(t.Context(), c.UserDSN(ScramUser, "wrong", "postgres")); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password got %v", err)
	}
}

func TestACrashedClusterComesBackWithWhatWasCommitted(t *testing.T) {
	c := Native(t, Fsync())
	dsn := c.Database(t)
	conn := connect(t, dsn)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE t AS SELECT 1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("the connection outlived the crash")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, connect(t, dsn), "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestTheRootsProgramsRun(t *testing.T) {
	c := Native(t)
	dsn := c.Database(t)
	here, inside := c.TempDir(t)
	if err := os.WriteFile(here+"/in.sql", []byte("CREATE TABLE greeting AS SELECT 'hello' AS word;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Psql(t, dsn, "-f", inside+"/in.sql")
	if have := c.Psql(t, dsn, "-c", "SELECT word FROM greeting"); have != "hello\n" {
		t.Errorf("psql printed %q", have)
	}
	if dump := c.PgDump(t, dsn, "-t", "greeting"); !strings.Contains(dump, "COPY public.greeting (word) FROM stdin;\nhello\n") {
		t.Errorf("pg_dump printed %s", dump)
	}
	if err := os.WriteFile(here+"/one.sql", []byte("SELECT 1;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := c.Pgbench(t, dsn, "-n", "-t", "10", "-f", inside+"/one.sql"); !strings.Contains(out, "number of transactions actually processed: 10/10") {
		t.Errorf("pgbench printed %s", out)
	}
}

func TestPgBouncerPoolsTheCluster(t *testing.T) {
	c := Native(t)
	b := c.PgBouncer(t, "[databases]\n* = host=127.0.0.1 port="+c.Addr()[len("127.0.0.1:"):]+"\n[pgbouncer]\npool_mode = transaction\nmax_prepared_statements = 100\n")
	conn := connect(t, b.DSN("postgres"))
	if n := value[int](t, conn, "SELECT $1::int + 1", 41); n != 42 {
		t.Errorf("got %d through pgbouncer", n)
	}
	before, err := CPUTime(b.PID())
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		value[int](t, conn, "SELECT 1")
	}
	after, err := CPUTime(b.PID())
	if err != nil || after <= before {
		t.Errorf("processor time went from %v to %v, %v", before, after, err)
	}
	if out := c.Psql(t, b.DSN("pgbouncer"), "-c", "SHOW VERSION"); !strings.HasPrefix(out, "PgBouncer 1.24") {
		t.Errorf("the console said %q", out)
	}
}
