package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/embedded"
	"qvpgw/internal/pgtest"
)

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// once runs a statement in a session of its own.
func once[T any](t *testing.T, sql string) T {
	t.Helper()
	conn := connect(t, pgtest.Embedded(t).DSN())
	defer conn.Close(t.Context())
	return value[T](t, conn, sql)
}

// table makes a table for the test and drops it at the end.
func table(t *testing.T, columns string) string {
	t.Helper()
	dsn := pgtest.Embedded(t).DSN()
	name := "t_" + strings.ToLower(strings.NewReplacer("/", "_", " ", "_").Replace(t.Name()))[:min(40, len(t.Name()))]
	run := func(ctx context.Context, sql string) {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			_, err = conn.Exec(ctx, sql)
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	run(t.Context(), fmt.Sprintf("CREATE TABLE %s (%s)", name, columns))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		run(ctx, "DROP TABLE "+name+" CASCADE")
	})
	return name
}

func TestItIsTimescaleCommunityWithPgvector(t *testing.T) {
	have := once[string](t, "SELECT string_agg(extname || ' ' || extversion, ', ' ORDER BY extname) FROM pg_extension")
	if have != "plpgsql 1.0, timescaledb 2.23.0-dev, vector 0.8.0" {
		t.Errorf("extensions: %s", have)
	}
	if have := once[string](t, "SELECT version()"); !strings.HasPrefix(have, "PostgreSQL 17.5 ") {
		t.Errorf("version %s", have)
	}
	if have := once[float64](t, "SELECT '[0,3]'::vector <-> '[4,0]'"); have != 5 {
		t.Errorf("distance %v", have)
	}
}

func TestASplitStartupWithEncryptionRequestsIsAnswered(t *testing.T) {
	s := pgtest.MustScript(t, "> SSLRequest\n< raw 4e\n> GSSEncRequest\n< raw 4e\nstartup user=u database=d\n> Query \"select 1\"\n< ... ReadyForQuery I\n> Terminate\n< close")
	s.Segment = 1
	s.Run(t, pgtest.Embedded(t).Addr())
}

func TestBadStartupsAndLengthsAreRefused(t *testing.T) {
	addr := pgtest.Embedded(t).Addr()
	for name, script := range map[string]string{
		"a giant startup":           "> raw 7fffffff 00030000\n< close",
		"a startup of no length":    "> raw 00000000 00030000\n< close",
		"protocol 2":                "> raw 00000008 00020000\n< ErrorResponse FATAL 0A000\n< close",
		"an unknown parameter":      "> StartupMessage user=u nonsense=1\n< ErrorResponse * 42704\n< close",
		"a giant message":           "startup\n> raw 51 7fffffff\n< ErrorResponse FATAL 08P01\n< close",
		"a negative length":         "startup\n> raw 51 ffffffff\n< ErrorResponse FATAL 08P01\n< close",
		"an unknown message":        "startup\n> raw 59 00000004\n< ErrorResponse FATAL 08P01\n< close",
		"a query amid COPY":         "startup\n> Query \"copy pg_am from stdin\"\n< CopyInResponse\n> Query 1\n< ErrorResponse FATAL 08P01\n< close",
		"half a message, then gone": "startup\n> raw 51 000000ff 73\n> close",
		"half a startup, then gone": "> raw 000000ff 0003\n> close",
		"a newer protocol":          "> raw 00000010 00030002 757365720075 00 00\n< raw 76 0000000c 00030000 00000000\n< ... ReadyForQuery I\n> close",
	} {
		t.Run(name, func(t *testing.T) {
			pgtest.MustScript(t, script).Run(t, addr)
		})
	}
	if once[int](t, "SELECT 1") != 1 {
		t.Error("the next client is not served")
	}
}

func TestStartupParametersAndOptionsAreTheSessionsDefaults(t *testing.T) {
	conn := connect(t, pgtest.Embedded(t).DSN()+"&application_name=it's&search_path=a,public&options=-c%20work_mem%3D8MB%20--geqo%3Doff")
	defer conn.Close(t.Context())
	for _, sql := range []string{"SELECT 1", "RESET ALL", "DISCARD ALL", "SET search_path TO DEFAULT"} {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		have := value[string](t, conn, "SELECT concat_ws(' | ', current_setting('application_name'), current_setting('search_path'), current_setting('work_mem'), current_setting('geqo'))", pgx.QueryExecModeSimpleProtocol)
		if have != "it's | a,public | 8MB | off" {
			t.Errorf("after %s: %s", sql, have)
		}
	}
}

func TestANewClientFindsNothingOfTheOneBefore(t *testing.T) {
	name := table(t, "a int")
	dsn := pgtest.Embedded(t).DSN()
	first, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"SET search_path TO pg_catalog", "SET enable_seqscan TO off", "SET timezone TO 'Asia/Tokyo'",
		"CREATE TEMP TABLE left_over(a int)", "PREPARE left_over AS SELECT 1", "SELECT pg_advisory_lock(1)", "LISTEN left_over",
		"SET SESSION AUTHORIZATION pg_monitor", "BEGIN",
	} {
		exec(t, first, sql)
	}
	first.PgConn().Conn().Close() // a hang-up, no Terminate
	second := connect(t, dsn)
	exec(t, second, "INSERT INTO "+name+" VALUES (1)") // in the path again, and not in a transaction
	have := value[string](t, second, `SELECT concat_ws(' ', current_setting('search_path'), current_setting('enable_seqscan'), current_setting('timezone'), session_user,
		(SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_over'), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.left_over') IS NULL)`)
	if have != "public on UTC postgres 0 0 0 t" {
		t.Errorf("the second client finds %s", have)
	}
}

func TestAHangUpInATransactionRollsItBack(t *testing.T) {
	name := table(t, "a int")
	first := connect(t, pgtest.Embedded(t).DSN())
	exec(t, first, "BEGIN")
	exec(t, first, "INSERT INTO "+name+" VALUES (1)")
	first.PgConn().Conn().Close()
	if n := once[int](t, "SELECT count(*) FROM "+name); n != 0 {
		t.Errorf("%d rows of a transaction that nobody committed", n)
	}
}

func TestClientsWaitForTheirTurnInOrder(t *testing.T) {
	first := connect(t, pgtest.Embedded(t).DSN())
	var order []int
	got := make(chan int)
	for i := range 3 {
		go func() {
			conn, err := pgx.Connect(t.Context(), pgtest.Embedded(t).DSN())
			if err == nil {
				err = conn.Close(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
			got <- i
		}()
		time.Sleep(100 * time.Millisecond) // the next one knocks later
	}
	select {
	case i := <-got:
		t.Errorf("client %d was served beside the first", i)
	default:
	}
	first.Close(t.Context())
	for range 3 {
		order = append(order, <-got)
	}
	if fmt.Sprint(order) != "[0 1 2]" {
		t.Errorf("served in the order %v", order)
	}
}

func TestCopyMovesRowsBothWaysInTextAndBinary(t *testing.T) {
	name := table(t, "a int, b text, c float8")
	conn := connect(t, pgtest.Embedded(t).DSN())
	defer conn.Close(t.Context())
	const rows = 20000
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{name}, []string{"a", "b", "c"}, pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
		return []any{i, fmt.Sprint("row ", i), float64(i) / 2}, nil
	}))
	if err != nil || n != rows {
		t.Fatalf("copied %d rows, %v", n, err)
	}
	var out bytes.Buffer
	if _, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY "+name+" TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(out.Bytes(), []byte("\n")); lines != rows {
		t.Errorf("%d lines came out", lines)
	}
	if _, err := conn.PgConn().CopyFrom(t.Context(), &out, "COPY "+name+" FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	if have := value[int64](t, conn, "SELECT sum(a) FROM "+name); have != rows*(rows-1) {
		t.Errorf("sum %d, want %d", have, rows*(rows-1))
	}
	_, err = conn.PgConn().CopyFrom(t.Context(), strings.NewReader("1\tx\t2\n2\ty\tnot a number\n"), "COPY "+name+" FROM STDIN")
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "22P02" {
		t.Errorf("bad data gave %v", err)
	}
	if value[int](t, conn, "SELECT 1") != 1 {
		t.Error("the connection is of no use after a failed COPY")
	}
}

func TestLargeMessagesPassWhole(t *testing.T) {
	conn := connect(t, pgtest.Embedded(t).DSN())
	defer conn.Close(t.Context())
	const size = 8 << 20
	text := strings.Repeat("x", size)
	if have := value[int](t, conn, "SELECT length($1::text)", text); have != size {
		t.Errorf("length %d arrived", have)
	}
	if have := value[string](t, conn, "SELECT repeat('x', $1)", size); have != text {
		t.Errorf("%d bytes came back", len(have))
	}
}

func TestACancelEndsTheStatementAndSparesTheOthers(t *testing.T) {
	name := table(t, "a int")
	conn := connect(t, pgtest.Embedded(t).DSN())
	exec(t, conn, "INSERT INTO "+name+" SELECT generate_series(1, 100)")
	exec(t, conn, "BEGIN")
	exec(t, conn, "INSERT INTO "+name+" VALUES (-1)")
	waits := make(chan error, 1)
	go func() { // waits for its turn while the engine is ended
		other, err := pgx.Connect(t.Context(), pgtest.Embedded(t).DSN())
		if err == nil {
			var n int
			if err = other.QueryRow(t.Context(), "SELECT count(*) FROM "+name+" WHERE a > 0").Scan(&n); err == nil && n != 100 {
				err = fmt.Errorf("%d committed rows, want 100", n)
			}
			err = errors.Join(err, other.Close(t.Context()))
		}
		waits <- err
	}()
	for _, sql := range []string{"SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 1000000000)"} {
		var asked time.Time
		time.AfterFunc(300*time.Millisecond, func() {
			asked = time.Now()
			if err := conn.PgConn().CancelRequest(context.Background()); err != nil {
				t.Error(err)
			}
		})
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "57014" || pgErr.Severity != "ERROR" || pgErr.Message != "canceling statement due to user request" {
			t.Fatalf("%s gave %v", sql, err)
		}
		if took := time.Since(asked); took > time.Second {
			t.Errorf("the answer to a cancel took %v", took)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("the connection of a cancelled statement stayed open")
		}
		if waits != nil {
			if err := <-waits; err != nil {
				t.Error(err)
			}
			waits = nil
		}
		conn = connect(t, pgtest.Embedded(t).DSN())
	}
	if n := value[int](t, conn, "SELECT count(*) FROM "+name); n != 100 {
		t.Errorf("%d rows, want the 100 committed ones", n)
	}
	conn.Close(t.Context())
}

func TestACancelOfNothingDoesNothing(t *testing.T) {
	conn := connect(t, pgtest.Embedded(t).DSN())
	defer conn.Close(t.Context())
	exec(t, conn, "CREATE TEMP TABLE kept(a int)")
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil { // idle
		t.Fatal(err)
	}
	pid := conn.PgConn().PID()
	if pid == 0 {
		t.Error("the process id is 0")
	}
	time.AfterFunc(100*time.Millisecond, func() { // a wrong key
		pgtest.MustScript(t, fmt.Sprintf("> CancelRequest %d 1\n< close", pid)).Run(t, pgtest.Embedded(t).Addr())
	})
	exec(t, conn, "SELECT pg_sleep(0.5)")
	if n := value[int](t, conn, "SELECT count(*) FROM kept"); n != 0 {
		t.Errorf("%d rows in an empty table", n)
	}
}

func TestACrashOfTheEngineEndsItsClientAlone(t *testing.T) {
	name := table(t, "a int")
	addr := pgtest.Embedded(t).Addr()
	// A COPY behind a comment in a comment is not recognised, and the engine
	// traps when it asks for data that are not there.
	pgtest.MustScript(t, fmt.Sprintf(`
startup
> Query "insert into %[1]s values (1)"
< ... ReadyForQuery I
> Query "begin; insert into %[1]s values (2)"
< ... ReadyForQuery T
> Query "/* /* */ */ copy %[1]s from stdin"
< ErrorResponse FATAL 57P02
< close
`, name)).Run(t, addr)
	if n := once[int](t, "SELECT sum(a) FROM "+name); n != 1 {
		t.Errorf("sum %d, want that of the committed row", n)
	}
}

func TestAHypertableIsWholeToTheFirstStatementAfterARestart(t *testing.T) {
	name := table(t, "ts timestamptz NOT NULL, v float8")
	conn := connect(t, pgtest.Embedded(t).DSN())
	exec(t, conn, "SELECT create_hypertable('"+name+"', 'ts')")
	exec(t, conn, "INSERT INTO "+name+" SELECT '2024-01-01'::timestamptz + g * interval '1 day', g FROM generate_series(0, 99) g")
	time.AfterFunc(200*time.Millisecond, func() { _ = conn.PgConn().CancelRequest(context.Background()) })
	if _, err := conn.PgConn().Exec(t.Context(), "SELECT pg_sleep(60)").ReadAll(); err == nil {
		t.Fatal("no cancel")
	}
	if n := once[int](t, "SELECT count(*) FROM "+name); n != 100 {
		t.Errorf("%d rows, want 100", n)
	}
}

func TestContinuousAggregatesCompressionAndPoliciesWork(t *testing.T) {
	name := table(t, "ts timestamptz NOT NULL, s text, v float8")
	conn := connect(t, pgtest.Embedded(t).DSN())
	defer conn.Close(t.Context())
	for _, sql := range []string{
		"SELECT create_hypertable('%[1]s', 'ts')",
		"INSERT INTO %[1]s SELECT '2024-01-01'::timestamptz + g * interval '1 minute', 'A', g FROM generate_series(0, 2879) g",
		"CREATE MATERIALIZED VIEW %[1]s_1h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', ts) AS bucket, s, sum(v) AS v, first(v, ts) AS o FROM %[1]s GROUP BY 1, 2 WITH NO DATA",
		"CALL refresh_continuous_aggregate('%[1]s_1h', NULL, NULL)",
		"ALTER TABLE %[1]s SET (timescaledb.compress, timescaledb.compress_segmentby = 's')",
		"SELECT compress_chunk(c) FROM show_chunks('%[1]s') c",
		"SELECT add_retention_policy('%[1]s', interval '100 years')",
	} {
		exec(t, conn, fmt.Sprintf(sql, name))
	}
	if n := value[int](t, conn, "SELECT count(*) FROM "+name+"_1h"); n != 48 {
		t.Errorf("%d buckets, want 48", n)
	}
	job := value[int](t, conn, "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'")
	exec(t, conn, fmt.Sprint("CALL run_job(", job, ")"))
	if n := value[int](t, conn, "SELECT count(*) FROM "+name); n != 2880 {
		t.Errorf("%d rows, want 2880", n)
	}
}

func cacheDir(t *testing.T) string {
	t.Helper()
	pgtest.Embedded(t) // installed by now
	cache, err := pgtest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "embedded")
}

func TestADataDirectoryOutlivesItsServerAndHasOneAtATime(t *testing.T) {
	o := embedded.Options{Dir: cacheDir(t), Data: filepath.Join(t.TempDir(), "data"), Log: t.Output()}
	first, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, first.DSN())
	exec(t, conn, "CREATE TABLE kept AS SELECT 42 AS a")
	if _, err := embedded.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "cannot use the data directory") {
		t.Errorf("a second server on the same data gave %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	start := time.Now()
	second, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started from a data directory in %v", time.Since(start))
	conn = connect(t, second.DSN())
	if n := value[int](t, conn, "SELECT a FROM kept"); n != 42 {
		t.Errorf("found %d, want 42", n)
	}
	killed, err := os.FindProcess(second.PID())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "INSERT INTO kept VALUES (43)")
	if err := killed.Kill(); err != nil {
		t.Fatal(err)
	}
	<-second.Done()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	third, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, connect(t, third.DSN()), "SELECT sum(a) FROM kept"); n != 85 {
		t.Errorf("sum %d after a kill, want 85", n)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}

func TestAFolderThatHoldsSomethingElseIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: cacheDir(t), Data: dir}); err == nil || !strings.Contains(err.Error(), "neither empty nor a data directory") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "letter")); err != nil {
		t.Error(err)
	}
}

func TestAPortInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = embedded.Start(t.Context(), embedded.Options{Dir: cacheDir(t), Port: l.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "EADDRINUSE") {
		t.Errorf("got %v", err)
	}
}

func TestAMissingOrOldNodeIsSaid(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	err := embedded.Install(t.Context(), t.TempDir(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "it needs Node.js 20 or newer, and no node is in PATH") {
		t.Errorf("without node: %v", err)
	}
	write := func(name, script string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("node", "echo v18.19.0")
	err = embedded.Install(t.Context(), t.TempDir(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "is v18.19.0") {
		t.Errorf("with an old node: %v", err)
	}
	write("node", "echo v22.1.0")
	err = embedded.Install(t.Context(), t.TempDir(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "npm, which comes with Node.js, is not in PATH") {
		t.Errorf("without npm: %v", err)
	}
	write("npm", "echo no network >&2; exit 1")
	err = embedded.Install(t.Context(), t.TempDir(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("with a failing npm: %v", err)
	}
}

func TestAFileOfAPackageIsFound(t *testing.T) {
	path, err := embedded.File(cacheDir(t), "vega-datasets/data/sp500-2000.csv")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || bytes.Count(content, []byte("\n")) < 5104 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if _, err := embedded.File(cacheDir(t), "vega-datasets/data/nothing.csv"); err == nil {
		t.Error("a file that is not there was found")
	}
}
