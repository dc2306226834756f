package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// prepared checks statements that pgx or the program names.
func prepared(ctx context.Context, s *session) {
	total := 0
	for range 4 {
		for i := range 60 {
			var n int
			if err := s.QueryRow(ctx, "SELECT $1::int + "+strconv.Itoa(i), 1).Scan(&n); err != nil {
				check("prepared_many", nil, err)
				return
			}
			total += n
		}
		tx, err := s.Begin(ctx)
		if err != nil {
			check("prepared_many", nil, err)
			return
		}
		for i := 0; i < 60; i += 7 {
			var n int
			_ = tx.QueryRow(ctx, "SELECT $1::int + "+strconv.Itoa(i), 1).Scan(&n)
			total += n
		}
		_ = tx.Commit(ctx)
	}
	check("prepared_many", total, nil)
	d, err := s.Prepare(ctx, "mine", "SELECT id, name, amount FROM item WHERE name = $1 AND amount > $2")
	if err == nil {
		for _, f := range d.Fields {
			check("prepared_field "+f.Name, fmt.Sprint(f.DataTypeOID, f.TypeModifier, f.TableAttributeNumber, f.Format), nil)
		}
		check("prepared_parameters", d.ParamOIDs, nil)
	}
	check("prepared_named", "", err)
	for i := range 3 {
		value, err := s.query(ctx, "mine", "item "+strconv.Itoa(i+1), 0)
		check("prepared_used "+strconv.Itoa(i), value, err)
	}
	_, err = s.Prepare(ctx, "mine", "SELECT 2")
	check("prepared_again", "", err)
	check("prepared_deallocate", "", s.Deallocate(ctx, "mine"))
	value, err := s.query(ctx, "SELECT 'after'")
	check("prepared_after", value, err)
	check("prepared_deallocate_all", "", s.DeallocateAll(ctx))
	value, err = s.query(ctx, "SELECT $1::int + 1", 1)
	check("prepared_after_all", value, err)
	_, err = s.query(ctx, "SELECT 1 / $1::int", 0)
	check("prepared_fails", nil, err)
	_, err = s.query(ctx, "SELECT * FROM missing WHERE a = $1", 0)
	check("prepared_missing", nil, err)
	value, err = s.query(ctx, "SELECT $1::text, $2::int", nil, nil)
	check("nulls", value, err)
	at := time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.UTC)
	for i, v := range []any{
		true, int16(-1), int64(math.MaxInt64), 0.1, math.NaN(), math.Inf(-1), "naïve 漢字",
		[]byte{0, 255},
		at,
		[]int32{1, 2},
		[]string{"a", "b\"c"},
		map[string]any{"a": 1},
		[16]byte{15: 1},
		time.Duration(1500) * time.Millisecond,
	} {
		types := []string{"bool", "int2", "int8", "float8", "float8", "float8", "text", "bytea", "timestamptz", "int4[]", "text[]", "jsonb", "uuid", "interval"}
		value, err := s.query(ctx, "SELECT $1::"+types[i], v)
		check("parameter "+strconv.Itoa(i)+" "+types[i], value, err)
		value, err = s.query(ctx, "SELECT ($1::"+types[i]+")::text", pgx.QueryExecModeDescribeExec, v)
		check("parameter described "+strconv.Itoa(i)+" "+types[i], value, err)
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for range 2 {
			value, err := s.query(ctx, "SELECT $1::int8 * 2, $2::text", mode, int64(21), "mode")
			check("mode "+mode.String(), value, err)
		}
	}
}

// batches checks pgx.Batch, which is one group or a pipeline.
func batches(ctx context.Context, s *session) {
	b := &pgx.Batch{}
	for i := range 30 {
		b.Queue("SELECT $1::int + "+strconv.Itoa(i%10), i)
	}
	r := s.SendBatch(ctx, b)
	total := 0
	for range 30 {
		var n int
		_ = r.QueryRow().Scan(&n)
		total += n
	}
	check("batch", total, r.Close())

	b = &pgx.Batch{}
	b.Queue("INSERT INTO pair VALUES (1, 'batch')")
	b.Queue("SELECT 1 / $1::int", 0)
	b.Queue("INSERT INTO pair VALUES (2, 'batch')")
	r = s.SendBatch(ctx, b)
	for i := range 3 {
		tag, err := r.Exec()
		check("batch_fails "+strconv.Itoa(i), tag, err)
	}
	check("batch_fails_close", "", r.Close())
	value, err := s.query(ctx, "SELECT count(*) FROM pair WHERE b = 'batch'")
	check("batch_undone", value, err)

	b = &pgx.Batch{}
	for _, sql := range []string{"BEGIN", "INSERT INTO pair VALUES (3, 'batch')", "SET LOCAL work_mem TO '5MB'", "COMMIT", "SELECT count(*) FROM pair WHERE b = 'batch'", "SHOW work_mem"} {
		b.Queue(sql)
	}
	r = s.SendBatch(ctx, b)
	for i := range 6 {
		rows, err := r.Query()
		if err == nil {
			var got []any
			for rows.Next() {
				values, _ := rows.Values()
				got = append(got, values...)
			}
			check("batch_transaction "+strconv.Itoa(i), fmt.Sprint(got, rows.CommandTag()), rows.Err())
			continue
		}
		check("batch_transaction "+strconv.Itoa(i), nil, err)
	}
	check("batch_transaction_close", "", r.Close())
	value, err = s.query(ctx, "SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')", pgx.QueryExecModeSimpleProtocol)
	check("several_statements", value, err)
	_, err = s.Exec(ctx, "INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0")
	check("several_fail", "", err)
	_, err = s.Exec(ctx, "")
	check("empty_statement", "", err)
	_, err = s.Exec(ctx, "SELECT $1::int, $2::int", 1)
	check("too_few_parameters", "", err)
}

// pipelines checks pgconn's pipeline with its Sync and Flush.
func pipelines(ctx context.Context, s *session) {
	p := s.PgConn().StartPipeline(ctx)
	results := func(name string) {
		for i := 0; ; i++ {
			r, err := p.GetResults()
			at := name + " " + strconv.Itoa(i)
			if err != nil {
				check(at, nil, err)
				var e *pgconn.PgError
				if !errors.As(err, &e) {
					return
				}
				continue
			}
			switch r := r.(type) {
			case nil:
				return
			case *pgconn.ResultReader:
				got := r.Read()
				check(at, fmt.Sprintf("%q %s", got.Rows, got.CommandTag), got.Err)
			case *pgconn.StatementDescription:
				check(at, fmt.Sprint(r.Name, r.ParamOIDs, len(r.Fields)), nil)
			case *pgconn.CloseComplete:
				check(at, "closed", nil)
			case *pgconn.PipelineSync:
				check(at, "sync", nil)
				return
			}
		}
	}
	p.SendPrepare("piped", "SELECT $1::int + 1", nil)
	p.SendQueryPrepared("piped", [][]byte{[]byte("41")}, nil, nil)
	p.SendQueryParams("SELECT 'params'", nil, nil, nil, nil)
	check("pipeline_sync", "", p.Sync())
	results("pipeline")
	p.SendQueryPrepared("piped", [][]byte{[]byte("1")}, nil, nil)
	p.SendFlushRequest()
	check("pipeline_flush", "", p.Flush())
	results("pipeline_flushed")
	p.SendQueryParams("SELECT 1 / 0", nil, nil, nil, nil)
	p.SendQueryParams("SELECT 'skipped'", nil, nil, nil, nil)
	check("pipeline_sync_fails", "", p.Sync())
	results("pipeline_fails")
	p.SendQueryParams("SELECT 'after'", nil, nil, nil, nil)
	p.SendDeallocate("piped")
	check("pipeline_sync_after", "", p.Sync())
	results("pipeline_after")
	for i := range 20 {
		p.SendQueryParams("SELECT "+strconv.Itoa(i), nil, nil, nil, nil)
		if i%3 == 0 {
			_ = p.Sync()
		}
	}
	_ = p.Sync()
	for range 8 {
		results("pipeline_many")
	}
	check("pipeline_close", "", p.Close())
	value, err := s.query(ctx, "SELECT 'usable'")
	check("pipeline_usable", value, err)
}
