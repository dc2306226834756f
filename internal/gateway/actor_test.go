package gateway_test

import (
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
)

type replies = []pgproto3.BackendMessage

func columnsOf(table uint32) *pgproto3.RowDescription {
	return &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
		{Name: []byte("bucket"), TableOID: table, TableAttributeNumber: 1, DataTypeOID: 1184, DataTypeSize: 8, TypeModifier: -1},
		{Name: []byte("high"), DataTypeOID: 701, DataTypeSize: 8, TypeModifier: -1},
		{Name: []byte("n"), DataTypeOID: 20, DataTypeSize: 8, TypeModifier: -1},
	}}
}

func row(values ...string) *pgproto3.DataRow {
	r := &pgproto3.DataRow{}
	for _, v := range values {
		r.Values = append(r.Values, []byte(v))
	}
	return r
}

func complete(tag string) *pgproto3.CommandComplete {
	return &pgproto3.CommandComplete{CommandTag: []byte(tag)}
}

func failure(code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: "failed"}
}
func ready(status byte) *pgproto3.ReadyForQuery { return &pgproto3.ReadyForQuery{TxStatus: status} }

// hangUp in place of replies closes the connection.
var hangUp = replies{nil}

// pause among replies has those before it sent and is called then.
type pause func()

func (pause) Backend()                      {}
func (pause) Decode([]byte) error           { return nil }
func (pause) Encode([]byte) ([]byte, error) { return nil, nil }

// actor is a server that answers the messages of a rewritten statement as a test
// says, and keeps the order in which they came.
type actor struct {
	t       *testing.T
	address string
	answers map[string]replies // by what is asked, see ask
	gate    chan struct{}      // when not nil, the guard is answered once it is closed
	metrics *metrics.Metrics   // the gateway's

	// mu protects answers and asked.
	mu    sync.Mutex
	asked []string
}

// usual answers, of which a case exchanges some. Those to "lock", "guard", "rewritten" and
// "commit" are one pipeline, whose ReadyForQuery the actor adds.
func usual() map[string]replies {
	columns, done := columnsOf(16500), complete("SELECT 2")
	return map[string]replies{
		"settings": {
			row("public", "UTC", "on", "app", "read committed", "off"), complete("SELECT 1"), ready('I'),
		},
		"describe":           {&pgproto3.ParseComplete{}, &pgproto3.ParameterDescription{}, columns, ready('I')},
		"prepare":            {&pgproto3.ParseComplete{}, ready('I')},
		"lock":               {complete("LOCK TABLE")},
		"guard":              {row("t"), complete("SELECT 1")},
		"rewritten":          {columnsOf(17200), row("a", "1", "2"), row("b", "3", "4"), done},
		"commit":             {complete("COMMIT")},
		"rollback":           {complete("ROLLBACK"), ready('I')},
		"original":           {columns, row("raw", "1", "2"), complete("SELECT 1"), ready('I')},
		"original, extended": {&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, columns, row("raw", "1", "2"), complete("SELECT 1"), ready('I')},
	}
}

func newActor(t *testing.T, answers map[string]replies) *actor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t, address: l.Addr().String(), answers: usual(), metrics: metrics.New()}
	for what, r := range answers {
		a.answers[what] = r
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			n, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer n.Close()
				a.serve(pgproto3.NewBackend(n, n))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return a
}

// expect exchanges answers, and forgets what was asked.
func (a *actor) expect(answers map[string]replies) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = nil
	maps.Copy(a.answers, answers)
}

// turns is how many turns the gateway has ended in the first gear.
func (a *actor) turns() int64 { return a.metrics.Turns[metrics.FirstGear].Load() }

func (a *actor) serve(b *pgproto3.Backend) {
	m, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if _, ok := m.(*pgproto3.StartupMessage); !ok {
		return // a cancel
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "17.0"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 5, SecretKey: []byte{1, 2, 3, 4}})
	b.Send(ready('I'))
	group, text, proof := "", "", ""
	status, failed := byte('I'), false
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		what := ""
		switch m := m.(type) {
		case *pgproto3.Query:
			what = ask(m.String)
		case *pgproto3.Parse:
			if group, text = "P", m.Query; strings.HasPrefix(text, "SELECT COALESCE(pg_catalog.to_regclass(") {
				proof = m.Name
			}
		case *pgproto3.Bind:
			if m.PreparedStatement != "" && m.PreparedStatement == proof {
				group, text = "", "guard"
			}
			group += "B"
		case *pgproto3.Describe:
			group += "D" + string(m.ObjectType)
		case *pgproto3.Execute:
			group += "E"
			switch name := ask(text); {
			case failed || !pipelined[name]:
			case name == "begin":
				status = 'T'
				b.Send(complete("BEGIN"))
			default:
				b.Send(&pgproto3.BindComplete{})
				r, going := a.answer(b, name)
				if !going {
					_ = b.Flush()
					return
				}
				if name == "commit" {
					status = 'I'
				}
				_, failed = r[len(r)-1].(*pgproto3.ErrorResponse)
				status = statusAfter(r, status)
			}
		case *pgproto3.Sync:
			switch name := ask(text); {
			case group == "PDS" && name == "rewritten":
				what = "describe rewritten"
			case group == "PDS":
				what = "describe"
			case group == "P":
				what = "prepare"
			case pipelined[name]:
				if failed && status == 'T' {
					status = 'E'
				}
				b.Send(ready(status))
			default:
				what = name + ", extended"
			}
			group, failed = "", false
		case *pgproto3.Terminate:
			return
		}
		if what != "" {
			r, going := a.answer(b, what)
			if !going {
				_ = b.Flush()
				return
			}
			status = statusAfter(r, status)
		}
	}
}

// statusAfter is the transaction's status that replies end with, else the one before.
func statusAfter(r replies, before byte) byte {
	if z, ok := r[len(r)-1].(*pgproto3.ReadyForQuery); ok {
		return z.TxStatus
	}
	return before
}

// pipelined are the names of what is sent with one Sync.
var pipelined = map[string]bool{"begin": true, "lock": true, "guard": true, "rewritten": true, "commit": true}

// ask names a text.
func ask(sql string) string {
	switch {
	case sql == hourly:
		return "original"
	case sql == "":
		return "nothing" // after a cancel
	case sql == "COMMIT":
		return "commit"
	case strings.Contains(sql, "current_schemas"):
		return "settings"
	case sql == "ROLLBACK":
		return "rollback"
	case sql == "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY":
		return "begin"
	case strings.HasPrefix(sql, "LOCK TABLE ONLY ") && strings.HasSuffix(sql, "IN ACCESS SHARE MODE NOWAIT"):
		return "lock"
	case strings.HasPrefix(sql, beginWithin+"; LOCK TABLE ONLY "):
		return "savepoint and lock"
	case strings.Contains(sql, "_materialized_2"):
		return "rewritten"
	}
	return sql
}

// answer gives the replies to what was asked; false: the connection is to be closed.
func (a *actor) answer(b *pgproto3.Backend, what string) (replies, bool) {
	a.mu.Lock()
	if what != "settings" {
		a.asked = append(a.asked, what)
	}
	r, ok := a.answers[what]
	a.mu.Unlock()
	if what == "guard" && a.gate != nil {
		<-a.gate
	}
	if !ok {
		r = replies{complete("SELECT 0"), ready('I')}
	}
	for _, m := range r {
		if m == nil {
			return r, false
		}
		if wait, ok := m.(pause); ok {
			_ = b.Flush()
			wait()
			continue
		}
		if _, ends := m.(*pgproto3.ReadyForQuery); !ends || !pipelined[what] {
			b.Send(m)
		}
	}
	return r, true
}

// gateway serves this server's one database by a gateway.
func (a *actor) gateway() (g *gateway.Server, addr, dsn string) {
	dsn = "postgres://app@" + a.address + "/market?sslmode=disable"
	g, addr = serve(a.t, dsn, gateway.Options{
		Pool:    pool.Options{Size: 1},
		Metrics: a.metrics,
		Backend: func(database, user string) (*pgconn.Config, error) {
			return pgconn.ParseConfig(dsn)
		},
		NewLoader: func() gateway.LoadFunc {
			return func(gateway.QueryFunc, *catalog.Snapshot, *catalog.Touched) (*catalog.Snapshot, error) {
				return rewriteSnapshot(), nil
			}
		},
		CatalogEvery: time.Hour,
	})
	return g, addr, dsn
}
