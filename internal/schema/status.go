package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// State is what became of a migration.
type State string

// The states of a migration.
const (
	Applied State = "applied"
	Pending State = "pending"
	Dirty   State = "dirty" // marked by a run that did not finish
)

// FileStatus is one migration and its state.
type FileStatus struct {
	Version int       `json:"version"`
	Title   string    `json:"title"`
	State   State     `json:"state"`
	At      time.Time `json:"at,omitzero"` // when it was applied; zero when it was not, or was forced
}

// Status is the state of all migrations.
type Status struct {
	Version int          `json:"version"` // as marked, -1 for none
	Whole   int          `json:"whole"`   // the newest that is there from beginning to end, by the log; -1 for none
	Newest  int          `json:"newest"`  // of this program
	Dirty   bool         `json:"dirty"`
	Part    *Part        `json:"part,omitempty"`    // the file that stopped between two of its statements
	Session int          `json:"session,omitempty"` // the server process that migrates at this moment, 0 for none
	Files   []FileStatus `json:"files"`
	Advice  string       `json:"advice"` // what to do, "" when nothing

	Policies []Policy `json:"policies,omitempty"` // wanted and actual, where they were asked for
	half     bool
}

// Half says that what is there is the work of a part of a file, so that nothing
// should be served from it.
func (s Status) Half() bool { return s.half }

// Current says whether the database is at this program's newest version, clean.
func (s Status) Current() bool { return !s.Dirty && s.Version == s.Newest }

// Text is the status as a table for people.
func (s Status) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %s", versionText(s.Version))
	if s.Dirty {
		fmt.Fprintf(&b, ", dirty; whole up to version %s", versionText(s.Whole))
	}
	b.WriteByte('\n')
	for _, f := range s.Files {
		fmt.Fprintf(&b, "%06d  %-24s %s", f.Version, f.Title, f.State)
		if !f.At.IsZero() {
			fmt.Fprintf(&b, " %s", f.At.UTC().Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	if s.Advice != "" {
		fmt.Fprintln(&b, s.Advice)
	}
	if len(s.Policies) > 0 {
		b.WriteByte('\n')
		b.WriteString(PolicyReport{Policies: s.Policies}.Text())
	}
	return b.String()
}

// Version returns the schema's version, -1 for none, and whether it is dirty. It
// takes no lock and changes nothing.
func (m *Migrator) Version(ctx context.Context) (version int, dirty bool, err error) {
	s, err := m.Status(ctx)
	return s.Version, s.Dirty, err
}

// Status reads the state of all migrations, and of the policies that were asked
// for. It takes no lock and changes nothing.
func (m *Migrator) Status(ctx context.Context) (status Status, err error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("cannot connect to the database to read its migrations: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	q := ConnQuery(conn)
	// A migration holds the lock of its mark for a moment, or as long as it hangs.
	if _, err := q(ctx, "SET lock_timeout = '2s'"); err != nil {
		return Status{}, fmt.Errorf("cannot bound the wait for a migration: %w", err)
	}
	if status, err = m.statusBy(ctx, q); err != nil || m.o.Policies == nil || status.Session != 0 {
		return status, err // what a migration is at would be compared half made
	}
	r, err := m.o.Policies.Compare(ctx, q)
	status.Policies = r.Policies
	return status, err
}

// statusBy is Status over a connection that is already there.
func (m *Migrator) statusBy(ctx context.Context, q Query) (Status, error) {
	files, err := readFiles(m.o.Files)
	if err != nil {
		return Status{}, err
	}
	s := Status{Version: -1, Newest: -1, Whole: -1}
	if n := len(files); n > 0 {
		s.Newest = files[n-1].version
	}
	there, err := read(ctx, q, "whether migrations were run", thereSQL, 3)
	if err != nil {
		return Status{}, err
	}
	at := map[int]time.Time{}
	var n numbers
	s.Session = n.int(there[0][2])
	if there[0][0] == "t" {
		rows, err := read(ctx, q, "the migrations", statusSQL, 4)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "55P03" && s.Session != 0 && n.err == nil {
			s.Dirty = true
			s.Advice = advice(s, files)
			return s, nil
		}
		if err != nil {
			return Status{}, err
		}
		for _, row := range rows {
			version, us := n.int(row[1]), n.int64(row[2])
			switch row[0] {
			case "version":
				s.Version, s.Dirty = version, row[3] == "t"
			case "last":
				s.Whole = version
			default:
				at[version] = time.UnixMicro(us).UTC()
			}
		}
	}
	if there[0][1] == "t" {
		rows, err := read(ctx, q, "the migration under way", partSQL, 6)
		if err != nil {
			return Status{}, err
		}
		if len(rows) > 0 {
			if s.Part, err = partOf(rows[0]); err != nil {
				return Status{}, err
			}
			// Its mark may have been taken away for a moment.
			s.Version, s.Dirty = s.Part.Version, true
		}
	}
	if n.err != nil {
		return Status{}, fmt.Errorf("cannot read the migrations: %w", n.err)
	}
	for _, f := range files {
		fs := FileStatus{Version: f.version, Title: f.title, State: Pending}
		switch {
		case s.Dirty && f.version == s.Version:
			fs.State = Dirty
		case f.version <= s.Version:
			fs.State, fs.At = Applied, at[f.version]
		}
		s.Files = append(s.Files, fs)
	}
	s.half = s.Session == 0 && (s.Part != nil || s.Dirty && !adjacent(files, s.Version, s.Whole))
	s.Advice = advice(s, files)
	return s, nil
}

// thereSQL asks for the tables that only a migration makes, and for who holds the
// lock, a bigint, whose halves are the locks' classid and objid.
var thereSQL = fmt.Sprintf(`
SELECT to_regclass('qvpgw.migration_log') IS NOT NULL AND to_regclass('qvpgw.schema_migrations') IS NOT NULL,
       to_regclass('qvpgw.migration_part') IS NOT NULL,
       coalesce((SELECT max(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                 WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
                   AND l.classid = %d AND l.objid = %d AND l.objsubid = 1), 0)`, lockKey>>32, lockKey&0xffffffff)

// statusSQL gives the version, the last logged step and when each migration was
// last applied, in microseconds since the Unix epoch.
const statusSQL = `
SELECT 'version', version, 0, dirty FROM qvpgw.schema_migrations
UNION ALL
(SELECT 'last', version, 0, false FROM qvpgw.migration_log ORDER BY id DESC LIMIT 1)
UNION ALL
SELECT 'up', version, (extract(epoch FROM max(at)) * 1000000)::bigint, false
FROM qvpgw.migration_log WHERE direction = 'up' GROUP BY version`

func advice(s Status, files []file) string {
	_, known := position(files, s.Version)
	marked, whole := versionText(s.Version), versionText(s.Whole)
	switch {
	case s.Session != 0 && (s.Dirty || s.Version < s.Newest):
		return fmt.Sprintf("server process %d migrates at this moment; `qvpgw migrate up` waits for it and goes on from where it ends", s.Session)
	case s.Part != nil:
		return s.Part.half(files)
	case s.Dirty && !adjacent(files, s.Version, s.Whole):
		return fmt.Sprintf("the schema is marked dirty at version %s and the log of migrations says %s: look at what is there, mend it, then `qvpgw migrate force VERSION`", marked, whole)
	case s.Dirty && s.Whole == s.Version:
		return fmt.Sprintf("a run ended after version %s was committed and before it was marked so; `qvpgw migrate up` marks it and goes on", marked)
	case s.Dirty:
		return fmt.Sprintf("a run that led to version %s ended early, nothing of it was kept; `qvpgw migrate up` goes on from version %s", marked, whole)
	case !known:
		return fmt.Sprintf("version %d is newer than this program, whose newest is %s: run the newer gateway", s.Version, versionText(s.Newest))
	case s.Version < s.Newest:
		return "`qvpgw migrate up` applies what is pending"
	}
	return ""
}
