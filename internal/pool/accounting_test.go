package pool

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// handler is one that Begin's grants are told to.
type handler chan struct{}

func (h handler) Ready() { h <- struct{}{} }

// begun is a waiter that Begin put in the queue, since all of p is taken.
func begun(t *testing.T, p *Pool, w *Waiter) (owner uint64, told handler) {
	t.Helper()
	owners++
	told = make(handler, 1)
	w.Init(told)
	if c, ok := p.Begin(w, owners, nil, p.Empty()); c != nil || !ok {
		t.Fatalf("Begin gave %v, %t", c, ok)
	}
	return owners, told
}

// TestWhoIsToldThatItWaitsGoesOnWaiting in an Acquire, with no place of its own.
func TestWhoIsToldThatItWaitsGoesOnWaiting(t *testing.T) {
	p := newPool(t, Options{Server: to(t, startFake(t, "")), Size: 1})
	held := take(t, p)
	longs := 0
	w := Waiter{Long: func() { longs++ }, After: time.Nanosecond}
	owner, told := begun(t, p, &w)
	p.Expire(&w, 0)
	<-told
	if c, ok := p.Granted(&w, owner); c != nil || ok {
		t.Fatalf("Granted gave %v, %t", c, ok)
	}
	got := make(chan error, 1)
	go func() {
		c, err := p.Acquire(&w, owner, nil, p.Empty(), 0)
		if err == nil {
			p.Release(c)
		}
		got <- err
	}()
	eventually(t, "it waits on", func() bool { return p.Stat().Waiting == 1 })
	p.Release(held)
	if err := <-got; err != nil || longs != 1 {
		t.Errorf("got %v, told %d times", err, longs)
	}
	if s := p.Stat(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("at the end: %+v", s)
	}
}

// slowGoodbye is a connection whose Terminate is not taken before it is let go.
type slowGoodbye struct {
	net.Conn
	begun, letGo chan struct{}
}

func (c slowGoodbye) Write(b []byte) (int, error) {
	close(c.begun)
	<-c.letGo
	return c.Conn.Write(b)
}

// TestConnectionsThatAreBeingClosedAreNotRetired: a reconnect while Retire and Close
// say goodbye to what was idle.
func TestConnectionsThatAreBeingClosedAreNotRetired(t *testing.T) {
	for name, closes := range map[string]func(*Pool){"Retire": (*Pool).Retire, "Close": (*Pool).Close} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, Options{Server: to(t, startFake(t, "")), Size: 2})
			a, b := take(t, p), take(t, p)
			p.Release(a)
			p.Release(b)
			slow := slowGoodbye{a.Net, make(chan struct{}), make(chan struct{})}
			a.Net = slow
			done := make(chan struct{})
			go func() { closes(p); close(done) }()
			<-slow.begun
			p.Reconnect()
			close(slow.letGo)
			<-done
			if s := p.Stat(); s.Open != 0 || s.Idle != 0 {
				t.Errorf("at the end: %+v", s)
			}
		})
	}
}

// gated has dials wait until they are let go.
func gated(c *pgconn.Config) (dials chan chan struct{}) {
	dials = make(chan chan struct{}, 16)
	inner := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		letGo := make(chan struct{})
		dials <- letGo
		<-letGo
		return inner(ctx, network, addr)
	}
	return dials
}

// TestAConnectionThatWasDialledBeforeAReloadIsNotUsed: it goes where nobody is
// configured to go any more.
func TestAConnectionThatWasDialledBeforeAReloadIsNotUsed(t *testing.T) {
	old, now := startFake(t, ""), startFake(t, "")
	server := to(t, old)
	dials := gated(server)
	p := newPool(t, Options{Server: server, Size: 1})
	got := make(chan *Conn, 1)
	go func() {
		c, err := try(p, 5*time.Second)
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	dial := <-dials
	p.Reload(Options{Server: to(t, now), Size: 1})
	close(dial)
	c := <-got
	if c == nil {
		return
	}
	if c.host != now.Addr().String() {
		t.Errorf("the connection goes to %s, configured is %s", c.host, now.Addr())
	}
	p.Release(c)
	if s := p.Stat(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("at the end: %+v", s)
	}
	eventually(t, "the other is closed", func() bool { return old.count() == 0 })
}

// TestAPoolThatIsClosedWhileItDialsKeepsNoPlace, and who waits is told.
func TestAPoolThatIsClosedWhileItDialsKeepsNoPlace(t *testing.T) {
	f := startFake(t, "")
	server := to(t, f)
	dials := gated(server)
	limit := NewLimit(5)
	p := New(Options{Server: server, Size: 1, Limits: []*Limit{limit}})
	first := taking(p, 5*time.Second)
	dial := <-dials
	second := taking(p, 5*time.Second)
	eventually(t, "the other waits", func() bool { return p.Stat().Waiting == 1 })
	p.Close()
	if err := <-second; !errors.Is(err, ErrClosed) {
		t.Errorf("who waited got %v", err)
	}
	close(dial)
	if err := <-first; err == nil {
		t.Error("a connection of a closed pool was given")
	}
	if open, used := p.Stat().Open, limit.Used(); open != 0 || used != 0 {
		t.Errorf("%d places are taken, %d of the limit", open, used)
	}
	eventually(t, "no connection is left", func() bool { return f.count() == 0 })
}

// TestAPlaceThatADialLeftIsForWhoWaits although it failed for somebody who does not try
// again: the queue is looked at when the host may be tried again.
func TestAPlaceThatADialLeftIsForWhoWaits(t *testing.T) {
	f := startFake(t, "")
	f.set(func() { f.refuses = "53300" })
	server := to(t, f)
	dials := gated(server)
	p := newPool(t, Options{Server: server, Size: 1, WaitDown: true, Backoff: 20 * time.Millisecond})
	ours := make(chan error, 1)
	go func() {
		_, err := p.Spare(time.Second, func(func(string) ([][]*string, error)) error { return nil })
		ours <- err
	}()
	dial := <-dials
	waiting := taking(p, 0)
	eventually(t, "a client waits", func() bool { return p.Stat().Waiting == 1 })
	close(dial)
	if err := <-ours; err == nil {
		t.Error("the dial did not fail")
	}
	p.mu.Lock()
	looks := p.alarm != nil
	p.mu.Unlock()
	if !looks {
		t.Error("nobody looks whether the host may be tried for who waits")
	}
	f.set(func() { f.refuses = "" })
	go func() {
		for dial := range dials {
			close(dial)
		}
	}()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// TestTheHolderIsKnownSinceALook is what SHOW SERVERS tells of a connection that does
// not come back.
func TestTheHolderIsKnownSinceALook(t *testing.T) {
	p := newPool(t, Options{Server: to(t, startFake(t, "")), Size: 1})
	c := take(t, p)
	look := time.Now().Add(-time.Hour)
	p.expired(look)
	if x := p.Conns()[0]; x.Owner == 0 || !x.Since.Equal(look) {
		t.Errorf("held by %d since %s, want %s", x.Owner, x.Since, look)
	}
	p.Release(c)
	if x := p.Conns()[0]; x.Owner != 0 || !x.Since.IsZero() || !x.Idle {
		t.Errorf("a free one: %+v", x)
	}
}

// TestWhatIsBeingDialledOrCancelledIsCounted while the server lets nobody in, and until
// a cancel has been sent.
func TestWhatIsBeingDialledOrCancelledIsCounted(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 1})
	opens := make(chan struct{})
	go f.set(func() { <-opens })
	taken := make(chan *Conn)
	go func() {
		c, _ := try(p, 0)
		taken <- c
	}()
	eventually(t, "it dials", func() bool { s := p.Stat(); return s.Login == 1 && s.Active() == 0 })
	close(opens)
	c := <-taken
	if s := p.Stat(); c == nil || s.Login != 0 || s.Active() != 1 {
		t.Fatalf("logged in, holding %v: %+v", c, s)
	}
	if !c.BeginCancel(owners) || p.Stat().Cancels != 1 {
		t.Errorf("a cancel on its way: %+v", p.Stat())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Cancel(gone); err == nil || p.Stat().Cancels != 0 {
		t.Errorf("a cancel that came to nothing, %v: %+v", err, p.Stat())
	}
	p.Lost(c)
}
