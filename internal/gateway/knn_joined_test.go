package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// readsMore are k-NN queries that read more than the rows they order, of tables that are
// logged or of one that is not.
var readsMore = []struct {
	name, sql string
	changes   []string // each of which changes the answer
}{
	{"a join", "SELECT id, title FROM points JOIN owners ON owners.owner = points.id ORDER BY v <-> '[1.2,0,0]' LIMIT 2", []string{
		"UPDATE owners SET title = title || '!' WHERE owner = 1", "DELETE FROM owners WHERE owner = 2", "INSERT INTO owners VALUES (2, 'again')",
		"INSERT INTO points VALUES (0, '[1.2,0,0]', 'p0'); INSERT INTO owners VALUES (0, 'zero')", "DELETE FROM points WHERE id = 0",
	}},
	{"an outer join by name", "SELECT p.label, o.title, p.v <-> '[1.2,0,0]' AS d FROM points p LEFT JOIN owners o ON o.owner = p.id ORDER BY d LIMIT 2", []string{
		"UPDATE owners SET title = title || '!' WHERE owner = 1", "DELETE FROM owners WHERE owner = 1", "UPDATE points SET label = label || '?' WHERE id = 2", "TRUNCATE owners",
	}},
	{"a row of its own", "SELECT id FROM points ORDER BY v <-> (SELECT v FROM points WHERE id = 150) LIMIT 2", []string{
		"UPDATE points SET v = '[7,0,0]' WHERE id = 150", "DELETE FROM points WHERE id = 150", "INSERT INTO points VALUES (150, '[150,0,0]', 'back')",
		"INSERT INTO points VALUES (1000, '[150.1,0,0]', 'beside')",
	}},
	{"a row of its own beside", "SELECT id, v <-> (SELECT v FROM points WHERE id = 150) FROM points ORDER BY v <-> '[1.2,0,0]' LIMIT 2", []string{
		"UPDATE points SET v = '[7,0,0]' WHERE id = 150", "UPDATE points SET v = '[150,0,0]' WHERE id = 150",
	}},
	{"a row of another table", "SELECT id FROM points ORDER BY v <-> (SELECT at FROM places WHERE place = 'here') LIMIT 2", []string{
		"UPDATE places SET at = '[7,0,0]' WHERE place = 'here'", "UPDATE places SET place = 'here' || place WHERE place = 'here'",
		"ALTER TABLE places RENAME TO gone; CREATE TABLE places AS SELECT '[9,0,0]'::vector AS at, 'here'::text AS place",
	}},
}

func TestAnswersThatReadMoreThanTheNearestEndWithIt(t *testing.T) {
	for _, logged := range []bool{true, false} {
		for _, one := range readsMore {
			t.Run(fmt.Sprintf("%s, logged %t", one.name, logged), func(t *testing.T) {
				sql := vectorSchema + `; CREATE TABLE owners (owner int PRIMARY KEY, title text, emblem vector(1)); INSERT INTO owners SELECT n, 'o' || n FROM generate_series(1, 50) n;
CREATE TABLE places (at vector(3), place text); INSERT INTO places VALUES ('[3,0,0]', 'here'), ('[4,0,0]', 'there')`
				if logged {
					sql += changeLog(t) + "SELECT qvpgw.watch('owners'), qvpgw.watch('places')"
				}
				dsn := nativeDatabase(t, sql)
				_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
				g, blind := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
				gateway.Unproven(g)
				p, unproven, exact := dial(t, addr, dsn), dial(t, blind, dsn), direct(t, dsn)
				first := exact.rows(one.sql)
				for range 2 {
					unproven.want(one.sql, first)
				}
				for _, change := range append([]string{""}, one.changes...) {
					before := exact.rows(one.sql)
					if change != "" {
						exact.must(change)
					}
					want := exact.rows(one.sql)
					if change != "" && want == before {
						t.Errorf("%s changes nothing", change)
					}
					p.want(one.sql, want)
					if got := p.route(); got != "cached miss public.points" {
						t.Errorf("after %q: %s", change, got)
					}
					p.want(one.sql, want)
					kept := logged && !strings.Contains(change, "RENAME")            // the catalog is older
					if got := p.route(); kept && got != "cached hit public.points" { // else anything that the server does ends it
						t.Errorf("again after %q: %s", change, got)
					}
					exact.must("INSERT INTO elsewhere VALUES (1)")
					p.want(one.sql, want)
					if got := p.route(); strings.HasPrefix(got, "cached hit") != kept {
						t.Errorf("after a write to another table: %s", got)
					}
				}
				if unproven.rows(one.sql) != first {
					t.Error("without validation the answer changes: the case shows nothing")
				}
			})
		}
	}
}
