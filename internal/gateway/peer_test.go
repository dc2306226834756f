package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/auth"
	"qvpgw/internal/cache"
	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/rules"
	"qvpgw/internal/schema"
)

// serve serves a database by a gateway in this process until the test ends. What
// opt leaves out is filled in; the catalog is read as the program reads it.
func serve(t testing.TB, dsn string, opt gateway.Options) (g *gateway.Server, addr string) {
	t.Helper()
	if opt.Backend == nil {
		opt.Backend = func(database, user string) (*pgconn.Config, error) {
			c, err := pgconn.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			c.RuntimeParams = map[string]string{}
			if opt.LoginDatabase == "" {
				c.Database, c.User = database, user
			}
			return c, nil
		}
	}
	if opt.NewLoader == nil {
		opt.NewLoader = wholeLoader
	}
	if opt.Cache == nil {
		var err error
		if opt.Cache, err = cache.New(16 << 20); err != nil {
			t.Fatal(err)
		}
	}
	if opt.MaxEntry == 0 {
		opt.MaxEntry = 1 << 20
	}
	if opt.QueueTimeout == 0 {
		opt.QueueTimeout = 5 * time.Second
	}
	if opt.Guard == nil {
		opt.Guard = trusting()
	}
	set, err := rules.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	opt.Rules = set
	g = gateway.New(opt)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = g.Shutdown(ctx) // tests leave clients
		serving.Wait()
	})
	return g, l.Addr().String()
}

// trusting lets in whoever comes over loopback.
func trusting() *auth.Guard { return &auth.Guard{Rules: auth.DefaultTable(true)} }

// wholeLoader reads the catalog, and what changes often of it, as the program does.
func wholeLoader() gateway.LoadFunc {
	l := new(schema.Loader)
	return func(run gateway.QueryFunc, last *catalog.Snapshot, touched *catalog.Touched) (*catalog.Snapshot, error) {
		return l.Read(run, last, touched)
	}
}

// peer is a client that shows every message it gets as a line of text.
type peer struct {
	testing.TB
	name   string
	conn   net.Conn
	front  *pgproto3.Frontend
	params map[string]string // as reported
	pid    uint32
	key    []byte
	tx     byte // of the last ReadyForQuery

	patience time.Duration // for a message
}

// patience is how long a peer waits for a message, unless it says otherwise.
const patience = 10 * time.Second

// dial logs in at addr. params are NAME=VALUE; database and user are those of dsn
// unless they are among them.
func dial(t testing.TB, addr, dsn string, params ...string) *peer {
	t.Helper()
	p, err := login(t, addr, dsn, pgproto3.ProtocolVersion30, params...)
	if err != nil {
		t.Fatalf("cannot log in: %v", err)
	}
	return p
}

// direct logs in at the server itself.
func direct(t testing.TB, dsn string, params ...string) *peer {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, u.Host, dsn, params...)
	p.name = "direct"
	return p
}

func login(t testing.TB, addr, dsn string, version uint32, params ...string) (*peer, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return loginOver(t, conn, dsn, version, params...)
}

// loginOver is login on a connection that is there, which it closes with the test.
func loginOver(t testing.TB, conn net.Conn, dsn string, version uint32, params ...string) (*peer, error) {
	t.Cleanup(func() { _ = conn.Close() })
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	start := &pgproto3.StartupMessage{ProtocolVersion: version, Parameters: map[string]string{
		"user": u.User.Username(), "database": strings.TrimPrefix(u.Path, "/"),
	}}
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		start.Parameters[k] = v
	}
	p := &peer{TB: t, name: "gateway", conn: conn, front: pgproto3.NewFrontend(conn, conn), params: map[string]string{}, patience: patience}
	p.send(start)
	for {
		m, err := p.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.BackendKeyData:
			p.pid, p.key = m.ProcessID, append([]byte(nil), m.SecretKey...)
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("%s: %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			return p, nil
		}
	}
}

func (p *peer) send(list ...pgproto3.FrontendMessage) {
	p.Helper()
	for _, m := range list {
		p.front.Send(m)
	}
	if err := p.front.Flush(); err != nil {
		p.Errorf("%s: cannot send: %v", p.name, err)
	}
}

func (p *peer) receive() (pgproto3.BackendMessage, error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(p.patience))
	m, err := p.front.Receive()
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *pgproto3.ParameterStatus:
		p.params[m.Name] = m.Value
	case *pgproto3.ReadyForQuery:
		p.tx = m.TxStatus
	}
	return m, nil
}

// reply returns what comes up to the n-th ReadyForQuery, a message a line, or up
// to the end of the connection.
func (p *peer) reply(n int) []string {
	p.Helper()
	var lines []string
	for n > 0 {
		m, err := p.receive()
		if err != nil {
			return append(lines, "end of the connection")
		}
		lines = append(lines, p.show(m))
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			n--
		}
	}
	return lines
}

// next is the next message as a line.
func (p *peer) next() string {
	p.Helper()
	m, err := p.receive()
	if err != nil {
		return "end of the connection"
	}
	return p.show(m)
}

// show writes a message as a line. The process id of a notification is a word:
// the client's own, or another's.
func (p *peer) show(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.DataRow:
		words := make([]string, len(m.Values))
		for i, v := range m.Values {
			if words[i] = string(v); v == nil {
				words[i] = "NULL"
			}
		}
		return "row " + strings.Join(words, "|")
	case *pgproto3.RowDescription:
		b, err := m.Encode(nil)
		if err != nil {
			return err.Error()
		}
		names := make([]string, len(m.Fields))
		for i, f := range m.Fields {
			names[i] = string(f.Name)
		}
		return fmt.Sprintf("columns %s %x", strings.Join(names, ","), b)
	case *pgproto3.CommandComplete:
		return "complete " + string(m.CommandTag)
	case *pgproto3.ErrorResponse:
		return fmt.Sprintf("%s %s %s", m.Severity, m.Code, m.Message)
	case *pgproto3.NoticeResponse:
		return fmt.Sprintf("notice %s %s", m.Code, m.Message)
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("parameter %s=%s", m.Name, m.Value)
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("parameters %v", m.ParameterOIDs)
	case *pgproto3.ReadyForQuery:
		return "ready " + string(m.TxStatus)
	case *pgproto3.NotificationResponse:
		whose := "another's"
		if m.PID == p.pid {
			whose = "its own"
		}
		return fmt.Sprintf("notification %s %s of %s", m.Channel, m.Payload, whose)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
}

// query runs a simple query and returns the whole reply.
func (p *peer) query(sql string) []string {
	p.Helper()
	p.send(&pgproto3.Query{String: sql})
	return p.reply(1)
}

// rows runs a simple query and returns the rows joined by ";", or the error's
// SQLSTATE.
func (p *peer) rows(sql string) string {
	p.Helper()
	return rowsOf(p.query(sql))
}

// rowsOf returns the rows of a reply joined by ";", or the SQLSTATE of its error.
func rowsOf(lines []string) string {
	var rows []string
	for _, l := range lines {
		if r, ok := strings.CutPrefix(l, "row "); ok {
			rows = append(rows, r)
		}
		if f := strings.Fields(l); f[0] == "ERROR" || f[0] == "FATAL" {
			return f[1]
		}
		if strings.HasPrefix(l, "end of") {
			return l
		}
	}
	return strings.Join(rows, ";")
}

// must runs statements that have to succeed.
func (p *peer) must(sql string) {
	p.Helper()
	for _, l := range p.query(sql) {
		if strings.HasPrefix(l, "ERROR") || strings.HasPrefix(l, "FATAL") || strings.HasPrefix(l, "end of") {
			p.Fatalf("%s: %s: %s", p.name, sql, l)
		}
	}
}

// want runs a simple query and compares its rows.
func (p *peer) want(sql, rows string) {
	p.Helper()
	if got := p.rows(sql); got != rows {
		p.Errorf("%s: %s: got %q, want %q", p.name, sql, got, rows)
	}
}

// group is an extended group of one statement that is parsed, bound, described,
// executed.
func group(name, sql string, args ...string) []pgproto3.FrontendMessage {
	return append([]pgproto3.FrontendMessage{&pgproto3.Parse{Name: name, Query: sql}}, execute(name, args...)...)
}

// execute runs a statement that was parsed before.
func execute(name string, args ...string) []pgproto3.FrontendMessage {
	bind := &pgproto3.Bind{PreparedStatement: name}
	for _, a := range args {
		bind.Parameters = append(bind.Parameters, []byte(a))
	}
	return []pgproto3.FrontendMessage{bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}
}

// extended sends messages that end with one Sync and returns the reply.
func (p *peer) extended(list ...pgproto3.FrontendMessage) []string {
	p.Helper()
	p.send(list...)
	return p.reply(1)
}

// pins shows why the client is pinned.
func (p *peer) pins() string { p.Helper(); return p.rows("SHOW qvpgw.pins") }

// route shows what became of the last statement.
func (p *peer) route() string { p.Helper(); return p.rows("SHOW qvpgw.last_route") }

// nativeDatabase is a database of the native backend with a schema.
func nativeDatabase(t testing.TB, sql string) (dsn string) {
	t.Helper()
	dsn = pgtest.Database(t)
	run(t, dsn, sql)
	return dsn
}
