package gateway_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

func TestAResetOfTheDateStyleGoesBackToTheStartupPacketEverywhere(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	a, b := dial(t, addr, dsn, "datestyle=Postgres, MDY"), dial(t, addr, dsn)
	const day = "SELECT '1997-02-10 17:32:01'::timestamp::text"
	for _, sql := range []string{"RESET datestyle", "SET datestyle TO ymd; RESET datestyle", "BEGIN; SET datestyle TO ymd; COMMIT; RESET datestyle"} {
		a.must("SET datestyle TO ymd")
		a.want("SELECT '97/02/10'::date::text", "02-10-1997")
		a.must(sql)
		b.want(day, "1997-02-10 17:32:01")
		a.want(day, "Mon Feb 10 17:32:01 1997")
	}
}

// What a statement names may be gone when another connection has to prepare it again.
func TestAStatementThatCannotBePreparedAgainSpoilsNoListOfStatements(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE TABLE gone (i int)")
	_, a, b := handOver(t, dsn)
	a.must("PREPARE first AS SELECT 1")
	a.must("PREPARE of_gone AS SELECT * FROM gone")
	a.must("PREPARE last AS SELECT 2")
	a.must("DROP TABLE gone")
	const list = "SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements"
	a.want(list, "first,last,of_gone")
	b.must("SELECT 1")
	b.must("PREPARE other AS SELECT 3")
	a.want(list, "first,last")
	b.want(list, "other")
	a.must("BEGIN")
	a.want(list, "first,last")
	a.must("COMMIT")
	a.want("EXECUTE of_gone", "42P01")
	a.want("EXECUTE last", "2")
}

func TestCodeThatLeavesWhatNoQuestionFindsKeepsItsPin(t *testing.T) {
	dsn := nativeDatabase(t, `
CREATE FUNCTION seeds() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM setseed(0.5); END $$;
CREATE SEQUENCE s; CREATE FUNCTION counts() RETURNS bigint LANGUAGE sql AS 'SELECT currval(''s'')';`)
	_, a, _ := handOver(t, dsn)
	a.must("SELECT nextval('s'); SELECT counts()")
	if got := a.pins(); got != "" {
		t.Errorf("pinned by %s after a look at a sequence", got)
	}
	a.must("SELECT seeds()")
	if got := a.pins(); got != "function" {
		t.Errorf("pinned by %q after setseed in a function", got)
	}
	for _, x := range []struct {
		sql  string
		temp bool
	}{
		{"CREATE TEMP TABLE brief (i int)", true},
		{"INSERT INTO brief VALUES (1)", true},
		{"DROP TABLE brief", false},
		{"CREATE TEMP TABLE brief (i int)", true},
		{"DISCARD TEMP", false},
		{"BEGIN; CREATE TEMP TABLE brief (i int) ON COMMIT DROP; COMMIT", false},
		{"BEGIN; CREATE TEMP TABLE brief (i int); ROLLBACK", false},
	} {
		a.must(x.sql)
		if got := a.pins(); !strings.Contains(got, "function") || strings.Contains(got, "temp") != x.temp {
			t.Errorf("pinned by %q after setseed in a function and %s", got, x.sql)
		}
	}
}

func TestTextsThatTheServerDidNotRunDoNotPin(t *testing.T) {
	dsn := nativeDatabase(t, `
CREATE FUNCTION hidden(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; RETURN $1; END $$;
CREATE FUNCTION fails(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM hidden($1); RETURN no_such($1); END $$;`)
	_, a, _ := handOver(t, dsn)
	for sql, code := range map[string]string{
		"SELEC 1":                         "42601",
		"SELECT 1 FROM":                   "42601",
		"SELECT U&'\\00'":                 "42601",
		"CREATE TABLE t (a int) OPTIONS ": "42601",
		"SELECT no_such(hidden('x'))":     "42883",
		"SELECT 'x'::no_such, hidden('')": "42704",
		"CALL no_such()":                  "42883",
		"SELECT no_such(1)":               "42883",
	} {
		a.want(sql, code)
		if got := a.pins(); got != "" {
			t.Errorf("%s: pinned by %s", sql, got)
		}
	}
	a.want("SELECT fails('SELECT 1')", "42883")
	if got := a.pins(); got == "" {
		t.Error("code that failed by itself does not pin")
	}
	a.must("DISCARD ALL")
	a.want("SELECT hidden('SELECT 1'); SELECT no_such()", "42883")
	if got := a.pins(); got == "" {
		t.Error("a text of which a part ran does not pin")
	}
}

func TestLargeObjectsOfLibpqDoNotPin(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, a, _ := handOver(t, dsn)
	call := func(oid uint32, args ...[]byte) {
		t.Helper()
		a.send(&pgproto3.FunctionCall{Function: oid, ArgFormatCodes: []uint16{1}, Arguments: args, ResultFormatCode: 1})
		if r := a.reply(1); len(r) == 0 || r[0][0] == 'E' {
			t.Fatalf("function %d: got %q", oid, r)
		}
	}
	call(957, []byte{0, 6, 0, 0}) // lo_creat
	if got := a.pins(); got != "" {
		t.Errorf("pinned by %s after lo_creat", got)
	}
	call(1598) // random
	if got := a.pins(); got != "function" {
		t.Errorf("pinned by %q after another function", got)
	}
}

// A role's or a database's search path may put anybody's operators before PostgreSQL's.
func TestTheCatalogIsReadWhateverTheSearchPathHas(t *testing.T) {
	dsn := nativeDatabase(t, `
CREATE TABLE public.plain (i int);
CREATE FUNCTION public.sets() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('app.set', 'by sets', false); END $$;
CREATE SCHEMA evil;
CREATE VIEW evil.pg_proc AS SELECT * FROM pg_catalog.pg_proc WHERE false;
CREATE VIEW evil.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE false;
CREATE FUNCTION evil.always(name, name) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.always);
CREATE FUNCTION evil.never(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.never);
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = evil, pg_catalog, public', current_database()); END $$;`)
	_, a, b := handOver(t, dsn)
	for range 2 {
		a.must("INSERT INTO public.plain VALUES (1)")
		a.must("SELECT public.sets()")
		if got := a.pins(); got != "" {
			t.Errorf("pinned by %s", got)
		}
		b.want("SELECT coalesce(current_setting('app.set', true), '')", "")
		a.want("SELECT current_setting('app.set', true)", "by sets")
		a.must("RESET ALL")
	}
}
