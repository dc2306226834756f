package gateway_test

import (
	"strings"
	"testing"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// besideRows are changes after which the server answers otherwise though no row of the
// table that is asked has changed, or the log's names of rows are not the client's; %t is
// the table, which is logged.
var besideRows = []struct {
	name, before, set, user, question, change, after string
}{
	{name: "C8 the text of a column is another table's name", before: "CREATE TABLE %t_other (); ALTER TABLE %t ADD x regclass DEFAULT '%t_other'", question: "SELECT id, x FROM %t", change: "ALTER TABLE %t_other RENAME TO %t_renamed"},
	{name: "C8 of an array of them", before: "CREATE TABLE %t_other (); ALTER TABLE %t ADD x regclass[] DEFAULT '{%t_other}'", question: "SELECT * FROM %t", change: "ALTER TABLE %t_other RENAME TO %t_renamed"},
	{name: "C8 of a domain", before: "CREATE TABLE %t_other (); CREATE DOMAIN %t_name AS regclass; ALTER TABLE %t ADD x %t_name DEFAULT '%t_other'", question: "SELECT id, x FROM %t", change: "ALTER TABLE %t_other RENAME TO %t_renamed"},
	{name: "C8 of a row", before: "CREATE TABLE %t_other (); CREATE TYPE %t_name AS (x regclass); ALTER TABLE %t ADD x %t_name; UPDATE %t SET x = ROW('%t_other')", question: "SELECT id, x FROM %t", change: "ALTER TABLE %t_other RENAME TO %t_renamed"},
	{name: "C8 a role's name", before: "CREATE ROLE %t_role; ALTER TABLE %t ADD x aclitem DEFAULT '%t_role=r/postgres'", question: "SELECT id, x FROM %t", change: "ALTER ROLE %t_role RENAME TO %t_renamed", after: "DROP ROLE %t_renamed"},
	{name: "C8 a type that stands before PostgreSQL's", before: "CREATE SCHEMA %t_types", set: "SET search_path = %t_types, pg_catalog, public", question: "SELECT id, (v <-> '[1.26,0]')::float4 FROM %t", change: "CREATE DOMAIN %t_types.float4 AS numeric(5,1)"},
	{name: "C12 the right to call the operator's function", user: "plain", question: "SELECT id, v <#> '[1,0]' FROM %t", change: "REVOKE EXECUTE ON FUNCTION vector_negative_inner_product FROM PUBLIC", after: "GRANT EXECUTE ON FUNCTION vector_negative_inner_product TO PUBLIC"},
	{name: "C12 the right to call PostgreSQL's own", user: "plain", question: "SELECT id FROM %t WHERE ver < 10", change: "REVOKE EXECUTE ON FUNCTION int4lt FROM PUBLIC", after: "GRANT EXECUTE ON FUNCTION int4lt TO PUBLIC"},
	{name: "C15 the log's function", question: "SELECT id FROM %t", change: "CREATE OR REPLACE FUNCTION qvpgw.log_rows_of_%t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; INSERT INTO %t (id, v) VALUES (90, '[1,0]')"},
	{name: "C15 the log goes", question: "SELECT id FROM %t", change: "SELECT qvpgw.unwatch('%t'); INSERT INTO %t (id, v) VALUES (90, '[1,0]')"},
	{name: "C7 keys of another encoding", before: "ALTER TABLE %t DROP CONSTRAINT %t_pkey; ALTER TABLE %t ALTER id TYPE text USING 'é' || id; ALTER TABLE %t ADD PRIMARY KEY (id)", set: "SET client_encoding = 'LATIN1'", question: "SELECT ver FROM %t", change: "DELETE FROM %t WHERE ver = 1"},
}

func TestKNNConditionsBesideTheRows(t *testing.T) {
	var sql strings.Builder
	table := func(i int) string { return "beside_" + string(rune('a'+i)) }
	of := func(i int, text string) string { return strings.ReplaceAll(text, "%t", table(i)) }
	sql.WriteString("CREATE TABLE points (v vector(2))" + changeLog(t))
	for i, one := range besideRows {
		sql.WriteString(plainTable(table(i)) + of(i, one.before) + of(i, "; SELECT qvpgw.watch('%t');"))
	}
	dsn := nativeDatabase(t, sql.String())
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	g, unproven := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	gateway.Unproven(g)
	writer := direct(t, dsn)
	for i, one := range besideRows {
		t.Run(one.name, func(t *testing.T) {
			question := of(i, one.question) + " ORDER BY v <-> '[1,0]' LIMIT 2"
			if strings.Contains(question, "<#>") {
				question = strings.Replace(question, "BY v <->", "BY v <#>", 1)
			}
			as := dsn
			if one.user != "" {
				as = strings.Replace(dsn, "postgres@", one.user+"@", 1)
			}
			server, through, blind := direct(t, as), dial(t, addr, as), dial(t, unproven, as)
			if one.set != "" {
				for _, p := range []*peer{server, through, blind} {
					p.must(of(i, one.set))
				}
			}
			before := server.rows(question)
			for range 2 {
				through.want(question, before)
				blind.want(question, before)
			}
			if got := through.route(); !strings.HasPrefix(got, "cached hit") {
				t.Errorf("before: %s", got)
			}
			writer.must(of(i, one.change))
			if one.after != "" {
				defer writer.must(of(i, one.after))
			}
			after := server.rows(question)
			through.want(question, after)
			if got := blind.rows(question); got != before || before == after {
				t.Errorf("without validation %q, before %q, directly %q: the case shows nothing", got, before, after)
			}
		})
	}
}

// TestKNNConditionC9 has the tables that a text means change before the gateway has read the
// catalog anew: what it then asks for is not kept as an answer from the tables of before.
func TestKNNConditionC9NamesMeanTheTablesThatTheServerFindsNow(t *testing.T) {
	dsn := nativeDatabase(t, plainTable("points")+changeLog(t)+"")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	p, d := dial(t, addr, dsn), direct(t, dsn)
	for _, c := range []*peer{p, d} {
		c.must("SET search_path = ahead, public")
	}
	const question = "SELECT id FROM points ORDER BY v <-> '[1.03125,0]' LIMIT 2"
	for _, change := range []string{
		"INSERT INTO points" + nearer,
		"ALTER TABLE points RENAME TO former; CREATE TABLE points AS SELECT * FROM former WHERE id BETWEEN 3 AND 5",
		"INSERT INTO points" + nearer,
		"CREATE SCHEMA ahead; CREATE TABLE ahead.points AS SELECT * FROM points WHERE id BETWEEN 4 AND 5",
		"INSERT INTO points" + nearer,
		"DROP SCHEMA ahead CASCADE; DROP TABLE points; ALTER TABLE former RENAME TO points",
		"DELETE FROM points WHERE id = 90",
	} {
		before := d.rows(question)
		for range 2 {
			p.want(question, before)
		}
		d.must(change)
		if after := d.rows(question); after == before {
			t.Errorf("%s changes nothing", change)
		}
	}
	p.want(question, d.rows(question))
	p.want(question, d.rows(question))
	if got := p.route(); got != "cached hit public.points" {
		t.Errorf("with the tables of before: %s", got)
	}
}
