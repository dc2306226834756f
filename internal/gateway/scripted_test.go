package gateway_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// scripted serves a server that plays a script after the gateway's question about
// its settings.
func scripted(t *testing.T, script string) (g *gateway.Server, addr string) {
	server := pgtest.MustScript(t, answered+script).Serve(t)
	return startGateway(t, "postgres://postgres@"+server+"/x?sslmode=disable", gateway.Options{
		Pool: pool.Options{Size: 1}, NewLoader: noCatalog,
	})
}

// answered begins the script of a server: a login and the gateway's question
// about its settings.
const answered = `
	startup
	> Query
	< RowDescription a:25 b:25 c:25 d:25 e:25 f:25
	< DataRow public UTC on postgres "read committed" off
	< CommandComplete "SELECT 1"
	< ReadyForQuery I
`

// noCatalog reads the catalog of a database with nothing in it.
func noCatalog() gateway.LoadFunc {
	return func(gateway.QueryFunc, *catalog.Snapshot, *catalog.Touched) (*catalog.Snapshot, error) {
		return &catalog.Snapshot{}, nil
	}
}

func TestAServerThatEndsInTheMiddleOfAnAnswerIs08006(t *testing.T) {
	for name, script := range map[string]string{
		"before it": `
			> Query "INSERT INTO t VALUES (1)"
			< close`,
		"between two messages": `
			> Query "INSERT INTO t VALUES (1)"
			< RowDescription n:23
			< DataRow "1"
			< close`,
		"with a length out of range": `
			> Query "INSERT INTO t VALUES (1)"
			< raw 44 00 00 00 01
			> close`,
		"with a message that nothing asked for": `
			> Query "INSERT INTO t VALUES (1)"
			< raw 31 00 00 00 04
			< raw 74 00 00 00 06 00 00
			< raw 7a 00 00 00 04
			> close`,
	} {
		t.Run(name, func(t *testing.T) {
			g, addr := scripted(t, script)
			conn, f := rawLogin(t, addr, "postgres://h/x")
			defer conn.Close()
			f.Send(&pgproto3.Query{String: "INSERT INTO t VALUES (1)"})
			if err := f.Flush(); err != nil {
				t.Fatal(err)
			}
			if e := readError(t, f); e.Code != "08006" || e.Severity != "FATAL" {
				t.Errorf("got %s %s %s", e.Severity, e.Code, e.Message)
			}
			wantWhole(t, g)
		})
	}
}

func TestARowThatTheServerDidNotFinishIsNotFilledUp(t *testing.T) {
	g, addr := scripted(t, `
		> Query "SELECT 1"
		< RowDescription n:25
		< DataRow whole
		< raw 44 00 00 00 30 00 01 00 00 00 26 61
		sleep 50ms
		< close`)
	conn, f := rawLogin(t, addr, "postgres://h/x")
	defer conn.Close()
	f.Send(&pgproto3.Query{String: "SELECT 1"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := f.Receive()
		if err != nil {
			break
		}
		if d, ok := m.(*pgproto3.DataRow); ok && string(d.Values[0]) != "whole" {
			t.Errorf("the client got the row %q", d.Values)
		}
	}
	wantWhole(t, g)
}

// TestACopyThatStartsAfterItsClientIsGoneIsEnded has the cancel fail, as when it
// comes between two statements.
func TestACopyThatStartsAfterItsClientIsGoneIsEnded(t *testing.T) {
	server := pgtest.MustScript(t, answered+`
		> Query
		< RowDescription n:25
		< DataRow one
		sleep 100ms
		< DataRow two
		sleep 20ms
		< DataRow three
		< CommandComplete "SELECT 3"
		sleep 20ms
		< CopyInResponse 0
		> CopyFail *
		< ErrorResponse ERROR 57014 "COPY from stdin failed"
		< ReadyForQuery I
		> Query ""
		< EmptyQueryResponse
		< ReadyForQuery I
		> Query
		< CommandComplete "DISCARD ALL"
		< ReadyForQuery I
		> Query
		< CommandComplete "DISCARD ALL"
		< ReadyForQuery I
		> Query "SELECT 2"
		< RowDescription n:25
		< DataRow 2
		< CommandComplete "SELECT 1"
		< ReadyForQuery I
	`).Serve(t)
	dials := 0
	g, addr := startGateway(t, "", gateway.Options{
		Pool: pool.Options{Size: 1}, NewLoader: noCatalog, Loops: -1,
		Backend: func(string, string) (*pgconn.Config, error) {
			c, err := pgconn.ParseConfig("postgres://postgres@" + server + "/x?sslmode=disable")
			c.RuntimeParams = map[string]string{}
			c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials++; dials > 1 {
					return nil, errors.New("no more connections")
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			return c, err
		},
	})
	conn, f := rawLogin(t, addr, "postgres://h/x")
	f.Send(&pgproto3.Query{String: "SELECT n FROM t; COPY t FROM STDIN"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Receive(); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	_, next := rawLogin(t, addr, "postgres://h/x")
	next.Send(&pgproto3.Query{String: "SELECT 2"})
	if err := next.Flush(); err != nil {
		t.Fatal(err)
	}
	for ready := false; !ready; {
		m, err := next.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			t.Errorf("the next client got %s %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			ready = true
		}
	}
	wantWhole(t, g)
}

func TestAServerConnectionThatIsKilledAtItsLoginIsDialledAgain(t *testing.T) {
	killed := pgtest.MustScript(t, `
		> StartupMessage
		< ErrorResponse FATAL 57P01 "terminating connection due to administrator command"
		< close
	`).Serve(t)
	good := pgtest.MustScript(t, answered+`
		> Query "SELECT 1"
		< CommandComplete "SELECT 0"
		< ReadyForQuery I
	`).Serve(t)
	dials := 0
	_, addr := startGateway(t, "", gateway.Options{
		Pool: pool.Options{Size: 1}, NewLoader: noCatalog,
		Backend: func(string, string) (*pgconn.Config, error) {
			c, err := pgconn.ParseConfig("postgres://postgres@" + good + "/x?sslmode=disable")
			c.RuntimeParams = map[string]string{}
			c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials++; dials == 1 {
					addr = killed
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			return c, err
		},
	})
	if err := exec(mustDial(t, addr, "postgres://h/x"), "SELECT 1"); err != nil {
		t.Errorf("the client got %v", err)
	}
}
