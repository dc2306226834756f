package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// cancel sends a cancel request for a client.
func cancel(t *testing.T, addr string, pid uint32, key []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := &pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}
	b, err := m.Encode(nil)
	if err == nil {
		_, err = conn.Write(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, _ = conn.Read(make([]byte, 1)) // until the gateway closes
}

// cancelled cancels what p asks until it is answered, since nobody knows when it has begun.
func cancelled(t *testing.T, addr string, p *peer) string {
	t.Helper()
	answer := make(chan string, 1)
	go func() { answer <- rowsOf(p.reply(1)) }()
	for {
		select {
		case got := <-answer:
			return got
		case <-time.After(50 * time.Millisecond):
			cancel(t, addr, p.pid, p.key)
		}
	}
}

func TestACancelNeedsTheClientsWholeKey(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	for _, v := range []struct {
		version uint32
		key     int
	}{{pgproto3.ProtocolVersion30, 4}, {pgproto3.ProtocolVersion32, 32}} {
		p, err := login(t, addr, dsn, v.version)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.key) != v.key {
			t.Errorf("protocol %x: the key has %d bytes, want %d", v.version, len(p.key), v.key)
		}
		p.want("SELECT 1", "1") // the catalog is read: the next statement does not wait for that
		p.send(simple("SELECT pg_sleep(30)"))
		wrong := slices.Clone(p.key)
		wrong[len(wrong)-1] ^= 1
		cancel(t, addr, p.pid, wrong)
		cancel(t, addr, p.pid, p.key[:len(p.key)-1])
		cancel(t, addr, p.pid+1, p.key)
		_ = p.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := p.conn.Read(make([]byte, 1)); err == nil {
			t.Fatalf("a wrong key: %d bytes came", n)
		}
		if got := cancelled(t, addr, p); got != "57014" {
			t.Errorf("protocol %x: got %q", v.version, got)
		}
		p.want("SELECT 1", "1")
	}
}

// Npgsql and pgjdbc pools reset their connections before they hand them on.
func TestDiscardAllFreesTheServerConnection(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema+`
CREATE FUNCTION dynamic(text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN PERFORM set_config('app.' || $1, $1, false); RETURN $1; END $$;`)
	_, a, b := handOver(t, dsn)
	for _, sql := range []string{
		"SELECT tenant('x'), pg_advisory_lock(2)", "LISTEN news", "CREATE TEMP TABLE scratch (x int)", "PREPARE q AS SELECT 1; SELECT 2", "SELECT pg_advisory_lock(1)",
		"SELECT setseed(0.1)", "DO $$ BEGIN PERFORM setseed(0.1); END $$", "SELECT dynamic('x')", "LOAD 'plpgsql'",
		"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "SELECT set_config('app.' || 'user', 'dynamic', false)",
	} {
		a.must(sql)
		if a.pins() == "" {
			t.Errorf("%s: not pinned", sql)
		}
		a.must("DISCARD ALL")
		if got := a.pins(); got != "" {
			t.Errorf("%s: pinned by %s after DISCARD ALL", sql, got)
		}
		b.want("SELECT coalesce(current_setting('app.user', true), '') || coalesce(current_setting('app.tenant', true), '') || current_user", "postgres")
	}
	b.want("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0")
}

func TestOrdinaryStatementsDoNotPin(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema)
	_, a, b := handOver(t, dsn)
	for _, sql := range []string{
		"SELECT 1", "SET work_mem = '5MB'", "SET app.user = 'me'", "BEGIN; SET LOCAL work_mem = '6MB'; COMMIT", "INSERT INTO plain (note) VALUES ('x')",
		"SELECT nextval('numbers')", "UPDATE plain SET note = upper(note)", "DELETE FROM plain", "NOTIFY news", "SELECT pg_advisory_xact_lock(1)", "DO $$ BEGIN END $$",
		"CREATE TABLE made (x int)", "DROP TABLE made", "EXPLAIN SELECT 1", "SHOW work_mem", "BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; COMMIT", "SELECT 1/0",
		"VALUES (1), (2)", "TABLE plain", "COPY plain TO STDOUT", "SELECT now(), random(), version()", "TRUNCATE plain", "ANALYZE plain",
	} {
		a.query(sql)
		if got := a.pins(); got != "" {
			t.Fatalf("%s: pinned by %s", sql, got)
		}
		b.want("SELECT current_setting('work_mem'), coalesce(current_setting('app.user', true), '')", "4MB|")
	}
}

func TestTheConsoleIsADatabase(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{
		Version: "test",
		Console: func(_ context.Context, text string) (gateway.Table, error) {
			switch text {
			case "SHOW VERSION;":
				return gateway.Table{Columns: []wire.Field{{Name: "version", TypeOID: 25, TypeSize: -1, TypMod: -1}}, Rows: [][]string{{"one"}}, Tag: "SHOW"}, nil
			case "RELOAD":
				return gateway.Table{}, &gateway.Error{Code: "0A000", Message: "no"}
			}
			return gateway.Table{}, errors.New("no such command")
		},
	})
	for _, name := range []string{"pgbouncer", "qvpgw"} {
		p := dial(t, addr, dsn, "database="+name)
		if !strings.Contains(p.params["server_version"], "qvpgw test") {
			t.Errorf("server_version is %q", p.params["server_version"])
		}
		p.want("SHOW VERSION;", "one")
		p.want("RELOAD", "0A000")
		p.want("anything", "42601")
		p.want("SHOW VERSION;", "one")
		p.send(parse("", "SHOW VERSION"), endGroup)
		if got := rowsOf(p.reply(1)); got != "0A000" {
			t.Errorf("by the extended protocol: got %q", got)
		}
	}
}

// What its client was is not known at the server any more; a pool of clients finds its
// connection broken, and makes another.
func TestAClientWhoseSettingsAreRefusedIsEnded(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	role := fmt.Sprintf("gone_%d", os.Getpid())
	for _, statement := range []string{"SELECT 1", "CREATE TABLE made (a int)", "RESET ROLE"} {
		p, other := dial(t, addr, dsn), dial(t, addr, dsn)
		p.must("CREATE ROLE " + role)
		p.must("SET ROLE " + role)
		other.must("DROP ROLE " + role)
		got := p.query(statement)
		if len(got) != 2 || got[1] != "end of the connection" || !strings.HasPrefix(got[0], "FATAL ") {
			t.Errorf("%s: got %q, want a FATAL error and the end of the connection", statement, got)
		}
		other.want("SELECT to_regclass('made') IS NULL", "t")
	}
	for param, want := range map[string]string{
		"client_encoding=nothing": `22023: invalid value for parameter "client_encoding": "nothing"`,
		"no_such_setting=1":       `42704: unrecognized configuration parameter "no_such_setting"`,
	} {
		if _, err := login(t, addr, dsn, pgproto3.ProtocolVersion30, param); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want the server's %s", param, err, want)
		}
	}
}
