// Program lib-pq prints what lib/pq sees of a server: one line a check, nothing in
// it that changes from run to run.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

// session is a database with one connection at most, and its notices.
type session struct {
	*sql.DB
	conn    *sql.Conn
	notices []string
}

func source(more string) string {
	return "application_name=lib-pq sslmode=disable options='" + os.Getenv("PGOPTIONS") + "' " + more
}

func open(ctx context.Context, more string) *session {
	s := &session{}
	base, err := pq.NewConnector(source(more))
	if err == nil {
		s.DB = sql.OpenDB(pq.ConnectorWithNoticeHandler(base, func(n *pq.Error) { s.notices = append(s.notices, fields(n)) }))
		s.SetMaxOpenConns(1)
		s.conn, err = s.Conn(ctx)
	}
	if err != nil {
		fmt.Printf("connect: ERROR %v\n", err)
		os.Exit(1)
	}
	return s
}

func (s *session) end() {
	_ = s.conn.Close()
	_ = s.DB.Close()
}

func fields(e *pq.Error) string {
	return strings.ReplaceAll(strings.Join([]string{
		e.Severity, string(e.Code), e.Message, e.Detail, e.Hint, e.Position, e.Where, e.Schema, e.Table, e.Column, e.DataTypeName, e.Constraint, e.Routine,
	}, "|"), "\n", "\\n")
}

func check(name string, value any, err error) {
	if err != nil {
		var e *pq.Error
		if errors.As(err, &e) {
			value = "ERROR " + fields(e)
		} else {
			value = fmt.Sprintf("ERROR %T %v", err, err)
		}
	}
	fmt.Println(name+":", value)
}

// query runs one statement and shows all of its result.
func (s *session) query(ctx context.Context, text string, args ...any) (string, error) {
	rows, err := s.conn.QueryContext(ctx, text, args...)
	if err != nil {
		return "", err
	}
	return s.show(rows)
}

func (s *session) show(rows *sql.Rows) (string, error) {
	defer rows.Close()
	var b strings.Builder
	for more := true; more; more = rows.NextResultSet() {
		types, err := rows.ColumnTypes()
		if err != nil {
			return "", err
		}
		values, into := make([]any, len(types)), make([]any, len(types))
		for i, t := range types {
			name := t.DatabaseTypeName()
			fmt.Fprintf(&b, "[%s %s]", t.Name(), name)
			into[i] = &values[i]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return "", err
			}
			for _, v := range values {
				if raw, ok := v.([]byte); ok {
					fmt.Fprintf(&b, " bytes(%q)", raw)
				} else if t, ok := v.(time.Time); ok {
					fmt.Fprintf(&b, " time(%s)", t.Format(time.RFC3339Nano))
				} else {
					fmt.Fprintf(&b, " %T(%v)", v, v)
				}
			}
		}
		b.WriteByte(';')
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	for _, n := range s.notices {
		fmt.Fprintf(&b, " NOTICE %s", n)
	}
	s.notices = nil
	return b.String(), nil
}

func each(ctx context.Context, file, more string, run func(s *session, name, text string)) {
	text, err := os.ReadFile(os.Getenv("DRIVER_FILES") + "/" + file)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s := open(ctx, more)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			s.end()
			s = open(ctx, more)
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		run(s, name, value)
	}
	s.end()
}

func main() {
	ctx := context.Background()
	for _, file := range []string{"steps.tsv", "styles.tsv"} {
		each(ctx, file, "", func(s *session, name, text string) {
			value, err := s.query(ctx, text)
			check(name, value, err)
		})
	}
	each(ctx, "types.tsv", "", func(s *session, name, expr string) {
		value, err := s.query(ctx, "SELECT "+expr)
		check("simple "+name, value, err)
		st, err := s.conn.PrepareContext(ctx, "SELECT "+expr)
		if err != nil {
			check("prepared "+name, "", err)
			return
		}
		rows, err := st.QueryContext(ctx)
		if err == nil {
			value, err = s.show(rows)
		}
		check("prepared "+name, value, err)
		_ = st.Close()
	})
	for _, section := range []func(context.Context, *session){prepared, copies, cancels, transactions, large} {
		s := open(ctx, "")
		section(ctx, s)
		s.end()
	}
	s := open(ctx, "binary_parameters=yes")
	binary(ctx, s)
	s.end()
	listening()
}

// binary checks parameters without a statement that is prepared first.
func binary(ctx context.Context, s *session) {
	for i := range 20 {
		value, err := s.query(ctx, "SELECT $1::int + $2::int, $3::bytea", i, 1, []byte{0, 255})
		check(fmt.Sprint("binary ", i), value, err)
	}
}

func prepared(ctx context.Context, s *session) {
	total := 0
	var all []*sql.Stmt
	for i := range 60 {
		st, err := s.conn.PrepareContext(ctx, fmt.Sprint("SELECT $1::int + ", i))
		if err != nil {
			check("prepared_many", nil, err)
			return
		}
		all = append(all, st)
	}
	for range 4 {
		for _, st := range all {
			var n int
			_ = st.QueryRowContext(ctx, 1).Scan(&n)
			total += n
		}
		tx, err := s.conn.BeginTx(ctx, nil)
		if err != nil {
			check("prepared_many", nil, err)
			return
		}
		for i := 0; i < 60; i += 7 {
			var n int
			_ = tx.StmtContext(ctx, all[i]).QueryRowContext(ctx, 2).Scan(&n)
			total += n
		}
		_ = tx.Commit()
	}
	for _, st := range all {
		_ = st.Close()
	}
	check("prepared_many", total, nil)
	for i, v := range []any{true, int64(math.MinInt64), 0.1, math.NaN(), math.Inf(1), "naïve 漢字", []byte{0, 255}, nil, pq.Array([]int64{1, 2}), pq.Array([]string{"a", "b\"c"}), time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC)} {
		kind := []string{"bool", "int8", "float8", "float8", "float8", "text", "bytea", "text", "int8[]", "text[]", "timestamptz"}[i]
		value, err := s.query(ctx, "SELECT $1::"+kind, v)
		check("parameter "+kind, value, err)
	}
	_, err := s.query(ctx, "SELECT 1 / $1::int", 0)
	check("prepared_error", "", err)
	_, err = s.query(ctx, "SELECT * FROM missing WHERE a = $1", 0)
	check("prepared_missing", "", err)
	value, err := s.query(ctx, "SELECT 1 / $1::int", 1)
	check("prepared_after_error", value, err)
	value, err = s.query(ctx, "SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')")
	check("several_statements", value, err)
	_, err = s.conn.ExecContext(ctx, "INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0")
	check("several_fail", "", err)
	value, err = s.query(ctx, "SELECT count(*) FROM pair WHERE b = 'several'")
	check("several_undone", value, err)
	_, err = s.conn.ExecContext(ctx, "")
	check("empty_statement", "", err)
}

func copies(ctx context.Context, s *session) {
	in := func(name string, rows int, bad int) {
		tx, err := s.conn.BeginTx(ctx, nil)
		if err != nil {
			check(name, "", err)
			return
		}
		st, err := tx.PrepareContext(ctx, "COPY pair (a, b) FROM STDIN")
		for i := 0; err == nil && i < rows; i++ {
			var a any = i
			if i == bad {
				a = "not a number"
			}
			_, err = st.ExecContext(ctx, a, name)
		}
		if err == nil {
			_, err = st.ExecContext(ctx)
		}
		if err != nil {
			check(name, "", err)
			check(name+"_rollback", "", tx.Rollback())
			return
		}
		check(name+"_close", "", st.Close())
		check(name, "", tx.Commit())
	}
	in("copy_in", 1000, -1)
	in("copy_breaks", 20, 10)
	value, err := s.query(ctx, "SELECT b, count(*), sum(a) FROM pair WHERE b LIKE 'copy%' GROUP BY b ORDER BY b")
	check("copy_seen", value, err)
}

func cancels(ctx context.Context, s *session) {
	for _, name := range []string{"cancel", "cancel_again"} {
		limited, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err := s.conn.ExecContext(limited, "SELECT pg_sleep(30)")
		cancel()
		check(name, "not cancelled", err)
		_ = s.conn.Close()
		s.conn, err = s.Conn(ctx)
		check(name+"_conn", "", err)
		value, err := s.query(ctx, "SELECT 'usable'")
		check(name+"_after", value, err)
	}
}

func transactions(ctx context.Context, s *session) {
	tx, err := s.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	check("modes", "", err)
	var iso, ro string
	err = tx.QueryRowContext(ctx, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&iso, &ro)
	check("modes_shown", iso+ro, err)
	check("modes_commit", "", tx.Commit())
	tx, err = s.conn.BeginTx(ctx, nil)
	check("nested", "", err)
	for _, text := range []string{"INSERT INTO pair VALUES (1, 'nested')", "SAVEPOINT s", "SELECT 1 / 0", "ROLLBACK TO s", "INSERT INTO pair VALUES (2, 'nested')"} {
		_, err := tx.ExecContext(ctx, text)
		check("nested "+text, "", err)
	}
	check("nested_commit", "", tx.Commit())
	value, err := s.query(ctx, "SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")
	check("nested_seen", value, err)
	tx, err = s.conn.BeginTx(ctx, nil)
	check("broken", "", err)
	_, err = tx.ExecContext(ctx, "SELECT 1 / 0")
	check("broken_fails", "", err)
	check("broken_commit", "", tx.Commit())
	value, err = s.query(ctx, "SELECT says('heard')")
	check("notice", value, err)
}

func large(ctx context.Context, s *session) {
	b, text := []byte(strings.Repeat("a\x00b\xff", 1<<20)), strings.Repeat("é漢", 1<<20)
	_, err := s.conn.ExecContext(ctx, "INSERT INTO wide VALUES (1, $1, $2)", b, text)
	check("large_insert", "", err)
	var gotB []byte
	var gotT string
	err = s.conn.QueryRowContext(ctx, "SELECT b, t FROM wide WHERE b = $1", b).Scan(&gotB, &gotT)
	check("large_select", fmt.Sprint(string(b) == string(gotB), text == gotT), err)
	rows, err := s.conn.QueryContext(ctx, "SELECT repeat('y', 100) FROM generate_series(1, 30000)")
	n := 0
	for err == nil && rows.Next() {
		var y string
		_ = rows.Scan(&y)
		n += len(y)
	}
	check("large_rows", n, err)
	_ = rows.Close()
	sum := 0
	for i := range 500 {
		var n int
		_ = s.conn.QueryRowContext(ctx, "SELECT $1::int", i).Scan(&n)
		sum += n
	}
	check("many_small", sum, nil)
}

func listening() {
	channel := os.Getenv("DRIVER_SCHEMA")
	l := pq.NewListener(source(""), time.Second, time.Minute, nil)
	check("listen", "", l.Listen(channel))
	db, err := sql.Open("postgres", source(""))
	check("listen_other", "", err)
	for _, text := range []string{"one", "two"} {
		_, err = db.Exec("SELECT pg_notify($1, $2)", channel, text)
		check("notify "+text, "", err)
		select {
		case n := <-l.Notify:
			check("notified "+text, fmt.Sprint(n.Channel == channel, n.Extra, n.BePid > 0), nil)
		case <-time.After(5 * time.Second):
			check("notified "+text, "nothing", nil)
		}
	}
	check("ping", "", l.Ping())
	check("unlisten", "", l.Unlisten(channel))
	_, _ = db.Exec("SELECT pg_notify($1, 'unheard')", channel)
	select {
	case n := <-l.Notify:
		check("unlistened", n.Extra, nil)
	case <-time.After(300 * time.Millisecond):
		check("unlistened", "nothing", nil)
	}
	check("close", "", l.Close())
	_ = db.Close()
}
