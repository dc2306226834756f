package knn

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func snapshot(t *testing.T, text string) Snapshot {
	t.Helper()
	s, err := ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASnapshotSeesWhatHadEnded(t *testing.T) {
	s := snapshot(t, "10:20:18,10,15")
	var seen []uint64
	for xid := uint64(8); xid < 23; xid++ {
		if s.sees(xid) {
			seen = append(seen, xid)
		}
	}
	if fmt.Sprint(seen) != "[8 9 11 12 13 14 16 17 19]" {
		t.Errorf("seen are %v", seen)
	}
	for _, text := range []string{"", "10:20", "a:20:", "10:b:", "10:20:c", "10:20:10,"} {
		if _, err := ParseSnapshot(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// near lets vectors with a first element up to it enter.
type near float32

func (n near) MayEnter(v []float32) bool { return v == nil || v[0] <= float32(n) }

// world is a Log with two tables, 1 logged and 2 not, and the reading that it is told next.
type world struct {
	t *testing.T
	*Log
	next Reading
}

func newWorld(t *testing.T, budget int64, coarse bool) *world {
	w := &world{t: t, Log: NewLog(budget, coarse)}
	w.Register([]uint32{1, 2})
	w.next = Reading{Server: "run", Tables: []Table{{1, "a", Facts{Logged: true}}, {2, "b", Facts{}}}}
	w.round("10:10:")
	return w
}

// round applies a round that sees a snapshot and has changes.
func (w *world) round(text string, changes ...Change) {
	w.t.Helper()
	r := w.next
	r.Snapshot, r.Changes, r.Sent = snapshot(w.t, text), changes, time.Now()
	w.Apply(w.Ask(), &r)
}

// keep gives the proof of an answer from tables, filled in a snapshot.
func (w *world) keep(text string, tables ...uint32) *Proof {
	w.t.Helper()
	m, ok := w.Mark(tables)
	if !ok {
		w.t.Fatal("no mark")
	}
	p := &Proof{Snapshot: snapshot(w.t, text), Nearest: tables[0], Area: near(5), All: true}
	p.Keys.Add("b")
	p.Keys.Add("a")
	if !p.Prove(m, "run") {
		w.t.Fatal("another server")
	}
	p.Finish()
	return p
}

func (w *world) judge(p *Proof, want Verdict) {
	w.t.Helper()
	if got := w.Judge(p); got != want {
		w.t.Errorf("judged %s, want %s", got, want)
	}
}

func TestAnAnswerIsJudgedByWhatItHasNotSeen(t *testing.T) {
	far, close := []float32{9}, []float32{1}
	for name, c := range map[string]struct {
		change Change
		want   Verdict
	}{
		"a far row":                    {Change{12, 1, Inserted, "z", far}, Valid},
		"a near row":                   {Change{12, 1, Inserted, "z", close}, Entered},
		"a row without a vector":       {Change{12, 1, Inserted, "z", nil}, Entered},
		"one that it saw":              {Change{11, 1, Inserted, "z", close}, Valid},
		"another row goes":             {Change{12, 1, Removed, "z", nil}, Valid},
		"one of its own goes":          {Change{12, 1, Removed, "a", nil}, Touched},
		"any row":                      {Change{12, 1, AnyRow, "", nil}, Unknown},
		"a kind that there is not yet": {Change{12, 1, '?', "", nil}, Unknown},
		"a table that nobody asks for": {Change{12, 3, AnyRow, "", nil}, Valid},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1<<20, false)
			p := w.keep("10:12:", 1)
			w.round("13:13:", c.change)
			w.judge(p, c.want)
			w.round("14:14:")
			w.judge(p, c.want)
			coarse := newWorld(t, 1<<20, true)
			p = coarse.keep("10:12:", 1)
			coarse.round("13:13:", c.change)
			if c.change.Table == 1 {
				coarse.judge(p, Unknown)
			}
		})
	}
}

func TestATableWithoutALogIsJudgedByTheSnapshotAlone(t *testing.T) {
	w := newWorld(t, 1<<20, false)
	alone, both := w.keep("10:12:11", 2), w.keep("10:12:11", 1, 2)
	w.round("10:12:11")
	w.judge(alone, Valid)
	w.judge(both, Valid)
	w.round("12:12:")
	w.judge(alone, Changed)
	w.judge(both, Changed)
}

func TestAChangeOfAnotherTableThatIsReadEndsAnAnswer(t *testing.T) {
	w := newWorld(t, 1<<20, false)
	w.next.Tables[1].Facts.Logged = true
	w.round("11:11:")
	p := w.keep("11:12:", 1, 2)
	w.round("12:13:")
	w.judge(p, Valid)
	w.round("14:14:", Change{13, 2, Inserted, "x", []float32{9}})
	w.judge(p, Unknown)
}

func TestWhatAnAnswerWasComputedWithMustNotChange(t *testing.T) {
	w := newWorld(t, 1<<20, false)
	p := w.keep("10:10:", 1)
	w.next.Tables[0].Fingerprint = "other"
	w.round("11:11:")
	w.judge(p, Defined)
	w.next.Tables[0].Fingerprint = "a"
	w.round("12:12:")
	w.judge(p, Defined) // it was another meanwhile
}

func TestAGapInTheLogEndsEveryAnswerFromBefore(t *testing.T) {
	for name, gap := range map[string]func(w *world){
		"more changes than a round reads": func(w *world) { w.next.Cut = true },
		"pruned rows":                     func(w *world) { w.next.Horizon = 11 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1<<20, false)
			p := w.keep("10:10:", 1)
			gap(w)
			w.round("12:12:")
			w.judge(p, Forgotten)
			w.next.Cut, w.next.Horizon = false, 0
			q := w.keep("12:12:", 1)
			w.round("13:13:")
			w.judge(p, Forgotten)
			w.judge(q, Valid)
		})
	}
}

func TestTheRingForgetsTheOldestWithinItsBudget(t *testing.T) {
	const budget = 10_000
	w := newWorld(t, budget, false)
	p := w.keep("10:10:", 1)
	for i := range 500 {
		w.round(fmt.Sprintf("%d:%d:", 11+i, 11+i), Change{uint64(10 + i), 1, Inserted, "z", []float32{9}})
		if i < 50 || i%50 == 0 && i > 400 {
			q := w.keep(fmt.Sprintf("%d:%d:", 11+i, 11+i), 1)
			w.round(fmt.Sprintf("%d:%d:", 12+i, 12+i))
			w.judge(q, Valid)
		}
		if w.bytes > budget {
			t.Fatalf("%d bytes", w.bytes)
		}
	}
	w.judge(p, Forgotten)
}

func TestAnotherServerEndsEverything(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		want   Verdict
	}{
		"restarted":        {func(w *world) { w.next.Server = "another run"; w.round("12:12:") }, Restarted},
		"become a standby": {func(w *world) { w.next.Recovery = true; w.round("10:10:") }, Unreadable},
		"set otherwise":    {func(w *world) { w.next.Settings = true; w.round("10:10:") }, Restarted},
		"asked of too much": {func(w *world) {
			for oid := range uint32(2 * maxTables) {
				w.Register([]uint32{oid})
			}
			w.round("10:10:")
		}, Restarted},
		"and as it was once": {func(w *world) { w.next.Server = "x"; w.round("9:9:"); w.next.Server = "run"; w.round("10:10:") }, Restarted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1<<20, false)
			p := w.keep("10:10:", 1)
			w.judge(p, Valid)
			c.change(w)
			w.judge(p, c.want)
		})
	}
	w := newWorld(t, 1<<20, false)
	m, _ := w.Mark([]uint32{1})
	if new(Proof).Prove(m, "another run") {
		t.Error("an answer of another server was proven")
	}
}

// scripted is a Link that answers when it is let to.
type scripted struct {
	asked  chan Question
	answer chan *Reading
	rests  int
}

func (s *scripted) Read(q Question) (*Reading, error) {
	s.asked <- q
	if r := <-s.answer; r != nil {
		r.Sent = time.Now()
		return r, nil
	}
	return nil, fmt.Errorf("no server")
}

func (s *scripted) Rest() { s.rests++ }

func TestARoundAnswersThoseWhoCameBeforeItWasSent(t *testing.T) {
	link := &scripted{make(chan Question), make(chan *Reading), 0}
	r := NewRounds(NewLog(1<<20, false), link)
	done := make(chan int, 10)
	wait := func(i int) {
		if r.Wait(new(Waiter)) {
			done <- i
		} else {
			done <- -i
		}
	}
	enter := func(list ...int) {
		for _, i := range list {
			r.mu.Lock()
			n := len(r.waiting)
			r.mu.Unlock()
			go wait(i)
			for grown := false; !grown; time.Sleep(time.Millisecond) {
				r.mu.Lock()
				grown = len(r.waiting) > n
				r.mu.Unlock()
			}
		}
	}
	answered := func(n int) []int {
		var list []int
		for range n {
			list = append(list, <-done)
		}
		slices.Sort(list)
		return list
	}
	go wait(1)
	<-link.asked
	enter(2, 3, 4) // while the first is under way
	link.answer <- &Reading{Snapshot: snapshot(t, "1:1:"), Server: "run"}
	if got := answered(1); got[0] != 1 {
		t.Errorf("the first round answered %v", got)
	}
	<-link.asked
	enter(5)
	select {
	case i := <-done:
		t.Errorf("%d was answered by a round that was sent before", i)
	case <-time.After(10 * time.Millisecond):
	}
	link.answer <- &Reading{Snapshot: snapshot(t, "2:2:"), Server: "run"}
	if got := answered(3); fmt.Sprint(got) != "[2 3 4]" {
		t.Errorf("the second round answered %v", got)
	}
	if q := <-link.asked; q.Since != "2:2:" {
		t.Errorf("the third asks since %q", q.Since)
	}
	link.answer <- nil
	if got := answered(1); got[0] != -5 {
		t.Errorf("a round that failed answered %v", got)
	}
	if s := r.Stat(); s != (RoundStat{2, 4, 1}) {
		t.Errorf("figures: %+v", s)
	}
}
