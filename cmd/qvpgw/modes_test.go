package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
)

// nativeConfig is a configuration for the native backend without migrations; more
// lines follow it.
func nativeConfig(t *testing.T, c *pgtest.Cluster, more string) string {
	t.Helper()
	return fmt.Sprintf(`
listen: "%%s"
http: ""
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: disable}
auth: {method: trust}
schema: {migrate: false}
%s`, c.Port, pgtest.Superuser, more)
}

// connectTo logs in at a gateway.
func connectTo(t *testing.T, addr, user, database string) *pgconn.PgConn {
	t.Helper()
	return connect(t, "postgres://"+user+"@"+addr+"/"+url.PathEscape(database)+"?sslmode=disable")
}

// first runs simple queries and returns the last result's first value, or the
// error's SQLSTATE.
func first(t *testing.T, c *pgconn.PgConn, sql string) string {
	t.Helper()
	results, err := c.Exec(t.Context(), sql).ReadAll()
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &pe):
		return pe.Code
	case err != nil:
		return err.Error()
	case len(results) == 0 || len(results[len(results)-1].Rows) == 0:
		return ""
	}
	return string(results[len(results)-1].Rows[0][0])
}

// TestEachPoolModeThroughTheProgram has one server connection for each database:
// what the modes differ in is when another client gets it.
func TestEachPoolModeThroughTheProgram(t *testing.T) {
	cluster := pgtest.Native(t)
	name := strings.TrimPrefix(mustParse(t, cluster.Database(t)).Path, "/")
	run(t, connect(t, cluster.DSN(name)), "CREATE ROLE mode_tester LOGIN; GRANT CREATE ON SCHEMA public TO mode_tester")
	t.Cleanup(func() {
		c, err := pgconn.Connect(context.Background(), cluster.DSN(name))
		if err == nil {
			_, _ = c.Exec(context.Background(), "DROP OWNED BY mode_tester; DROP ROLE mode_tester").ReadAll()
			_ = c.Close(context.Background())
		}
	})
	_, addr := startGateway(t, nativeConfig(t, cluster, fmt.Sprintf(`
pool: {size: 1, overflow: 0, query_wait_timeout: 2s}
databases:
  whole: {database: %[1]s, mode: session}
  single: {database: %[1]s, mode: statement}
  shared: {database: %[1]s}
users:
  mode_tester: {mode: statement}
`, name)))

	t.Run("transaction", func(t *testing.T) {
		a, b := connectTo(t, addr, pgtest.Superuser, "shared"), connectTo(t, addr, pgtest.Superuser, "shared")
		if first(t, a, "SELECT pg_backend_pid()") != first(t, b, "SELECT pg_backend_pid()") {
			t.Error("two clients have two server connections")
		}
		run(t, a, "BEGIN")
		if got := first(t, b, "SELECT 1"); got != "53300" {
			t.Errorf("beside an open transaction another client got %q", got)
		}
		run(t, a, "COMMIT")
		if got := first(t, b, "SELECT current_database()"); got != name {
			t.Errorf("after it another client got %q", got)
		}
	})
	t.Run("session", func(t *testing.T) {
		a := connectTo(t, addr, pgtest.Superuser, "whole")
		run(t, a, "SET app.own TO 'a'")
		pid := first(t, a, "SELECT pg_backend_pid()")
		cfg, err := pgconn.ParseConfig("postgres://" + pgtest.Superuser + "@" + addr + "/whole?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		var pe *pgconn.PgError
		if _, err := pgconn.ConnectConfig(t.Context(), cfg); !errors.As(err, &pe) || pe.Code != "53300" {
			t.Errorf("beside a client another got %v", err)
		}
		if got := first(t, a, "SELECT current_setting('app.own')"); got != "a" {
			t.Errorf("the client lost its setting: %q", got)
		}
		_ = a.Close(t.Context())
		b := connectTo(t, addr, pgtest.Superuser, "whole")
		if got := first(t, b, "SELECT current_setting('app.own', true)"); got != "" {
			t.Errorf("after it another client got %q", got)
		}
		if got := first(t, b, "SELECT pg_backend_pid()"); got == pid {
			t.Errorf("two sessions had the server process %s", got)
		}
	})
	t.Run("statement", func(t *testing.T) {
		a, b := connectTo(t, addr, pgtest.Superuser, "single"), connectTo(t, addr, pgtest.Superuser, "single")
		for _, sql := range []string{"BEGIN", "START TRANSACTION READ ONLY", "SELECT 1; BEGIN", "BEGIN; COMMIT AND CHAIN", "BEGIN; ROLLBACK; BEGIN; ROLLBACK AND CHAIN"} {
			if got := first(t, a, sql); got != "0A000" {
				t.Errorf("%s gave %q", sql, got)
			}
		}
		r := a.ExecParams(t.Context(), "BEGIN", nil, nil, nil, nil).Read()
		var pe *pgconn.PgError
		if !errors.As(r.Err, &pe) || pe.Code != "0A000" || pe.Hint == "" {
			t.Errorf("BEGIN in the extended protocol gave %v", r.Err)
		}
		if got := first(t, a, "BEGIN; CREATE TABLE single_made (n int); COMMIT; SELECT 7"); got != "7" {
			t.Errorf("a transaction inside one message gave %q", got)
		}
		if got := first(t, b, "SELECT 8"); got != "8" {
			t.Errorf("another client got %q", got)
		}
		// What the gateway does not look into is found when it has run.
		long := connectTo(t, addr, pgtest.Superuser, "single")
		if got := first(t, long, "BEGIN /*"+strings.Repeat("x", 2<<20)+"*/"); got != "0A000" && got != "" {
			t.Errorf("a long BEGIN gave %q", got)
		}
		if got := first(t, long, "SELECT 1"); got == "1" {
			t.Error("a client goes on after a long BEGIN")
		}
		if got := first(t, b, "SELECT 9"); got != "9" {
			t.Errorf("after a long BEGIN another client got %q", got)
		}
	})
	t.Run("user over database", func(t *testing.T) {
		if got := first(t, connectTo(t, addr, "mode_tester", "whole"), "BEGIN"); got != "0A000" {
			t.Errorf("BEGIN gave %q", got)
		}
	})
	t.Run("not served", func(t *testing.T) {
		_, err := pgconn.Connect(t.Context(), "postgres://"+pgtest.Superuser+"@"+addr+"/template1?sslmode=disable")
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "3D000" || pe.Hint == "" {
			t.Errorf("a database that is not listed gave %v", err)
		}
	})
}

func mustParse(t *testing.T, dsn string) *url.URL {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
