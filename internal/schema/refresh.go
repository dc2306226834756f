package schema

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
)

// Execer runs one statement outside a transaction; *pgx.Conn and *pgxpool.Pool
// are Execers.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Refresh materializes [from, to) of a continuous aggregate, whole buckets only.
// A zero time leaves that side open; with to open TimescaleDB materializes the
// bucket that is still filling, too. It cannot run in a transaction. A range
// that holds no whole bucket is TimescaleDB's error 22023.
func Refresh(ctx context.Context, conn Execer, view catalog.Name, from, to time.Time) error {
	sql := fmt.Sprintf("CALL refresh_continuous_aggregate(%s::regclass, %s, %s)",
		literal(view.String()), timestamp(from), timestamp(to))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("cannot refresh continuous aggregate %s: %w", view, err)
	}
	return nil
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return "NULL"
	}
	return literal(t.UTC().Format("2006-01-02 15:04:05.999999-07")) + "::timestamptz"
}

// literal quotes s as an SQL string, whatever standard_conforming_strings is.
func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.ContainsRune(s, '\\') {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
