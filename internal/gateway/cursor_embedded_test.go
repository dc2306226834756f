package gateway_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const daily = "SELECT time_bucket('1 day', timestamp) AS day, symbol, max(high) AS high, sum(volume) FROM market_data WHERE timestamp >= '2024-01-10 07:30' GROUP BY day, symbol ORDER BY day, symbol"

// withCursors are conversations in which a cursor is declared, and whether the last
// that could be is answered from an aggregate.
var withCursors = []struct {
	name  string
	route bool
	steps []message
}{
	{"in pieces", true, queries("BEGIN", "DECLARE c CURSOR FOR "+daily, "FETCH 3 FROM c", "FETCH FORWARD 20 IN c", "FETCH NEXT FROM c", "MOVE 5 IN c", "FETCH ALL FROM c", "FETCH c", "CLOSE c", "COMMIT")},
	{"forth and back", true, queries("BEGIN", "DECLARE c SCROLL CURSOR FOR "+daily, "FETCH BACKWARD 1 FROM c", "FETCH LAST FROM c", "FETCH PRIOR FROM c", "FETCH ABSOLUTE 4 FROM c", "FETCH RELATIVE -2 FROM c", "FETCH FIRST FROM c", "FETCH BACKWARD ALL FROM c", "FETCH FORWARD 2 FROM c", "MOVE BACKWARD ALL IN c", "FETCH 2 IN c", "COMMIT")},
	{"as psqlODBC asks", true, queries("BEGIN;declare \"SQL_CUR0x55\" cursor for "+daily+";fetch 100 in \"SQL_CUR0x55\"", "fetch 100 in \"SQL_CUR0x55\"", "close \"SQL_CUR0x55\"", "COMMIT")},
	{"as psqlODBC asks later", true, queries("BEGIN", "declare \"SQL_CUR0x55\" cursor for "+daily+";fetch 2 in \"SQL_CUR0x55\"; fetch 3 in \"SQL_CUR0x55\"", "COMMIT")},
	{"all in one", true, queries("START TRANSACTION; DECLARE c CURSOR FOR "+daily, "FETCH 2 FROM c", "ROLLBACK")},
	{"a name that needs quotes", true, queries("BEGIN", "DECLARE \"a \"\"b\" INSENSITIVE CURSOR WITHOUT HOLD FOR "+daily, "FETCH 2 FROM \"a \"\"b\"", "COMMIT")},
	{"binary", true, queries("BEGIN", "DECLARE c BINARY CURSOR FOR "+daily, "FETCH 2 FROM c", "COMMIT")},
	{"an error of a later statement of the text", false, queries("BEGIN;DECLARE c CURSOR FOR "+daily+"; FETCH 1 FROM d; FETCH 1 FROM c", "ROLLBACK")},
	{"savepoints", true, queries("BEGIN", "SAVEPOINT a", "DECLARE c CURSOR FOR "+daily, "FETCH 1 FROM c", "SAVEPOINT b", "FETCH 1 FROM c", "ROLLBACK TO b", "FETCH 1 FROM c", "ROLLBACK TO a", "FETCH 1 FROM c", "ROLLBACK")},
	{"a name that is taken", true, queries("BEGIN", "DECLARE c CURSOR FOR "+daily, "DECLARE c CURSOR FOR "+daily, "ROLLBACK")},
	{"a name that is given again", false, queries("BEGIN", "DECLARE c CURSOR FOR "+daily, "CLOSE c", "DECLARE c CURSOR FOR SELECT symbol, high FROM market_data ORDER BY timestamp, symbol LIMIT 3", "FETCH ALL FROM c", "COMMIT")},
	{"rows that do not change", true, queries("BEGIN", "DECLARE c CURSOR FOR "+daily, "UPDATE market_data SET volume = 0", "FETCH 5 FROM c", "SELECT sum(volume) FROM market_data", "FETCH 5 FROM c", "ROLLBACK")},
	{"a row that is not one", true, queries("BEGIN", "DECLARE c CURSOR FOR "+daily, "FETCH 1 FROM c", "DELETE FROM market_data WHERE CURRENT OF c", "ROLLBACK")},
	{"extended", true, []message{
		simple("BEGIN"),
		parse("", "DECLARE c CURSOR FOR "+daily), bind("", ""), describe('P', ""), runPortal("", 0), endGroup,
		parse("", "FETCH 2 FROM c"), &pgproto3.Bind{ResultFormatCodes: []int16{1}}, describe('P', ""), runPortal("", 0), endGroup,
		parse("f", "FETCH 3 FROM c"), describe('S', "f"), endGroup, bind("", "f"), describe('P', ""), runPortal("", 0), endGroup, bind("", "f"), runPortal("", 0), endGroup, closing('S', "f"), endGroup,
		simple("COMMIT"),
	}},
	{"parameters", true, []message{
		simple("BEGIN"),
		parse("d", "DECLARE c CURSOR FOR SELECT symbol, count(*), sum(volume) FROM market_data WHERE timestamp >= $1 AND symbol = $2 GROUP BY symbol"), describe('S', "d"), endGroup,
		bind("", "d", "2024-01-11 12:00+00", "SPY"), runPortal("", 0), endGroup,
		simple("FETCH ALL FROM c"), simple("ROLLBACK"), simple("DEALLOCATE d"),
	}},

	{"no rows", false, queries("BEGIN", "DECLARE c CURSOR FOR SELECT symbol, count(*) FROM market_data WHERE symbol = 'none' GROUP BY symbol", "FETCH ALL FROM c", "COMMIT")},
	{"held", false, queries("BEGIN", "DECLARE c CURSOR WITH HOLD FOR "+daily, "COMMIT", "FETCH 2 FROM c", "CLOSE c")},
	{"no scrolling", false, queries("BEGIN", "DECLARE c NO SCROLL CURSOR FOR "+daily, "FETCH 2 FROM c", "FETCH PRIOR FROM c", "ROLLBACK")},
	{"rows of its own", false, queries("BEGIN", "UPDATE market_data SET volume = 0", "DECLARE c CURSOR FOR "+daily, "FETCH 5 FROM c", "ROLLBACK")},
	{"another level", false, queries("BEGIN ISOLATION LEVEL REPEATABLE READ", "DECLARE c CURSOR FOR "+daily, "FETCH 5 FROM c", "ROLLBACK")},
	{"no transaction", false, queries("DECLARE c CURSOR FOR " + daily)},
	{"one after another statement", false, queries("BEGIN; SELECT 1; DECLARE c CURSOR FOR "+daily+"; FETCH 1 FROM c", "ROLLBACK")},
	{"a query that fails", false, queries("BEGIN;DECLARE c CURSOR FOR SELECT symbol, sum(nothing) FROM market_data GROUP BY symbol;FETCH 1 FROM c", "ROLLBACK")},
	{"a nested one", false, queries("BEGIN", "DECLARE c CURSOR FOR SELECT * FROM (SELECT symbol, max(high) AS h FROM market_data GROUP BY symbol) x ORDER BY h LIMIT 1", "FETCH ALL FROM c", "ROLLBACK")},
	{"a failed transaction", false, queries("BEGIN", "SELECT 1/0", "DECLARE c CURSOR FOR "+daily, "ROLLBACK")},
}

func queries(list ...string) (m []message) {
	for _, sql := range list {
		m = append(m, simple(sql))
	}
	return m
}

// converse sends the messages of each turn and returns the replies, and the route of
// the last DECLARE.
func (p *peer) converse(steps []message) (got []string, route string) {
	p.Helper()
	for len(steps) > 0 {
		n := slices.IndexFunc(steps, func(m message) bool {
			switch m.(type) {
			case *pgproto3.Query, *pgproto3.Sync:
				return true
			}
			return false
		}) + 1
		p.send(steps[:n]...)
		got = append(got, p.reply(1)...)
		if declares(steps[:n]) && got[len(got)-1] != "ready E" {
			route = p.route()
		}
		steps = steps[n:]
	}
	return got, route
}

func declares(turn []message) bool {
	return slices.ContainsFunc(turn, func(m message) bool {
		switch m := m.(type) {
		case *pgproto3.Query:
			return strings.Contains(strings.ToUpper(m.String), "CURSOR")
		case *pgproto3.Parse:
			return strings.Contains(m.Query, "DECLARE") && m.Name == ""
		case *pgproto3.Bind:
			return m.PreparedStatement == "d"
		}
		return false
	})
}

// cursorsAreTheDatabasesOwn holds the first n conversations with cursors against the
// database's own. Only of fresh aggregates it is known which are answered from one; it
// returns how many were.
func cursorsAreTheDatabasesOwn(t *testing.T, on, off *peer, when string, n int) (answered int) {
	t.Helper()
	for _, c := range withCursors[:n] {
		want, _ := off.converse(c.steps) // one after the other: the server has one session
		got, route := on.converse(c.steps)
		if !slices.Equal(got, want) {
			t.Errorf("%s, %s:\nrouted %.3000q\nraw    %.3000q", when, c.name, got, want)
		}
		routed := strings.HasPrefix(route, "rewrite aggregate market_data_1")
		if routed {
			answered++
		}
		if when == "fresh" && routed != c.route {
			t.Errorf("%s, %s: last_route is %q", when, c.name, route)
		}
	}
	return answered
}
