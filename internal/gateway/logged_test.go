package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// changeLog is changeLogOf the table points of vectorSchema.
func changeLog(t testing.TB) string { return changeLogOf(t, "points") }

// changeLogOf is the gateway's change log as it is migrated, with a table in it.
func changeLogOf(t testing.TB, table string) string {
	b, err := os.ReadFile(filepath.Join("..", "..", "migrations", "000008_change_log.up.sql"))
	if err != nil {
		t.Fatal(err)
	}
	return "; CREATE SCHEMA qvpgw; GRANT USAGE ON SCHEMA qvpgw TO PUBLIC;" + string(b) + "; SELECT qvpgw.watch('" + table + "');"
}

func TestAnswersFromALoggedTableOutliveChangesThatCannotReachThem(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, writer := dial(t, addr, dsn), direct(t, dsn)
	const want = "1|p1;2|p2"
	p.want(nearest, want)
	for _, c := range []struct {
		name, sql, want, route string
	}{
		{"nothing", "", want, "hit"},
		{"another table", "INSERT INTO elsewhere VALUES (1)", want, "hit"},
		{"another table's definition", "ALTER TABLE elsewhere ADD y int", want, "hit"},
		{"a row far away is inserted", "INSERT INTO points VALUES (300, '[300,0,0]', 'far')", want, "hit"},
		{"several are", "INSERT INTO points SELECT n, ARRAY[n, 0, 0]::vector, 'far' FROM generate_series(301, 320) n", want, "hit"},
		{"one without a vector is", "INSERT INTO points VALUES (400, NULL, 'none')", want, "hit"},
		{"a row far away is changed", "UPDATE points SET label = 'changed' WHERE id = 300", want, "hit"},
		{"a row far away is deleted", "DELETE FROM points WHERE id = 300", want, "hit"},
		{"a near row is inserted and rolled back", "BEGIN; INSERT INTO points VALUES (500, '[1.2,0,0]', 'new'); ROLLBACK", want, "hit"},
		{"a near row is inserted", "INSERT INTO points VALUES (500, '[1.2,0,0]', 'new')", "500|new;1|p1", "miss"},
		{"it is deleted", "DELETE FROM points WHERE id = 500", want, "miss"},
		{"a row of the answer is changed", "UPDATE points SET label = 'P1' WHERE id = 1", "1|P1;2|p2", "miss"},
		{"a far row comes near", "UPDATE points SET v = '[1.2,0,0]' WHERE id = 150", "150|p150;1|P1", "miss"},
		{"and goes", "UPDATE points SET v = '[150,0,0]' WHERE id = 150", "1|P1;2|p2", "miss"},
		{"a large statement", "UPDATE points SET label = label WHERE id > 100", "1|P1;2|p2", "miss"},
		{"a column's name", "ALTER TABLE points RENAME label TO name; ALTER TABLE points RENAME name TO label", "1|P1;2|p2", "miss"},
		{"a trigger of the log", "ALTER TABLE points DISABLE TRIGGER qvpgw_insert; INSERT INTO points VALUES (500, '[1.2,0,0]', 'new')", "500|new;1|P1", "miss"},
		{"it is on again", "ALTER TABLE points ENABLE ALWAYS TRIGGER qvpgw_insert", "500|new;1|P1", "miss"},
		{"a child with rows", "CREATE TABLE child () INHERITS (points); INSERT INTO child VALUES (600, '[1.2,0,0]', 'child'); DELETE FROM points WHERE id = 500", "600|child;1|P1", "miss"},
		{"no child", "DROP TABLE child", "1|P1;2|p2", "miss"},
		{"all rows are gone", "TRUNCATE points", "", "miss"},
	} {
		if c.sql != "" {
			writer.must(c.sql)
		}
		p.want(nearest, c.want)
		if got := p.route(); got != "cached "+c.route+" public.points" {
			t.Errorf("after %s: %q, want a %s", c.name, got, c.route)
		}
		p.want(nearest, c.want)
		if got := p.route(); got != "cached hit public.points" {
			t.Errorf("again after %s: %q", c.name, got)
		}
	}
}

// keptForms are k-NN queries that mean the same in other words, of the table points.
var keptForms = []string{
	"SELECT id, v <-> '[1.1,0,0]' AS d FROM points ORDER BY d LIMIT 2",
	"SELECT v <-> '[1.1,0,0]', id FROM points ORDER BY 1 LIMIT 2",
	"SELECT id, v <-> '[1.1,0,0]' AS label FROM points ORDER BY label, 1 LIMIT 2",
}

func TestEveryFormOutlivesWhatCannotReachItsAnswer(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, writer := dial(t, addr, dsn), direct(t, dsn)
	for i, sql := range keptForms {
		for _, c := range []struct{ sql, route string }{
			{"", "miss"},
			{"", "hit"},
			{fmt.Sprintf("INSERT INTO points VALUES (%d, '[300,0,0]', 'far')", 300+i), "hit"},
			{fmt.Sprintf("DELETE FROM points WHERE id = %d", 300+i), "hit"},
			{fmt.Sprintf("INSERT INTO points VALUES (%d, '[1.2,0,0]', 'near')", 500+i), "miss"},
			{fmt.Sprintf("DELETE FROM points WHERE id = %d", 500+i), "miss"},
		} {
			if c.sql != "" {
				writer.must(c.sql)
			}
			p.want(sql, writer.rows(sql))
			if got := p.route(); got != "cached "+c.route+" public.points" {
				t.Errorf("%s after %q: %q, want a %s", sql, c.sql, got, c.route)
			}
		}
	}
}

func TestARightThatIsTakenAwayEndsTheAnswersGivenByIt(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	writer := direct(t, dsn)
	p := dial(t, addr, strings.Replace(dsn, "postgres@", "plain@", 1))
	for _, c := range []struct{ take, give, code string }{
		{"REVOKE SELECT ON points FROM plain", "GRANT SELECT ON points TO plain", "42501"},
		{"ALTER TABLE points ENABLE ROW LEVEL SECURITY", "ALTER TABLE points DISABLE ROW LEVEL SECURITY", ""},
		{"REVOKE USAGE ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO PUBLIC", "42P01"},
		{"ALTER TABLE points RENAME TO moved", "ALTER TABLE moved RENAME TO points", "42P01"},
	} {
		for range 2 {
			p.want(nearest, "1|p1;2|p2")
		}
		if got := p.route(); got != "cached hit public.points" {
			t.Errorf("before %s: %q", c.take, got)
		}
		writer.must(c.take)
		if got := p.rows(nearest); got != c.code {
			t.Errorf("after %s: %q, want %q", c.take, got, c.code)
		}
		writer.must(c.give)
	}
}

func TestABoundedAnswerMayBeOldButNotForOnesOwnWrites(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{
		Pool: pool.Options{Size: 3}, MaxAge: time.Hour, FreshTables: map[string]gateway.Freshness{"points": gateway.FreshBounded, "side.points": gateway.FreshOff},
	})
	reader, writer, beside := dial(t, addr, dsn), dial(t, addr, dsn), direct(t, dsn)
	for range 2 {
		reader.want(nearest, "1|p1;2|p2")
	}
	beside.must("INSERT INTO points VALUES (500, '[1.2,0,0]', 'new')")
	reader.want(nearest, "1|p1;2|p2") // an hour has not passed
	writer.must("BEGIN; UPDATE points SET label = 'P1' WHERE id = 1; COMMIT")
	writer.want(nearest, "500|new;1|P1")
	reader.want(nearest, "500|new;1|P1") // it was asked for after
	beside.must("DELETE FROM points WHERE id = 500")
	reader.want(nearest, "500|new;1|P1")
	reader.must("SET qvpgw.cache = strict")
	if got := reader.rows("SHOW qvpgw.cache"); got != "strict" {
		t.Errorf("the mode is %q", got)
	}
	reader.want(nearest, "1|P1;2|p2")
	reader.must("SET qvpgw.cache = auto")
	reader.must("SET search_path = side, public")
	reader.want("SELECT id FROM points ORDER BY v <-> '[1,0,0]' LIMIT 1", "-1")
	if got := reader.route(); got != "pass knn_cache_off side.points" {
		t.Errorf("a table that is off: %q", got)
	}
	if got := reader.rows("SET qvpgw.cache = sometimes"); got != "22023" {
		t.Errorf("a mode that is none: %q", got)
	}
}

func TestAClientThatWasAnsweredFromMemoryCanStillCancel(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p := dial(t, addr, dsn)
	for range 3 {
		p.want(nearest, "1|p1;2|p2")
	}
	p.send(simple("SELECT pg_sleep(5)"))
	if got := cancelled(t, addr, p); got != "57014" {
		t.Errorf("got %q", got)
	}
}

// TestT16RoundsAndQueriesTakeTurnsOnOneConnection has clients that hold the only one.
func TestT16RoundsAndQueriesTakeTurnsOnOneConnection(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, Gear: gateway.GearMixed})
	var working sync.WaitGroup
	for n := range 4 {
		p := dial(t, addr, dsn)
		working.Go(func() {
			for i := range 30 {
				if n == 0 {
					p.must("BEGIN; INSERT INTO elsewhere VALUES (1)")
					p.must("COMMIT")
				}
				p.want(strings.Replace(nearest, "1.2", strconv.Itoa(2+i%3)+".2", 1), fmt.Sprintf("%[1]d|p%[1]d;%[2]d|p%[2]d", 2+i%3, 3+i%3))
			}
		})
	}
	working.Wait()
	if p := dial(t, addr, dsn); !strings.HasPrefix(func() string { p.query(nearest); p.query(nearest); return p.route() }(), "cached hit") {
		t.Error("nothing was answered from memory")
	}
}

func TestAnEnumsLabelThatIsRenamedEndsTheAnswersThatHaveIt(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+"; CREATE TYPE mood AS ENUM ('glad'); ALTER TABLE points ADD mood mood DEFAULT 'glad'"+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p := dial(t, addr, dsn)
	const text = "SELECT id, mood FROM points ORDER BY v <-> '[1,0,0]' LIMIT 1"
	for range 2 {
		p.want(text, "1|glad")
	}
	direct(t, dsn).must("ALTER TYPE mood RENAME VALUE 'glad' TO 'merry'")
	p.want(text, "1|merry")
}
