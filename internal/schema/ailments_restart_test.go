package schema

import (
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

// restartAilments are on a database that was made when the server had no TimescaleDB,
// in the order in which it gets it. What they mend with ALTER SYSTEM wants a restart.
var restartAilments = []ailment{
	{code: "session-timeout", says: "lock_timeout is 9000"},
	{code: "pool-tight", o: DoctorOptions{PoolSize: 24}},
	{code: "pool-too-large", o: DoctorOptions{PoolSize: 100}},
	{code: "timescaledb-not-preloaded"},
	{code: "timescaledb-not-created"},
	{code: "plain-table", after: func(t *testing.T, dsn string) {
		if got := value(t, connect(t, dsn), "SELECT count(*) || ' ' || (SELECT count(*) FROM show_chunks('market_data')) FROM market_data"); got != "3 2" {
			t.Errorf("rows and chunks are %s", got)
		}
	}},
	{code: "extension-hidden", bring: []string{
		"CREATE SCHEMA times", "DROP TABLE market_data", "DROP TABLE tick_data", "DROP TABLE portfolio_values", "DROP TABLE risk_metrics", "DROP EXTENSION timescaledb",
		"CREATE EXTENSION timescaledb SCHEMA times",
	}, says: "timescaledb is in schema times"},
	{code: "two-phase-commit", fake: withAggregate},
	{
		code: "background-workers", bring: []string{"SELECT times.extversion, _timescaledb_functions.stop_background_workers() FROM pg_extension times WHERE extname = 'timescaledb'"},
		fake: func(sql string, rows [][]string) [][]string {
			if sql == jobsSQL {
				rows = append(rows, []string{"1000", "policy_retention", "public.market_data", "t", "Success", ""})
			}
			return rows
		},
		cured: `DO $$ BEGIN
			FOR i IN 1..500 LOOP
				PERFORM pg_stat_clear_snapshot();
				EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'TimescaleDB%Scheduler%');
				PERFORM pg_sleep(0.02);
			END LOOP;
		END $$`,
	},
	{code: "pgvector-not-created", bring: []string{"DROP EXTENSION vector CASCADE"}},
}

// withAggregate has a database of the Apache edition say that it is the Community's
// and has an aggregate.
func withAggregate(sql string, rows [][]string) [][]string {
	switch sql {
	case factsSQL:
		rows[0][3] = "timescale"
	case aggregatesSQL:
		rows = append(rows, []string{"99", "98", "public", "daily", "public", "daily_rows", "SELECT 1", "f", "t", "1 day", "", "", "", "t"})
	}
	return rows
}

// assumed has a server give the means in a column of assumeSQL, beside an aggregate.
func assumed(column int) func(string, [][]string) [][]string {
	return func(sql string, rows [][]string) [][]string {
		if sql == assumeSQL {
			rows[0][column] = "t"
		}
		return withAggregate(sql, rows)
	}
}

// withUnsettled adds to withAggregate what the settled points say of it.
func withUnsettled(owned, timeType, force string) func(string, [][]string) [][]string {
	return func(sql string, rows [][]string) [][]string {
		if strings.Contains(sql, "tree (id, raw, root, depth)") {
			rows = append(rows, []string{"99", "98", "0", "4711", owned, timeType, "7200000000", "604800000000", "1704103200000000", "", "", "", "", "98", "{1,2}", "1704067200000000", force, "", ""})
		}
		return withAggregate(sql, rows)
	}
}

func TestWhatWantsARestartIsMendedByOne(t *testing.T) {
	c := pgtest.Native(t, pgtest.Setting("shared_preload_libraries", ""), pgtest.MaxConnections(30), pgtest.Setting("lock_timeout", "9s"))
	if err := c.Exec(t.Context(), "postgres", "CREATE DATABASE grown TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	dsn := c.DSN("grown")
	result, err := NewMigrator(dsn, Options{}).Up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.To != newest || len(result.Notices) < 8 || !strings.Contains(result.Notices[0], "not preloaded") {
		t.Errorf("got %+v", result)
	}
	conn := connect(t, dsn)
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol) VALUES ('2024-01-02', 'SPX'), ('2024-01-03', 'SPX'), ('2024-03-01', 'SPX')")
	for _, a := range restartAilments {
		a.restart = func(t *testing.T) {
			if err := c.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(a.code, func(t *testing.T) { a.test(t, dsn) })
	}
}

// TestWhatNoCommandMendsIsFoundAllTheSame has the database say what is not true of it.
func TestWhatNoCommandMendsIsFoundAllTheSame(t *testing.T) {
	dsn := pgtest.Database(t)
	if err := Migrate(t.Context(), dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	vital := func(name, value string) func(string, [][]string) [][]string {
		return func(sql string, rows [][]string) [][]string {
			for _, row := range rows {
				if sql == vitalsSQL && row[0] == name {
					row[1] = value
				}
			}
			return rows
		}
	}
	fact := func(column int, value string) func(string, [][]string) [][]string {
		return func(sql string, rows [][]string) [][]string {
			if sql == factsSQL {
				rows[0][column] = value
			}
			return rows
		}
	}
	both := func(f, g func(string, [][]string) [][]string) func(string, [][]string) [][]string {
		return func(sql string, rows [][]string) [][]string { return f(sql, g(sql, rows)) }
	}
	for _, a := range []ailment{
		{code: "timescaledb-apache", says: "no continuous aggregates"},
		{code: "timescaledb-new", fake: both(fact(1, "2.30.1"), withAggregate), says: "2.30.1"},
		{code: "timescaledb-old", fake: both(fact(1, "2.22.0"), withAggregate), says: "2.29.0"},
		{code: "timescaledb-old", fake: both(fact(1, "2.14.2"), fact(3, "timescale")), says: "not read"},
		{code: "timescaledb-missing", fake: both(fact(1, ""), vital("timescale ready", "")), says: "not installed"},
		{code: "pgvector-missing", fake: both(fact(2, ""), vital("vector ready", "")), says: "not installed"},
		{code: "extension-demanded", fake: fact(2, ""), o: DoctorOptions{Demanded: []string{"timescaledb", "vector"}}, says: "schema.pgvector is on"},
		{code: "schema-newer", o: DoctorOptions{Migrations: files("SELECT 1; --- SELECT 1;")}, says: "newest is 1"},
		{code: "standby", fake: func(sql string, rows [][]string) [][]string {
			for _, row := range rows {
				if row[0] == "recovery" {
					row[5] = "1"
				}
			}
			return fact(4, "t")(sql, rows)
		}, says: "takes no writes"},
		{code: "clock-skew", o: DoctorOptions{Now: func() time.Time { return time.Now().Add(-time.Hour) }}, says: "apart"},
		{code: "synchronous-replication", fake: both(vital("synchronous", "paris"), withAggregate), says: "synchronous_standby_names"},
		{code: "assume-merge-chunk", fake: withAggregate, says: "by its own name"},
		{code: "assume-skip-invalidation", fake: assumed(0), says: "skip_cagg_invalidation"},
		{code: "assume-attach-chunk", fake: assumed(1), says: "attach_chunk"},
		{code: "assume-alter-type", fake: withAggregate, says: "USING"},
		{code: "aggregate-old-format", fake: func(sql string, rows [][]string) [][]string {
			if rows = withAggregate(sql, rows); sql == aggregatesSQL {
				rows[0][8] = "f"
			}
			return rows
		}, says: "before TimescaleDB 2.7"},
	} {
		t.Run(a.code, func(t *testing.T) {
			if found := a.findings(t, dsn); len(found) != 1 || !strings.Contains(found[0].Text, a.says) {
				t.Errorf("it found %+v", found)
			}
			if _, ok := unmended[a.code]; !ok {
				t.Error("it is one that a command mends")
			}
		})
	}
	var without []string
	for _, f := range examine(t, dsn, DoctorOptions{Without: []string{"timescaledb", "vector"}}).Findings {
		if strings.HasPrefix(f.Code, "timescaledb") || strings.HasPrefix(f.Code, "pgvector") {
			without = append(without, f.Code)
		}
	}
	if without != nil {
		t.Errorf("what the configuration does without is missed: %v", without)
	}
}
