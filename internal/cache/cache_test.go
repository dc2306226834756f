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

func key(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func entry(i, size int) *Entry {
	return &Entry{Head: []byte("head"), Weight: 3, Reply: bytes.Repeat([]byte{byte(i)}, size), Rows: i}
}

// check compares a cache with what must hold of it at any time.
func check(t *testing.T, c *Cache) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		total, n := int64(0), 0
		for it := s.ends.older; it != &s.ends; it = it.older {
			if it.older.newer != it {
				t.Fatal("the ring is broken")
			}
			if s.findLocked(it.hash, it.key) != it {
				t.Fatal("an item of the ring is not in the map")
			}
			total += it.size
			n++
		}
		if total != s.bytes || n != s.n {
			t.Fatalf("counted %d bytes in %d items, kept %d in %d", s.bytes, s.n, total, n)
		}
		if s.bytes > c.MaxEntry() {
			t.Fatalf("%d bytes in a shard of %d", s.bytes, c.MaxEntry())
		}
	}
}

func TestGetGivesWhatWasPut(t *testing.T) {
	c := New(1 << 20)
	k := []byte("a key")
	if _, ok := c.Get(k); ok {
		t.Error("found in an empty cache")
	}
	e := entry(1, 100)
	c.Put(k, e)
	k[0] = 'b' // the cache has its own copy
	if got, ok := c.Get([]byte("a key")); !ok || got != e {
		t.Errorf("got %v, %v", got, ok)
	}
	if _, ok := c.Get(k); ok {
		t.Error("found under the changed key")
	}
	newer := entry(2, 50)
	c.Put([]byte("a key"), newer)
	if got, _ := c.Get([]byte("a key")); got != newer {
		t.Error("the older entry is still there")
	}
	c.Put(nil, e)
	if got, ok := c.Get([]byte{}); !ok || got != e {
		t.Error("the empty key is not kept")
	}
	want := Stat{
		Entries: 2, Bytes: Size([]byte("a key"), newer) + Size(nil, e), Budget: 1 << 20,
		Hits: 3, Misses: 2, Replaced: 1,
	}
	if got := c.Stat(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	check(t, c)
}

func TestKeysOfEqualHashAreDifferentKeys(t *testing.T) {
	c := New(1 << 20)
	for i := range 5 {
		c.put(7, key(i), entry(i, 10))
	}
	check(t, c)
	for _, gone := range []int{2, 4, 0} { // middle, head, tail of the chain
		e, _ := c.get(7, key(gone))
		s := c.shard(7)
		s.mu.Lock()
		s.removeLocked(s.findLocked(7, key(gone)))
		s.mu.Unlock()
		if e.Rows != gone {
			t.Errorf("key %d has entry %d", gone, e.Rows)
		}
		check(t, c)
	}
	for i := range 5 {
		e, ok := c.get(7, key(i))
		if want := i == 1 || i == 3; ok != want || ok && e.Rows != i {
			t.Errorf("key %d: %v, %v", i, e, ok)
		}
	}
}

func TestTheLeastRecentlyUsedGoesFirst(t *testing.T) {
	c := New(shards * 4 * Size(key(0), entry(0, 100)))
	for i := range 4 {
		c.put(1, key(i), entry(0, 100))
	}
	c.get(1, key(0))                   // 1 is now the oldest
	c.put(1, key(2), entry(0, 100))    // and 2 the newest
	c.put(1, key(4), entry(0, 100))    // 1 goes
	c.put(1, key(5), entry(0, 100))    // 3 goes
	c.put(1, key(6), entry(0, 100+90)) // asked for as often as each of two that it needs
	var have []int
	for i := range 7 {
		if _, ok := c.get(1, key(i)); ok {
			have = append(have, i)
		}
	}
	if fmt.Sprint(have) != "[0 2 4 5]" {
		t.Errorf("left are %v", have)
	}
	if st := c.Stat(); st.Evictions != 2 || st.Declined != 1 {
		t.Errorf("%d evictions, %d declined", st.Evictions, st.Declined)
	}
	check(t, c)
}

func TestTheBudgetIsNeverExceeded(t *testing.T) {
	const budget = 1 << 16
	c := New(budget)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		c.Put(key(r.IntN(500)), entry(i, r.IntN(3000)))
		if st := c.Stat(); st.Bytes > budget {
			t.Fatalf("%d bytes after %d puts", st.Bytes, i)
		}
	}
	check(t, c)
	if st := c.Stat(); st.Bytes < budget/2 || st.Evictions == 0 {
		t.Errorf("the budget is not used: %+v", st)
	}
}

func TestAnEntryTooLargeIsNotKeptAndDropsTheOldOne(t *testing.T) {
	c := New(shards * 1000)
	c.Put(key(1), entry(1, 10))
	c.Put(key(1), entry(2, 700))
	if _, ok := c.Get(key(1)); ok {
		t.Error("an entry is left")
	}
	fits := make([]byte, (1000-Overhead-len(key(1)))*8/9, 700)
	c.Put(key(2), &Entry{Reply: fits}) // its memory is its capacity
	c.Put(key(3), &Entry{Reply: fits[:len(fits):len(fits)]})
	if _, ok := c.Get(key(2)); ok {
		t.Error("an entry whose memory is too large was kept")
	}
	if _, ok := c.Get(key(3)); !ok {
		t.Error("an entry that just fits was not kept")
	}
	if st := c.Stat(); st.Rejected != 2 || st.Entries != 1 || st.Bytes > 1000 || st.Bytes < 998 {
		t.Errorf("got %+v", st)
	}
	none := New(0)
	none.Put(key(1), entry(1, 0))
	if st := none.Stat(); st.Entries != 0 || st.Rejected != 1 {
		t.Errorf("without a budget: %+v", st)
	}
}

func TestRemoveLeavesWhatAnotherHasPut(t *testing.T) {
	c := New(1 << 20)
	stale, fresh := entry(1, 10), entry(2, 10)
	c.Put(key(1), stale)
	c.Put(key(1), fresh)
	c.Remove(key(1), stale)
	if got, _ := c.Get(key(1)); got != fresh {
		t.Error("the fresh entry was dropped")
	}
	c.Remove(key(1), fresh)
	c.Remove(key(2), fresh)
	if st := c.Stat(); st.Entries != 0 || st.Bytes != 0 || st.Replaced != 2 {
		t.Errorf("got %+v", st)
	}
	check(t, c)
}

func TestPurgeDropsAll(t *testing.T) {
	c := New(1 << 20)
	for i := range 100 {
		c.Put(key(i), entry(i, 10))
	}
	held, _ := c.Get(key(7))
	c.Purge()
	if st := c.Stat(); st.Entries != 0 || st.Bytes != 0 {
		t.Errorf("got %+v", st)
	}
	if held.Reply[9] != 7 {
		t.Error("an entry that is held has changed")
	}
	c.Put(key(1), entry(1, 10))
	check(t, c)
}

func TestConcurrentUseGivesEachKeyItsOwnEntry(t *testing.T) {
	c := New(1 << 17)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for range 5000 {
				i := r.IntN(300)
				switch r.IntN(20) {
				case 0:
					c.Put(key(i), entry(i, r.IntN(2000)))
				case 1:
					if e, ok := c.Get(key(i)); ok {
						c.Remove(key(i), e)
					}
				case 2:
					if r.IntN(100) == 0 {
						c.Purge()
					}
				case 3:
					if st := c.Stat(); st.Bytes > st.Budget {
						t.Errorf("%d bytes", st.Bytes)
					}
				default:
					e, ok := c.Get(key(i))
					if ok && (e.Rows != i || len(e.Reply) > 0 && e.Reply[0] != byte(i)) {
						t.Errorf("key %d has entry %d", i, e.Rows)
					}
				}
			}
		})
	}
	wg.Wait()
	check(t, c)
}

func TestTheOverheadCoversWhatTheHeapGrowsBy(t *testing.T) {
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, size := range []int{0, 1, 100, 1000, 9000} {
		before := live()
		c := New(1 << 23)
		for i := 0; c.Stat().Evictions == 0; i++ {
			c.Put(key(i), &Entry{Head: make([]byte, 13), Reply: make([]byte, size)})
		}
		grown, counted := int64(live()-before), c.Stat().Bytes
		t.Logf("replies of %d bytes: %d entries, heap %d, counted %d", size, c.Stat().Entries, grown, counted)
		if grown > counted {
			t.Errorf("replies of %d bytes: the heap grew by %d, counted are %d", size, grown, counted)
		}
		runtime.KeepAlive(c)
	}
}

func BenchmarkHit(b *testing.B) {
	c := New(1 << 24)
	k := bytes.Repeat([]byte("0.123,"), 128)
	c.Put(k, entry(1, 1000))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := c.Get(k); !ok {
				b.Error("lost")
			}
		}
	})
}

func TestQuestionsThatComeOnceDoNotDriveOutThoseThatComeAgain(t *testing.T) {
	const hot = 200
	c := New(hot * 4 * Size(key(0), entry(0, 400)))
	ask := func(i, size int) bool {
		if _, ok := c.Get(key(i)); ok {
			return true
		}
		c.Put(key(i), entry(i, size))
		return false
	}
	r := rand.New(rand.NewPCG(5, 6))
	hits, asked := 0, 0
	for n := range 200_000 {
		if n%2 == 0 {
			ask(hot+n, 1+r.IntN(8000)) // new, some of them large
		} else if ok := ask(r.IntN(hot), 400); n > 20_000 {
			asked++
			hits += bit(ok)
		}
		if c.Stat().Bytes > c.Stat().Budget {
			t.Fatal("the budget is exceeded")
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
		if n > 50_000 {
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
