package router

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
	"qvpgw/internal/sqltext"
)

// leaky is a database in which all kinds of objects change their session.
const leaky = `
CREATE FUNCTION leak(v int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
	PERFORM set_config('app.leak', 'x', false), pg_advisory_lock(v), nextval('counter'); RETURN v; END $$;
CREATE FUNCTION leak_on_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM leak(1); RETURN NEW; END $$;
CREATE SEQUENCE counter;
CREATE TABLE plain (a int, b text, at timestamptz DEFAULT now());
INSERT INTO plain VALUES (1, 'x'), (2, 'y');
CREATE FUNCTION total(plain) RETURNS int LANGUAGE sql AS 'SELECT leak($1.a)';
CREATE TABLE numbered (id serial, a int);
CREATE TABLE changed (a int);
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON changed FOR EACH ROW EXECUTE FUNCTION leak_on_change();
CREATE TABLE defaulted (a int DEFAULT leak(1), b int);
CREATE DOMAIN checked AS int CHECK (leak(VALUE) > 0);
CREATE TABLE domained (a checked);
CREATE VIEW behind AS SELECT leak(a) FROM plain;
CREATE VIEW above AS SELECT a FROM plain;
CREATE TABLE guarded (a int);
INSERT INTO guarded VALUES (1);
CREATE POLICY p ON guarded USING (leak(a) > 0);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE FUNCTION apart(int, text) RETURNS boolean LANGUAGE sql AS 'SELECT leak($1) = 1';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = text, FUNCTION = apart);
CREATE SCHEMA hidden;
CREATE TABLE hidden.changed (a int);
`

// tries are statements of which some leave something in their session.
var tries = []string{
	"SELECT leak(1)", "SELECT public.leak(1)", "SELECT p.total FROM plain p", "SELECT (p).total FROM plain p",
	"SELECT total(p) FROM plain p", "SELECT 1 === 'x'", "SELECT 1 OPERATOR(public.===) 'x'", "SELECT 1::checked",
	"SELECT checked(1)", "SELECT CAST('1' AS public.checked)", "SELECT pg_input_is_valid('1', 'checked')",
	"SELECT * FROM behind", "SELECT * FROM above", "SELECT * FROM plain", "TABLE plain", "SELECT * FROM guarded",
	"INSERT INTO changed VALUES (1)", "INSERT INTO hidden.changed VALUES (1)", "UPDATE changed SET a = 2",
	"INSERT INTO defaulted (b) VALUES (1)", "INSERT INTO domained VALUES (1)", "INSERT INTO numbered (a) VALUES (1)",
	"WITH w AS (INSERT INTO changed VALUES (1) RETURNING a) SELECT * FROM w", "COPY (SELECT leak(1)) TO STDOUT",
	"SELECT query_to_xml('SELECT leak(1)', true, true, '')", "SELECT table_to_xml('behind', true, true, '')",
	"SELECT * FROM ts_stat('SELECT to_tsvector(leak(1)::text)')",
	"SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, (leak(1)::text)::tsquery')",
	"SELECT set_config('app.leak', 'x', false)", "SELECT set_config('app.leak', 'x', true)",
	"SELECT set_config('app.' || 'leak', 'x', 1 = 2)", "UPDATE pg_settings SET setting = 'off' WHERE name = 'enable_sort'",
	"SELECT pg_advisory_lock(7)", "SELECT pg_try_advisory_lock_shared(7, 8)", "SELECT pg_advisory_xact_lock(7)",
	"SELECT (7::bigint).pg_advisory_lock", "SELECT nextval('counter')", "SELECT ('counter'::regclass).nextval",
	"DO $$ BEGIN PERFORM leak(1); END $$", "EXPLAIN ANALYZE SELECT leak(1)", "EXPLAIN SELECT a FROM plain",
	"CREATE TEMP TABLE z (a int)", "SELECT 1 AS a INTO TEMP z", "CREATE TEMP VIEW z AS SELECT 1", "LISTEN x", "PREPARE q AS SELECT 1",
	"DECLARE q CURSOR WITH HOLD FOR SELECT 1", "SET ROLE pg_monitor", "SET enable_sort = off FROM CURRENT", "SET LOCAL enable_sort = off",
	"CREATE INDEX ON plain (leak(a))", "CREATE TABLE made AS SELECT leak(1)", "CREATE TABLE made2 AS SELECT a FROM plain",
	"ALTER TABLE plain ADD COLUMN c int DEFAULT leak(1)", "ALTER TABLE plain ADD COLUMN d int DEFAULT 1",
	"SELECT json_populate_record(NULL::domained, '{\"a\": 1}')", "SELECT * FROM json_to_record('{\"a\": 1}') AS r(a checked)",
	"SELECT * FROM json_to_record('{\"a\": 1}') AS r(a int)", "SELECT '{1}'::checked[]", "SELECT sum(a) FROM plain GROUP BY b",
	"SELECT * FROM plain p, LATERAL (SELECT leak(p.a)) l", "SELECT CASE WHEN leak(1) = 1 THEN 1 END", "VALUES (leak(1))",
	"SELECT a FROM plain ORDER BY leak(a)", "SELECT 1 LIMIT leak(1)", "SELECT a FROM plain WHERE a IN (SELECT leak(1))",
	"SELECT max(a) FILTER (WHERE leak(a) = 1) FROM plain", "SELECT sum(a) OVER (ORDER BY leak(a)) FROM plain",
	"SELECT ARRAY[leak(1)]", "SELECT ROW(leak(1))", "SELECT COALESCE(NULL, leak(1))", "SELECT GREATEST(leak(1), 2)",
	"MERGE INTO changed c USING plain p ON c.a = p.a WHEN NOT MATCHED THEN INSERT VALUES (p.a)",
	"INSERT INTO plain (a) VALUES (leak(1))", "INSERT INTO plain (a) VALUES (1) RETURNING leak(a)", "DELETE FROM plain WHERE leak(a) = 99",
	"SELECT xmlelement(name a, leak(1))", "SELECT * FROM ROWS FROM (leak(1), generate_series(1, 2)) AS r",
	"SELECT * FROM plain TABLESAMPLE system (leak(1))", "ANALYZE plain", "TRUNCATE changed", "NOTIFY x",
}

// sessionState is what a statement left in a session that others could see.
func sessionState(t *testing.T, q schema.Query) string {
	t.Helper()
	const probe = `SELECT (SELECT string_agg(name, ',') FROM pg_settings WHERE source = 'session'),
	coalesce(current_setting('app.leak', true), ''), session_user, current_user,
	(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
	(SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_prepared_statements),
	(SELECT count(*) FROM pg_listening_channels()), pg_my_temp_schema(),
	(SELECT count(*) FROM pg_replication_slots WHERE active_pid = pg_backend_pid())`
	rows, err := q(t.Context(), probe)
	if err != nil {
		t.Fatal(err)
	}
	state := strings.Join(rows[0], "|")
	if last, err := q(t.Context(), "SELECT lastval()"); err == nil {
		state += "|lastval " + last[0][0]
	}
	return state
}

func TestACleanStatementLeavesNothingInItsSession(t *testing.T) {
	ctx := context.Background()
	dsn := pgtest.Database(t)
	connect := func() *pgx.Conn {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		config.RuntimeParams["statement_timeout"] = "2000"
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(ctx) })
		return conn
	}
	admin := connect()
	if _, err := admin.Exec(ctx, leaky); err != nil {
		t.Fatal(err)
	}
	q := schema.ConnQuery(admin)
	snap, err := schema.Load(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := newRouter(snap)
	c := plainContext()
	list := append(append([]string{}, tries...), builtinCalls(t, q)...)
	conn := connect()
	before := sessionState(t, schema.ConnQuery(conn))
	clean, ran, caught := 0, 0, 0
	for _, sql := range list {
		p := r.Plan(c, []byte(sql))
		_, err := schema.ConnQuery(conn)(ctx, sql)
		after := sessionState(t, schema.ConnQuery(conn))
		if err == nil && p.Pins == 0 {
			ran++
		}
		switch {
		case p.Pins == 0 && !leaves(p) && p.Names.Prepares == "": // that one is followed by its name
			clean++
			if after != before {
				t.Errorf("%s counts as clean\nbefore %s\nafter  %s", sql, before, after)
			}
		case after != before:
			caught++
		}
		if after != before { // a session of its own for the next one
			_ = conn.Close(ctx)
			conn = connect()
			before = sessionState(t, schema.ConnQuery(conn))
		}
	}
	t.Logf("%d statements: %d clean, %d of those with no error, %d unclean ones left something", len(list), clean, ran, caught)
	// A check that catches nothing proves nothing.
	if caught < 40 || clean < 150 {
		t.Errorf("%d of %d statements left something, %d are clean", caught, len(list), clean)
	}
}

// leaves reports whether the plan says itself that something stays.
func leaves(p *Plan) bool {
	if p.Leaves != 0 || p.Names.Prepares != "" {
		return true
	}
	for _, s := range p.Statements {
		if s.Nextval || s.Setting != nil && !s.Setting.Local || s.Kind == sqltext.Reset {
			return true
		}
	}
	return false
}

// builtinCalls returns a call of each built-in volatile or stable function with
// arguments made up for its types.
func builtinCalls(t *testing.T, q schema.Query) []string {
	t.Helper()
	rows, err := q(t.Context(), `SELECT proname, coalesce((SELECT string_agg(CASE
		WHEN a IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype) THEN '1::' || a::regtype::text
		WHEN a IN ('text'::regtype, 'name'::regtype, 'varchar'::regtype, 'unknown'::regtype) THEN '''plain''::' || a::regtype::text
		WHEN a = 'bool'::regtype THEN 'true' WHEN a = 'float8'::regtype THEN '0::float8'
		WHEN a = 'regclass'::regtype THEN '''plain''::regclass' WHEN a = 'interval'::regtype THEN '''0''::interval'
		WHEN a IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) THEN 'now()::' || a::regtype::text
		WHEN a IN ('"any"'::regtype, 'anyelement'::regtype) THEN '1'
		WHEN a IN ('json'::regtype, 'jsonb'::regtype) THEN '''{}''::' || a::regtype::text
		WHEN a::regtype::text LIKE 'any%' THEN 'NULL' ELSE 'NULL::' || a::regtype::text END, ', ' ORDER BY n)
		FROM unnest(p.proargtypes) WITH ORDINALITY AS u(a, n)), '')
		FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND provolatile <> 'i' AND `+callable+` ORDER BY 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, row := range rows {
		switch name := row[0]; {
		case !builtinFunctions[name] && special[name] == 0:
		case name == "pg_backup_start": // it waits for a checkpoint
		default:
			list = append(list, "SELECT pg_catalog."+name+"("+row[1]+")")
		}
	}
	return list
}
