package pool

import (
	"errors"
	"testing"
	"time"
)

func TestNothingIsLentWhenNobodyWaits(t *testing.T) {
	p := New(Options{Size: 1})
	defer p.Close()
	if lent, ok := p.Lend(&Conn{}); lent || !ok {
		t.Errorf("Lend says %v, %v", lent, ok)
	}
}

func TestControlWorkIsServedBeforeClients(t *testing.T) {
	p := New(Options{Size: 1})
	defer p.Close()
	p.open = 1 // held by somebody
	got := make(chan string, 2)
	wait := func(name string, owner uint64) {
		var w Waiter
		w.Init(nil)
		_, err := p.Acquire(&w, owner, nil, p.Empty(), 0)
		got <- name
		if err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	queued := func(n int) {
		for p.Stat().Waiting != n {
			time.Sleep(time.Millisecond)
		}
	}
	go wait("client", 1)
	queued(1)
	go wait("control", ControlOwner)
	queued(2)
	p.free(&Conn{pool: p, created: time.Now(), where: -1}, time.Now())
	if name := <-got; name != "control" {
		t.Errorf("the %s was served first", name)
	}
}

func TestALentConnectionStaysItsHolders(t *testing.T) {
	p := New(Options{Size: 1})
	defer p.Close()
	p.open = 1
	c := &Conn{pool: p, where: -1}
	c.state.Store(7 << 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var w Waiter
		w.Init(nil)
		lent, err := p.Acquire(&w, ControlOwner, nil, p.Empty(), 0)
		if err != nil || lent != c {
			t.Errorf("got %v, %v", lent, err)
		}
		w.back <- false
	}()
	for p.Stat().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	if lent, ok := p.Lend(c); !lent || ok {
		t.Errorf("Lend says %v, %v although the connection was lost", lent, ok)
	}
	<-done
	if owner := c.state.Load() >> 16; owner != 7 {
		t.Errorf("the connection belongs to %d", owner)
	}
}

// TestWhatAConnectionHeardIsNotTheNextHolders: a reset reads what the one before
// listened to.
func TestWhatAConnectionHeardIsNotTheNextHolders(t *testing.T) {
	p := New(Options{Size: 1})
	defer p.Close()
	c := &Conn{pool: p, created: time.Now(), where: -1, Heard: []byte("a notification")}
	p.open = 1
	p.free(c, time.Now())
	var w Waiter
	w.Init(nil)
	got, err := p.Acquire(&w, 2, nil, p.Empty(), time.Second)
	if err != nil || got != c {
		t.Fatal(got, err)
	}
	if len(got.Heard) > 0 {
		t.Errorf("the next holder hears %q", got.Heard)
	}
}

func TestAGrantThatWasWaitedForAllocatesNothing(t *testing.T) {
	p := New(Options{Size: 1})
	defer p.Close()
	c := &Conn{pool: p, created: time.Now(), where: -1, Bucket: p.Empty()}
	p.open = 1
	var w Waiter
	w.Init(ignored{})
	if n := testing.AllocsPerRun(100, func() {
		if got, ok := p.Begin(&w, 7, nil, p.Empty()); got != nil || !ok {
			t.Fatal("it did not have to wait")
		}
		p.Release(c)
		if got, ok := p.Granted(&w, 7); got != c || !ok {
			t.Fatal("it was granted nothing")
		}
	}); n > 0 {
		t.Errorf("it allocates %v times", n)
	}
}

type ignored struct{}

func (ignored) Ready() {}
