package pool

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestOnlyServersOfTheWantedRoleAreUsed(t *testing.T) {
	primary, standby := startFake(t, ""), startFake(t, "")
	standby.set(func() { standby.standby = true })
	for target, want := range map[Target]*fake{
		Any: primary, ReadWrite: primary, Primary: primary,
		ReadOnly: standby, Standby: standby, PreferStandby: standby,
	} {
		p := newPool(t, Options{Server: to(t, primary, standby), Size: 1, Target: target})
		if c := take(t, p); c.host != want.Addr().String() {
			t.Errorf("%s went to %s", target, c.host)
		}
	}
	p := newPool(t, Options{Server: to(t, primary), Size: 1, Target: PreferStandby})
	if c := take(t, p); c.host != primary.Addr().String() {
		t.Error("where there is no standby, none is preferred")
	}
	p = newPool(t, Options{Server: to(t, primary), Size: 1, Target: Standby})
	if _, err := try(p, time.Second); !errors.Is(err, ErrUnsuited) {
		t.Errorf("without a standby: %v", err)
	}
}

func TestAnotherHostIsUsedWhenOneIsGone(t *testing.T) {
	a, b := startFake(t, ""), startFake(t, "")
	p := newPool(t, Options{Server: to(t, a, b), Size: 2, Backoff: time.Second})
	c := take(t, p)
	if c.host != a.Addr().String() {
		t.Fatalf("the first connection goes to %s", c.host)
	}
	a.stop()
	p.Lost(c)
	if c = take(t, p); c.host != b.Addr().String() {
		t.Errorf("the next one goes to %s", c.host)
	}
}

func TestAHostThatDoesNotAnswerIsGivenUpForTheNext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, &fake{Listener: silent}, f), Size: 1, ConnectTimeout: 200 * time.Millisecond})
	if c := take(t, p); c.host != f.Addr().String() {
		t.Errorf("the connection goes to %s", c.host)
	}
}

func TestLoadIsBalancedOverEqualHosts(t *testing.T) {
	a, b := startFake(t, ""), startFake(t, "")
	p := newPool(t, Options{Server: to(t, a, b), Size: 6, Balance: RoundRobin})
	for range 6 {
		take(t, p)
	}
	if a.count() != 3 || b.count() != 3 {
		t.Errorf("%d and %d connections", a.count(), b.count())
	}
	p = newPool(t, Options{Server: to(t, a, b), Size: 40, Balance: Random})
	for range 40 {
		take(t, p)
	}
	if a.count() < 8 || b.count() < 8 {
		t.Errorf("at random %d and %d connections", a.count(), b.count())
	}
}

func TestAHostThatRefusesIsLeftAloneForLongerEachTime(t *testing.T) {
	f := startFake(t, "")
	f.set(func() { f.refuses = "53300" })
	p := newPool(t, Options{Server: to(t, f), Size: 1, Backoff: 40 * time.Millisecond, BackoffMax: 200 * time.Millisecond})
	for i, pause := range []time.Duration{40, 80, 160, 200, 200} {
		_, err := try(p, time.Second)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "53300" {
			t.Fatalf("the client got %v", err)
		}
		f.set(func() {
			if f.logins != i+1 {
				t.Errorf("attempt %d: %d logins", i+1, f.logins)
			}
		})
		if _, err := try(p, time.Second); !errors.As(err, &pe) { // at once, without another login
			t.Errorf("in the pause the client got %v", err)
		}
		p.mu.Lock()
		next := time.Until(p.nextDialLocked())
		p.mu.Unlock()
		if next > pause*time.Millisecond || next < pause*time.Millisecond/2 {
			t.Errorf("after %d failures the pause is %s", i+1, next)
		}
		time.Sleep(next + 2*time.Millisecond)
	}
	f.set(func() { f.refuses = "" })
	take(t, p)
}

func TestClientsMayWaitUntilAServerComes(t *testing.T) {
	f := startFake(t, "")
	f.stop()
	p := newPool(t, Options{Server: to(t, f), Size: 2, Backoff: 20 * time.Millisecond, BackoffMax: 50 * time.Millisecond, WaitDown: true})
	one, two := taking(p, 5*time.Second), taking(p, 5*time.Second)
	time.Sleep(100 * time.Millisecond)
	startFake(t, f.Addr().String())
	for _, got := range []<-chan error{one, two} {
		if err := <-got; err != nil {
			t.Errorf("a client got %v", err)
		}
	}
	p = newPool(t, Options{Server: to(t, &fake{Listener: closed(t)}), Size: 2, Backoff: 20 * time.Millisecond, WaitDown: true})
	if _, err := try(p, 100*time.Millisecond); !errors.Is(err, ErrTimeout) || err.Error() == ErrTimeout.Error() {
		t.Errorf("without a server the client got %v", err)
	}
}

// closed is a listener of which only the address is left.
func closed(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l
}

func TestWhoCannotLogInWaitsForAConnectionOfOthers(t *testing.T) {
	f := startFake(t, "")
	p := newPool(t, Options{Server: to(t, f), Size: 2, Backoff: 50 * time.Millisecond})
	c := take(t, p)
	f.set(func() { f.refuses = "53300" })
	waiting := taking(p, 5*time.Second)
	eventually(t, "it waits", func() bool { return p.Stat().Waiting == 1 })
	p.Release(c)
	if err := <-waiting; err != nil {
		t.Errorf("it got %v", err)
	}
}

func TestAServerThatTakesNoWritesAnyMoreIsLeft(t *testing.T) {
	a, b := startFake(t, ""), startFake(t, "")
	b.set(func() { b.standby = true })
	p := newPool(t, Options{Server: to(t, a, b), Size: 2, Target: ReadWrite})
	one, two := take(t, p), take(t, p)
	// A client's own read-only transaction fails alike.
	one.Doubt()
	p.Release(one)
	eventually(t, "it is looked at", func() bool { return p.Stat().Idle == 1 })
	if a.count() != 2 {
		t.Fatal("a connection was closed although the server is as it was")
	}
	one = take(t, p)
	a.set(func() { a.readOnly = true })
	b.set(func() { b.standby = false })
	one.Doubt()
	p.Release(one)
	eventually(t, "it is closed", func() bool { return a.count() == 1 })
	if c := take(t, p); c.host != b.Addr().String() {
		t.Errorf("the next connection goes to %s", c.host)
	}
	p.Release(two)
	eventually(t, "the others are closed when they are free", func() bool { return a.count() == 0 })
}

func TestConnectionsToAnAddressThatLeftItsNameAreRetired(t *testing.T) {
	var names lookups
	a := startFake(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(a.Addr().String())
	b := startFake(t, "127.0.0.2:"+port)
	cfg, err := pgconn.ParseConfig("host=db.example port=" + port + " user=u dbname=d sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.LookupFunc = names.lookup
	names.answer("127.0.0.1")
	p := newPool(t, Options{Server: cfg, Size: 2, Resolve: 10 * time.Millisecond})
	idle, held := take(t, p), take(t, p)
	p.Release(idle)
	names.answer("127.0.0.1", "127.0.0.2")
	p.resolve()
	if a.count() != 2 {
		t.Fatal("an address more closed connections")
	}
	names.answer("127.0.0.2")
	eventually(t, "the idle one is closed, and the other is to be", func() bool { return a.count() == 1 && p.Stat().Retired == 1 })
	p.Release(held)
	eventually(t, "the other is closed when it is free", func() bool { return a.count() == 0 })
	take(t, p)
	eventually(t, "the new address is used", func() bool { return b.count() == 1 })
}

func TestTheAddressesOfOneNameAreAllTried(t *testing.T) {
	a := startFake(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(a.Addr().String())
	b := startFake(t, "127.0.0.2:"+port)
	a.set(func() { a.standby = true })
	cfg, err := pgconn.ParseConfig("host=db.example port=" + port + " user=u dbname=d sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1", "127.0.0.2"}, nil }
	take(t, newPool(t, Options{Server: cfg, Size: 1, Target: Primary}))
	if b.count() != 1 {
		t.Error("the primary behind the name was not found")
	}
}
