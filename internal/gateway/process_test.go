package gateway_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

func TestALoginTriggerRunsOnceForEachClientAndIsHeard(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, "CREATE TABLE logins (pid int)")
	_, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	first := mustDial(t, addr, dsn)
	for _, sql := range []string{
		`CREATE FUNCTION count_login() RETURNS event_trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO logins VALUES (pg_backend_pid()); RAISE NOTICE 'welcome'; END $$`,
		"CREATE EVENT TRIGGER counts ON login EXECUTE FUNCTION count_login()",
	} {
		if err := exec(first, sql); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		cfg, err := pgconn.ParseConfig(through(addr, dsn))
		if err != nil {
			t.Fatal(err)
		}
		heard := ""
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard += n.Message }
		c, err := pgconn.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if heard != "welcome" {
			t.Errorf("login %d heard %q", i+1, heard)
		}
		// The gateway's own connections log in as well: each login is told by its process.
		if got := answer(t, c, "SELECT count(*) FROM logins WHERE pid = pg_backend_pid()"); got != "1" {
			t.Errorf("login %d ran the trigger %s times", i+1, got)
		}
		if got := answer(t, c, "SHOW qvpgw.pins"); got != "process" {
			t.Errorf("the pins are %q", got)
		}
		_ = c.Close(t.Context())
	}
}

func TestWhatDependsOnItsProcessGetsOneThatNobodyHad(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	for _, sql := range []string{
		"SET temp_buffers TO 200", "SET search_path TO pg_temp", "SET plpgsql.no_such_setting TO 1",
		"SELECT pg_stat_force_next_flush()", "SELECT sessions FROM pg_stat_database LIMIT 1",
	} {
		used := mustDial(t, addr, dsn)
		pid := answer(t, used, "SELECT pg_backend_pid()")
		_ = used.Close(t.Context())
		c := mustDial(t, addr, dsn)
		if res := c.ExecParams(t.Context(), sql, nil, nil, nil, nil).Read(); res.Err != nil {
			t.Errorf("%s: %v", sql, res.Err)
		}
		own := answer(t, c, "SELECT pg_backend_pid()")
		if own == pid {
			t.Errorf("%s ran in a process that had served another", sql)
		}
		if again := answer(t, c, "SELECT pg_backend_pid()"); again != own {
			t.Errorf("after %s the client is not kept in its process", sql)
		}
		_ = c.Close(t.Context())
		wantWhole(t, g)
	}
}

func TestInSessionModeNoTwoClientsHaveOneProcess(t *testing.T) {
	dsn := pgtest.Database(t)
	_, addr := startGateway(t, dsn, gateway.Options{Mode: gateway.Session, Pool: pool.Options{Size: 1}})
	seen := map[string]bool{}
	for range 5 {
		c := mustDial(t, addr, dsn)
		pid := answer(t, c, "SELECT pg_backend_pid()")
		if seen[pid] {
			t.Errorf("process %s served two clients", pid)
		}
		seen[pid] = true
		if err := exec(c, "DISCARD ALL"); err != nil {
			t.Error(err)
		}
		if again := answer(t, c, "SELECT pg_backend_pid()"); again != pid {
			t.Errorf("within a session the process changed from %s to %s", pid, again)
		}
		_ = c.Close(t.Context())
	}
}

// through is the address of a database behind the gateway.
func through(addr, dsn string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("host=%s port=%s dbname=%s user=%s sslmode=disable", host, port, databaseOf(dsn), pgtest.Superuser)
}

// answer is the one value of a statement's last result.
func answer(t *testing.T, c *pgconn.PgConn, sql string) string {
	t.Helper()
	results, err := c.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 {
		t.Fatalf("%s gave %d rows", sql, len(last.Rows))
	}
	return string(last.Rows[0][0])
}
