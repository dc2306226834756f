package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// load fills the tables, refreshes the aggregates and settles them.
func (b *aggregateBed) load() {
	b.Helper()
	if _, err := schema.NewMigrator(b.dsn, schema.Options{}).Up(b.Context()); err != nil {
		b.Fatal(err)
	}
	c, err := pgconn.Connect(b.Context(), b.dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(b.Context())
	if !b.full { // few chunks are soon filled
		run(b.T, c, "SELECT set_chunk_time_interval('market_data', INTERVAL '91 days')")
	}
	for piece := range slices.Chunk(b.bars(), 20_000) {
		if _, err := c.CopyFrom(b.Context(), strings.NewReader(strings.Join(piece, "")), "COPY market_data (timestamp, symbol, open, high, low, close, volume) FROM STDIN (FORMAT csv)"); err != nil {
			b.Fatal(err)
		}
	}
	b.report("loaded")
	most := strings.Split(run(b.T, c, "SELECT symbol FROM market_data GROUP BY symbol ORDER BY count(*) DESC, symbol LIMIT 2"), "\n")
	if len(most) != 2 {
		b.Fatalf("the bars are of %q, not of two symbols or more", most)
	}
	b.rename = strings.NewReplacer("'SPY'", "'"+most[0]+"'", "'SPX'", "'"+most[1]+"'", "{SPX,SPY}", "{"+most[1]+","+most[0]+"}")
	sqls := refreshes
	if b.golden {
		sqls = slices.Concat(goldenTables, refreshes, []string{"CALL refresh_continuous_aggregate('ticks_1h', NULL, NULL)", "CALL refresh_continuous_aggregate('readings_1h', NULL, NULL)", "ANALYZE ticks", "ANALYZE tick_data", "ANALYZE readings", "ANALYZE plain"})
	}
	for _, sql := range append(sqls, "ANALYZE market_data") {
		if _, err := c.Exec(b.Context(), b.rename.Replace(sql)).ReadAll(); err != nil {
			b.Fatalf("%v\nin %s", err, sql)
		}
	}
	// Autovacuum would.
	for held := range strings.Lines(run(b.T, c, "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates")) {
		run(b.T, c, "ANALYZE "+strings.TrimSpace(held))
	}
	if err := schema.Settle(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	b.report("settled")
}

// report says how far the preparation of a full run is.
func (b *aggregateBed) report(what string) {
	if b.full {
		fmt.Printf("%s %s\n", time.Now().Format(time.TimeOnly), what)
	}
}

// goldenTables are what the golden statements read besides the bars.
var goldenTables = []string{
	`CREATE TABLE ticks (at timestamp NOT NULL, symbol text, price numeric, size int, ratio real, fee numeric(10, 2), level numeric)`,
	`SELECT create_hypertable('ticks', by_range('at', INTERVAL '7 days'))`,
	`INSERT INTO ticks SELECT t, (ARRAY['A', 'B', NULL])[1 + n % 3], (n * 7 % 1000)::numeric / 100, CASE WHEN n % 4 > 0 THEN n END, n, n % 100, n % 3
FROM (SELECT t, row_number() OVER (ORDER BY t)::int AS n FROM generate_series('2024-01-04'::timestamp, '2024-03-15', '4 min') t) x`,
	`INSERT INTO tick_data (timestamp, symbol, price, volume, bid, ask, exchange)
SELECT t, s, p, CASE WHEN n % 5 > 0 THEN n % 997 END, p - 0.25, CASE WHEN n % 6 > 0 THEN p + 0.5 END, 'X'
FROM (SELECT t, s, row_number() OVER (ORDER BY t, s)::int AS n, round((800 + 80 * sin(extract(epoch FROM t) / 7000))::numeric)::float8 / 8 AS p
      FROM unnest(ARRAY['SPX', 'SPY']) s, generate_series('2024-01-04 00:07:30'::timestamptz, '2024-02-05 12:30', '1 min') t) y`,
	`CALL refresh_continuous_aggregate('tick_data_1m', NULL, NULL)`,
	`CALL refresh_continuous_aggregate('tick_data_1h', NULL, NULL)`,
	`CALL refresh_continuous_aggregate('tick_data_1d', NULL, NULL)`,
	`CALL refresh_continuous_aggregate('tick_data_1w', NULL, NULL)`,
	`CREATE MATERIALIZED VIEW ticks_1h WITH (timescaledb.continuous) AS
SELECT time_bucket('1 hour', at) AS bucket, symbol, level, count(*) AS n, sum(price) AS price, count(price) AS prices, min(price) AS low,
  sum(size) AS size, count(size) AS sizes, sum(ratio) AS ratio, min(fee) AS fee
FROM ticks GROUP BY 1, 2, 3 WITH NO DATA`,
	`SELECT qvpgw.watch('ticks')`,
	`CREATE TABLE readings (at bigint NOT NULL, sensor text, value float8, n int)`,
	`SELECT create_hypertable('readings', by_range('at', 604800))`,
	`CREATE FUNCTION readings_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1711000000::bigint'`,
	`SELECT set_integer_now_func('readings', 'readings_now')`,
	`INSERT INTO readings SELECT t, (ARRAY['a', 'b', NULL])[1 + i % 3], i * 5 % 211, CASE WHEN i % 4 > 0 THEN i END
FROM (SELECT t, row_number() OVER (ORDER BY t)::int AS i FROM generate_series(1704326407::bigint, 1709326407, 60) t) x`,
	`CREATE MATERIALIZED VIEW readings_1h WITH (timescaledb.continuous) AS
SELECT time_bucket(3600::bigint, at) AS bucket, sensor, count(*) AS count, sum(n) AS n, max(value) AS high, first(value, at) AS open, min(at) AS first_at, max(at) AS last_at
FROM readings GROUP BY 1, 2 WITH NO DATA`,
	`SELECT qvpgw.watch('readings')`,
	`CREATE TABLE plain AS SELECT * FROM (SELECT * FROM market_data WHERE symbol IN ('SPY', 'SPX') ORDER BY timestamp LIMIT 12) x`,
	`UPDATE plain SET id = n FROM (SELECT ctid AS at, row_number() OVER (ORDER BY timestamp, symbol) AS n FROM plain) x WHERE at = plain.ctid`,
	`ALTER TABLE plain ALTER symbol SET NOT NULL`,
}

var refreshes = []string{
	`CALL refresh_continuous_aggregate('market_data_1h', NULL, NULL)`,
	`CALL refresh_continuous_aggregate('market_data_1d', NULL, NULL)`,
	`CALL refresh_continuous_aggregate('market_data_1w', NULL, NULL)`,
}

// bars are those of pgtest.Bars, in a full run, or made ones:
// of each symbol about as many as a year of trading has, in no even distances.
func (b *aggregateBed) bars() []string {
	b.Helper()
	if b.full {
		if lines := pgtest.Bars(b.T); lines != nil {
			return lines
		}
	}
	var lines []string
	for s := range b.symbols {
		symbol := fmt.Sprintf("S%02d", s)
		if s < 2 {
			symbol = [...]string{"SPY", "SPX"}[s]
		}
		n := 0
		for day := time.Date(2024, 1, 2, 14, 30, 0, 0, time.UTC); day.Year() == 2024; day = day.AddDate(0, 0, 1) {
			if day.Weekday() == time.Saturday || day.Weekday() == time.Sunday {
				continue
			}
			for minute := 0; minute < 390; minute += b.every {
				if n++; b.every == 1 && n*7919%100 >= 42 {
					continue
				}
				price := math.Round((100+10*math.Sin(float64(n)/117)+float64(s))*8) / 8
				lines = append(lines, fmt.Sprintf("%s,%s,%v,%v,%v,%v,%d\n", day.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339), symbol, price, price+1.5, price-0.25, price+0.125, n*13%1009))
			}
		}
	}
	return lines
}
