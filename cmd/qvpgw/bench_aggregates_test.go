package main

import (
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// aggregateQueries are what dashboards ask of a year of bars. One sets the time zone
// as the golden statements do.
var aggregateQueries = []aggregateQuery{
	{name: "hour to day, one symbol, a year", sql: "SELECT time_bucket('1 day', timestamp, 'America/New_York') AS day, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-01' AND timestamp < '2025-01-01' GROUP BY day, symbol ORDER BY day"},
	{name: "day, one symbol, a year", sql: "SELECT date_trunc('day', timestamp) AS day, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-01' AND timestamp < '2025-01-01' GROUP BY day, symbol ORDER BY day"},
	{name: "week, all symbols", sql: "SELECT time_bucket('1 week', timestamp) AS week, symbol, max(high), min(low), sum(volume), avg(close) FROM market_data GROUP BY week, symbol ORDER BY week, symbol"},
	{name: "30 days, ragged ends", sql: "SELECT time_bucket('1 hour', timestamp) AS hour, symbol, max(high), min(low), sum(volume) FROM market_data WHERE timestamp >= '2024-11-30 15:37' AND timestamp <= '2024-12-30 16:11' GROUP BY hour, symbol ORDER BY hour, symbol"},
	{name: "Grafana panel", sql: `SELECT time_bucket('86400.000s', "timestamp") AS "time", symbol AS metric, avg(close) AS close FROM market_data WHERE "timestamp" BETWEEN '2024-07-04T15:02:11Z' AND '2024-12-30T17:05:40Z' AND symbol IN ('SPY', 'SPX') GROUP BY 1, 2 ORDER BY 1, 2`},
	{name: "Superset chart", sql: `SELECT DATE_TRUNC('week', timestamp) AS __timestamp, symbol AS symbol, SUM(volume) AS "SUM(volume)" FROM public.market_data WHERE timestamp >= TO_TIMESTAMP('2024-01-05 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') AND timestamp < TO_TIMESTAMP('2024-12-05 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('week', timestamp), symbol ORDER BY "SUM(volume)" DESC, 1, 2 LIMIT 1000`},
	{name: "Power BI query", sql: `select "_"."symbol", "_"."a0" from (select "rows"."symbol" as "symbol", sum("rows"."volume") as "a0" from (select "_"."symbol", "_"."volume", "_"."timestamp" from "public"."market_data" "_" where "_"."timestamp" >= timestamp '2024-02-05 00:00:00' and "_"."timestamp" < timestamp '2024-11-01 00:00:00') "rows" group by "symbol") "_" where not "_"."a0" is null order by "_"."symbol" limit 1000001`},
	{name: "OHLCV by a function", sql: "SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-01', '2024-12-31')"},
}

type aggregateQuery struct {
	name, zone, sql string
	args            []string
}

// aggregateRun is how long the comparison takes and how much it says.
type aggregateRun struct {
	full       bool // figures are printed
	symbols    int  // of generated bars,
	every      int  // of which every so many minutes has one
	rounds     int
	times      int  // that a short statement is asked in each
	golden     bool // the golden statements are asked
	statements int  // for the gateway's share
}

var (
	fullAggregates  = aggregateRun{full: true, symbols: 10, every: 1, rounds: 5, times: 4, golden: true, statements: 3000}
	shortAggregates = aggregateRun{symbols: 2, every: 390, rounds: 1, times: 1, statements: 20}
)

// aggregateBed is a year of bars on an embedded server, refreshed and settled, and
// the gateway before it. The server has one session: the gateway lets go of it
// before the direct client gets it, and the other way round.
type aggregateBed struct {
	*testing.T
	aggregateRun
	dsn     string
	pid     int
	console *pgconn.PgConn
	on, off *pgconn.PgConn
	rename  *strings.Replacer // SPY and SPX to the symbols with the most bars
}

// TestBenchAggregates asks a year of one-minute bars through the gateway, through it
// without routes, and directly. QVPGW_BENCH_AGGREGATES=full takes bars from the
// gzipped CSV file that QVPGW_BARS names, or makes as many, and gives the figures;
// the short run sees that all are routed and that the answers are equal.
func TestBenchAggregates(t *testing.T) {
	b := &aggregateBed{T: t, aggregateRun: shortAggregates}
	if os.Getenv("QVPGW_BENCH_AGGREGATES") == "full" {
		b.aggregateRun = fullAggregates
	}
	b.dsn = pgtest.OwnEmbedded(t).DSN()
	b.load()
	u, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	pid, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %s, database: template1, user: postgres, sslmode: disable, connect_timeout: 1m}
pool: {size: 1, overflow: 0}
auth: {method: trust, query: false}
schema: {migrate: false, settle: false}
catalog: {refresh: 10m}
`, u.Port()))
	b.pid = pid
	b.console = connectTo(t, addr, "postgres", "pgbouncer")
	b.on, b.off = connectTo(t, addr, "postgres", "template1"), connectTo(t, addr, "postgres", "template1")
	run(t, b.off, "SET qvpgw.route = off")
	b.dashboards()
	if b.golden {
		b.goldenStatements()
	}
	b.share()
	if b.full {
		b.costs()
	}
}

// asked is one statement, asked in one way.
type asked struct {
	rows  [][]string
	took  time.Duration
	route string
}

// ask runs a statement, and once more when what it took is little: the first of a
// session fills caches of the server. Through the gateway the route is asked too.
func (b *aggregateBed) ask(c *pgconn.PgConn, q aggregateQuery, gateway bool) asked {
	b.Helper()
	if q.zone != "" {
		run(b.T, c, "SET TimeZone = '"+q.zone+"'")
		defer run(b.T, c, "RESET TimeZone") // after the route was read
	}
	args := make([][]byte, len(q.args))
	for i, a := range q.args {
		args[i] = []byte(a)
	}
	var a asked
	for n := 0; n < b.times && (n == 0 || a.took < 100*time.Millisecond); n++ {
		began := time.Now()
		var result *pgconn.Result
		if len(args) > 0 {
			result = c.ExecParams(b.Context(), q.sql, args, nil, nil, nil).Read()
		} else if results, err := c.Exec(b.Context(), q.sql).ReadAll(); err != nil {
			b.Fatalf("%s: %v\nin %s", q.name, err, q.sql)
		} else {
			result = results[0]
		}
		took := time.Since(began)
		if result.Err != nil {
			b.Fatalf("%s: %v\nin %s", q.name, result.Err, q.sql)
		}
		if n < 2 || took < a.took {
			a.took = took
		}
		a.rows = nil
		for _, r := range result.Rows {
			row := make([]string, len(r))
			for i, v := range r {
				if row[i] = string(v); v == nil {
					row[i] = "NULL"
				}
			}
			a.rows = append(a.rows, row)
		}
	}
	if gateway {
		a.route = run(b.T, c, "SHOW qvpgw.last_route")
	}
	return a
}

// askDirect asks the server itself, when the gateway has let go of it.
func (b *aggregateBed) askDirect(list []aggregateQuery) []asked {
	b.Helper()
	answers := make([]asked, len(list))
	b.direct(func(c *pgconn.PgConn) {
		for i, q := range list {
			answers[i] = b.ask(c, q, false)
		}
	})
	return answers
}

func (b *aggregateBed) askGateway(c *pgconn.PgConn, list []aggregateQuery) []asked {
	b.Helper()
	answers := make([]asked, len(list))
	for i, q := range list {
		answers[i] = b.ask(c, q, true)
	}
	return answers
}

// dashboards compares the three ways for what dashboards ask.
func (b *aggregateBed) dashboards() {
	list := b.named(aggregateQueries)
	routed, raw, direct := make([][]asked, len(list)), make([][]asked, len(list)), make([][]asked, len(list))
	for range b.rounds {
		gather(routed, b.askGateway(b.on, list))
		gather(raw, b.askGateway(b.off, list))
		gather(direct, b.askDirect(list))
	}
	product, least := 1.0, math.Inf(1)
	fmt.Printf("%-34s %11s %11s %11s %8s\n", "milliseconds", "routed", "route=off", "direct", "speedup")
	for i, q := range list {
		last := routed[i][len(routed[i])-1]
		b.routed(q, last.route)
		b.equal(q, last.rows, direct[i][0].rows)
		b.equal(q, raw[i][0].rows, direct[i][0].rows)
		speedup := medianOf(direct[i], routed[i], millis)
		fmt.Printf("%-34s %11.2f %11.2f %11.2f %8.1f\n", q.name, medianOf(routed[i], nil, millis), medianOf(raw[i], nil, millis), medianOf(direct[i], nil, millis), speedup)
		product *= speedup
		least = min(least, speedup)
	}
	b.figure("aggregates.speedup.geomean", math.Pow(product, 1/float64(len(list))))
	b.figure("aggregates.speedup.min", least)
}

// goldenStatements compares the golden statements, in later rounds only those that
// may be slower routed: a machine that is slow for some seconds must not decide, so these
// get more rounds, of which all count.
func (b *aggregateBed) goldenStatements() {
	all := b.named(b.readGolden())
	routed, direct := make([][]asked, len(all)), make([][]asked, len(all))
	slower := func(i int) bool {
		r, d := medianOf(routed[i], nil, millis), medianOf(direct[i], nil, millis)
		return r > d+max(d/10, 1)
	}
	var left []int
	for i := range all {
		left = append(left, i)
	}
	var cheaper, through int
	for round := range 3 * b.rounds {
		list := make([]aggregateQuery, len(left))
		for n, i := range left {
			list[n] = all[i]
		}
		var on, off []asked
		if round%2 == 0 {
			on = b.askGateway(b.on, list)
		}
		off = b.askDirect(list)
		if round%2 == 1 {
			on = b.askGateway(b.on, list)
		}
		var again []int
		for n, i := range left {
			routed[i], direct[i] = append(routed[i], on[n]), append(direct[i], off[n])
			if round == 0 {
				b.equal(all[i], on[n].rows, off[n].rows)
				if b.routed(all[i], on[n].route) {
					through++
				} else {
					cheaper++
				}
			}
			if slower(i) || round < b.rounds && millis(on[n])*2 > millis(off[n]) {
				again = append(again, i)
			}
		}
		left = again
	}
	n := 0
	for i := range all {
		if slower(i) {
			n++
			fmt.Printf("slower routed: %-50s %8.2f ms, direct %8.2f ms (%s)\n", all[i].name, medianOf(routed[i], nil, millis), medianOf(direct[i], nil, millis), routed[i][0].route)
		}
	}
	fmt.Printf("golden statements: %d routed, %d by choice not, %d slower\n", through, cheaper, n)
	b.figure("aggregates.slower", float64(n))
}

// routed reports whether a statement was answered from an aggregate. It must be, or
// be left to the raw rows because they are few.
func (b *aggregateBed) routed(q aggregateQuery, route string) bool {
	b.Helper()
	if strings.HasPrefix(route, "rewrite aggregate") {
		return true
	}
	if !strings.HasPrefix(route, "pass aggregate_cheaper_raw") {
		b.Errorf("%s: %s\n%s", q.name, route, q.sql)
	}
	return false
}

// share measures the gateway's processor time for statements of a known shape, none of
// which it has seen before, for one text again and again, and for each of what dashboards
// ask.
func (b *aggregateBed) share() {
	used := func(c *pgconn.PgConn, text func(i int) string) float64 {
		for i := range 20 {
			run(b.T, c, text(b.statements+i))
		}
		before := benchCPU(b.T, b.pid)
		for i := range b.statements {
			run(b.T, c, text(i))
		}
		return float64(benchCPU(b.T, b.pid)-before) / float64(time.Microsecond) / float64(b.statements)
	}
	dashboard := func(i int) string {
		from := time.Date(2024, 1, 2, 0, i, 0, 0, time.UTC)
		return b.rename.Replace(fmt.Sprintf("SELECT date_trunc('day', timestamp) AS day, max(high), min(low), sum(volume) FROM market_data WHERE symbol = 'SPY' AND timestamp >= '%s' AND timestamp < '%s' GROUP BY day ORDER BY day",
			from.Format(time.DateTime), from.AddDate(0, 9, 0).Format(time.DateOnly)))
	}
	routed := used(b.on, dashboard)
	if route := run(b.T, b.on, "SHOW qvpgw.last_route"); b.full && !strings.HasPrefix(route, "rewrite aggregate") {
		b.Errorf("the statement of the share: %s", route)
	}
	same := used(b.on, func(int) string { return dashboard(0) })
	passed := used(b.off, func(int) string { return "SELECT 1" })
	fmt.Printf("the gateway's processor time: %.0f µs for a routed statement of a known shape, %.0f µs for a known text, %.0f µs for SELECT 1\n", routed, same, passed)
	b.statements = max(1, b.statements/30)
	for _, q := range b.named(aggregateQueries) {
		fmt.Printf("the gateway's processor time: %4.0f µs for %s\n", used(b.on, func(int) string { return q.sql }), q.name)
	}
	b.figure("aggregates.own_us", routed)
}

func gather(all [][]asked, more []asked) {
	for i, a := range more {
		all[i] = append(all[i], a)
	}
}

func millis(a asked) float64 { return float64(a.took) / float64(time.Millisecond) }

func (b *aggregateBed) figure(name string, value float64) {
	b.Helper()
	if b.full {
		figure.Print(b.T, name, value)
	}
}

// equal compares two answers; sums of floats may differ in their last bits.
func (b *aggregateBed) equal(q aggregateQuery, got, want [][]string) {
	b.Helper()
	if len(got) != len(want) {
		b.Errorf("%s: %d rows, directly %d\n%s", q.name, len(got), len(want), q.sql)
		return
	}
	if !strings.Contains(strings.ToUpper(q.sql), "ORDER BY") {
		slices.SortFunc(got, slices.Compare)
		slices.SortFunc(want, slices.Compare)
	}
	for i := range want {
		if !slices.EqualFunc(got[i], want[i], sameValue) {
			b.Errorf("%s: row %d is %q, directly %q\n%s", q.name, i+1, got[i], want[i], q.sql)
			return
		}
	}
}

func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y))
}

// named puts the symbols of the data into statements.
func (b *aggregateBed) named(list []aggregateQuery) []aggregateQuery {
	list = slices.Clone(list)
	for i, q := range list {
		list[i].sql = b.rename.Replace(q.sql)
		list[i].args = slices.Clone(q.args)
		for j, a := range q.args {
			list[i].args[j] = b.rename.Replace(a)
		}
	}
	return list
}

// readGolden reads the golden statements that are routed, without those whose time
// is relative to now, as the bars are of 2024, without COPY and DECLARE, whose rows the
// client does not gather, and without those over other tables whose parameters are bound.
func (b *aggregateBed) readGolden() []aggregateQuery {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "internal", "router", "testdata", "aggregates_routed.txt"))
	if err != nil {
		b.Fatal(err)
	}
	args := map[string][]string{
		"a parameter as the symbol and the limit": {"SPY", "10"},
		"a list in a parameter":                   {"{SPX,SPY}"},
	}
	var list []aggregateQuery
	for _, block := range strings.Split(string(raw), "\n=== ")[1:] {
		title, rest, _ := strings.Cut(block, "\n")
		sql, _, _ := strings.Cut(rest, "\n---\n")
		if strings.Contains(sql, "now()") || strings.Contains(sql, "current_date") || strings.HasPrefix(sql, "COPY ") || strings.HasPrefix(sql, "DECLARE ") || strings.HasPrefix(sql, "BIND ") {
			continue
		}
		q := aggregateQuery{name: title, sql: sql, args: args[title]}
		if zoned, ok := strings.CutPrefix(sql, "SET TimeZone = '"); ok {
			q.zone, q.sql, _ = strings.Cut(zoned, "'; ")
		}
		list = append(list, q)
	}
	return list
}
