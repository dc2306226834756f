package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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
	Version int          `json:"version"` // -1 for none
	Newest  int          `json:"newest"`  // of this program
	Dirty   bool         `json:"dirty"`
	Files   []FileStatus `json:"files"`
	Advice  string       `json:"advice"` // what to do, "" when nothing
}

// Current says whether the database is at this program's newest version, clean.
func (s Status) Current() bool { return !s.Dirty && s.Version == s.Newest }

// Text is the status as a table for people.
func (s Status) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %s", versionText(s.Version))
	if s.Dirty {
		b.WriteString(", dirty")
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
	return b.String()
}

// Version returns the schema's version, -1 for none, and whether it is dirty. It
// takes no lock and changes nothing.
func (m *Migrator) Version(ctx context.Context) (version int, dirty bool, err error) {
	s, err := m.Status(ctx)
	return s.Version, s.Dirty, err
}

// Status reads the state of all migrations. It takes no lock and changes
// nothing.
func (m *Migrator) Status(ctx context.Context) (status Status, err error) {
	conn, err := pgx.Connect(ctx, m.dsn)
	if err != nil {
		return Status{}, fmt.Errorf("cannot connect to the database to read its migrations: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return m.StatusBy(ctx, ConnQuery(conn))
}

// StatusBy is Status over a connection that is already there.
func (m *Migrator) StatusBy(ctx context.Context, q Query) (Status, error) {
	files, err := readFiles(m.o.Files)
	if err != nil {
		return Status{}, err
	}
	s := Status{Version: -1, Newest: -1}
	if n := len(files); n > 0 {
		s.Newest = files[n-1].version
	}
	there, err := read(ctx, q, "whether migrations were run",
		"SELECT to_regclass('qvpgw.migration_log') IS NOT NULL AND to_regclass('qvpgw.schema_migrations') IS NOT NULL", 1)
	if err != nil {
		return Status{}, err
	}
	at := map[int]time.Time{}
	truth := -1
	if there[0][0] == "t" {
		rows, err := read(ctx, q, "the migrations", statusSQL, 4)
		if err != nil {
			return Status{}, err
		}
		for _, row := range rows {
			var n numbers
			version, us := n.int(row[1]), n.int64(row[2])
			if n.err != nil {
				return Status{}, fmt.Errorf("cannot read the migrations: %w", n.err)
			}
			switch row[0] {
			case "version":
				s.Version, s.Dirty = version, row[3] == "t"
			case "last":
				truth = version
			default:
				at[version] = time.UnixMicro(us).UTC()
			}
		}
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
	s.Advice = advice(s, files, truth)
	return s, nil
}

// statusSQL gives the version, the last logged step and when each migration was
// last applied, in microseconds since the Unix epoch.
const statusSQL = `
SELECT 'version', version, 0, dirty FROM qvpgw.schema_migrations
UNION ALL
(SELECT 'last', version, 0, false FROM qvpgw.migration_log ORDER BY id DESC LIMIT 1)
UNION ALL
SELECT 'up', version, (extract(epoch FROM max(at)) * 1000000)::bigint, false
FROM qvpgw.migration_log WHERE direction = 'up' GROUP BY version`

func advice(s Status, files []file, truth int) string {
	_, known := position(files, s.Version)
	switch {
	case s.Dirty && !adjacent(files, s.Version, truth):
		return fmt.Sprintf("the schema is marked dirty at version %s and the log of migrations says %s: look at what is there, mend it, then `qvpgw migrate force VERSION`", versionText(s.Version), versionText(truth))
	case s.Dirty && truth == s.Version:
		return fmt.Sprintf("a run ended after version %s was committed and before it was marked so; `qvpgw migrate up` marks it and goes on", versionText(s.Version))
	case s.Dirty:
		return fmt.Sprintf("a run that led to version %s ended early, nothing of it was kept; `qvpgw migrate up` goes on from version %s", versionText(s.Version), versionText(truth))
	case !known:
		return fmt.Sprintf("version %d is newer than this program, whose newest is %s: run the newer gateway", s.Version, versionText(s.Newest))
	case s.Version < s.Newest:
		return "`qvpgw migrate up` applies what is pending"
	}
	return ""
}
