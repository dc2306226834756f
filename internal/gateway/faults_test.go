package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/auth"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// dialClient connects a driver to the gateway.
func dialClient(ctx context.Context, addr, database, user, password string) (*pgconn.PgConn, error) {
	host, port, _ := net.SplitHostPort(addr)
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s sslmode=disable", host, port, database, user, password))
}

func mustDial(t *testing.T, addr, dsn string) *pgconn.PgConn {
	t.Helper()
	c, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func exec(c *pgconn.PgConn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := c.Exec(ctx, sql).ReadAll()
	return err
}

// wantCode fails unless err is an error of the server or gateway with that code.
func wantCode(t *testing.T, err error, code, text string) {
	t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		t.Fatalf("got %v, wanted an error with SQLSTATE %s", err, code)
	}
	if pe.Code != code || !strings.Contains(pe.Message, text) {
		t.Errorf("got %s %q, wanted %s %q", pe.Code, pe.Message, code, text)
	}
}

// wantWhole fails unless the gateway soon holds no server connection.
func wantWhole(t *testing.T, g *gateway.Server) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		whole := true
		for _, p := range g.Pools() {
			whole = whole && p.Open == p.Idle && p.Waiting == 0 && p.Resting == 0
		}
		if whole {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("server connections are still held: %+v", g.Pools())
		}
	}
}

// eventually waits until the query gives want.
func eventually(t *testing.T, dsn, sql, want string, within time.Duration) {
	t.Helper()
	have := ""
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if have = run(t, dsn, sql)[0][0]; have == want {
			return
		}
	}
	t.Errorf("%s is %s after %v, wanted %s", sql, have, within, want)
}

const running = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()`

// login sends a startup message on a plain connection and reads up to the first
// ReadyForQuery.
func rawLogin(t *testing.T, addr, dsn string) (net.Conn, *pgproto3.Frontend) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": pgtest.Superuser, "database": databaseOf(dsn),
	}})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			t.Fatalf("cannot log in: %s %s", e.Code, e.Message)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return conn, f
		}
	}
}

// readError reads up to an ErrorResponse and then the end of the connection.
func readError(t *testing.T, f *pgproto3.Frontend) *pgproto3.ErrorResponse {
	t.Helper()
	var found *pgproto3.ErrorResponse
	for {
		m, err := f.Receive()
		if err != nil {
			if found == nil {
				t.Fatalf("the connection ended without an error message: %v", err)
			}
			return found
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			if found != nil {
				t.Errorf("a second error: %s %s", e.Code, e.Message)
			}
			copied := *e
			found = &copied
		}
	}
}

func TestAClientOfAnUnreachableBackendGets08001(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	g, addr := startGateway(t, "postgres://postgres@"+dead+"/x?sslmode=disable", gateway.Options{})
	_, err = dialClient(t.Context(), addr, "x", "postgres", "")
	wantCode(t, err, "08001", "cannot connect to the server")
	wantWhole(t, g)
}

func TestAWrongPasswordGets28P01(t *testing.T) {
	dsn := pgtest.Database(t)
	right, err := auth.PlainSecret(pgtest.Superuser, "right")
	if err != nil {
		t.Fatal(err)
	}
	_, addr := startGateway(t, dsn, gateway.Options{Guard: &auth.Guard{
		Rules: auth.DefaultTable(false), Users: map[string]auth.Secret{pgtest.Superuser: right},
	}})
	_, err = dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, "wrong")
	wantCode(t, err, "28P01", "password authentication failed")
	_, err = dialClient(t.Context(), addr, databaseOf(dsn), "nobody", "right")
	wantCode(t, err, "28P01", "password authentication failed")
	c, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, "right")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
}

func TestThePasswordOfTheGatewayItselfIsWrong(t *testing.T) {
	dsn := pgtest.Database(t)
	_, addr := startGateway(t, dsn, gateway.Options{Backend: func(database, _ string) (*pgconn.Config, error) {
		c, err := pgconn.ParseConfig(dsn)
		c.Database, c.User, c.Password = database, pgtest.ScramUser, "wrong"
		return c, err
	}})
	_, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.ScramUser, "")
	wantCode(t, err, "28P01", "cannot connect to the server")
}

func TestATruncatedMessageFreesWhatItsClientHeld(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, QueueTimeout: 10 * time.Second})
	for _, messages := range [][]pgproto3.FrontendMessage{
		nil,
		{&pgproto3.Query{String: "BEGIN"}},
		{&pgproto3.Parse{Query: "SELECT $1::text"}},
		{&pgproto3.Query{String: "COPY (SELECT 1) TO STDOUT"}},
	} {
		conn, f := rawLogin(t, addr, dsn)
		for _, m := range messages {
			f.Send(m)
		}
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		// A Bind of which most is missing: what there is may be with the server.
		if _, err := conn.Write(append([]byte{'B', 0, 1, 0, 0}, make([]byte, 30_000)...)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := exec(mustDial(t, addr, dsn), "SELECT 1"); err != nil {
			t.Errorf("after %d messages and a truncated one, another client gets %v", len(messages), err)
		}
		wantWhole(t, g)
	}
	eventually(t, dsn, running, "0", 2*time.Second)
}

func TestALengthOutOfRangeGets08P01(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{})
	for name, length := range map[string]uint32{"below 4": 3, "zero": 0, "2 GB": 1<<31 - 1, "4 GB": 1<<32 - 1} {
		t.Run(name, func(t *testing.T) {
			conn, f := rawLogin(t, addr, dsn)
			if _, err := conn.Write(binary.BigEndian.AppendUint32([]byte{'Q'}, length)); err != nil {
				t.Fatal(err)
			}
			if e := readError(t, f); e.Code != "08P01" || e.Severity != "FATAL" {
				t.Errorf("got %s %s %s", e.Severity, e.Code, e.Message)
			}
		})
	}
	t.Run("startup packet", func(t *testing.T) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte{0, 1, 0, 0, 0, 3, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if e := readError(t, pgproto3.NewFrontend(conn, conn)); e.Code != "08P01" {
			t.Errorf("got %s %s", e.Code, e.Message)
		}
	})
	wantWhole(t, g)
}

func TestTheQueryOfAClientThatVanishedIsCancelled(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	other := mustDial(t, addr, dsn)
	for _, linger := range []int{-1, 0} { // orderly, and with a reset
		conn, f := rawLogin(t, addr, dsn)
		f.Send(&pgproto3.Query{String: "SELECT pg_sleep(60)"})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		eventually(t, dsn, running, "1", 5*time.Second)
		_ = conn.(*net.TCPConn).SetLinger(linger)
		conn.Close()
		eventually(t, dsn, running, "0", 1500*time.Millisecond)
		if err := exec(other, "SELECT 1"); err != nil {
			t.Errorf("another client gets %v", err)
		}
	}
	wantWhole(t, g)
}

// A cancel ends one statement; the client has sent three and is gone.
func TestEveryStatementOfAClientThatVanishedIsCancelled(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	p := dial(t, addr, dsn)
	p.want("SELECT 1", "1")
	p.send(simple("SELECT pg_sleep(60)"), simple("SELECT pg_sleep(61)"), simple("SELECT pg_sleep(62)"))
	time.Sleep(100 * time.Millisecond)
	_ = p.conn.Close()
	began := time.Now()
	next := dial(t, addr, dsn) // it needs the only server connection
	next.want("SELECT 2", "2")
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("the next client waited %s", d)
	}
}

func TestAKilledServerConnectionEndsItsClientAlone(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	victim, other := mustDial(t, addr, dsn), mustDial(t, addr, dsn)
	if err := exec(other, "BEGIN; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() { failed <- exec(victim, "SELECT pg_sleep(30)") }()
	eventually(t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND state = 'active' AND datname = current_database()", "1", 5*time.Second)
	run(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND state = 'active' AND datname = current_database()")
	select {
	case err := <-failed:
		wantCode(t, err, "57P01", "terminating connection")
	case <-time.After(5 * time.Second):
		t.Fatal("the client was not told")
	}
	if err := exec(other, "SELECT 1; COMMIT"); err != nil {
		t.Errorf("another client's transaction gets %v", err)
	}
	if err := exec(mustDial(t, addr, dsn), "SELECT 1"); err != nil {
		t.Errorf("a new client gets %v", err)
	}
	wantWhole(t, g)
}

func TestIdleServerConnectionsThatWereKilledAreNotUsed(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1, CheckDelay: time.Nanosecond}})
	c := mustDial(t, addr, dsn)
	for range 5 {
		wantWhole(t, g)
		run(t, dsn, "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()")
		if err := exec(c, "SELECT 1"); err != nil {
			t.Errorf("after its idle server connection was killed a client gets %v", err)
		}
	}
}

func TestALoginThatTakesTooLongIsEnded(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{LoginTimeout: time.Second})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begun := time.Now()
	_ = conn.SetReadDeadline(begun.Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatalf("the connection did not end: %v", err)
	}
	if d := time.Since(begun); d < 900*time.Millisecond || d > 10*time.Second {
		t.Errorf("it ended after %v", d)
	}
	slow := mustDial(t, addr, dsn)
	time.Sleep(1100 * time.Millisecond) // longer than a login may take
	if err := exec(slow, "SELECT 1"); err != nil {
		t.Errorf("a client that is logged in gets %v", err)
	}
	wantWhole(t, g)
}

func TestOneClientTooManyGets53300(t *testing.T) {
	dsn := pgtest.Database(t)
	_, addr := startGateway(t, dsn, gateway.Options{MaxClients: 2})
	a := mustDial(t, addr, dsn)
	b := mustDial(t, addr, dsn)
	_, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, "")
	wantCode(t, err, "53300", "too many clients")
	_ = a.Close(t.Context())
	deadline := time.Now().Add(5 * time.Second)
	for {
		c, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, "")
		if err == nil {
			_ = c.Close(t.Context())
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no room after a client left: %v", err)
		}
	}
	if err := exec(b, "SELECT 1"); err != nil {
		t.Errorf("a client within the limit gets %v", err)
	}
}

// TestOneClientTooManyWaitsForNothing has a login need a server connection, of which
// there is none.
func TestOneClientTooManyWaitsForNothing(t *testing.T) {
	dsn := pgtest.Database(t)
	_, addr := startGateway(t, dsn, gateway.Options{MaxClients: 1, Mode: gateway.Session, Pool: pool.Options{Size: 1}})
	_ = mustDial(t, addr, dsn)
	_, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, "")
	wantCode(t, err, "53300", "too many clients")
}

func TestAWaitForAServerConnectionThatIsTooLongGets53300(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, QueueTimeout: 200 * time.Millisecond})
	holder, waiter := mustDial(t, addr, dsn), mustDial(t, addr, dsn)
	if err := exec(holder, "BEGIN; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, exec(waiter, "SELECT 1"), "53300", "no server connection")
	res := waiter.ExecParams(t.Context(), "SELECT $1::text", [][]byte{[]byte("x")}, nil, nil, nil).Read()
	wantCode(t, res.Err, "53300", "no server connection")
	if err := exec(holder, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := exec(waiter, "SELECT 1"); err != nil {
		t.Errorf("the client that had waited gets %v", err)
	}
	wantWhole(t, g)
}

func TestACancelledWaitForAServerConnectionGets57014(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	holder, waiter := mustDial(t, addr, dsn), mustDial(t, addr, dsn)
	if err := exec(holder, "BEGIN; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() { failed <- exec(waiter, "SELECT 1") }()
	for deadline := time.Now().Add(5 * time.Second); g.Pools()[0].Waiting == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := waiter.CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-failed, "57014", "canceling statement")
	if err := exec(holder, "COMMIT"); err != nil {
		t.Errorf("the client that held the connection gets %v", err)
	}
	if err := exec(waiter, "SELECT 1"); err != nil {
		t.Errorf("the client that cancelled gets %v", err)
	}
	wantWhole(t, g)
}

func TestShutdownEndsIdleClientsAndLetsTransactionsFinish(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, "CREATE TABLE kept (i int)")
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	_, idle := rawLogin(t, addr, dsn)
	busy := mustDial(t, addr, dsn)
	if err := exec(busy, "BEGIN; INSERT INTO kept VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ended <- g.Shutdown(ctx)
	}()
	if e := readError(t, idle); e.Code != "57P01" || e.Severity != "FATAL" {
		t.Errorf("the idle client got %s %s %s", e.Severity, e.Code, e.Message)
	}
	if err := exec(busy, "INSERT INTO kept VALUES (2)"); err != nil {
		t.Fatalf("a statement of the open transaction gets %v", err)
	}
	if err := exec(busy, "COMMIT"); err != nil {
		t.Fatalf("its COMMIT gets %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := dialClient(t.Context(), addr, databaseOf(dsn), pgtest.Superuser, ""); err == nil {
		t.Error("a new client was let in")
	}
	eventually(t, dsn, "SELECT count(*) FROM kept", "2", time.Second)
}

func TestShutdownEndsWhatRunsAtItsDeadline(t *testing.T) {
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{})
	c := mustDial(t, addr, dsn)
	failed := make(chan error, 1)
	go func() { failed <- exec(c, "SELECT pg_sleep(60)") }()
	eventually(t, dsn, running, "1", 5*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := g.Shutdown(ctx); err == nil {
		t.Error("Shutdown says that all went well")
	}
	if d := time.Since(begun); d > 4*time.Second {
		t.Errorf("Shutdown took %v", d)
	}
	if err := <-failed; err == nil {
		t.Error("the query was answered")
	}
	eventually(t, dsn, running, "0", 2*time.Second)
}

// TestAPipelineIsWrittenWholeBeforeAnythingIsRead is what libpq does in pipeline
// mode: it reads when it cannot write, and otherwise only at the end.
func TestAPipelineIsWrittenWholeBeforeAnythingIsRead(t *testing.T) {
	const statements, width = 10_000, 20_000 // 200 MB of results
	dsn := pgtest.Database(t)
	g, addr := startGateway(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	conn, f := rawLogin(t, addr, dsn)
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	f.Send(&pgproto3.Parse{Name: "p", Query: "SELECT repeat($1::text, 2000)"})
	param := []byte("0123456789")
	for i := range statements {
		f.Send(&pgproto3.Bind{PreparedStatement: "p", Parameters: [][]byte{param}})
		f.Send(&pgproto3.Execute{})
		if i%100 == 99 {
			f.Send(&pgproto3.Sync{})
		}
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	written := make(chan error, 1)
	go func() { written <- f.Flush() }()
	select {
	case err := <-written:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(500 * time.Millisecond): // it cannot be written without reading
	}
	runtime.ReadMemStats(&now)
	if used := int64(now.HeapInuse) - int64(before.HeapInuse); used > 64<<20 {
		t.Errorf("%d MB more heap are in use while nothing is read", used>>20)
	}
	want := bytes.Repeat(param, width/len(param))
	rows, ready := 0, 0
	var most uint64
	r := pgproto3.NewFrontend(conn, io.Discard)
	for ready < statements/100 {
		m, err := r.Receive()
		if err != nil {
			t.Fatalf("after %d rows: %v", rows, err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if !bytes.Equal(m.Values[0], want) {
				t.Fatalf("row %d is %.40q…", rows, m.Values[0])
			}
			if rows++; rows%1000 == 0 {
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse)
			}
		case *pgproto3.ErrorResponse:
			t.Fatalf("%s %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			ready++
		}
	}
	if rows != statements {
		t.Errorf("%d rows of %d", rows, statements)
	}
	if used := int64(most) - int64(before.HeapInuse); used > 64<<20 {
		t.Errorf("%d MB more heap were in use", used>>20)
	}
	wantWhole(t, g)
}
