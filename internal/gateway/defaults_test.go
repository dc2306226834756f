package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestDefaultsThatAlterDatabaseSetsReachNewClientsAlone has a database's defaults
// change in transaction mode on one server connection: who connects afterwards has the
// new ones, who was there keeps what it began with, as direct sessions do.
func TestDefaultsThatAlterDatabaseSetsReachNewClientsAlone(t *testing.T) {
	dsn := nativeDatabase(t, `CREATE FUNCTION alters(value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = %L', current_database(), value); END $$`)
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, CatalogEvery: time.Hour})
	old := dial(t, addr, dsn)
	name := old.rows("SELECT current_database()")
	old.want("SHOW work_mem", "4MB")
	other := dial(t, addr, dsn)
	other.must("SET work_mem = '9MB'")
	fresh := func() *peer { return dial(t, addr, dsn) }

	old.must("ALTER DATABASE " + name + " SET work_mem = '7MB'")
	first := fresh()
	for range 2 {
		first.want("SHOW work_mem", "7MB")
		old.want("SHOW work_mem", "4MB")
		other.want("SHOW work_mem", "9MB")
	}
	other.must("RESET work_mem")
	other.want("SHOW work_mem", "4MB")

	old.must("ALTER DATABASE " + name + " SET work_mem = '8MB'")
	second := fresh()
	second.want("SHOW work_mem", "8MB")
	first.want("SHOW work_mem", "7MB")
	old.want("SHOW work_mem", "4MB")
	old.must("DISCARD ALL")
	old.want("SHOW work_mem", "4MB")

	// Reported ones, in every form of statement; the parameters of old clients stay.
	first.must("ALTER DATABASE " + name + " SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE " + name + " SET app.note = 'x'")
	third := fresh()
	third.want("SELECT current_setting('TimeZone'), current_setting('app.note')", "Asia/Tokyo|x")
	old.want("SELECT current_setting('TimeZone') <> 'Asia/Tokyo', current_setting('app.note', true)", "t|")
	if got := rowsOf(first.extended(group("", "SELECT current_setting('TimeZone') <> 'Asia/Tokyo'")...)); got != "t" {
		t.Errorf("the old client's TimeZone: %q", got)
	}

	first.must("ALTER ROLE ALL IN DATABASE " + name + " RESET ALL")
	last := fresh()
	last.want("SELECT current_setting('work_mem'), current_setting('app.note', true) IS NULL", "4MB|t")
	third.want("SELECT current_setting('work_mem'), current_setting('app.note')", "8MB|x")

	t.Run("a client that keeps its connection", func(t *testing.T) {
		keeper := fresh()
		keeper.must("CREATE TEMP TABLE kept AS SELECT 1 AS x")
		keeper.must("ALTER DATABASE " + name + " SET work_mem = '10MB'")
		keeper.want("SHOW work_mem", "4MB")
		keeper.must("DISCARD ALL")
		keeper.want("SHOW work_mem", "4MB")
		fresh().want("SHOW work_mem", "10MB")
	})
	t.Run("a function that does it", func(t *testing.T) {
		was := fresh()
		was.want("SELECT alters('11MB')", "")
		deadline := time.Now().Add(10 * time.Second)
		for {
			p := fresh()
			got := p.rows("SHOW work_mem")
			p.send(&pgproto3.Terminate{})
			if got == "11MB" {
				break
			}
			if got != "10MB" || time.Now().After(deadline) {
				t.Fatalf("a new client's work_mem is %s", got)
			}
			time.Sleep(20 * time.Millisecond)
		}
		was.want("SHOW work_mem", "10MB")
	})
	t.Run("what only its role has", func(t *testing.T) {
		was := fresh()
		user := was.rows("SELECT session_user")
		if strings.ContainsAny(user, `"|`) {
			t.Fatal(user)
		}
		was.must("ALTER ROLE " + user + " IN DATABASE " + name + " SET statement_timeout = '77s'")
		fresh().want("SHOW statement_timeout", "77s")
		was.want("SHOW statement_timeout", "0")
	})
	settled(t, g)
}

// TestARestoreOfTimescaleBeginsAndEndsForNewClients holds what pg_restore needs: the
// session after timescaledb_pre_restore() has timescaledb.restoring on, the one after
// timescaledb_post_restore() off, and never the one that was there before.
func TestARestoreOfTimescaleBeginsAndEndsForNewClients(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE EXTENSION IF NOT EXISTS timescaledb")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, CatalogEvery: time.Hour})
	old := dial(t, addr, dsn)
	const restoring = "SELECT current_setting('timescaledb.restoring')"
	old.want(restoring, "off")
	for range 2 {
		p := dial(t, addr, dsn)
		p.must("SELECT timescaledb_pre_restore()")
		p.send(&pgproto3.Terminate{})
		p = dial(t, addr, dsn)
		p.want(restoring, "on")
		old.want(restoring, "off")
		p.must("SELECT timescaledb_post_restore()")
		p.send(&pgproto3.Terminate{})
		dial(t, addr, dsn).want(restoring, "off")
	}
}
