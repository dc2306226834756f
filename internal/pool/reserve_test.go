package pool

import (
	"errors"
	"testing"
	"time"
)

func TestTheReserveStandsInForKeptConnectionsOneForOne(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 2, Reserve: 3})
	a, b := take(t, p), take(t, p)
	if _, err := try(p, 20*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Fatalf("a third connection was given although none is kept: %v", err)
	}
	waiting := taking(p, 5*time.Second)
	eventually(t, "somebody waits", func() bool { return p.Stat().Waiting == 1 })
	p.Hold(a)
	if err := <-waiting; err != nil {
		t.Fatalf("a kept connection brought no other: %v", err)
	}
	p.Hold(a) // says nothing new
	c := take(t, p)
	if _, err := try(p, 20*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Fatalf("one kept connection brought two: %v", err)
	}
	if s := p.Stat(); s.ReserveUsed != 1 || s.Kept != 1 || s.Open != 3 {
		t.Errorf("%d of the reserve are used, %d kept, %d open", s.ReserveUsed, s.Kept, s.Open)
	}
	p.Release(a)
	p.Release(b)
	p.Release(c)
	eventually(t, "no more than Size are open", func() bool { return p.Stat().Open == 2 && f.count() == 2 })
	if s := p.Stat(); s.ReserveUsed != 0 || s.Kept != 0 || s.ReservePeak != 1 || s.ReserveOpened < 1 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestAllOfTheReserveIsForWhoHasWaitedLong(t *testing.T) {
	p := newPool(t, Options{Server: to(t, startFake(t, "")), Size: 1, Reserve: 1, ReserveTimeout: 100 * time.Millisecond})
	a := take(t, p)
	began := time.Now()
	b := take(t, p)
	if d := time.Since(began); d < 100*time.Millisecond || d > 2*time.Second {
		t.Errorf("the reserve was opened after %s, not after 100ms", d)
	}
	if _, err := try(p, 250*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("more than the reserve was opened: %v", err)
	}
	p.Release(b)
	if s := p.Stat(); s.Open != 2 {
		t.Errorf("the connection was closed at once: %d are open", s.Open)
	}
	p.Release(a)
}

func TestMinIsOpenedAndKeptOpen(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 4, Min: 3, IdleTimeout: time.Millisecond})
	eventually(t, "Min are open", func() bool { return p.Stat().Idle == 3 })
	take(t, p)
	time.Sleep(1100 * time.Millisecond) // the janitor has come by
	if s := p.Stat(); s.Open < 3 {
		t.Errorf("%d are open", s.Open)
	}
}

func TestALongWaitIsToldOnceAndKeepsItsTime(t *testing.T) {
	p := newPool(t, Options{Server: to(t, startFake(t, "")), Size: 1})
	take(t, p)
	told := 0
	w := Waiter{Long: func() { told++ }, After: 30 * time.Millisecond}
	w.Init(nil)
	began := time.Now()
	_, err := p.Acquire(&w, 1<<20, nil, p.Empty(), 100*time.Millisecond)
	if d := time.Since(began); !errors.Is(err, ErrTimeout) || told != 1 || d < 100*time.Millisecond || d > time.Second {
		t.Errorf("after %s told %d times: %v", d, told, err)
	}
}

func TestAPausedPoolClosesWhatIsFreeAndLetsClientsWait(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 2})
	a, b := take(t, p), take(t, p)
	p.Release(b)
	p.Pause()
	waiting := taking(p, 5*time.Second)
	eventually(t, "the idle one is closed", func() bool { return f.count() == 1 })
	p.Release(a)
	eventually(t, "all are closed", func() bool { return p.Stat().Open == 0 && f.count() == 0 })
	select {
	case err := <-waiting:
		t.Fatalf("a client did not wait: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	p.Resume()
	if err := <-waiting; err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

func TestConnectionsOpenedTogetherAreNotClosedTogether(t *testing.T) {
	p := newPool(t, Options{Server: to(t, startFake(t, "")), Size: 20, Lifetime: time.Hour})
	shares := map[float64]bool{}
	for range 20 {
		c := take(t, p)
		if c.share < 1-lifetimeSpread || c.share > 1 {
			t.Errorf("a connection lives for %g of the lifetime", c.share)
		}
		shares[c.share] = true
		now := time.Now()
		if p.agedLocked(c, now.Add(53*time.Minute)) || !p.agedLocked(c, now.Add(61*time.Minute)) {
			t.Error("a connection lives too short or too long")
		}
	}
	if len(shares) < 10 {
		t.Errorf("20 connections have %d lifetimes", len(shares))
	}
}

func TestReloadChangesSizesAndRetiresWhatGoesElsewhere(t *testing.T) {
	old, other := startFake(t, ""), startFake(t, "")
	p := newPool(t, Options{Server: to(t, old), Size: 1})
	a := take(t, p)
	waiting := taking(p, 5*time.Second)
	eventually(t, "somebody waits", func() bool { return p.Stat().Waiting == 1 })
	p.Reload(Options{Server: to(t, old), Size: 3})
	if err := <-waiting; err != nil {
		t.Fatalf("a larger size did not help who waited: %v", err)
	}
	p.Reload(Options{Server: to(t, other), Size: 1})
	eventually(t, "the idle one at the old host is closed, and the other is to be", func() bool { return old.count() == 1 && p.Stat().Retired == 1 })
	if size := p.Stat().Size; size != 1 {
		t.Errorf("the size is %d", size)
	}
	p.Release(a)
	eventually(t, "the last one is closed", func() bool { return old.count() == 0 })
	if c := take(t, p); c.host != other.Addr().String() {
		t.Errorf("the next connection goes to %s", c.host)
	}
}
