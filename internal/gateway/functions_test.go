package gateway_test

import (
	"slices"
	"strings"
	"testing"
)

// called are statements over functions of the platform and what becomes of them: the
// route of the second execution.
var called = []struct{ sql, route string }{
	{"SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10')", "rewrite aggregate market_data_1d"},
	{"SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 hour', now() - interval '7 days')", "rewrite aggregate market_data_1h"},
	{"SELECT * FROM qvp.time_bucket_aggregates(symbol => 'SPX', start_time => '2024-01-10 10:10', bucket_width => '1 week', end_time => '2024-03-01')", "rewrite aggregate market_data_1d"},
	{"SELECT bucket, high - low AS spread, volume / 2 FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10', '2024-02-10') AS f WHERE f.volume > 100 ORDER BY volume DESC, bucket LIMIT 3", "rewrite aggregate market_data_1d"},
	{"SELECT b, c FROM qvp.time_bucket_aggregates('SPY', '2 days', '2024-01-10') AS f (b, o, h, l, c) WHERE b < '2024-02-01' ORDER BY 2, b", "rewrite aggregate market_data_1d"},
	{"SELECT count(*) FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10')", "pass inline_around"},
	{"SELECT max(high) FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10')", "pass inline_around"},
	{"SELECT bucket, row_number() OVER (ORDER BY bucket) FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10')", "pass inline_around"},
	{"SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10') WITH ORDINALITY", "pass inline_call"},
	{"SELECT * FROM qvp.time_bucket_aggregates((SELECT 'SPY'), '1 day', '2024-01-10')", "pass inline_argument"},
	{"SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10', source => 'ticks')", "pass aggregate_not_materialized"},
	{"SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 minute', '2024-02-10')", "pass aggregate_bucket"},
	{"SELECT * FROM qvp.get_market_data('SPY', '2024-02-10', '2024-02-11')", "pass plain"},
	{"SELECT * FROM qvp.get_portfolio_history(7)", "pass plain"},
	{"SELECT * FROM qvp.find_similar_features('@', 5)", "cached hit public.feature_embeddings"},
	{"SELECT id, distance FROM qvp.find_similar_features('@', 5, 'l2', symbol => 'S1') WHERE distance > 0.5 ORDER BY distance, id", "cached hit public.feature_embeddings"},
	{"SELECT * FROM qvp.find_similar_features('@', 5, 'l1', feature_type => 'returns')", "cached hit public.feature_embeddings"},
	{"SELECT * FROM qvp.find_similar_features('@', 5, 'inner_product', NULL, 'returns')", "cached hit public.feature_embeddings"},
	{"SELECT * FROM qvp.find_similar_features('@', 5, start_time => '2024-01-01')", "pass knn_filter"},
	{"SELECT id, current_date FROM qvp.find_similar_features('@', 5)", "pass inline_around"},
	{"SELECT * FROM qvp.find_similar_regimes(0.2, 20, 0, 3)", "cached hit public.volatility_regimes"},
}

// plainText is a statement over functions as SQL without them.
var plainText = map[string]string{
	called[0].sql:  "SELECT time_bucket('1 day', timestamp), first(open, timestamp), max(high), min(low), last(close, timestamp), sum(volume)::bigint FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' GROUP BY 1 ORDER BY 1",
	called[2].sql:  "SELECT time_bucket('1 week', timestamp), first(open, timestamp), max(high), min(low), last(close, timestamp), sum(volume)::bigint FROM market_data WHERE symbol = 'SPX' AND timestamp >= '2024-01-10 10:10' AND timestamp < '2024-03-01' GROUP BY 1 ORDER BY 1",
	called[3].sql:  "SELECT time_bucket('1 day', timestamp), max(high) - min(low), sum(volume)::bigint / 2 FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' AND timestamp < '2024-02-10' GROUP BY 1 HAVING sum(volume) > 100 ORDER BY sum(volume) DESC, 1 LIMIT 3",
	called[4].sql:  "SELECT time_bucket('2 days', timestamp) AS b, last(close, timestamp) FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-10' GROUP BY 1 HAVING time_bucket('2 days', timestamp) < '2024-02-01' ORDER BY 2, b",
	called[15].sql: "SELECT id, embedding <-> '@' FROM (SELECT * FROM feature_embeddings WHERE symbol = 'S1' ORDER BY embedding <-> '@' LIMIT 5) f WHERE embedding <-> '@' > 0.5 ORDER BY 2, 1",
}

func TestCallsOfFunctionsArePlannedAsWhatTheyStandFor(t *testing.T) {
	dsn := routedDatabase(t)
	run(t, dsn, `INSERT INTO feature_embeddings (timestamp, symbol, feature_type, embedding)
SELECT timestamptz '2024-01-01' + i * interval '1 hour', 'S' || i % 3, 'returns', (SELECT array_agg(sin(i * 7 + j * j)) FROM generate_series(1, 128) j)::vector FROM generate_series(1, 40) i;
INSERT INTO tick_data (timestamp, symbol, price, volume) SELECT timestamptz '2024-01-11' + i * interval '3 hours', 'SPY', 1 + i, i FROM generate_series(1, 40) i;
SELECT qvp.insert_regime('r' || i, i / 10.0, 10 + i, i - 2, i) FROM generate_series(1, 5) i;
SELECT qvp.insert_portfolio_value(1, 2, 3)`)
	_, addr := routeServer(t, dsn)
	on, off := dial(t, addr, dsn), dial(t, addr, dsn)
	off.must("SET qvpgw.route = off")
	off.must("SET qvpgw.cache = off")
	vector := "[0.25" + strings.Repeat(",0.25", 127) + "]"
	rows := func(p *peer, sql string) []string {
		return slices.DeleteFunc(p.query(strings.ReplaceAll(sql, "@", vector)), func(l string) bool { return !strings.HasPrefix(l, "row ") })
	}
	for _, c := range called {
		first, second := rows(on, c.sql), rows(on, c.sql)
		if got := rows(on, "SHOW qvpgw.last_route"); !slices.Equal(got, []string{"row " + c.route}) {
			t.Errorf("%s went by %s, not %s", c.sql, got, c.route)
		}
		want := rows(off, c.sql)
		if !slices.Equal(first, want) || !slices.Equal(second, want) || len(want) == 0 {
			t.Errorf("%s gave\n%s\nthen\n%s\nnot\n%s", c.sql, first, second, want)
		}
		if plain := plainText[c.sql]; plain != "" && !slices.Equal(rows(off, plain), want) {
			t.Errorf("%s gave\n%s\nnot as plain SQL\n%s", c.sql, want, rows(off, plain))
		}
		explained := strings.Join(rows(on, "EXPLAIN (QVPGW) "+c.sql), "\n")
		if inlined := strings.Contains(explained, "row Inlined: SELECT"); inlined == (c.route == "pass inline_call" || c.route == "pass inline_argument") {
			t.Errorf("%s is explained as\n%s", c.sql, explained)
		}
	}

	// Another body is what counts from then on, and who may not call it gets the error.
	on.must("CREATE OR REPLACE FUNCTION qvp.get_portfolio_history(days integer DEFAULT 30) RETURNS TABLE (\"timestamp\" timestamptz, total_value double precision, cash double precision, equity double precision) LANGUAGE sql STABLE AS 'SELECT time_bucket(''1 day'', m.timestamp), max(m.high), min(m.low), max(m.open) FROM public.market_data AS m WHERE m.timestamp < timestamptz ''2024-02-01'' GROUP BY 1 ORDER BY 1'")
	if got, want := rows(on, "SELECT * FROM qvp.get_portfolio_history()"), rows(off, "SELECT * FROM qvp.get_portfolio_history()"); !slices.Equal(got, want) || len(got) < 20 {
		t.Errorf("the new body gave\n%s\nnot\n%s", got, want)
	}
	if got := rows(on, "SHOW qvpgw.last_route"); !slices.Equal(got, []string{"row rewrite aggregate market_data_1d"}) {
		t.Errorf("the new body went by %s", got)
	}
}

// boundCalls are calls with parameters, and their route.
var boundCalls = []struct {
	sql   string
	args  []string
	route string
}{
	{"SELECT * FROM qvp.time_bucket_aggregates($1, $2, $3) ORDER BY bucket", []string{"SPY", "1 day", "2024-01-10"}, "rewrite aggregate market_data_1d"},
	{"SELECT * FROM qvp.time_bucket_aggregates($1, $2, $3) ORDER BY bucket", []string{"SPX", "1 hour", "2024-02-10"}, "rewrite aggregate market_data_1h"},
	{"SELECT * FROM qvp.time_bucket_aggregates($1, $2, $3) ORDER BY bucket", []string{"SPY", "00:07:00", "2024-03-01"}, "pass aggregate_bucket"},
	{"SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 day', $1, $2) ORDER BY bucket", []string{"2024-01-10", "2024-02-01"}, "rewrite aggregate market_data_1d"},
}

func TestCallsWithParametersArePlannedWhenTheyAreBound(t *testing.T) {
	dsn := routedDatabase(t)
	_, addr := routeServer(t, dsn)
	on, off := dial(t, addr, dsn), dial(t, addr, dsn)
	off.must("SET qvpgw.route = off")
	for _, c := range boundCalls {
		for _, how := range []string{"text", "binary", "named"} {
			list, n := asks(c.sql, c.args, how)
			off.send(list...)
			want := off.reply(n)
			on.send(list...)
			if got := on.reply(n); !slices.Equal(got, want) || len(got) < 10 {
				t.Errorf("%s: %s %q gave\n%.2000q\nnot\n%.2000q", how, c.sql, c.args, got, want)
			}
			if got := on.route(); how != "named" && got != c.route {
				t.Errorf("%s: %s %q went by %s, not %s", how, c.sql, c.args, got, c.route)
			}
		}
	}
}

// TestARoutedCallNeedsThePrivilege revokes EXECUTE behind the gateway's back, while it
// has the call's plan: the error must be the server's, as without the gateway.
func TestARoutedCallNeedsThePrivilege(t *testing.T) {
	dsn := routedDatabase(t)
	run(t, dsn, "CREATE ROLE caller; GRANT SELECT ON ALL TABLES IN SCHEMA public TO caller")
	_, addr := routeServer(t, dsn)
	client := dial(t, addr, dsn)
	client.must("SET ROLE caller")
	const call = "SELECT * FROM qvp.time_bucket_aggregates('SPY', '1 day', '2024-01-10')"
	if got := client.query(call); len(got) < 20 {
		t.Fatalf("the caller gets %q", got)
	}
	before := client.route()
	client.must("RESET ROLE")
	client.must("REVOKE EXECUTE ON FUNCTION qvp.time_bucket_aggregates FROM PUBLIC")
	client.must("SET ROLE caller")
	if got := strings.Join(client.query(call), " "); !strings.Contains(got, "42501") {
		t.Errorf("routed by %q before, after the REVOKE it gives %.500s", before, got)
	}
}
