package router

import (
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/catalog"
)

// TestDDLIsConfinedToTheNamesItTouches says which statements are in doubt after which
// DDL: in front of the rest of what may be sent stands what is certain.
func TestDDLIsConfinedToTheNamesItTouches(t *testing.T) {
	// Mentions nothing that any of the changes names.
	const apart = "SELECT symbol FROM trades WHERE price > 1"
	for _, c := range []struct {
		ddl     string
		any     bool
		deep    string   // the names that more code may run with
		whole   bool     // what else is gone is not told
		doubted []string // the plans that it has a say in, besides
	}{
		{ddl: "CREATE TABLE made (a int)", doubted: []string{"SELECT 1 AS made", "INSERT INTO feature_embeddings (id) SELECT id FROM trades made", `SELECT NULL::"_made" IS NULL`}},
		{ddl: "CREATE TABLE tenant.trades (a int)", doubted: []string{apart}},
		{ddl: "CREATE TABLE made (LIKE trades)"},
		{ddl: "CREATE TABLE made AS SELECT 1"},
		{ddl: "CREATE SEQUENCE made"},
		{ddl: "CREATE VIEW made AS SELECT 1"},
		{ddl: "CREATE SCHEMA made"},
		{ddl: "CREATE FUNCTION lower(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", doubted: []string{"SELECT lower(symbol) FROM trades", "SELECT t.lower FROM trades t"}},
		{ddl: "CREATE INDEX ON feature_embeddings (id)", doubted: []string{"DELETE FROM feature_embeddings"}},
		{ddl: "DROP TABLE feature_embeddings", doubted: []string{"SELECT id FROM feature_embeddings"}},
		{ddl: "DROP TABLE tenant.trades, unknown", doubted: []string{apart}},
		{ddl: "DROP VIEW latest", doubted: []string{"SELECT symbol FROM latest"}},
		{ddl: "DROP FUNCTION lower(int)", doubted: []string{"SELECT lower('A')"}},
		{ddl: "COMMENT ON TABLE feature_embeddings IS 'x'"},
		{ddl: "GRANT SELECT ON feature_embeddings TO PUBLIC"},
		{ddl: "REVOKE ALL ON feature_embeddings FROM PUBLIC"},

		{ddl: "CREATE TABLE made (a int REFERENCES feature_embeddings ON UPDATE RESTRICT)"},
		{ddl: "CREATE TABLE made () INHERITS (feature_embeddings)", doubted: []string{"SELECT id FROM feature_embeddings"}},
		{ddl: "CREATE TABLE made PARTITION OF trades DEFAULT", doubted: []string{apart}},
		{ddl: "ALTER TABLE trades ADD c int CHECK (c > 0), DROP price, ALTER d TYPE text", doubted: []string{apart}},
		{ddl: "ALTER TABLE feature_embeddings RENAME TO trades", doubted: []string{apart, "DELETE FROM feature_embeddings"}},
		{ddl: "ALTER TABLE feature_embeddings SET SCHEMA tenant", doubted: []string{"DELETE FROM feature_embeddings"}},
		{ddl: "CREATE TYPE made AS ENUM ()", doubted: []string{"SELECT NULL::made"}},
		{ddl: "CREATE TYPE made AS (a int)", doubted: []string{"SELECT '{}'::_made"}},
		{ddl: "CREATE DOMAIN made AS int CHECK (VALUE > 0)", doubted: []string{"SELECT 1::made"}},
		{ddl: "CREATE OR REPLACE VIEW latest AS SELECT 1", doubted: []string{"SELECT symbol FROM latest"}},
		{ddl: "DROP TRIGGER made ON feature_embeddings", doubted: []string{"DELETE FROM feature_embeddings"}},
		{ddl: "DROP TYPE mood", doubted: []string{"SELECT 'x'::mood"}},
		{ddl: "CREATE ROLE made"},

		{ddl: "CREATE TABLE made (a int REFERENCES trades ON DELETE CASCADE)", deep: "made trades", doubted: []string{apart}},
		{ddl: "CREATE TABLE made (a int, FOREIGN KEY (a) REFERENCES trades ON UPDATE SET NULL)", deep: "made trades", doubted: []string{apart}},
		{ddl: "CREATE TABLE made (a int GENERATED ALWAYS AS IDENTITY)", deep: "made"},
		{ddl: "ALTER TABLE trades ADD c serial", deep: "trades", doubted: []string{apart}},
		{ddl: "ALTER TABLE trades ALTER c SET DEFAULT nextval('s')", any: true},
		{ddl: "ALTER TABLE trades ADD c int REFERENCES feature_embeddings ON DELETE SET DEFAULT", deep: "trades feature_embeddings", doubted: []string{apart, "DELETE FROM feature_embeddings"}},
		{ddl: "ALTER TABLE trades DROP price CASCADE", whole: true, doubted: []string{apart}},
		{ddl: "ALTER TABLE trades ADD CHECK (total() > 0)", any: true},
		{ddl: "ALTER TABLE trades ENABLE ROW LEVEL SECURITY", deep: "trades", doubted: []string{apart}},
		{ddl: "ALTER TABLE trades ENABLE TRIGGER a", deep: "trades", doubted: []string{apart}},
		{ddl: "ALTER TABLE trades ATTACH PARTITION feature_embeddings DEFAULT", deep: "trades feature_embeddings", doubted: []string{apart, "DELETE FROM feature_embeddings"}},
		{ddl: "ALTER SCHEMA tenant RENAME TO made", any: true},
		{ddl: "CREATE OR REPLACE VIEW latest AS SELECT id FROM audited", any: true},
		{ddl: "CREATE TABLE made (a mood)", any: true},
		{ddl: "CREATE TABLE made AS SELECT total()", any: true},
		{ddl: "CREATE OR REPLACE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'", deep: "made", doubted: []string{"SELECT made()"}},
		{ddl: "ALTER FUNCTION lower(text) SET work_mem = '1MB'", deep: "lower", doubted: []string{"SELECT lower(symbol) FROM trades"}},
		{ddl: "CREATE FUNCTION made() RETURNS int LANGUAGE c AS 'lib'", doubted: []string{"SELECT made FROM trades"}},
		{ddl: "CREATE SCHEMA made CREATE TABLE t (a int)", any: true},
		{ddl: "CREATE INDEX ON trades (lower_all(symbol))", any: true},
		{ddl: "CREATE INDEX ON trades (symbol my_ops)", any: true},
		{ddl: "CREATE INDEX ON trades USING mine (symbol)", any: true},
		{ddl: "CREATE INDEX ON unknown (a)", any: true},
		{ddl: "DROP TABLE trades CASCADE", whole: true, doubted: []string{apart}},
		{ddl: "DROP FUNCTION lower(text) CASCADE", any: true},
		{ddl: "DROP SCHEMA tenant CASCADE", any: true},
		{ddl: "DROP SCHEMA tenant"},
		{ddl: "ALTER ROLE a SET work_mem = '1MB'"},
		{ddl: "DROP EXTENSION vector", any: true},
		{ddl: "CREATE TRIGGER a BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION total()", deep: "trades", doubted: []string{apart}},
		{ddl: "CREATE RULE a AS ON INSERT TO trades DO ALSO SELECT 1", deep: "trades", doubted: []string{apart}},
		{ddl: "CREATE POLICY a ON trades", deep: "trades", doubted: []string{apart}},
		{ddl: "CREATE CAST (int AS text) WITH INOUT", any: true},
		{ddl: "CREATE OPERATOR === (PROCEDURE = total)", any: true},
		{ddl: "CREATE EXTENSION made", any: true},
		{ddl: "CREATE AGGREGATE made (int) (sfunc = int4pl, stype = int)", doubted: []string{"SELECT made(1)"}},
		{ddl: "CREATE EVENT TRIGGER made ON ddl_command_end EXECUTE FUNCTION total()", any: true},
		{ddl: "CREATE TABLE made (a int); ALTER TABLE trades ADD c serial", deep: "trades", doubted: []string{apart}},
	} {
		r, _ := newRouter(fixture())
		plan := func(sql string) *Plan { return r.Plan(plainContext(), []byte(sql)) }
		change := plan(c.ddl).Change
		if change.Any != c.any {
			t.Errorf("%s: may change anything is %t", c.ddl, change.Any)
		}
		var deep []Identifier
		for name := range strings.FieldsSeq(c.deep) {
			deep = append(deep, IdentifierOf(name))
		}
		if slices.Sort(deep); !slices.Equal(slices.Compact(slices.Sorted(slices.Values(change.Deep))), deep) || change.Whole != c.whole {
			t.Errorf("%s: goes deep for %v, want %v; is to be read whole: %t", c.ddl, change.Deep, deep, change.Whole)
		}
		has := func(id Identifier) bool { return slices.Contains(change.Names, id) }
		for _, sql := range c.doubted {
			if p := plan(sql); !p.Mentions(has) {
				t.Errorf("%s is certain after %s", sql, c.ddl)
			}
		}
		if p := plan(apart); !c.any && !slices.Contains(c.doubted, apart) && p.Mentions(has) {
			t.Errorf("%s is in doubt after %s", apart, c.ddl)
		}
	}
}

func TestWhatItsTextDoesNotTellIsAlwaysInDoubt(t *testing.T) {
	never := func(Identifier) bool { return false }
	r, h := newRouter(nil)
	plan := func(sql string) *Plan { return r.Plan(plainContext(), []byte(sql)) }
	if !plan("SELECT 1").Mentions(never) {
		t.Error("a text is certain without a catalog")
	}
	s := fixture()
	two := relation("tenant", "trades", 'r')
	s.Relations[two.Name] = two
	s.Relations[catalog.Name{Schema: "public", Name: "lone"}] = relation("public", "lone", 'r')
	h.Store(s)
	for _, sql := range []string{
		"EXECUTE p", "CALL p()", "DO 'BEGIN END'", "SELECT total()", "INSERT INTO audited (id) VALUES (1)", "not SQL",
		"SELECT id FROM trades", // which hides or is hidden
		"SELECT id FROM feature_embeddings ORDER BY embedding <=> $1 LIMIT 1", // from memory
		"CREATE TABLE made (a int); SELECT 1",
	} {
		if !plan(sql).Mentions(never) {
			t.Errorf("%s is certain", sql)
		}
	}
	for _, sql := range []string{"SELECT 1", "BEGIN", "COMMIT", "SET work_mem = '1MB'", "SELECT * FROM lone", "CREATE TABLE made (a int)"} {
		if plan(sql).Mentions(never) {
			t.Errorf("%s is in doubt", sql)
		}
	}
}
