package gateway_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// clientPins are the pins of the only client.
func clientPins(t *testing.T, g *gateway.Server) []string {
	t.Helper()
	list := g.Clients()
	if len(list) != 1 {
		t.Fatalf("%d clients are there, wanted one", len(list))
	}
	return list[0].Pins
}

func TestAStatementThatNeverRanDoesNotPin(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	c := mustDial(t, addr, dsn)
	for _, sql := range []string{
		"no statement at all", "SELECT * FROM no_such_table", "INSERT INTO no_such_table VALUES (1)",
	} {
		if err := exec(c, sql); err == nil {
			t.Errorf("%q did not fail", sql)
		}
		if res := c.ExecParams(t.Context(), sql, nil, nil, nil, nil).Read(); res.Err == nil {
			t.Errorf("%q did not fail", sql)
		}
		if pins := clientPins(t, g); len(pins) > 0 {
			t.Errorf("after %q the client is pinned by %v", sql, pins)
		}
		wantWhole(t, g)
	}
}

func TestAPinStaysWhenALaterStatementNeverRan(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, tortureSchema)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	c := mustDial(t, addr, dsn)
	if err := exec(c, "SELECT pg_advisory_lock(1), torture_tenant('mine')"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"no statement at all", "SELECT torture_tenant('x') FROM no_such_table"} {
		if err := exec(c, sql); err == nil {
			t.Errorf("%q did not fail", sql)
		}
	}
	// The first of two statements ran, the second could not be read.
	if res := c.ExecParams(t.Context(), "no statement", nil, nil, nil, nil).Read(); res.Err == nil {
		t.Error("a statement that is none did not fail")
	}
	if pins := clientPins(t, g); len(pins) != 1 || pins[0] != "advisory" {
		t.Errorf("the client is pinned by %v, wanted advisory", pins)
	}
	rows, err := c.Exec(t.Context(), "SELECT current_setting('torture.tenant')").ReadAll()
	if err != nil || string(rows[0].Rows[0][0]) != "mine" {
		t.Errorf("its setting is gone: %v", err)
	}
}

// gated is a catalog that is read only when it is let, by a query of the pool.
type gated struct{ open atomic.Bool }

func (l *gated) loader() gateway.LoadFunc {
	load := wholeLoader()
	return func(query gateway.QueryFunc, last *catalog.Snapshot, touched *catalog.Touched) (*catalog.Snapshot, error) {
		for !l.open.Load() {
			time.Sleep(time.Millisecond)
		}
		return load(query, last, touched)
	}
}

func TestTheCatalogIsReadOnAConnectionThatWaitsForIt(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, "CREATE TABLE plain (i int)")
	var l gated
	l.open.Store(true)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, NewLoader: l.loader, CatalogEvery: time.Hour})
	c, f := rawLogin(t, addr, dsn)
	defer c.Close()
	query := func(sql string) {
		t.Helper()
		f.Send(&pgproto3.Query{String: sql})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := m.(*pgproto3.ErrorResponse); ok {
				t.Fatalf("%s: %s %s", sql, e.Code, e.Message)
			}
			if _, ok := m.(*pgproto3.ReadyForQuery); ok {
				return
			}
		}
	}
	query("SELECT 1")
	wantWhole(t, g)
	l.open.Store(false)
	// What the transaction did to the catalog is not known before it ends, so the
	// INSERT pins.
	query("BEGIN")
	query("ALTER TABLE plain ADD j int")
	query("INSERT INTO plain VALUES (1)")
	query("COMMIT")
	if pins := clientPins(t, g); len(pins) != 1 || pins[0] != "catalog" {
		t.Fatalf("the client is pinned by %v, wanted catalog", pins)
	}
	// The only connection is kept by a client that asks for nothing.
	l.open.Store(true)
	wantWhole(t, g)
	if pins := clientPins(t, g); len(pins) > 0 {
		t.Errorf("the client is still pinned by %v", pins)
	}
	query("SELECT 1")
	if err := exec(mustDial(t, addr, dsn), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestAClientIsToldWhenAResetBringsItsOwnSettingBack(t *testing.T) {
	dsn := pgtest.Database(t)
	_, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	c, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser+" application_name=mine", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for _, sql := range []string{"SET application_name = 'else'", "DISCARD ALL", "SELECT 1"} {
		if err := exec(c, sql); err != nil {
			t.Fatal(err)
		}
	}
	if have := c.ParameterStatus("application_name"); have != "mine" {
		t.Errorf("application_name is reported as %q", have)
	}
}

func TestAStatementPreparedUnderOtherSettingsTwiceInAGroup(t *testing.T) {
	dsn := pgtest.Database(t)
	_, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	a := mustDial(t, addr, dsn)
	if _, err := a.Prepare(t.Context(), "one", "SELECT '02/01/2024'::date - date '2024-01-01'", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Prepare(t.Context(), "two", "SELECT '03/01/2024'::date - date '2024-01-01'", nil); err != nil {
		t.Fatal(err)
	}
	if err := exec(a, "SET DateStyle = 'ISO, DMY'"); err != nil {
		t.Fatal(err)
	}
	// Another client keeps the connection on which they are prepared.
	b := mustDial(t, addr, dsn)
	if err := exec(b, "BEGIN; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	p := a.StartPipeline(t.Context())
	p.SendQueryPrepared("one", nil, nil, nil)
	p.SendQueryPrepared("two", nil, nil, nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	results, err := p.GetResults()
	for _, want := range []string{"31", "60"} {
		if err != nil {
			t.Fatal(err)
		}
		r := pipelineRow(results)
		if r != want {
			t.Errorf("got %s days, wanted %s: as the literal was read when it was prepared", r, want)
		}
		results, err = p.GetResults()
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// pipelineRow is the first value of a result of a pipeline.
func pipelineRow(results any) string {
	r, ok := results.(*pgconn.ResultReader)
	if !ok {
		return "no result"
	}
	res := r.Read()
	if res.Err != nil {
		return res.Err.Error()
	}
	return string(res.Rows[0][0])
}
