package gateway_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// tickStatements are asked with routing on and off; of where they are answered from
// is said what must be so.
var tickStatements = []struct{ sql, route string }{
	{"SELECT time_bucket('1 minute', timestamp) AS m, symbol, first(price, timestamp), max(price), min(price), last(price, timestamp), sum(volume) FROM tick_data GROUP BY m, symbol ORDER BY m, symbol", "rewrite aggregate tick_data_1m"},
	{"SELECT time_bucket('1 hour', timestamp) AS h, symbol, first(price, timestamp), max(price), min(price), last(price, timestamp), sum(volume), count(*), avg(bid), avg(ask) FROM tick_data WHERE symbol = 'SPY' GROUP BY h, symbol ORDER BY h", "rewrite aggregate tick_data_1h"},
	{"SELECT date_trunc('day', timestamp) AS d, symbol, count(price), avg(volume), min(bid), max(ask), last(ask, timestamp) FROM tick_data WHERE timestamp >= '2024-03-04 10:30:20' GROUP BY d, symbol ORDER BY d, symbol", "rewrite aggregate tick_data_1"},
	{"SELECT symbol, min(timestamp), max(timestamp), max(price) - min(price) AS span FROM tick_data GROUP BY symbol ORDER BY symbol", "rewrite aggregate tick_data_1"},
	{"SELECT time_bucket('1 week', timestamp) AS w, avg(ask - bid) FROM tick_data GROUP BY w ORDER BY w", "rewrite aggregate tick_data_1"},
	{"SELECT exchange, sum(volume) FROM tick_data GROUP BY exchange ORDER BY exchange", "pass"},
	// Aggregates themselves, those of aggregates too, are not routed.
	{"SELECT time_bucket('1 hour', bucket) AS h, symbol, first(open, first_timestamp), max(high), min(low), last(close, last_timestamp), sum(volume) FROM tick_data_1m GROUP BY h, symbol ORDER BY h, symbol", "pass"},
	{"SELECT bucket, symbol, open, high, low, close, volume, count, first_bid, last_ask, sum_spread / count_spread AS spread FROM tick_data_1h ORDER BY bucket, symbol", "pass"},
	{"SELECT date_trunc('month', bucket) AS m, sum(volume), min(low) FROM tick_data_1d GROUP BY m ORDER BY m", "pass"},
	{"SELECT * FROM tick_data_1w ORDER BY bucket, symbol", "pass"},
	{"SELECT time_bucket('1 day', timestamp) AS d, last(total_value, timestamp), avg(equity), min(cash), count(*) FROM portfolio_values GROUP BY d ORDER BY d", "rewrite aggregate portfolio_values_1d"},
}

// levels say whether an aggregate of ticks has the bars that the ticks themselves
// give: two rows that must be equal.
var levels = []struct{ aggregate, width string }{
	{"tick_data_1m", "1 minute"}, {"tick_data_1h", "1 hour"}, {"tick_data_1d", "1 day"}, {"tick_data_1w", "7 days"},
}

func levelSQL(aggregate, width string) (held, raw string) {
	held = `SELECT bucket, symbol, open, high, low, close, volume, first_timestamp, last_timestamp, count, round(sum_price::numeric, 3), count_price,
  count_volume, min_volume, max_volume, first_bid, last_bid, min_bid, max_bid, count_bid, round(sum_ask::numeric, 3), first_ask, last_ask, count_spread, round(sum_spread::numeric, 3), max_spread
FROM ` + aggregate + ` ORDER BY bucket, symbol`
	raw = `SELECT time_bucket('` + width + `', timestamp) AS b, symbol, first(price, timestamp), max(price), min(price), last(price, timestamp), sum(volume), min(timestamp), max(timestamp), count(*),
  round(sum(price)::numeric, 3), count(price), count(volume), min(volume), max(volume), first(bid, timestamp), last(bid, timestamp), min(bid), max(bid), count(bid),
  round(sum(ask)::numeric, 3), first(ask, timestamp), last(ask, timestamp), count(ask - bid), round(sum(ask - bid)::numeric, 3), max(ask - bid)
FROM tick_data GROUP BY b, symbol ORDER BY b, symbol`
	return held, raw
}

func TestTicksAreAnsweredAsTheDatabaseDoes(t *testing.T) {
	dsn := pgtest.OwnEmbedded(t).DSN()
	if err := schema.Migrate(context.Background(), dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, dsn, `INSERT INTO tick_data (timestamp, symbol, price, volume, bid, ask, exchange)
SELECT at, s, CASE WHEN n % 13 > 0 THEN p END, CASE WHEN n % 7 > 0 THEN n % 1009 END, p - 0.25, CASE WHEN n % 5 > 0 THEN p + 0.125 END, 'X'
FROM (SELECT at, s, row_number() OVER (ORDER BY at, s)::int AS n, round((800 + 80 * sin(extract(epoch FROM at) / 7000))::numeric)::float8 / 8 AS p
      FROM unnest(ARRAY['SPX', 'SPY']) s, generate_series('2024-03-02 09:30:07'::timestamptz, '2024-03-12 16:00', '11 min 13 sec') at) x`)
	run(t, dsn, "INSERT INTO portfolio_values (timestamp, total_value, cash, equity) SELECT at, i, i % 7, i - i % 7 FROM generate_series(1, 200) i, LATERAL (SELECT '2024-03-01'::timestamptz + i * interval '1 hour') x (at)")
	for _, name := range []string{"tick_data_1m", "tick_data_1h", "tick_data_1d", "tick_data_1w", "portfolio_values_1d"} {
		run(t, dsn, "CALL refresh_continuous_aggregate('"+name+"', NULL, NULL)")
	}
	settle(t, dsn)
	_, addr := routeServer(t, dsn)
	on, off := dial(t, addr, dsn), dial(t, addr, dsn)
	off.must("SET qvpgw.route = off")
	same := func(when string, routed bool) {
		t.Helper()
		for _, s := range tickStatements {
			for _, how := range []string{"simple", "binary"} {
				list, n := asks(s.sql, nil, how)
				off.send(list...)
				want := off.reply(n)
				on.send(list...)
				if got := on.reply(n); !slices.Equal(got, want) {
					t.Errorf("%s, %s: %s\nrouted %.2000q\nraw    %.2000q", when, how, s.sql, got, want)
				}
				if got := on.route(); routed && !strings.HasPrefix(got, s.route) {
					t.Errorf("%s, %s: %s: %s, not %s", when, how, s.sql, got, s.route)
				}
			}
		}
		for _, l := range levels {
			held, raw := levelSQL(l.aggregate, l.width)
			if got, want := off.rows(held), off.rows(raw); got != want {
				t.Errorf("%s, %s has\n%.1000s\nthe ticks give\n%.1000s", when, l.aggregate, got, want)
			}
		}
	}
	same("fresh", true)
	write := func(sql string) {
		t.Helper()
		writer := dial(t, addr, dsn)
		writer.must(sql)
		writer.send(&pgproto3.Terminate{}) // what pinned it is reset
	}
	write("INSERT INTO tick_data (timestamp, symbol, price, volume, bid, ask) VALUES ('2024-03-24 10:00:01', 'SPY', 999, 5, 998, 1000), ('2024-03-24 11:00:01', 'SPY', 9, 5, 8, 10)")
	same("newer ticks, not materialized", false)
	write("DELETE FROM tick_data WHERE timestamp >= '2024-03-05' AND timestamp < '2024-03-05 04:00'")
	for _, l := range levels {
		write("CALL refresh_continuous_aggregate('" + l.aggregate + "', NULL, NULL)")
	}
	same("after a delete and a refresh", false)
}
