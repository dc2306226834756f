package main

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// TestADumpThroughTheGatewayIsRestoredThroughIt saves a whole database with
// pg_dump and restores it into another with pg_restore, both through the gateway
// in transaction mode, as docs/migrations.md says.
func TestADumpThroughTheGatewayIsRestoredThroughIt(t *testing.T) {
	c := pgtest.Native(t)
	from := c.Database(t)
	if err := schema.Migrate(t.Context(), from, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	direct := connect(t, from)
	if _, err := pgtest.FillTables(t.Context(), direct); err != nil {
		t.Fatal(err)
	}
	run(t, direct, `INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
		SELECT timestamptz '2024-01-02 14:30:00+00' + i * interval '10 minutes', 'S' || i % 12, sin(i), cos(i), 0.1 * i, i / 3.0, i FROM generate_series(1, 20000) i;
		CREATE FUNCTION mine(i int) RETURNS int LANGUAGE sql AS 'SELECT i + 1';
		CREATE TABLE "Own" (at timestamptz NOT NULL, value text); INSERT INTO "Own" VALUES ('2024-01-02', E'tab\tquote'' end')`)
	looks, err := pgtest.Looks(t.Context(), direct)
	if err != nil {
		t.Fatal(err)
	}
	before, err := pgtest.Answers(t.Context(), direct, looks)
	if err != nil {
		t.Fatal(err)
	}

	const to = "dump_restored"
	t.Cleanup(func() { _ = c.DropDatabase(context.Background(), to) })
	_, addr := startGateway(t, strings.Replace(migratingConfig(from), "http:", "schema: {migrate: false}\nhttp:", 1))
	_, port, _ := net.SplitHostPort(addr)
	_, inside := c.TempDir(t)
	here := strings.NewReplacer("port=6432", "port="+port, "dbname=platform", "dbname="+databaseOf(t, from), "restored", to, "platform.dump", inside+"/platform.dump")
	ran := 0
	for _, b := range readPage(t, filepath.Join(repository, "docs", "migrations.md")).blocks("sh") {
		for _, line := range strings.Split(strings.TrimSpace(b.text), "\n") {
			if strings.HasPrefix(line, "p") {
				words := shellWords(here.Replace(line))
				if out, err := c.Command(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
				ran++
			}
		}
	}
	if ran != 6 {
		t.Errorf("%d lines were run", ran)
	}
	if got := c.Psql(t, "postgres://"+pgtest.Superuser+"@"+addr+"/"+to+"?sslmode=disable", "-c", "SHOW timescaledb.restoring"); strings.TrimSpace(got) != "off" {
		t.Errorf("after the restore timescaledb.restoring is %s", got)
	}

	restored := connect(t, c.DSN(to))
	after, err := pgtest.Answers(t.Context(), restored, looks)
	if err != nil {
		t.Fatal(err)
	}
	differs := 0
	for i := range before {
		if before[i] != after[i] {
			differs++
			t.Errorf("there was %s, restored is %s", before[i], after[i])
		}
	}
	figure.Print(t, "schema.dump.differs", differs)
	if now, err := pgtest.Looks(t.Context(), restored); err != nil || !slices.Equal(now, looks) {
		t.Errorf("the restored tables are others: %q, %v", now, err)
	}
	for _, sql := range []string{
		"SELECT string_agg(version || direction, ' ' ORDER BY id) FROM qvpgw.migration_log",
		"SELECT string_agg(h.table_name || ' ' || d.column_name || ' ' || d.interval_length, ', ' ORDER BY 1) FROM _timescaledb_catalog.hypertable h JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id",
		"SELECT count(*) FROM _timescaledb_catalog.chunk",
		"SELECT string_agg(indexdef, E'\\n' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'public'",
		"SELECT mine(1)",
	} {
		if was, is := run(t, direct, sql), run(t, restored, sql); was != is {
			t.Errorf("%s\ngave %s\nand now %s", sql, was, is)
		}
	}
	if got := run(t, restored, "INSERT INTO market_data (timestamp, symbol) VALUES ('2024-07-01', 'NEW') RETURNING id > 20000"); got != "t" {
		t.Error("a new row does not get the next id")
	}
	if s, err := schema.NewMigrator(c.DSN(to), schema.Options{}).Status(t.Context()); err != nil || !s.Current() {
		t.Errorf("status is %+v, %v", s, err)
	}
}
