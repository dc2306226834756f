package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// migratingConfig serves one database of a cluster and owns its schema.
func migratingConfig(dsn string) string {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return fmt.Sprintf(`listen: %%s
http: ""
backend: {host: %s, port: %d, database: %s, user: %s, sslmode: disable}
pool: {size: 4, overflow: 0}
auth: {method: trust}
limits: {shutdown_timeout: 10s}
`, c.Host, c.Port, c.Database, c.User)
}

// TestTenGatewaysThatStartAtOnceMigrateOnce starts ten processes on an empty
// database: one of them migrates, all serve.
func TestTenGatewaysThatStartAtOnceMigrateOnce(t *testing.T) {
	const gateways = 10
	dsn := pgtest.Database(t)
	var all []*launched
	for range gateways {
		all = append(all, begin(t, migratingConfig(dsn)))
	}
	for i, l := range all {
		l.await(t, time.Minute)
		got := runSQL(t, "postgres://"+pgtest.Superuser+"@"+l.addr+"/"+databaseOf(t, dsn)+"?sslmode=disable", "SELECT count(*) FROM market_data")
		if len(got) != 1 || got[0][0] != "0" {
			t.Errorf("gateway %d answers %v", i, got)
		}
	}
	s, err := schema.NewMigrator(dsn, schema.Options{}).Status(t.Context())
	if err != nil || !s.Current() {
		t.Errorf("status is %+v, %v", s, err)
	}
	if got := runSQL(t, dsn, "SELECT count(*), count(DISTINCT version), count(*) FILTER (WHERE direction <> 'up') FROM qvpgw.migration_log")[0]; got[0] != fmt.Sprint(len(s.Files)) || got[1] != got[0] || got[2] != "0" {
		t.Errorf("%s migrations of %s versions are logged, there are %d", got[0], got[1], len(s.Files))
	}
	waited := 0
	for _, l := range all {
		if strings.Contains(l.stop(t), "another gateway migrates") {
			waited++
		}
	}
	if waited == 0 {
		t.Error("no gateway waited for another: were they started at once?")
	}
}

func databaseOf(t *testing.T, dsn string) string {
	t.Helper()
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c.Database
}

// folder holds a configuration, with which the program is run in it.
type folder struct{ dir string }

func configured(t *testing.T, config string) folder {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), fmt.Appendf(nil, config, "127.0.0.1:0"), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder{dir}
}

// command prepares the program; it is built at the first call.
func (f folder) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = f.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir}
	return cmd
}

// run runs the program; its failure is the test's.
func (f folder) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.command(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qvpgw %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestAHalfMadeSchemaIsNotServed has the traces of a migration that stopped
// between two statements, once with a gateway that owns the schema and may not
// go on, once with one that does not own it.
func TestAHalfMadeSchemaIsNotServed(t *testing.T) {
	dsn := pgtest.Database(t)
	if err := schema.Migrate(t.Context(), dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	runSQL(t, dsn, `INSERT INTO qvpgw.migration_part (version, direction, done, of, statement, digest)
		SELECT version, 'up', 1, 2, 'CALL x()', 'of other statements' FROM qvpgw.schema_migrations; SELECT 1`)
	for _, more := range []string{"", "schema: {migrate: false}\n"} {
		out, err := configured(t, migratingConfig(dsn)+more).command(t, "serve").CombinedOutput()
		if err == nil {
			t.Errorf("a gateway with %q ended without an error", more)
		}
		for _, want := range []string{"cannot serve", "half made", "stopped after 1 of 2 statements", "qvpgw migrate force"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("with %q it does not say %q:\n%s", more, want, out)
			}
		}
	}
}

func TestUpSaysThatTablesAreThereAndAdoptPrintsWhatItTookOver(t *testing.T) {
	dsn := pgtest.Database(t)
	runSQL(t, dsn, `CREATE TABLE market_data (id SERIAL PRIMARY KEY, timestamp timestamptz NOT NULL, symbol varchar(20) NOT NULL,
		open float, high float, low float, close float, volume bigint);
		INSERT INTO market_data (timestamp, symbol) VALUES ('2024-01-02', 'A'), ('2024-01-03', 'B'), ('2024-01-04', 'C') RETURNING 1`)
	program := configured(t, migratingConfig(dsn))
	for _, args := range [][]string{{"migrate", "up"}, {"serve"}} {
		if out, err := program.command(t, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "market_data; `qvpgw migrate up --adopt`") {
			t.Errorf("%q gave %v:\n%s", args, err, out)
		}
	}
	out := program.run(t, "migrate", "up", "--adopt")
	if !strings.Contains(out, "adopted market_data: before 3 rows, checksum ") || !strings.Contains(out, "; after 3 rows, checksum ") || !strings.Contains(out, "hypertable") {
		t.Errorf("it says\n%s", out)
	}
	if out := program.run(t, "migrate", "status"); strings.Contains(out, "pending") || strings.Contains(out, "qvpgw migrate") {
		t.Errorf("status says\n%s", out)
	}
	if out := program.run(t, "migrate", "create", "nothing", "--from-diff"); !strings.Contains(out, "nothing to write") {
		t.Errorf("after an adoption the schema differs:\n%s", out)
	}
}
