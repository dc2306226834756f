package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// livePanels are a dashboard over market_data; $now and $day are the newest bar's moment
// and midnight before it. Values are multiples of 1/8: sums of floats are exact.
var livePanels = []string{
	`SELECT time_bucket('1 hour', timestamp) AS bucket, symbol, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM market_data WHERE symbol = 'SPY' AND timestamp >= $now - interval '3 days' GROUP BY bucket, symbol ORDER BY bucket`,
	`SELECT time_bucket('86400.000s', "timestamp") AS "time", symbol AS metric, avg(close) AS close FROM market_data WHERE "timestamp" BETWEEN $now - interval '14 days' AND $now GROUP BY 1, 2 ORDER BY 1, 2`,
	`SELECT date_trunc('day', timestamp) AS day, sum(volume) AS volume, count(*) FROM market_data WHERE timestamp >= $day - interval '21 days' AND timestamp < $day GROUP BY day ORDER BY day`,
	`SELECT DATE_TRUNC('week', timestamp) AS __timestamp, symbol AS symbol, SUM(volume) AS "SUM(volume)" FROM public.market_data WHERE timestamp < TO_TIMESTAMP('2024-03-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('week', timestamp), symbol ORDER BY "SUM(volume)" DESC, 1, 2 LIMIT 1000`,
	`select "_"."symbol", "_"."a0" from (select "rows"."symbol" as "symbol", sum("rows"."volume") as "a0" from (select "_"."symbol", "_"."volume", "_"."timestamp" from "public"."market_data" "_" where "_"."timestamp" >= timestamp '2024-01-08 00:00:00') "rows" group by "symbol") "_" where not "_"."a0" is null order by "_"."symbol" limit 1000001`,
	`SELECT symbol, count(*), sum(volume), min(low), max(high) FROM market_data GROUP BY symbol ORDER BY symbol`,
	`SELECT extract(hour FROM timestamp) AS hour, avg(volume) FROM market_data WHERE symbol = 'SPX' GROUP BY hour ORDER BY hour`,
	`SELECT time_bucket('6 hours', timestamp) AS b, last(close, timestamp) - first(open, timestamp) AS change FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-20 07:11' GROUP BY b ORDER BY b`,
}

// liveRun is a table of bars that grows and is corrected while dashboards are open.
type liveRun struct {
	*testing.T
	rand                     *rand.Rand
	dsn                      string // of the gateway
	on, off                  *pgconn.PgConn
	now                      time.Time
	answers, routed, unequal int
	passed                   map[string]int
	quiet                    bool // wrong answers are counted only
}

const (
	liveAnswers = 240 // without QVPGW_BENCH_AGGREGATES=full
	livePolls   = 10  // of all panels, for each time that bars arrive
)

// TestLiveAnswers has bars arrive in the newest buckets, corrections in old ones and
// refreshes of parts, while the keeper settles and dashboards ask: every answer is that of
// the rows. When TimescaleDB's log of a change is lost, some are wrong (trap T17).
// QVPGW_BENCH_AGGREGATES=full asks for 10,000 answers; QVPGW_TEST_DSN names another server
// with TimescaleDB than the embedded one.
func TestLiveAnswers(t *testing.T) {
	answers := liveAnswers
	if os.Getenv("QVPGW_BENCH_AGGREGATES") == "full" {
		answers = 10_000
	}
	dsn, given := pgtest.Given()
	if !given {
		dsn = pgtest.OwnEmbedded(t).DSN()
	}
	if _, err := schema.NewMigrator(dsn, schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if given {
			// The test's own context has ended by now.
			if _, err := schema.NewMigrator(dsn, schema.Options{Yes: true}).Goto(context.Background(), 0); err != nil {
				t.Error(err)
			}
		}
	})
	c := connect(t, dsn)
	run(t, c, liveBars("2024-01-04", "2024-03-07 12:00"))
	for _, sql := range refreshes {
		run(t, c, sql)
	}
	if err := schema.Settle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	config := func(mode string, settle bool) string {
		return fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: %s, port: %s, database: %s, user: %s, password: "%s", sslmode: disable, connect_timeout: 1m}
pool: {size: 1, overflow: 0}
auth: {method: trust, query: false}
schema: {migrate: false, settle: %t}
route: {mode: %s, choice: always}
`, u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/"), u.User.Username(), password, settle, mode)
	}
	t.Run("the answers of the rows", func(t *testing.T) {
		l := newLiveRun(t, config("strict", true), u)
		for cycle := 0; l.answers < answers; cycle++ {
			l.cycle(cycle)
		}
		share := float64(l.routed) / float64(l.answers)
		t.Logf("%d answers, %d of an aggregate, %d unequal; others: %v", l.answers, l.routed, l.unequal, l.passed)
		if answers > liveAnswers {
			figure.Print(t, "aggregates.live.answers", l.answers)
			figure.Print(t, "aggregates.live.unequal", l.unequal)
			figure.Print(t, "aggregates.live.routed_share", share)
		}
		if share <= 0.95 {
			t.Errorf("%.4f of the answers were an aggregate's, not more than 0.95", share)
		}
	})
	t.Run("wrong ones when the log is lost", func(t *testing.T) {
		l := newLiveRun(t, config("watermark", false), u)
		l.quiet = true
		l.poll("simple", l.expected())
		if l.unequal != 0 || l.routed == 0 {
			t.Errorf("%d answers unequal before, %d of an aggregate", l.unequal, l.routed)
		}
		l.write("UPDATE market_data SET volume = volume + 1000 WHERE timestamp >= '2024-02-01' AND timestamp < '2024-02-02'")
		l.write("DELETE FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log")
		l.poll("simple", l.expected())
		if l.unequal == 0 {
			t.Error("no answer was wrong: the comparison sees nothing")
		}
	})
}

// liveBars is a statement that inserts bars of two symbols, one each 20 minutes.
func liveBars(from, to string) string {
	return fmt.Sprintf(`INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
SELECT t, s, p, p + 1.5, p - 0.25, CASE WHEN n %% 11 > 0 THEN p + 0.125 END, CASE WHEN n %% 7 > 0 THEN n %% 1009 END
FROM (SELECT t, s, (extract(epoch FROM t) / 60)::bigint + length(s) AS n, round((800 + 80 * sin(extract(epoch FROM t) / 7000))::numeric)::float8 / 8 AS p
      FROM unnest(ARRAY['SPX', 'SPY']) s, generate_series('%s+00'::timestamptz, '%s+00', '20 min') t) x`, from, to)
}

func newLiveRun(t *testing.T, config string, u *url.URL) *liveRun {
	t.Helper()
	_, addr := startGateway(t, config)
	u = &url.URL{Scheme: "postgres", User: u.User, Host: addr, Path: u.Path, RawQuery: "sslmode=disable"}
	l := &liveRun{T: t, dsn: u.String(), rand: rand.New(rand.NewPCG(5, 5)), passed: map[string]int{}}
	l.on, l.off = connect(t, l.dsn), connect(t, l.dsn)
	run(t, l.off, "SET qvpgw.route = off")
	newest, err := time.Parse(time.DateTime, first(t, l.off, "SELECT max(timestamp) AT TIME ZONE 'UTC' FROM market_data"))
	if err != nil {
		t.Fatal(err)
	}
	l.now = newest
	// The gateway reads the catalog when it is asked for the first time.
	for end := time.Now().Add(20 * time.Second); !strings.HasPrefix(l.route(livePanels[5], "simple"), "rewrite"); {
		if time.Now().After(end) {
			t.Fatal("nothing is routed")
		}
	}
	return l
}

// write runs a statement on a connection of its own: one that keeps its client's server
// connection would keep the only one.
func (l *liveRun) write(sql string) {
	l.Helper()
	c := connect(l.T, l.dsn)
	run(l.T, c, sql)
	if err := c.Close(l.Context()); err != nil {
		l.Fatal(err)
	}
}

func (l *liveRun) route(sql, how string) string {
	l.Helper()
	l.answer(l.on, sql, how)
	return first(l.T, l.on, "SHOW qvpgw.last_route")
}

// panels are the dashboard's statements at this moment.
func (l *liveRun) panels() []string {
	now := "timestamptz '" + l.now.Format(time.DateTime) + "+00'"
	day := "timestamptz '" + l.now.Format(time.DateOnly) + " 00:00+00'"
	list := make([]string, len(livePanels))
	for i, p := range livePanels {
		list[i] = strings.NewReplacer("$now", now, "$day", day).Replace(p)
	}
	return list
}

// answer is a reply as text, its columns' names and types first.
func (l *liveRun) answer(c *pgconn.PgConn, sql, how string) string {
	l.Helper()
	var r *pgconn.Result
	if how == "simple" {
		results, err := c.Exec(l.Context(), sql).ReadAll()
		if err != nil {
			l.Fatalf("%v\nin %s", err, sql)
		}
		r = results[0]
	} else if r = c.ExecParams(l.Context(), sql, nil, nil, nil, nil).Read(); r.Err != nil {
		l.Fatalf("%v\nin %s", r.Err, sql)
	}
	var b strings.Builder
	for _, f := range r.FieldDescriptions {
		fmt.Fprintf(&b, "%s %d %d|", f.Name, f.DataTypeOID, f.TypeModifier)
	}
	for _, row := range r.Rows {
		b.WriteByte('\n')
		for _, v := range row {
			if v == nil {
				b.WriteString("NULL")
			}
			b.Write(v)
			b.WriteByte('|')
		}
	}
	return b.String()
}

// expected are the answers that the rows give.
func (l *liveRun) expected() []string {
	l.Helper()
	var want []string
	for _, sql := range l.panels() {
		want = append(want, l.answer(l.off, sql, "simple"))
	}
	return want
}

// poll asks all panels once.
func (l *liveRun) poll(how string, want []string) {
	l.Helper()
	for i, sql := range l.panels() {
		got := l.answer(l.on, sql, how)
		route := first(l.T, l.on, "SHOW qvpgw.last_route")
		l.answers++
		if strings.HasPrefix(route, "rewrite") {
			l.routed++
		} else {
			l.passed[route]++
		}
		if got != want[i] {
			l.unequal++
			if !l.quiet && l.unequal < 10 {
				l.Errorf("answer %d, %s: %s\n%s\ngot  %.1000s\nwant %.1000s", l.answers, how, sql, route, got, want[i])
			}
		}
	}
}

// cycle is what happens between one arrival of bars and the next: polls, a refresh of a
// part, and at times a correction.
func (l *liveRun) cycle(n int) {
	l.Helper()
	next := l.now.Add(20 * time.Minute)
	l.now = l.now.Add(time.Duration(1+l.rand.IntN(3)) * 20 * time.Minute)
	l.write(liveBars(next.Format(time.DateTime), l.now.Format(time.DateTime)))
	if n%4 == 1 {
		from := time.Date(2024, 1, 4, 0, 0, 0, 0, time.UTC).Add(time.Duration(l.rand.IntN(60*24)) * time.Hour)
		within := fmt.Sprintf("timestamp >= %s AND timestamp < %s", literalTime(from), literalTime(from.Add(5*time.Hour)))
		l.write([]string{
			"UPDATE market_data SET volume = volume + 1000 WHERE " + within,
			"DELETE FROM market_data WHERE symbol = 'SPX' AND " + within,
			"MERGE INTO market_data USING (VALUES (1)) v ON " + within + " WHEN MATCHED THEN UPDATE SET volume = volume + 3000, close = 0.5",
			fmt.Sprintf("INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES (%s, 'SPY', 1, 999, 1, 2, 77)", literalTime(from.Add(17*time.Second))),
			"BEGIN; UPDATE market_data SET close = 1.5 WHERE " + within + "; SAVEPOINT s; DELETE FROM market_data; ROLLBACK TO s; COMMIT",
		}[n/4%5])
	}
	want := l.expected()
	for i := range livePolls {
		if i == livePolls/2 {
			for _, r := range l.refreshes(n) {
				l.write(fmt.Sprintf("CALL refresh_continuous_aggregate('%s', %s, %s)", r.view, r.from, r.to))
			}
		}
		l.poll([]string{"simple", "extended"}[i%2], want)
	}
}

// refreshed is a call of refresh_continuous_aggregate.
type refreshed struct{ view, from, to string }

// refreshes are those of a cycle, which is about 40 minutes of the bars' time: in one of
// three a part that somebody refreshes by hand, else what the platform's policies do (an
// hour's buckets every 30 minutes, a day's every hour, a week's every day).
func (l *liveRun) refreshes(n int) []refreshed {
	if n%3 == 0 {
		view := []string{"market_data_1h", "market_data_1d", "market_data_1w"}[n/3%3]
		from, to := "NULL", literalTime(l.now.Add(-time.Hour))
		switch {
		case n/9%3 == 0 && view != "market_data_1w":
			from = literalTime(l.now.AddDate(0, 0, -3).Add(-time.Hour))
		case n/9%3 == 1 && view != "market_data_1w":
			from = literalTime(l.now.AddDate(0, 0, -40))
		}
		if n/9%3 == 1 {
			to = literalTime(l.now.AddDate(0, 0, -10))
		}
		return []refreshed{{view, from, to}}
	}
	from := literalTime(l.now.AddDate(0, 0, -360))
	list := []refreshed{{"market_data_1h", from, literalTime(l.now.Add(-time.Hour))}}
	if n%2 == 0 {
		list = append(list, refreshed{"market_data_1d", from, literalTime(l.now.AddDate(0, 0, -1))})
	}
	if n%36 == 34 {
		list = append(list, refreshed{"market_data_1w", from, literalTime(l.now.AddDate(0, 0, -7))})
	}
	return list
}

func literalTime(t time.Time) string { return "timestamptz '" + t.Format(time.DateTime) + "+00'" }
