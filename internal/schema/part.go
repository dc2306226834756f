package schema

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"qvpgw/internal/catalog"

	"github.com/jackc/pgx/v5"
)

// A file with the line "-- qvpgw: no transaction" before its first statement is
// run statement by statement. What can run in a transaction is committed together
// with the number of statements that are done, so it happens exactly once; what
// cannot (alone) is begun again when nobody knows whether it ended, if it is of a
// kind that may be begun again.

// Part is how far a file without a transaction came before its run ended.
type Part struct {
	Version   int    `json:"version"`
	Direction string `json:"direction"` // "up" or "down"
	Done      int    `json:"done"`      // statements that are kept
	Of        int    `json:"of"`
	Statement string `json:"statement"` // the next one, shortened
	digest    string // of the statements that are done
}

// ErrHalf means that a file without a transaction ended between two of its
// statements.
var ErrHalf = errors.New("the schema is half made")

// partTable holds at most one row: that of the file under way.
const partTable = `
CREATE TABLE IF NOT EXISTS qvpgw.migration_part (
  one       boolean PRIMARY KEY DEFAULT true CHECK (one),
  version   bigint NOT NULL,
  direction text NOT NULL CHECK (direction IN ('up', 'down')),
  done      integer NOT NULL,
  of        integer NOT NULL,
  statement text NOT NULL,
  digest    text NOT NULL,
  at        timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON qvpgw.migration_part TO PUBLIC`

const partSQL = "SELECT version, direction, done, of, statement, digest FROM qvpgw.migration_part"

// readPart returns the file under way, nil when there is none.
func readPart(ctx context.Context, conn *pgx.Conn) (*Part, error) {
	rows, err := read(ctx, ConnQuery(conn), "the migration under way", partSQL, 6)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return partOf(rows[0])
}

func partOf(row []string) (*Part, error) {
	var n numbers
	p := &Part{Version: n.int(row[0]), Direction: row[1], Done: n.int(row[2]), Of: n.int(row[3]), Statement: row[4], digest: row[5]}
	if n.err != nil {
		return nil, fmt.Errorf("cannot read the migration under way: %w", n.err)
	}
	return p, nil
}

// command is a statement of a file without a transaction.
type command struct {
	span
	text       string
	when       string // an SQL condition, "" for always
	repeatable bool   // the file says that it may be begun again
}

const directive = "-- qvpgw:"

// transactional says whether a file is one transaction.
func transactional(sql string) bool {
	for _, d := range directives(head(sql)) {
		if d == "no transaction" {
			return false
		}
	}
	return true
}

// head is what stands before the first statement.
func head(sql string) string {
	if spans := statements(sql); len(spans) > 0 {
		return sql[:spans[0].start]
	}
	return sql
}

// directives are the lines of a text that are meant for us.
func directives(comments string) (list []string) {
	for line := range strings.Lines(comments) {
		if d, ok := strings.CutPrefix(strings.TrimSpace(line), directive); ok {
			list = append(list, strings.TrimSpace(d))
		}
	}
	return list
}

// commands are the statements of a file without a transaction, with what is said
// of each in the comments before it.
func commands(sql string) ([]command, error) {
	var list []command
	before := 0
	for _, s := range statements(sql) {
		c := command{span: s, text: sql[s.start:s.end]}
		for _, d := range directives(sql[before:s.start]) {
			when, isWhen := strings.CutPrefix(d, "when ")
			switch {
			case isWhen:
				c.when = when
			case d == "repeatable":
				c.repeatable = true
			case d != "no transaction":
				return nil, fmt.Errorf("cannot understand %q: after %s comes no transaction, repeatable or when CONDITION", d, directive)
			}
		}
		list = append(list, c)
		before = s.end
	}
	return list, nil
}

// digest tells whether a file's first statements are those that were run.
func digest(list []command) string {
	h := md5.New()
	for _, c := range list {
		_, _ = fmt.Fprintf(h, "%d %s;", len(c.text), c.text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

var (
	aloneForm = regexp.MustCompile(`(?is)^(call|vacuum|cluster|reindex|alter\s+system|create\s+(unique\s+)?index\s+concurrently|drop\s+index\s+concurrently|create\s+database|drop\s+database)\b`)
	// againForm are statements that give the same when they are begun again,
	// whatever became of them.
	againForm   = regexp.MustCompile(`(?is)^(call\s+([a-z0-9_]+\.)?refresh_continuous_aggregate\s*\(|vacuum\b|cluster\b|reindex\b|alter\s+system\b|drop\s+index\s+concurrently\s+if\s+exists\b)`)
	makesIndex  = regexp.MustCompile(`(?is)^create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?("[^"]+"|[a-z_][a-z0-9_$]*)\s+on\s`)
	brokenIndex = "SELECT i.indisvalid, i.indexrelid::regclass FROM pg_index i WHERE i.indexrelid = to_regclass(%s)"
)

// alone says whether the statement cannot run in a transaction.
func (c command) alone() bool { return aloneForm.MatchString(c.text) }

// again says whether a statement of which nobody knows whether it ended may be
// begun again. The others are in a transaction with the number of what is done.
func (c command) again() bool {
	return !c.alone() || c.repeatable || againForm.MatchString(c.text) || makesIndex.MatchString(c.text)
}

// resumable says whether a file that stopped can be gone on with; why not, if not.
func (p *Part) resumable(f file) (why string, ok bool) {
	list, err := commands(f.text(p.Direction))
	switch {
	case err != nil:
		return err.Error(), false
	case p.Done > len(list) || digest(list[:p.Done]) != p.digest:
		return "the statements that were run are not those of this program's file", false
	case p.Done < len(list) && !list[p.Done].again():
		return "this statement may have run or not, and must not run twice", false
	}
	return "", true
}

// half says what is there of the file, and what to do.
func (p *Part) half(files []file) string {
	before := -1
	var f file
	for i := range files {
		if files[i].version == p.Version {
			f = files[i]
			break
		}
		before = files[i].version
	}
	what := fmt.Sprintf("%s stopped after %d of %d statements, which are kept; the next is %q", f.name(p.Direction), p.Done, p.Of, p.Statement)
	if f.version == 0 {
		return fmt.Sprintf("migration %d stopped after %d of %d statements and is not one of this program's: run the newer gateway's `qvpgw migrate up`", p.Version, p.Done, p.Of)
	}
	why, ok := p.resumable(f)
	done, undone := p.Version, max(before, 0)
	if p.Direction == "down" {
		done, undone = undone, done
	}
	switch {
	case !ok:
		return fmt.Sprintf("%s; %s: look at what is there, do the rest by hand and say so with `qvpgw migrate force %d`, or undo it by hand and force version %d", what, why, done, undone)
	case p.Direction == "down":
		return fmt.Sprintf("%s; `qvpgw migrate down 1` goes on with it", what)
	default:
		return fmt.Sprintf("%s; `qvpgw migrate up` goes on with it", what)
	}
}

// runParts runs a file without a transaction, from where a run before stopped.
func (d *driver) runParts(f file, direction, text string) error {
	name := f.name(direction)
	list, err := commands(text)
	if err != nil {
		return fmt.Errorf("cannot run migration %s: %w", name, err)
	}
	p, err := readPart(d.ctx, d.conn)
	if err != nil {
		return err
	}
	first := 0
	if p != nil {
		if p.Version != f.version || p.Direction != direction {
			return fmt.Errorf("cannot run migration %s: %w: %s", name, ErrHalf, p.half(d.files))
		}
		if _, ok := p.resumable(f); !ok {
			return fmt.Errorf("cannot go on with migration %s: %w: %s", name, ErrHalf, p.half(d.files))
		}
		first = p.Done
	}
	for i := first; i < len(list); i++ {
		if err := d.exec(keepPart(f, direction, list, i)); err != nil {
			return fmt.Errorf("cannot note how far migration %s is: %w", name, err)
		}
		if err := d.runCommand(f, direction, list, i, p != nil && i == first); err != nil {
			if i == 0 && !list[0].alone() {
				// It was rolled back, and nothing was before it.
				err = errors.Join(err, d.exec("DELETE FROM qvpgw.migration_part"))
			}
			return partError(name, text, list, i, err)
		}
	}
	if err := d.exec("DELETE FROM qvpgw.migration_part; " + logRow(d.target, direction)); err != nil {
		return fmt.Errorf("cannot log the end of migration %s: %w", name, err)
	}
	return nil
}

// runCommand runs one statement; again: it was begun before.
func (d *driver) runCommand(f file, direction string, list []command, i int, again bool) error {
	c := list[i]
	if c.when != "" {
		rows, err := ConnQuery(d.conn)(d.ctx, "SELECT ("+c.when+") IS TRUE")
		if err != nil {
			return fmt.Errorf("condition %q: %w", c.when, err)
		}
		if rows[0][0] != "t" {
			return nil
		}
	}
	if !c.alone() {
		return d.exec(c.text + "\n;\n" + keepPart(f, direction, list, i+1))
	}
	if m := makesIndex.FindStringSubmatch(c.text); m != nil && again {
		rows, err := ConnQuery(d.conn)(d.ctx, fmt.Sprintf(brokenIndex, catalog.Literal(m[1])))
		if err != nil {
			return fmt.Errorf("cannot look for index %s: %w", m[1], err)
		}
		switch {
		case len(rows) == 0:
		case rows[0][0] == "t":
			return nil // it was built to its end
		default:
			if err := d.exec("DROP INDEX CONCURRENTLY IF EXISTS " + rows[0][1]); err != nil {
				return fmt.Errorf("cannot drop what a build that ended early left of index %s: %w", m[1], err)
			}
		}
	}
	return d.exec(c.text)
}

// exec runs SQL as one simple Query.
func (d *driver) exec(sql string) error {
	_, err := d.conn.PgConn().Exec(d.ctx, sql).ReadAll()
	return err
}

// keepPart is the statement that notes that done statements of a file are kept.
func keepPart(f file, direction string, list []command, done int) string {
	next := ""
	if done < len(list) {
		next = excerpt(list[done].text)
	}
	return fmt.Sprintf(`INSERT INTO qvpgw.migration_part (version, direction, done, of, statement, digest) VALUES (%d, '%s', %d, %d, %s, '%s')
ON CONFLICT (one) DO UPDATE SET version = EXCLUDED.version, direction = EXCLUDED.direction, done = EXCLUDED.done, of = EXCLUDED.of,
  statement = EXCLUDED.statement, digest = EXCLUDED.digest, at = now()`,
		f.version, direction, done, len(list), catalog.Literal(next), digest(list[:done]))
}

// partError is the failure of one statement of a file without a transaction.
func partError(name, text string, list []command, i int, err error) *Error {
	c := list[i]
	e := &Error{
		File: name, Line: 1 + strings.Count(text[:c.start], "\n"), Statement: excerpt(c.text), Err: err,
		Kept: fmt.Sprintf("of this file's %d statements the first %d are kept: mend the cause, and `qvpgw migrate up` goes on with this one", len(list), i),
	}
	if i == 0 && !c.alone() {
		e.Kept = ""
	}
	return e
}
