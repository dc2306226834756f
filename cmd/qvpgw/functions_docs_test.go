package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// TestPageOfFunctions runs the statements and the bad calls of docs/functions.md, on
// both backends, directly and through the gateway.
func TestPageOfFunctions(t *testing.T) {
	t.Run("native", func(t *testing.T) {
		c := pgtest.Native(t)
		dsn := c.Database(t)
		database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
		checkFunctions(t, dsn, func() string {
			_, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
auth: {method: trust}
schema: {migrate: false}
`, c.Port, database, pgtest.Superuser))
			return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgtest.Superuser, addr, database)
		})
	})
	t.Run("embedded", func(t *testing.T) {
		backend := pgtest.OwnEmbedded(t)
		checkFunctions(t, backend.DSN(), func() string {
			return "postgres://postgres@" + serveDemo(t, backend.Addr()) + "/qvp?sslmode=disable"
		})
	})
}

func checkFunctions(t *testing.T, dsn string, through func() string) {
	if _, err := schema.NewMigrator(dsn, schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	direct := connect(t, dsn)
	run(t, direct, `INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
		SELECT t, 'SPY', 1, 2, 0.5, 1.5, 100 FROM unnest(ARRAY[timestamptz '2024-01-02 14:30+00', now() - interval '3 hours']) t;
		INSERT INTO tick_data (timestamp, symbol, price, volume) VALUES ('2024-01-02 14:30:05+00', 'SPY', 1, 2);
		SELECT qvp.insert_portfolio_value(1, 2, 3);
		SELECT qvp.insert_regime('seen', 0.2, 17, -0.4, 4);
		SELECT qvp.insert_embedding(array_fill(0.2::real, ARRAY[128])::vector, 'SPY', 'returns')`)
	want, told := map[string]string{}, badCalls(t)
	for _, c := range told {
		if want[c.sql] = failure(t, direct, c.sql); want[c.sql] != c.fails {
			t.Errorf("docs/functions.md: %s gives\n%s\nnot\n%s", c.sql, want[c.sql], c.fails)
		}
	}
	long := [][]byte{[]byte(strings.Repeat("A", 10_000))}
	const byParameter = "SELECT * FROM qvp.time_bucket_aggregates($1, '1 hour', '2024-01-01')"
	wantLong := told[0].of(direct.ExecParams(t.Context(), byParameter, long, nil, nil, nil).Read().Err)
	_ = direct.Close(t.Context()) // the embedded backend has one session

	client := connect(t, through())
	for _, c := range told {
		if got := failure(t, client, c.sql); got != want[c.sql] {
			t.Errorf("through the gateway %s gives\n%s\nnot\n%s", c.sql, got, want[c.sql])
		}
		if got := c.of(client.ExecParams(t.Context(), c.sql, nil, nil, nil, nil).Read().Err); got != want[c.sql] {
			t.Errorf("through the gateway, by the extended protocol, %s gives\n%s\nnot\n%s", c.sql, got, want[c.sql])
		}
	}
	if got := told[0].of(client.ExecParams(t.Context(), byParameter, long, nil, nil, nil).Read().Err); got != wantLong || !strings.HasPrefix(got, "22001 symbol has 10000") {
		t.Errorf("a parameter of 10000 characters gives %s, directly %s", got, wantLong)
	}
	ran := 0
	for _, b := range readPage(t, filepath.Join(repository, "docs", "functions.md")).blocks("sql") {
		ran += runBlock(t, client, b, "")
	}
	if ran < 14 {
		t.Errorf("only %d statements were found", ran)
	}
	made := run(t, client, `SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' FROM pg_proc p
		WHERE p.pronamespace = 'qvp'::regnamespace AND p.proname NOT IN ('refuse', 'choose_vector_index')`)
	text, err := os.ReadFile(filepath.Join(repository, "docs", "functions.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := plainArguments(string(text))
	for line := range strings.Lines(made) {
		if sign := plainArguments(strings.TrimSpace(line)); !strings.Contains(page, "qvp."+sign) {
			t.Errorf("docs/functions.md has not the function qvp.%s", sign)
		}
	}
}

// plainArguments writes arguments without what is only PostgreSQL's way of writing them.
func plainArguments(s string) string {
	return strings.NewReplacer("NULL::timestamp with time zone", "NULL", "timestamp with time zone", "timestamptz", "::text", "", "::character varying", "", "NULL::integer", "NULL",
		"(0)::double precision", "0", "public.vector", "vector").Replace(s)
}

// badCall is a row of the page's table: what fails, and with which SQLSTATE and message.
type badCall struct{ sql, fails string }

func badCalls(t *testing.T) (calls []badCall) {
	t.Helper()
	page := readPage(t, filepath.Join(repository, "docs", "functions.md"))
	for _, m := range regexp.MustCompile("(?m)^\\| `(qvp\\.[^|`]+(?:\\|\\|[^|`]+)*)` \\| `([0-9A-Z]{5})` \\| (.+) \\|$").FindAllStringSubmatch(page.text, -1) {
		calls = append(calls, badCall{"SELECT * FROM " + m[1], m[2] + " " + m[3]})
	}
	if len(calls) < 35 {
		t.Fatalf("only %d bad calls were understood", len(calls))
	}
	return calls
}

// of is how a failure is written.
func (badCall) of(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return fmt.Sprint("no error of the server: ", err)
	}
	return e.Code + " " + e.Message
}

// failure runs a statement by the simple protocol and gives its error.
func failure(t *testing.T, c *pgconn.PgConn, sql string) string {
	t.Helper()
	_, err := c.Exec(t.Context(), sql).ReadAll()
	return badCall{}.of(err)
}
