package gateway_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
	"qvpgw/internal/schema"
)

var updateAdversary = flag.Bool("update-adversary", false, "write testdata/adversary.txt anew")

// adversaryTables are what testdata/adversary.txt asks: values that look different though
// they are equal, that overflow together, that are NULL or not finite; names that need
// quotes; a table of the same name elsewhere; roles with some of the rights.
var adversaryTables = []string{
	`CREATE TABLE odd (at timestamptz(3) NOT NULL, gone text, symbol text, short varchar(5), fixed char(3), day date, stamp timestamp(3), flag bool, flag2 bool, word text COLLATE "C",
  small smallint, whole int, big bigint, num numeric, fee numeric(10, 2), wild numeric, real8 float8, late bigint, twice bigint GENERATED ALWAYS AS (whole * 2) STORED);
ALTER TABLE odd DROP gone;
SELECT create_hypertable('odd', by_range('at', INTERVAL '7 days'));
INSERT INTO odd SELECT t, s, (ARRAY['x', 'yy', NULL])[1 + n % 3], (ARRAY['a', 'a b', 'B'])[1 + n % 3], '2024-01-01'::date + n % 3, '2024-01-01 00:00:00.001'::timestamp + (n % 3) * interval '1.001 s', (ARRAY[true, false, NULL])[1 + n % 3], n % 5 > 0, (ARRAY['ä', 'b', 'B', 'a'])[1 + n % 4],
  n % 30000, CASE WHEN n % 4 > 0 THEN n END, CASE s WHEN 'c' THEN 9000000000000000000 ELSE n * 1000000007::bigint END, (n % 1000)::numeric / CASE n % 3 WHEN 0 THEN 1 WHEN 1 THEN 8 ELSE 1000 END, n % 500 * 1.10,
  CASE WHEN s = 'b' AND n % 90 = 1 THEN 'NaN' WHEN s = 'c' AND n % 90 = 2 THEN 'Infinity' ELSE n % 10 * 1.000 END, CASE WHEN s = 'b' AND n % 70 = 1 THEN 'NaN' WHEN s = 'c' AND n % 70 = 2 THEN '-Infinity' ELSE n % 100 * 0.125 END, CASE WHEN t < '2024-03-20' THEN 1 ELSE 9000000000000000000 END
FROM (SELECT t, s, (row_number() OVER (ORDER BY t, s))::int AS n FROM unnest(ARRAY['a', 'b', 'c', 'a_d']) s, generate_series('2024-03-04 00:11'::timestamptz, '2024-04-02', '47 min') t) x`,
	`CREATE MATERIALIZED VIEW odd_1h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, symbol, short, fixed, day, stamp, flag, word,
  count(*) AS n, min(at) AS first_at, max(at) AS last_at, sum(small) AS small, count(small) AS smalls, max(small) AS most, min(small) AS least, sum(whole) AS whole, count(whole) AS wholes, min(whole) AS min_whole, max(whole) AS max_whole,
  first(whole, at) AS first_whole, last(whole, at) AS last_whole, sum(big) AS big, count(big) AS bigs, max(big) AS max_big, sum(num) AS num, count(num) AS nums, max(num) AS max_num, sum(fee) AS fee, count(fee) AS fees, min(fee) AS min_fee, max(fee) AS max_fee,
  sum(late) AS late, sum(wild) AS wild, count(wild) AS wilds, sum(real8) AS real8, count(real8) AS reals, min(real8) AS min_real, max(real8) AS max_real, first(real8, at) AS first_real, max(twice) AS twice,
  bool_and(flag2) AS all_flags, bool_or(flag2) AS any_flag, bit_and(small) AS bits_and, bit_or(small) AS bits_or, bit_xor(small) AS bits_xor
FROM odd GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 WITH NO DATA`,
	`CREATE MATERIALIZED VIEW odd_1d WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', at) AS bucket, symbol, count(*) AS n, max(whole) AS most, sum(big) AS big, count(big) AS bigs FROM odd GROUP BY 1, 2 WITH NO DATA`,
	`CREATE SCHEMA "Sch.ema"; CREATE TABLE "Sch.ema"."Tab ""le"".β" ("Zeit" timestamptz NOT NULL, "Größe ""x"".y" text);
SELECT create_hypertable('"Sch.ema"."Tab ""le"".β"', by_range('Zeit', INTERVAL '7 days'));
INSERT INTO "Sch.ema"."Tab ""le"".β" SELECT t, (ARRAY['Ω', 'q''uote', 'z'])[1 + extract(minute FROM t)::int % 3] FROM generate_series('2024-03-04'::timestamptz, '2024-03-20', '71 min') t`,
	`CREATE MATERIALIZED VIEW "Sch.ema"."Vi ""ew" WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', "Zeit") AS "Buck ""et", "Größe ""x"".y", count(*) AS "n "" n" FROM "Sch.ema"."Tab ""le"".β" GROUP BY 1, 2 WITH NO DATA`,
	`CREATE TABLE clocks (at timestamp NOT NULL, symbol text, n int);
SELECT create_hypertable('clocks', by_range('at', INTERVAL '7 days'));
INSERT INTO clocks SELECT t, (ARRAY['a', 'b'])[1 + extract(minute FROM t)::int % 2], extract(minute FROM t) FROM generate_series('2024-03-04'::timestamp, '2024-04-02', '31 min') t`,
	`CREATE MATERIALIZED VIEW clocks_1h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, symbol, count(*) AS count, min(at) AS first_at, max(at) AS last_at, sum(n) AS n, count(n) AS ns FROM clocks GROUP BY 1, 2 WITH NO DATA`,
	`CREATE TABLE dates (at date NOT NULL, n int);
SELECT create_hypertable('dates', by_range('at', INTERVAL '7 days'));
INSERT INTO dates SELECT d, n FROM generate_series('2024-02-04'::timestamp, '2024-04-02', '1 day') d, generate_series(1, 9) n`,
	`CREATE MATERIALIZED VIEW dates_1w WITH (timescaledb.continuous) AS SELECT time_bucket('7 days', at) AS bucket, count(*) AS count, sum(n) AS n, max(n) AS most FROM dates GROUP BY 1 WITH NO DATA`,
	`CREATE TABLE steep (at timestamptz NOT NULL, x float8);
SELECT create_hypertable('steep', by_range('at', INTERVAL '7 days'));
INSERT INTO steep SELECT '2024-03-04'::timestamptz + n * interval '2 hours', CASE n % 2 WHEN 0 THEN 1.5e308 ELSE -1.5e308 END FROM generate_series(0, 39) n`,
	`CREATE MATERIALIZED VIEW steep_1h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, count(*) AS n, sum(x) AS x, count(x) AS xs FROM steep GROUP BY 1 WITH NO DATA`,
	`CREATE SCHEMA aside; CREATE TABLE aside.odd (symbol text, at timestamptz); INSERT INTO aside.odd VALUES ('aside', '2024-03-05');
CREATE TABLE listed AS SELECT * FROM (VALUES ('a', 1), ('b', 1), ('b', 2), ('z', 3), (NULL, 4)) v (symbol, n)`,
	`CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok'; CREATE TYPE pair AS (a int, b numeric); CREATE DOMAIN span AS interval; CREATE DOMAIN amount AS numeric CHECK (VALUE > 0);
CREATE TABLE kinds (at timestamptz NOT NULL, dev text NOT NULL, m mood, s span, iv interval, am amount, ar numeric[], p pair, j jsonb, bp bpchar, nr numrange, f float8, fr float8, c "char", nm name, v int, b bigint, u uuid, tt timetz, tm time, ip inet, by bytea);
SELECT create_hypertable('kinds', by_range('at', INTERVAL '7 days')); SELECT add_dimension('kinds', by_hash('dev', 2));
INSERT INTO kinds SELECT t, (ARRAY['a', 'b'])[1 + n % 2], (ARRAY['sad', 'ok', 'happy', NULL])[1 + n % 4]::mood, (ARRAY['24:00', '1 day'])[1 + n % 2]::interval, (ARRAY['30 days', '1 mon', '720:00'])[1 + n % 3]::interval, (ARRAY[1.0, 1.00, 1])[1 + n % 3], CASE n % 2 WHEN 0 THEN '{1.0,2}' ELSE '{1.00,2.0}' END::numeric[],
  CASE n % 2 WHEN 0 THEN (1, 1.0)::pair ELSE (1, 1.00)::pair END, CASE n % 2 WHEN 0 THEN '{"a": 1.0}' ELSE '{"a": 1.00}' END::jsonb, CASE n % 2 WHEN 0 THEN 'a' ELSE 'a  ' END::bpchar, CASE n % 2 WHEN 0 THEN '[1.0,2)' ELSE '[1.00,2.0)' END::numrange,
  CASE n % 2 WHEN 0 THEN '-0' ELSE '0' END::float8, CASE n % 2 WHEN 0 THEN '-0' ELSE '0' END::float8, 'x', 'nm', CASE WHEN n % 5 > 0 THEN n END, n * 3, '00000000-0000-0000-0000-00000000000a', CASE n % 2 WHEN 0 THEN '10:00+00' ELSE '12:00+02' END::timetz, '10:00'::time, '10.0.0.1'::inet, '\x00ff'::bytea
FROM (SELECT t, (row_number() OVER (ORDER BY t))::int AS n FROM (SELECT generate_series('2024-03-04'::timestamptz, '2024-04-02', '20 min') UNION ALL SELECT generate_series('2024-03-04 00:59:59.6'::timestamptz, '2024-04-02', '1 hour')) x (t)) y`,
	`CREATE MATERIALIZED VIEW kinds_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT time_bucket('1 hour', at) AS bucket, dev, m, s, am, c, nm, u, tm, ip, count(*) AS n, min(at) AS first_at, max(at) AS last_at, sum(v) AS v, count(v) AS vs, max(v) AS most, first(v, at) AS first_v, last(v, at) AS last_v, sum(b) AS b, count(b) AS bs, min(iv) AS iv, max(am) AS max_am, min(bp) AS bp, min(f) AS f, max(f) AS max_f, max(m) AS max_m, min(tt) AS tt, max(s) AS max_s, max(ar) AS ar, min(ip) AS min_ip FROM kinds GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 WITH NO DATA`,
	`CREATE MATERIALIZED VIEW kinds_1d WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', bucket) AS day, dev, sum(n) AS n, max(most) AS most, sum(b) AS b FROM kinds_1h GROUP BY 1, 2 WITH NO DATA`,
	`CREATE MATERIALIZED VIEW kinds_odd WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, iv, ar, p, j, bp, nr, f, tt, count(*) AS n, sum(v) AS v, count(v) AS vs FROM kinds GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 WITH NO DATA`,
	`CREATE MATERIALIZED VIEW kinds_berlin WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', at, 'Europe/Berlin') AS bucket, v % 3 AS third, upper(dev) AS dev, count(*) AS n, sum(v) AS v, count(v) AS vs FROM kinds GROUP BY 1, 2, 3 WITH NO DATA`,
	`CREATE TABLE part (at timestamptz NOT NULL, dev text, v int, w int); SELECT create_hypertable('part', by_range('at', INTERVAL '7 days'));
INSERT INTO part SELECT t, (ARRAY['a', 'b', 'c'])[1 + extract(hour FROM t)::int % 3], extract(minute FROM t), 1 FROM generate_series('2024-03-04'::timestamptz, '2024-04-02', '7 min') t`,
	`CREATE MATERIALIZED VIEW part_a WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, dev, count(*) AS n, sum(v) AS v, count(v) AS vs FROM part WHERE dev <> 'b' GROUP BY 1, 2 WITH NO DATA`,
	`CREATE MATERIALIZED VIEW part_h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, dev, count(*) AS n, max(v) AS most FROM part GROUP BY 1, 2 HAVING count(*) > 8 WITH NO DATA`,
	`CREATE MATERIALIZED VIEW part_1h WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', at) AS bucket, dev, count(*) AS n, sum(v) AS v, count(v) AS vs, max(v) AS most FROM part GROUP BY 1, 2 WITH NO DATA`,
	`CREATE TABLE seq (at int NOT NULL, k smallint, v int); SELECT create_hypertable('seq', by_range('at', 1000));
INSERT INTO seq SELECT n, n % 3, n FROM generate_series(-3000, 9000, 7) n; CREATE FUNCTION seq_now() RETURNS int LANGUAGE sql STABLE AS 'SELECT 9100'; SELECT set_integer_now_func('seq', 'seq_now')`,
	`CREATE MATERIALIZED VIEW seq_100 WITH (timescaledb.continuous) AS SELECT time_bucket(100, at) AS bucket, k, count(*) AS n, sum(v) AS v, min(at) AS first_at FROM seq GROUP BY 1, 2 WITH NO DATA`,
	`CREATE TABLE months (at timestamptz NOT NULL, n int); SELECT create_hypertable('months', by_range('at', INTERVAL '50 days'));
INSERT INTO months SELECT t, extract(day FROM t) FROM generate_series('2023-12-04'::timestamptz, '2024-06-20', '11 hours') t`,
	`CREATE MATERIALIZED VIEW months_1m WITH (timescaledb.continuous) AS SELECT time_bucket('1 month', at) AS bucket, count(*) AS count, max(n) AS most FROM months GROUP BY 1 WITH NO DATA`,
	`CREATE TABLE u (k1 text, a1 int, symbol text); INSERT INTO u VALUES ('a', 1, 'a'), ('b', 2, 'b')`,
	`CREATE VIEW odd_view AS SELECT * FROM odd WHERE symbol <> 'a'; CREATE VIEW odd_barrier WITH (security_barrier) AS SELECT * FROM odd WHERE symbol <> 'a'; CREATE VIEW odd_invoker WITH (security_invoker) AS SELECT * FROM odd`,
	`CREATE ROLE half; CREATE ROLE few; CREATE ROLE reader; GRANT SELECT ON odd_1h, odd_1d TO half; GRANT SELECT ON odd_1h, odd_1d TO few; GRANT SELECT (at, symbol) ON odd TO few; GRANT SELECT ON odd, odd_1h, odd_1d, odd_view, odd_barrier, odd_invoker TO reader`,
}

// adversaryCase is a conversation and where its last question was answered from.
type adversaryCase struct {
	title, want string
	lines       []string
}

func readAdversary(t *testing.T) (head string, cases []adversaryCase) {
	t.Helper()
	raw, err := os.ReadFile("testdata/adversary.txt")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(raw), "\n=== ")
	for block := range strings.SplitSeq(rest, "\n=== ") {
		c := adversaryCase{}
		var text string
		c.title, text, _ = strings.Cut(block, "\n")
		text, c.want, _ = strings.Cut(text+"\n", "\n---\n")
		c.lines, c.want = strings.Split(text, "\n"), strings.TrimSpace(c.want)
		cases = append(cases, c)
	}
	return head, cases
}

// unread are statements after which the one connection is not free to read the catalog.
var unread = regexp.MustCompile(`^(BEGIN$|CREATE TEMP )`)

// adverse sends a case's statements in a way, each as a turn of its own, and returns the
// replies and the route of the last question.
func (p *peer) adverse(g *gateway.Server, lines []string, how string) (got []string, route string) {
	p.Helper()
	var args [][]byte
	bound := false
	formats := map[string][]int16{"binary": {1}}[how]
	for _, sql := range lines {
		if list, ok := strings.CutPrefix(sql, "formats "); ok {
			bound, formats = true, nil
			for f := range strings.SplitSeq(list, ", ") {
				formats = append(formats, int16(f[0]-'0'))
			}
			continue
		}
		if list, ok := strings.CutPrefix(sql, "$ "); ok {
			bound = true
			for v := range strings.SplitSeq(list, ", ") {
				args = append(args, []byte(v))
				if v == "NULL" {
					args[len(args)-1] = nil
				}
			}
			continue
		}
		for deadline := time.Now().Add(time.Minute); !slices.ContainsFunc(lines, unread.MatchString) && !gateway.Fresh(g); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				p.Fatalf("%s: the catalog is not read", sql)
			}
		}
		if rest, ok := strings.CutPrefix(sql, "parse "); ok {
			name, text, _ := strings.Cut(rest, " ")
			p.send(parse(name, text), describe('S', name), endGroup)
			got = append(got, p.reply(1)...)
			continue
		}
		if name, ok := strings.CutPrefix(sql, "execute "); ok {
			p.send(bind("", name), describe('P', ""), runPortal("", 0), endGroup)
			got = append(got, p.reply(1)...)
			continue
		}
		b := &pgproto3.Bind{Parameters: args, ResultFormatCodes: formats}
		switch {
		case how == "simple" && !bound, strings.Contains(sql, "; "), strings.HasPrefix(sql, "COPY"):
			p.send(simple(sql))
		default:
			p.send(parse("", sql), b, describe('P', ""), runPortal("", 0), endGroup)
		}
		reply := p.reply(1)
		args, bound = nil, false
		if !strings.Contains(sql, "ORDER BY") && !strings.Contains(sql, "; ") {
			slices.Sort(reply)
		}
		got = append(got, reply...)
		switch word, _, _ := strings.Cut(strings.TrimLeft(sql, "("), " "); {
		case p.tx == 'E', !slices.Contains([]string{"SELECT", "WITH", "DECLARE", "COPY", "EXECUTE"}, word):
		default:
			route = p.route()
		}
	}
	return got, route
}

// TestAnAdversarysQuestionsHaveTheDatabasesAnswers asks testdata/adversary.txt: with routes
// on the replies are, message by message, those with routes off.
func TestAnAdversarysQuestionsHaveTheDatabasesAnswers(t *testing.T) {
	dsn := pgtest.OwnEmbedded(t).DSN()
	if err := schema.Migrate(t.Context(), dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range adversaryTables {
		run(t, dsn, sql)
	}
	for view, table := range map[string]string{"odd_1h": "odd", "odd_1d": "odd", `"Sch.ema"."Vi ""ew"`: `"Sch.ema"."Tab ""le"".β"`, "clocks_1h": "clocks", "dates_1w": "dates", "steep_1h": "steep", "kinds_1h": "kinds", "kinds_odd": "kinds", "kinds_berlin": "kinds", "part_a": "part", "part_h": "part", "part_1h": "part", "seq_100": "seq", "months_1m": "months"} {
		run(t, dsn, fmt.Sprintf("CALL refresh_continuous_aggregate('%s', NULL, NULL)", view))
		run(t, dsn, fmt.Sprintf("SELECT qvpgw.watch('%s')", table))
	}
	settle(t, dsn)
	g, addr := serve(t, dsn, gateway.Options{LoginDatabase: "template1", LoginUser: "postgres", Pool: pool.Options{Size: 1}, QueueTimeout: time.Minute, AlwaysRoute: true})
	p := dial(t, addr, dsn)
	for deadline := time.Now().Add(patience); ; {
		if p.must("SELECT count(*) FROM odd"); strings.HasPrefix(p.route(), "rewrite") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("nothing is routed: %s", p.route())
		}
	}
	head, cases := readAdversary(t)
	var out strings.Builder
	out.WriteString(head + "\n")
	routed := 0
	for i := range cases {
		c := &cases[i]
		var replies [2][]string
		route, how := "", []string{"simple", "binary"}[i%2]
		for j, state := range []string{"off", "auto"} { // one after the other: the server has one session
			var start []string
			lines := c.lines
			if options, ok := strings.CutPrefix(lines[0], "options "); ok {
				start, lines = []string{"options=" + options}, lines[1:]
			}
			p := dial(t, addr, dsn, start...)
			p.patience = time.Minute // the catalog is read on the one connection too
			p.must("SET qvpgw.route = " + state)
			replies[j], route = p.adverse(g, lines, how)
			p.send(&pgproto3.Terminate{})
		}
		if !slices.Equal(replies[0], replies[1]) {
			t.Errorf("%s, %s: %s\nrouted %.3000q\nraw    %.3000q", c.title, how, route, replies[1], replies[0])
		}
		_, route, _ = strings.Cut(route, " ")
		route, _, _ = strings.Cut(route, " ")
		if route == "aggregate" {
			routed++
		}
		if route != c.want && !*updateAdversary {
			t.Errorf("%s: %q, want %q", c.title, route, c.want)
		}
		fmt.Fprintf(&out, "=== %s\n%s\n---\n%s\n", c.title, strings.Join(c.lines, "\n"), route)
	}
	t.Logf("%d of %d answered from an aggregate", routed, len(cases))
	if *updateAdversary {
		if err := os.WriteFile("testdata/adversary.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
