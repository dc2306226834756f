package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// copies checks COPY in both directions, and when it breaks.
func copies(ctx context.Context, s *session) {
	n, err := s.CopyFrom(ctx, pgx.Identifier{"pair"}, []string{"a", "b"}, pgx.CopyFromSlice(1000, func(i int) ([]any, error) { return []any{i, fmt.Sprintf("row %d", i)}, nil }))
	check("copy_binary", n, err)
	_, err = s.CopyFrom(ctx, pgx.Identifier{"pair"}, []string{"a", "b"}, pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
		if i == 500 {
			return nil, errors.New("the program's own")
		}
		return []any{i, "given up"}, nil
	}))
	check("copy_given_up", "", err)
	p := s.PgConn()
	tag, err := p.CopyFrom(ctx, strings.NewReader("1\ttext\n2\ttext\n"), "COPY pair FROM STDIN")
	check("copy_text", tag, err)
	_, err = p.CopyFrom(ctx, strings.NewReader("1\tfine\nnot a number\tbroken\n"+strings.Repeat("2\tmore\n", 20000)), "COPY pair FROM STDIN")
	check("copy_breaks", "", err)
	var b bytes.Buffer
	tag, err = p.CopyTo(ctx, &b, "COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT")
	check("copy_out", fmt.Sprintf("%s %q", tag, b.String()), err)
	b.Reset()
	tag, err = p.CopyTo(ctx, &b, "COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)")
	check("copy_out_binary", fmt.Sprintf("%s %x", tag, b.Bytes()), err)
	b.Reset()
	tag, err = p.CopyTo(ctx, &b, "COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT")
	check("copy_out_large", fmt.Sprintf("%s %d", tag, b.Len()), err)
	_, err = p.CopyTo(ctx, io.Discard, "COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT")
	check("copy_out_breaks", "", err)
	_, err = p.CopyTo(ctx, io.Discard, "COPY missing TO STDOUT")
	check("copy_missing", "", err)
	value, err := s.query(ctx, "SELECT count(*) FROM pair WHERE b IN ('fine', 'given up', 'more')")
	check("copy_after", value, err)
}

// listening checks LISTEN and NOTIFY.
func listening(ctx context.Context, s *session) {
	channel := os.Getenv("DRIVER_SCHEMA")
	wait := func(name string, n int, patience time.Duration) {
		for i := range n {
			limited, cancel := context.WithTimeout(ctx, patience)
			note, err := s.WaitForNotification(limited)
			cancel()
			if err != nil {
				check(fmt.Sprint(name, " ", i), "nothing", nil)
				return
			}
			check(fmt.Sprint(name, " ", i), fmt.Sprint(note.Channel == channel, " ", note.Payload, " ", note.PID == s.PgConn().PID()), nil)
		}
	}
	other := func(sql ...string) {
		o := connect(ctx)
		for _, text := range sql {
			if _, err := o.Exec(ctx, text); err != nil {
				check("notify", "", err)
			}
		}
		_ = o.Close(ctx)
	}
	exec := func(sql string) {
		if _, err := s.Exec(ctx, sql); err != nil {
			check("notify", "", err)
		}
	}
	exec("LISTEN " + channel)
	exec("NOTIFY " + channel + ", 'to myself'")
	wait("notify_self", 1, 20*time.Second)
	other("NOTIFY " + channel + ", 'from another'")
	wait("notify_other", 1, 20*time.Second)
	other("BEGIN", "NOTIFY "+channel+", 'a'", "NOTIFY "+channel+", 'b'", "NOTIFY "+channel+", 'a'", "COMMIT")
	wait("notify_transaction", 2, 20*time.Second)
	other("BEGIN", "NOTIFY "+channel+", 'never'", "ROLLBACK", "NOTIFY "+channel+", 'only this'")
	wait("notify_rolled_back", 1, 20*time.Second)
	exec("BEGIN")
	exec("UNLISTEN " + channel)
	exec("ROLLBACK")
	other("NOTIFY " + channel + ", 'still'")
	wait("unlisten_rolled_back", 1, 20*time.Second)
	exec("UNLISTEN *")
	value, err := s.query(ctx, "SELECT count(*) FROM pg_listening_channels()")
	check("unlisten", value, err)
}

// cancels checks that a query is cancelled and nothing else is.
func cancels(ctx context.Context, s *session) {
	cancelled := func(name string) {
		done := make(chan error, 1)
		go func() {
			time.Sleep(300 * time.Millisecond)
			done <- s.PgConn().CancelRequest(ctx)
		}()
		_, err := s.Exec(ctx, "SELECT pg_sleep(30)")
		check(name, "not cancelled", err)
		if err := <-done; err != nil {
			check(name+"_request", "", err)
		}
	}
	cancelled("cancel")
	value, err := s.query(ctx, "SELECT 'usable'")
	check("cancel_after", value, err)
	tx, err := s.Begin(ctx)
	check("cancel_begin", "", err)
	cancelled("cancel_in_transaction")
	_, err = s.Exec(ctx, "SELECT 1")
	check("cancel_aborted", "", err)
	check("cancel_rollback", "", tx.Rollback(ctx))
	check("cancel_idle", "", s.PgConn().CancelRequest(ctx))
	time.Sleep(100 * time.Millisecond)
	value, err = s.query(ctx, "SELECT 'untouched'")
	check("cancel_idle_after", value, err)
	limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	_, err = s.Exec(limited, "SELECT pg_sleep(30)")
	cancel()
	check("context_timeout", fmt.Sprint(errors.Is(err, context.DeadlineExceeded), s.IsClosed()), nil)
}

// cursors checks portals that are read in parts.
func cursors(ctx context.Context, s *session) {
	tx, err := s.Begin(ctx)
	check("cursor_begin", "", err)
	for _, sql := range []string{
		"DECLARE c SCROLL CURSOR FOR SELECT i FROM generate_series(1, 10) i", "FETCH 3 FROM c", "FETCH ABSOLUTE 7 FROM c", "FETCH BACKWARD 2 FROM c", "MOVE 1 FROM c", "FETCH ALL FROM c",
	} {
		value, err := s.query(ctx, sql)
		check("cursor "+sql[:8], value, err)
	}
	check("cursor_commit", "", tx.Commit(ctx))
	_, err = s.query(ctx, "FETCH 1 FROM c")
	check("cursor_gone", "", err)
	for _, sql := range []string{
		"BEGIN", "DECLARE h CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 6) i", "COMMIT", "FETCH 2 FROM h", "FETCH ALL FROM h", "CLOSE h",
	} {
		value, err := s.query(ctx, sql)
		check("hold "+sql[:5], value, err)
	}
	rows, err := s.Query(ctx, "SELECT i FROM generate_series(1, 100000) i")
	n := 0
	for err == nil && rows.Next() && n < 10 {
		n++
	}
	rows.Close()
	check("rows_left", n, rows.Err())
}

// transactions checks nested ones, their modes, and errors within.
func transactions(ctx context.Context, s *session) {
	err := pgx.BeginFunc(ctx, s.Conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO pair VALUES (1, 'nested')"); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO pair VALUES (2, 'nested'), (1 / $1, '')", 0)
			return err
		})
		check("nested_fails", "", err)
		return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO pair VALUES (3, 'nested')")
			return err
		})
	})
	check("nested", "", err)
	value, err := s.query(ctx, "SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")
	check("nested_seen", value, err)
	tx, err := s.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable})
	check("modes_begin", "", err)
	value, err = s.query(ctx, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
	check("modes", value, err)
	check("modes_end", "", tx.Commit(ctx))
	tx, err = s.Begin(ctx)
	check("broken_begin", "", err)
	_, err = tx.Exec(ctx, "SELECT 1 / 0")
	check("broken", "", err)
	check("broken_commit", "", tx.Commit(ctx))
	value, err = s.query(ctx, "SELECT says('a notice')")
	check("notice", value, err)
	value, err = s.query(ctx, "SET client_min_messages TO warning")
	check("fewer_notices", value, err)
	value, err = s.query(ctx, "SELECT says('not heard')")
	check("no_notice", value, err)
}
