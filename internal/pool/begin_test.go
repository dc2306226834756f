package pool

import (
	"net"
	"testing"
	"time"
)

// TestATurnThatNeedsNoConnectionAfterAllLeavesItsWaitBehind: what a waiter was given was
// dead, the Acquire that would go on never came; its next wait is another one.
func TestATurnThatNeedsNoConnectionAfterAllLeavesItsWaitBehind(t *testing.T) {
	p := newPool(t, Options{Size: 1})
	var w Waiter
	w.Init(ignored{})
	wait := func() {
		t.Helper()
		if c, ok := p.Begin(&w, 7, nil, p.Empty()); c != nil || !ok {
			t.Fatal("it did not have to wait")
		}
	}
	p.open = 1
	wait()
	p.free(deadConn(t, p), time.Now())
	if c, ok := p.Granted(&w, 7); c != nil || ok {
		t.Fatal("a dead connection was granted")
	}
	p.Forgo(&w)

	p.open = 1
	wait()
	p.Discard(deadConn(t, p)) // its place is the waiter's
	eventually(t, "the place is granted", func() bool { _, ok := p.Granted(&w, 7); return !ok })
	p.Forgo(&w)
	if open := p.Stat().Open; open != 0 {
		t.Errorf("%d connections are counted, there is none", open)
	}
}

// deadConn is a connection of p's that was closed.
func deadConn(t *testing.T, p *Pool) *Conn {
	t.Helper()
	n, err := net.Dial("tcp", startFake(t, "").Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	return &Conn{pool: p, Net: n, created: time.Now(), where: -1, Bucket: p.Empty(), failed: true}
}
