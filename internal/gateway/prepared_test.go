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

// message is a frontend message, shorter.
type message = pgproto3.FrontendMessage

func parse(name, sql string, oids ...uint32) message {
	return &pgproto3.Parse{Name: name, Query: sql, ParameterOIDs: oids}
}

func bind(portal, name string, args ...string) message {
	b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name}
	for _, a := range args {
		b.Parameters = append(b.Parameters, []byte(a))
	}
	return b
}

func describe(kind byte, name string) message {
	return &pgproto3.Describe{ObjectType: kind, Name: name}
}

func closing(kind byte, name string) message { return &pgproto3.Close{ObjectType: kind, Name: name} }

func runPortal(portal string, rows uint32) message {
	return &pgproto3.Execute{Portal: portal, MaxRows: rows}
}
func simple(sql string) message { return &pgproto3.Query{String: sql} }

var endGroup message = &pgproto3.Sync{}

// longName is a name of which the server keeps the first 63 bytes.
var longName = strings.Repeat("n", 80)

// dialogues are conversations by the extended protocol that must look the same as
// with the server itself. Every step ends in one ReadyForQuery; between the steps
// other clients prepare the same names with other texts.
var dialogues = []struct {
	name  string
	steps [][]message
}{
	{"the unnamed statement lives until the next one", [][]message{
		{parse("", "SELECT 1 AS a"), endGroup},
		{bind("", ""), runPortal("", 0), endGroup},
		{describe('S', ""), endGroup},
		{bind("", ""), runPortal("", 0), endGroup},
		{parse("", "SELECT bad"), endGroup},
		{bind("", ""), runPortal("", 0), endGroup},
		{parse("", "SELECT $1::int + 1"), endGroup},
		{bind("", "", "41"), describe('P', ""), runPortal("", 0), endGroup},
		{closing('S', ""), endGroup},
		{bind("", "", "41"), runPortal("", 0), endGroup},
		{parse("", "SELECT 2"), endGroup},
		{simple("SELECT 3")},
		{bind("", ""), runPortal("", 0), endGroup},
	}},
	{"named statements", [][]message{
		{parse("s", "SELECT $1::int AS n"), describe('S', "s"), endGroup},
		{bind("", "s", "1"), runPortal("", 0), endGroup},
		{parse("s", "SELECT 'another'"), endGroup},
		{bind("", "s", "2"), describe('P', ""), runPortal("", 0), endGroup},
		{closing('S', "s"), endGroup},
		{bind("", "s", "3"), runPortal("", 0), endGroup},
		{parse("s", "SELECT 'another'"), bind("", "s"), runPortal("", 0), endGroup},
		{closing('S', "s"), parse("s", "SELECT 'third'"), bind("", "s"), runPortal("", 0), endGroup},
		{parse("t", "SELECT no_column"), endGroup},
		{bind("", "t"), runPortal("", 0), endGroup},
		{parse("t", "SELECT 4"), bind("", "nothing"), parse("u", "SELECT 5"), endGroup},
		{describe('S', "t"), endGroup},
		{describe('S', "u"), endGroup},
		{bind("", "s", "too", "many"), endGroup},
		{describe('S', "_qvpgw_1"), endGroup},
	}},
	{"names longer than the server tells them by", [][]message{
		{parse(longName, "SELECT 1"), bind(longName, longName), describe('P', longName), runPortal(longName[:63], 0), endGroup},
		{bind("", longName[:63]), runPortal("", 0), endGroup},
		{parse(longName[:63], "SELECT 2"), endGroup},
		{simple("EXECUTE " + longName)},
		{simple("DEALLOCATE " + longName[:63])},
		{bind("", longName), runPortal("", 0), endGroup},
		{parse(longName, "SELECT 3"), endGroup},
		{closing('S', longName[:70]), endGroup},
		{bind("", longName[:63]), runPortal("", 0), endGroup},
		{simple("PREPARE " + longName + " AS SELECT 4")},
		{bind("", longName), runPortal("", 0), endGroup},
	}},
	{"DEALLOCATE and EXECUTE", [][]message{
		{parse("s", "SELECT 1"), endGroup},
		{simple("DEALLOCATE s")},
		{bind("", "s"), runPortal("", 0), endGroup},
		{parse("s", "SELECT 2"), endGroup},
		{parse("", "DEALLOCATE s"), bind("", ""), describe('P', ""), runPortal("", 0), endGroup},
		{bind("", "s"), runPortal("", 0), endGroup},
		{parse("s", "SELECT 3"), endGroup},
		{simple("DEALLOCATE ALL")},
		{describe('S', "s"), endGroup},
		{parse("s", "SELECT 4"), endGroup},
		{simple("DISCARD ALL")},
		{bind("", "s"), runPortal("", 0), endGroup},
		{simple("PREPARE s AS SELECT 5")},
		{bind("", "s"), describe('P', ""), runPortal("", 0), endGroup},
		{closing('S', "s"), endGroup},
		{simple("EXECUTE s")},
		{simple("DEALLOCATE s")},
	}},
	{"messages behind a Sync, in its packet", [][]message{
		{parse("", "SELECT 1/0"), bind("p", ""), runPortal("p", 2), endGroup, closing('P', "p")},
		{simple("SELECT 1")},
		{parse("s", "SELECT 2"), endGroup, parse("t", "SELECT 3"), bind("", "t")},
		{runPortal("", 0), endGroup, bind("", "s")},
		{runPortal("", 0), endGroup},
	}},
	{"transactions and errors", [][]message{
		{parse("b", "BEGIN"), bind("", "b"), runPortal("", 0), endGroup},
		{parse("s", "SELECT 1"), endGroup},
		{parse("", "SELECT 1/0"), bind("", ""), runPortal("", 0), bind("", "s"), runPortal("", 0), endGroup},
		{bind("", "s"), runPortal("", 0), endGroup},
		{parse("t", "SELECT 2"), endGroup},
		{simple("ROLLBACK")},
		{bind("", "s"), runPortal("", 0), endGroup},
		{bind("", "t"), runPortal("", 0), endGroup},
	}},
	{"portals and row limits", [][]message{
		{parse("s", "SELECT generate_series(1, 5)"), bind("p", "s"), runPortal("p", 2), runPortal("p", 2), runPortal("p", 2), endGroup},
		{runPortal("p", 2), endGroup},
		{simple("BEGIN")},
		{bind("p", "s"), runPortal("p", 2), endGroup},
		{describe('P', "p"), runPortal("p", 2), endGroup},
		{closing('P', "p"), runPortal("p", 2), endGroup},
		{simple("COMMIT")},
		{describe('P', "p"), endGroup},
	}},
	{"several statements in one group", [][]message{
		{parse("", "SELECT 1"), bind("", ""), runPortal("", 0), parse("", "SELECT 2"), bind("", ""), runPortal("", 0), endGroup},
		{parse("a", "SELECT 1"), parse("b", "SELECT 2"), bind("x", "a"), bind("y", "b"), runPortal("y", 0), runPortal("x", 0), endGroup},
		{bind("", "a"), runPortal("", 0), bind("", "b"), runPortal("", 0), parse("", "SELECT 1/0"), bind("", ""), runPortal("", 0), endGroup},
		{parse("", ""), bind("", ""), runPortal("", 0), endGroup},
		{parse("", "SELECT 1; SELECT 2"), endGroup},
		{parse("", "SET work_mem = '5MB'"), bind("", ""), runPortal("", 0), parse("", "SHOW work_mem"), bind("", ""), runPortal("", 0), endGroup},
		{simple("SHOW work_mem")},
	}},
	{"one name space", [][]message{
		{parse("p", "SELECT $1::int + 1"), endGroup},
		{simple("EXECUTE p(41)")},
		{simple("PREPARE q (text) AS SELECT 'q' || $1")},
		{bind("", "q", "!"), describe('P', ""), runPortal("", 0), endGroup},
		{describe('S', "q"), endGroup},
		{simple("SELECT name, statement, parameter_types::text, from_sql FROM pg_prepared_statements ORDER BY name")},
		{simple("SELECT name FROM pg_prepared_statement() ORDER BY name")},
		{parse("q", "SELECT 'taken'"), endGroup},
		{simple("PREPARE p AS SELECT 'taken'")},
		{simple("EXECUTE q('?')")},
		{parse("", "EXECUTE p(1)"), describe('S', ""), bind("", ""), describe('P', ""), runPortal("", 0), endGroup},
		{parse("e", "EXECUTE q($1)"), endGroup},
		{simple("EXPLAIN (COSTS OFF) EXECUTE q('x')")},
		{simple("BEGIN")},
		{simple("EXECUTE p(2)")},
		{simple("PREPARE r AS SELECT 'r'")},
		{simple("ROLLBACK")},
		{simple("EXECUTE r")},
		{closing('S', "r"), endGroup},
		{simple("EXECUTE r")},
		{simple("DEALLOCATE p")},
		{simple("EXECUTE p(3)")},
		{bind("", "p", "4"), runPortal("", 0), endGroup},
		{simple("SELECT count(*) FROM pg_prepared_statements")},
		{parse("", "PREPARE x AS SELECT 'x'"), bind("", ""), runPortal("", 0), endGroup},
		{parse("", "EXECUTE x"), bind("", ""), runPortal("", 0), endGroup},
		{simple("PREPARE bad AS SELECT no_column")},
		{simple("EXECUTE bad")},
		{simple("EXECUTE q")},
		{simple("EXECUTE q(1, 2)")},
		{simple("DEALLOCATE ALL")},
		{simple("EXECUTE q('gone')")},
		{simple("EXECUTE x")},
	}},
	{"names in a failed transaction", [][]message{
		{simple("PREPARE q AS SELECT 1")},
		{parse("p", "SELECT 2"), endGroup},
		{simple("BEGIN")},
		{simple("SELECT 1/0")},
		{simple("EXECUTE q")},
		{simple("DEALLOCATE p")},
		{simple("PREPARE r AS SELECT 3")},
		{simple("ROLLBACK")},
		{simple("EXECUTE q")},
		{simple("EXECUTE p")},
		{simple("EXECUTE r")},
		{simple("BEGIN; PREPARE s AS SELECT 4; EXECUTE s; EXECUTE p; COMMIT")},
		{simple("EXECUTE s")},
	}},
	{"statements that only the server knows of", [][]message{
		{simple("PREPARE m AS SELECT 1; PREPARE n AS SELECT 2")},
		{parse("p", "SELECT 3"), endGroup},
		{simple("SELECT name FROM pg_prepared_statements ORDER BY name")},
		{simple("EXECUTE m; EXECUTE n")},
		{bind("", "p"), runPortal("", 0), endGroup},
		{simple("DO $$ BEGIN EXECUTE 'PREPARE o AS SELECT 4'; END $$")},
		{parse("", "SELECT name FROM pg_prepared_statements ORDER BY name"), bind("", ""), runPortal("", 0), endGroup},
		{simple("EXECUTE o")},
		{bind("", "p"), runPortal("", 0), endGroup},
		{simple("DEALLOCATE p")},
		{simple("SELECT name FROM pg_prepared_statements ORDER BY name")},
	}},
	{"a name taken on another connection, in a failed transaction", [][]message{
		{simple("SELECT pg_advisory_lock_shared(77)")},
		{parse("p", "BEGIN"), describe('S', "p"), endGroup},
		{simple("SELECT name FROM pg_prepared_statements")},
		{simple("BEGIN")},
		{simple("SELECT 1/0")},
		{parse("p", "DISCARD SEQUENCES"), endGroup},
		{simple("ROLLBACK")},
		{bind("", "p"), runPortal("", 0), endGroup},
		{simple("COMMIT")},
	}},
	{"a look at them in a group that failed before", [][]message{
		{parse("p", "SELECT 1"), endGroup},
		{bind("", "p"), runPortal("", 0), endGroup},
		{
			parse("", "SELECT 1/0"), bind("", ""), runPortal("", 0),
			parse("", "SELECT name FROM pg_prepared_statements"), bind("", ""), runPortal("", 0), endGroup,
		},
		{bind("", "p"), runPortal("", 0), endGroup},
		{describe('S', "p"), endGroup},
		{parse("q", "SELECT name FROM pg_prepared_statements ORDER BY name"), endGroup},
		{parse("", "SELECT 1/0"), bind("", ""), runPortal("", 0), bind("", "q"), runPortal("", 0), bind("", "p"), endGroup},
		{bind("", "p"), runPortal("", 0), endGroup},
		{describe('S', "p"), endGroup},
	}},
	{"literals are read at PREPARE", [][]message{
		{simple("SET DateStyle = 'SQL, DMY'")},
		{simple("PREPARE d AS SELECT '02/01/2024'::date")},
		{simple("SET DateStyle = 'ISO, MDY'")},
		{simple("EXECUTE d")},
		{simple("EXECUTE d")},
		{simple("RESET ALL")},
		{simple("EXECUTE d")},
	}},
	{"our own settings", [][]message{
		{endGroup},
	}},
}

func TestPreparedStatementsAreTheClientsOwn(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 5}})
	for _, d := range dialogues {
		t.Run(d.name, func(t *testing.T) {
			server, client := direct(t, dsn), dial(t, addr, dsn)
			same, other := dial(t, addr, dsn), dial(t, addr, dsn)
			for i, step := range d.steps {
				want, got := server.extended(step...), client.extended(step...)
				if !slices.Equal(want, got) {
					t.Errorf("step %d:\ndirect  %q\ngateway %q", i, want, got)
				}
				// Another client says the same before this one goes on, and a third
				// has the same names with other texts.
				if again := same.extended(step...); !slices.Equal(want, again) {
					t.Errorf("step %d, a second client:\ndirect  %q\ngateway %q", i, want, again)
				}
				for _, name := range []string{"", "s", "t"} {
					if got := rowsOf(other.extended(append([]message{closing('S', name)}, group(name, "SELECT 'the other'")...)...)); got != "the other" {
						t.Errorf("step %d: the third client got %q for %q", i, got, name)
					}
				}
			}
			for _, p := range []*peer{server, client, same, other} {
				p.send(&pgproto3.Terminate{})
			}
		})
	}
}

// What is no message of COPY ends it, and the connection with it.
func TestAStatementAmidACopyEndsItAsOnTheServer(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE TABLE copied (a int)")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	data := &pgproto3.CopyData{Data: []byte("1\n")}
	for _, amid := range []message{simple("SELECT 1"), parse("", "SELECT 1"), closing('S', "s")} {
		for _, apart := range []bool{true, false} {
			got := map[string][]string{}
			for _, p := range []*peer{direct(t, dsn), dial(t, addr, dsn)} {
				list := []message{simple("COPY copied FROM STDIN"), data, endGroup, amid}
				if apart { // the client has heard that the server copies
					p.send(list[0])
					list, got[p.name] = list[1:], append(got[p.name], p.next())
				}
				p.send(list...)
				got[p.name] = append(got[p.name], p.reply(1)...)
			}
			if !slices.Equal(got["direct"], got["gateway"]) {
				t.Errorf("%T, apart %v:\ndirect  %q\ngateway %q", amid, apart, got["direct"], got["gateway"])
			}
		}
	}
	dial(t, addr, dsn).want("SELECT count(*) FROM copied", "0")
}

// The end of a failed transaction is prepared anew on a connection that has not seen
// it, after its client's settings changed: nothing else may be sent there.
func TestAFailedTransactionEndsOnAConnectionThatHasNotSeenItsCommit(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	p := dial(t, addr, dsn)
	p.extended(parse("c", "COMMIT"), endGroup)
	p.must("SET work_mem TO '7MB'")
	for limit := time.Now().Add(patience); p.pins() != "" && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		continue // it keeps its connection until the catalog has been read
	}
	run(t, dsn, "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()")
	for dial(t, addr, dsn).rows("SELECT 1") != "1" {
		t.Log("the dead connection was found by a client")
	}
	p.must("BEGIN")
	p.want("SELECT 1/0", "22012")
	want := []string{"BindComplete", "complete ROLLBACK", "ready I"}
	if got := p.extended(bind("", "c"), runPortal("", 0), endGroup); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLiteralsMeanWhatTheyMeantToTheClientThatWroteThem(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	const text = "SELECT '02/01/2024'::date::text, extract(month FROM '02/01/2024'::date)::int"
	day, month := dial(t, addr, dsn, "DateStyle=ISO, DMY"), dial(t, addr, dsn, "DateStyle=ISO, MDY")
	for range 2 {
		for _, c := range []struct {
			p    *peer
			want string
		}{{day, "2024-01-02|1"}, {month, "2024-02-01|2"}} {
			if c.p.params["seen"] == "" {
				c.p.extended(parse("s", text), endGroup)
				c.p.params["seen"] = "yes"
			}
			if got := rowsOf(c.p.extended(execute("s")...)); got != c.want {
				t.Errorf("prepared: got %q, want %q", got, c.want)
			}
			c.p.want(text, c.want)
			if got := rowsOf(c.p.extended(group("", text)...)); got != c.want {
				t.Errorf("unnamed: got %q, want %q", got, c.want)
			}
		}
	}

	t.Run("a setting of later does not change them", func(t *testing.T) {
		holder := dial(t, addr, dsn)
		for name, set := range map[string]string{"session": "SET DateStyle = 'ISO, DMY'", "transaction": "BEGIN; SET DateStyle = 'ISO, DMY'", "local": "BEGIN; SET LOCAL DateStyle = 'ISO, DMY'"} {
			p := dial(t, addr, dsn)
			p.extended(parse("late "+name, text+", '"+name+"'"), endGroup)
			p.must(set)
			// In the transactions it has the server connection of the Parse or the
			// other one: both are asked.
			for range 2 {
				if got := rowsOf(p.extended(execute("late " + name)...)); got != "2024-02-01|2|"+name {
					t.Errorf("%s: got %q", name, got)
				}
				p.must("ROLLBACK")
				holder.must("BEGIN") // takes the connection that p had, or makes p take the other
				p.must(set)
			}
			if got := rowsOf(p.extended(execute("late " + name)...)); got != "2024-02-01|2|"+name {
				t.Errorf("%s, on the other connection: got %q", name, got)
			}
			p.must("ROLLBACK")
			holder.must("ROLLBACK")
			p.send(&pgproto3.Terminate{})
		}
	})
	t.Run("now is the moment of each client's Parse", func(t *testing.T) {
		a, b := dial(t, addr, dsn), dial(t, addr, dsn)
		const text = "SELECT extract(epoch FROM 'now'::timestamptz)"
		first := rowsOf(a.extended(group("n", text)...))
		time.Sleep(20 * time.Millisecond)
		second := rowsOf(b.extended(group("n", text)...))
		if first >= second {
			t.Errorf("the second client has %s, the first had %s", second, first)
		}
		if again := rowsOf(a.extended(execute("n")...)); again != first {
			t.Errorf("the first client now has %s, it had %s", again, first)
		}
	})
}

// Trap T5: the server analyses a statement anew when a table of it changes, and reads
// its literals then with the settings of whoever executes it.
func TestT5AStatementAnalysedAnewForOneClientIsNotAnothers(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE TABLE moments (id int); INSERT INTO moments VALUES (1)")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	server := direct(t, dsn)
	one, other := dial(t, addr, dsn), dial(t, addr, dsn)
	const sql = "SELECT '02/01/2024'::date - date '2024-01-01' FROM moments"
	run := func(p *peer) string {
		return rowsOf(p.extended(bind("", "s"), runPortal("", 0), endGroup))
	}
	for _, p := range []*peer{one, other} {
		p.must("SET datestyle TO 'ISO, MDY'")
		p.extended(parse("s", sql), endGroup)
		if got := run(p); got != "31" {
			t.Fatalf("February the first is %q", got)
		}
	}
	one.must("SET datestyle TO 'ISO, DMY'")
	server.must("ALTER TABLE moments ADD COLUMN note text")
	run(one) // analysed anew: the second of January to this client, as it would be directly
	if got := run(other); got != "31" {
		t.Errorf("another client's February the first became %q", got)
	}
}

func TestMoreStatementsThanAServerConnectionKeeps(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	clients := []*peer{dial(t, addr, dsn), dial(t, addr, dsn)}
	const n = 300 // a connection keeps 256
	for _, c := range clients {
		var all []message
		for i := range n {
			all = append(all, parse(fmt.Sprint("s", i), fmt.Sprintf("SELECT %d + $1::int", i)))
		}
		for _, l := range c.extended(append(all, endGroup)...) {
			if l != "ParseComplete" && l != "ready I" {
				t.Fatalf("got %q", l)
			}
		}
	}
	for round := range 2 {
		for _, c := range clients {
			var all []message
			var want []string
			for i := range n {
				all = append(all, bind("", fmt.Sprint("s", i), fmt.Sprint(round)), runPortal("", 0))
				want = append(want, fmt.Sprint(i+round))
			}
			if got := rowsOf(c.extended(append(all, endGroup)...)); got != strings.Join(want, ";") {
				t.Fatalf("got %.200q", got)
			}
		}
	}
	if got := clients[0].rows("SELECT count(*) <= 256 FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource'"); got != "t" {
		t.Errorf("the server connection keeps more than 256 statements: %s", got)
	}
}
