package pool

import (
	"errors"
	"testing"
	"time"
)

func TestALimitHoldsOverPoolsAndIdleConnectionsMakeRoom(t *testing.T) {
	f := startFake(t, "")
	l := NewLimit(2)
	a := newPool(t, Options{Server: to(t, f), Size: 5, Limits: []*Limit{l}})
	b := newPool(t, Options{Server: to(t, f), Size: 5, Limits: []*Limit{l, NewLimit(0)}})
	first, second := take(t, a), take(t, a)
	if _, err := try(b, 50*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Fatalf("a third connection was given: %v", err)
	}
	a.Release(first)
	// Idle now, but another pool's: it is closed for who needs its place.
	c := take(t, b)
	if l.Used() != 2 || f.count() != 2 {
		t.Errorf("%d places are used, %d connections are open", l.Used(), f.count())
	}
	b.Release(c)
	a.Release(second)
	l.Set(0)
	for range 4 {
		take(t, a)
	}
}

func TestThePlaceOfALimitGoesToWhoHasWaitedLongest(t *testing.T) {
	f := startFake(t, "")
	l := NewLimit(1)
	busy := newPool(t, Options{Server: to(t, f), Size: 1, Limits: []*Limit{l}})
	other := newPool(t, Options{Server: to(t, f), Size: 1, Limits: []*Limit{l}})
	c := take(t, busy)
	hungry := taking(other, 5*time.Second)
	eventually(t, "the other pool's client waits", func() bool { return other.Stat().Waiting == 1 })
	time.Sleep(5 * time.Millisecond)
	later := taking(busy, 5*time.Second)
	eventually(t, "the busy pool's client waits", func() bool { return busy.Stat().Waiting == 1 })
	busy.Release(c)
	select {
	case err := <-hungry:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("the other pool's client starves")
	}
	if err := <-later; err != nil {
		t.Errorf("the later client got %v", err)
	}
}

func TestManyPoolsShareFewPlacesWithoutStarving(t *testing.T) {
	f := startFake(t, "")
	l := NewLimit(3)
	done := make(chan error, 64)
	for range 8 {
		p := newPool(t, Options{Server: to(t, f), Size: 4, Limits: []*Limit{l}})
		for range 8 {
			go func() {
				for range 10 {
					c, err := try2(p)
					if err != nil {
						done <- err
						return
					}
					// The server counts those that it has not seen go yet.
					for limit := time.Now().Add(5 * time.Second); f.count() > 3; time.Sleep(time.Millisecond) {
						if time.Now().After(limit) {
							done <- errors.New("more connections than places")
							return
						}
					}
					p.Release(c)
				}
				done <- nil
			}()
		}
	}
	for range 64 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Used(); n > 3 {
		t.Errorf("%d places are used", n)
	}
}

func try2(p *Pool) (*Conn, error) {
	var w Waiter
	w.Init(nil)
	return p.Acquire(&w, 1<<30, nil, p.Empty(), 10*time.Second)
}
