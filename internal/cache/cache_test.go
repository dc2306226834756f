package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// heapReserve gives memory that the race detector watches; newTest poisons what is free.
func heapReserve(n int) ([]byte, func(), error) { return make([]byte, n), func() {}, nil }

// newTest returns a cache whose free blocks are overwritten.
func newTest(t testing.TB, budget int64) *Cache {
	t.Helper()
	return poisoned(t, budget, heapReserve)
}

func poisoned(t testing.TB, budget int64, reserve func(int) ([]byte, func(), error)) *Cache {
	t.Helper()
	c, err := newCache(budget, reserve)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.shards {
		c.shards[i].Load().arena.poisoned = true
	}
	return c
}

func key(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// hashOf is the same in every run, so that what is admitted is too.
func hashOf(i int) uint64 {
	h := (uint64(i) + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func get(c *Cache, i int) (*Entry, bool) { return c.get(hashOf(i), key(i)) }

func put(c *Cache, i, size int) { c.put(hashOf(i), key(i), answer(i, size)) }

func answer(i, size int) *Answer {
	return &Answer{Head: []byte("head"), Weight: 3, Reply: bytes.Repeat([]byte{byte(i)}, size), Rows: i}
}

// has says whether a key has an entry, whose reply and head must be whole.
func has(t testing.TB, c *Cache, i int) bool {
	t.Helper()
	e, ok := get(c, i)
	if !ok {
		return false
	}
	defer e.Release()
	whole(t, e, i)
	return true
}

func whole(t testing.TB, e *Entry, i int) {
	t.Helper()
	if e.Rows != i || string(e.AppendHead(nil)) != "head" || !bytes.Equal(e.AppendReply(nil), bytes.Repeat([]byte{byte(i)}, e.reply)) {
		t.Fatalf("key %d has the reply of %d rows %q", i, e.Rows, e.AppendReply(nil))
	}
}

// check compares a cache with what must hold of it when nobody uses it but those who
// hold entries that are not in it any more.
func check(t *testing.T, c *Cache, held ...*Entry) {
	t.Helper()
	for i := range c.shards {
		s := c.shards[i].Load()
		s.mu.Lock()
		defer s.mu.Unlock()
		heap, n, used := int64(0), 0, map[uint32]bool{}
		count := func(e *Entry) {
			for _, b := range e.blocks {
				if used[b] || s.arena.free[b/blocksOfSegment]>>(b%blocksOfSegment)&1 != 0 {
					t.Fatalf("block %d is another's, or free", b)
				}
				used[b] = true
			}
			heap += e.heap
		}
		for e := s.ends.older; e != &s.ends; e = e.older {
			if e.older.newer != e || !e.listed {
				t.Fatal("the ring is broken")
			}
			if s.findLocked(e.hash, e.append(nil, 0, e.key)) != e {
				t.Fatal("an entry of the ring is not in the map")
			}
			count(e)
			n++
		}
		for _, e := range held {
			if e.home == s && !e.listed {
				count(e)
			}
		}
		if heap != s.heap || n != s.n || len(used) != s.arena.used {
			t.Fatalf("counted %d bytes of heap and %d blocks in %d entries, kept %d and %d in %d", heap, len(used), n, s.heap, s.arena.used, s.n)
		}
		if s.heldLocked() > s.limit {
			t.Fatalf("%d bytes in a shard of %d", s.heldLocked(), s.limit)
		}
	}
}

func TestGetGivesWhatWasPut(t *testing.T) {
	c := newTest(t, 1<<20)
	k := []byte("a key")
	if _, ok := c.Get(k); ok {
		t.Error("found in an empty cache")
	}
	get := func(k []byte, want string) {
		t.Helper()
		e, ok := c.Get(k)
		if !ok || string(e.AppendReply([]byte("x"))) != "x"+want || string(e.AppendHead(nil)) != "h" || e.reply != len(want) || e.Proof != want {
			t.Fatalf("%q has %v, %v", k, e, ok)
		}
		e.Release()
	}
	long := string(bytes.Repeat([]byte("0123456789"), 1000))
	a := &Answer{Head: []byte("h"), Reply: []byte(long), Proof: long}
	c.Put(k, a)
	k[0], a.Reply[0], a.Head[0] = 'b', '!', '!' // the cache has its own copies
	get([]byte("a key"), long)
	if _, ok := c.Get(k); ok {
		t.Error("found under the changed key")
	}
	e, _ := c.Get([]byte("a key"))
	for _, r := range [][2]int{{0, 0}, {0, 1}, {3, 700}, {100, 10000}, {9999, 10000}, {10000, 10000}} {
		if got := string(e.AppendPart(nil, r[0], r[1])); got != long[r[0]:r[1]] {
			t.Errorf("bytes %d to %d are %q", r[0], r[1], got)
		}
	}
	e.Release()
	c.Put([]byte("a key"), &Answer{Head: []byte("h"), Reply: []byte("newer"), Proof: "newer"})
	get([]byte("a key"), "newer")
	c.Put(nil, &Answer{Head: []byte("h"), Proof: ""})
	get([]byte{}, "")
	st := c.Stat()
	st.Bytes = 0
	if want := (Stat{Entries: 2, Budget: 1 << 20, Hits: 4, Misses: 2, Replaced: 1}); st != want {
		t.Errorf("got %+v, want %+v", st, want)
	}
	check(t, c)
}

func TestKeysOfEqualHashAreDifferentKeys(t *testing.T) {
	c := newTest(t, 1<<20)
	for i := range 5 {
		c.put(7, key(i), answer(i, 10))
	}
	check(t, c)
	for _, gone := range []int{2, 4, 0} { // middle, head, tail of the chain
		e, _ := c.get(7, key(gone))
		whole(t, e, gone)
		c.Remove(e)
		check(t, c, e)
		e.Release()
		check(t, c)
	}
	for i := range 5 {
		e, ok := c.get(7, key(i))
		if want := i == 1 || i == 3; ok != want || ok && e.Rows != i {
			t.Errorf("key %d: %v, %v", i, e, ok)
		}
	}
}

// segments is the budget of a cache each of whose shards has n segments, besides so much
// of the heap that an answer of few bytes has place.
func segments(n int) int64 { return shards * int64(n*segmentSize+16<<10) }

func TestTheLeastRecentlyUsedGoesFirst(t *testing.T) {
	c := newTest(t, segments(4))
	quarter := segmentSize - 100 // with key and head
	for i := range 4 {
		c.put(1, key(i), answer(i, quarter))
	}
	get := func(i int) bool {
		e, ok := c.get(1, key(i))
		if ok {
			whole(t, e, i)
			e.Release()
		}
		return ok
	}
	get(0)                                  // 1 is now the oldest
	c.put(1, key(2), answer(2, quarter))    // and 2 the newest
	c.put(1, key(4), answer(4, quarter))    // 1 goes
	c.put(1, key(5), answer(5, quarter))    // 3 goes
	c.put(1, key(6), answer(6, 2*quarter))  // asked for as often as each of two that it needs
	c.put(1, key(7), answer(7, 20*quarter)) // larger than all
	var have []int
	for i := range 8 {
		if get(i) {
			have = append(have, i)
		}
	}
	if fmt.Sprint(have) != "[0 2 4 5]" {
		t.Errorf("left are %v", have)
	}
	if st := c.Stat(); st.Evictions != 2 || st.Declined != 1 || st.Rejected != 1 {
		t.Errorf("%d evictions, %d declined, %d rejected", st.Evictions, st.Declined, st.Rejected)
	}
	check(t, c)
}

// TestTheBudgetIsNeverExceeded has answers that are small for a time, so that heap is
// what they need, and large for another, with some that are held beyond their eviction.
func TestTheBudgetIsNeverExceeded(t *testing.T) {
	const budget = 1 << 20
	for _, reserve := range []func(int) ([]byte, func(), error){heapReserve, reserve} {
		c := poisoned(t, budget, reserve)
		r := rand.New(rand.NewPCG(1, 2))
		var held []*Entry
		full := int64(0)
		for i := range 20_000 {
			k := r.IntN(2000)
			size := r.IntN(300)
			if i/2000%2 == 1 {
				size = r.IntN(30_000)
			}
			if e, ok := get(c, k); ok {
				whole(t, e, k)
				held = append(held, e)
				if len(held) > 20 {
					at := r.IntN(len(held))
					held[at].Release()
					held[at] = held[len(held)-1]
					held = held[:len(held)-1]
				}
			} else {
				put(c, k, size)
			}
			if i%1000 == 999 && !(c.Reserve(budget/4/slack) && c.Reserve(-budget/4/slack)) {
				t.Fatal("nothing is set aside")
			}
			st := c.Stat()
			if st.Bytes > budget {
				t.Fatalf("%d bytes after %d puts", st.Bytes, i)
			}
			full = max(full, st.Bytes)
		}
		for _, e := range held {
			whole(t, e, e.Rows)
		}
		check(t, c, held...)
		for _, e := range held {
			e.Release()
		}
		check(t, c)
		if st := c.Stat(); full < budget*3/4 || st.Evictions == 0 {
			t.Errorf("the budget is not used: %d, %+v", full, st)
		}
	}
}

func TestAnEntryTooLargeIsNotKeptAndDropsTheOldOne(t *testing.T) {
	c := newTest(t, segments(1))
	put(c, 1, 10)
	put(c, 1, segmentSize+1)
	if has(t, c, 1) {
		t.Error("an entry is left")
	}
	put(c, 3, segmentSize-len(key(3))-len("head"))
	if !has(t, c, 3) {
		t.Error("an entry that just fits was not kept")
	}
	if st := c.Stat(); st.Rejected != 1 || st.Entries != 1 {
		t.Errorf("got %+v", st)
	}
	none := newTest(t, 0)
	none.Put(key(1), answer(1, 0))
	if st := none.Stat(); st.Entries != 0 || st.Rejected != 1 || st.Bytes != 0 {
		t.Errorf("without a budget: %+v", st)
	}
}

func TestRemoveLeavesWhatAnotherHasPut(t *testing.T) {
	c := newTest(t, 1<<20)
	c.Put(key(1), answer(1, 10))
	stale, _ := c.Get(key(1))
	c.Put(key(1), answer(1, 20))
	c.Remove(stale)
	fresh, ok := c.Get(key(1))
	if !ok || fresh.reply != 20 {
		t.Error("the fresh entry was dropped")
	}
	whole(t, stale, 1) // it is held
	c.Remove(fresh)
	c.Remove(fresh)
	check(t, c, stale, fresh)
	stale.Release()
	fresh.Release()
	if st := c.Stat(); st.Entries != 0 || st.Replaced != 2 {
		t.Errorf("got %+v", st)
	}
	check(t, c)
}

func TestAnotherBudgetBeginsAnew(t *testing.T) {
	tally := new(Tally)
	c := newTest(t, 1<<20)
	for i := range 500 {
		a := answer(i, 10)
		a.Tally = tally
		c.put(hashOf(i), key(i), a)
	}
	if !c.Reserve(64 << 10) {
		t.Fatal("nothing is set aside")
	}
	held, ok := get(c, 7)
	if !ok {
		t.Fatal("not kept")
	}
	if err := c.Resize(2 << 20); err != nil {
		t.Fatal(err)
	}
	if st := c.Stat(); st.Entries != 0 || st.Bytes != slack*64<<10 || st.Budget != 2<<20 || tally.Entries.Load() != 0 || tally.Bytes.Load() != 0 {
		t.Errorf("got %+v, %d entries and %d bytes by the tally", st, tally.Entries.Load(), tally.Bytes.Load())
	}
	whole(t, held, 7)
	c.Remove(held)
	held.Release()
	put(c, 1, 10)
	if !has(t, c, 1) {
		t.Error("nothing is kept")
	}
	check(t, c)
}

func TestWhatIsSetAsideIsNotKeptIn(t *testing.T) {
	c := newTest(t, 1<<20)
	fill := func() int {
		for i := range 4000 {
			for range 2 {
				if !has(t, c, i) {
					put(c, i, 300)
				}
			}
		}
		return c.Stat().Entries
	}
	all := fill()
	if c.Reserve(176 << 10) {
		t.Error("more than half was set aside")
	}
	if !c.Reserve(160 << 10) {
		t.Fatal("half was not set aside")
	}
	check(t, c)
	if n := fill(); n > all*6/10 || n < all/4 {
		t.Errorf("%d entries in half of the budget, %d in all", n, all)
	}
	check(t, c)
	if !c.Reserve(-160 << 10) {
		t.Error("it is not taken back")
	}
	if n := fill(); n < all*9/10 {
		t.Errorf("%d entries, once it was %d", n, all)
	}
}

// TestReadersBesideEvictionsSeeWholeAnswers has every block that is freed overwritten.
func TestReadersBesideEvictionsSeeWholeAnswers(t *testing.T) {
	c := newTest(t, 1<<20)
	var same [256][]byte
	for i := range same {
		same[i] = bytes.Repeat([]byte{byte(i)}, 20_000)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			var buf []byte
			for n := range 1500 {
				i := r.IntN(300)
				e, ok := c.Get(key(i))
				if !ok {
					c.Put(key(i), answer(i, r.IntN(20_000)))
				} else {
					if n%7 == 0 {
						runtime.Gosched() // as one who waits for a round
					}
					buf = e.AppendReply(buf[:0])
					if e.Rows != i || len(buf) != e.reply || !bytes.Equal(buf, same[i%256][:len(buf)]) {
						t.Errorf("key %d has the reply of %d rows", i, e.Rows)
					}
					if n%50 == 0 {
						c.Remove(e)
					}
					e.Release()
				}
				switch {
				case g == 0 && n%500 == 499:
					if err := c.Resize(1 << 20); err != nil {
						t.Error(err)
					}
				case n%100 == 0:
					if st := c.Stat(); st.Bytes > st.Budget {
						t.Errorf("%d bytes", st.Bytes)
					}
				}
			}
		})
	}
	wg.Wait()
	check(t, c)
	if st := c.Stat(); st.Evictions == 0 || st.Hits == 0 {
		t.Errorf("nothing was evicted, or found: %+v", st)
	}
}

func TestTheHeapGrowsByNoMoreThanIsCounted(t *testing.T) {
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, size := range []int{0, 1, 100, 1000, 9000, 100_000} {
		before := live()
		c, err := New(1 << 23)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; c.Stat().Evictions == 0; i++ {
			c.Put(key(i), &Answer{Head: make([]byte, 13), Reply: make([]byte, size)})
		}
		grown, counted, fixed := int64(live()-before), int64(0), int64(0)
		for i := range c.shards {
			s := c.shards[i].Load()
			counted += s.heap
			fixed += s.asked.bytes() + int64(len(s.arena.free))*9 + 2048
		}
		st := c.Stat()
		t.Logf("replies of %d bytes: %d entries, heap %d, counted %d of %d", size, st.Entries, grown, counted, st.Bytes)
		if slack*(grown-fixed) > counted {
			t.Errorf("replies of %d bytes: the heap grew by %d, counted are %d", size, grown-fixed, counted)
		}
		runtime.KeepAlive(c)
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	c := newTest(t, 1<<20)
	c.Put(key(1), answer(1, 3000))
	k, buf := key(1), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		e, ok := c.Get(k)
		if !ok {
			t.Fatal("lost")
		}
		buf = e.AppendReply(e.AppendHead(buf[:0]))
		e.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	c := newTest(b, 1<<24)
	k := bytes.Repeat([]byte("0.123,"), 128)
	c.Put(k, answer(1, 1000))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var buf []byte
		for pb.Next() {
			e, ok := c.Get(k)
			if !ok {
				b.Fatal("lost")
			}
			buf = e.AppendReply(buf[:0])
			e.Release()
		}
	})
}

func TestQuestionsThatComeOnceDoNotDriveOutThoseThatComeAgain(t *testing.T) {
	const hot = 200
	blocks, heap := cost(key(0), answer(0, 400))
	c := newTest(t, hot*6*(int64(blocks*blockSize)+heap))
	ask := func(i, size int) bool {
		e, ok := get(c, i)
		if !ok {
			put(c, i, size)
			return false
		}
		e.Release()
		return true
	}
	r := rand.New(rand.NewPCG(5, 6))
	hits, asked := 0, 0
	for n := range 50_000 {
		if n%2 == 0 {
			ask(hot+n, 1+r.IntN(8000)) // new, some of them large
		} else if ok := ask(r.IntN(hot), 400); n > 10_000 {
			asked++
			hits += bit(ok)
		}
	}
	check(t, c)
	share := float64(hits) / float64(asked)
	t.Logf("hits on the hot set: %.3f", share)
	if share < 0.95 {
		t.Errorf("%.3f of the questions that came again were answered", share)
	}
	// Others become hot: they take the places.
	hits, asked = 0, 0
	for n := range 100_000 {
		ok := ask(1<<30+r.IntN(hot), 400)
		if n > 60_000 {
			asked++
			hits += bit(ok)
		}
	}
	if share := float64(hits) / float64(asked); share < 0.95 {
		t.Errorf("%.3f of the questions that came to be hot were answered", share)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
