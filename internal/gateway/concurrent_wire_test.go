package gateway_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// tap stands between the gateway and a server and passes on what each says. The
// statements of a rewritten one's pipeline go one by one, each with a Flush, so that
// something can come between any two.
type tap struct {
	*testing.T
	address string // of the server

	// mu protects what follows; it is not held while something comes between.
	mu       sync.Mutex
	before   func(message string) // comes before each of the exchanges' messages
	unlocked bool                 // LOCK does not reach the server
	unproven bool                 // nor does the proof inside a query
}

// packet is one message: its type and its bytes, with the type.
type packet struct {
	kind  byte
	bytes []byte
}

func (p packet) text() string { return strings.TrimRight(string(p.bytes[5:]), "\x00") }

func readPacket(r *bufio.Reader, kinds bool) (p packet, err error) {
	head := make([]byte, 5)
	if !kinds {
		head = head[:4]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return p, err
	}
	size := binary.BigEndian.Uint32(head[len(head)-4:])
	p.bytes = append(head, make([]byte, size-4)...)
	if kinds {
		p.kind = head[0]
	}
	_, err = io.ReadFull(r, p.bytes[len(head):])
	return p, err
}

// newTap stands before the server at an address and returns its own.
func newTap(t *testing.T, address string) (tp *tap, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp = &tap{T: t, address: address}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				w := &tapped{tap: tp, client: client, server: server, from: bufio.NewReader(client), back: bufio.NewReader(server)}
				_ = w.pass() // one of them went away
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return tp, l.Addr().String()
}

// tapped is one connection through a tap.
type tapped struct {
	*tap
	client, server net.Conn
	from, back     *bufio.Reader
	unit           []packet // up to a Query or Sync
}

// pass takes one turn after the other: up to Query or Sync from the gateway, up to
// ReadyForQuery from the server.
func (w *tapped) pass() error {
	start, err := readPacket(w.from, false)
	if err != nil {
		return err
	}
	if _, err := w.server.Write(start.bytes); err != nil {
		return err
	}
	if len(start.bytes) <= 16 {
		_, err := io.Copy(w.client, w.server) // a cancel
		return err
	}
	if _, err := w.answer("Z"); err != nil {
		return err
	}
	for {
		if err := w.read(); err != nil {
			return err
		}
		switch text := w.unit[0].text(); {
		case strings.HasPrefix(text, "\x00BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
			if err := w.rewritten(); err != nil {
				return err
			}
			continue
		case text == "SAVEPOINT qvpgw_rewritten":
			if err := w.several("SAVEPOINT", "query within", "RELEASE"); err != nil {
				return err
			}
			continue
		case strings.HasPrefix(text, "SAVEPOINT qvpgw_rewritten; LOCK TABLE"):
			if err := w.several("SAVEPOINT and LOCK", "DECLARE", "probe", "RELEASE"); err != nil {
				return err
			}
			continue
		case executions(w.unit) == len(three):
			if err := w.together(); err != nil {
				return err
			}
			continue
		case strings.HasPrefix(strings.TrimSpace(text), "FETCH ALL"):
			w.between("FETCH ALL")
		case strings.HasPrefix(strings.TrimSpace(text), "FETCH"):
			w.between("FETCH")
		}
		if err := w.relay(); err != nil {
			return err
		}
	}
}

// several passes on as many turns, of which the first is read.
func (w *tapped) several(messages ...string) error {
	for i, message := range messages {
		if i > 0 {
			if err := w.read(); err != nil {
				return err
			}
		}
		w.between(message)
		if err := w.holdProof(); err != nil {
			return err
		}
		if err := w.relay(); err != nil {
			return err
		}
	}
	return nil
}

// holdProof has the proof in a query hold, whatever it says, when it is not to reach the
// server.
func (w *tapped) holdProof() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unit[0].kind != 'P' || !w.unproven {
		return nil
	}
	var m pgproto3.Parse
	if err := m.Decode(w.unit[0].bytes[5:]); err != nil {
		return err
	}
	m.Query = strings.Replace(m.Query, "(SELECT pg_catalog.current_setting('transaction_isolation')", "(SELECT true OR pg_catalog.current_setting('transaction_isolation')", 1)
	b, err := m.Encode(nil)
	w.unit[0].bytes = b
	return err
}

// rewritten passes on BEGIN, LOCK, guard, query and COMMIT, each up to its Execute, and
// Sync.
func (w *tapped) rewritten() error {
	w.mu.Lock()
	unlocked := w.unlocked
	w.mu.Unlock()
	rest, failed := w.unit, false
	for _, message := range []string{"BEGIN", "LOCK", "guard", "query", "COMMIT"} {
		end := 1 + slices.IndexFunc(rest, func(p packet) bool { return p.kind == 'E' })
		part := rest[:end]
		rest = rest[end:]
		w.between(message)
		if failed {
			continue // the server would pass over it
		}
		if message == "LOCK" && unlocked {
			b, err := (&pgproto3.Parse{Query: "SET LOCAL qvpgw.nothing = 1"}).Encode(nil)
			if err != nil {
				return err
			}
			part[0].bytes = b
		}
		if err := w.send(append(slices.Clone(part), packet{'H', []byte{'H', 0, 0, 0, 4}})); err != nil {
			return err
		}
		last, err := w.answer("CE")
		if err != nil {
			return err
		}
		failed = last == 'E'
	}
	if err := w.send(rest); err != nil {
		return err
	}
	_, err := w.answer("Z")
	return err
}

// three are the messages of three statements with one Sync, and their end is "Sync".
var three = []string{"first of three", "second of three", "third of three"}

func executions(unit []packet) (n int) {
	for _, p := range unit {
		if p.kind == 'E' {
			n++
		}
	}
	return n
}

// together passes on three statements, each up to its Execute, and their Sync.
func (w *tapped) together() error {
	rest := w.unit
	for _, message := range three {
		end := 1 + slices.IndexFunc(rest, func(p packet) bool { return p.kind == 'E' })
		w.between(message)
		if err := w.send(append(slices.Clone(rest[:end]), packet{'H', []byte{'H', 0, 0, 0, 4}})); err != nil {
			return err
		}
		if _, err := w.answer("CE"); err != nil {
			return err
		}
		rest = rest[end:]
	}
	w.between("Sync")
	if err := w.send(rest); err != nil {
		return err
	}
	_, err := w.answer("Z")
	return err
}

// unlock keeps LOCK from the server.
func (tp *tap) unlock() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.unlocked = true
}

// unprove keeps the proofs inside of queries from the server.
func (tp *tap) unprove() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.unproven = true
}

// comes has something come once before a message.
func (tp *tap) comes(message string, what func()) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.before = nil
	if what != nil {
		what = sync.OnceFunc(what)
		tp.before = func(m string) {
			if m == message {
				what()
			}
		}
	}
}

func (w *tapped) between(message string) {
	w.mu.Lock()
	before := w.before
	w.mu.Unlock()
	if before != nil {
		before(message)
	}
}

// read reads a turn of the gateway's.
func (w *tapped) read() error {
	w.unit = w.unit[:0]
	for {
		p, err := readPacket(w.from, true)
		if err != nil {
			return err
		}
		w.unit = append(w.unit, p)
		if p.kind == 'Q' || p.kind == 'S' {
			return nil
		}
		if p.kind == 'X' {
			return io.EOF
		}
	}
}

// relay passes on a turn of the gateway's and the answer.
func (w *tapped) relay() error {
	if err := w.send(w.unit); err != nil {
		return err
	}
	_, err := w.answer("Z")
	return err
}

func (w *tapped) send(list []packet) error {
	var b []byte
	for _, p := range list {
		b = append(b, p.bytes...)
	}
	_, err := w.server.Write(b)
	return err
}

// answer passes on the server's messages up to one of the kinds, which it returns.
func (w *tapped) answer(kinds string) (byte, error) {
	for {
		p, err := readPacket(w.back, true)
		if err != nil {
			return 0, err
		}
		if _, err := w.client.Write(p.bytes); err != nil {
			return 0, err
		}
		if strings.IndexByte(kinds, p.kind) >= 0 {
			return p.kind, nil
		}
	}
}

// dropChunk is DROP TABLE of the oldest chunk.
var dropChunk = writer{"drop of a chunk", func(b *concurrentBed, d do, _ int64) error {
	rows, err := d("SELECT c::text FROM show_chunks('bars') c ORDER BY 1 LIMIT 1")
	if err != nil {
		return err
	}
	if err := each(d, "BEGIN"); err != nil {
		return err
	}
	if err := b.dropping(d, "DROP TABLE "+rows[0][0]); err != nil {
		return err
	}
	if err := b.logged(d, barsFrom, barsFrom+7*dayMicros-1); err != nil {
		return err
	}
	return each(d, "COMMIT")
}}

// insertAndRefresh is late bars that are refreshed at once.
var insertAndRefresh = writer{"insert and refresh", func(b *concurrentBed, d do, at int64) error {
	if err := writerNamed("insert").write(b, d, at); err != nil {
		return err
	}
	for _, a := range b.aggregates {
		if err := b.refresh(d, a, barsFrom, barsTo, false); err != nil {
			return err
		}
	}
	return nil
}}

func writerNamed(name string) writer {
	return writers[slices.IndexFunc(writers, func(w writer) bool { return w.name == name })]
}

// edged reads raw rows of the oldest chunk, those of 12:40.
const edged = "SELECT symbol, count(*), sum(volume), max(price) FROM bars WHERE timestamp >= '2024-01-05 12:30' GROUP BY symbol ORDER BY symbol"

// interruptions are a gateway, a tap, and who comes between.
type interruptions struct {
	*testing.T
	bed                    *concurrentBed
	tap                    *tap
	gateway                *gateway.Server
	on, off                *peer
	other                  do
	asked, routed, refused int
}

func newInterruptions(t *testing.T, b *concurrentBed) *interruptions {
	t.Helper()
	_, host, _ := strings.Cut(b.dsn[:strings.LastIndex(b.dsn, "/")], "@")
	tp, at := newTap(t, host)
	g, addr := serve(t, strings.Replace(b.dsn, host, at, 1), gateway.Options{Pool: pool.Options{Size: 2}, NewLoader: b.loader, AlwaysRoute: true, CatalogEvery: time.Hour})
	i := &interruptions{T: t, bed: b, tap: tp, gateway: g, on: dial(t, addr, b.dsn), off: direct(t, b.dsn), other: doing(b.connect(t))}
	if err := each(i.other, "SET lock_timeout = '50ms'"); err != nil {
		t.Fatal(err)
	}
	return i
}

// interrupt has a writer come before one message of those around a question, which an
// aggregate would answer, and says what was neither the server's answer before nor after.
func (i *interruptions) interrupt(w writer, at int64, message, how string) (wrong string) {
	i.Helper()
	for deadline := time.Now().Add(patience); ; {
		_, route := askedOf(i.on, edged, how)
		if strings.HasPrefix(route, "rewrite") || how == "at repeatable read" || how == "three with one Sync" {
			break
		}
		if time.Now().After(deadline) {
			i.Fatalf("%s before %s: not routed: %s", w.name, message, route)
		}
	}
	first := answerOf(i.off.query(edged))
	came := errors.New("it did not come")
	i.tap.comes(message, func() { came = w.write(i.bed, i.other, at) })
	answers, route := askedOf(i.on, edged, how)
	i.tap.comes("", nil)
	after := answerOf(i.off.query(edged))
	switch {
	case came != nil && strings.Contains(came.Error(), "lock timeout"):
		i.refused++
	case came != nil:
		i.Errorf("%s before %s: %v", w.name, message, came)
	case after == first:
		i.Errorf("%s before %s changed nothing", w.name, message)
	}
	i.asked++
	if strings.HasPrefix(route, "rewrite") {
		i.routed++
	}
	seen := first // what was answered with the newer rows is not answered with the older again
	for _, got := range answers {
		if got != seen && (got != after || how == "at repeatable read" && got != answers[0]) {
			return fmt.Sprintf("%s before %s, %s, %s: got\n%s\nwant\n%s\nor\n%s", w.name, message, how, route, strings.Join(answers, "\n"), first, after)
		}
		seen = got
	}
	again, route := askedOf(i.on, edged, how)
	for _, got := range again {
		if got != after {
			return fmt.Sprintf("%s before %s, %s, %s: asked again, got\n%s\nwant\n%s", w.name, message, how, route, got, after)
		}
	}
	return ""
}

// holding has a transaction that writes above the threshold be held while a refresh passes
// it, the k-th one of a bed, and returns what lets it go.
func (i *interruptions) holding(name string, k int) func(*concurrentBed, do, int64) error {
	i.Helper()
	h := held[slices.IndexFunc(held, func(h holder) bool { return h.name == name })]
	from := barsTo - 2*dayMicros + int64(k)*8*hourMicros
	d := doing(i.bed.connect(i.T))
	if err := each(d, "BEGIN", insertBars(from+hourMicros)); err != nil {
		i.Fatal(err)
	}
	if err := i.bed.logged(d, from+hourMicros, from+2*hourMicros); err != nil {
		i.Fatal(err)
	}
	release := h.hold(i.T, i.bed, d)
	i.bed.refreshAll(i.T, i.bed.connect(i.T), from+8*hourMicros)
	return func(*concurrentBed, do, int64) error { release(); return nil }
}

// An exchange is what the gateway sends to answer a question in some ways. A writer comes
// before each of its messages; one that drops chunks meets their locks in all of those
// that it comes before, but the last.
type exchange struct{ ways, messages, dropped []string }

var exchanges = []exchange{
	{[]string{"simple", "text"}, []string{"BEGIN", "LOCK", "guard", "query", "COMMIT"}, []string{"guard", "query", "COMMIT", "LOCK"}},
	{[]string{"in a transaction", "in a transaction, text", "three in a transaction"}, []string{"SAVEPOINT", "query within", "RELEASE"}, []string{"RELEASE", "query within"}},
	{[]string{"cursor", "cursor, text", "cursor in one text"}, []string{"SAVEPOINT and LOCK", "DECLARE", "probe", "RELEASE", "FETCH", "FETCH ALL"}, []string{"DECLARE", "probe", "RELEASE", "FETCH", "FETCH ALL", "SAVEPOINT and LOCK"}},
	{[]string{"at repeatable read"}, []string{"SAVEPOINT", "query within", "RELEASE"}, nil},
	{[]string{"three with one Sync"}, append(slices.Clone(three), "Sync"), []string{"second of three", "third of three", "Sync", "first of three"}},
}

// TestTrapT3WhatComesBetweenTheGatewaysMessagesTearsNoAnswer: whatever commits between
// two messages around a rewritten statement, the answer is the server's own of before or
// after it. Without the lock, and without the guard, some are not (trap T17). The ways to
// ask take turns; with QVPGW_SCHEDULES each writer comes between each two messages of each.
func TestTrapT3WhatComesBetweenTheGatewaysMessagesTearsNoAnswer(t *testing.T) {
	bed := newConcurrentBed(t, true)
	asked, routed, refused := 0, 0, 0
	for n, c := range []struct {
		writer
		drops bool
		also  []int // the exchanges besides the first, unless QVPGW_SCHEDULES asks for all
	}{
		{writerNamed("drop_chunks"), true, []int{1, 2, 4}},
		{writerNamed("truncate"), true, []int{2}},
		{dropChunk, true, nil},
		{writerNamed("insert"), false, []int{1, 3}},
		{writerNamed("update"), false, []int{2}},
		{writerNamed("delete"), false, nil},
		{writerNamed("merge"), false, []int{1, 4}},
		{insertAndRefresh, false, []int{2}},
		{writer{name: held[0].name}, false, []int{2, 4}},
		{writer{name: held[1].name}, false, []int{1}},
	} {
		for m, e := range exchanges {
			messages, each := e.messages, e.ways
			if c.drops {
				messages = e.dropped
			}
			if len(messages) == 0 {
				continue
			}
			if os.Getenv("QVPGW_SCHEDULES") == "" {
				if m > 0 && !slices.Contains(c.also, m) {
					continue
				}
				each = each[:1]
			}
			for first := range each {
				t.Run(c.name+" "+e.ways[first], func(t *testing.T) {
					i := newInterruptions(t, bed.copy(t))
					for k, message := range messages {
						how, w := e.ways[(n+k+first)%len(e.ways)], c.writer
						if w.write == nil {
							w.write = i.holding(w.name, k)
						}
						if wrong := i.interrupt(w, barsFrom+2*dayMicros+int64(k)*12*hourMicros, message, how); wrong != "" {
							t.Error(wrong)
						}
					}
					asked, routed, refused = asked+i.asked, routed+i.routed, refused+i.refused
					if c.drops && i.refused != len(messages)-1 {
						t.Errorf("%d of %d were refused by a lock", i.refused, len(messages))
					}
				})
			}
		}
	}
	t.Logf("%d of %d answers were an aggregate's, %d of those who came were refused by a lock", routed, asked, refused)
	if routed < asked/3 {
		t.Errorf("%d of %d answers were an aggregate's: hardly anything was tested", routed, asked)
	}
	for _, w := range []writer{writerNamed("drop_chunks"), writerNamed("truncate"), dropChunk} {
		t.Run("without the lock, "+w.name, func(t *testing.T) {
			i := newInterruptions(t, bed.copy(t))
			i.tap.unlock()
			if wrong := i.interrupt(w, barsFrom, "query", "text"); wrong == "" {
				t.Error("the answer is right: the test sees nothing")
			}
		})
	}
	t.Run("without the guard", func(t *testing.T) {
		i := newInterruptions(t, bed.copy(t))
		gateway.Unproven(i.gateway)
		if wrong := i.interrupt(writerNamed("insert"), barsFrom+2*dayMicros, "BEGIN", "text"); wrong == "" {
			t.Error("the answer is right: the test sees nothing")
		}
	})
	for how, message := range map[string]string{"in a transaction": "query within", "cursor": "DECLARE", "cursor in one text": "DECLARE"} {
		t.Run("without the proof, "+how, func(t *testing.T) {
			i := newInterruptions(t, bed.copy(t))
			i.tap.unprove()
			if wrong := i.interrupt(writerNamed("insert"), barsFrom+2*dayMicros, message, how); wrong == "" {
				t.Error("the answer is right: the test sees nothing")
			}
		})
	}
}
