package gateway_test

import (
	"fmt"
	"maps"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// TestAStartupPacketSaysWhatItSaysToTheServer compares logins at the server with those
// through one server connection, so that each client has what the one before left.
func TestAStartupPacketSaysWhatItSaysToTheServer(t *testing.T) {
	dsn := nativeDatabase(t, "")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	const look = `SELECT string_agg(concat_ws('=', name, setting), ', ' ORDER BY name) FROM pg_settings WHERE source IN ('client', 'session') AND name <> 'TimeZone'`
	for _, param := range []string{
		"app.name=1", "no_such_setting=1", "shared_buffers=1GB", "server_version=1", "fsync=off", "log_statement=all",
		"extra_float_digits=3", "extra_float_digits=99", "client_encoding=latin1", "DateStyle=SQL, DMY", "TimeZone=Asia/Tokyo", "TimeZone=Nowhere",
		"search_path=\"a b\", c", "application_name=h\xc3\xa4\xff\n!", "WORK_MEM=7MB", "work_mem=", "statement_timeout=1min", "role=pg_monitor", "role=nobody",
		"seed=0.5", "transaction_read_only=on",
		"default_transaction_isolation=serializable", "session_authorization=" + pgtest.PlainUser,
		"log_connections=on", "log_disconnections=on", "ignore_system_indexes=on", "ignore_system_indexes=x", "post_auth_delay=0",
		"options=-c work_mem=5MB -c geqo=off", "options=--work-mem=5MB", "options=-cwork_mem=5MB", `options=-c search_path=a\ b`, "options=  -c  geqo=no\t",
		"options=", "options=-c no_such=1", "options=-c", "options=-c geqo", "options=--geqo", "options=--", "options=-- geqo", "options=-",
		"options=-e", "options=-es", "options=-S 1000", "options=-S1000", "options=-S", "options=-f s", "options=-fi -fo -fb -ft -fn -fm -fh", "options=-fx",
		"options=-tpa -tpl", "options=-te", "options=-tx", "options=-d0", "options=-d 1", "options=-d5", "options=-d 9", "options=-P", "options=-W0",
		"options=-O", "options=-B 10", "options=-F", "options=-N 1", "options=-E -j -n -T -b", "options=-C x -D x -r x -v 3", "options=-Z", "options=word",
	} {
		at := func(addr string) (said string, params map[string]string) {
			p, err := login(t, addr, dsn, pgproto3.ProtocolVersion30, param)
			if err != nil {
				return err.Error(), nil
			}
			defer p.conn.Close()
			return fmt.Sprint(p.query(look)), p.params
		}
		said, params := at(u.Host)
		got, gotParams := at(addr)
		if got != said || !maps.Equal(params, gotParams) {
			t.Errorf("%s\ngot  %s %v\nwant %s %v", param, got, gotParams, said, params)
		}
	}
}

// TestSettingsOfALoginGoWithTheirClient has a client whose settings are fixed as its
// server connection logs in, and one to whom the server does not give them.
func TestSettingsOfALoginGoWithTheirClient(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	own := dial(t, addr, dsn, "log_disconnections=on")
	for _, sql := range []string{"DISCARD ALL", "SELECT 1"} {
		own.must(sql)
		own.want("SHOW log_disconnections", "on")
	}
	own.conn.Close()
	dial(t, addr, dsn).want("SHOW log_disconnections", "off")
	if _, err := login(t, addr, dsn, pgproto3.ProtocolVersion30, "user="+pgtest.PlainUser, "log_disconnections=on"); err == nil {
		t.Error("a role that may not have the setting is let in")
	}
	dial(t, addr, dsn, "user="+pgtest.PlainUser).want("SHOW log_disconnections", "off")
}

// TestWhatAClientLeavesCostsTheNextNothing has settings that the server gives nobody
// back: some end with their transaction, others only a role may undo that is put off.
func TestWhatAClientLeavesCostsTheNextNothing(t *testing.T) {
	dsn := nativeDatabase(t, "")
	boss := "boss_of_" + databaseOf(dsn)
	run(t, dsn, "CREATE ROLE "+boss+" SUPERUSER; GRANT "+boss+" TO "+pgtest.PlainUser)
	t.Cleanup(func() { run(t, dsn, "DROP ROLE "+boss) })
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	for _, leave := range [][]string{
		{"SELECT set_config('transaction_read_only', 'on', false)"},
		{"BEGIN; SELECT set_config('transaction_isolation', 'serializable', false) FROM generate_series(1, 1); COMMIT"},
		{"SET transaction_deferrable TO on"},
		{"SET ROLE " + boss, "SET log_statement TO 'all'", "RESET ROLE"},
	} {
		p := dial(t, addr, dsn, "user="+pgtest.PlainUser)
		for _, sql := range leave {
			p.query(sql)
		}
		p.conn.Close()
		next := dial(t, addr, dsn, "user="+pgtest.PlainUser, "work_mem=9MB")
		next.want("SELECT concat_ws(' ', current_setting('transaction_read_only'), current_setting('log_statement'), current_setting('work_mem'))", "off none 9MB")
		next.conn.Close()
	}
}
