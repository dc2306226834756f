package gateway_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestAResetKeepsTheStatementsThatAllShare has one client run code that is not clean
// and leave, and looks whether the other's statement is still that which was prepared
// first: it stays unless the code may have meddled with it.
func TestAResetKeepsTheStatementsThatAllShare(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema+`
CREATE FUNCTION runs(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; RETURN 'done'; END $$;
CREATE FUNCTION kept() RETURNS bigint LANGUAGE plpgsql AS
	$$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM pg_prepared_statements WHERE statement = ''SELECT 42''' INTO n; RETURN n; END $$;`)
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	for _, c := range []struct {
		name  string
		steps []string
		kept  bool
	}{
		{"a setting of a function", []string{"SELECT tenant('acme')"}, true},
		{"a trigger", []string{"INSERT INTO watched VALUES (1)"}, true},
		{"a block", []string{"DO $$ BEGIN PERFORM set_config('app.user', 'x', false); END $$"}, true},
		{"a lock", []string{"SELECT pg_advisory_lock(1)"}, true},
		{"a cursor", []string{"DECLARE c CURSOR WITH HOLD FOR SELECT 1"}, true},
		{"a role", []string{"SELECT runs('SET ROLE pg_monitor')"}, true},
		{"a sequence", []string{"SELECT runs('SELECT nextval(''numbers'')')"}, true},
		{"an open transaction", []string{"BEGIN", "SELECT tenant('acme')"}, true},
		{"a statement of SQL", []string{`PREPARE "o""n" AS SELECT 1`, "SELECT tenant('acme')"}, true},
		{"a statement of hidden code", []string{"SELECT runs('PREPARE hidden AS SELECT 2')"}, false},
		{"the end of all of them", []string{"SELECT runs('DEALLOCATE ALL')"}, false},
		{"a temporary table", []string{"CREATE TEMP TABLE scratch (x int)"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := dial(t, addr, dsn), dial(t, addr, dsn)
			b.extended(&pgproto3.Parse{Name: "q", Query: "SELECT 42"}, endGroup)
			for _, sql := range c.steps {
				a.must(sql)
			}
			a.send(&pgproto3.Terminate{})
			settled(t, g)
			want := "0"
			if c.kept {
				want = "1"
			}
			b.want("SELECT kept()", want)
			for range 2 {
				if got := rowsOf(b.extended(&pgproto3.Bind{PreparedStatement: "q"}, &pgproto3.Execute{}, endGroup)); got != "42" {
					t.Errorf("got %q", got)
				}
			}
			b.want("SELECT concat(current_setting('app.tenant', true), current_setting('app.user', true))", "")
			b.want("SELECT current_user = session_user", "t")
			b.want("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0")
			b.want("SELECT count(*) FROM pg_cursors", "0")
			b.want("SELECT count(*) FROM pg_prepared_statements WHERE from_sql", "0")
			b.want("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()", "0")
			b.want("SELECT lastval()", "55000")
			b.send(&pgproto3.Terminate{})
			settled(t, g)
		})
	}
}
