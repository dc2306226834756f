package sqltext_test

import (
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/sqltext"
)

func TestABodySaysWhatItMayLeaveBehind(t *testing.T) {
	for _, c := range []struct {
		src      string
		state    sqltext.State
		settings string
	}{
		{"SELECT 1", 0, ""},
		{"BEGIN NEW.at := now(); RETURN NEW; END", 0, ""},
		{"BEGIN UPDATE t SET a = 1; INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 2; END", 0, ""},
		{"-- PERFORM setseed(0)\nSELECT 'SET x = 1; LISTEN y'", 0, ""},
		{"BEGIN PERFORM set_config('App.User', NEW.id::text, false); END", sqltext.LeavesSettings, "app.user"},
		{"SELECT pg_catalog.set_config($$a.b$$, '1', true)", sqltext.LeavesSettings, "a.b"},
		{"SELECT set_config('a.' || x, '1', true)", sqltext.LeavesAnything, ""},
		{"SELECT set_config(E'a.b', '1', true)", sqltext.LeavesAnything, ""},
		{"BEGIN SET work_mem = '1MB'; IF x THEN SET SESSION a.b TO 1; ELSE SET TIME ZONE 'UTC'; END IF; END", sqltext.LeavesSettings, "a.b timezone work_mem"},
		{"BEGIN SET LOCAL work_mem = '1MB'; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED; END", 0, ""},
		{"BEGIN SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; END", sqltext.LeavesSettings, "default_transaction_deferrable default_transaction_isolation default_transaction_read_only"},
		{"BEGIN RESET work_mem; END", sqltext.LeavesSettings, "work_mem"},
		{"BEGIN RESET ALL; END", sqltext.LeavesAnything, ""},
		{"BEGIN SET ROLE x; END", sqltext.LeavesRole, ""},
		{"BEGIN SET SESSION AUTHORIZATION x; END", sqltext.LeavesRole, ""},
		{"SELECT set_config('role', 'x', false)", sqltext.LeavesRole, ""},
		{"BEGIN PERFORM setseed(0); END", sqltext.LeavesSeed, ""},
		{"BEGIN PERFORM pg_try_advisory_lock(1); PERFORM pg_advisory_xact_lock(2); END", sqltext.LeavesAdvisory, ""},
		{"BEGIN CREATE TEMP TABLE x (a int); END", sqltext.LeavesTemp, ""},
		{"BEGIN CREATE OR REPLACE TEMPORARY VIEW x AS SELECT 1; END", sqltext.LeavesTemp, ""},
		{"BEGIN CREATE TABLE pg_temp.x (a int); END", sqltext.LeavesTemp, ""},
		{"DECLARE temp int; BEGIN temp := 1; END", 0, ""},
		{"BEGIN LISTEN x; END", sqltext.LeavesListen, ""},
		{"BEGIN LOAD 'x'; END", sqltext.LeavesLibrary, ""},
		{"BEGIN EXECUTE 'SET a.b = 1'; END", sqltext.LeavesSettings, "a.b"},
		{"BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; EXECUTE 'PREPARE q AS SELECT 1'; END", sqltext.LeavesCursor | sqltext.LeavesPrepared, ""},
		{"BEGIN EXECUTE format('INSERT INTO %I VALUES (%L, $1)', a, b) USING c; END", 0, ""},
		{"BEGIN EXECUTE 'DROP TABLE ' || quote_ident(x) || ' CASCADE'; END", 0, ""},
		{"BEGIN EXECUTE format('SELECT %s', x); END", sqltext.LeavesAnything, ""},
		{"BEGIN EXECUTE x; END", sqltext.LeavesAnything, ""},
		{"BEGIN EXECUTE 'SELECT ' || x; END", sqltext.LeavesAnything, ""},
		{"BEGIN FOR r IN EXECUTE 'SELECT 1' LOOP SET a.b = 1; END LOOP; END", sqltext.LeavesSettings, "a.b"},
		{"BEGIN CREATE TRIGGER t BEFORE INSERT ON x EXECUTE FUNCTION f(); END", 0, ""},
		{"SELECT 'not closed", sqltext.LeavesAnything, ""},
		{"BEGIN DISCARD ALL; END", sqltext.LeavesAnything, ""},
		{"SELECT query_to_xml(x, true, true, '')", sqltext.LeavesAnything, ""},
	} {
		b := sqltext.ScanBody(c.src)
		slices.Sort(b.Settings)
		if b.State != c.state || strings.Join(b.Settings, " ") != c.settings {
			t.Errorf("%s\nleaves %b %q, wanted %b %q", c.src, b.State, b.Settings, c.state, c.settings)
		}
	}
}

func TestABodySaysWhatItUses(t *testing.T) {
	b := sqltext.ScanBody(`BEGIN PERFORM other(1), "Mixed"(2) FROM side.tab WHERE a === b; INSERT INTO log VALUES (currval('s')); ALTER TABLE x ADD y int; END`)
	for _, w := range []string{"other", "Mixed", "side", "tab", "===", "log"} {
		if !b.Words[w] {
			t.Errorf("%s is not among the words", w)
		}
	}
	if !b.Nextval || !b.Currval || !b.DDL || b.Wide {
		t.Errorf("nextval %t, currval %t, DDL %t, wide %t", b.Nextval, b.Currval, b.DDL, b.Wide)
	}
	if b := sqltext.ScanBody("BEGIN EXECUTE format('DELETE FROM %I', x); CREATE TEMP TABLE y (); END"); !b.Wide || b.DDL {
		t.Errorf("wide %t, DDL %t", b.Wide, b.DDL)
	}
	deep := "BEGIN EXECUTE 'x'; END"
	for range 12 {
		deep = "BEGIN EXECUTE '" + strings.ReplaceAll(deep, "'", "''") + "'; END"
	}
	if b := sqltext.ScanBody(deep); b.State&sqltext.LeavesAnything == 0 {
		t.Error("a text in a text in a text … is followed to the end")
	}
}
