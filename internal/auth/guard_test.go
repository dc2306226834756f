package auth

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"qvpgw/internal/wire"
)

func stored(t *testing.T, password string) string {
	t.Helper()
	v, err := wire.NewVerifier(password, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return v.Encode()
}

func TestALookupIsAskedOnceForAllWhoWait(t *testing.T) {
	text := stored(t, "x")
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		l := NewLookup(func(string) (string, bool, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return text, true, nil
		})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, known, err := l.Find("app", "10.0.0.1"); !known || err != nil {
					t.Error(known, err)
				}
			})
		}
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("the server was asked %d times", n)
		}
		time.Sleep(keepFor - time.Millisecond)
		if _, _, _ = l.Find("app", ""); asked.Load() != 1 {
			t.Error("an answer was not kept")
		}
		time.Sleep(2 * time.Millisecond)
		if _, _, _ = l.Find("app", ""); asked.Load() != 2 {
			t.Error("an old answer was kept")
		}
	})
}

func TestWhatALookupKeepsIsBounded(t *testing.T) {
	var asked atomic.Int32
	text := stored(t, "x")
	l := NewLookup(func(user string) (string, bool, error) {
		asked.Add(1)
		return text, user == "app", nil
	})
	if _, known, _ := l.Find("app", ""); !known {
		t.Fatal("app is not known")
	}
	for i := range 3 * maxUnknown {
		if _, known, err := l.Find(fmt.Sprint("stranger", i), ""); known || err != nil {
			t.Fatal(known, err)
		}
	}
	if n := l.unknown.Len(); n != maxUnknown {
		t.Errorf("%d unknown names are kept", n)
	}
	before := asked.Load()
	_, known, _ := l.Find("app", "")
	_, stranger, _ := l.Find(fmt.Sprint("stranger", 3*maxUnknown-1), "")
	if !known || stranger || asked.Load() != before {
		t.Error("names that strangers invent push out what is known, or are not kept")
	}
}

func TestAFailedLookupIsNotKept(t *testing.T) {
	down := errors.New("down")
	text := stored(t, "x")
	l := NewLookup(func(string) (string, bool, error) { return text, true, down })
	if _, known, err := l.Find("app", ""); known || !errors.Is(err, down) {
		t.Error(known, err)
	}
	down = nil
	if _, known, err := l.Find("app", ""); !known || err != nil {
		t.Error(known, err)
	}
	if l := NewLookup(func(string) (string, bool, error) { return "plain text", true, nil }); true {
		if _, known, err := l.Find("app", ""); known || err != nil {
			t.Error("a secret of no known form admits, or is an error:", known, err)
		}
	}
}

func TestADoubtedSecretIsLookedUpAgain(t *testing.T) {
	text := stored(t, "x")
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		l := NewLookup(func(string) (string, bool, error) { asked++; return text, true, nil })
		find := func(want int) {
			t.Helper()
			if _, _, _ = l.Find("app", ""); asked != want {
				t.Errorf("asked %d times, want %d", asked, want)
			}
		}
		find(1)
		l.Doubt("app") // a moment old: guesses do not make the server work
		find(1)
		time.Sleep(againAfter + time.Millisecond)
		l.Doubt("app")
		find(2)
	})
}

func TestLookupsAreAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		l := NewLookup(func(string) (string, bool, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return "", false, nil
		})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { _, _, _ = l.Find(fmt.Sprint(i), "10.0.0.1") })
		}
		wg.Wait()
		if most.Load() != lookupsAtOne {
			t.Errorf("%d at one time", most.Load())
		}
	})
}

func TestAddressesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		start := time.Now()
		var wg sync.WaitGroup
		work := func() { time.Sleep(time.Second) }
		for range 20 {
			wg.Go(func() { f.Do("greedy", work) })
		}
		synctest.Wait()
		wg.Go(func() {
			f.Do("modest", work)
			if waited := time.Since(start); waited > 3*time.Second {
				t.Errorf("one among twenty of another address waited %v", waited)
			}
		})
		wg.Wait()
		if took := time.Since(start); took != 21*time.Second {
			t.Errorf("21 seconds of work took %v", took)
		}
		if f.free != 1 || len(f.turns) != 0 || len(f.queue) != 0 {
			t.Errorf("left: %d free, %v, %v", f.free, f.turns, f.queue)
		}
		func() {
			defer func() { _ = recover() }()
			f.Do("x", func() { panic("x") })
		}()
		f.Do("x", func() {}) // does not wait for who panicked
	})
}

func TestAPasswordIsDerivedOnceWhileItIsRight(t *testing.T) {
	g := &Guard{}
	s, err := StoredSecret(stored(t, "right"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(password string, want bool, derived int) {
		t.Helper()
		keys, has, ok := g.Check("app", s, password, "10.0.0.1")
		if ok != want || has != want || g.derived != derived {
			t.Errorf("%s: %v %v, derived %d times; want %v, %d times", password, ok, has, g.derived, want, derived)
		}
		if want && keys.Verifier().Encode() != s.verifier.Encode() {
			t.Error("the keys are not the verifier's")
		}
	}
	check("right", true, 1)
	check("right", true, 1)
	check("wrong", false, 2)
	check("right", true, 2)
	if s, err = StoredSecret(stored(t, "new")); err != nil {
		t.Fatal(err)
	}
	check("right", false, 3) // the verifier is another
	if s, err = StoredSecret(wire.MD5Secret("app", "hashed")); err != nil {
		t.Fatal(err)
	}
	if _, has, ok := g.Check("app", s, "hashed", ""); has || !ok {
		t.Error("an md5 hash does not take its password")
	}
	if _, _, ok := g.Check("other", s, "hashed", ""); ok {
		t.Error("an md5 hash takes its password for another user")
	}
	if _, _, ok := g.Check("x", MockSecret(wire.NewMock(nil).Verifier("x", 4096)), "x", ""); ok {
		t.Error("a user that does not exist was let in")
	}
}

func TestSecretsDoNotPrintThemselves(t *testing.T) {
	s, err := PlainSecret("app", "marker")
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := s.verifier.Derive("marker")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, x := range []any{s, &s, map[string]Secret{"app": s}} {
			if text := fmt.Sprintf(format, x); strings.Contains(text, "marker") || strings.Contains(text, s.md5[3:]) || strings.Contains(text, "6d61726b6572") {
				t.Errorf("%s prints %s", format, text)
			}
		}
		if text := fmt.Sprintf(format, keys); len(text) > 120 {
			t.Errorf("%s prints keys as %s", format, text)
		}
	}
}

func TestKeysAreOfTheLastProof(t *testing.T) {
	k := NewKeys()
	if _, ok := k.Get("app"); ok {
		t.Error("keys of nobody")
	}
	salt := []byte("0123456789abcdef")
	for _, password := range []string{"old", "new"} {
		keys, err := wire.NewScramKeys(password, salt, 10)
		if err != nil {
			t.Fatal(err)
		}
		if !k.Put("app", keys) || k.Put("app", keys) {
			t.Error("the first time they are others than before, the second time not")
		}
		if got, ok := k.Get("app"); !ok || got != keys {
			t.Error("not the last keys")
		}
	}
}
