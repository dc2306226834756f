package pool

import (
	"errors"
	"testing"
	"time"
)

// spares runs one statement on a spare connection.
func spares(p *Pool) (had bool, err error) {
	return p.Spare(5*time.Second, func(query func(string) ([][]*string, error)) error {
		_, err := query("SELECT 1")
		return err
	})
}

func TestTrapT16SpareWorkTakesNoConnectionThatAClientHolds(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 1})
	if had, err := spares(p); !had || err != nil {
		t.Fatalf("nobody is there: %v, %v", had, err)
	}
	eventually(t, "what was opened for it is closed", func() bool { return f.count() == 0 })

	c := take(t, p)
	if had, err := spares(p); had || err != nil {
		t.Errorf("a client holds the only connection: %v, %v", had, err)
	}
	got := taking(p, 5*time.Second)
	eventually(t, "a client waits", func() bool { return p.Stat().Waiting == 1 })
	p.Release(c)
	if err := <-got; err != nil {
		t.Errorf("a client that waits gets %v", err)
	}

	eventually(t, "the connection is free", func() bool { return p.Stat().Idle == 1 })
	before := p.Stat().Dials
	if had, err := spares(p); !had || err != nil {
		t.Errorf("the connection is free: %v, %v", had, err)
	}
	if s := p.Stat(); s.Dials != before || s.Idle != 1 || f.count() != 1 {
		t.Errorf("the free connection was not used, or not given back: %+v, %d are open", s, f.count())
	}
}

func TestSpareWorkLeavesAPlaceForAClient(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 3})
	take(t, p)
	if had, err := spares(p); !had || err != nil {
		t.Errorf("one of three is held: %v, %v", had, err)
	}
	eventually(t, "what was opened for it is closed", func() bool { return f.count() == 1 })
	take(t, p)
	if had, err := spares(p); had || err != nil {
		t.Errorf("two of three are held: %v, %v", had, err)
	}
}

func TestAClientThatComesDuringSpareWorkIsNext(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 1})
	p.Release(take(t, p))
	var got <-chan error
	had, err := p.Spare(5*time.Second, func(query func(string) ([][]*string, error)) error {
		if again, err := spares(p); again || err != nil {
			t.Errorf("two work at once: %v, %v", again, err)
		}
		got = taking(p, 5*time.Second)
		eventually(t, "a client waits", func() bool { return p.Stat().Waiting == 1 })
		_, err := query("SELECT 1")
		return err
	})
	if !had || err != nil {
		t.Fatalf("it worked: %v, %v", had, err)
	}
	if err := <-got; err != nil {
		t.Errorf("the client gets %v", err)
	}
}

func TestAfterSpareWorkThatFailedThePoolIsWhole(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 1})
	p.Release(take(t, p))
	own := errors.New("something of the work's own")
	if had, err := p.Spare(time.Second, func(func(string) ([][]*string, error)) error { return own }); !had || !errors.Is(err, own) {
		t.Errorf("its own error: %v, %v", had, err)
	}
	if s := p.Stat(); s.Idle != 1 {
		t.Errorf("the connection was not given back: %+v", s)
	}

	// The connection breaks in the middle: nothing is sent on it any more.
	asked := 0
	had, err := p.Spare(time.Second, func(query func(string) ([][]*string, error)) error {
		f.cut()
		for range 2 {
			if _, err := query("SELECT 1"); err != nil {
				asked++
			}
		}
		return nil
	})
	if !had || asked != 2 {
		t.Errorf("%d statements failed on a broken connection: %v, %v", asked, had, err)
	}
	if s := p.Stat(); s.Idle != 0 || s.Open != 0 {
		t.Errorf("the broken connection is kept: %+v", s)
	}
	p.Release(take(t, p))
}

func TestNoSpareWorkWhileThePoolIsPausedOrEnds(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 2})
	p.Release(take(t, p))
	p.Pause()
	if had, err := spares(p); had || err != nil {
		t.Errorf("paused: %v, %v", had, err)
	}
	p.Resume()
	if had, err := spares(p); !had || err != nil {
		t.Errorf("resumed: %v, %v", had, err)
	}
	p.Retire()
	if had, err := spares(p); had || err != nil {
		t.Errorf("retiring: %v, %v", had, err)
	}
	p.Close()
	if had, err := spares(p); had || err != nil {
		t.Errorf("closed: %v, %v", had, err)
	}
}
