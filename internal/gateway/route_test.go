package gateway_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
	"qvpgw/internal/schema"
)

// routed are statements that a fresh aggregate answers. Their order is determined
// wherever they ask for one; the values are multiples of 1/8, so that sums of
// floats are exact in any order. @ stands for market_data.
var routed = []struct {
	sql  string
	args []string
}{
	{sql: "SELECT time_bucket('1 hour', timestamp) AS bucket, symbol, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM @ WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' GROUP BY bucket, symbol ORDER BY bucket DESC"},
	{sql: "SELECT time_bucket('1 day', timestamp) AS bucket, symbol, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM @ WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' GROUP BY bucket, symbol ORDER BY bucket DESC"},
	{sql: "SELECT time_bucket('1 week', timestamp) AS bucket, symbol, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM @ WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' GROUP BY bucket, symbol ORDER BY bucket DESC"},
	{sql: "SELECT date_trunc('day', timestamp) AS bucket, symbol, first(open, timestamp) AS open, last(close, timestamp) AS close, sum(volume) AS volume FROM @ WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' GROUP BY bucket, symbol ORDER BY bucket DESC"},
	{sql: "SELECT date_trunc('week', \"timestamp\"), avg(close) FROM public.@ WHERE timestamp >= '2024-01-01' GROUP BY 1 ORDER BY 1"},
	{sql: "SELECT count(*), sum(volume), min(low), max(high), avg(close), avg(volume) FROM @"},
	{sql: "SELECT symbol, sum(volume) AS total, count(*) FROM @ GROUP BY symbol HAVING sum(volume) > 1000 ORDER BY total DESC, symbol LIMIT 10"},
	{sql: "SELECT symbol, count(*), sum(volume) FROM @ WHERE timestamp >= '2024-01-10 10:30' AND timestamp < '2024-02-20 07:15' GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT symbol, count(*), sum(volume) FROM @ WHERE timestamp >= '2024-01-10' AND timestamp < '2024-02-20' GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT time_bucket('3600.000s', \"timestamp\") AS \"time\", symbol AS metric, sum(volume) AS volume FROM @ WHERE \"timestamp\" BETWEEN '2024-01-10T18:00:00Z' AND '2024-01-12T18:05:00Z' GROUP BY 1, 2 ORDER BY 1, 2"},
	{sql: "SELECT time_bucket('1 day', timestamp) AS day, sum(volume) FROM @ WHERE timestamp > now() - interval '30 days' GROUP BY day ORDER BY day"},
	{sql: "SELECT symbol, sum(volume) FROM @ WHERE timestamp >= date_trunc('day', now()) - interval '20 days' GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT count(*) FROM @ WHERE timestamp >= timestamptz '2024-01-10 00:00:00+01' AND timestamp < date '2024-02-01'"},
	{sql: "SELECT floor(extract(epoch from \"timestamp\")/86400)*86400 AS \"time\", max(high) FROM @ GROUP BY 1 ORDER BY 1"},
	{sql: "SELECT symbol, max(high) - min(low) AS span FROM @ WHERE symbol IN ('SPY', 'SPX') AND symbol <> 'X' AND symbol LIKE 'S%' GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT date_trunc('day', timestamp), last(close, timestamp) FROM @ WHERE symbol = $1 GROUP BY 1 ORDER BY 1 DESC LIMIT $2", args: []string{"SPY", "7"}},
	{sql: "SELECT symbol, count(close) FROM @ WHERE symbol = ANY($1) GROUP BY symbol ORDER BY symbol", args: []string{"{SPX,SPY}"}},
	{sql: "SELECT symbol, round((avg(close))::numeric, 2) AS mean, coalesce(sum(volume), 0) / nullif(count(*), 0) AS per_bar FROM @ GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT extract(hour FROM timestamp) AS hour, sum(volume), avg(volume) FROM @ GROUP BY hour ORDER BY hour"},
	{sql: "SELECT count(*) FROM @ WHERE extract(hour FROM timestamp) = 15 AND date_trunc('day', timestamp) >= '2024-02-01'"},
	{sql: "SELECT date_trunc('year', timestamp) AS y, date_trunc('month', timestamp) AS m, sum(volume) FROM @ GROUP BY y, m ORDER BY y, m"},
	{sql: "SELECT time_bucket('1 month', timestamp) AS month, symbol, sum(volume) FROM @ GROUP BY month, symbol ORDER BY month, symbol"},
	{sql: "SELECT time_bucket('14 days', timestamp, TIMESTAMPTZ '2024-01-01 00:00:00+00') AS b, sum(volume) FROM @ GROUP BY b ORDER BY b"},
	{sql: "SELECT time_bucket('1 day', timestamp, INTERVAL '6 hours') AS b, sum(volume) FROM @ GROUP BY b ORDER BY b"},
	{sql: "SELECT symbol FROM @ WHERE timestamp < '2024-02-01' GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT symbol, min(timestamp), max(timestamp), count(timestamp), max(symbol) FROM @ GROUP BY symbol ORDER BY 1"},
	{sql: "SELECT time_bucket('1 day', timestamp), sum(volume) FROM @ GROUP BY time_bucket ORDER BY time_bucket"},
	{sql: "SELECT time_bucket('1 hour', timestamp) AS b, symbol, avg(volume) AS v, avg(close) FROM @ WHERE timestamp < '2024-01-20 10:10' GROUP BY 1, 2 HAVING count(*) > 0 ORDER BY b, symbol OFFSET 3"},
	{sql: "SELECT left(symbol, 2) AS prefix, date_trunc('month', timestamp) AS month, sum(volume) FROM @ GROUP BY left(symbol, 2), month ORDER BY 1, 2"},
	{sql: "SELECT time_bucket('7 days', timestamp, \"offset\" => INTERVAL '-1 day') AS sunday, count(*), avg(high) FROM @ GROUP BY sunday ORDER BY sunday"},
	{sql: "SELECT symbol, sum(open), sum(high), sum(low), sum(close) FROM @ GROUP BY symbol ORDER BY symbol"},
	{sql: "SELECT count(*), sum(volume), max(high), first(open, timestamp) FROM @ WHERE symbol = 'none' AND timestamp >= '2024-01-10' GROUP BY symbol"},
	{sql: "SELECT count(*) FROM @ WHERE timestamp >= '2024-01-10'"},
	{sql: "SELECT symbol, first(open, timestamp), last(close, timestamp) FROM @ GROUP BY symbol ORDER BY symbol DESC"},
	{sql: "SELECT symbol AS s, count(volume) AS \"n of volume\" FROM @ m WHERE m.timestamp >= '2024-01-18' AND m.timestamp < '2024-02-08' GROUP BY m.symbol ORDER BY s"},
	{sql: "SELECT time_bucket('2 days', timestamp) AS b, min(open), max(close) FROM @ GROUP BY b ORDER BY b DESC LIMIT 9"},
	{sql: "SELECT time_bucket('4 hours', timestamp) AS b, count(*) FROM @ WHERE timestamp >= '2024-02-01' AND timestamp < '2024-02-05' GROUP BY b ORDER BY b"},
	{sql: "SELECT symbol, count(*) FROM @ GROUP BY symbol"},
	{sql: "SELECT date_trunc('quarter', timestamp) AS q, symbol, max(high) FROM @ GROUP BY q, symbol ORDER BY q, symbol"},
	{sql: "SELECT max(timestamp), min(timestamp) FROM @ WHERE symbol = 'SPX'"},
	{sql: "SELECT symbol, count(*), sum(volume) FROM @ WHERE timestamp >= $1 AND timestamp < $2 GROUP BY symbol ORDER BY symbol", args: []string{"2024-01-10 10:30+00", "2024-02-20T07:15:00Z"}},
	{sql: "SELECT date_trunc('day', timestamp), sum(volume) FROM @ WHERE symbol = $3 AND timestamp BETWEEN $1 AND $2 GROUP BY 1 ORDER BY 1", args: []string{"2024-01-10", "2024-02-20 12:00", "SPY"}},
	{sql: "SELECT time_bucket($1, timestamp) AS b, max(high) FROM @ WHERE timestamp >= $2::date GROUP BY b ORDER BY b", args: []string{"2 days", "2024-01-10"}},
	{sql: "SELECT time_bucket($1::interval, timestamp) AS b, max(high) FROM @ WHERE timestamp > now() - $2::interval GROUP BY b ORDER BY b", args: []string{"06:00:00", "40 days"}},
	{sql: "SELECT x.day, x.n FROM (SELECT time_bucket('1 day', timestamp) AS day, count(*) AS n FROM @ WHERE timestamp < $1 GROUP BY 1) x WHERE x.n > $2 ORDER BY 1", args: []string{"2024-02-01", "1"}},
}

// routeSteps change the data after the aggregates were refreshed. Each runs on a
// client of its own, which then leaves.
var routeSteps = []string{
	"INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('2024-02-10 10:10:10', 'SPY', 1, 999, 1, 2, 77777), ('2024-01-20 10:10:10', 'SPX', 1, 2, 0.5, 2, 5)",
	"INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES (now(), 'SPY', 1, 2, 1, 2, 3)",
	"CALL refresh_continuous_aggregate('market_data_1h', '2024-02-01', '2024-02-20')",
	"UPDATE market_data SET volume = volume + 1 WHERE timestamp >= '2024-02-05' AND timestamp < '2024-02-05 03:00'",
	"DELETE FROM market_data WHERE timestamp >= '2024-02-20' AND timestamp < '2024-02-23' AND symbol = 'SPY'",
	"CALL refresh_continuous_aggregate('market_data_1d', NULL, NULL)",
	"SELECT drop_chunks('market_data', older_than => '2024-01-25'::timestamptz)",
	"CALL refresh_continuous_aggregate('market_data_1h', NULL, NULL)",
	"INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('2023-12-01 10:10:10', 'SPY', 1, 999, 1, 2, 77777)",
	"TRUNCATE market_data",
}

// routedDatabase is an embedded server with two months of bars and fresh
// aggregates.
func routedDatabase(t *testing.T) (dsn string) {
	t.Helper()
	dsn = pgtest.OwnEmbedded(t).DSN()
	if err := schema.Migrate(context.Background(), dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, dsn, `INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume)
SELECT t, s, p, p + 1.5, p - 0.25, CASE WHEN n % 11 > 0 THEN p + 0.125 END, CASE WHEN n % 7 > 0 THEN n * 13 % 1009 END
FROM (SELECT t, s, row_number() OVER (ORDER BY t, s) AS n, round((800 + 80 * sin(extract(epoch FROM t) / 7000))::numeric)::float8 / 8 AS p
      FROM unnest(ARRAY['SPX', 'SPY']) s, (
        SELECT generate_series('2024-01-04 00:07'::timestamptz, '2024-03-05 12:30', '1 hour')
        UNION ALL SELECT generate_series(date_trunc('hour', now()) - interval '45 days', now(), '3 hours')) x (t)) y`)
	for _, name := range []string{"market_data_1h", "market_data_1d", "market_data_1w"} {
		run(t, dsn, "CALL refresh_continuous_aggregate('"+name+"', NULL, NULL)")
	}
	settle(t, dsn)
	return dsn
}

// settle does what the gateway's keeper does.
func settle(t *testing.T, dsn string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := schema.Settle(ctx, conn); err != nil {
		t.Fatal(err)
	}
}

// routeServer serves the embedded server, which has one session, one user and one
// database.
func routeServer(t *testing.T, dsn string) (g *gateway.Server, addr string) {
	t.Helper()
	return serve(t, dsn, gateway.Options{LoginDatabase: "template1", LoginUser: "postgres", Pool: pool.Options{Size: 1}})
}

// compared is a reply as it must be equal: rows without an order are sorted.
func compared(sql string, lines []string) []string {
	if !strings.Contains(sql, "ORDER BY") {
		slices.Sort(lines)
	}
	return lines
}

// asks runs a statement by a protocol: what is sent, and how many replies it has.
func asks(sql string, args []string, how string) ([]message, int) {
	b := &pgproto3.Bind{}
	for _, a := range args {
		b.Parameters = append(b.Parameters, []byte(a))
	}
	switch how {
	case "simple":
		return []message{simple(sql)}, 1
	case "binary":
		b.ResultFormatCodes = []int16{1}
	case "named":
		b.PreparedStatement = "s"
		again := *b
		return []message{parse("s", sql), describe('S', "s"), endGroup, b, describe('P', ""), runPortal("", 0), endGroup, &again, runPortal("", 0), endGroup, closing('S', "s"), endGroup}, 4
	}
	return []message{parse("", sql), b, describe('P', ""), runPortal("", 0), endGroup}, 1
}

func TestRoutedAnswersAreTheDatabasesOwn(t *testing.T) {
	dsn := routedDatabase(t)
	g, addr := routeServer(t, dsn)
	on, off := dial(t, addr, dsn), dial(t, addr, dsn)
	off.must("SET qvpgw.route = off")
	different := func(when, sql string, args []string, how string) bool {
		t.Helper()
		sql = strings.ReplaceAll(sql, "@", "market_data")
		list, n := asks(sql, args, how)
		off.send(list...)
		want := compared(sql, off.reply(n))
		on.send(list...)
		got := compared(sql, on.reply(n))
		if slices.Equal(got, want) {
			return false
		}
		if when != "" {
			t.Errorf("%s, %s: %s\nrouted %.2000q\nraw    %.2000q", when, how, sql, got, want)
		}
		return true
	}
	for _, r := range routed {
		for _, how := range []string{"simple", "text", "binary", "named"} {
			if how == "simple" && r.args != nil {
				continue
			}
			different("fresh", r.sql, r.args, how)
			if got := on.route(); how != "named" && !strings.HasPrefix(got, "rewrite aggregate market_data_1") {
				t.Errorf("fresh, %s: %s: %s", how, r.sql, got)
			}
		}
	}
	if got := off.route(); got != "pass route_off" {
		t.Errorf("with qvpgw.route = off: %s", got)
	}

	for _, sql := range []string{
		"COPY (SELECT symbol, count(*), sum(volume) FROM @ GROUP BY symbol ORDER BY symbol) TO STDOUT",
		"COPY (SELECT date_trunc('day', timestamp) AS day, max(high) AS \"the high\" FROM @ WHERE symbol = 'SPY' GROUP BY 1 ORDER BY 1) TO STDOUT WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'none')",
		"COPY (SELECT symbol, count(*) FROM @ WHERE symbol = 'none' GROUP BY symbol ORDER BY 1) TO STDOUT (FORMAT csv, HEADER)",
	} {
		different("copied", sql, nil, "simple")
		if got := on.route(); !strings.HasPrefix(got, "rewrite aggregate market_data_1") {
			t.Errorf("%s: %s", sql, got)
		}
	}

	t.Run("cursors", func(t *testing.T) { cursorsAreTheDatabasesOwn(t, on, off, "fresh", len(withCursors)) })

	t.Run("in a transaction", func(t *testing.T) {
		// One after the other: the server has one session.
		inTransaction := func(sql string, args []string, how string) string {
			var replies [2][]string
			route := ""
			for i, p := range []*peer{off, on} {
				p.must("BEGIN")
				list, n := asks(sql, args, how)
				p.send(list...)
				replies[i] = compared(sql, p.reply(n))
				if p == on {
					route = p.route()
				}
				p.must("COMMIT")
			}
			if !slices.Equal(replies[0], replies[1]) {
				t.Errorf("%s: %s\nrouted %.2000q\nraw    %.2000q", how, sql, replies[1], replies[0])
			}
			return route
		}
		for _, r := range routed {
			for _, how := range []string{"simple", "text", "named"} {
				if how == "simple" && r.args != nil {
					continue
				}
				route := inTransaction(strings.ReplaceAll(r.sql, "@", "market_data"), r.args, how)
				nested, empty := strings.Contains(r.sql, "FROM (SELECT"), strings.Contains(r.sql, "'none'")
				if how != "named" && !nested && !empty && !strings.HasPrefix(route, "rewrite aggregate market_data_1") {
					t.Errorf("%s: %s: %s", how, r.sql, route)
				}
			}
		}
		for _, begin := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"} {
			on.must(begin)
			on.rows(strings.ReplaceAll(routed[5].sql, "@", "market_data"))
			if got := on.route(); got != "pass not_fresh market_data_1d" {
				t.Errorf("after %s: %s", begin, got)
			}
			on.must("ROLLBACK")
		}
		// An error of the statement's own fails the transaction, as without us.
		failing := strings.Replace(strings.ReplaceAll(routed[37].sql, "@", "market_data"), "count(*)", "1 / (count(*) - count(*))", 1)
		var replies [2][]string
		for i, p := range []*peer{off, on} {
			p.must("BEGIN")
			p.must("SAVEPOINT here")
			p.send(simple(failing), simple("SELECT 1"), simple("ROLLBACK TO here"), simple("SELECT 2"), simple("COMMIT"))
			replies[i] = p.reply(5)
		}
		if !slices.Equal(replies[0], replies[1]) {
			t.Errorf("failing: routed %q\nraw %q", replies[1], replies[0])
		}
	})

	t.Run("what is not alone", func(t *testing.T) {
		sql := strings.ReplaceAll(routed[5].sql, "@", "market_data")
		insert := "INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('2024-02-01 10:10', 'SPY', 1, 5000, 1, 2, 1)"
		var own []string
		for _, p := range []*peer{off, on} {
			p.must("BEGIN")
			p.must(insert)
			own = append(own, p.rows(sql))
			if p == on {
				if got := p.route(); got != "pass not_fresh market_data_1d" {
					t.Errorf("in a transaction: %s", got)
				}
			}
			p.must("ROLLBACK")
		}
		if own[0] != own[1] || !strings.Contains(own[1], "|5000|") {
			t.Errorf("with rows of its own a transaction sees %q", own)
		}
		for name, list := range map[string][]message{
			"two executions":   {parse("", sql), bind("", ""), runPortal("", 0), bind("", ""), runPortal("", 0), endGroup},
			"two statements":   {parse("", sql), bind("", ""), runPortal("", 0), parse("", "SELECT 1"), bind("", ""), runPortal("", 0), endGroup},
			"a row limit":      {parse("", routedText(0)), bind("", ""), runPortal("", 3), runPortal("", 2), endGroup},
			"a write before":   {parse("", insert), bind("", ""), runPortal("", 0), parse("", sql), bind("", ""), runPortal("", 0), parse("", "SELECT 1/0"), bind("", ""), runPortal("", 0), endGroup},
			"a simple pair":    {simple(sql + "; SELECT 1")},
			"a named portal":   {parse("", sql), bind("p", ""), describe('P', "p"), runPortal("p", 0), endGroup},
			"a failing bind":   {parse("", sql), bind("", "", "too many"), runPortal("", 0), endGroup},
			"a bad expression": {parse("", strings.Replace(sql, "max(high)", "max(high) / 0 ", 1)), bind("", ""), runPortal("", 0), endGroup},
		} {
			want, got := off.extended(list...), on.extended(list...)
			if !slices.Equal(want, got) {
				t.Errorf("%s:\nrouted %q\nraw    %q", name, got, want)
			}
			if route := on.route(); strings.HasPrefix(route, "rewrite") {
				t.Errorf("%s: %s", name, route)
			}
		}
	})

	asked := []int{0, 1, 5, 7, 8, 10, 18, 25}
	step := func(sql string) {
		t.Helper()
		writer := dial(t, addr, dsn)
		writer.must(sql)
		writer.send(&pgproto3.Terminate{}) // what pinned it is reset
	}
	answered, cursors := 0, 0
	for i, sql := range routeSteps {
		step(sql)
		if i%3 == 0 {
			cursors += cursorsAreTheDatabasesOwn(t, on, off, sql, 3)
		}
		for round, how := range []string{"simple", "binary"} {
			for _, n := range asked {
				different(fmt.Sprintf("step %d, round %d", i, round), routed[n].sql, nil, how)
				if strings.HasPrefix(on.route(), "rewrite") {
					answered++
				}
			}
		}
	}
	t.Logf("%d of %d answers after changes came from an aggregate", answered, 2*len(asked)*len(routeSteps))
	if answered < len(asked) || cursors == 0 {
		t.Error("after changes hardly anything was routed: the steps test nothing")
	}

	t.Run("without the guard wrong answers are seen", func(t *testing.T) {
		step(strings.Replace(routeSteps[0], "2024-01-20", "2024-02-20", 1))
		step("CALL refresh_continuous_aggregate('market_data_1h', NULL, NULL)")
		settle(t, "postgres://postgres@"+addr+"/template1?sslmode=disable") // the server has one session, and the gateway has it
		for deadline := time.Now().Add(5 * time.Second); !strings.HasPrefix(on.route(), "rewrite") && time.Now().Before(deadline); {
			on.query(routedText(8))
		}
		gateway.Unproven(g)
		step(routeSteps[0])
		if !different("", routed[8].sql, nil, "simple") {
			t.Error("the guard is off and nothing was wrong: the comparison sees nothing")
		}
	})
}

func routedText(n int) string { return strings.ReplaceAll(routed[n].sql, "@", "market_data") }
