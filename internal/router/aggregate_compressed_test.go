package router

import "testing"

// TimescaleDB takes the rows of a compressed chunk for sorted by "g2 + 1" when it
// segments by g1 and g2, and then its answer has a group several times. Where an
// aggregate is compressed and its table is not, the aggregate must not give such an
// answer in place of the right one.
func TestKeysThatAreDerivedAreGroupedOnceOverCompressedRows(t *testing.T) {
	l := newEmpty(t)
	t.Cleanup(func() { l.exec(t, "DROP MATERIALIZED VIEW places_1h; DROP TABLE places") })
	for _, sql := range []string{
		"CREATE TABLE places (t timestamptz NOT NULL, g1 int, g2 int, v int)",
		"SELECT create_hypertable('places', by_range('t', INTERVAL '1 day'))",
		"INSERT INTO places SELECT '2024-01-01 00:00Z'::timestamptz + n * INTERVAL '1 minute', n % 3, n * 7 % 5 - 2, n FROM generate_series(1, 20000) n",
		"CREATE MATERIALIZED VIEW places_1h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', t) AS bucket, g1, g2, count(*) AS n, sum(v) AS v FROM places GROUP BY 1, 2, 3 WITH NO DATA",
		"CALL refresh_continuous_aggregate('places_1h', NULL, NULL)",
		"SELECT qvpgw.watch('places')",
	} {
		l.exec(t, sql)
	}
	l.settle(t)
	l.exec(t, "ALTER MATERIALIZED VIEW places_1h SET (timescaledb.compress, timescaledb.compress_segmentby = 'g1, g2')")
	l.exec(t, "SELECT compress_chunk(c) FROM show_chunks('places_1h') c")
	snap := l.snapshot(t)
	for _, hashed := range []string{"on", "off"} {
		l.exec(t, "SET enable_hashagg = "+hashed)
		for _, sql := range []string{
			"SELECT g2 + 1 AS next, count(*), sum(v) FROM places WHERE t >= '2024-01-02 00:00Z' AND t < '2024-01-12 00:00Z' GROUP BY 1 ORDER BY 1, 2",
			"SELECT g2 + 1 AS next, count(*) FROM places WHERE t >= '2024-01-02 00:00Z' AND t < '2024-01-12 00:00Z' GROUP BY CUBE (g2 + 1) ORDER BY 1, 2",
			"SELECT g2 + 1 AS next, count(*), sum(v) FROM places GROUP BY 1 ORDER BY 1, 2",
		} {
			if o, _ := l.check(t, "fresh", goldenCase{title: sql, sql: sql}, snap); o[0] != answered {
				t.Errorf("%s: not answered", sql)
			}
		}
	}
	l.exec(t, "RESET enable_hashagg")
}
