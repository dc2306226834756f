//go:build linux

package netloop_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qvpgw/internal/netloop"
)

// pair returns two connected ends, both of the loops.
func pair(t testing.TB, s *netloop.Loops) (a, b *netloop.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if l, err = s.Listen(l); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := s.Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = d.Close() })
	return c.(*netloop.Conn), d.(*netloop.Conn)
}

func loops(t testing.TB, n int) *netloop.Loops {
	t.Helper()
	s, err := netloop.New(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestBytesArriveInOrderHoweverTheyAreCut(t *testing.T) {
	s := loops(t, 2)
	a, b := pair(t, s)
	want := make([]byte, 4<<20)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(100_000))
			if _, err := a.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		_ = a.CloseWrite()
	}()
	var got []byte
	buf := make([]byte, 70_000)
	for {
		n, err := b.Read(buf[:1+rand.IntN(len(buf)-1)])
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, not those that were sent (%d)", len(got), len(want))
	}
}

func TestADeadlineEndsAReadAndALaterOneLetsItGoOn(t *testing.T) {
	s := loops(t, 1)
	a, b := pair(t, s)
	_ = b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	done := make(chan error, 1)
	_ = b.SetReadDeadline(time.Time{})
	go func() { _, err := b.Read(make([]byte, 1)); done <- err }()
	time.Sleep(10 * time.Millisecond)
	_ = b.SetReadDeadline(time.Unix(1, 0)) // wakes the one that blocks
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	_ = b.SetReadDeadline(time.Time{})
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var x [1]byte
	if _, err := b.Read(x[:]); err != nil || x[0] != 'x' {
		t.Fatalf("got %q, %v", x, err)
	}
}

func TestCloseEndsAReadAndAWriteThatBlock(t *testing.T) {
	s := loops(t, 1)
	a, b := pair(t, s)
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() { _, err := a.Read(make([]byte, 1)); read <- err }()
	go func() {
		for {
			if _, err := a.Write(make([]byte, 1<<20)); err != nil {
				wrote <- err
				return
			}
		}
	}()
	time.Sleep(20 * time.Millisecond)
	_ = a.Close()
	for _, c := range []chan error{read, wrote} {
		if err := <-c; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("got %v", err)
		}
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the second Close gave %v", err)
	}
	if _, err := io.Copy(io.Discard, b); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Log(err) // reset by peer is fine: it had unread bytes
	}
}

func TestAClosedConnectionNeverTouchesItsDescriptorAgain(t *testing.T) {
	s := loops(t, 1)
	a, _ := pair(t, s)
	_ = a.Close()
	b, c := pair(t, s) // one of them has the descriptor now
	for range 3 {
		if _, err := a.Write([]byte("X")); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("a write to a closed connection gave %v", err)
		}
		_, _ = a.Read(make([]byte, 1))
		_ = a.RemoteAddr()
		_ = a.Quiet()
	}
	if _, err := b.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	var x [1]byte
	if _, err := c.Read(x[:]); err != nil || x[0] != 'y' {
		t.Fatalf("its successor got %q, %v", x, err)
	}
}

func TestWithoutBlockingNothingIsLostWhenTheSocketIsFull(t *testing.T) {
	s := loops(t, 1)
	a, b := pair(t, s)
	a.SetBlocking(false)
	b.SetBlocking(false)
	if _, err := b.Read(make([]byte, 1)); err != netloop.ErrWouldBlock {
		t.Fatalf("a read of nothing gave %v", err)
	}
	b.SetBlocking(true)
	var want bytes.Buffer
	chunk := make([]byte, 100_000)
	for i := range 100 {
		for j := range chunk {
			chunk[j] = byte(i + j)
		}
		want.Write(chunk)
		if n, err := a.Write(chunk); n != len(chunk) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if a.Pending() == 0 {
		t.Fatal("the socket took ten megabytes")
	}
	got := make([]byte, want.Len())
	read := make(chan error, 1)
	go func() { _, err := io.ReadFull(b, got); read <- err }()
	a.SetBlocking(true)
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatal("other bytes arrived than were written")
	}
}

// echo answers what it reads, driven by events alone.
type echo struct {
	c     *netloop.Conn
	h     netloop.Handler
	word  atomic.Uint32 // 1 while somebody runs, 2: look again
	buf   [64]byte
	ended atomic.Bool
}

func (e *echo) Ready() {
	if e.word.Swap(2) != 0 {
		return
	}
	for {
		e.word.Store(1)
		for {
			n, err := e.c.Read(e.buf[:])
			if err == netloop.ErrWouldBlock {
				break
			}
			if err != nil {
				e.ended.Store(true)
				_ = e.c.Close()
				return
			}
			_, _ = e.c.Write(e.buf[:n])
		}
		if e.word.CompareAndSwap(1, 0) {
			return
		}
	}
}

// Trap T12: descriptors are used again at once, in the batch in which their
// predecessor was closed; an event of the old one must not reach the new one, and
// none of the new one may be lost.
func TestT12ConnectionsThatCloseAndReuseDescriptorsLoseNoWakeUp(t *testing.T) {
	s := loops(t, 3)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if l, err = s.Listen(l); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			n, err := l.Accept()
			if err != nil {
				return
			}
			e := &echo{c: n.(*netloop.Conn)}
			e.c.SetBlocking(false)
			e.h = e
			e.c.Watch(&e.h)
			e.Ready() // what came before it was watched
		}
	}()
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range rounds {
				c, err := s.Dial(context.Background(), "tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				msg := []byte{byte(i), byte(i >> 8), 3, 4, 5}
				for j := range msg { // a byte at a time
					if _, err := c.Write(msg[j : j+1]); err != nil {
						t.Error(err)
						return
					}
				}
				got := make([]byte, len(msg))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, msg) {
					t.Errorf("got %v, %v instead of %v", got, err, msg)
					return
				}
				_ = c.Close()
			}
		}()
	}
	wg.Wait()
}

// Trap T11: a loop that is always busy must leave goroutines their turn.
func TestT11GoroutinesRunBesideABusyLoop(t *testing.T) {
	s := loops(t, 1)
	a, b := pair(t, s)
	ea, eb := &echo{c: a}, &echo{c: b}
	for _, e := range []*echo{ea, eb} {
		e.c.SetBlocking(false)
		e.h = e
		e.c.Watch(&e.h)
	}
	_, _ = a.Write([]byte("round and round")) // for ever
	c, d := pair(t, s)
	go func() { _, _ = io.Copy(d, d) }()
	var worst time.Duration
	for range 200 {
		began := time.Now()
		var x [1]byte
		if _, err := c.Write(x[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, x[:]); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(began))
	}
	if worst > 2*time.Second {
		t.Fatalf("an echo by goroutines took %s beside a busy loop", worst)
	}
}

func TestAFailedDialSaysWhy(t *testing.T) {
	s := loops(t, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	if _, err := s.Dial(context.Background(), "tcp", addr); err == nil {
		t.Fatal("connected to a closed port")
	}
	if _, err := s.Dial(context.Background(), "unix", t.TempDir()+"/none"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Dial(ctx, "tcp", "192.0.2.1:5432"); err == nil {
		t.Fatal("connected although the context had ended")
	}
}
