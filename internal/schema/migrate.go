package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"

	"qvpgw/migrations"
)

// lockKey is the advisory lock that one migrating gateway holds: "qvpgw" in
// ASCII.
const lockKey = 0x7176706777

// bookkeeping is made before the first migration, under the lock. Every
// migration adds its row to the log in its own transaction; schema_migrations is
// golang-migrate's table, made here so that every role may read it.
const bookkeeping = `
CREATE SCHEMA IF NOT EXISTS qvpgw;
CREATE TABLE IF NOT EXISTS qvpgw.migration_log (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version   bigint NOT NULL,
  direction text NOT NULL CHECK (direction IN ('up', 'down', 'force')),
  at        timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS qvpgw.schema_migrations (
  version bigint NOT NULL PRIMARY KEY,
  dirty   boolean NOT NULL
);
GRANT USAGE ON SCHEMA qvpgw TO PUBLIC;
GRANT SELECT ON qvpgw.migration_log, qvpgw.schema_migrations TO PUBLIC;` + partTable

// Options says how migrations are run. The zero value is good.
type Options struct {
	Files       fs.FS         // the migrations; nil: those built into the program
	LockTimeout time.Duration // how long to wait for another gateway that migrates; 0: five minutes
	Yes         bool          // going down, or a retention that is made, may drop rows
	Log         func(string)  // told what happens while it happens; nil: nobody
	Policies    *Policies     // what Up brings the policies to and Status compares them with; nil: neither
	Demanded    []string      // extensions without which nothing is migrated
	Without     []string      // extensions that the schema does without, though the server may have them
}

// Result says what a command did.
type Result struct {
	From    int      `json:"from"` // version before, -1 for none
	To      int      `json:"to"`   // version after
	Steps   []Step   `json:"steps"`
	Notices []string `json:"notices,omitempty"` // what a migration left out and why
	Mended  string   `json:"mended,omitempty"`  // how the mark of a run that ended early was settled

	Policies *PolicyReport `json:"policies,omitempty"` // nil when they were not looked at
	Adopted  []Adopted     `json:"adopted,omitempty"`  // tables that were there before
}

// Text is the result as lines for people.
func (r Result) Text() string {
	var b strings.Builder
	if r.Mended != "" {
		fmt.Fprintln(&b, r.Mended)
	}
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%-4s %06d %s (%s)\n", s.Direction, s.Version, s.Title, s.Took.Round(time.Millisecond))
	}
	for _, a := range r.Adopted {
		kind := "table"
		if a.Hypertable {
			kind = "hypertable"
		}
		fmt.Fprintf(&b, "adopted %s: before %d rows, checksum %s; after %d rows, checksum %s, %s\n", a.Table, a.Rows, a.Checksum, a.Rows, a.Checksum, kind)
	}
	for _, n := range r.Notices {
		fmt.Fprintf(&b, "note %s\n", n)
	}
	if r.From == r.To {
		fmt.Fprintf(&b, "the schema is at version %s, nothing to do\n", versionText(r.To))
	} else {
		fmt.Fprintf(&b, "the schema is at version %s, it was at %s\n", versionText(r.To), versionText(r.From))
	}
	if r.Policies != nil {
		b.WriteString(PolicyReport{Changes: r.Policies.Changes, Policies: r.Policies.Unsettled()}.Text())
	}
	return b.String()
}

func versionText(version int) string {
	if version < 0 {
		return "0 (empty)"
	}
	return fmt.Sprint(version)
}

// ErrNewer means that a newer gateway migrated the database.
var ErrNewer = errors.New("the database's schema is newer than this program: run the newer gateway, or migrate down with it first")

// ErrDirty means that a run of other tools ended in the middle, and that the log
// of migrations does not say how.
var ErrDirty = errors.New("the schema is marked dirty: a migration ended in the middle")

// Migrate brings the database to the newest version. Of several programs that
// call it at once, one migrates and the others wait; those need no privilege
// when the schema is already there.
func Migrate(ctx context.Context, dsn string, o Options) error {
	_, err := NewMigrator(dsn, o).Up(ctx)
	return err
}

// Migrator runs migration commands on one database. Each command dials, works
// under an advisory lock, and closes its connection. The connection must lead to
// PostgreSQL itself or to a session pool: the lock belongs to the session.
type Migrator struct {
	dsn      string
	database string // instead of the one that dsn names; "": that one
	o        Options
}

// config is the way to the database.
func (m *Migrator) config() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(m.dsn)
	if err != nil {
		return nil, fmt.Errorf("cannot read the database's address: %w", err)
	}
	if m.database != "" {
		config.Database = m.database
	}
	return config, nil
}

func (m *Migrator) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := m.config()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// NewMigrator returns a Migrator for the database that dsn names. Nothing is
// dialled yet.
func NewMigrator(dsn string, o Options) *Migrator {
	if o.Files == nil {
		o.Files = migrations.Files
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 5 * time.Minute
	}
	return &Migrator{dsn: dsn, o: o}
}

// Up runs all pending migrations and brings the policies to what is wanted.
func (m *Migrator) Up(ctx context.Context) (Result, error) {
	return m.do(ctx, func(s *session) error {
		if err := s.mayGo("up"); err != nil {
			return err
		}
		if err := demand(ctx, ConnQuery(s.driver.conn), m.o.Demanded); err != nil {
			return fmt.Errorf("cannot migrate: %w", err)
		}
		if err := s.mayMake(ctx); err != nil {
			return err
		}
		return s.up(ctx, m.o)
	})
}

// up runs what is pending, and then has the policies be as wanted.
func (s *session) up(ctx context.Context, o Options) error {
	if at, _ := position(s.files, s.driver.current); at+1 < len(s.files) {
		if err := mayMigrate(ctx, ConnQuery(s.driver.conn)); err != nil {
			return fmt.Errorf("cannot migrate from version %s on: %w", versionText(s.driver.current), err)
		}
		if err := s.migrate.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
			return err
		}
	}
	return s.policies(ctx, o)
}

// Down undoes the n newest migrations.
func (m *Migrator) Down(ctx context.Context, n int) (Result, error) {
	if n < 1 {
		return Result{}, fmt.Errorf("cannot migrate down %d steps: give a number from 1 on", n)
	}
	return m.do(ctx, func(s *session) error {
		if err := s.mayGo("down"); err != nil {
			return err
		}
		at, _ := position(s.files, s.driver.current)
		if n > at+1 {
			return fmt.Errorf("cannot migrate down %d steps: only %d are applied", n, at+1)
		}
		if err := s.mayLose(ctx, s.files[at+1-n:at+1], m.o.Yes); err != nil {
			return err
		}
		return s.migrate.Steps(-n)
	})
}

// Goto migrates up or down to a version; 0 undoes everything.
func (m *Migrator) Goto(ctx context.Context, version int) (Result, error) {
	return m.do(ctx, func(s *session) error {
		at, _ := position(s.files, s.driver.current)
		to := -1
		if version > 0 {
			var ok bool
			if to, ok = position(s.files, version); !ok {
				return fmt.Errorf("cannot migrate to version %d: there is no such migration, the newest is %d", version, len(s.files))
			}
		}
		direction := map[bool]string{true: "down", false: "up"}[to < at]
		if err := s.mayGo(direction); err != nil || to == at {
			return err
		}
		if to > at {
			if err := s.mayMake(ctx); err != nil {
				return err
			}
		}
		if to < at {
			if err := s.mayLose(ctx, s.files[to+1:at+1], m.o.Yes); err != nil {
				return err
			}
		}
		return s.migrate.Steps(to - at)
	})
}

// Force says that the database is at a version without running anything; 0
// means empty. It is for databases that were changed by hand.
func (m *Migrator) Force(ctx context.Context, version int) (Result, error) {
	if version == 0 {
		version = -1
	}
	return m.open(ctx, func(s *session) error {
		if _, ok := position(s.files, version); !ok {
			return fmt.Errorf("cannot force version %d: there is no such migration", version)
		}
		if err := s.driver.exec("DELETE FROM qvpgw.migration_part; " + logRow(version, "force")); err != nil {
			return fmt.Errorf("cannot log the forced version %d: %w", version, err)
		}
		s.result.From = s.driver.current
		return s.migrate.Force(version)
	})
}

// session is one command's hold on the database.
type session struct {
	files   []file
	driver  *driver
	migrate *migrate.Migrate
	part    *Part // the file that a run before left half done
	result  Result
}

// mayGo refuses to leave a half-done file behind.
func (s *session) mayGo(direction string) error {
	if s.part == nil {
		return nil
	}
	next, _ := position(s.files, s.driver.current)
	if direction == "up" {
		next++
	}
	if at, ok := position(s.files, s.part.Version); ok && at == next && s.part.Direction == direction {
		return nil
	}
	return fmt.Errorf("cannot migrate %s: %w: %s", direction, ErrHalf, s.part.half(s.files))
}

// do opens the database, settles a dirty mark, works, and reports.
func (m *Migrator) do(ctx context.Context, work func(*session) error) (Result, error) {
	return m.open(ctx, func(s *session) error {
		if err := s.settle(ctx); err != nil {
			return err
		}
		s.result.From = s.driver.current
		if _, ok := position(s.files, s.driver.current); !ok {
			return fmt.Errorf("cannot migrate: the database is at version %d: %w", s.driver.current, ErrNewer)
		}
		err := work(s)
		if err == nil || errors.Is(err, migrate.ErrNoChange) {
			return nil
		}
		if !s.driver.conn.IsClosed() {
			// The file was rolled back whole: take its mark away.
			mended := s.result.Mended
			err = errors.Join(err, s.settle(context.WithoutCancel(ctx)), s.markPart())
			s.result.Mended = mended
			return err
		}
		return fmt.Errorf("cannot migrate, the connection to the server ended; `qvpgw migrate status` says what is there: %w", err)
	})
}

// open connects, takes the lock and prepares the bookkeeping.
func (m *Migrator) open(ctx context.Context, work func(*session) error) (result Result, err error) {
	files, err := readFiles(m.o.Files)
	if err != nil {
		return Result{}, err
	}
	config, err := m.config()
	if err != nil {
		return Result{}, err
	}
	s := &session{files: files}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.notice(n.Message, m.log) }
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 5 * time.Second}
	}
	s.driver = &driver{ctx: ctx, files: files}
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		s.driver.conn = conn
		return nil
	}))
	// One connection from beginning to end: the lock is the session's.
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()

	if err := db.PingContext(ctx); err != nil {
		return Result{}, fmt.Errorf("cannot connect to the database to migrate it: %w", err)
	}
	if err := m.lock(ctx, db); err != nil {
		return Result{}, err
	}
	q := ConnQuery(s.driver.conn)
	if err := quiet(ctx, q, m.o.Without); err != nil {
		return Result{}, err
	}
	if err := prepare(ctx, db, q); err != nil {
		return Result{}, err
	}
	inner, err := migratepgx.WithInstance(db, &migratepgx.Config{
		SchemaName: "qvpgw", MigrationsTable: `"qvpgw"."schema_migrations"`, MigrationsTableQuoted: true,
	})
	if err != nil {
		return Result{}, fmt.Errorf("cannot prepare the table of migrations qvpgw.schema_migrations: %w", err)
	}
	s.driver.Driver = inner
	source, err := iofs.New(m.o.Files, ".")
	if err != nil {
		return Result{}, errors.Join(fmt.Errorf("cannot read the migrations: %w", err), inner.Close())
	}
	if s.migrate, err = migrate.NewWithInstance("iofs", source, "pgx5", s.driver); err != nil {
		return Result{}, errors.Join(fmt.Errorf("cannot prepare the migrations: %w", err), inner.Close())
	}
	s.migrate.LockTimeout = m.o.LockTimeout
	if s.driver.current, _, err = inner.Version(); err == nil {
		err = work(s)
	}
	s.result.Steps = s.driver.steps
	s.result.To = s.result.From
	if version, _, verr := inner.Version(); verr == nil {
		s.result.To = version
	}
	_, closed := s.migrate.Close()
	return s.result, errors.Join(err, closed)
}

// lock waits until no other gateway migrates this database.
func (m *Migrator) lock(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, m.o.LockTimeout)
	defer cancel()
	var got bool
	if err := db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockKey)).Scan(&got); err != nil {
		return fmt.Errorf("cannot lock the schema for migrating: %w", err)
	}
	if got {
		return nil
	}
	m.log("another gateway migrates this database: waiting for it")
	if _, err := db.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		return fmt.Errorf("cannot lock the schema for migrating, another gateway held the lock for %s: %w", m.o.LockTimeout, err)
	}
	return nil
}

// prepare makes the bookkeeping unless it is there; making it needs the
// privilege to create a schema, finding it needs none.
func prepare(ctx context.Context, db *sql.DB, q Query) error {
	var there bool
	const all = "SELECT to_regclass('qvpgw.migration_log') IS NOT NULL AND to_regclass('qvpgw.migration_part') IS NOT NULL"
	if err := db.QueryRowContext(ctx, all).Scan(&there); err != nil {
		return fmt.Errorf("cannot look for the log of migrations: %w", err)
	}
	if there {
		return nil
	}
	if err := mayMigrate(ctx, q); err != nil {
		return fmt.Errorf("cannot make the gateway's schema qvpgw: %w", err)
	}
	if _, err := db.ExecContext(ctx, bookkeeping); err != nil {
		return fmt.Errorf("cannot make the gateway's schema qvpgw: %w", err)
	}
	return nil
}

func (m *Migrator) log(text string) {
	if m.o.Log != nil {
		m.o.Log(text)
	}
}

// notice keeps what our migrations say; extensions greet at length.
func (s *session) notice(message string, log func(string)) {
	if ours, ok := strings.CutPrefix(message, "qvpgw: "); ok {
		s.result.Notices = append(s.result.Notices, ours)
		log(ours)
	}
}

// settle takes away a dirty mark when the log of migrations tells whether the
// step that set it happened.
func (s *session) settle(ctx context.Context) error {
	version, dirty, err := s.driver.Version()
	if err != nil {
		return fmt.Errorf("cannot read the schema's version: %w", err)
	}
	s.driver.current = version
	if s.part, err = readPart(ctx, s.driver.conn); err != nil {
		return err
	}
	if !dirty {
		return nil
	}
	truth, err := lastLogged(ctx, s.driver.conn)
	if err != nil {
		return err
	}
	if !adjacent(s.files, version, truth) {
		return fmt.Errorf("cannot migrate: version %s, but the log says %s: %w: look at what is there, mend it, then say which version it is with `qvpgw migrate force VERSION`",
			versionText(version), versionText(truth), ErrDirty)
	}
	if err := s.driver.SetVersion(truth, false); err != nil {
		return fmt.Errorf("cannot take away the dirty mark of version %s: %w", versionText(version), err)
	}
	s.result.Mended = fmt.Sprintf("a run marked version %s and ended before its transaction did: the schema is at version %s", versionText(version), versionText(truth))
	switch {
	case s.part != nil:
		s.result.Mended = "a run ended early: " + s.part.half(s.files)
	case truth == version:
		s.result.Mended = fmt.Sprintf("a run ended after version %s was committed and before it was marked so: marked now", versionText(version))
	}
	return nil
}

// markPart marks the schema dirty while a file is half done.
func (s *session) markPart() error {
	if s.part == nil {
		return nil
	}
	if err := s.driver.Driver.SetVersion(s.part.Version, true); err != nil {
		return fmt.Errorf("cannot mark version %d dirty: %w", s.part.Version, err)
	}
	return nil
}

// adjacent says whether the logged version can be the one before or after the
// step that marked the schema dirty.
func adjacent(files []file, marked, logged int) bool {
	m, knownMark := position(files, marked)
	l, knownLog := position(files, logged)
	return knownMark && knownLog && l >= m-1 && l <= m+1
}

// lastLogged is the version after the newest logged step, -1 for none.
func lastLogged(ctx context.Context, conn *pgx.Conn) (int, error) {
	var version int
	err := conn.QueryRow(ctx, "SELECT version FROM qvpgw.migration_log ORDER BY id DESC LIMIT 1").Scan(&version)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return -1, nil
	case err != nil:
		return 0, fmt.Errorf("cannot read the log of migrations: %w", err)
	}
	return version, nil
}
