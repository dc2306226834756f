package schema

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/pgtest"
)

const noTransaction = "-- qvpgw: no transaction\n"

// follow runs the commands that a status advises until it advises none.
func follow(t *testing.T, m *Migrator) {
	t.Helper()
	ctx := context.Background()
	command := regexp.MustCompile("`qvpgw migrate ([a-z]+)(?: ([0-9]+))?`")
	for range 5 {
		s, err := m.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if s.Advice == "" {
			return
		}
		c := command.FindStringSubmatch(s.Advice)
		if c == nil {
			t.Fatalf("no command in %q", s.Advice)
		}
		n := 0
		if c[2] != "" {
			_, _ = fmt.Sscan(c[2], &n)
		}
		switch c[1] {
		case "up":
			_, err = m.Up(ctx)
		case "down":
			_, err = m.Down(ctx, n)
		case "force":
			_, err = m.Force(ctx, n)
		default:
			t.Fatalf("unknown command in %q", s.Advice)
		}
		if err != nil {
			t.Fatalf("%q gave %v", s.Advice, err)
		}
	}
	t.Fatal("after five commands something is advised still")
}

func TestAFileWithoutATransactionGoesOnWhereItStopped(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	conn := connect(t, dsn)
	good := "CREATE TABLE a (i int CHECK (i < 100)); INSERT INTO a VALUES (1), (1); --- DROP TABLE a;"
	text := noTransaction + `
		INSERT INTO a VALUES (10);
		CREATE UNIQUE INDEX CONCURRENTLY a_i ON a (i);
		-- qvpgw: when false
		SELECT 1 / 0;
		VACUUM a;
		INSERT INTO a VALUES (20);
		---` + noTransaction + "DROP INDEX CONCURRENTLY IF EXISTS a_i; DELETE FROM a WHERE i >= 10;"
	m := NewMigrator(dsn, Options{Files: files(good, text)})
	_, err := m.Up(ctx)
	if err == nil || !strings.Contains(err.Error(), "the first 1 are kept") || !strings.Contains(err.Error(), "line 4") {
		t.Fatalf("a unique index on equal rows gave %v", err)
	}
	s, err := m.Status(ctx)
	if err != nil || !s.Dirty || !s.Half() || s.Whole != 1 || s.Version != 2 || s.Part == nil || s.Part.Done != 1 || s.Files[1].State != Dirty {
		t.Errorf("status is %+v, %v", s, err)
	}
	for _, want := range []string{"000002_step.up.sql", "1 of 5", "CREATE UNIQUE INDEX CONCURRENTLY", "`qvpgw migrate up`"} {
		if !strings.Contains(s.Advice, want) {
			t.Errorf("the advice has no %q: %s", want, s.Advice)
		}
	}
	if r := examine(t, dsn, DoctorOptions{Migrations: m.o.Files}); r.Healthy() || !strings.Contains(codes(r)["schema-dirty"], "migrate up") {
		t.Errorf("doctor found %v", codes(r))
	}
	if _, err := m.Down(ctx, 1); !errors.Is(err, ErrHalf) || !strings.Contains(err.Error(), "migrate up") {
		t.Errorf("down from there gave %v", err)
	}
	if value(t, conn, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_i'::regclass") != "f" {
		t.Error("there is no broken index to mend")
	}
	if _, err := m.Up(ctx); err == nil {
		t.Error("up succeeds while the cause is there")
	}
	exec(t, conn, "DELETE FROM a WHERE ctid IN (SELECT ctid FROM a WHERE i = 1 LIMIT 1)")
	follow(t, m)
	if got := value(t, conn, "SELECT array_agg(i ORDER BY i)::text || (SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_i'::regclass) FROM a"); got != "{1,10,20}true" {
		t.Errorf("there is %s", got)
	}
	if s, err := m.Status(ctx); err != nil || !s.Current() || s.Part != nil || s.Half() {
		t.Errorf("status is %+v, %v", s, err)
	}
	if r, err := m.Down(ctx, 1); err != nil || r.To != 1 {
		t.Errorf("down gave %+v, %v", r, err)
	}
	if got := value(t, conn, "SELECT array_agg(i)::text || (to_regclass('a_i') IS NULL) FROM a"); got != "{1}true" {
		t.Errorf("after down there is %s", got)
	}
}

// stopAt leaves the traces of a run of a two-statement file that was killed
// during its second.
func stopAt(t *testing.T, conn *pgx.Conn, f file, direction string) {
	t.Helper()
	list, err := commands(f.text(direction))
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, keepPart(f, direction, list, 1))
	mark := f.version
	if direction == "down" {
		mark--
	}
	exec(t, conn, fmt.Sprintf("UPDATE qvpgw.schema_migrations SET version = %d, dirty = true", mark))
}

func TestAStatementThatMustNotRunTwiceIsLeftToAPerson(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE runs (i int); CREATE PROCEDURE once() LANGUAGE plpgsql AS 'BEGIN INSERT INTO runs VALUES (1); COMMIT; END'")
	one := "SELECT 1; --- SELECT 1;"
	for _, c := range []struct {
		name, note string
		want       string // in the advice
	}{
		{"unmarked", "", "`qvpgw migrate force 2`, or undo it by hand and force version 1"},
		{"repeatable", "-- qvpgw: repeatable\n", "`qvpgw migrate up` goes on with it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := files(one, noTransaction+"SELECT 2;\n"+c.note+"CALL once(); ---")
			m := NewMigrator(dsn, Options{Files: dir})
			if _, err := m.Goto(ctx, 1); err != nil {
				t.Fatal(err)
			}
			list, err := readFiles(dir)
			if err != nil {
				t.Fatal(err)
			}
			stopAt(t, conn, list[1], "up")
			s, err := m.Status(ctx)
			if err != nil || !strings.Contains(s.Advice, c.want) {
				t.Errorf("status is %+v, %v", s, err)
			}
			if _, err := m.Up(ctx); (err == nil) != (c.note != "") || err != nil && !errors.Is(err, ErrHalf) {
				t.Errorf("up gave %v", err)
			}
			follow(t, m)
			if v, dirty, err := m.Version(ctx); v != 2 || dirty || err != nil {
				t.Errorf("version %d, dirty %t, %v", v, dirty, err)
			}
			if _, err := m.Goto(ctx, 1); err != nil {
				t.Fatal(err)
			}
		})
	}
	if n := value(t, conn, "SELECT count(*) FROM runs"); n != "1" {
		t.Errorf("the procedure ran %s times", n)
	}
}

func TestADownThatStoppedIsFinishedBeforeAnythingElse(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	conn := connect(t, dsn)
	dir := files("CREATE TABLE a (i int); --- DROP TABLE a;",
		"CREATE TABLE b (i int); CREATE TABLE c (i int); ---"+noTransaction+"DROP TABLE b; DROP TABLE c;")
	m := NewMigrator(dsn, Options{Files: dir})
	if _, err := m.Up(ctx); err != nil {
		t.Fatal(err)
	}
	list, err := readFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "DROP TABLE b")
	stopAt(t, conn, list[1], "down")
	if _, err := m.Up(ctx); !errors.Is(err, ErrHalf) || !strings.Contains(err.Error(), "migrate down 1") {
		t.Errorf("up gave %v", err)
	}
	if s, err := m.Status(ctx); err != nil || !s.Half() || s.Whole != 2 {
		t.Errorf("status is %+v, %v", s, err)
	}
	follow(t, m)
	if got := value(t, conn, "SELECT to_regclass('b') IS NOT NULL AND to_regclass('c') IS NOT NULL"); got != "t" {
		t.Error("the second migration is not there")
	}
}

func TestStatementsOfAnotherFileAreNotGoneOnWith(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	m := NewMigrator(dsn, Options{Files: files(noTransaction + "CREATE TABLE a (i int); SELECT 1 / 0; --- DROP TABLE a;")})
	if _, err := m.Up(ctx); err == nil {
		t.Fatal("a division by zero succeeds")
	}
	other := NewMigrator(dsn, Options{Files: files(noTransaction + "CREATE TABLE b (i int); SELECT 1; --- DROP TABLE a;")})
	if _, err := other.Up(ctx); !errors.Is(err, ErrHalf) || !strings.Contains(err.Error(), "not those of this program") {
		t.Errorf("a file with another beginning gave %v", err)
	}
	mended := NewMigrator(dsn, Options{Files: files(noTransaction + "CREATE TABLE a (i int); SELECT 1 / 1; --- DROP TABLE a;")})
	if r, err := mended.Up(ctx); err != nil || r.To != 1 {
		t.Errorf("the mended file gave %+v, %v", r, err)
	}
	typo := NewMigrator(dsn, Options{Files: files("SELECT 1; ---", noTransaction+"-- qvpgw: repeatible\nSELECT 1; ---")})
	if _, err := typo.Up(ctx); err == nil || !strings.Contains(err.Error(), "repeatible") {
		t.Errorf("an unknown directive gave %v", err)
	}
}

// TestBuiltInFilesCanAlwaysBeGoneOnWith: whoever follows the advice after a crash
// must not be asked to look at what is there.
func TestBuiltInFilesCanAlwaysBeGoneOnWith(t *testing.T) {
	list, err := readFiles(NewMigrator("", Options{}).o.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		for _, direction := range []string{"up", "down"} {
			if transactional(f.text(direction)) {
				continue
			}
			all, err := commands(f.text(direction))
			if err != nil {
				t.Errorf("%s: %v", f.name(direction), err)
			}
			for _, c := range all {
				if !c.again() {
					t.Errorf("%s: %q may not be begun again", f.name(direction), excerpt(c.text))
				}
			}
		}
	}
}
