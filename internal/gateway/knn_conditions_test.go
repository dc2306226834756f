package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// A condition is one way in which an answer in memory ceases to be the database's.
// Whoever asks after the change must get what the server itself answers. With the
// validation switched off the old answer must come, or the case proves nothing
// (trap T17); after, which undoes the change, lets the next cases be asked.
type condition struct {
	name   string
	table  string // asked for; it has rows 1 to 5 at [2,0], [4,0] …
	extra  string // made before
	user   string // who asks; "": the superuser
	change string // runs directly, in one string
	by     func(*conditions, condition)
	after  string
	seen   bool // the answer does not change, or is refused by a check that nothing switches off
}

// conditions are two gateways before one server.
type conditions struct {
	*testing.T
	dsn             string
	sound, unproven string // their addresses
	writer          *peer
}

// plainTable is a table of five points; logged tables have their changes logged.
func plainTable(name string) string {
	return fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, ver int NOT NULL DEFAULT 0, v vector(2), seen timestamptz NOT NULL DEFAULT '2024-06-01 12:00Z');"+
		"INSERT INTO %[1]s SELECT n, n, ARRAY[2 * n, 0]::vector FROM generate_series(1, 5) n; GRANT SELECT ON %[1]s TO plain;", name)
}

const nearer = " (id, ver, v) VALUES (90, 90, '[1,0]')"

// directConditions are changes by whoever does not come through the gateway. They are
// named after what an answer from memory must fulfil: it is of a state that is current
// while it is asked for (C1), also around the moment in which a commit is seen (C2), in
// transactions (C5), for each setting (C7), with all tables that are read (C9), after
// writes within writes (C10), with the rights of now (C12), whole and only whole (C13),
// beside other gateways (C14) and after what fires no trigger (C15).
var directConditions = []condition{
	{name: "C1 an insert", change: "INSERT INTO %t" + nearer},
	{name: "C1 an update of a member", change: "UPDATE %t SET ver = 77 WHERE id = 1"},
	{name: "C1 a delete of a member", change: "DELETE FROM %t WHERE id = 2"},
	{name: "C1 COPY", by: (*conditions).copies},
	{name: "C2 a commit that is in the log and not yet seen", by: (*conditions).commitsLate},
	{name: "C2 one by two phases", by: (*conditions).commitsInTwoPhases},
	{name: "C9 a child's row", extra: "CREATE TABLE %t_child () INHERITS (%t);", change: "INSERT INTO %t_child" + nearer},
	{name: "C9 a row moves to a child", extra: "CREATE TABLE %t_child () INHERITS (%t);", change: "WITH gone AS (DELETE FROM ONLY %t WHERE id = 1 RETURNING *) INSERT INTO %t_child SELECT * FROM gone; UPDATE %t SET ver = 3 WHERE id = 1"},
	{name: "C10 a trigger of another table", extra: "CREATE TABLE %t_other (x int); CREATE FUNCTION %t_writes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO %t" + strings.ReplaceAll(nearer, "'", "''") + "; RETURN NULL; END'; CREATE TRIGGER writes AFTER INSERT ON %t_other EXECUTE FUNCTION %t_writes();", change: "INSERT INTO %t_other VALUES (1)"},
	{name: "C10 a foreign key that cascades", extra: "CREATE TABLE %t_other (x int PRIMARY KEY); INSERT INTO %t_other VALUES (1); ALTER TABLE %t ADD owner int DEFAULT 1 REFERENCES %t_other ON DELETE CASCADE;", change: "DELETE FROM %t_other"},
	{name: "C10 a rule", extra: "CREATE TABLE %t_other (x int); CREATE RULE writes AS ON INSERT TO %t_other DO ALSO DELETE FROM %t WHERE id = 1;", change: "INSERT INTO %t_other VALUES (1)"},
	{name: "C10 DO", change: "DO $$BEGIN EXECUTE 'DELETE FROM %t WHERE id = 1'; END$$"},
	{name: "C12 REVOKE", user: "plain", change: "REVOKE SELECT ON %t FROM plain", after: "GRANT SELECT ON %t TO plain"},
	{name: "C12 a right through a role", user: "plain", extra: "DROP ROLE IF EXISTS %t_readers; CREATE ROLE %t_readers; GRANT SELECT ON %t TO %t_readers; REVOKE SELECT ON %t FROM plain; GRANT %t_readers TO plain;", change: "REVOKE %t_readers FROM plain", after: "GRANT %t_readers TO plain"},
	{name: "C12 row level security", user: "plain", change: "ALTER TABLE %t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON %t USING (id > 1)"},
	{name: "C7 a role's search_path", user: "plain", extra: "CREATE SCHEMA %t_schema; GRANT USAGE ON SCHEMA %t_schema TO plain; CREATE TABLE %t_schema.%t AS SELECT * FROM %t WHERE id > 2; GRANT SELECT ON %t_schema.%t TO plain;", change: "ALTER ROLE plain SET search_path = %t_schema, public", after: "ALTER ROLE plain RESET search_path", seen: true},
	{name: "C15 TRUNCATE", change: "TRUNCATE %t"},
	{name: "C15 TRUNCATE without triggers", change: "SET session_replication_role = replica; TRUNCATE %t; RESET session_replication_role"},
	{name: "C15 an insert without triggers", change: "SET session_replication_role = replica; INSERT INTO %t" + nearer + "; RESET session_replication_role"},
	{name: "C15 triggers that are switched off", change: "ALTER TABLE %t DISABLE TRIGGER ALL; INSERT INTO %t" + nearer + "; ALTER TABLE %t ENABLE TRIGGER ALL"},
	{name: "C15 many rows at once", change: "INSERT INTO %t SELECT 100 + n, n, ARRAY[1, n::real / 1000]::vector FROM generate_series(1, 200) n"},
	{name: "DDL that rewrites the vectors", change: "ALTER TABLE %t ALTER v TYPE vector(2) USING ('[11,0]'::vector(2) - v)"},
	{name: "DDL that renames a table away", change: "ALTER TABLE %t RENAME TO %t_old; CREATE TABLE %t AS SELECT * FROM %t_old WHERE id > 3"},
	{name: "DDL that gives a column another meaning", change: "ALTER TABLE %t RENAME ver TO old; ALTER TABLE %t ADD ver int NOT NULL DEFAULT 8"},
	{name: "a table that is made anew", change: "BEGIN; DROP TABLE %t CASCADE; CREATE TABLE %t (id int, ver int, v vector(2), seen timestamptz DEFAULT '2024-06-01 12:00Z'); INSERT INTO %t" + nearer + "; COMMIT"},
}

// TestKNNConditions asks one and the same question before and after each change, of a
// table that is logged and of one that is not.
func TestKNNConditions(t *testing.T) {
	c := &conditions{T: t, dsn: truthServer(t)}
	list := make([]condition, 0, 2*len(directConditions)+4)
	var sql strings.Builder
	for _, logged := range []bool{false, true} {
		for i, one := range directConditions {
			one.table = fmt.Sprintf("plain_%d", i)
			if logged {
				one.table = fmt.Sprintf("logged_%d", i)
				if one.extra != "" && strings.Contains(one.extra, "INHERITS") {
					continue // such a table cannot be logged
				}
			}
			sql.WriteString(plainTable(one.table))
			if logged {
				fmt.Fprintf(&sql, "SELECT qvpgw.watch('%s');", one.table)
			}
			list = append(list, one)
		}
	}
	list = append(list, chunkConditions...)
	for _, one := range chunkConditions {
		fmt.Fprintf(&sql, "CREATE TABLE %s (id int, ver int NOT NULL DEFAULT 0, v vector(2), seen timestamptz NOT NULL DEFAULT '2024-06-01 12:00Z', at timestamptz NOT NULL DEFAULT '2024-01-04 01:00Z');"+
			"SELECT create_hypertable('%[1]s', by_range('at', INTERVAL '7 days')); INSERT INTO %[1]s SELECT n, n, ARRAY[2 * n, 0]::vector, DEFAULT_SEEN, timestamptz '2024-01-04 01:00Z' + n * INTERVAL '7 days' FROM generate_series(1, 5) n;", one.table)
	}
	text := strings.ReplaceAll(sql.String(), "DEFAULT_SEEN", "'2024-06-01 12:00Z'")
	for _, one := range list {
		text += one.of(one.extra)
	}
	run(t, c.dsn, text)
	_, c.sound = serve(t, c.dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	g, addr := serve(t, c.dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	gateway.Unproven(g)
	c.unproven = addr
	c.writer = direct(t, c.dsn)
	for _, one := range list {
		t.Run(one.table+" "+one.name, func(t *testing.T) { c.check(t, one) })
	}
}

// chunkConditions are what happens to a hypertable behind its root's back.
var chunkConditions = []condition{
	{name: "C15 drop_chunks", table: "hyper_0", change: "SELECT drop_chunks('hyper_0', older_than => timestamptz '2024-01-20 00:00Z')"},
	{name: "C15 a write to a chunk", table: "hyper_1", change: "DO $$BEGIN EXECUTE format('UPDATE %s SET ver = 55 WHERE id = 1', (SELECT tableoid::regclass FROM hyper_1 WHERE id = 1)); END$$"},
	{name: "C15 TRUNCATE of a chunk", table: "hyper_2", change: "DO $$BEGIN EXECUTE format('TRUNCATE %s', (SELECT tableoid::regclass FROM hyper_2 WHERE id = 1)); END$$"},
	{name: "C15 a new chunk", table: "hyper_3", change: "INSERT INTO hyper_3 (id, ver, v, at) VALUES (90, 90, '[1,0]', '2025-01-01')"},
}

// of puts the table's name into a text.
func (one condition) of(sql string) string { return strings.ReplaceAll(sql, "%t", one.table) }

// ask gives the answer in two forms, or the SQLSTATE.
func (c *conditions) ask(t *testing.T, a *asker, table string) string {
	t.Helper()
	var got []string
	for _, f := range []form{literal, preparedText} {
		answer, _, err := a.ask(truthQuestions[1], table, f)
		if err != nil {
			answer = err.Error()
		}
		got = append(got, answer)
	}
	return strings.Join(got, " / ")
}

// user is a client of one who asks.
func (c *conditions) client(t *testing.T, addr string, one condition) *asker {
	t.Helper()
	dsn := c.dsn
	if one.user != "" {
		dsn = strings.Replace(dsn, "postgres@", one.user+"@", 1)
	}
	var p *peer
	if addr == "" {
		p = direct(t, dsn)
	} else {
		p = dial(t, addr, dsn)
	}
	t.Cleanup(func() { _ = p.conn.Close() })
	return newAsker(p)
}

func (c *conditions) check(t *testing.T, one condition) {
	through, server, blind := c.client(t, c.sound, one), c.client(t, "", one), c.client(t, c.unproven, one)
	before := c.ask(t, server, one.table)
	for range 2 {
		for name, a := range map[string]*asker{"": through, " without validation": blind} {
			if got := c.ask(t, a, one.table); got != before {
				t.Fatalf("before, through the gateway%s: %q, directly %q", name, got, before)
			}
		}
	}
	if got := through.route(); !strings.HasPrefix(got, "cached hit") {
		t.Fatalf("before: %q", got)
	}
	if one.by != nil {
		one.by(c, one)
	} else {
		c.writer.must(one.of(one.change))
	}
	if one.after != "" {
		defer c.writer.must(one.of(one.after))
	}
	want := c.ask(t, server, one.table)
	if got := c.ask(t, through, one.table); got != want {
		t.Errorf("through the gateway %q, directly %q", got, want)
	}
	if again := c.ask(t, through, one.table); again != want {
		t.Errorf("asked again %q, directly %q", again, want)
	}
	if want == before && !one.seen {
		t.Errorf("the change changes nothing: %q", want)
	}
	if got := c.ask(t, blind, one.table); !strings.HasPrefix(got, strings.Split(before, " / ")[0]) && !one.seen {
		t.Errorf("without validation %q comes, which the change made: the case shows nothing", got)
	}
}

// copies inserts by COPY.
func (c *conditions) copies(one condition) {
	c.writer.send(&pgproto3.Query{String: "COPY " + one.table + " (id, ver, v) FROM STDIN"}, &pgproto3.CopyData{Data: []byte("90\t90\t[1,0]\n")}, &pgproto3.CopyDone{})
	if got := c.writer.reply(1); !slices.Contains(got, "complete COPY 1") {
		c.Errorf("COPY: %q", got)
	}
}

// commitsInTwoPhases commits what another session has prepared.
func (c *conditions) commitsInTwoPhases(one condition) {
	for _, sql := range []string{"BEGIN; INSERT INTO " + one.table + nearer, "PREPARE TRANSACTION 'condition'"} {
		c.writer.must(sql)
	}
	a := newAsker(dial(c, c.sound, c.dsn))
	for range 2 {
		c.ask(c.T, a, one.table) // kept while it is prepared
	}
	direct(c, c.dsn).must("COMMIT PREPARED 'condition'")
}

// commitsLate leaves a commit in the log that nobody sees yet, has the question asked
// meanwhile, so that an answer is kept then, and lets it be seen.
func (c *conditions) commitsLate(one condition) {
	w := direct(c, c.dsn)
	pid := w.rows("SELECT pg_backend_pid()")
	w.must("BEGIN; INSERT INTO " + one.table + nearer + "; SET LOCAL synchronous_commit = on")
	w.send(&pgproto3.Query{String: "COMMIT"})
	waits := func() bool {
		return c.writer.rows("SELECT wait_event FROM pg_stat_activity WHERE pid = "+pid) == "SyncRep"
	}
	for limit := time.Now().Add(patience); !waits(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			c.Fatal("the commit does not wait")
		}
	}
	a := newAsker(dial(c, c.sound, c.dsn))
	server := newAsker(direct(c, c.dsn))
	for range 3 {
		if got, want := c.ask(c.T, a, one.table), c.ask(c.T, server, one.table); got != want {
			c.Errorf("while it is not seen %q, directly %q", got, want)
		}
	}
	c.writer.must("SELECT pg_cancel_backend(" + pid + ")")
	if got := w.reply(1); !slices.Contains(got, "complete COMMIT") {
		c.Errorf("the commit: %q", got)
	}
}

// TestKNNConditionsOfASession are those of one client's transactions and portals.
func TestKNNConditionsOfASession(t *testing.T) {
	dsn := nativeDatabase(t, plainTable("session"))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	_, second := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	const question = "SELECT id FROM session ORDER BY v <-> '[1.03125,0]' LIMIT 2"
	p, q, other := dial(t, addr, dsn), dial(t, addr, dsn), dial(t, second, dsn)
	known := func(want string) {
		t.Helper()
		p.want(question, want)
		p.want(question, want)
		if got := p.route(); !strings.HasPrefix(got, "cached hit") {
			t.Fatalf("not in memory: %q", got)
		}
	}

	t.Run("C5 an own write in a pipeline that is not ended yet", func(t *testing.T) {
		known("1;2")
		list := append(group("", "INSERT INTO session"+nearer)[:4:4], group("", question)...)
		if got := rowsOf(q.extended(list...)); got != "90;1" {
			t.Errorf("got %q", got)
		}
		known("90;1")
		q.must("DELETE FROM session WHERE id = 90")
	})
	t.Run("C5 a transaction with one snapshot", func(t *testing.T) {
		known("1;2")
		q.must("BEGIN ISOLATION LEVEL REPEATABLE READ")
		q.want(question, "1;2")
		p.must("INSERT INTO session" + nearer)
		known("90;1")
		q.want(question, "1;2")
		q.must("COMMIT")
		q.want(question, "90;1")
		q.must("DELETE FROM session WHERE id = 90")
		q.must("BEGIN")
		q.want(question, "1;2")
		p.must("INSERT INTO session" + nearer)
		known("90;1")
		q.want(question, "90;1")
		q.must("DELETE FROM session WHERE id = 90")
		q.want(question, "1;2")
		p.want(question, "90;1")
		q.must("ROLLBACK; DELETE FROM session WHERE id = 90")
	})
	t.Run("C13 a portal in parts", func(t *testing.T) {
		known("1;2")
		head := group("", question)[:2]
		parts := append(slices.Clone(head), runPortal("", 1), runPortal("", 0), endGroup)
		for range 2 {
			if got := strings.Join(q.extended(parts...), " "); !strings.Contains(got, "row 1 PortalSuspended row 2 complete SELECT 1") {
				t.Errorf("in parts: %q", got)
			}
			q.send(append(slices.Clone(head), runPortal("", 1), endGroup)...)
			if got := strings.Join(q.reply(1), " "); strings.Contains(got, "row 2") || !strings.Contains(got, "PortalSuspended") {
				t.Errorf("one row: %q", got)
			}
			known("1;2")
		}
	})
	t.Run("C14 a write through another gateway", func(t *testing.T) {
		known("1;2")
		other.must("INSERT INTO session" + nearer)
		p.want(question, "90;1")
		other.want(question, "90;1")
		other.want(question, "90;1")
		p.must("DELETE FROM session WHERE id = 90")
		other.want(question, "1;2")
	})
	t.Run("a statement that is prepared before DDL", func(t *testing.T) {
		known("1;2")
		const all = "SELECT * FROM session ORDER BY v <-> '[1.03125,0]' LIMIT 1"
		d := direct(t, dsn)
		for _, c := range []*peer{q, d} {
			c.extended(&pgproto3.Parse{Name: "all", Query: all}, endGroup)
		}
		for range 2 {
			if got, want := q.extended(execute("all")...), d.extended(execute("all")...); !slices.Equal(got, want) {
				t.Errorf("before: %q, directly %q", got, want)
			}
		}
		p.must("ALTER TABLE session ADD more text DEFAULT 'more'")
		if got, want := q.rows(all), d.rows(all); got != want || !strings.Contains(got, "more") {
			t.Errorf("after: %q, directly %q", got, want)
		}
		// A server refuses a statement whose columns have changed; the gateway may have
		// prepared it anew.
		if got := rowsOf(q.extended(execute("all")...)); got != "0A000" && got != d.rows(all) {
			t.Errorf("prepared, after: %q, directly %q", got, d.rows(all))
		}
	})
}

// TestKNNConditionsOfSettings are answers that only settings make different. Where
// settings are no part of the key, other clients' answers must come (trap T17).
func TestKNNConditionsOfSettings(t *testing.T) {
	dsn := nativeDatabase(t, plainTable("indexed")+"CREATE INDEX ON indexed USING hnsw (v vector_l2_ops); CREATE SCHEMA elsewhere;"+strings.ReplaceAll(plainTable("elsewhere.indexed"), "n, n, ARRAY", "10 * n, n, ARRAY"))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	g, unsettled := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	gateway.Unsettled(g)
	const question = "SELECT id, seen FROM indexed ORDER BY v <-> '[1.03125,0]' LIMIT 3"
	wrong := 0
	for _, set := range []string{
		"SELECT 1", "SET hnsw.ef_search = 1; SET enable_seqscan = off", "SET search_path = elsewhere, public", "SET TimeZone = 'Asia/Tokyo'",
		"SET DateStyle = 'German'", "SET SESSION AUTHORIZATION plain", "SET ROLE plain",
	} {
		d, p, blind := direct(t, dsn), dial(t, addr, dsn), dial(t, unsettled, dsn)
		for _, c := range []*peer{d, p, blind} {
			c.must(set)
		}
		want := d.rows(question)
		for range 3 {
			p.want(question, want)
			if blind.rows(question) != want {
				wrong++
			}
		}
	}
	if wrong == 0 {
		t.Error("without settings in the key no answer was another client's: the cases show nothing")
	}
}
