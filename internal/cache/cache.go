package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// shards is the number of independently locked parts; a power of two. Each has an
// equal part of the budget, so the largest entry is a shard's budget.
const shards = 8

// Cache maps keys to entries within a byte budget. In a full shard the least recently
// used go for a new one, unless they were asked for more often, all together, than it
// was: questions that come once do not drive out those that come again. All methods may
// be called by any goroutine.
type Cache struct {
	seed   maphash.Seed
	shards [shards]atomic.Pointer[shard]
	budget atomic.Int64

	// mu protects reserved, and that only one changes the budget at a time.
	mu       sync.Mutex
	reserved int64

	hits, misses, evictions, replaced, rejected, declined atomic.Int64
}

// New returns a cache that takes at most bytes. With 0 nothing is kept. It fails when the
// system does not reserve the address space.
func New(bytes int64) (*Cache, error) { return newCache(bytes, reserve) }

func newCache(bytes int64, reserve func(int) ([]byte, func(), error)) (*Cache, error) {
	c := &Cache{seed: maphash.MakeSeed()}
	c.budget.Store(max(bytes, 0))
	for i := range c.shards {
		s, err := newShard(max(bytes, 0)/shards, reserve)
		if err != nil {
			return nil, err
		}
		c.shards[i].Store(s)
	}
	return c, nil
}

// Resize has the cache begin anew with another budget. What Reserve has set aside stays.
func (c *Cache) Resize(bytes int64) error {
	n, err := newCache(bytes, reserve)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget.Store(max(bytes, 0))
	for i := range c.shards {
		c.shards[i].Load().close()
		s := n.shards[i].Load()
		s.reserved = c.reserved / shards
		c.shards[i].Store(s)
	}
	return nil
}

// Reserve sets bytes of Go's heap aside for what belongs to answers but is not kept
// here, and takes back what is set aside where bytes is negative. They count as those of
// entries do, and in Stat. It is false, and nothing is set aside, when that were more than
// half of the budget.
func (c *Cache) Reserve(bytes int64) bool {
	bytes *= slack
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes > 0 && c.reserved+bytes > c.budget.Load()/2 {
		return false
	}
	c.reserved += bytes
	for i := range c.shards {
		c.evictions.Add(c.shards[i].Load().reserve(bytes / shards))
	}
	return true
}

// shard gives the part that holds hash: by its highest bits, the map uses its own.
func (c *Cache) shard(hash uint64) *shard { return c.shards[hash>>61%shards].Load() }

// Get returns the entry of key, whose Release is to be called, and makes it the most
// recently used.
func (c *Cache) Get(key []byte) (*Entry, bool) {
	return c.get(maphash.Bytes(c.seed, key), key)
}

func (c *Cache) get(hash uint64, key []byte) (*Entry, bool) {
	s := c.shard(hash)
	s.mu.Lock()
	s.asked.add(hash)
	e := s.findLocked(hash, key)
	if e == nil {
		s.mu.Unlock()
		c.misses.Add(1)
		return nil, false
	}
	e.unlink()
	s.pushLocked(e)
	e.refs.Add(1)
	s.mu.Unlock()
	c.hits.Add(1)
	return e, true
}

// Put keeps a under key, instead of an entry that is there. Older entries go until it
// fits, if they may; one larger than a shard is not kept, and what was there is dropped.
func (c *Cache) Put(key []byte, a *Answer) {
	c.put(maphash.Bytes(c.seed, key), key, a)
}

func (c *Cache) put(hash uint64, key []byte, a *Answer) {
	blocks, heap := cost(key, a)
	s := c.shard(hash)
	e := &Entry{
		Rows: a.Rows, Proof: a.Proof, home: s, tally: a.Tally, blocks: make([]uint32, blocks),
		key: len(key), head: len(a.Head), reply: len(a.Reply),
		hash: hash, size: int64(blocks*blockSize) + heap, heap: heap,
	}
	e.refs.Store(1)
	fate, replaced, evicted := s.admit(e, key)
	c.evictions.Add(evicted)
	if fate == kept {
		// Nobody else knows the blocks yet: other clients go on meanwhile.
		s.arena.write(e.blocks, key, a.Head, a.Reply)
		if s.publish(e, key) {
			replaced = true
		}
	}
	if replaced {
		c.replaced.Add(1)
	}
	switch fate {
	case rejected:
		c.rejected.Add(1)
	case declined:
		c.declined.Add(1)
	}
}

// Remove drops e, if it is still there. A caller that found it stale says so without
// dropping what another has put meanwhile.
func (c *Cache) Remove(e *Entry) {
	s := e.home
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.listed {
		s.removeLocked(e)
		c.replaced.Add(1)
	}
}

// Stat is the state of a Cache; counters are since New.
type Stat struct {
	Entries       int
	Bytes, Budget int64 // Bytes: with what is reserved, and free memory that was not given back
	Hits, Misses  int64
	Evictions     int64 // dropped for want of room
	Replaced      int64 // dropped because stale: by Put or Remove
	Rejected      int64 // not kept: larger than a shard
	Declined      int64 // not kept: asked for less often than what it would have driven out
}

// Stat returns the figures, each shard's at its own moment.
func (c *Cache) Stat() Stat {
	st := Stat{
		Budget: c.budget.Load(), Hits: c.hits.Load(), Misses: c.misses.Load(),
		Evictions: c.evictions.Load(), Replaced: c.replaced.Load(), Rejected: c.rejected.Load(), Declined: c.declined.Load(),
	}
	for i := range c.shards {
		s := c.shards[i].Load()
		s.mu.Lock()
		st.Entries += s.n
		st.Bytes += s.heldLocked()
		s.mu.Unlock()
	}
	return st
}
