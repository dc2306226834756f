package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// costs measures what the router's choice by cost weighs, on this server: each in raw
// rows that are aggregated in the same time (internal/router/aggregate_cost.go). The
// least of several times is taken: nothing is faster than the work itself.
func (b *aggregateBed) costs() {
	var proof string // of a statement that reads no raw rows, see EXPLAIN (QVPGW)
	var lock string
	plan := run(b.T, b.on, "EXPLAIN (QVPGW) SELECT time_bucket('1 day', timestamp) AS day, symbol, sum(volume) FROM market_data WHERE timestamp >= '2024-02-01' AND timestamp < '2024-11-01' GROUP BY day, symbol")
	for line := range strings.Lines(strings.ReplaceAll(plan, "\n  ", " ")) {
		line = strings.TrimSpace(line)
		if sql, ok := strings.CutPrefix(line, "Guard: "); ok {
			proof = sql
		}
		if sql, ok := strings.CutPrefix(line, "Lock: "); ok {
			lock = sql
		}
	}
	if proof == "" || lock == "" {
		b.Fatalf("EXPLAIN (QVPGW) gives no guard or no lock:\n%s", plan)
	}
	b.direct(func(c *pgconn.PgConn) {
		least := func(sql string) float64 { return b.least(c, sql) }
		number := func(sql string) float64 {
			n, err := strconv.ParseFloat(run(b.T, c, sql), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
		const few, all = " FROM market_data WHERE timestamp >= '2024-03-05' AND timestamp < '2024-03-06' GROUP BY symbol", " FROM market_data GROUP BY symbol"
		const raw, stored = "SELECT symbol, sum(volume), max(high), first(open, timestamp)", "SELECT symbol, sum(volume), max(high), first(open, bucket) FROM "
		held := run(b.T, c, "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates WHERE view_name = 'market_data_1h'")
		chunks := number("SELECT count(*) FROM show_chunks('market_data')")
		planned := least("EXPLAIN " + raw + all)
		row := (least(raw+all) - planned) / number("SELECT count(*) FROM market_data")
		group := " GROUP BY symbol"
		aggregate := (least(stored+held+group) - least("EXPLAIN "+stored+held+group)) / number("SELECT count(*) FROM "+held)
		chunk := (planned - least("EXPLAIN "+raw+few)) / (chunks - 1)
		union := "EXPLAIN SELECT symbol, sum(a) FROM (SELECT symbol, sum(volume) AS a" + few
		arm := least(union+" UNION ALL SELECT symbol, sum(volume) AS a"+few+") u GROUP BY symbol") - least(union+") u GROUP BY symbol") - chunk
		names := strings.ReplaceAll(run(b.T, c, "SELECT format('ONLY %s', k::text) FROM show_chunks('market_data') k"), "\n", ", ")
		one, _, _ := strings.Cut(names, ",")
		locked := (least("BEGIN; LOCK TABLE "+names+" IN ACCESS SHARE MODE NOWAIT; COMMIT") - least("BEGIN; LOCK TABLE "+one+" IN ACCESS SHARE MODE NOWAIT; COMMIT")) / (chunks - 1)
		run(b.T, c, "PREPARE proof AS "+proof)
		around := least("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + lock + "; EXECUTE proof; COMMIT")
		fmt.Printf("a raw row takes %.2f µs; in raw rows: the proof and what is around it %.0f, an arm %.0f, a chunk %.0f, a lock %.1f, a stored row %.1f\n",
			row, around/row, arm/row, chunk/row, locked/row, aggregate/row)
		b.figure("aggregates.proof_us", around)
	})
}

// direct hands over the server itself, when the gateway has let go of it.
func (b *aggregateBed) direct(do func(c *pgconn.PgConn)) {
	b.Helper()
	var c *pgconn.PgConn
	for end := time.Now().Add(time.Minute); c == nil; {
		run(b.T, b.console, "RECONNECT")
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		direct, err := pgconn.Connect(ctx, b.dsn)
		cancel()
		if c = direct; err != nil && time.Now().After(end) {
			b.Fatalf("the gateway keeps the one session: %v", err)
		}
	}
	defer c.Close(context.Background())
	do(c)
}

// least is the least time of several runs of a text, in microseconds.
func (b *aggregateBed) least(c *pgconn.PgConn, sql string) float64 {
	b.Helper()
	least := time.Duration(0)
	for n := 0; n < 4*b.times; n++ {
		began := time.Now()
		run(b.T, c, sql)
		if took := time.Since(began); n == 0 || took < least {
			least = took
		}
	}
	return float64(least) / float64(time.Microsecond)
}
