package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

// streamed is how long the values are that pass through, in bytes: 64 MB, or
// QVPGW_STREAM_MB.
func streamed(t *testing.T) int {
	t.Helper()
	v := os.Getenv("QVPGW_STREAM_MB")
	if v == "" {
		return 64 << 20
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 450 {
		t.Fatalf("QVPGW_STREAM_MB is %q: a number from 1 to 450", v)
	}
	return n << 20
}

// maxStreaming bounds what the gateway's resident memory may grow by meanwhile.
const maxStreaming = 32 << 20

// TestValuesLongerThanMemoryPass has one long value go to the server as a literal of
// a simple query and as a parameter, and come back in a row: the gateway holds no
// more of them than its buffers.
func TestValuesLongerThanMemoryPass(t *testing.T) {
	size := streamed(t)
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	pid, addr := startGateway(t, restartConfig(c, database, freeAddress(t)))
	n, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_ = n.SetDeadline(time.Now().Add(5 * time.Minute))
	s := &streaming{T: t, net: n, in: bufio.NewReaderSize(n, 64<<10)}
	s.write(wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: pgtest.Superuser}, {Name: "database", Value: database}}))
	s.reply("")
	s.write(wire.AppendQuery(nil, "SELECT 1"))
	s.reply("1")

	before, most := rss(t, pid), int64(0)
	s.watch = func() { most = max(most, rss(t, pid)-before) }
	want := strconv.Itoa(size)

	const head, tail = "SELECT pg_catalog.length('", "')"
	s.write(wire.AppendHeader(nil, wire.Query, len(head)+size+len(tail)+1))
	s.write([]byte(head))
	s.fill(size)
	s.write([]byte(tail + "\x00"))
	s.reply(want)
	s.pins("")

	s.write(wire.AppendParse(nil, "", "SELECT pg_catalog.length($1::text)", nil))
	s.bind(size)
	s.reply(want)
	s.pins("")

	s.write(wire.AppendParse(nil, "", "SELECT $1::text", nil))
	s.bind(size)
	s.reply(want + " times x")

	fmt.Printf("%d MB as a literal, as a parameter and in a row: resident memory grew by %d kB\n", size>>20, most>>10)
	if size >= 300<<20 {
		figure.Print(t, "streaming.rss_growth_bytes", most)
	}
	if most >= maxStreaming {
		t.Errorf("the gateway's resident memory grew by %d bytes, to be less than %d", most, maxStreaming)
	}
}

// rss is the resident memory of a process, in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	n, err := pgtest.RSS(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// streaming is a client that keeps no long message.
type streaming struct {
	*testing.T
	net   net.Conn
	in    *bufio.Reader
	watch func() // called for every MB or so
}

func (s *streaming) write(b []byte) {
	s.Helper()
	if _, err := s.net.Write(b); err != nil {
		s.Fatalf("cannot send: %v", err)
	}
}

// fill sends size times x.
func (s *streaming) fill(size int) {
	b := []byte(strings.Repeat("x", 1<<20))
	for size > 0 {
		s.write(b[:min(size, len(b))])
		size -= len(b)
		s.watch()
	}
}

// bind binds the unnamed statement with one parameter of size bytes, and runs it.
func (s *streaming) bind(size int) {
	s.Helper()
	// Two names, no formats, one value; behind it no result formats.
	b := wire.AppendHeader(nil, wire.Bind, 2+2+2+4+size+2)
	b = append(b, 0, 0, 0, 0, 0, 1)
	s.write(binary.BigEndian.AppendUint32(b, uint32(size)))
	s.fill(size)
	s.write(wire.AppendSync(wire.AppendExecute([]byte{0, 0}, "", 0)))
}

// pins compares what keeps the client its server connection.
func (s *streaming) pins(want string) {
	s.Helper()
	s.write(wire.AppendQuery(nil, "SHOW qvpgw.pins"))
	s.reply(want)
}

// reply reads up to ReadyForQuery, and compares the one row's one value, which is
// written as "N times x" when it is longer than 1 kB.
func (s *streaming) reply(want string) {
	s.Helper()
	got := ""
	for {
		var h [5]byte
		if _, err := io.ReadFull(s.in, h[:]); err != nil {
			s.Fatalf("cannot read the reply: %v", err)
		}
		n := int(binary.BigEndian.Uint32(h[1:])) - 4
		if h[0] == wire.DataRow && n > 1<<10 {
			_, _ = s.in.Discard(6)
			got = fmt.Sprintf("%d times x", s.swallow(n-6))
			continue
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s.in, body); err != nil {
			s.Fatalf("cannot read the reply: %v", err)
		}
		switch h[0] {
		case wire.DataRow:
			got = string(body[6:])
		case wire.ErrorResponse:
			s.Fatalf("the server says %q", body)
		case wire.ReadyForQuery:
			if got != want {
				s.Errorf("got %.100q, want %q", got, want)
			}
			return
		}
	}
}

// swallow reads n bytes and counts those that are x.
func (s *streaming) swallow(n int) (count int) {
	b := make([]byte, 1<<20)
	for n > 0 {
		m := min(n, len(b))
		if _, err := io.ReadFull(s.in, b[:m]); err != nil {
			s.Fatalf("cannot read the row: %v", err)
		}
		count += strings.Count(string(b[:m]), "x")
		n -= m
		s.watch()
	}
	return count
}
