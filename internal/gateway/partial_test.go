package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/catalog"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/router"
	"qvpgw/internal/schema"
)

// ddl are statements that change the catalog; %t is a table, %v a view, %f a function,
// %y a type, %c a column, %s a schema, %n any name.
var ddl = strings.Split(strings.TrimSpace(`
CREATE TABLE %t (a int, b text)
CREATE TABLE %t (a int PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> 'y'))
CREATE TABLE %t (id serial, a int, b text)
CREATE TABLE %t (id bigint GENERATED ALWAYS AS IDENTITY, a int, b text)
CREATE TABLE %s.%t (a int, b text)
CREATE TABLE %t (a int, b text) PARTITION BY RANGE (a)
CREATE TABLE %t PARTITION OF %t FOR VALUES FROM (1) TO (10)
CREATE TABLE %t PARTITION OF %t DEFAULT
CREATE TABLE %t (c int) INHERITS (%t)
CREATE TABLE %t (LIKE %t INCLUDING ALL)
CREATE TABLE %t AS SELECT * FROM %t
CREATE TABLE %t (a int, y %y)
CREATE TABLE %t (a int DEFAULT %f(1), b text)
CREATE TABLE %t (a int REFERENCES %t, b text)
CREATE TABLE %t (a int REFERENCES %t ON DELETE CASCADE, b text)
CREATE TABLE %t (a int DEFAULT lastval(), b text)
DROP TABLE %t
DROP TABLE IF EXISTS %t, %t
DROP TABLE %t CASCADE
ALTER TABLE %t ADD COLUMN %c int
ALTER TABLE %t ADD COLUMN %c %y
ALTER TABLE %t ADD COLUMN %c int DEFAULT %f(2)
ALTER TABLE %t DROP COLUMN %c
ALTER TABLE %t ALTER COLUMN %c TYPE text
ALTER TABLE %t ALTER COLUMN %c SET NOT NULL
ALTER TABLE %t ALTER COLUMN %c SET DEFAULT 1
ALTER TABLE %t ALTER COLUMN %c DROP DEFAULT
ALTER TABLE %t RENAME COLUMN %c TO %c
ALTER TABLE %t RENAME TO %t
ALTER TABLE %t SET SCHEMA %s
ALTER TABLE %s.%t SET SCHEMA public
ALTER TABLE %t ADD CHECK (a > 0)
ALTER TABLE %t ADD CHECK (%f(a) > 0)
ALTER TABLE %t ENABLE ROW LEVEL SECURITY
ALTER TABLE %t DETACH PARTITION %t
ALTER TABLE %t INHERIT %t
ALTER TABLE %t NO INHERIT %t
ALTER TABLE %t OWNER TO partial_role
GRANT SELECT ON %t TO partial_role
CREATE INDEX ON %t (%c)
CREATE INDEX %n ON %t (%c)
CREATE INDEX ON %t (%f(a))
CREATE UNIQUE INDEX ON %t (a)
DROP INDEX %n
ALTER INDEX %n RENAME TO %n
CREATE VIEW %v AS SELECT * FROM %t
CREATE VIEW %v AS SELECT a, %f(a) FROM %t
CREATE VIEW %v AS SELECT * FROM %v
CREATE OR REPLACE VIEW %v AS SELECT a FROM %t
CREATE MATERIALIZED VIEW %v AS SELECT * FROM %t
DROP VIEW %v
DROP MATERIALIZED VIEW %v
ALTER VIEW %v RENAME TO %v
CREATE FUNCTION %f(int) RETURNS int LANGUAGE sql AS 'SELECT $1'
CREATE FUNCTION %f(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a FROM %t; END
CREATE FUNCTION %f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''app.x'', ''1'', false); RETURN 1; END'
CREATE FUNCTION %f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM %t); END'
CREATE FUNCTION %f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO %t VALUES (1); RETURN %f(1); END'
CREATE FUNCTION %f(int, %y) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'
CREATE FUNCTION %f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
CREATE FUNCTION %f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO %t VALUES (nextval(''%t_id_seq'')); RETURN NEW; END'
CREATE FUNCTION %f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM setseed(1); RETURN NEW; END'
CREATE OR REPLACE FUNCTION %f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1'
DROP FUNCTION %f(int)
DROP FUNCTION %f
ALTER FUNCTION %f RENAME TO %f
CREATE TRIGGER %n BEFORE INSERT ON %t FOR EACH ROW EXECUTE FUNCTION %f()
CREATE TRIGGER %n AFTER DELETE ON %t FOR EACH ROW EXECUTE FUNCTION %f()
DROP TRIGGER %n ON %t
CREATE RULE %n AS ON INSERT TO %t DO ALSO UPDATE %t SET a = 1
DROP RULE %n ON %t
CREATE POLICY %n ON %t USING (a > 0)
CREATE POLICY %n ON %t USING (a IN (SELECT a FROM %t))
DROP POLICY %n ON %t
CREATE TYPE %y AS ENUM ('x', 'y')
CREATE TYPE %y AS (a int, b text)
CREATE TYPE %y AS (a int, b %y)
CREATE DOMAIN %y AS int CHECK (VALUE > 0)
CREATE DOMAIN %y AS int CHECK (%f(VALUE) > 0)
CREATE DOMAIN %y AS int DEFAULT nextval('partial_seq')
DROP TYPE %y
DROP DOMAIN %y
ALTER TYPE %y RENAME TO %y
ALTER TYPE %y ADD VALUE 'z'
CREATE SEQUENCE %n
DROP SEQUENCE %n
ALTER SEQUENCE %n RENAME TO %n
CREATE SCHEMA %s
COMMENT ON TABLE %t IS 'x'
CREATE ROLE partial_other SUPERUSER
DROP ROLE partial_other
CREATE AGGREGATE %f(int) (SFUNC = int4pl, STYPE = int)
DROP AGGREGATE %f(int)
CREATE OPERATOR @#@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)
DROP OPERATOR @#@ (int, int)
CREATE CAST (%t AS int) WITH FUNCTION %f(%t)
ALTER TABLE %t ATTACH PARTITION %t FOR VALUES FROM (10) TO (20)
ALTER TABLE %t ADD FOREIGN KEY (a) REFERENCES %t ON DELETE CASCADE
ALTER TABLE %t DISABLE TRIGGER USER
ALTER TABLE %t ENABLE TRIGGER %n
ALTER TABLE %t ADD COLUMN %c serial
ALTER TABLE %t ALTER COLUMN a ADD GENERATED ALWAYS AS IDENTITY
ALTER TABLE %t DROP COLUMN a CASCADE
ALTER TABLE %t DISABLE ROW LEVEL SECURITY
ALTER POLICY %n ON %t USING (%f(a) > 0)
CREATE POLICY %n ON %t USING (%f(a) > 0)
DROP VIEW %v CASCADE
CREATE OR REPLACE FUNCTION %f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''app.y'', ''1'', false); RETURN 1; END'
CREATE OR REPLACE FUNCTION %f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM setseed(1); RETURN NEW; END'
CREATE OR REPLACE FUNCTION %f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
CREATE OR REPLACE TRIGGER %n BEFORE INSERT ON %t FOR EACH ROW EXECUTE FUNCTION %f()
CREATE TRIGGER %n INSTEAD OF INSERT ON %v FOR EACH ROW EXECUTE FUNCTION %f()
CREATE RULE %n AS ON INSERT TO %v DO INSTEAD INSERT INTO %t VALUES (1)
ALTER FUNCTION %f(int) SET work_mem = '1MB'
CREATE COLLATION %n (locale = 'C')
DROP COLLATION %n
ALTER ROLE partial_role SET work_mem = '2MB'
CREATE TEXT SEARCH CONFIGURATION %n (COPY = simple)
DROP TEXT SEARCH CONFIGURATION %n
DROP SCHEMA %s
`), "\n")

// fillIn gives a statement its names.
func fillIn(r *rand.Rand, form string) string {
	var b strings.Builder
	for i := 0; i < len(form); i++ {
		kinds := map[byte]string{'t': "pt", 'v': "pv", 'f': "pf", 'y': "py", 'c': "", 's': "ps", 'n': "pn"}
		if form[i] != '%' {
			b.WriteByte(form[i])
			continue
		}
		i++
		switch kind := form[i]; kind {
		case 'c':
			b.WriteString([]string{"a", "b", "c", "d"}[r.IntN(4)])
		default:
			fmt.Fprintf(&b, "%s%d", kinds[kind], r.IntN(4))
		}
	}
	return b.String()
}

// TestAMergedSnapshotIsTheWholeOne runs random DDL and reads what it touched, as the
// gateway does; the whole catalog must be the same. With QVPGW_DDL statements instead of a
// few.
func TestAMergedSnapshotIsTheWholeOne(t *testing.T) {
	dsn := pgtest.Database(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	run := func(sql string) error { _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); return err }
	_ = run("CREATE ROLE partial_role")
	if err := run("SET jit = off"); err != nil {
		t.Fatal(err)
	}
	q := schema.ConnQuery(conn)
	queries := 0
	counted := func(ctx context.Context, sql string) ([][]string, error) {
		queries++
		return q(ctx, sql)
	}
	statements, seed := extentOfDDL(60)
	r := rand.New(rand.NewPCG(seed, 1))
	l := new(schema.Loader)
	var h catalog.Holder
	snap, err := l.Load(t.Context(), counted)
	if err != nil {
		t.Fatal(err)
	}
	h.Store(snap)
	planner := router.New(router.Options{Catalog: &h})
	c := &router.Context{SearchPath: []string{"public"}, SettingsKnown: true, ConformingStrings: true}
	ran, merged, whole := 0, 0, 0
	var history []string
	for ran < statements {
		sql := fillIn(r, ddl[r.IntN(len(ddl))])
		plan := planner.Plan(c, []byte(sql))
		if run(sql) != nil {
			continue
		}
		ran++
		history = append(history, sql)
		if plan.Change.Any || plan.Change.Whole {
			snap, err = l.Load(t.Context(), counted)
		} else {
			before := queries
			snap, err = l.LoadTouched(t.Context(), counted, snap, &plan.Change.Touched)
			if queries-before > 7 {
				whole++
			} else {
				merged++
			}
		}
		if err != nil {
			t.Fatalf("after %q: %v", sql, err)
		}
		h.Store(snap)
		want, err := schema.Load(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := differences(snap, want); diff != "" {
			t.Fatalf("after %q, any %v, touched %+v: %s\nhistory:\n%s", sql, plan.Change.Any, plan.Change.Touched, diff, strings.Join(history, ";\n"))
		}
	}
	t.Logf("%d statements, %d merged, %d confined and read whole", ran, merged, whole)
	if merged*4 < ran {
		t.Errorf("only %d of %d statements were merged", merged, ran)
	}
	figure.Print(t, "catalog.merged_share", float64(merged)/float64(ran))
}

// differences says how a snapshot differs from another, but for the choice of what is
// named as unclean and the order of settings.
func differences(have, want *catalog.Snapshot) string {
	var diff []string
	for name, r := range want.Relations {
		if x := have.Relations[name]; x == nil || !reflect.DeepEqual(plainRelation(x), plainRelation(r)) {
			diff = append(diff, fmt.Sprintf("relation %v: %+v, not %+v", name, x, r))
		}
	}
	for name := range have.Relations {
		if want.Relations[name] == nil {
			diff = append(diff, fmt.Sprintf("relation %v is too much", name))
		}
	}
	for name, code := range want.Code {
		if x := have.Code[name]; x == nil || !reflect.DeepEqual(plainCode(*x), plainCode(*code)) {
			diff = append(diff, fmt.Sprintf("code of %s: %+v, not %+v", name, x, code))
		}
	}
	a, b := reflect.ValueOf(*have), reflect.ValueOf(*want)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		x, y := a.Field(i).Interface(), b.Field(i).Interface()
		switch name {
		case "Relations":
			continue
		case "Defaults": // Server is of this session, and of the libraries that it has loaded
			x, y = []any{have.Defaults.Rows, have.Defaults.Superusers}, []any{want.Defaults.Rows, want.Defaults.Superusers}
		case "Code":
			x, y = len(have.Code), len(want.Code)
		case "AnyCode", "EventCode":
			x, y = plainCode(x.(catalog.Code)), plainCode(y.(catalog.Code))
		}
		if !reflect.DeepEqual(x, y) {
			diff = append(diff, fmt.Sprintf("%s: %v, not %v", name, x, y))
		}
	}
	return strings.Join(diff, "\n")
}

func plainRelation(r *catalog.Relation) catalog.Relation {
	x := *r
	if x.Unclean != "" {
		x.Unclean = "something"
	}
	if x.Code != nil {
		code := plainCode(*x.Code)
		x.Code = &code
	}
	return x
}

func plainCode(c catalog.Code) catalog.Code {
	c.Settings = slices.Sorted(slices.Values(c.Settings))
	return c
}

// extentOfDDL is how many random statements to run, and from which seed: n unless QVPGW_DDL
// and QVPGW_SEED say otherwise.
func extentOfDDL(n int) (statements int, seed uint64) {
	statements = n
	if v, err := strconv.Atoi(os.Getenv("QVPGW_DDL")); err == nil {
		statements = v
	}
	seed = uint64(statements)
	if v, err := strconv.Atoi(os.Getenv("QVPGW_SEED")); err == nil {
		seed = uint64(v)
	}
	return statements, seed
}
