package schema

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
)

// watchedDatabase is a database with the platform's schema on the native backend.
func watchedDatabase(t *testing.T) (dsn string, conn *pgx.Conn) {
	t.Helper()
	dsn = pgtest.Database(t)
	if err := Migrate(context.Background(), dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	return dsn, connect(t, dsn)
}

// takeLog takes what the change log has, a line each, out of it.
func takeLog(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	rows, err := ConnQuery(conn)(context.Background(), `
WITH gone AS (DELETE FROM qvpgw.changes RETURNING *)
SELECT concat_ws(' ', relation::text, kind, to_timestamp(low / 1e6) AT TIME ZONE 'UTC', to_timestamp(high / 1e6) AT TIME ZONE 'UTC', key, vector[1:2]::text, facts->>'symbol')
FROM gone ORDER BY xid, kind, key`)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range rows {
		lines = append(lines, r[0])
	}
	return strings.Join(lines, "; ")
}

func TestTheChangeLogHasWhatItIsThereFor(t *testing.T) {
	_, conn := watchedDatabase(t)
	exec(t, conn, "INSERT INTO market_data (timestamp, symbol, close) VALUES ('2024-01-01', 'A', 1), ('2024-02-01', 'A', 2)")
	const vector = "(SELECT array_agg(n) FROM generate_series(1, 128) n)::vector"
	const merge = "MERGE INTO market_data USING (VALUES (%s)) x (a) ON symbol = a WHEN MATCHED THEN %s"
	for _, step := range []struct{ sql, want string }{
		// Hypertables: MERGE, and what may be one.
		{fmt.Sprintf(merge, "'A'", "UPDATE SET close = 3"), "market_data c 2024-01-01 00:00:00 2024-02-01 00:00:00"},
		{fmt.Sprintf(merge, "'none'", "UPDATE SET close = 3"), ""},
		{"UPDATE market_data SET close = 4", ""},
		{"DELETE FROM market_data WHERE close = 5", ""},
		{"INSERT INTO market_data (timestamp, symbol) VALUES ('2024-03-01', 'B')", ""},
		{"PREPARE up AS UPDATE market_data SET close = 4 WHERE symbol = 'A'; EXECUTE up", "market_data c 2024-01-01 00:00:00 2024-02-01 00:00:00"},
		{"DO $$ BEGIN UPDATE market_data SET close = 4; END $$", ""},
		{"DO $$ BEGIN " + fmt.Sprintf(merge, "'B'", "UPDATE SET close = 3") + "; END $$", "market_data c 2024-03-01 00:00:00 2024-03-01 00:00:00"},
		{"DO $$ BEGIN EXECUTE 'MER' || 'GE INTO market_data USING (VALUES (1)) x ON symbol = ''B'' WHEN MATCHED THEN UPDATE SET close = 3'; END $$", "market_data c 2024-03-01 00:00:00 2024-03-01 00:00:00"},
		{"CREATE FUNCTION changed() RETURNS void LANGUAGE sql AS 'UPDATE market_data SET close = 4 WHERE symbol = ''B'''; SELECT changed()", "market_data c 2024-03-01 00:00:00 2024-03-01 00:00:00"},
		{"ALTER TABLE market_data RENAME timestamp TO at; " + fmt.Sprintf(merge, "'B'", "UPDATE SET close = 3") + "; ALTER TABLE market_data RENAME at TO timestamp", "market_data c"},
		{fmt.Sprintf(merge, "'B'", "DELETE"), "market_data c"},

		// Tables with vectors: every change.
		{"INSERT INTO feature_embeddings (timestamp, symbol, embedding) VALUES ('infinity', 'A', " + vector + "), (now(), 'B', NULL)", "feature_embeddings + 1 {1,2} A; feature_embeddings + 2 B"},
		{"UPDATE feature_embeddings SET metadata = 'x' WHERE id = 1", "feature_embeddings + 1 {1,2} A; feature_embeddings - 1"},
		{"INSERT INTO feature_embeddings (id, timestamp) VALUES (1, now()) ON CONFLICT (id) DO UPDATE SET symbol = 'C'", "feature_embeddings + 1 {1,2} C; feature_embeddings - 1"},
		{"DELETE FROM feature_embeddings WHERE id = 2", "feature_embeddings - 2"},
		{"DELETE FROM feature_embeddings WHERE id = 2", ""},
		{"INSERT INTO feature_embeddings (timestamp) SELECT now() FROM generate_series(1, 65)", "feature_embeddings x"},
		{"UPDATE feature_embeddings SET metadata = 'x'", "feature_embeddings x"},
		{"TRUNCATE feature_embeddings", "feature_embeddings x"},
		{"SET session_replication_role = replica; INSERT INTO volatility_regimes (timestamp, regime_label) VALUES (now(), 'calm'); RESET session_replication_role", "volatility_regimes + 1"},
		{"ALTER TABLE volatility_regimes RENAME regime_label TO label; INSERT INTO volatility_regimes (timestamp, label) VALUES (now(), 'calm'); ALTER TABLE volatility_regimes RENAME label TO regime_label", "volatility_regimes x"},
		{"BEGIN; INSERT INTO volatility_regimes (timestamp) VALUES (now()); ROLLBACK", ""},
	} {
		exec(t, conn, step.sql)
		if got := takeLog(t, conn); got != step.want {
			t.Errorf("%s\nlogs %q, not %q", step.sql, got, step.want)
		}
	}
}

func TestTheChangeLogIsEverybodysToFillAndNobodysToWrite(t *testing.T) {
	_, conn := watchedDatabase(t)
	exec(t, conn, "DROP ROLE IF EXISTS changes_writer; CREATE ROLE changes_writer; GRANT INSERT, SELECT (id) ON feature_embeddings TO changes_writer; GRANT CREATE ON SCHEMA public TO changes_writer")
	defer exec(t, conn, "RESET ROLE; DROP OWNED BY changes_writer; DROP ROLE changes_writer")
	exec(t, conn, "SET ROLE changes_writer; CREATE TABLE mine (id serial, v vector(3))")
	exec(t, conn, "INSERT INTO mine (v) VALUES ('[1,2,3]'), ('[1,2,3]')")
	if got := value(t, conn, "INSERT INTO feature_embeddings (timestamp, symbol) VALUES (now(), 'A') RETURNING id"); got != "1" {
		t.Errorf("RETURNING gave %s", got)
	}
	exec(t, conn, "INSERT INTO mine (v) VALUES ('[1,2,3]')")
	if got := value(t, conn, "SELECT lastval()"); got != "3" {
		t.Errorf("lastval is %s, not the client's", got)
	}
	for _, sql := range []string{
		"INSERT INTO qvpgw.changes (relation, kind) VALUES ('mine', 'x')",
		"DELETE FROM qvpgw.changes",
		"SELECT vector FROM qvpgw.changes",
		"UPDATE qvpgw.settled SET high = 0",
		"SELECT qvpgw.watch('mine')",
		"CREATE TRIGGER t AFTER INSERT ON mine FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.log_correction()",
	} {
		if _, err := conn.Exec(context.Background(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if n := value(t, conn, "SELECT count(xid) FROM qvpgw.changes"); n != "1" {
		t.Errorf("the guard sees %s changes", n)
	}
	if n := value(t, conn, "SELECT count(*) FROM qvpgw.row_changes"); n != "0" {
		t.Errorf("%s rows of a table that the role may not read are seen", n)
	}
	exec(t, conn, "RESET ROLE; GRANT SELECT ON feature_embeddings TO changes_writer; SET ROLE changes_writer")
	if n := value(t, conn, "SELECT count(*) FROM qvpgw.row_changes"); n != "1" {
		t.Errorf("%s rows of a table that the role may read are seen", n)
	}
}

func TestWatchedTablesAreCleanAndKnownToTheCatalog(t *testing.T) {
	_, conn := watchedDatabase(t)
	s := load(t, conn)
	for name, want := range map[string]catalog.ChangeLog{
		"market_data": catalog.CorrectionsLogged, "tick_data": catalog.CorrectionsLogged, "portfolio_values": catalog.CorrectionsLogged,
		"feature_embeddings": catalog.RowsLogged, "volatility_regimes": catalog.RowsLogged, "trades": catalog.NotLogged,
	} {
		r := s.Relations[catalog.Name{Schema: "public", Name: name}]
		if r.Log != want || (r.Triggers == "") != (want == catalog.NotLogged) {
			t.Errorf("%s: log %d, triggers %q", name, r.Log, r.Triggers)
		}
		if !r.Clean || r.InsertTrigger || r.WriteNextval {
			t.Errorf("%s: clean %t (%s), insert trigger %t, nextval %t", name, r.Clean, r.Unclean, r.InsertTrigger, r.WriteNextval)
		}
	}
	// TimescaleDB's two for a restore, and qvp's two for vector indexes, alone.
	users := map[string]bool{"timescaledb_pre_restore": true, "timescaledb_post_restore": true, "choose_vector_index": true, "create_vector_index": true}
	if s.AnyCode.State != 0 || !maps.Equal(s.UserFunctions, users) {
		t.Errorf("code of users: %+v, %v", s.AnyCode, s.UserFunctions)
	}

	// What passes the triggers by ends it.
	exec(t, conn, "CREATE TABLE child () INHERITS (feature_embeddings); ALTER TABLE volatility_regimes DISABLE TRIGGER qvpgw_delete")
	s = load(t, conn)
	for _, name := range []string{"feature_embeddings", "volatility_regimes"} {
		if r := s.Relations[catalog.Name{Schema: "public", Name: name}]; r.Log != catalog.NotLogged {
			t.Errorf("%s counts as logged", name)
		}
	}
}

func TestTheConfigurationSaysWhatIsWatched(t *testing.T) {
	ctx := context.Background()
	_, conn := watchedDatabase(t)
	q := ConnQuery(conn)
	exec(t, conn, "CREATE TABLE mine (id int PRIMARY KEY, v halfvec(2)); CREATE TABLE other (id int)")
	watch := func(want map[string]bool, says string, fails bool) {
		t.Helper()
		changed, err := Watch(ctx, q, want)
		if got := strings.Join(changed, "; "); got != says || (err != nil) != fails {
			t.Errorf("%v: %q, %v", want, got, err)
		}
	}
	watch(nil, "", false)
	watch(map[string]bool{"tick_data": false, "mine": true, "absent": true}, "mine: its changes are logged; tick_data: its changes are no longer logged", false)
	watch(map[string]bool{"tick_data": false, "mine": true}, "", false)
	exec(t, conn, "INSERT INTO mine VALUES (7, '[0.5,2]')")
	if got := takeLog(t, conn); got != "mine + 7 {0.5,2}" {
		t.Errorf("it logs %q", got)
	}
	watch(map[string]bool{"mine": false, "other": true}, "mine: its changes are no longer logged; tick_data: its changes are logged", true)
	if n := value(t, conn, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'qvpgw'::regnamespace AND proname LIKE '%mine%'"); n != "0" {
		t.Error("the function of a table that is not watched is left")
	}
	// A renamed table keeps its function, another one of its name gets its own.
	exec(t, conn, "SELECT qvpgw.watch('mine'); ALTER TABLE mine RENAME TO yours; CREATE TABLE mine (id int PRIMARY KEY, w vector(2)); SELECT qvpgw.watch('mine'); INSERT INTO yours VALUES (1, '[1,2]'); INSERT INTO mine VALUES (2, '[3,4]')")
	if got := takeLog(t, conn); got != "yours + 1 {1,2}; mine + 2 {3,4}" {
		t.Errorf("they log %q", got)
	}
}

func TestTheChangeLogIsPrunedByAgeAndLength(t *testing.T) {
	ctx := context.Background()
	dsn, conn := watchedDatabase(t)
	q := ConnQuery(conn)
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	p := Pruner{Age: time.Minute, Rows: 1000, Now: func() time.Time { return now }}
	round := func() (more bool) {
		t.Helper()
		more, err := p.Round(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		return more
	}
	left := func() string {
		return value(t, conn, "SELECT count(*) || ' rows, horizon ' || coalesce((SELECT xid FROM qvpgw.horizon)::text, 'none') FROM qvpgw.changes")
	}
	insert := "INSERT INTO volatility_regimes (timestamp) VALUES (now())"
	exec(t, conn, insert)
	exec(t, conn, "INSERT INTO qvpgw.changes (relation, kind) VALUES ('market_data', 'c')")
	round()
	now = now.Add(59 * time.Second)
	exec(t, conn, insert)
	young := value(t, conn, "SELECT max(xid) FROM qvpgw.changes")
	if round(); left() != "3 rows, horizon none" {
		t.Errorf("after 59 s: %s", left())
	}
	// A row that is not older than every transaction that runs stays.
	other := connect(t, dsn)
	exec(t, other, "BEGIN; "+insert)
	now = now.Add(2 * time.Second)
	round()
	if got := left(); !strings.HasPrefix(got, "2 rows") || got == "2 rows, horizon none" {
		t.Errorf("after a minute: %s", got)
	}
	if n := value(t, conn, "SELECT count(*) FROM qvpgw.changes WHERE kind = 'c' OR xid = '"+young+"'"); n != "2" {
		t.Errorf("a correction, or a young row, was pruned: %s are left", n)
	}
	exec(t, other, "COMMIT")
	if n := value(t, conn, "SELECT count(*) FROM qvpgw.changes, qvpgw.horizon h WHERE changes.xid < h.xid AND kind <> 'c'"); n != "0" {
		t.Errorf("%s rows are below the horizon", n)
	}

	// Beyond the number of rows age does not matter, a batch at a time.
	exec(t, conn, "INSERT INTO qvpgw.changes (relation, kind) SELECT 'volatility_regimes', 'x' FROM generate_series(1, 2500)")
	exec(t, conn, "INSERT INTO qvpgw.changes (relation, kind) SELECT 'volatility_regimes', 'x' FROM generate_series(1, 1001)")
	for n := 0; round(); n++ {
		if n > 5 {
			t.Fatal("it does not end")
		}
	}
	if got := left(); !strings.HasPrefix(got, "1002 rows") {
		t.Errorf("beyond 1000 rows: %s", got)
	}

	// Rows of another cluster, restored.
	exec(t, conn, "INSERT INTO qvpgw.changes (xid, relation, kind) VALUES ('999999999', 'volatility_regimes', 'x'); UPDATE qvpgw.horizon SET xid = '999999999'")
	p = Pruner{Age: time.Minute, Rows: 100_000, Now: p.Now}
	round()
	if n := value(t, conn, "SELECT count(*) FROM qvpgw.changes, qvpgw.horizon h WHERE changes.xid > pg_current_xact_id() OR h.xid > pg_current_xact_id()"); n != "0" {
		t.Error("what another cluster wrote is left")
	}
}
