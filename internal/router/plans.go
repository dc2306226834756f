package router

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"
)

// shards is how many parts a plan cache has, each with a lock of its own.
const shards = 16

// planCache keeps plans by context and bytes, compared in full: a text, or a
// shape. Each shard evicts what was used least recently when it has more entries
// or bytes than its share.
type planCache struct {
	seed   maphash.Seed
	shards [shards]planShard
}

type planKey struct {
	c    *Context
	hash uint64
}

type planShard struct {
	mu      sync.Mutex // protects what follows
	entries map[planKey]*planEntry
	oldest  planEntry // the ring's anchor: next is the newest, prev the oldest
	count   int       // limit
	room    int       // bytes left
}

// planEntry is one kept plan and what it depends on.
type planEntry struct {
	key        planKey
	text       []byte
	plan       *Plan
	template   *template // in the cache of templates
	epoch      uint64    // under another epoch it is no longer valid,
	snapshot   uint64    // nor with another snapshot, if this is not 0,
	expires    time.Time // nor after this, if it is not zero
	next, prev *planEntry
}

// entryOverhead is what an entry takes besides its text, in bytes: the entry,
// its slot in the map, and a plan of one statement.
const entryOverhead = 512

func newPlanCache(count, size int) *planCache {
	c := &planCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = make(map[planKey]*planEntry)
		s.count, s.room = max(1, count/shards), max(entryOverhead, size/shards)
		s.oldest.next, s.oldest.prev = &s.oldest, &s.oldest
	}
	return c
}

// get returns the plan kept for text under c in the state st.
func (p *planCache) get(c *Context, text []byte, st *state, now func() time.Time) *Plan {
	if e := p.entry(c, text, st, now); e != nil {
		return e.plan
	}
	return nil
}

// template returns the template kept for a shape under c in the state st.
func (p *planCache) template(c *Context, shape []byte, st *state, now func() time.Time) *template {
	if e := p.entry(c, shape, st, now); e != nil {
		return e.template
	}
	return nil
}

func (p *planCache) entry(c *Context, text []byte, st *state, now func() time.Time) *planEntry {
	key := planKey{c, maphash.Bytes(p.seed, text)}
	s := &p.shards[key.hash%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil || !bytes.Equal(e.text, text) {
		return nil
	}
	if e.epoch != st.epoch || e.snapshot != 0 && e.snapshot != st.snapshot ||
		!e.expires.IsZero() && now().After(e.expires) {
		s.remove(e)
		return nil
	}
	if s.oldest.next != e {
		e.unlink()
		s.oldest.insert(e)
	}
	return e
}

// put keeps an entry, of which text, plan and what they depend on are set. The
// entry's text must not change. A text that does not fit is not kept.
func (p *planCache) put(c *Context, e *planEntry) {
	e.key = planKey{c, maphash.Bytes(p.seed, e.text)}
	s := &p.shards[e.key.hash%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[e.key]; old != nil {
		s.remove(old)
	}
	for s.oldest.prev != &s.oldest && (len(s.entries) >= s.count || s.room < e.size()) {
		s.remove(s.oldest.prev)
	}
	if s.room < e.size() {
		return
	}
	s.room -= e.size()
	s.entries[e.key] = e
	s.oldest.insert(e)
}

// clear empties the cache.
func (p *planCache) clear() {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for s.oldest.prev != &s.oldest {
			s.remove(s.oldest.prev)
		}
		s.mu.Unlock()
	}
}

// stat returns how many entries there are and how many bytes they take.
func (p *planCache) stat() (entries, size int) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		entries += len(s.entries)
		for e := s.oldest.next; e != &s.oldest; e = e.next {
			size += e.size()
		}
		s.mu.Unlock()
	}
	return entries, size
}

func (s *planShard) remove(e *planEntry) {
	delete(s.entries, e.key)
	e.unlink()
	s.room += e.size()
}

func (e *planEntry) size() int {
	n := len(e.text) + 8*len(e.plan.mentioned) + entryOverhead
	if e.template != nil {
		n += treeOverhead * len(e.text)
	}
	if rw := e.plan.Aggregates; rw != nil {
		n += rw.size()
	}
	return n
}

// treeOverhead is what a parse tree takes for each byte of its text, about.
const treeOverhead = 40

// insert puts n behind e.
func (e *planEntry) insert(n *planEntry) {
	n.prev, n.next = e, e.next
	e.next.prev = n
	e.next = n
}

func (e *planEntry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.next, e.prev = nil, nil
}
