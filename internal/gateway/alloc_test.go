package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/auth"
	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// canned is a server that knows two statements: the gateway's question for the
// settings, and another, which it answers with rows. It allocates nothing once a
// connection stands, so that the gateway's allocations can be counted.
type canned struct {
	listener net.Listener
	rows     []byte // of any statement but the gateway's own
}

func newCanned(t *testing.T, rows []byte) *canned {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &canned{listener: l, rows: rows}
	go func() {
		for {
			n, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(n)
		}
	}()
	return c
}

func (c *canned) serve(n net.Conn) {
	defer n.Close()
	var head [4]byte
	if _, err := io.ReadFull(n, head[:]); err != nil {
		return
	}
	if _, err := io.ReadFull(n, make([]byte, int(head[3])-4)); err != nil {
		return
	}
	b := wire.AppendAuthenticationOk(nil)
	b = wire.AppendParameterStatus(b, "server_version", "17.0")
	b = wire.AppendBackendKeyData(b, 77, []byte{1, 2, 3, 4})
	b = append(b, readyIdle...)
	if _, err := n.Write(b); err != nil {
		return
	}
	settings := wire.AppendCommandComplete(wire.AppendTextRow(nil, "public", "UTC", "on", "app", "read committed", "off"), "SELECT 1")
	answer := wire.AppendCommandComplete(bytes.Clone(c.rows), "SELECT 1")
	var s wire.Stream
	s.Reset(n, n)
	copies, lines := false, 0
	for {
		h, err := s.Next()
		if err != nil {
			return
		}
		body, err := s.Body(wire.MaxMessage)
		if err != nil {
			return
		}
		switch h.Type {
		case wire.Query:
			if bytes.Contains(body, []byte("current_schemas")) {
				err = s.Inject(settings)
			} else {
				err = s.Inject(answer)
			}
			_ = s.Inject(readyIdle)
		case wire.Parse:
			copies = bytes.Contains(body, []byte("COPY"))
			err = s.Inject(parseComplete)
		case wire.Describe:
			err = s.Inject(wire.AppendNoData(nil))
		case wire.Bind:
			err = s.Inject(bindComplete)
		case wire.Execute:
			if copies {
				lines = 0
				err = s.Inject([]byte{wire.CopyInResponse, 0, 0, 0, 7, 0, 0, 0})
				break
			}
			err = s.Inject(answer)
		case wire.CopyData:
			lines++
		case wire.CopyDone:
			err = s.Inject(wire.AppendCommandComplete(nil, "COPY "+strconv.Itoa(lines)))
		case wire.Sync:
			err = s.Inject(readyIdle)
		}
		s.Drop()
		if err != nil {
			return
		}
	}
}

// counted counts what passes a connection.
type counted struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.reads != nil {
		c.reads.Add(1)
	}
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	if c.writes != nil {
		c.writes.Add(1)
	}
	return c.Conn.Write(b)
}

// turns is a client of a gateway in front of a canned server.
type turns struct {
	t       *testing.T
	net     net.Conn
	copied  bool   // a COPY was begun
	tag     string // of what was completed last since
	in      wire.Stream
	reads   atomic.Int64 // of the gateway from the server
	writes  atomic.Int64 // of the gateway to the client
	toThere atomic.Int64 // of the gateway to the server
}

// newTurns has a client in the second gear, whose system calls are counted, or in
// the first.
func newTurns(t *testing.T, rows []byte, first bool) *turns {
	t.Helper()
	server := newCanned(t, rows)
	x := &turns{t: t}
	gw := New(Options{
		Guard: &auth.Guard{Rules: auth.DefaultTable(true)},
		Loops: bit(first)*2 - 1,
		Pool:  pool.Options{Size: 1},
		Backend: func(database, user string) (*pgconn.Config, error) {
			cfg, err := pgconn.ParseConfig("host=127.0.0.1 sslmode=disable user=" + user + " dbname=" + database)
			if err != nil {
				return nil, err
			}
			if first {
				a := server.listener.Addr().(*net.TCPAddr)
				cfg.Host, cfg.Port = a.IP.String(), uint16(a.Port)
				return cfg, nil
			}
			cfg.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
				n, err := (&net.Dialer{}).DialContext(ctx, network, server.listener.Addr().String())
				return counted{n, &x.reads, &x.toThere}, err
			}
			return cfg, nil
		},
		NewLoader: func() LoadFunc {
			return func(QueryFunc, *catalog.Snapshot, *catalog.Touched) (*catalog.Snapshot, error) {
				return &catalog.Snapshot{Fingerprint: "none", ServerVersion: 170000}, nil
			}
		},
		CatalogEvery: time.Hour,
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := net.Listener(countedListener{l, &x.writes})
	if first {
		serving = l
	}
	go func() { _ = gw.Serve(serving) }()
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		_ = x.net.Close()
		if err := gw.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	if x.net, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	x.in.Reset(x.net, io.Discard)
	x.turn(wire.AppendStartup(nil, 3<<16, []wire.Param{{Name: "user", Value: "app"}, {Name: "database", Value: "app"}}))
	return x
}

type countedListener struct {
	net.Listener
	writes *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	n, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return counted{Conn: n, writes: l.writes}, nil
}

// turn sends messages and reads up to ReadyForQuery; it returns how many bytes of
// rows came.
func (x *turns) turn(messages []byte) (rows int) {
	if _, err := x.net.Write(messages); err != nil {
		x.t.Fatal(err)
	}
	for {
		h, err := x.in.Next()
		if err != nil {
			x.t.Fatal(err)
		}
		if h.Type == wire.ErrorResponse {
			body, _ := x.in.Body(wire.MaxMessage)
			x.t.Fatalf("the gateway answers %q", body)
		}
		if x.copied = x.copied || h.Type == wire.CopyInResponse; x.copied && h.Type == wire.CommandComplete {
			body, _ := x.in.Body(wire.MaxMessage)
			x.tag = string(bytes.TrimRight(body, "\x00"))
		}
		x.in.Drop()
		switch h.Type {
		case wire.DataRow:
			rows += h.Len
		case wire.ReadyForQuery:
			return rows
		}
	}
}

func TestATurnAllocatesNothing(t *testing.T) {
	for gear, first := range map[string]bool{"first": true, "second": false} {
		t.Run(gear+" gear", func(t *testing.T) {
			row := wire.AppendTextRow(nil, "12345")
			x := newTurns(t, row, first)
			query := wire.AppendQuery(nil, "SELECT 1")
			named := wire.AppendParse(nil, "s", "SELECT $1::pg_catalog.int4", nil)
			bind := wire.AppendBind(nil, "", "s", nil, [][]byte{[]byte("7")}, nil)
			prepared := wire.AppendSync(wire.AppendExecute(bind, "", 0))
			unnamed := wire.AppendParse(nil, "", "SELECT $1::pg_catalog.int4", nil)
			unnamed = wire.AppendBind(unnamed, "", "", nil, [][]byte{[]byte("7")}, nil)
			unnamed = wire.AppendSync(wire.AppendExecute(unnamed, "", 0))
			x.turn(wire.AppendSync(named))
			for name, messages := range map[string][]byte{"simple": query, "prepared": prepared, "unnamed": unnamed} {
				x.costsNothing(name, messages, first)
			}
		})
	}
}

// costsNothing runs a turn many times.
func (x *turns) costsNothing(name string, messages []byte, first bool) {
	t := x.t
	turn := func() {
		if x.turn(messages) == 0 {
			t.Fatal("no row came")
		}
	}
	for range 10 {
		turn()
	}
	before := [...]int64{x.reads.Load(), x.writes.Load(), x.toThere.Load()}
	if n := testing.AllocsPerRun(100, turn); n > 0 && !raced {
		t.Errorf("%s: %v allocations a turn", name, n)
	}
	if first {
		return
	}
	const runs = 101 // AllocsPerRun warms up once
	if n := x.writes.Load() - before[1]; n > x.reads.Load()-before[0] || n < runs {
		t.Errorf("%s: %d Writes to the client for %d Reads from the server in %d turns", name, n, x.reads.Load()-before[0], runs)
	}
	if n := x.toThere.Load() - before[2]; n != runs {
		t.Errorf("%s: %d Writes to the server in %d turns", name, n, runs)
	}
}

// Rows leave in one Write for each Read, however many there are.
func TestALargeResultLeavesInOneWritePerRead(t *testing.T) {
	var rows []byte
	for range 20_000 {
		rows = wire.AppendTextRow(rows, "12345", "a row of some length")
	}
	x := newTurns(t, rows, false)
	query := wire.AppendQuery(nil, "SELECT 1")
	x.turn(query)
	reads, writes := x.reads.Load(), x.writes.Load()
	if n := x.turn(query); n != len(rows)-5*20_000 {
		t.Errorf("%d bytes of rows came, want %d", n, len(rows)-5*20_000)
	}
	reads, writes = x.reads.Load()-reads, x.writes.Load()-writes
	if writes > reads {
		t.Errorf("%d Writes to the client for %d Reads from the server", writes, reads)
	}
	if limit := int64(len(rows)/(8<<10)) + 10; writes > limit {
		t.Errorf("%d Writes for %d bytes, want at most %d", writes, len(rows), limit)
	}
	// Under the race detector a sync.Pool loses a quarter of the buffers given back.
	if n := testing.AllocsPerRun(20, func() { x.turn(query) }); n > 2 {
		t.Errorf("%v allocations a turn of 20,000 rows", n)
	}
}

// A client may send COPY's data before it hears that the server takes it.
func TestDataPipelinedBehindAnExtendedCopyArrives(t *testing.T) {
	x := newTurns(t, nil, false)
	b := wire.AppendParse(nil, "", "COPY t FROM STDIN", nil)
	b = wire.AppendBind(b, "", "", nil, nil, nil)
	b = wire.AppendExecute(b, "", 0)
	for range 3 {
		b = wire.AppendCopyData(b, []byte("1\n"))
	}
	b = wire.AppendCopyDone(b)
	b = wire.AppendSync(b)
	for range 2 {
		x.turn(b)
		if x.tag != "COPY 3" {
			t.Errorf("the server answers %s, want COPY 3", x.tag)
		}
	}
}
