package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// benchMixed runs fifty shapes of statements over plain tables, a hypertable and
// vectors, all capabilities on and every rule looked at.
func benchMixed(t *testing.T, b *benchBed) {
	const clients = 64
	b.Psql(t, b.dsn, "-c", mixedTables)
	targets := []benchTarget{b.bouncer(t, ""), b.gateway(t, `route: {enabled: true}
cache: {enabled: true}
rules:
  delete_without_where: refuse
  update_without_where: refuse
  truncate_hypertable: refuse
  drop_hypertable: refuse
  unbounded_scan: refuse
  copy_program: refuse
  large_offset: refuse
`)}
	table := newBenchTable("50 shapes")
	var ratios []float64
	for _, protocol := range []string{"simple", "prepared"} {
		warm, measure := b.pgbench(t, protocol, clients, b.mixedScripts(t, protocol)...)
		r := summarise(b.alternate(targets, warm, measure))
		table.add(protocol, clients, r)
		ratios = append(ratios, r.cpuVsBouncer)
		b.figure(t, fmt.Sprintf("bench.mixed.%s.cpu_vs_pgbouncer", protocol), r.cpuVsBouncer)
		b.figure(t, fmt.Sprintf("bench.mixed.%s.vs_pgbouncer", protocol), r.vsBouncer)
	}
	b.worst(t, "bench.mixed.cpu_vs_pgbouncer", ratios...)
	fmt.Print(table)
}

const mixedTables = `SET client_min_messages = error;
	CREATE TABLE mixed_kv (k int PRIMARY KEY, v text NOT NULL, n int NOT NULL DEFAULT 0);
	INSERT INTO mixed_kv SELECT k, 'value ' || k FROM generate_series(1, 10000, 2) k;
	CREATE TABLE mixed_log (at timestamptz NOT NULL DEFAULT now(), who int, what jsonb);
	CREATE TABLE mixed_readings (time timestamptz NOT NULL, sensor int NOT NULL, value float8);
	SELECT create_hypertable('mixed_readings', 'time', chunk_time_interval => interval '7 days');
	INSERT INTO mixed_readings SELECT timestamptz '2024-01-01 00:00+00' + m * interval '10 minutes', s, m + s
		FROM generate_series(0, 4000) m, generate_series(1, 5) s;
	CREATE INDEX ON mixed_readings (sensor, time DESC);
	CREATE TABLE mixed_vectors (id int PRIMARY KEY, tag text, v vector(3) NOT NULL);
	INSERT INTO mixed_vectors SELECT i, 'tag ' || i % 10, ARRAY[i % 10, i % 7, i % 3]::real[]::vector FROM generate_series(1, 500) i;
	ANALYZE`

// mixedShapes are fifty statements, in pgbench's language; mixedVariables are what
// their variables stand for. LITERAL is a vector as it is written in a text; where
// the statement is prepared it is made of parameters.
const mixedShapes = `
SELECT abalance FROM pgbench_accounts WHERE aid = :aid
SELECT aid, bid, abalance FROM pgbench_accounts WHERE aid = :aid
SELECT * FROM pgbench_accounts WHERE aid = :aid
SELECT abalance + :delta FROM pgbench_accounts WHERE aid = :aid
SELECT a.abalance, b.bbalance FROM pgbench_accounts a JOIN pgbench_branches b USING (bid) WHERE a.aid = :aid
SELECT a.aid, t.tbalance FROM pgbench_accounts a LEFT JOIN pgbench_tellers t ON t.tid = a.bid WHERE a.aid = :aid
SELECT count(*) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 10
SELECT sum(abalance) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 10
SELECT avg(abalance), max(abalance), min(abalance) FROM pgbench_accounts WHERE aid > :aid AND aid < :aid + 9
SELECT aid, abalance FROM pgbench_accounts WHERE aid >= :aid ORDER BY aid LIMIT 5
SELECT aid, abalance FROM pgbench_accounts WHERE aid <= :aid ORDER BY aid DESC LIMIT 3
SELECT EXISTS (SELECT 1 FROM pgbench_accounts WHERE aid = :aid AND abalance > :delta)
SELECT aid FROM pgbench_accounts WHERE aid IN (:aid, :k, :delta)
SELECT aid FROM pgbench_accounts WHERE aid = ANY (ARRAY[:aid, :k]::int[])
SELECT (SELECT bbalance FROM pgbench_branches b WHERE b.bid = a.bid) FROM pgbench_accounts a WHERE aid = :aid
WITH one AS (SELECT * FROM pgbench_accounts WHERE aid = :aid) SELECT aid, abalance FROM one
SELECT tid FROM pgbench_tellers WHERE tid = :tid UNION ALL SELECT bid FROM pgbench_branches WHERE bid = :tid
SELECT CASE WHEN abalance > :delta THEN 'more' ELSE 'less' END FROM pgbench_accounts WHERE aid = :aid
SELECT coalesce(filler, 'none'), nullif(abalance, 0) FROM pgbench_accounts WHERE aid = :aid
SELECT aid, row_number() OVER (ORDER BY abalance) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 5
SELECT bid, count(*) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 20 GROUP BY bid HAVING count(*) > 1
SELECT DISTINCT bid FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 20
SELECT g, g * :delta::int FROM generate_series(1, 5) g
SELECT * FROM (VALUES (:k::int, 'one'), (:tid::int, 'two')) v (n, name)
SELECT now(), :k::int AS k
SELECT upper(v), length(v), left(v, 3) FROM mixed_kv WHERE k = :k
SELECT tbalance FROM pgbench_tellers WHERE tid = :tid
SELECT tid, tbalance FROM pgbench_tellers WHERE bid = :tid ORDER BY tid
SELECT bbalance FROM pgbench_branches WHERE bid = :tid
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid
UPDATE pgbench_accounts SET abalance = abalance - :delta WHERE aid = :aid RETURNING abalance
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, 1, :aid, :delta, CURRENT_TIMESTAMP)
INSERT INTO mixed_log (who, what) VALUES (:k, jsonb_build_object('aid', :aid::int)) RETURNING at
INSERT INTO mixed_kv (k, v) VALUES (:k, 'new') ON CONFLICT (k) DO UPDATE SET n = mixed_kv.n + 1
INSERT INTO mixed_kv (k, v) VALUES (:k, 'again') ON CONFLICT DO NOTHING
DELETE FROM mixed_kv WHERE k = :k
SELECT k, v FROM mixed_kv WHERE k = :k FOR UPDATE
SELECT k, v FROM mixed_kv WHERE v LIKE 'value 1%' AND k > :k ORDER BY k LIMIT 4
SELECT string_agg(v, ', ' ORDER BY k) FROM mixed_kv WHERE k BETWEEN :k AND :k + 8
SELECT x.k, y.aid FROM mixed_kv x, LATERAL (SELECT aid FROM pgbench_accounts WHERE aid >= x.k ORDER BY aid LIMIT 2) y WHERE x.k = :k
SELECT time, value FROM mixed_readings WHERE sensor = :sensor ORDER BY time DESC LIMIT 1
SELECT time_bucket('1 hour', time) AS hour, avg(value) FROM mixed_readings WHERE sensor = :sensor AND time >= '2024-01-10 00:00+00' AND time < '2024-01-10 06:00+00' GROUP BY hour ORDER BY hour
SELECT count(*), max(value) FROM mixed_readings WHERE sensor = :sensor AND time >= '2024-01-20 00:00+00' AND time < '2024-01-20 04:00+00'
INSERT INTO mixed_readings VALUES ('2024-01-05 00:00+00'::timestamptz + :delta * interval '1 second', :sensor, :k)
SELECT first(value, time), last(value, time) FROM mixed_readings WHERE sensor = :sensor AND time >= '2024-01-15 00:00+00' AND time < '2024-01-15 02:00+00'
SELECT id, tag FROM mixed_vectors WHERE id = :vid
SELECT id FROM mixed_vectors ORDER BY v <-> LITERAL LIMIT 5
SELECT id, v <-> LITERAL AS distance FROM mixed_vectors WHERE tag = 'tag 3' ORDER BY distance LIMIT 3
SELECT a.id FROM mixed_vectors a ORDER BY a.v <-> (SELECT v FROM mixed_vectors WHERE id = :vid) LIMIT 2
`

var mixedVariables = map[string]string{
	"k": "random(1, 10000)", "tid": "random(1, 10)", "delta": "random(-5000, 5000)", "sensor": "random(1, 5)",
	"vid": "random(1, 500)", "x": "random(0, 9)", "y": "random(0, 6)", "z": "random(0, 2)",
}

var mixedVariable = regexp.MustCompile(`:([a-z]+)\b`)

// mixedScripts writes one script for each shape, where pgbench can read it, and
// returns the arguments that make it choose among them.
func (b *benchBed) mixedScripts(t *testing.T, protocol string) (args []string) {
	t.Helper()
	shapes := strings.Split(strings.TrimSpace(mixedShapes), "\n")
	if len(shapes) != 50 {
		t.Fatalf("there are %d shapes, not 50", len(shapes))
	}
	literal := "'[:x,:y,:z]'"
	if protocol != "simple" {
		literal = "ARRAY[:x, :y, :z]::real[]::vector"
	}
	here, inside := b.TempDir(t)
	for i, shape := range shapes {
		shape = strings.ReplaceAll(shape, "LITERAL", literal)
		text := &strings.Builder{}
		set := map[string]bool{}
		for _, m := range mixedVariable.FindAllStringSubmatch(strings.ReplaceAll(shape, "::", " "), -1) {
			value := mixedVariables[m[1]]
			if m[1] == "aid" {
				value = fmt.Sprintf("random(1, %d)", b.scale*100000)
			}
			if !set[m[1]] {
				fmt.Fprintf(text, "\\set %s %s\n", m[1], value)
			}
			set[m[1]] = true
		}
		fmt.Fprintf(text, "%s;\n", shape)
		name := fmt.Sprintf("%02d.sql", i+1)
		if err := os.WriteFile(filepath.Join(here, name), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-f", inside+"/"+name)
	}
	return args
}
