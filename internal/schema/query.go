package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
)

// Query runs one statement with the simple protocol and returns its rows as
// text. NULL comes as the empty string: no query of this package needs to tell
// the two apart. The rows are not changed or kept after the next call.
type Query func(ctx context.Context, sql string) ([][]string, error)

// ConnQuery returns a Query over a pgx connection.
func ConnQuery(conn *pgx.Conn) Query { return PgConnQuery(conn.PgConn()) }

// PgConnQuery returns a Query over a pgconn connection.
func PgConnQuery(conn *pgconn.PgConn) Query {
	return func(ctx context.Context, sql string) ([][]string, error) {
		reader := conn.Exec(ctx, sql)
		var rows [][]string
		for reader.NextResult() {
			result := reader.ResultReader()
			for result.NextRow() {
				values := result.Values()
				row := make([]string, len(values))
				for i, v := range values {
					row[i] = string(v)
				}
				rows = append(rows, row)
			}
			if _, err := result.Close(); err != nil {
				_ = reader.Close() // its error is the one we have
				return nil, err
			}
		}
		return rows, reader.Close()
	}
}

// read runs a query whose rows must have width columns, and says what was being
// read when it fails.
func read(ctx context.Context, q Query, what, sql string, width int) ([][]string, error) {
	rows, err := q(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s from the system catalogs: %w", what, err)
	}
	for _, row := range rows {
		if len(row) != width {
			return nil, fmt.Errorf("cannot read %s from the system catalogs: a row has %d columns, not %d", what, len(row), width)
		}
	}
	return rows, nil
}

// TextQuery returns a Query over a function that gives NULL as nil, as a pool of
// server connections does.
func TextQuery(run func(sql string) ([][]*string, error)) Query {
	return func(_ context.Context, sql string) ([][]string, error) {
		rows, err := run(sql)
		text := make([][]string, len(rows))
		for i, row := range rows {
			text[i] = make([]string, len(row))
			for j, v := range row {
				if v != nil {
					text[i][j] = *v
				}
			}
		}
		return text, err
	}
}

// Read is Load, loadVolatile when there is a last snapshot, or LoadTouched when it is known
// too what DDL has changed since, over a function that gives NULL as nil.
func (l *Loader) Read(run func(sql string) ([][]*string, error), last *catalog.Snapshot, touched *catalog.Touched) (*catalog.Snapshot, error) {
	q := TextQuery(run)
	switch {
	case last != nil && touched != nil:
		return l.LoadTouched(context.Background(), q, last, touched)
	case last != nil:
		return l.loadVolatile(context.Background(), q, last)
	}
	return l.Load(context.Background(), q)
}
