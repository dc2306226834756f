package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Entry is one answer. It is immutable once put.
type Entry struct {
	Head   []byte // the wire bytes that describe its columns
	Reply  []byte // those of the answer
	Rows   int    // data rows in Reply
	Proof  any    // what says whether it still holds
	Weight int64  // what Proof takes, in bytes
	Tally  *Tally // counts it, if not nil
}

// Tally counts the entries of a kind.
type Tally struct {
	Entries, Bytes atomic.Int64
	Evicted        atomic.Int64 // for want of room
}

func (e *Entry) count(n, bytes int64) {
	if e.Tally != nil {
		e.Tally.Entries.Add(n)
		e.Tally.Bytes.Add(n * bytes)
	}
}

// Overhead is what an entry costs beside its key, proof and replies, in bytes:
// the item, the Entry and its place in the map at the map's lowest load. The reply
// counts with an eighth more, the most that the allocator's size classes add. A
// test holds that the heap grows by no more than is counted.
const Overhead = 320

// shards is the number of independently locked parts; a power of two. Each has an
// equal part of the budget, so the largest entry is a shard's budget.
const shards = 8

// Cache maps keys to entries within a byte budget. In a full shard the least recently
// used go for a new one, unless they were asked for more often, all together, than it
// was: questions that come once do not drive out those that come again. All methods may
// be called by any goroutine.
type Cache struct {
	seed   maphash.Seed
	budget int64
	shards [shards]shard

	hits, misses, evictions, replaced, rejected, declined atomic.Int64
}

type shard struct {
	// mu protects what follows. Only memory is touched under it.
	mu    sync.Mutex
	items map[uint64]*item // by hash; colliding keys are chained by item.next
	ends  item             // closes the ring: ends.older is the newest item, ends.newer the oldest
	bytes int64
	n     int
	asked sketch
}

type item struct {
	hash         uint64
	key          []byte
	entry        *Entry
	size         int64
	next         *item // of equal hash
	newer, older *item
}

// New returns a cache that takes at most bytes. With 0 nothing is kept.
func New(bytes int64) *Cache {
	c := &Cache{seed: maphash.MakeSeed(), budget: max(bytes, 0)}
	for i := range c.shards {
		c.shards[i].reset()
		c.shards[i].asked = newSketch(c.MaxEntry())
	}
	return c
}

func (s *shard) reset() {
	s.items = map[uint64]*item{}
	s.ends.newer, s.ends.older = &s.ends, &s.ends
	s.bytes, s.n = 0, 0
}

// MaxEntry is the largest size, in bytes with Overhead, of an entry that is kept.
func (c *Cache) MaxEntry() int64 { return c.budget / shards }

// Size is what an entry costs under a key, in bytes.
func Size(key []byte, e *Entry) int64 {
	return int64(len(key)) + e.Weight + int64(cap(e.Head)+cap(e.Reply))*9/8 + Overhead
}

// shard gives the part that holds hash: by its highest bits, the map uses its own.
func (c *Cache) shard(hash uint64) *shard { return &c.shards[hash>>61%shards] }

// Get returns the entry of key and makes it the most recently used.
func (c *Cache) Get(key []byte) (*Entry, bool) {
	return c.get(maphash.Bytes(c.seed, key), key)
}

func (c *Cache) get(hash uint64, key []byte) (*Entry, bool) {
	s := c.shard(hash)
	s.mu.Lock()
	s.asked.add(hash)
	it := s.findLocked(hash, key)
	if it == nil {
		s.mu.Unlock()
		c.misses.Add(1)
		return nil, false
	}
	it.unlink()
	s.pushLocked(it)
	e := it.entry
	s.mu.Unlock()
	c.hits.Add(1)
	return e, true
}

// Put keeps e under key, instead of an entry that is there. Older entries go until
// it fits, if they may; one larger than MaxEntry is not kept, and what was there is dropped.
func (c *Cache) Put(key []byte, e *Entry) {
	c.put(maphash.Bytes(c.seed, key), key, e)
}

func (c *Cache) put(hash uint64, key []byte, e *Entry) {
	size := Size(key, e)
	it := &item{hash: hash, key: append(make([]byte, 0, len(key)), key...), entry: e, size: size}
	s := c.shard(hash)
	evicted := int64(0)
	s.mu.Lock()
	old := s.findLocked(hash, key)
	if old != nil {
		s.removeLocked(old)
	}
	fits := size <= c.MaxEntry()
	admitted := fits && s.admitsLocked(hash, s.bytes+size-c.MaxEntry())
	if admitted {
		for s.bytes+size > c.MaxEntry() {
			if t := s.ends.newer.entry.Tally; t != nil {
				t.Evicted.Add(1)
			}
			s.removeLocked(s.ends.newer)
			evicted++
		}
		it.next = s.items[hash]
		s.items[hash] = it
		s.pushLocked(it)
		s.bytes += size
		s.n++
		e.count(1, size)
	}
	s.mu.Unlock()
	c.evictions.Add(evicted)
	if old != nil {
		c.replaced.Add(1)
	}
	switch {
	case !fits:
		c.rejected.Add(1)
	case !admitted:
		c.declined.Add(1)
	}
}

// admitsLocked says whether the items that have to go for need bytes were asked for less
// often than hash was. The oldest gets another turn if not, so that it is not in the way
// of everything that comes.
func (s *shard) admitsLocked(hash uint64, need int64) bool {
	if need <= 0 {
		return true
	}
	left := s.asked.count(hash)
	for it := s.ends.newer; need > 0; it = it.newer {
		if left -= s.asked.count(it.hash); left < 0 {
			oldest := s.ends.newer
			oldest.unlink()
			s.pushLocked(oldest)
			return false
		}
		need -= it.size
	}
	return true
}

// Remove drops the entry of key, if e is still the one that is there. A caller that
// found e stale says so without dropping what another has put meanwhile.
func (c *Cache) Remove(key []byte, e *Entry) {
	hash := maphash.Bytes(c.seed, key)
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := s.findLocked(hash, key); it != nil && it.entry == e {
		s.removeLocked(it)
		c.replaced.Add(1)
	}
}

// Purge drops all entries.
func (c *Cache) Purge() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for it := s.ends.older; it != &s.ends; it = it.older {
			it.entry.count(-1, it.size)
		}
		s.reset()
		s.mu.Unlock()
	}
}

// Stat is the state of a Cache; counters are since New.
type Stat struct {
	Entries       int
	Bytes, Budget int64
	Hits, Misses  int64
	Evictions     int64 // dropped for want of room
	Replaced      int64 // dropped because stale: by Put or Remove
	Rejected      int64 // not kept: larger than MaxEntry
	Declined      int64 // not kept: asked for less often than what it would have driven out
}

// Stat returns the figures, each shard's at its own moment.
func (c *Cache) Stat() Stat {
	st := Stat{
		Budget: c.budget, Hits: c.hits.Load(), Misses: c.misses.Load(),
		Evictions: c.evictions.Load(), Replaced: c.replaced.Load(), Rejected: c.rejected.Load(), Declined: c.declined.Load(),
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		st.Entries += s.n
		st.Bytes += s.bytes
		s.mu.Unlock()
	}
	return st
}

func (s *shard) findLocked(hash uint64, key []byte) *item {
	for it := s.items[hash]; it != nil; it = it.next {
		if string(it.key) == string(key) {
			return it
		}
	}
	return nil
}

func (s *shard) pushLocked(it *item) {
	it.newer, it.older = &s.ends, s.ends.older
	it.older.newer, s.ends.older = it, it
}

func (it *item) unlink() {
	it.newer.older, it.older.newer = it.older, it.newer
}

func (s *shard) removeLocked(it *item) {
	it.unlink()
	it.entry.count(-1, it.size)
	s.bytes -= it.size
	s.n--
	first := s.items[it.hash]
	if first == it {
		if it.next == nil {
			delete(s.items, it.hash)
		} else {
			s.items[it.hash] = it.next
		}
		return
	}
	for first.next != it {
		first = first.next
	}
	first.next = it.next
}
