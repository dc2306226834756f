package gateway_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestALongTextKeepsItsClientsConnectionNoLongerThanAShortOne has texts that are
// longer than limits.max_statement, by both protocols: what they leave is their
// client's, and they pin as short ones do.
func TestALongTextKeepsItsClientsConnectionNoLongerThanAShortOne(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema+`
CREATE TABLE grows (a int, b text);
CREATE FUNCTION dynamic(text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN PERFORM set_config('app.' || $1, $1, false); RETURN $1; END $$;`)
	const long = 80_000
	rows := strings.Repeat("(1, 'it''s a row; SET app.tenant TO 1'), ", long/40)
	value := strings.Repeat("x", long)
	for _, c := range []struct{ name, sql, pins, look, want string }{
		{"rows", "INSERT INTO grows VALUES " + rows + "(2, NULL)", "", "SELECT count(*) FROM grows", "2001"},
		{"a value", "INSERT INTO grows (b) VALUES ('" + value + "')", "", "SELECT length(b) FROM grows", "80000"},
		{"a dollar-quoted value", "INSERT INTO grows (b) VALUES ($x$" + value + "$x$)", "", "SELECT length(b) FROM grows", "80000"},
		{"a list", "SELECT count(*) FROM plain WHERE id IN (" + strings.Repeat("1, ", long/3) + "2)", "", "SELECT 1", "1"},
		{"a trigger", "INSERT INTO watched VALUES " + strings.Repeat("(7), ", long/5) + "(8)", "", "SELECT current_setting('app.user')", "trigger 8"},
		{"set_config", "SELECT set_config('app.tenant', 'long', false), '" + value + "'", "", "SELECT current_setting('app.tenant')", "long"},
		{"a long set_config", "SELECT length(set_config('app.tenant', '" + value + "', false))", "", "SELECT length(current_setting('app.tenant'))", "80000"},
		{"a function", "SELECT tenant('f'), '" + value + "'", "", "SELECT current_setting('app.tenant')", "f"},
		{"a setting beside it", "SET app.tenant TO 'beside'; INSERT INTO grows (b) VALUES ('" + value + "')", "", "SELECT current_setting('app.tenant')", "beside"},
		{"a setting that is undone", "SET app.tenant TO 'undone'; SELECT '" + value + "'::int", "", "SELECT coalesce(current_setting('app.tenant', true), '')", ""},
		{"a lock", "SELECT pg_advisory_lock(5), '" + value + "'", "advisory", "SELECT pg_advisory_unlock(5)", "t"},
		{"a temporary table", "CREATE TEMP TABLE scratch AS SELECT '" + value + "' AS v", "unparsed", "SELECT length(v) FROM scratch", "80000"},
		{"what it sets is computed", "SELECT dynamic('tenant'), '" + value + "'", "function", "SELECT current_setting('app.tenant')", "tenant"},
		{"a name that is too long", "SELECT set_config('app." + value + "', 'x', false)", "setting", "SELECT 1", "1"},
		{"no skeleton", "DO $$ BEGIN PERFORM set_config('app.tenant', 'block', false); --" + value + "\n END $$", "unparsed", "SELECT current_setting('app.tenant')", "block"},
		{"not a statement", "SELEC '" + value + "'", "", "SELECT 1", "1"},
	} {
		for _, extended := range []bool{false, true} {
			if extended && strings.Contains(c.sql, "; INSERT INTO grows (b)") || extended && strings.Contains(c.sql, "; SELECT '") {
				continue
			}
			t.Run(c.name+map[bool]string{true: ", extended"}[extended], func(t *testing.T) {
				run(t, dsn, "TRUNCATE grows")
				_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, MaxText: 10_000})
				a, b := dial(t, addr, dsn), dial(t, addr, dsn)
				a.want("SELECT 1", "1")
				if extended {
					a.extended(group("", c.sql)...)
					a.extended(group("", "SELECT 1")...) // the statement is given up
				} else {
					a.query(c.sql)
				}
				pins := a.pins()
				if pins != c.pins {
					t.Fatalf("pinned by %q, want %q", pins, c.pins)
				}
				if pins == "" {
					b.want("SELECT coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.user', true), '')", "|")
				}
				a.want(c.look, c.want)
				a.send(&pgproto3.Terminate{})
				b.want("SELECT coalesce(current_setting('app.tenant', true), ''), count(*) FROM pg_locks WHERE locktype = 'advisory'", "|0")
			})
		}
	}
}

// TestALongStatementKeepsItsClientsConnectionAsLongAsItCanBeRun: nobody has a copy of
// it.
func TestALongStatementKeepsItsClientsConnectionAsLongAsItCanBeRun(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, MaxText: 10_000})
	a, b := dial(t, addr, dsn), dial(t, addr, dsn)
	sql := "SELECT tenant($1), length('" + strings.Repeat("x", 50_000) + "')"
	a.extended(&pgproto3.Parse{Name: "s", Query: sql}, &pgproto3.Sync{})
	for _, who := range []string{"one", "two"} {
		if got := rowsOf(a.extended(execute("s", who)...)); got != who+"|50000" {
			t.Errorf("got %.50q", got)
		}
		if got := a.pins(); got != "statement" {
			t.Errorf("pinned by %q, want statement", got)
		}
	}
	a.extended(&pgproto3.Close{ObjectType: 'S', Name: "s"}, &pgproto3.Sync{})
	if got := a.query("SELECT current_setting('app.tenant')"); rowsOf(got) != "two" {
		t.Fatal(got)
	}
	if got := a.pins(); got != "" {
		t.Errorf("without the statement pinned by %q", got)
	}
	b.want("SELECT coalesce(current_setting('app.tenant', true), '')", "")
	a.want("SELECT current_setting('app.tenant')", "two")
	a.extended(group("", "SELECT '"+strings.Repeat("x", 50_000)+"'")...)
	for range 2 { // the unnamed one may be bound again
		if got := rowsOf(a.extended(execute("")...)); len(got) != 50_000 {
			t.Errorf("got %.50q", got)
		}
	}
	a.want("SELECT 1", "1")
	if got := a.pins(); got != "" {
		t.Errorf("after a simple query pinned by %q", got)
	}
}
