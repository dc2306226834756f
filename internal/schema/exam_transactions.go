package schema

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"qvpgw/internal/catalog"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxSkew is how far clocks may be apart without a word; skewStep is how exactly that
// is said.
const (
	maxSkew  = 5 * time.Second
	skewStep = time.Millisecond
)

// longSQL lists the transactions of clients that are open for longer than a number of
// seconds, the oldest first: process, role, state, seconds, application.
const longSQL = `
SELECT pid, coalesce(usename, ''), coalesce(state, ''), extract(epoch FROM now() - xact_start)::bigint, coalesce(application_name, '')
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND xact_start <= clock_timestamp() - interval '1 second' * %d
ORDER BY xact_start
LIMIT 20`

// preparedSQL lists this database's prepared transactions.
const preparedSQL = `
SELECT gid, owner, extract(epoch FROM now() - prepared)::bigint FROM pg_prepared_xacts
WHERE database = current_database() ORDER BY prepared LIMIT 20`

// transactions says which of them hold others up.
func (e *exam) transactions() error {
	rows, err := e.ask("transactions", fmt.Sprintf(longSQL, int(e.o.LongAfter/time.Second)), 5)
	if err != nil {
		return err
	}
	for _, row := range rows {
		by := row[1]
		if row[4] != "" {
			by += " (" + row[4] + ")"
		}
		e.find("long-transaction", fmt.Sprintf("process %s of %s is %s, in a transaction that is open for %s", row[0], by, row[2], seconds(row[3])),
			fmt.Sprintf("SELECT pg_terminate_backend(%s);", row[0])).Advice = "if its client does not end it"
	}
	rows, err = e.ask("prepared transactions", preparedSQL, 3)
	for _, row := range rows {
		e.find("prepared-transactions", fmt.Sprintf("transaction %q of %s is prepared for %s", row[0], row[1], seconds(row[2])),
			fmt.Sprintf("ROLLBACK PREPARED %s;", catalog.Literal(row[0]))).Advice = "or COMMIT PREPARED: the transaction manager that prepared it knows which"
	}
	return err
}

// lockTimeout says whether a question was not answered because of somebody's lock.
func lockTimeout(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "55P03" // lock_not_available
}

// lockedSQL lists who keeps others from reading tables of this database: process,
// one of the tables.
const lockedSQL = `
SELECT l.pid, min(c.relname) FROM pg_locks l
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'v')
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND l.pid IS NOT NULL
GROUP BY 1 ORDER BY 1`

// locked says who holds what a question waited for; once.
func (e *exam) locked() error {
	if slices.ContainsFunc(e.r.Findings, func(f Finding) bool { return f.Code == "locked" }) {
		return nil
	}
	rows, err := e.ask("locks", lockedSQL, 2)
	for _, row := range rows {
		e.find("locked", fmt.Sprintf("process %s holds %s, so that nobody reads it: a part of this examination was left out", row[0], row[1]),
			fmt.Sprintf("SELECT pg_terminate_backend(%s);", row[0])).Advice = "unless it is a migration that is at work: `qvpgw migrate status` says so"
	}
	return err
}

// seconds is a number of them for people.
func seconds(s string) string {
	var n numbers
	return (time.Duration(n.int64(s)) * time.Second).String()
}
