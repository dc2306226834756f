package gateway_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestStatementsOfSQLDoNotPinAndStayTheirClients has two clients use the same names
// in turn over one server connection.
func TestStatementsOfSQLDoNotPinAndStayTheirClients(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema)
	g, a, b := handOver(t, dsn)
	a.must("PREPARE q AS SELECT 'a'")
	b.want("EXECUTE q", "26000")
	b.must("PREPARE q AS SELECT 'b'")
	for range 3 {
		a.want("EXECUTE q", "a")
		b.want("EXECUTE q", "b")
	}
	a.must("PREPARE sole AS SELECT 'only a'")
	b.want("EXECUTE sole", "26000")
	b.extended(closing('S', "sole"), endGroup)
	b.want("DEALLOCATE sole", "26000")
	a.want("EXECUTE sole", "only a")
	b.want("SELECT string_agg(name, ',') FROM pg_prepared_statements", "q")
	a.want("SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements", "q,sole")
	// Code that is not known must not see them, nor miss its own.
	b.want("DO $$ BEGIN EXECUTE 'EXECUTE sole'; END $$", "26000")
	b.must("DISCARD ALL")
	a.must("DO $$ BEGIN EXECUTE 'EXECUTE sole'; END $$")
	a.must("DISCARD ALL")
	for _, p := range []*peer{a, b} {
		if got := p.pins(); got != "" {
			t.Errorf("pinned by %s", got)
		}
		p.send(&pgproto3.Terminate{})
	}
	settled(t, g)
}

// TestAStatementThatCannotBePreparedAgainFailsOnce has its table go meanwhile.
func TestAStatementThatCannotBePreparedAgainFailsOnce(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE TABLE gone (x int)")
	_, a, b := handOver(t, dsn)
	a.must("PREPARE q AS SELECT * FROM gone")
	b.must("PREPARE q AS SELECT 1") // takes the name on the connection
	b.must("DROP TABLE gone")
	if got := a.query("EXECUTE q"); len(got) != 2 || rowsOf(got) != "42P01" {
		t.Errorf("got %q", got)
	}
	a.must("CREATE TABLE gone (x int)")
	a.want("EXECUTE q", "")
	a.want("DEALLOCATE q", "")
	a.want("EXECUTE q", "26000")
}

// TestManyNamesOfManyClients has more of them than a connection keeps.
func TestManyNamesOfManyClients(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	a, b := dial(t, addr, dsn), dial(t, addr, dsn)
	for i := range 300 {
		a.must(fmt.Sprintf("PREPARE s%d AS SELECT %d", i, i))
	}
	b.want("SELECT count(*) FROM pg_prepared_statements", "0")
	for _, i := range []int{0, 150, 299} {
		a.want(fmt.Sprintf("EXECUTE s%d", i), fmt.Sprint(i))
		b.want(fmt.Sprintf("EXECUTE s%d", i), "26000")
	}
	a.want("SELECT count(*) FROM pg_prepared_statements", "300")
}

// TestADeallocatedStatementIsGoneFromEveryConnection has a client whose statement is
// on both server connections end it on one.
func TestADeallocatedStatementIsGoneFromEveryConnection(t *testing.T) {
	dsn := nativeDatabase(t, stateSchema)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	var peers [3]*peer
	for i := range peers {
		p, err := login(t, addr, dsn, pgproto3.ProtocolVersion30)
		if err != nil {
			t.Fatal(err)
		}
		peers[i] = p
	}
	a, x, y := peers[0], peers[1], peers[2]
	// each calls what with either connection as the only free one.
	each := func(what func()) {
		x.must("BEGIN")
		y.must("BEGIN")
		for _, p := range []*peer{x, y} {
			p.must("COMMIT")
			what()
			p.must("BEGIN")
		}
		x.must("COMMIT")
		y.must("COMMIT")
	}
	a.must("PREPARE q AS SELECT 'old'")
	each(func() { a.want("EXECUTE q", "old") })
	a.must("DEALLOCATE q")
	each(func() { a.want("EXECUTE q", "26000") })
	a.must("PREPARE q AS SELECT 'older'")
	each(func() { a.want("EXECUTE q", "older") })
	a.must("DEALLOCATE q")
	a.must("PREPARE q AS SELECT 'new'")
	each(func() { a.want("EXECUTE q", "new") })
	a.must("DEALLOCATE ALL")
	each(func() { a.want("EXECUTE q", "26000") })
}

// What comes behind the end of a failed transaction, in one text with it, runs, but
// nothing can be sent ahead of it: it gets nothing of another client's.
func TestATextThatEndsAFailedTransactionGetsNothingOfAnotherClients(t *testing.T) {
	dsn := nativeDatabase(t, "CREATE SEQUENCE one; CREATE SEQUENCE two START 50")
	_, a, b := handOver(t, dsn)
	b.must("PREPARE q AS SELECT 'b'")
	b.must("SELECT nextval('one')")
	fail := func() {
		a.must("BEGIN")
		a.want("SELECT 1/0", "22012")
	}
	for _, text := range []string{
		"ROLLBACK; EXECUTE q", "ROLLBACK; SELECT name FROM pg_prepared_statements", "ROLLBACK; DO $$ BEGIN EXECUTE 'EXECUTE q'; END $$",
		"ROLLBACK; SELECT lastval()",
	} {
		fail()
		a.want(text, "0A000")
		a.want("SELECT 1", "25P02")
		a.want("ROLLBACK; SELECT 2", "2")
	}
	fail()
	a.want("ROLLBACK; SELECT nextval('two')", "50")
	b.want("SELECT lastval()", "55000")
	b.want("EXECUTE q", "b")
	fail()
	a.must("ROLLBACK")
	a.want("EXECUTE q", "26000")
}
