package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// large checks values of some megabytes and many rows.
func large(ctx context.Context, s *session) {
	rows, err := s.Query(ctx, "SELECT repeat('y', 100) FROM generate_series(1, 30000)")
	total := 0
	for err == nil && rows.Next() {
		var y string
		_ = rows.Scan(&y)
		total += len(y)
	}
	check("large_rows", total, rows.Err())
	sum := 0
	for i := range 500 {
		var n int
		if err := s.QueryRow(ctx, "SELECT $1::int", i).Scan(&n); err != nil {
			check("many_small", nil, err)
		}
		sum += n
	}
	check("many_small", sum, nil)
	b := bytes.Repeat([]byte("a\x00b\xff"), 1<<20)
	text := strings.Repeat("é漢", 1<<20)
	_, err = s.Exec(ctx, "INSERT INTO wide VALUES (1, $1, $2)", b, text)
	check("large_insert", "", err)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		var gotB []byte
		var gotT string
		err := s.QueryRow(ctx, "SELECT b, t FROM wide WHERE b = $1", mode, b).Scan(&gotB, &gotT)
		check("large "+mode.String(), fmt.Sprint(bytes.Equal(b, gotB), text == gotT), err)
	}
}

// pools checks what programs do: many goroutines over a pool.
func pools(ctx context.Context, _ *session) {
	config, err := pgxpool.ParseConfig("pool_max_conns=6")
	if err != nil {
		check("pool", nil, err)
		return
	}
	config.ConnConfig.RuntimeParams["options"] = os.Getenv("PGOPTIONS")
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		check("pool", nil, err)
		return
	}
	var mu sync.Mutex
	total, failed := 0, 0
	var group sync.WaitGroup
	for i := range 60 {
		group.Go(func() {
			var n int
			err := pool.QueryRow(ctx, "SELECT count(*) + $1 FROM item WHERE id < 0", i).Scan(&n)
			if i%5 == 0 && err == nil {
				err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, "INSERT INTO pair VALUES ($1, 'pool')", i)
					return err
				})
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			}
			total += n
		})
	}
	group.Wait()
	pool.Close()
	check("pool", fmt.Sprint(total, failed), nil)
}
