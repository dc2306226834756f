package schema

import (
	"context"
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
)

// made lists what holds rows in the public schema: tables and continuous
// aggregates.
const made = `
SELECT coalesce(string_agg(c.oid::regclass::text, ' ' ORDER BY c.relname), '') FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace
  AND (c.relkind IN ('r', 'p', 'm') OR c.relkind = 'v' AND to_regclass('_timescaledb_catalog.continuous_agg') IS NOT NULL
       AND EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg a WHERE a.user_view_schema = 'public' AND a.user_view_name = c.relname))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// TestRowsOfEachVersionSurviveEveryUpAndDownSaysWhatItDrops goes up one version
// at a time with rows in every table that there is.
func TestRowsOfEachVersionSurviveEveryUpAndDownSaysWhatItDrops(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		m := NewMigrator(dsn, Options{})
		var before []string
		look := func(sql string) string {
			conn := connect(t, dsn)
			defer func() { _ = conn.Close(ctx) }()
			return value(t, conn, sql)
		}
		var queries, answers []string
		for _, f := range mustFiles(t) {
			if _, err := m.Goto(ctx, f.version); err != nil {
				t.Fatal(err)
			}
			conn := connect(t, dsn)
			if after, err := pgtest.Answers(ctx, conn.PgConn(), queries); err != nil || !slices.Equal(after, answers) {
				t.Errorf("before version %d there were %q, after it %q, %v", f.version, answers, after, err)
			}
			now := strings.Fields(value(t, conn, made))
			for _, name := range now {
				if !slices.Contains(before, name) && !slices.Contains(f.loses, name) {
					t.Errorf("%s makes %s, %s does not say that it loses it", f.name("up"), name, f.name("down"))
				}
			}
			before = now
			if value(t, conn, "SELECT to_regclass('qvpgw.migration_log') IS NOT NULL") == "t" && len(now) > 0 {
				var err error
				if queries, err = pgtest.FillTables(ctx, conn.PgConn()); err != nil {
					t.Fatal(err)
				}
				if answers, err = pgtest.Answers(ctx, conn.PgConn(), queries); err != nil {
					t.Fatal(err)
				}
			}
			_ = conn.Close(ctx)
		}
		_, err := m.Goto(ctx, 0)
		for _, table := range before {
			if strings.Contains(look("SELECT relkind = 'r' FROM pg_class WHERE oid = "+catalog.Literal(table)+"::regclass"), "t") && !strings.Contains(err.Error(), table+" (") {
				t.Errorf("down with rows in %s says %v", table, err)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "--yes") {
			t.Errorf("down over rows gave %v", err)
		}
		if r, err := NewMigrator(dsn, Options{Yes: true}).Goto(ctx, 0); err != nil || r.To != -1 {
			t.Errorf("with yes: %+v, %v", r, err)
		}
	})
}

func TestWhatIsLostIsCountedByWhatItIs(t *testing.T) {
	dsn := pgtest.Embedded(t).DSN()
	ctx := context.Background()
	conn := connect(t, dsn)
	defer func() {
		exec(t, conn, "DROP SCHEMA lost CASCADE")
		_ = conn.Close(ctx)
	}()
	exec(t, conn, `CREATE SCHEMA lost; CREATE TABLE lost.t (at timestamptz NOT NULL, "V" float);
		SELECT create_hypertable('lost.t', by_range('at'))`)
	exec(t, conn, `CREATE MATERIALIZED VIEW lost.a WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', at) AS day, count(*) FROM lost.t GROUP BY 1 WITH NO DATA`)
	exec(t, conn, `INSERT INTO lost.t SELECT timestamptz '2024-01-01 10:00+00' + i * interval '1 day', CASE i WHEN 7 THEN 1 END FROM generate_series(0, 19) i`)
	exec(t, conn, `CALL refresh_continuous_aggregate('lost.a', NULL, NULL)`)
	for name, want := range map[string]string{
		"lost.t": "lost.t (20 rows)", "lost.t.V": "lost.t.V (1 values)", "lost.a": "", "lost.none": "", "lost.t.none": "", "none": "",
	} {
		if got, err := loss(ctx, ConnQuery(conn), name); err != nil || got != want {
			t.Errorf("of %s is lost %q, %v; want %q", name, got, err, want)
		}
	}
	exec(t, conn, `SELECT drop_chunks('lost.t', timestamptz '2024-01-12')`)
	got, err := loss(ctx, ConnQuery(conn), "lost.a")
	if err != nil || !strings.Contains(got, "rows older than the oldest") {
		t.Errorf("after retention of lost.a is lost %q, %v", got, err)
	}
}
