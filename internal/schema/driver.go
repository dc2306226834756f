package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Step is one migration file that was run.
type Step struct {
	Version   int           `json:"version"`
	Title     string        `json:"title"`
	Direction string        `json:"direction"` // "up" or "down"
	Took      time.Duration `json:"took"`
}

// driver is golang-migrate's pgx driver with one thing changed: a file is sent
// as one simple Query together with a row for qvpgw.migration_log. The file and
// the row that says it ran are thus one transaction, so the log tells the truth
// about a run that was killed, and golang-migrate's dirty mark can be settled
// without anybody's guess. Files without a transaction are in part.go.
type driver struct {
	database.Driver
	ctx     context.Context // of the command that runs
	conn    *pgx.Conn       // the connection that Driver uses, too
	files   []file
	current int // version before the step, -1 for none
	target  int // version after it
	steps   []Step
}

// SetVersion notes where the step that follows leads.
func (d *driver) SetVersion(version int, dirty bool) error {
	if dirty {
		d.target = version
	} else {
		d.current = version
	}
	return d.Driver.SetVersion(version, dirty)
}

// Run runs one file and logs it in the same transaction.
func (d *driver) Run(migration io.Reader) error {
	body, err := io.ReadAll(migration)
	if err != nil {
		return fmt.Errorf("cannot read a migration: %w", err)
	}
	f, direction := d.step()
	began := time.Now()
	text := string(body)
	if !transactional(text) {
		if err := d.runParts(f, direction, text); err != nil {
			return err
		}
		d.steps = append(d.steps, Step{Version: f.version, Title: f.title, Direction: direction, Took: time.Since(began)})
		return nil
	}
	sql := text + "\n;\n" + logRow(d.target, direction)
	results, err := d.conn.PgConn().Exec(d.ctx, sql).ReadAll()
	if err != nil {
		return newError(f.name(direction), text, succeeded(results), err)
	}
	d.steps = append(d.steps, Step{Version: f.version, Title: f.title, Direction: direction, Took: time.Since(began)})
	return nil
}

// succeeded counts the statements of a text that were run.
func succeeded(results []*pgconn.Result) (done int) {
	for _, r := range results {
		if r.Err == nil {
			done++
		}
	}
	return done
}

// step returns the file between the current version and the target.
func (d *driver) step() (file, string) {
	version, direction := d.target, "up"
	if d.target < d.current {
		version, direction = d.current, "down"
	}
	for _, f := range d.files {
		if f.version == version {
			return f, direction
		}
	}
	return file{version: version}, direction
}

func logRow(version int, direction string) string {
	return fmt.Sprintf("INSERT INTO qvpgw.migration_log (version, direction) VALUES (%d, '%s')", version, direction)
}

// Error is a migration file that failed. It was rolled back as a whole, unless
// Kept says otherwise.
type Error struct {
	File      string // "000002_market_tables.up.sql"
	Line      int    // from 1; 0 when the server named no place
	Column    int    // from 1, in characters
	Statement string // the statement that failed, shortened
	Kept      string // what is kept of a file without a transaction
	Err       error  // a *pgconn.PgError when the server refused it
}

// Error names the file, the place and the statement.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot run migration %s", e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ", line %d", e.Line)
		if e.Column > 0 {
			fmt.Fprintf(&b, ", column %d", e.Column)
		}
	}
	if e.Statement != "" {
		fmt.Fprintf(&b, ", at %q", e.Statement)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if pg, ok := errors.AsType[*pgconn.PgError](e.Err); ok {
		for _, more := range []struct{ name, text string }{{"detail", pg.Detail}, {"hint", pg.Hint}, {"where", pg.Where}} {
			if more.text != "" {
				fmt.Fprintf(&b, "; %s: %s", more.name, more.text)
			}
		}
		kept := e.Kept
		if kept == "" {
			kept = "nothing of this file was kept: mend the cause and migrate up again"
		}
		if pg.Code == "42501" { // insufficient_privilege
			kept += "; `qvpgw doctor` says what the role lacks"
		}
		b.WriteString("; " + kept)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// newError finds the statement of sql that failed with err: the one at the
// server's position, else the one after the done that succeeded.
func newError(name, sql string, done int, err error) *Error {
	e := &Error{File: name, Err: err}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return e
	}
	spans := statements(sql)
	offset := -1
	if pg.Position > 0 {
		e.Line, e.Column, offset = lineColumn(sql, int(pg.Position))
	}
	for i, s := range spans {
		if offset >= s.start && offset < s.end || offset < 0 && i == done {
			e.Statement = excerpt(sql[s.start:s.end])
			if offset < 0 {
				e.Line = 1 + strings.Count(sql[:s.start], "\n")
			}
		}
	}
	return e
}

// excerpt is a statement on one line, at most 80 characters of it.
func excerpt(sql string) string {
	s := []rune(strings.Join(strings.Fields(sql), " "))
	if len(s) > 80 {
		return string(s[:77]) + "..."
	}
	return string(s)
}
