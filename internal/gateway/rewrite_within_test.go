package gateway_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

const (
	beginWithin = "SAVEPOINT qvpgw_rewritten"
	endWithin   = "RELEASE SAVEPOINT qvpgw_rewritten"
	undoWithin  = "ROLLBACK TO SAVEPOINT qvpgw_rewritten; RELEASE SAVEPOINT qvpgw_rewritten"
)

// withinUsual are the usual answers in a transaction that is open.
func withinUsual() map[string]replies {
	return map[string]replies{
		"BEGIN":     {complete("BEGIN"), ready('T')},
		"ROLLBACK":  {complete("ROLLBACK"), ready('I')},
		beginWithin: {complete("SAVEPOINT"), ready('T')},
		endWithin:   {complete("RELEASE"), ready('T')},
		undoWithin:  {complete("ROLLBACK"), complete("RELEASE"), ready('T')},
		"describe":  append(slices.Clone(usual()["describe"][:3]), ready('T')),
		"original":  {columnsOf(16500), row("raw", "1", "2"), complete("SELECT 1"), ready('T')},
	}
}

// TestARewrittenStatementInATransactionLeavesItAsItsOwnWould holds the order of what
// the server is asked, and what becomes of the transaction.
func TestARewrittenStatementInATransactionLeavesItAsItsOwnWould(t *testing.T) {
	described := []string{"BEGIN", beginWithin, "describe", undoWithin}
	tried := append(slices.Clone(described), beginWithin, "rewritten", endWithin)
	original := append(slices.Clone(tried), "original")
	undone := append(slices.Clone(tried), undoWithin, "original")
	fromRaw := []string{"row raw|1|2", "complete SELECT 1", "ready T"}
	head, _ := columnsOf(16500).Encode(nil)
	columns := fmt.Sprintf("columns bucket,high,n %x", head)
	for _, c := range []struct {
		name    string
		answers map[string]replies
		asked   []string
		want    []string
		route   string
	}{
		{
			name: "rows", asked: tried, route: "rewrite aggregate market_data_1h",
			want: []string{columns, "row a|1|2", "row b|3|4", "complete SELECT 2", "ready T"},
		},
		{
			name: "no row says nothing", answers: map[string]replies{"rewritten": {columnsOf(1), complete("SELECT 0")}},
			asked: original, want: append([]string{columns}, fromRaw...), route: "pass not_fresh market_data_1h",
		},
		{
			name: "an error before the first row", answers: map[string]replies{"rewritten": {columnsOf(1), failure("42501")}, endWithin: failedTx},
			asked: undone, want: append([]string{columns}, fromRaw...), route: "pass rewrite_failed market_data_1h",
		},
		{
			name: "an error after the first row", answers: map[string]replies{"rewritten": {columnsOf(1), row("a", "1", "2"), failure("22003")}, endWithin: failedTx},
			asked: tried, want: []string{columns, "row a|1|2", "ERROR 22003 failed", "ready E"},
		},
		{
			name: "a cancel", answers: map[string]replies{"rewritten": {columnsOf(1), failure("57014")}, endWithin: failedTx},
			asked: tried, want: []string{"ERROR 57014 failed", "ready E"},
		},
		{
			name: "an original that cannot be described", answers: map[string]replies{
				"describe": {failure("42883"), ready('E')}, "original": {failure("42883"), ready('E')},
			},
			asked: append(slices.Clone(described), "original"), want: []string{"ERROR 42883 failed", "ready E"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers := withinUsual()
			for what, r := range c.answers {
				answers[what] = r
			}
			a := newActor(t, answers)
			g, addr, dsn := a.gateway()
			p := dial(t, addr, dsn)
			p.must("BEGIN")
			p.send(simple(hourly))
			if got := p.reply(1); !slices.Equal(got, c.want) {
				t.Errorf("the client got\n%q, want\n%q", got, c.want)
			}
			a.mu.Lock()
			if !slices.Equal(a.asked, c.asked) {
				t.Errorf("the server was asked\n%q, want\n%q", a.asked, c.asked)
			}
			a.mu.Unlock()
			if route := p.route(); c.route != "" && route != c.route {
				t.Errorf("last_route is %q, want %q", route, c.route)
			}
			p.must("ROLLBACK")
			nothingHeld(t, g)
		})
	}
}

// A client that goes in the middle of an answer takes the server connection with it: what
// the gateway has asked besides is not answered yet, and would be told somebody else.
func TestAClientThatGoesAmidARewrittenAnswerLeavesNoReplies(t *testing.T) {
	gone := make(chan struct{})
	answers := withinUsual()
	later := pause(func() { time.Sleep(50 * time.Millisecond) })
	answers["rewritten"] = replies{
		columnsOf(1), row("a", "1", "2"), pause(func() { <-gone }), row("b", "3", "4"), later, row("c", "5", "6"), complete("SELECT 3"),
	}
	answers[endWithin] = append(replies{later}, answers[endWithin]...)
	a := newActor(t, answers)
	_, addr, dsn := a.gateway()
	p := dial(t, addr, dsn)
	p.must("BEGIN")
	p.send(simple(hourly))
	if _, err := p.conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = p.conn.(*net.TCPConn).SetLinger(0)
	_ = p.conn.Close()
	a.expect(map[string]replies{"SELECT 1": {row("one"), complete("SELECT 1"), ready('I')}})
	close(gone)
	for range 3 {
		dial(t, addr, dsn).want("SELECT 1", "one")
	}
}

// The same of a statement alone, before its client has got anything.
func TestAClientThatGoesBeforeItsRewrittenAnswerLeavesNoReplies(t *testing.T) {
	reached, gone := make(chan struct{}), make(chan struct{})
	answers := usual()
	whole := answers["rewritten"]
	answers["rewritten"] = replies{whole[0], pause(func() { close(reached); <-gone })}
	for _, m := range whole[1:] { // one after the other: some come when it is known that nobody is there
		answers["rewritten"] = append(answers["rewritten"], m, pause(func() { time.Sleep(20 * time.Millisecond) }))
	}
	a := newActor(t, answers)
	_, addr, dsn := a.gateway()
	p := dial(t, addr, dsn)
	p.send(simple(hourly))
	<-reached
	_ = p.conn.(*net.TCPConn).SetLinger(0)
	_ = p.conn.Close()
	a.expect(map[string]replies{"SELECT 1": {row("one"), complete("SELECT 1"), ready('I')}})
	close(gone)
	for range 3 {
		dial(t, addr, dsn).want("SELECT 1", "one")
	}
}
