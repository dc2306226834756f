package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/handoff"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// TestStatementsOfTheReadmeRun runs README's blocks of SQL through the gateway as
// the demo configures it. A comment behind a SHOW is what it must give; what stands
// behind sql in the fence says how the block ends (fails=SQLSTATE) or what its $1
// is.
func TestStatementsOfTheReadmeRun(t *testing.T) {
	backend := pgtest.OwnEmbedded(t)
	if _, err := schema.NewMigrator(backend.DSN(), schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	direct := connect(t, backend.DSN())
	for _, sql := range []string{
		`INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
		 SELECT t, 'SPY', 1, 2 + extract(minute FROM t), 0.5, 1.5, 100
		 FROM generate_series(timestamptz '2020-02-24 00:00:00+00', '2020-03-31 00:00:00+00', interval '20 minutes') t`,
		`INSERT INTO feature_embeddings (timestamp, symbol, feature_type, embedding)
		 SELECT timestamptz '2020-03-02 00:00:00+00' + i * interval '1 day', 'SPX', 'returns', array_fill(i::real / 50, ARRAY[128])::vector
		 FROM generate_series(1, 30) i`,
		`CALL refresh_continuous_aggregate('market_data_1h', NULL, NULL)`,
		`CALL refresh_continuous_aggregate('market_data_1d', NULL, NULL)`,
		`CALL refresh_continuous_aggregate('market_data_1w', NULL, NULL)`,
	} {
		run(t, direct, sql)
	}
	if err := schema.Settle(t.Context(), direct); err != nil {
		t.Fatal(err)
	}
	_ = direct.Close(t.Context())

	client := connect(t, "postgres://postgres@"+serveDemo(t, backend.Addr())+"/qvp?sslmode=disable")
	ran := 0
	for _, b := range readPage(t, filepath.Join(repository, "README.md")).blocks("sql") {
		_, info, _ := strings.Cut(b.info, " ")
		ran += runBlock(t, client, b, info)
	}
	if ran < 14 {
		t.Errorf("only %d statements were found", ran)
	}
}

// shown is the comment behind a SHOW.
var shown = regexp.MustCompile(`^[^\n]*?;[ \t]*--[ \t]*([^\n]*)`)

func runBlock(t *testing.T, client *pgconn.PgConn, b block, info string) (ran int) {
	t.Helper()
	text := []byte(b.text)
	for len(strings.TrimSpace(string(text))) > 0 {
		end := strings.IndexByte(string(text), ';') + 1
		if end == 0 {
			t.Fatalf("%s:%d: a statement does not end: %s", b.path, b.line, text)
		}
		sql := strings.TrimSpace(string(text[:end]))
		want, expected := "", false
		if m := shown.FindSubmatch(text[end-1:]); m != nil {
			want, expected = strings.TrimSpace(string(m[1])), true
			end += strings.IndexByte(string(text[end:]), '\n')
		}
		text = text[end:]
		ran++
		var r *pgconn.Result
		if strings.Contains(sql, "$1") {
			vector := "[0.5" + strings.Repeat(",0.5", 127) + "]"
			r = client.ExecParams(t.Context(), sql, [][]byte{[]byte(vector)}, nil, nil, nil).Read()
		} else {
			results, err := client.Exec(t.Context(), sql).ReadAll()
			if code, ok := strings.CutPrefix(info, "fails="); ok {
				if !strings.Contains(fmt.Sprint(err), "SQLSTATE "+code) {
					t.Errorf("%s:%d: %s gave %v, not SQLSTATE %s", b.path, b.line, sql, err, code)
				}
				continue
			}
			if err != nil || len(results) != 1 {
				t.Errorf("%s:%d: %s gave %d results, error %v", b.path, b.line, sql, len(results), err)
				continue
			}
			r = results[0]
		}
		if r.Err != nil {
			t.Errorf("%s:%d: %s: %v", b.path, b.line, sql, r.Err)
			continue
		}
		if strings.HasPrefix(sql, "SELECT") && len(r.Rows) == 0 {
			t.Errorf("%s:%d: %s gave no row", b.path, b.line, sql)
		}
		if expected && (len(r.Rows) != 1 || string(r.Rows[0][0]) != want) {
			t.Errorf("%s:%d: %s gave %q, not %q", b.path, b.line, sql, r.Rows, want)
		}
	}
	return ran
}

// serveDemo runs the gateway in this process before an embedded backend, as
// qvpgw demo does, and returns its address.
func serveDemo(t *testing.T, backend string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cfg, err := demoConfig(demoOptions{listen: addr}, backend)
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), fixed{cfg.Backend.Database, cfg.Backend.User}, new(handoff.Process))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.serve(ctx, nil, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return addr
}

func connect(t *testing.T, dsn string) *pgconn.PgConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// run runs one statement and returns its rows as text, a value a line.
func run(t *testing.T, c *pgconn.PgConn, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var out strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			for _, v := range row {
				out.Write(v)
				out.WriteByte('\n')
			}
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// TestTransparencyTable runs the rows of the table in docs/transparent.md with one
// server connection for all clients.
func TestTransparencyTable(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	direct := connect(t, dsn)
	run(t, direct, `CREATE FUNCTION docs_sets() RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN PERFORM set_config('app.called', 'c', false); RETURN 1; END $$;
		CREATE FUNCTION docs_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM set_config('app.called', 't', false); RETURN NEW; END $$;
		CREATE TABLE docs_triggered (a int);
		CREATE TRIGGER docs BEFORE INSERT ON docs_triggered FOR EACH ROW EXECUTE FUNCTION docs_trigger()`)
	_, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {size: 1, overflow: 0, query_wait_timeout: 10s}
auth: {method: trust}
schema: {migrate: false}
`, c.Port, database, pgtest.Superuser))
	through := fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgtest.Superuser, addr, database)
	text, err := os.ReadFile(filepath.Join(repository, "docs", "transparent.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^|]+)` \\| (?:`([^|]+)`)? ?\\| (replayed|read|connection) \\| (none|`[a-z_]+`) \\|$")
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 18 {
		t.Fatalf("only %d rows were understood", len(rows))
	}
	other := connect(t, through)
	for _, m := range rows {
		t.Run(strings.ReplaceAll(m[1], " ", "_"), func(t *testing.T) {
			checkTransparency(t, through, other, m[2], m[3], strings.ReplaceAll(strings.Trim(m[5], "`"), "none", ""))
		})
	}
}

// settled waits until the gateway has read the catalog again that a statement
// before changed: until then every statement pins.
func settled(t *testing.T, c *pgconn.PgConn) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		run(t, c, "DISCARD ALL")
		run(t, c, "SELECT count(*) FROM docs_triggered")
		if pins := run(t, c, "SHOW qvpgw.pins"); pins == "" {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("a plain SELECT pins for good: %s", pins)
		}
	}
}

func checkTransparency(t *testing.T, dsn string, other *pgconn.PgConn, made, seen, pin string) {
	settled(t, other)
	before := ""
	if seen != "" {
		before = run(t, other, seen)
	}
	client := connect(t, dsn)
	run(t, client, made)
	if got := run(t, client, "SHOW qvpgw.pins"); got != pin {
		t.Errorf("the pins are %q, not %q", got, pin)
	}
	own := ""
	if seen != "" {
		if own = run(t, client, seen); own == before {
			t.Errorf("%s leaves no trace: %q", seen, own)
		}
	}
	if pin != "" { // the only connection is the client's until it leaves
		if err := client.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if seen == "" {
		run(t, other, "SELECT 1")
		return
	}
	if after := run(t, other, seen); after != before {
		t.Errorf("another client sees %q, not %q", after, before)
	}
	if pin == "" {
		if again := run(t, client, seen); again != own {
			t.Errorf("the client sees %q, not its own %q", again, own)
		}
	}
}
