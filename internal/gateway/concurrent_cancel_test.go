package gateway_test

import (
	"strings"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestACancelOfARewrittenStatementIsTheClients: somebody holds what the
// proof reads, and the client cancels while the gateway's own messages wait for it. The statement and
// its transaction end as those of the original would, and the next is answered.
func TestACancelOfARewrittenStatementIsTheClients(t *testing.T) {
	bed := newConcurrentBed(t, true)
	g, addr := serve(t, bed.dsn, gateway.Options{Pool: pool.Options{Size: 2}, NewLoader: bed.loader, AlwaysRoute: true, CatalogEvery: time.Hour})
	p, holder := dial(t, addr, bed.dsn), direct(t, bed.dsn)
	question := barQuestions[1]
	want := answerOf(holder.query(question))
	// A cancel that was sent again may come after the answer to the one before.
	later := func(sql string) (got []string) {
		for got = p.query(sql); rowsOf(got) == "57014"; got = p.query(sql) {
			p.query("ROLLBACK")
		}
		return got
	}
	for _, c := range []struct {
		before, sql string
		open        bool
	}{
		{"", question, false},
		{"BEGIN", question, true},
		{"BEGIN", "DECLARE c CURSOR FOR " + question, true},
		{"", "BEGIN;DECLARE c CURSOR FOR " + question + ";FETCH ALL FROM c", true},
	} {
		ask := func() {
			if c.before != "" {
				later(c.before)
			}
			p.send(simple(c.sql))
		}
		for deadline := time.Now().Add(patience); ; {
			ask()
			p.reply(1)
			route := p.route()
			p.must("ROLLBACK")
			if strings.HasPrefix(route, "rewrite aggregate bars_1d") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not routed: %s", c.sql, route)
			}
		}
		holder.must("BEGIN; LOCK TABLE _timescaledb_catalog.continuous_aggs_watermark IN ACCESS EXCLUSIVE MODE")
		ask()
		if got := cancelled(t, addr, p); got != "57014" {
			t.Errorf("%s: got %.300q", c.sql, got)
		}
		holder.must("ROLLBACK")
		if c.open != (p.tx == 'E') {
			t.Errorf("%s: the transaction's status is %c", c.sql, p.tx)
		}
		for p.tx != 'I' {
			later("ROLLBACK")
		}
		if got := answerOf(later(question)); got != want {
			t.Errorf("%s: asked again: got %.300s", c.sql, got)
		}
	}
	nothingHeld(t, g)
}
