package gateway_test

import (
	"strings"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// behind are changes that nobody tells the gateway of, and what undoes each. @ is the
// materialization of bars_1d.
var behind = []struct{ name, do, undo string }{
	{"a column replaced by another", "ALTER TABLE bars RENAME price TO worse; ALTER TABLE bars RENAME better TO price", "ALTER TABLE bars RENAME price TO better; ALTER TABLE bars RENAME worse TO price"},
	{"two columns of the table exchanged", "ALTER TABLE bars RENAME symbol TO x; ALTER TABLE bars RENAME other TO symbol; ALTER TABLE bars RENAME x TO other", "ALTER TABLE bars RENAME symbol TO x; ALTER TABLE bars RENAME other TO symbol; ALTER TABLE bars RENAME x TO other"},
	{"another table of the name", "ALTER TABLE bars RENAME TO gone; CREATE TABLE bars AS SELECT * FROM gone LIMIT 9", "DROP TABLE bars; ALTER TABLE gone RENAME TO bars"},
	{"the table of another schema", "CREATE SCHEMA aside; ALTER TABLE bars SET SCHEMA aside; CREATE VIEW bars AS SELECT * FROM aside.bars WHERE symbol = 'A'", "DROP VIEW bars; ALTER TABLE aside.bars SET SCHEMA public; DROP SCHEMA aside"},
	{"row security", "CREATE POLICY p ON bars USING (symbol = 'A'); ALTER TABLE bars ENABLE ROW LEVEL SECURITY; ALTER TABLE bars FORCE ROW LEVEL SECURITY", "ALTER TABLE bars DISABLE ROW LEVEL SECURITY; ALTER TABLE bars NO FORCE ROW LEVEL SECURITY; DROP POLICY p ON bars"},
	{"the right to read the table taken", "REVOKE SELECT ON bars FROM reader", "GRANT SELECT ON bars TO reader"},
	{"the right to read a column left", "REVOKE SELECT ON bars FROM reader; GRANT SELECT (timestamp, symbol) ON bars TO reader", "GRANT SELECT ON bars TO reader"},
	{"the right to read the aggregate taken", "REVOKE SELECT ON @ FROM reader", "GRANT SELECT ON @ TO reader"},
	{"the aggregate dropped", "CREATE TABLE held AS SELECT * FROM _timescaledb_catalog.continuous_agg; DELETE FROM _timescaledb_catalog.continuous_agg", "INSERT INTO _timescaledb_catalog.continuous_agg SELECT * FROM held; DROP TABLE held"},
}

// TestWhatChangesBehindTheGatewayIsSeenInTheSnapshotThatReads: names, types, rights and
// aggregates that are others since the gateway read the catalog give the server's answers
// and errors, under the server's description.
func TestWhatChangesBehindTheGatewayIsSeenInTheSnapshotThatReads(t *testing.T) {
	b := newConcurrentBed(t, true)
	if b.real {
		t.Log("a given server's aggregates are not taken apart")
		return
	}
	other := doing(b.connect(t))
	held := b.aggregates[1].held
	all := func(text string) {
		t.Helper()
		for _, sql := range strings.Split(strings.ReplaceAll(text, "@", held), "; ") {
			if err := each(other, sql); err != nil {
				t.Fatal(err)
			}
		}
		if err := each(other, "RESET ROLE"); err != nil {
			t.Fatal(err)
		}
	}
	all("ALTER TABLE bars ADD better bigint; ALTER TABLE bars ADD other text")
	all("CREATE ROLE reader; GRANT SELECT ON bars, @ TO reader")
	t.Cleanup(func() { all("DROP OWNED BY reader; DROP ROLE reader") })
	_, addr := serve(t, b.dsn, gateway.Options{Pool: pool.Options{Size: 2}, NewLoader: b.loader, AlwaysRoute: true, CatalogEvery: time.Hour})
	on, off := dial(t, addr, b.dsn), direct(t, b.dsn)
	const sql = "SELECT symbol, count(*), max(price), sum(volume) FROM bars GROUP BY symbol ORDER BY symbol"
	for _, p := range []*peer{on, off} {
		p.must("SET ROLE reader")
	}
	ask := func(p *peer, how string) (reply []string, route string) {
		messages, _ := asks(sql, nil, "text")
		switch how {
		case "simple":
			messages = []message{simple(sql)}
		case "in a transaction":
			p.must("BEGIN")
			defer p.must("ROLLBACK")
		}
		p.send(messages...)
		reply = p.reply(1)
		if p == on && p.tx != 'E' {
			route = p.route()
		}
		return reply, route
	}
	routed := func(how string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			if _, route := ask(on, how); strings.HasPrefix(route, "rewrite aggregate bars_1d") {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: not routed: %s", how, route)
			}
		}
	}
	for _, c := range behind {
		for _, how := range []string{"simple", "text", "in a transaction"} {
			routed(how)
			all(c.do)
			got, route := ask(on, how)
			want, _ := ask(off, how)
			if strings.Join(got, "\n") != strings.Join(want, "\n") || strings.HasPrefix(route, "rewrite") {
				t.Errorf("%s, %s, %s:\ngot  %q\nwant %q", c.name, how, route, got, want)
			}
			all(c.undo)
		}
	}
}
