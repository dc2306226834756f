package schema

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"qvpgw/internal/catalog"
)

// Adopted is a table that was there before the migrations, and whose rows are in
// the migrations' table now.
type Adopted struct {
	Table      string `json:"table"`
	Rows       int64  `json:"rows"`       // before and after
	Checksum   string `json:"checksum"`   // before and after: the sum of the rows' hashes
	Hypertable bool   `json:"hypertable"` // now
}

// CannotAdopt lists everything for which tables cannot be adopted. Nothing was
// changed.
type CannotAdopt struct{ Problems []string }

// Error is the list, a line each.
func (e *CannotAdopt) Error() string {
	return "cannot adopt the tables that are there; nothing was changed:\n  " + strings.Join(e.Problems, "\n  ")
}

// ErrOccupied means that tables which pending migrations make are there already.
var ErrOccupied = errors.New("tables that the migrations make are there already")

// asideSchema holds the tables that are being adopted, for the length of a
// transaction.
const asideSchema = "qvpgw_adopt"

// Adopt is Up for a database whose tables somebody else laid out: those that
// pending migrations make and that are there already give their rows, grants,
// further columns, indexes and constraints to the migrations' tables. All of it is
// one transaction; what cannot be adopted is listed before anything is changed, as
// a *CannotAdopt.
func (m *Migrator) Adopt(ctx context.Context) (Result, error) {
	return m.do(ctx, func(s *session) error {
		if err := s.mayGo("up"); err != nil {
			return err
		}
		a := &adoption{session: s, q: ConnQuery(s.driver.conn), log: m.log}
		if err := a.find(ctx); err != nil {
			return err
		}
		if len(a.tables) > 0 {
			if err := a.run(ctx); err != nil {
				return err
			}
		}
		return s.up(ctx, m.o)
	})
}

var createTable = regexp.MustCompile(`(?i)\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?([a-z_][a-z0-9_]*)\s*\(`)

// makes are the tables that a file's up direction makes and its down direction
// drops.
func (f file) makes() (names []string) {
	made := map[string]bool{}
	for _, m := range createTable.FindAllStringSubmatch(f.up, -1) {
		made[strings.ToLower(m[1])] = true
	}
	for _, name := range f.loses {
		if made[name] {
			names = append(names, name)
		}
	}
	return names
}

// occupied lists the tables that pending files make and that are there already.
func (s *session) occupied(ctx context.Context) (names []string, err error) {
	at, _ := position(s.files, s.driver.current)
	q := ConnQuery(s.driver.conn)
	for _, f := range s.files[at+1:] {
		for _, name := range f.makes() {
			rows, err := read(ctx, q, "table "+name, fmt.Sprintf("SELECT to_regclass(quote_ident(current_schema()) || '.' || %s) IS NOT NULL", catalog.Literal(name)), 1)
			if err != nil {
				return nil, err
			}
			if rows[0][0] == "t" {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// mayMake refuses to run files whose tables are there already.
func (s *session) mayMake(ctx context.Context) error {
	names, err := s.occupied(ctx)
	if err != nil || len(names) == 0 || s.part != nil {
		return err
	}
	return fmt.Errorf("cannot migrate: %w: %s; `qvpgw migrate up --adopt` takes them over with their rows", ErrOccupied, strings.Join(names, ", "))
}

// adoption is one run of Adopt.
type adoption struct {
	*session
	q        Query
	log      func(string)
	schema   string // of the tables
	tables   []*adopted
	problems []string
}

type adopted struct {
	name   string
	old    *table // as it was found
	fresh  *table // as the migrations made it; nil: they made none
	rows   int64
	sum    string
	kind   string   // relkind
	grants []string // statements that give others what they had
}

func (a *adoption) find(ctx context.Context) error {
	names, err := a.occupied(ctx)
	if err != nil || len(names) == 0 {
		return err
	}
	rows, err := read(ctx, a.q, "the schema for tables", "SELECT current_schema()", 1)
	if err != nil {
		return err
	}
	a.schema = rows[0][0]
	for _, name := range names {
		a.tables = append(a.tables, &adopted{name: name})
	}
	return nil
}

func (a *adoption) at(name string) catalog.Name { return catalog.Name{Schema: a.schema, Name: name} }

func (a *adoption) aside(name string) catalog.Name {
	return catalog.Name{Schema: asideSchema, Name: name}
}

func (a *adoption) problem(format string, args ...any) {
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

// run adopts all tables in one transaction, which runs the pending files too, up
// to the first that is none.
func (a *adoption) run(ctx context.Context) (err error) {
	d := a.driver
	if err := d.exec("BEGIN"); err != nil {
		return fmt.Errorf("cannot begin to adopt: %w", err)
	}
	defer func() {
		if err != nil && !d.conn.IsClosed() {
			rolled, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer stop()
			_, rerr := d.conn.Exec(rolled, "ROLLBACK")
			err = errors.Join(err, rerr)
			a.result.Steps, d.steps = nil, nil
		}
	}()
	if err := a.moveAside(ctx); err != nil {
		return err
	}
	version, err := a.migrate()
	if err != nil {
		return err
	}
	for _, t := range a.tables {
		if t.fresh, err = readTable(ctx, a.q, a.at(t.name)); err != nil {
			return err
		}
		if err := a.compare(ctx, t); err != nil {
			return err
		}
	}
	if len(a.problems) > 0 {
		return &CannotAdopt{Problems: a.problems}
	}
	for _, t := range a.tables {
		if err := a.fill(ctx, t); err != nil {
			return fmt.Errorf("cannot adopt table %s: %w", t.name, err)
		}
	}
	if err := a.finish(ctx); err != nil {
		return err
	}
	mark := fmt.Sprintf("DELETE FROM qvpgw.schema_migrations; INSERT INTO qvpgw.schema_migrations (version, dirty) VALUES (%d, false); COMMIT", version)
	if err := d.exec(mark); err != nil {
		return fmt.Errorf("cannot finish adopting: %w", err)
	}
	d.current = version
	return nil
}

// moveAside reads the tables and moves them out of the migrations' way.
func (a *adoption) moveAside(ctx context.Context) error {
	for _, t := range a.tables {
		if err := a.look(ctx, t); err != nil {
			return err
		}
	}
	if len(a.problems) > 0 {
		return &CannotAdopt{Problems: a.problems}
	}
	sql := "CREATE SCHEMA " + asideSchema
	for _, t := range a.tables {
		sql += fmt.Sprintf("; ALTER TABLE %s SET SCHEMA %s", a.at(t.name), asideSchema)
	}
	if err := a.driver.exec(sql); err != nil {
		return fmt.Errorf("cannot move the tables that are to be adopted aside: %w", err)
	}
	return nil
}

// migrate runs the pending files up to the first that is no transaction, and
// returns the version that this gives.
func (a *adoption) migrate() (version int, err error) {
	at, _ := position(a.files, a.driver.current)
	version = a.driver.current
	later := map[string]bool{}
	for _, f := range a.files[at+1:] {
		if len(later) > 0 || !transactional(f.up) {
			later[""] = true
			for _, name := range f.makes() {
				later[name] = true
			}
			continue
		}
		began := time.Now()
		results, err := a.driver.conn.PgConn().Exec(a.driver.ctx, f.up+"\n;\n"+logRow(f.version, "up")).ReadAll()
		if err != nil {
			return 0, newError(f.name("up"), f.up, succeeded(results), err)
		}
		version = f.version
		a.driver.steps = append(a.driver.steps, Step{Version: f.version, Title: f.title, Direction: "up", Took: time.Since(began)})
	}
	for _, t := range a.tables {
		if later[t.name] {
			return 0, fmt.Errorf("cannot adopt table %s: the migration that makes it comes after one that is no transaction; `qvpgw migrate up` to that one first", t.name)
		}
	}
	return version, nil
}

// fill moves the rows of one table over, and what the owner had added to it.
func (a *adoption) fill(ctx context.Context, t *adopted) error {
	if t.fresh == nil {
		a.result.Notices = append(a.result.Notices, t.name+" stays as it is: no migration makes it here")
		return a.driver.exec(fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", a.aside(t.name), catalog.Quote(a.schema)))
	}
	a.log("adopting " + t.name)
	if err := a.driver.exec(strings.Join(a.additions(t), ";\n")); err != nil {
		return fmt.Errorf("cannot add what it has of its own: %w", err)
	}
	var err error
	if t.rows, t.sum, err = a.tally(ctx, t, a.aside(t.name)); err != nil {
		return err
	}
	var names []string
	for _, c := range t.old.columns {
		names = append(names, catalog.Quote(c.name))
	}
	list := strings.Join(names, ", ")
	sql := fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s", a.at(t.name), list, list, a.aside(t.name))
	if err := a.driver.exec(sql); err != nil {
		return fmt.Errorf("cannot copy its rows: %w", err)
	}
	rows, sum, err := a.tally(ctx, t, a.at(t.name))
	if err != nil {
		return err
	}
	if rows != t.rows || sum != t.sum {
		return fmt.Errorf("there were %d rows with checksum %s, now there are %d with %s", t.rows, t.sum, rows, sum)
	}
	for _, c := range t.old.columns {
		if f, _ := t.fresh.column(c.name); f.identity != "" || f.sequence != "" {
			if err := a.driver.exec(a.setSequence(t, c, f)); err != nil {
				return fmt.Errorf("cannot set the sequence of column %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// setSequence has the fresh table's sequence go on where the old one was, or
// after the highest value.
func (a *adoption) setSequence(t *adopted, old, fresh column) string {
	before := "NULL::bigint"
	if old.sequence != "" {
		before = fmt.Sprintf("pg_sequence_last_value(pg_get_serial_sequence(%s, %s))", catalog.Literal(a.aside(t.name).String()), catalog.Literal(old.name))
	}
	return fmt.Sprintf("SELECT setval(%s::regclass, n) FROM (SELECT greatest(max(%s)::bigint, %s) AS n FROM %s) m WHERE n >= 1",
		catalog.Literal(fresh.sequence), catalog.Quote(old.name), before, a.at(t.name))
}

// tally counts the rows of a table and sums up their hashes, by the columns that
// the old table has, as values of the fresh one's types.
func (a *adoption) tally(ctx context.Context, t *adopted, in catalog.Name) (int64, string, error) {
	var values []string
	for _, c := range t.old.columns {
		typ := c.typ
		if f, ok := t.fresh.column(c.name); ok {
			typ = f.typ
		}
		values = append(values, fmt.Sprintf("%s::%s::text", catalog.Quote(c.name), typ))
	}
	rows, err := a.q(ctx, fmt.Sprintf("SELECT count(*), coalesce(sum(hashtextextended(ROW(%s)::text, 0)), 0) FROM %s", strings.Join(values, ", "), in))
	if err != nil {
		return 0, "", fmt.Errorf("cannot count its rows: %w", err)
	}
	var n numbers
	count := n.int64(rows[0][0])
	return count, rows[0][1], n.err
}

// finish adds the foreign keys, drops what was moved aside and says what was done.
func (a *adoption) finish(ctx context.Context) error {
	var keys, drops []string
	for _, t := range a.tables {
		if t.fresh == nil {
			continue
		}
		for _, c := range t.old.constraints {
			if c.kind == "f" && !t.fresh.constraint(c.def) {
				keys = append(keys, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", a.at(t.name), catalog.Quote(c.name), c.def))
			}
		}
		drops = append(drops, a.aside(t.name).String())
	}
	sql := ""
	if len(drops) > 0 {
		sql = "DROP TABLE " + strings.Join(drops, ", ") + "; "
	}
	if err := a.driver.exec(sql + "DROP SCHEMA " + asideSchema + "; " + strings.Join(keys, "; ")); err != nil {
		return fmt.Errorf("cannot drop the tables that were adopted: %w", err)
	}
	for _, t := range a.tables {
		if t.fresh == nil {
			continue
		}
		if rows, sum, err := a.tally(ctx, t, a.at(t.name)); err != nil || rows != t.rows || sum != t.sum {
			return errors.Join(fmt.Errorf("cannot adopt table %s: there were %d rows with checksum %s, now there are %d with %s", t.name, t.rows, t.sum, rows, sum), err)
		}
		a.result.Adopted = append(a.result.Adopted, Adopted{Table: t.name, Rows: t.rows, Checksum: t.sum, Hypertable: t.fresh.time != ""})
	}
	return nil
}
