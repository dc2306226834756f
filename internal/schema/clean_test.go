package schema

import (
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/sqltext"
)

// What a user's function may be: each is in the schema that the cases below run
// in.
const userCode = `
CREATE FUNCTION spy() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.user', 'x', false); RETURN 'x'; END $$;
CREATE FUNCTION spy_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.user', 'x', false); RETURN NEW; END $$;
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM set_config('app.twice', i::text, false); RETURN i * 2; END $$;
CREATE FUNCTION thrice(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 3';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.i := thrice(NEW.i); RETURN NEW; END $$;
CREATE TABLE journal (id serial, at timestamptz DEFAULT now(), what text);
CREATE FUNCTION journal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO journal (what) VALUES (TG_TABLE_NAME); RETURN NEW; END $$;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('c', 'x'); RETURN NULL; END $$;
CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'INSERT INTO ' || TG_ARGV[0] || ' VALUES (1)'; RETURN NEW; END $$;
CREATE FUNCTION same(a int, b int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT twice(a) = b';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
CREATE OPERATOR =~= (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE DOMAIN spied AS int CHECK (twice(VALUE) > 0);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE mood AS ENUM ('up', 'down');
CREATE TYPE plain_pair AS (a int, b text);
CREATE TYPE spied_pair AS (a spied, b text);
CREATE TYPE spied_range AS RANGE (subtype = spied);
CREATE TABLE base (i int PRIMARY KEY, s text, at timestamptz NOT NULL DEFAULT now());
CREATE SEQUENCE counter;
`

func TestARelationIsCleanOnlyWhenNothingOfAUserRunsWithIt(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	exec(t, conn, userCode)

	const (
		clean    = "clean"
		readOnly = "read" // reading is clean, writing is not
		unclean  = "unclean"
	)
	cases := []struct{ name, sql, want string }{
		{"plain", "CREATE TABLE plain (i int, s text DEFAULT 'x', at timestamptz DEFAULT now(), CHECK (i > 0))", clean},
		{"enumerated", "CREATE TABLE enumerated (m mood, p plain_pair, q positive)", clean},
		{"partitioned", "CREATE TABLE partitioned (i int) PARTITION BY RANGE (i); CREATE TABLE partitioned_1 PARTITION OF partitioned FOR VALUES FROM (0) TO (9)", clean},
		{"viewed", "CREATE VIEW viewed AS SELECT i + 1 AS j, now() AS n FROM base", clean},
		{"settings_view", "CREATE VIEW settings_view AS SELECT nspname FROM pg_catalog.pg_namespace JOIN information_schema.tables ON true", clean},
		{"builtin_operator", "CREATE TABLE builtin_operator (i int CHECK (i =~= 3))", clean},
		{"builtin_trigger", "CREATE TABLE builtin_trigger (i int); CREATE TRIGGER z BEFORE UPDATE ON builtin_trigger FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", clean},
		{"referring", "CREATE TABLE referring (i int REFERENCES base)", clean},
		{"generated_clean", "CREATE TABLE generated_clean (i int, j int GENERATED ALWAYS AS (i * 2) STORED)", clean},
		{"materialized", "CREATE MATERIALIZED VIEW materialized AS SELECT * FROM base", clean},
		{"hyper", "CREATE TABLE hyper (at timestamptz NOT NULL, v float); SELECT create_hypertable('hyper', 'at'); INSERT INTO hyper VALUES ('2024-01-01', 1), ('2024-03-01', 2)", clean},
		{"vectors", "CREATE TABLE vectors (v vector(3), CHECK (vector_dims(v) = 3)); CREATE INDEX ON vectors USING hnsw (v vector_l2_ops)", clean},
		{"uuids", "CREATE TABLE uuids (id uuid DEFAULT gen_random_uuid())", clean},
		{"disabled", "CREATE TABLE disabled (i int); CREATE TRIGGER z BEFORE INSERT ON disabled FOR EACH ROW EXECUTE FUNCTION spy_trigger(); ALTER TABLE disabled DISABLE TRIGGER z", clean},
		{"own_trigger", `CREATE SCHEMA qvpgw; CREATE FUNCTION qvpgw.log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TABLE own_trigger (i int); CREATE TRIGGER z AFTER INSERT ON own_trigger EXECUTE FUNCTION qvpgw.log()`, clean},

		{"touched", "CREATE TABLE touched (i int); CREATE TRIGGER z BEFORE INSERT ON touched FOR EACH ROW EXECUTE FUNCTION touch()", clean},
		{"journaled", "CREATE TABLE journaled (i int CHECK (thrice(i) > 0)); CREATE TRIGGER z BEFORE INSERT ON journaled FOR EACH ROW EXECUTE FUNCTION journal()", clean},
		{"told", "CREATE TABLE told (i int); CREATE TRIGGER z AFTER UPDATE ON told EXECUTE FUNCTION tell()", clean},
		{"told_in_part", `CREATE TABLE told_in_part (i int) PARTITION BY RANGE (i); CREATE TABLE told_part PARTITION OF told_in_part FOR VALUES FROM (0) TO (9);
			CREATE TRIGGER z AFTER INSERT ON told_part FOR EACH ROW EXECUTE FUNCTION tell()`, clean},
		{"told_by_child", "CREATE TABLE told_by_child (i int); CREATE TABLE told_child () INHERITS (told_by_child); CREATE TRIGGER z AFTER DELETE ON told_child FOR EACH ROW EXECUTE FUNCTION tell()", clean},
		{"told_along", `CREATE TABLE told_along (i int PRIMARY KEY); CREATE TABLE told_below (i int REFERENCES told_along ON DELETE CASCADE);
			CREATE TRIGGER z AFTER DELETE ON told_below FOR EACH ROW EXECUTE FUNCTION tell()`, clean},
		{"told_instead", "CREATE VIEW told_instead AS SELECT i FROM base; CREATE TRIGGER z INSTEAD OF INSERT ON told_instead FOR EACH ROW EXECUTE FUNCTION tell()", clean},
		{"told_view", "CREATE VIEW told_view AS SELECT i FROM told_in_part", clean},
		{"told_by_code", `CREATE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM told_by_child; RETURN NULL; END';
			CREATE TABLE told_by_code (i int); CREATE TRIGGER z AFTER INSERT ON told_by_code EXECUTE FUNCTION writes()`, clean},
		{"thrice_view", "CREATE VIEW thrice_view AS SELECT thrice(i) AS j FROM base", clean},
		{"secured", "CREATE TABLE secured (i int); CREATE POLICY p ON secured USING (i > 0 AND current_setting('app.tenant', true) = current_user); ALTER TABLE secured ENABLE ROW LEVEL SECURITY", clean},
		{"secured_view", "CREATE VIEW secured_view AS SELECT * FROM secured", clean},

		{"hidden", "CREATE TABLE hidden (i int); CREATE TRIGGER z BEFORE INSERT ON hidden FOR EACH ROW EXECUTE FUNCTION hide('x')", readOnly},
		{"triggered", "CREATE TABLE triggered (i int); CREATE TRIGGER audit BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION spy_trigger()", readOnly},
		{"when_user", "CREATE TABLE when_user (i int); CREATE TRIGGER z BEFORE UPDATE ON when_user FOR EACH ROW WHEN (twice(NEW.i) > 2) EXECUTE FUNCTION suppress_redundant_updates_trigger()", readOnly},
		{"when_setting", "CREATE TABLE when_setting (i int); CREATE TRIGGER z BEFORE UPDATE ON when_setting FOR EACH ROW WHEN (set_config('a.b', 'c', false) = 'c') EXECUTE FUNCTION suppress_redundant_updates_trigger()", readOnly},
		{"defaulted", "CREATE TABLE defaulted (s text DEFAULT spy())", readOnly},
		{"setting_default", "CREATE TABLE setting_default (s text DEFAULT set_config('app.user', 'x', false))", readOnly},
		{"locking_default", "CREATE TABLE locking_default (s text DEFAULT pg_try_advisory_lock(1)::text)", readOnly},
		{"checked", "CREATE TABLE checked (i int CHECK (twice(i) > 0))", readOnly},
		{"setting_check", "CREATE TABLE setting_check (i int CHECK (set_config('a.b', i::text, false) <> ''))", readOnly},
		{"user_operator", "CREATE TABLE user_operator (i int CHECK (i === 3))", readOnly},
		{"generated", "CREATE TABLE generated (i int, j int GENERATED ALWAYS AS (twice(i)) STORED)", readOnly},
		{"ruled", "CREATE TABLE ruled (i int); CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT spy()", readOnly},
		{"rule_writes", "CREATE TABLE rule_writes (s text); CREATE RULE r AS ON INSERT TO rule_writes DO ALSO INSERT INTO triggered VALUES (1)", readOnly},
		{"rule_numbers", "CREATE TABLE rule_numbers (s text); CREATE RULE r AS ON INSERT TO rule_numbers DO ALSO INSERT INTO journal (what) VALUES (NEW.s)", readOnly},
		{"partition_trigger", `CREATE TABLE partition_trigger (i int) PARTITION BY RANGE (i); CREATE TABLE pt_1 PARTITION OF partition_trigger FOR VALUES FROM (0) TO (9);
			CREATE TRIGGER z BEFORE INSERT ON pt_1 FOR EACH ROW EXECUTE FUNCTION spy_trigger()`, readOnly},
		{"cascading", `CREATE TABLE cascading (i int PRIMARY KEY); CREATE TABLE cascaded (i int REFERENCES cascading ON DELETE CASCADE);
			CREATE TRIGGER z AFTER DELETE ON cascaded FOR EACH ROW EXECUTE FUNCTION spy_trigger()`, readOnly},
		{"hyper_trigger", `CREATE TABLE hyper_trigger (at timestamptz NOT NULL, v float); SELECT create_hypertable('hyper_trigger', 'at');
			CREATE TRIGGER z BEFORE INSERT ON hyper_trigger FOR EACH ROW EXECUTE FUNCTION spy_trigger(); INSERT INTO hyper_trigger VALUES ('2024-01-01', 1)`, readOnly},
		{"view_over_trigger", "CREATE VIEW view_over_trigger AS SELECT * FROM triggered", readOnly},

		{"user_view", "CREATE VIEW user_view AS SELECT twice(i) AS j FROM base", unclean},
		{"setting_view", "CREATE VIEW setting_view AS SELECT set_config('app.user', s, false) FROM base", unclean},
		{"sequence_view", "CREATE VIEW sequence_view AS SELECT nextval('counter')", unclean},
		{"view_of_view", "CREATE VIEW view_of_view AS SELECT j FROM user_view", unclean},
		{"operator_view", "CREATE VIEW operator_view AS SELECT i === 3 AS e FROM base", unclean},
		{"type_view", "CREATE VIEW type_view AS SELECT i::spied AS e FROM base", unclean},
		{"user_materialized", "CREATE MATERIALIZED VIEW user_materialized AS SELECT twice(i) AS j FROM base", unclean},
		{"guarded", "CREATE TABLE guarded (i int); CREATE POLICY p ON guarded USING (twice(i) > 0); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY", unclean},
		{"guarded_deep", "CREATE TABLE guarded_deep (i int); CREATE POLICY p ON guarded_deep USING (i IN (SELECT i FROM guarded)); ALTER TABLE guarded_deep ENABLE ROW LEVEL SECURITY", unclean},
		{"guarded_view", "CREATE VIEW guarded_view AS SELECT * FROM guarded", unclean},
		{"domained", "CREATE TABLE domained (d spied)", unclean},
		{"domain_array", "CREATE TABLE domain_array (d spied[])", unclean},
		{"composite", "CREATE TABLE composite (d spied_pair)", unclean},
		{"ranged", "CREATE TABLE ranged (d spied_range)", unclean},
		{"indexed", "CREATE TABLE indexed (i int); CREATE INDEX ON indexed (twice(i))", unclean},
		{"partial", "CREATE TABLE partial (i int); CREATE INDEX ON partial (i) WHERE twice(i) > 2", unclean},
		{"partition_key", "CREATE TABLE partition_key (i int) PARTITION BY RANGE (twice(i))", unclean},
		{"chunk_view", "CREATE VIEW chunk_view AS SELECT * FROM _timescaledb_internal._hyper_1_1_chunk", unclean},
	}
	for _, c := range cases {
		exec(t, conn, c.sql)
	}
	s := load(t, conn)
	for _, c := range cases {
		r := s.Relations[catalog.Name{Schema: "public", Name: c.name}]
		if r == nil {
			t.Errorf("%s is not in the snapshot", c.name)
			continue
		}
		got := unclean
		switch {
		case r.Clean && r.ReadClean:
			got = clean
		case r.ReadClean:
			got = readOnly
		}
		if want := strings.HasPrefix(c.name, "told"); r.WriteNotifies != want {
			t.Errorf("writing to %s may notify: %t, it should be %t", c.name, r.WriteNotifies, want)
		}
		if got != c.want || r.Clean != (r.Unclean == "") {
			t.Errorf("%s is %s (%q), it should be %s", c.name, got, r.Unclean, c.want)
		}
	}
	for name, want := range map[string]string{
		"triggered": "trigger audit of triggered", "guarded": "policy p of guarded",
		"defaulted": "default of column s of defaulted", "partition_trigger": "trigger z of pt_1",
	} {
		if got := s.Relations[catalog.Name{Schema: "public", Name: name}].Unclean; got != want {
			t.Errorf("against %s stands %q, not %q", name, got, want)
		}
	}
	for name, want := range map[string]bool{"spy": true, "twice": true, "thrice": false, "touch": false, "journal": false, "hide": true, "log": false, "time_bucket": false, "timescaledb_pre_restore": true, "now": false} {
		if s.UserFunctions[name] != want {
			t.Errorf("function %s: %t", name, s.UserFunctions[name])
		}
	}
	for name, want := range map[string]bool{"===": true, "=~=": false, "<->": false} {
		if s.UserOperators[name] != want {
			t.Errorf("operator %s: %t", name, s.UserOperators[name])
		}
	}
	for name, want := range map[string]bool{"spied": true, "_spied": true, "spied_pair": true, "spied_range": true, "positive": false, "mood": false, "plain_pair": false, "vector": false} {
		if s.UserTypes[name] != want {
			t.Errorf("type %s: %t", name, s.UserTypes[name])
		}
	}
	for name, want := range map[string]bool{"hidden": true, "setting_view": true} {
		r := s.Relations[catalog.Name{Schema: "public", Name: name}]
		got := r.Code == nil && s.AnyCode.State&uint16(sqltext.LeavesAnything) != 0 || r.Code != nil && r.Code.State&uint16(sqltext.LeavesAnything) != 0
		if want != got {
			t.Errorf("%s: what it does cannot be told: %t (%+v)", name, got, r.Code)
		}
	}
	if r := s.Relations[catalog.Name{Schema: "public", Name: "triggered"}]; r.Code == nil || !slices.Equal(r.Code.Settings, []string{"app.user"}) {
		t.Errorf("the trigger of triggered sets %+v", r.Code)
	}
	for _, name := range []string{
		"defaulted", "ruled", "rule_writes", "checked", "generated", "user_view", "view_of_view", "user_materialized", "guarded", "guarded_deep", "guarded_view", "indexed",
		"partial", "partition_key", "when_user", "partition_trigger",
	} {
		if r := s.Relations[catalog.Name{Schema: "public", Name: name}]; r.Code == nil || r.Code.State != uint16(sqltext.LeavesSettings) || len(r.Code.Settings) != 1 {
			t.Errorf("what runs with %s does %+v, not one setting", name, r.Code)
		}
	}
	if r := s.Relations[catalog.Name{Schema: "public", Name: "rule_numbers"}]; !r.WriteNextval || r.Code == nil || r.Code.State != 0 {
		t.Errorf("the rule of rule_numbers does %+v, nextval %t", r.Code, r.WriteNextval)
	}
	if r := s.Relations[catalog.Name{Schema: "public", Name: "journaled"}]; !r.WriteNextval {
		t.Error("writing to journaled calls no nextval")
	}
	if c := s.Code["twice"]; c == nil || !slices.Equal(c.Settings, []string{"app.twice"}) || c.State != uint16(sqltext.LeavesSettings) {
		t.Errorf("twice does %+v", c)
	}
	if s.UserCasts || s.EventTriggers || s.LoginTriggers {
		t.Errorf("casts %t, event triggers %t, login triggers %t", s.UserCasts, s.EventTriggers, s.LoginTriggers)
	}
	if r := s.Relations[catalog.Name{Schema: "pg_catalog", Name: "pg_settings"}]; !r.ReadClean || r.Clean {
		t.Errorf("pg_settings is %+v; its rules set settings", r)
	}
	if r := s.Relations[catalog.Name{Schema: "pg_catalog", Name: "pg_class"}]; !r.Clean {
		t.Errorf("pg_class is %q", r.Unclean)
	}
}

func TestCastsClassesAndEventTriggersAreSeen(t *testing.T) {
	for _, c := range []struct {
		name, sql string
		seen      func(*catalog.Snapshot) bool
	}{
		{
			"a cast", "CREATE TYPE celsius AS (v float); CREATE FUNCTION f(celsius) RETURNS int LANGUAGE sql AS 'SELECT 1 FROM setseed(0)'; CREATE CAST (celsius AS int) WITH FUNCTION f(celsius) AS IMPLICIT",
			func(s *catalog.Snapshot) bool { return s.UserTypes["celsius"] && !s.UserCasts },
		},
		{
			"a cast between built-in types", "CREATE FUNCTION f(int) RETURNS point LANGUAGE sql AS 'SELECT NULL::point FROM setseed(0)'; CREATE CAST (int AS point) WITH FUNCTION f(int)",
			func(s *catalog.Snapshot) bool { return s.UserCasts },
		},
		{
			"an operator of a user's type", "CREATE TYPE celsius AS (v float); CREATE FUNCTION f(celsius, celsius) RETURNS boolean LANGUAGE sql AS 'SELECT true FROM setseed(0)'; CREATE OPERATOR = (LEFTARG = celsius, RIGHTARG = celsius, FUNCTION = f)",
			func(s *catalog.Snapshot) bool { return s.UserTypes["celsius"] && !s.UserOperators["="] },
		},
		{
			"a user's operator of a user's type", "CREATE TYPE celsius AS (v float); CREATE FUNCTION f(celsius, celsius) RETURNS boolean LANGUAGE sql AS 'SELECT true FROM setseed(0)'; CREATE OPERATOR ===> (LEFTARG = celsius, RIGHTARG = celsius, FUNCTION = f)",
			func(s *catalog.Snapshot) bool { return s.UserTypes["celsius"] && s.UserOperators["===>"] },
		},
		{
			"a default operator class of a user's type", `CREATE TYPE celsius AS (v float); CREATE FUNCTION f(celsius, celsius) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0 FROM setseed(0)'; CREATE FUNCTION lt(celsius, celsius) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
			CREATE OPERATOR < (LEFTARG = celsius, RIGHTARG = celsius, FUNCTION = lt);
			CREATE OPERATOR CLASS degrees DEFAULT FOR TYPE celsius USING btree AS OPERATOR 1 <, FUNCTION 1 f(celsius, celsius)`,
			func(s *catalog.Snapshot) bool { return s.UserTypes["celsius"] && !s.UserCasts },
		},
		{
			"a function in language internal", `CREATE FUNCTION plain(text) RETURNS int LANGUAGE internal AS 'textlen'; CREATE FUNCTION lock(bigint) RETURNS void LANGUAGE internal AS 'pg_advisory_lock_int8'`,
			func(s *catalog.Snapshot) bool {
				return s.CleanFunctions["plain"] && s.UserFunctions["lock"] && s.Code["lock"].State == uint16(sqltext.LeavesAdvisory)
			},
		},
		{
			"a wrapper's validator", `CREATE FUNCTION f(text[], oid) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM setseed(0); END'; CREATE FOREIGN DATA WRAPPER w VALIDATOR f`,
			func(s *catalog.Snapshot) bool { return s.Validators },
		},
		{
			"a default operator class", `CREATE FUNCTION f(point, point) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0 FROM setseed(0)'; CREATE FUNCTION lt(point, point) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
			CREATE OPERATOR < (LEFTARG = point, RIGHTARG = point, FUNCTION = lt);
			CREATE OPERATOR CLASS points DEFAULT FOR TYPE point USING btree AS OPERATOR 1 <, FUNCTION 1 f(point, point)`,
			func(s *catalog.Snapshot) bool { return s.UserCasts },
		},
		{
			"an event trigger", "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM setseed(0); END'; CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()",
			func(s *catalog.Snapshot) bool {
				return s.EventTriggers && !s.LoginTriggers && s.EventCode.State == uint16(sqltext.LeavesSeed)
			},
		},
		{
			"a login trigger", "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION f()",
			func(s *catalog.Snapshot) bool { return s.LoginTriggers && !s.EventTriggers },
		},
		{
			"an operator over nextval", "CREATE OPERATOR !!! (RIGHTARG = regclass, FUNCTION = nextval)",
			func(s *catalog.Snapshot) bool { return s.UserOperators["!!!"] },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := connect(t, pgtest.Database(t))
			if c.seen(load(t, conn)) {
				t.Fatal("seen before it was there")
			}
			exec(t, conn, c.sql)
			if !c.seen(load(t, conn)) {
				t.Error("not seen")
			}
		})
	}
}

func TestNextvalRowSecurityAndInsertTriggersAreSeenThroughViews(t *testing.T) {
	conn := connect(t, pgtest.Database(t))
	exec(t, conn, userCode+`
		CREATE TABLE serial_id (id serial, v int);
		CREATE TABLE identity_id (id int GENERATED ALWAYS AS IDENTITY, v int);
		CREATE DOMAIN counted AS bigint DEFAULT nextval('counter');
		CREATE TABLE domain_id (id counted, v int);
		CREATE TABLE no_id (v int);
		CREATE VIEW serial_view AS SELECT * FROM serial_id;
		CREATE TABLE referring (i int REFERENCES base);
		CREATE TABLE hyper (at timestamptz NOT NULL, v float); SELECT create_hypertable('hyper', 'at');
		CREATE TABLE secured (i int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
		CREATE VIEW secured_view AS SELECT * FROM secured;
		CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE collated (a text, b text COLLATE folded NOT NULL)`)
	s := load(t, conn)
	at := func(name string) *catalog.Relation { return s.Relations[catalog.Name{Schema: "public", Name: name}] }
	for name, want := range map[string]bool{"serial_id": true, "identity_id": true, "domain_id": true, "no_id": false, "serial_view": true} {
		if r := at(name); r.Nextval != want || !r.Clean {
			t.Errorf("%s: nextval %t, %q", name, r.Nextval, r.Unclean)
		}
	}
	for name, want := range map[string]bool{"referring": true, "base": false, "hyper": false, "no_id": false} {
		if at(name).InsertTrigger != want {
			t.Errorf("%s: insert trigger %t", name, at(name).InsertTrigger)
		}
	}
	for name, want := range map[string]bool{"secured": true, "secured_view": true, "base": false} {
		if at(name).RowSecurity != want {
			t.Errorf("%s: row security %t", name, at(name).RowSecurity)
		}
	}
	a, _ := at("collated").Column("a")
	b, ok := at("collated").Column("b")
	if !ok || a.Nondeterministic || !b.Nondeterministic || !b.NotNull || a.NotNull || b.Number != 2 || b.Type != 25 || b.TypMod != -1 {
		t.Errorf("columns %+v and %+v", a, b)
	}
	if h := at("hyper").HypertableID; s.Hypertables[h] == nil || s.Hypertables[h].TimeColumn != "at" || s.Hypertables[h].TimeType != 1184 {
		t.Errorf("hypertable %d: %+v", h, s.Hypertables[h])
	}
}

func TestCodeDeclaredToHaveNoSideEffectsIsUncleanAndLeavesNothing(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	const c = `(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator' `
	exec(t, conn, `CREATE FUNCTION declared`+c+`STABLE; CREATE FUNCTION undeclared`+c+`;
		CREATE FUNCTION read_on(i int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN EXECUTE 'SELECT ' || i; RETURN i; END $$`)
	l := new(Loader)
	s, err := l.Load(t.Context(), ConnQuery(conn))
	if err != nil {
		t.Fatal(err)
	}
	want := func(name string, anything bool) {
		t.Helper()
		code := s.Code[name]
		if !s.UserFunctions[name] || code == nil || code.State&uint16(sqltext.LeavesAnything) != 0 != anything || !anything && code.State != 0 {
			t.Errorf("%s is unclean: %t, its code %+v, may leave anything: want %t", name, s.UserFunctions[name], code, anything)
		}
	}
	want("declared", false)
	want("undeclared", true)
	want("read_on", true) // its body is believed, not what it is declared as
	exec(t, conn, "ALTER FUNCTION declared(oid) VOLATILE")
	if s, err = l.LoadTouched(t.Context(), ConnQuery(conn), s, &catalog.Touched{Names: []string{"declared"}}); err != nil {
		t.Fatal(err)
	}
	want("declared", true)
}
