package main

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/demo"
	"qvpgw/internal/embedded"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// regimeText is what qvp.regime_vector(0.2, 18, -0.5, 4) is, written out.
const regimeText = `ARRAY(SELECT exp(-power((f.x - f.low) / (f.high - f.low) * 15 - i, 2) / 2)
	FROM (VALUES (1, 0.2::float8, 0, 1), (2, 18, 5, 85), (3, -0.5, -3, 3), (4, 4, 0, 15)) f (n, x, low, high), generate_series(0, 15) i ORDER BY f.n, i)::vector`

// calls are calls that read, with plain SQL that gives the same, the route of the call
// and a part of what it stands for; @ is a vector.
var calls = []struct{ call, plain, route, inlined string }{
	{
		"SELECT * FROM qvp.get_market_data('SPX', '2020-01-01', '2020-03-01')",
		"SELECT timestamp, open, high, low, close, volume FROM market_data WHERE symbol = 'SPX' AND timestamp >= '2020-01-01' AND timestamp < '2020-03-01' ORDER BY timestamp",
		"pass plain", "public.market_data",
	},
	{
		"SELECT * FROM qvp.time_bucket_aggregates('SPX', '1 week', '2019-12-30')",
		"SELECT time_bucket('1 week', timestamp) AS bucket, first(open, timestamp) AS open, max(high) AS high, min(low) AS low, last(close, timestamp) AS close, sum(volume)::bigint AS volume FROM market_data WHERE symbol = 'SPX' AND timestamp >= '2019-12-30' GROUP BY 1 ORDER BY 1",
		"rewrite aggregate market_data_1w", "GROUP BY public.time_bucket",
	},
	{
		"SELECT bucket, high FROM qvp.time_bucket_aggregates('SPX', '1 hour', '2020-02-01', source => 'ticks') WHERE volume > 3 ORDER BY high DESC, bucket",
		"SELECT time_bucket('1 hour', timestamp) AS bucket, max(price) AS high FROM tick_data WHERE symbol = 'SPX' AND timestamp >= '2020-02-01' GROUP BY 1 HAVING sum(volume) > 3 ORDER BY 2 DESC, 1",
		"", "public.tick_data",
	},
	{
		"SELECT * FROM qvp.get_portfolio_history(7)",
		"SELECT timestamp, total_value, cash, equity FROM portfolio_values WHERE timestamp >= now() - interval '7 days' ORDER BY timestamp",
		"pass plain", "public.portfolio_values",
	},
	{
		"SELECT * FROM qvp.find_similar_features('@', 4, 'l2', symbol => 'SPX')",
		"SELECT id, timestamp, symbol, feature_type, metadata, embedding <-> '@' AS distance FROM feature_embeddings WHERE symbol = 'SPX' ORDER BY embedding <-> '@' LIMIT 4",
		"cached", "LIMIT 4",
	},
	{
		"SELECT * FROM qvp.find_similar_regimes(0.2, 18, -0.5, 4, 3)",
		"SELECT id, timestamp, regime_label, realized_vol, vix_level, skew, kurtosis, regime_vector <-> r.v AS distance FROM volatility_regimes, (SELECT " + regimeText + ") r (v) ORDER BY regime_vector <-> r.v LIMIT 3",
		"cached", "public.volatility_regimes",
	},
	{"SELECT qvp.regime_vector(0.2, 18, -0.5, 4)", "SELECT " + regimeText + " AS regime_vector FROM (SELECT) one", "pass plain", ""},
}

// written are calls that write, with a query for what they wrote and its answer; @ is a
// vector, # the name of the client and ~ a metric of its own.
var written = []struct{ call, wrote, want string }{
	{
		"SELECT qvp.insert_market_data(ARRAY['#', '#'], ARRAY['2020-05-01 14:30+00', '2020-05-01 14:31+00']::timestamptz[], ARRAY[1, 2], ARRAY[3, NULL], ARRAY[0.5, 1], ARRAY[2, 2.5], ARRAY[7, 8])",
		"SELECT string_agg(concat_ws(' ', extract(minute FROM timestamp), open, high, low, close, volume), ', ' ORDER BY timestamp) FROM market_data WHERE symbol = '#'", "30 1 3 0.5 2 7, 31 2 1 2.5 8",
	},
	{
		"SELECT qvp.insert_trade('#', 'sell', 3, 4.5, strategy => 'momentum', at => '2020-05-01 12:00+00')",
		"SELECT concat_ws(' ', extract(epoch FROM timestamp)::int, action, quantity, price, commission, strategy) FROM trades WHERE symbol = '#'", "1588334400 sell 3 4.5 0 momentum",
	},
	{
		"SELECT qvp.insert_portfolio_value(length('#'), 2, NULL, '2020-05-01')",
		"SELECT concat_ws(' ', cash, coalesce(equity::text, 'none'), extract(epoch FROM timestamp)::int) FROM portfolio_values WHERE total_value = length('#')", "2 none 1588291200",
	},
	{
		"SELECT qvp.insert_embedding('@', '#', 'returns', 'noted', '2020-05-01')",
		"SELECT concat_ws(' ', feature_type, metadata, embedding = '@') FROM feature_embeddings WHERE symbol = '#'", "returns noted t",
	},
	{
		"SELECT qvp.insert_regime('#', 0.2, 18, -0.5, 4, '2020-05-01')",
		"SELECT concat_ws(' ', realized_vol, vix_level, skew, kurtosis, regime_vector = " + regimeText + ") FROM volatility_regimes WHERE regime_label = '#'", "0.2 18 -0.5 4 t",
	},
	{
		"SELECT qvp.create_vector_index('feature_embeddings', 'embedding', metric => '~', m => 8)",
		"SELECT concat_ws(' ', indisvalid, pg_get_indexdef(indexrelid) LIKE '%USING hnsw (embedding%m=''8'', ef_construction=''64''%') FROM pg_index WHERE indexrelid = 'feature_embeddings_embedding_hnsw_~_idx'::regclass", "t t",
	},
}

// TestFunctionsAreCalledFromDrivers calls every function of the platform from psql,
// psycopg and pgx through the gateway, over the demo's real daily bars.
func TestFunctionsAreCalledFromDrivers(t *testing.T) {
	driver := pgtest.Drivers[slices.IndexFunc(pgtest.Drivers, func(d pgtest.Driver) bool { return d.Name == "psycopg3" })]
	programs := pgtest.DriverPrograms(t, "../../drivers", []pgtest.Driver{driver})
	root := pgtest.Tools(t)
	backend := pgtest.OwnEmbedded(t)
	if _, err := schema.NewMigrator(backend.DSN(), schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	loadRealBars(t, backend.DSN())
	addr := serveDemo(t, backend.Addr())
	dsn := "postgres://postgres@" + addr + "/qvp?sslmode=disable"
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	psycopg := func(t *testing.T, _, sql string) string {
		t.Helper()
		cmd, err := programs.Command(t.Context(), driver.Running("python3", "calls.py"), "PGHOST="+host, "PGPORT="+port, "PGUSER=postgres", "PGDATABASE=qvp")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(sql, "\n", " ") + "\n")
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			t.Fatalf("psycopg: %s: %v: %s", sql, err, said.String())
		}
		return out.String()
	}
	vector := "[0.25" + strings.Repeat(",0.25", 127) + "]"
	watch := connect(t, dsn)
	for _, client := range []struct {
		name, metric string
		answer       func(*testing.T, string, string) string
	}{{"psql", "cosine", psqlAnswers(root)}, {"psycopg", "inner_product", psycopg}, {"go", "l1", pgxAnswers}} {
		for _, c := range calls {
			call, plain := strings.ReplaceAll(c.call, "@", vector), strings.ReplaceAll(c.plain, "@", vector)
			got, want := client.answer(t, dsn, call), client.answer(t, dsn, plain)
			if got != want || len(got) < 20 {
				t.Errorf("%s: %s gives\n%s\nnot\n%s", client.name, c.call, got, want)
			}
		}
		for _, c := range written {
			own := strings.NewReplacer("@", vector, "#", client.name, "~", client.metric)
			if said := client.answer(t, dsn, own.Replace(c.call)); len(said) == 0 {
				t.Errorf("%s: %s says nothing", client.name, c.call)
			}
			if got := run(t, watch, own.Replace(c.wrote)); got != c.want {
				t.Errorf("%s: %s wrote %q, not %q", client.name, c.call, got, c.want)
			}
		}
	}

	for _, c := range calls {
		call := strings.ReplaceAll(c.call, "@", vector)
		rows := run(t, watch, call)
		if got := run(t, watch, "SHOW qvpgw.last_route"); !strings.HasPrefix(got, c.route) || rows == "" {
			t.Errorf("%s went by %s, not %s", c.call, got, c.route)
		}
		explained := strings.ReplaceAll(run(t, watch, "EXPLAIN (QVPGW) "+call), "\n  ", " ")
		action, _, _ := strings.Cut(c.route, " ")
		if !strings.HasPrefix(explained, "Action: "+action) || c.inlined != "" && !strings.Contains(afterwards(explained, "Inlined: "), c.inlined) {
			t.Errorf("%s is explained as\n%s", c.call, explained)
		}
	}
}

// afterwards is what comes behind a part of a text, "" without it.
func afterwards(text, part string) string {
	_, rest, _ := strings.Cut(text, part)
	return rest
}

// loadRealBars has the platform's functions write the demo's daily bars and some rows
// of each other table, and the aggregates hold them.
func loadRealBars(t *testing.T, dsn string) {
	t.Helper()
	cache, err := pgtest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	path, err := embedded.File(filepath.Join(cache, "embedded"), "vega-datasets/data/sp500-2000.csv")
	if err != nil {
		t.Fatal(err)
	}
	bars, err := demo.ReadBars(path)
	if err != nil {
		t.Fatal(err)
	}
	bars = bars[len(bars)-120:] // each week is a chunk
	var arrays [7]strings.Builder
	for _, b := range bars {
		for i, v := range []any{"SPX", b.Time.Format(time.RFC3339), b.Open, b.High, b.Low, b.Close, b.Volume} {
			if arrays[i].Len() > 0 {
				arrays[i].WriteByte(',')
			}
			fmt.Fprint(&arrays[i], v)
		}
	}
	values := make([][]byte, len(arrays))
	for i := range arrays {
		values[i] = []byte("{" + arrays[i].String() + "}")
	}
	direct := connect(t, dsn)
	r := direct.ExecParams(t.Context(), "SELECT qvp.insert_market_data($1, $2, $3, $4, $5, $6, $7)", values, nil, nil, nil).Read()
	if r.Err != nil || string(r.Rows[0][0]) != fmt.Sprint(len(bars)) {
		t.Fatalf("of %d bars %q were inserted: %v", len(bars), r.Rows, r.Err)
	}
	for _, sql := range []string{
		`INSERT INTO tick_data (timestamp, symbol, price, volume) SELECT timestamptz '2020-02-03 14:30+00' + i * interval '17 minutes', 'SPX', 3200 + i % 7, i % 3 FROM generate_series(1, 40) i`,
		`SELECT qvp.insert_portfolio_value(100000 + i, 100000, i, now() - i * interval '20 hours') FROM generate_series(1, 12) i`,
		`SELECT qvp.insert_regime('r' || i, i / 20.0, 10 + i, i / 4.0 - 2, i) FROM generate_series(1, 12) i`,
		`SELECT qvp.insert_embedding((SELECT array_agg(sin(i * 7 + j * j)) FROM generate_series(1, 128) j)::vector, 'SPX', 'returns', 'n' || i) FROM generate_series(1, 20) i`,
		`CALL refresh_continuous_aggregate('market_data_1h', NULL, NULL)`,
		`CALL refresh_continuous_aggregate('market_data_1d', NULL, NULL)`,
		`CALL refresh_continuous_aggregate('market_data_1w', NULL, NULL)`,
	} {
		run(t, direct, sql)
	}
	if err := schema.Settle(t.Context(), direct); err != nil {
		t.Fatal(err)
	}
	if err := direct.Close(t.Context()); err != nil { // the backend has one session
		t.Fatal(err)
	}
}
