package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	declareHourly = "DECLARE c CURSOR FOR " + hourly
	probed        = `FETCH 1 IN "c"; MOVE BACKWARD ALL IN "c"`
)

// cursorUsual are the usual answers to what is asked for a cursor, of which a case
// exchanges some.
func cursorUsual() map[string]replies {
	usual := withinUsual()
	for what, r := range map[string]replies{
		"describe rewritten": {&pgproto3.ParseComplete{}, &pgproto3.ParameterDescription{}, columnsOf(17200), ready('T')},
		"savepoint and lock": {complete("SAVEPOINT"), complete("LOCK TABLE"), ready('T')},
		"rewritten":          {&pgproto3.NoData{}, complete("DECLARE CURSOR")},
		probed:               {columnsOf(17200), row("a", "1", "2"), complete("FETCH 1"), complete("MOVE 0"), ready('T')},
		declareHourly:        {complete("DECLARE CURSOR"), ready('T')},
		"FETCH 2 FROM c":     {columnsOf(17200), row("a", "1", "2"), row("b", "3", "4"), complete("FETCH 2"), ready('T')},
		"CLOSE c":            {complete("CLOSE CURSOR"), ready('T')},
	} {
		usual[what] = r
	}
	return usual
}

var (
	cursorDescribed = []string{"BEGIN", beginWithin, "describe", undoWithin, beginWithin, "describe rewritten", undoWithin}
	cursorProbed    = append(slices.Clone(cursorDescribed), "savepoint and lock", "rewritten", probed)
	cursorDeclared  = append(slices.Clone(cursorProbed), endWithin)
	cursorUndone    = append(slices.Clone(cursorProbed), undoWithin, declareHourly)
	declaredWell    = []string{"complete DECLARE CURSOR", "ready T"}
)

// TestACursorIsDeclaredInOrder holds the order of what the server is asked for a cursor
// and what the client is told, whatever fails on the way.
func TestACursorIsDeclaredInOrder(t *testing.T) {
	behind := map[string]replies{"rewritten": {failure("25P02")}, probed: failedTx}
	for _, c := range []struct {
		name    string
		answers []map[string]replies
		asked   []string
		want    []string
		ends    bool // the connection is lost
		route   string
	}{
		{name: "proven", asked: cursorDeclared, want: declaredWell, route: "rewrite aggregate market_data_1h"},
		{
			name: "no row says nothing", answers: []map[string]replies{{probed: {columnsOf(17200), complete("FETCH 0"), complete("MOVE 0"), ready('T')}}},
			asked: cursorUndone, want: declaredWell, route: "pass not_fresh market_data_1h",
		},
		{
			name: "the lock is not had", answers: []map[string]replies{{"savepoint and lock": {complete("SAVEPOINT"), failure("55P03"), ready('E')}}, behind},
			asked: cursorUndone, want: declaredWell, route: "pass rewrite_failed market_data_1h",
		},
		{
			name: "an error of the declaration", answers: []map[string]replies{{"rewritten": {failure("42P03")}, probed: failedTx}},
			asked: cursorUndone, want: declaredWell, route: "pass rewrite_failed market_data_1h",
		},
		{
			name: "an error of the first row", answers: []map[string]replies{{probed: {columnsOf(17200), failure("22012"), ready('E')}}},
			asked: cursorUndone, want: declaredWell, route: "pass rewrite_failed market_data_1h",
		},
		{
			name: "an error of both", answers: []map[string]replies{{"rewritten": {failure("42P03")}, probed: failedTx, declareHourly: {failure("42P03"), ready('E')}}},
			asked: cursorUndone, want: []string{"ERROR 42P03 failed", "ready E"},
		},
		{
			name: "a cancel that meets the lock", answers: []map[string]replies{{"savepoint and lock": {complete("SAVEPOINT"), failure("57014"), ready('E')}}, behind},
			asked: cursorProbed, want: []string{"ERROR 57014 failed", "ready E"},
		},
		{
			name: "a cancel that meets the first row", answers: []map[string]replies{{probed: {columnsOf(17200), failure("57014"), ready('E')}}},
			asked: cursorProbed, want: []string{"ERROR 57014 failed", "ready E"},
		},
		{
			name: "an original that cannot be described", answers: []map[string]replies{{"describe": {failure("42883"), ready('E')}, declareHourly: {failure("42883"), ready('E')}}},
			asked: append(slices.Clone(cursorDescribed[:4]), declareHourly), want: []string{"ERROR 42883 failed", "ready E"},
		},
		{
			name: "other columns", answers: []map[string]replies{{"describe rewritten": {&pgproto3.ParseComplete{}, &pgproto3.ParameterDescription{}, &pgproto3.RowDescription{Fields: columnsOf(1).Fields[:2]}, ready('T')}}},
			asked: append(slices.Clone(cursorDescribed), declareHourly), want: declaredWell, route: "pass not_described market_data_1h",
		},
		{name: "the server ends while it describes", answers: []map[string]replies{{"describe rewritten": hangUp}}, asked: cursorDescribed[:6], ends: true},
		{name: "the server ends with the lock", answers: []map[string]replies{{"savepoint and lock": hangUp}}, asked: cursorProbed[:8], ends: true},
		{name: "the server ends with the first row", answers: []map[string]replies{{probed: hangUp}}, asked: cursorProbed, ends: true},
		{name: "the server ends with the savepoint", answers: []map[string]replies{{endWithin: hangUp}}, asked: cursorDeclared, ends: true},
	} {
		for _, protocol := range []string{"simple", "extended", "in one text"} {
			t.Run(c.name+", "+protocol, func(t *testing.T) {
				answers := cursorUsual()
				for _, exchanged := range c.answers {
					for what, r := range exchanged {
						answers[what] = r
					}
				}
				asked, want := slices.Clone(c.asked), slices.Clone(c.want)
				failed := c.ends || strings.HasPrefix(c.want[0], "ERROR")
				switch protocol {
				case "extended":
					if last := len(asked) - 1; asked[last] == declareHourly {
						asked[last] += ", extended"
						r := answers[declareHourly]
						if _, ok := r[0].(*pgproto3.ErrorResponse); !ok {
							r = append(replies{&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{}}, r...)
						}
						answers[asked[last]] = r
					}
					if !failed {
						want = append([]string{"ParseComplete", "BindComplete", "NoData"}, want...)
					}
				case "in one text":
					asked, want = inOneText(answers, asked, want, failed)
				}
				a := newActor(t, answers)
				g, addr, dsn := a.gateway()
				p := dial(t, addr, dsn)
				switch protocol {
				case "simple":
					p.must("BEGIN")
					p.send(simple(declareHourly))
				case "extended":
					p.must("BEGIN")
					p.send(group("", declareHourly)...)
				default:
					p.send(simple("BEGIN;" + declareHourly + ";FETCH 2 FROM c"))
				}
				got := p.reply(1)
				if c.ends {
					if n := len(got); n < 2 || !strings.HasPrefix(got[n-2], "FATAL 08006") || got[n-1] != "end of the connection" {
						t.Errorf("the client got %q", got)
					}
				} else if !slices.Equal(got, want) {
					t.Errorf("the client got\n%q, want\n%q", got, want)
				}
				a.mu.Lock()
				if !slices.Equal(a.asked, asked) {
					t.Errorf("the server was asked\n%q, want\n%q", a.asked, asked)
				}
				a.mu.Unlock()
				if c.ends {
					nothingHeld(t, g)
					return
				}
				if c.route != "" && protocol != "in one text" {
					if route := p.route(); route != c.route {
						t.Errorf("last_route is %q, want %q", route, c.route)
					}
				}
				if !failed {
					p.send(simple("FETCH 2 FROM c"))
					if got, want := p.reply(1)[0], described(strings.HasPrefix(c.route, "rewrite")); got != want {
						t.Errorf("FETCH gives %q, want %q", got, want)
					}
					p.must("CLOSE c")
				}
				p.must("ROLLBACK")
				nothingHeld(t, g)
			})
		}
	}
}

// described are the columns of a cursor as its client sees them: only those of one that
// reads the aggregate are put in the place of the server's.
func described(routed bool) string {
	table := uint32(17200)
	if routed {
		table = 16500
	}
	head, _ := columnsOf(table).Encode(nil)
	return fmt.Sprintf("columns bucket,high,n %x", head)
}

// inOneText is what is asked and answered when BEGIN and FETCH are of the DECLARE's text:
// what is not answered yet goes on as the text's rest, with blanks before it.
func inOneText(answers map[string]replies, asked, want []string, failed bool) (askedThen, wantThen []string) {
	// Nothing is described inside a transaction that is not open yet.
	described := []string{"describe"}
	answers["describe"] = idleAfter(answers["describe"])
	answers["describe rewritten"] = idleAfter(answers["describe rewritten"])
	rest := asked[min(len(asked), 4):]
	if len(asked) > 5 && asked[5] == "describe rewritten" {
		described, rest = append(described, "describe rewritten"), asked[min(len(asked), 7):]
	}
	text := strings.Repeat(" ", len("BEGIN;")) + declareHourly + ";FETCH 2 FROM c"
	fetched := answers["FETCH 2 FROM c"]
	if len(rest) > 0 && rest[len(rest)-1] == declareHourly {
		rest = rest[:len(rest)-1]
		r := answers[declareHourly]
		if len(rest) == 0 { // the transaction was not begun
			text = "BEGIN;" + declareHourly + ";FETCH 2 FROM c"
			r = append(replies{complete("BEGIN")}, r...)
		}
		if !failed {
			r = append(slices.Clone(r[:len(r)-1]), fetched...)
		}
		answers[text] = r
		rest = append(slices.Clone(rest), text)
	} else if !failed {
		text = strings.Repeat(" ", len("BEGIN;"+declareHourly+";")) + "FETCH 2 FROM c"
		answers[text] = fetched
		rest = append(slices.Clone(rest), text)
	}
	askedThen = described
	answers["BEGIN;"] = answers["BEGIN"]
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "BEGIN;") {
		askedThen = append(askedThen, "BEGIN;")
	}
	askedThen = append(askedThen, rest...)
	wantThen = append([]string{"complete BEGIN"}, want...)
	if !failed {
		routed := strings.HasPrefix(strings.TrimLeft(text, " "), "FETCH")
		wantThen = append(wantThen[:len(wantThen)-1:len(wantThen)-1], describedRows(routed)...)
	}
	return askedThen, wantThen
}

func describedRows(routed bool) []string {
	return []string{described(routed), "row a|1|2", "row b|3|4", "complete FETCH 2", "ready T"}
}

// idleAfter are replies outside of a transaction.
func idleAfter(r replies) replies {
	r = slices.Clone(r)
	if _, ok := r[len(r)-1].(*pgproto3.ReadyForQuery); ok {
		r[len(r)-1] = ready('I')
	}
	return r
}
