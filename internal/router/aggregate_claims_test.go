package router

import "testing"

// claim is something that is said of TimescaleDB's logs: whether a change of the rows
// of an aggregate's table leaves a row in the log of its hypertable.
type claim struct {
	title, do string
	logged    bool
}

// claims are those of docs/aggregates.md, as the embedded TimescaleDB 2.23.0-dev has them.
var claims = []claim{
	{title: "INSERT", do: "INSERT INTO bars VALUES ('2024-01-08 10:10', 1, 5)", logged: true},
	{title: "UPDATE", do: "UPDATE bars SET v = v + 1 WHERE t < '2024-01-06'", logged: true},
	{title: "DELETE", do: "DELETE FROM bars WHERE t < '2024-01-05'", logged: true},
	{title: "INSERT of a SELECT", do: "INSERT INTO bars SELECT * FROM bars LIMIT 3", logged: true},
	{title: "MERGE that updates", do: "MERGE INTO bars USING (VALUES (1)) x ON t < '2024-01-06' WHEN MATCHED THEN UPDATE SET v = v + 7", logged: true},
	{title: "MERGE that deletes", do: "MERGE INTO bars USING (VALUES (1)) x ON t < '2024-01-05' WHEN MATCHED THEN DELETE", logged: true},
	{title: "MERGE that inserts", do: "MERGE INTO bars USING (VALUES (timestamptz '2024-01-09 11:11')) x (at) ON t = at WHEN NOT MATCHED THEN INSERT VALUES (at, 2, 9)", logged: true},
	{title: "session_replication_role = replica", do: "SET session_replication_role = replica; INSERT INTO bars VALUES ('2024-01-08 10:10', 1, 5); RESET session_replication_role"},
	{title: "a chunk by its name", do: "DO $$ BEGIN EXECUTE format('UPDATE %s SET v = v + 3', (SELECT c FROM show_chunks('bars') c LIMIT 1)); END $$", logged: true},
	{title: "drop_chunks", do: "SELECT drop_chunks('bars', older_than => '2024-01-12'::timestamptz)", logged: true},
	{title: "TRUNCATE", do: "TRUNCATE bars", logged: true},
	{title: "a compressed chunk's own relation by its name", do: `ALTER TABLE bars SET (timescaledb.compress, timescaledb.compress_segmentby = 'k'); SELECT compress_chunk(c) FROM show_chunks('bars') c;
DO $$ BEGIN EXECUTE (SELECT format('DELETE FROM %I.%I', c.schema_name, c.table_name) FROM _timescaledb_catalog.chunk c JOIN _timescaledb_catalog.chunk r ON r.compressed_chunk_id = c.id LIMIT 1); END $$`},
	{title: "ALTER TYPE USING", do: "ALTER TABLE bars ALTER other TYPE int USING other + 1"},
	{title: "the table that an aggregate joins", do: "UPDATE kinds SET weight = weight + 1"},
}

// TestClaimsOfWhatIsLogged has each claim tried on TimescaleDB.
func TestClaimsOfWhatIsLogged(t *testing.T) {
	l := newEmpty(t)
	for _, c := range claims {
		t.Run(c.title, func(t *testing.T) {
			l.exec(t, `CREATE TABLE bars (t timestamptz NOT NULL, k int, v int, other int); CREATE TABLE kinds (k int, weight int); INSERT INTO kinds VALUES (1, 10), (2, 20);
SELECT create_hypertable('bars', by_range('t', INTERVAL '7 days'));
INSERT INTO bars SELECT at, 1 + extract(day FROM at)::int % 2, 1, 1 FROM generate_series('2024-01-04'::timestamptz, '2024-01-25', '1 hour') at`)
			l.exec(t, "CREATE MATERIALIZED VIEW bars_1d WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', t) AS b, k, sum(v) AS v, count(*) AS n FROM bars GROUP BY 1, 2 WITH NO DATA")
			defer l.exec(t, "DROP MATERIALIZED VIEW bars_1d; DROP TABLE bars; DROP TABLE kinds")
			l.exec(t, "CALL refresh_continuous_aggregate('bars_1d', NULL, NULL)")
			l.exec(t, c.do)
			a, err := l.query("SELECT count(*) > 0 FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log", nil)
			if err != nil {
				t.Fatal(err)
			}
			if logged := a.rows[0][0] == "t"; logged != c.logged {
				t.Errorf("logged: %t, it was said to be %t", logged, c.logged)
			}
		})
	}
}
