package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/pgtest"
)

// TestTheGuidesStatementsAnswerAsDirect starts the gateway from the .env of
// docs/operations.md, with other values, and runs the statements of the chapter
// Troubleshooting through it and directly, from psql and from pgx.
func TestTheGuidesStatementsAnswerAsDirect(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	const password = "choose-one"
	direct := connect(t, dsn)
	run(t, direct, "CREATE ROLE guide_reader LOGIN SUPERUSER PASSWORD '"+password+"'")
	t.Cleanup(func() {
		_ = c.DropDatabase(context.Background(), database) // the role owns its tables
		if err := c.Exec(context.Background(), "postgres", "DROP ROLE guide_reader"); err != nil {
			t.Error(err)
		}
	})

	page := readPage(t, filepath.Join(repository, "docs", "operations.md"))
	addr := serveDotenv(t, page, map[string]string{
		"POSTGRES_PORT": fmt.Sprint(c.Port), "POSTGRES_DB": database, "POSTGRES_USER": "guide_reader", "POSTGRES_PASSWORD": password,
		"POSTGRES_POOL_SIZE": "3", "POSTGRES_MAX_OVERFLOW": "2",
	})
	run(t, direct, `INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
		SELECT t, s, 1, 2, 0.5, 1.5, 100 FROM generate_series(now() - interval '40 days', now(), interval '1 hour') t, unnest(ARRAY['SPY', 'QQQ']) s`)
	run(t, direct, "ANALYZE")

	to := func(addr string) string {
		return fmt.Sprintf("postgres://guide_reader:%s@%s/%s?sslmode=disable", password, addr, database)
	}
	if got := run(t, connect(t, strings.Replace(to(addr), "/"+database, "/qvpgw", 1)), "SHOW CONFIG"); !strings.Contains(got, "pool.size\n3\n") || !strings.Contains(got, "pool.overflow\n2\n") || !strings.Contains(got, "schema.pgvector\non\n") {
		t.Errorf("the names of the .env did not arrive:\n%s", got)
	}
	ran := 0
	for _, b := range page.blocks("sql") {
		for sql := range strings.Lines(b.text) {
			ran++
			for client, answer := range map[string]func(*testing.T, string, string) string{"psql": psqlAnswers(c.Root), "pgx": pgxAnswers} {
				want, got := answer(t, to(c.Addr()), sql), answer(t, to(addr), sql)
				if want == "" || want != got {
					t.Errorf("docs/operations.md:%d: %s%s sees of the server\n%s\nand through the gateway\n%s", b.line, sql, client, want, got)
				}
			}
		}
	}
	if ran < 9 {
		t.Errorf("only %d statements were found", ran)
	}
}

// serveDotenv runs the program without a configuration file, with the page's .env in
// which values stand for others. The environment has the port, the file a wrong one:
// the environment wins.
func serveDotenv(t *testing.T, p page, values map[string]string) (addr string) {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_ = l.Close()
	dotenv, seen := "", map[string]bool{}
	for _, b := range p.blocks("sh") {
		for line := range strings.Lines(b.text) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || !regexp.MustCompile(`^[A-Z_]+$`).MatchString(name) {
				continue
			}
			seen[name] = true
			if v := values[name]; v != "" && name != "POSTGRES_PORT" {
				value = v
			}
			dotenv += name + "=" + value + "\n"
		}
	}
	if len(seen) != 9 {
		t.Fatalf("the page's .env has %v", seen)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(strings.Replace(dotenv, "POSTGRES_PORT=5432", "POSTGRES_PORT=1", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "serve")
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "POSTGRES_PORT=" + values["POSTGRES_PORT"],
		"QVPGW_LISTEN=" + addr, "QVPGW_HTTP=127.0.0.1:0",
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v:\n%s", err, said.String())
		}
	})
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if n, err := net.Dial("tcp", addr); err == nil {
			_ = n.Close()
			return addr
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the gateway ended with %v:\n%s", err, said.String())
		default:
		}
	}
	t.Fatal("the gateway does not serve within 30 s")
	return ""
}

// measured are the parts of an EXPLAIN that differ from run to run.
var measured = regexp.MustCompile(`\(?cost=[^)]*\) ?|actual time=[0-9.]+ |[0-9.]+ ms|[0-9]+kB|-{3,}| +$`)

func settledText(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimRight(measured.ReplaceAllString(strings.TrimRight(line, "\n"), ""), " ") + "\n")
	}
	return out.String()
}

// psqlAnswers is what psql shows.
func psqlAnswers(r *pgtest.Root) func(*testing.T, string, string) string {
	return func(t *testing.T, dsn, sql string) string {
		t.Helper()
		return settledText(r.Psql(t, dsn, "-P", "format=unaligned", "-P", "tuples_only=off", "-c", sql))
	}
}

// pgxAnswers is what a driver gets by its default protocol: names, types and texts.
func pgxAnswers(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), strings.TrimSuffix(strings.TrimSpace(sql), ";"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out strings.Builder
	for _, f := range rows.FieldDescriptions() {
		fmt.Fprintf(&out, "%s %d|", f.Name, f.DataTypeOID)
	}
	out.WriteByte('\n')
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, values...)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return settledText(fmt.Sprintln(out.String(), rows.CommandTag()))
}
