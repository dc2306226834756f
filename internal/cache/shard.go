package cache

import "sync"

// shard is a part of a Cache with a budget of its own.
type shard struct {
	limit int64 // bytes of blocks, of the heap as it is counted, and reserved
	arena *arena

	// mu protects what follows, and the arena's free blocks. Only memory is touched under
	// it.
	mu       sync.Mutex
	entries  map[uint64]*Entry // by hash; those of equal hash are chained by next
	ends     Entry             // closes the ring: ends.older is the newest entry, ends.newer the oldest
	heap     int64             // of all entries that have blocks
	reserved int64
	n        int // in the map
	asked    sketch
	closed   bool // it takes nothing any more
}

// fate is what becomes of an answer that is put.
type fate uint8

const (
	kept     fate = iota
	rejected      // larger than the shard
	declined      // asked for less often than what would have to go
)

func newShard(limit int64, reserve func(int) ([]byte, func(), error)) (*shard, error) {
	s := &shard{asked: newSketch(limit), entries: map[uint64]*Entry{}}
	s.limit = max(0, limit-slack*s.asked.bytes())
	s.ends.newer, s.ends.older = &s.ends, &s.ends
	var err error
	s.arena, err = newArena(s.limit, reserve)
	return s, err
}

// heldLocked is what the shard takes of the budget.
func (s *shard) heldLocked() int64 {
	return int64(s.arena.resident)*int64(segmentSize) + s.heap + s.reserved
}

// shortLocked is how many bytes too few are there for blocks and heap; empty segments are
// there.
func (s *shard) shortLocked(blocks int, heap int64) int64 {
	return int64(s.arena.busy()+s.arena.wants(blocks))*int64(segmentSize) + s.heap + heap + s.reserved - s.limit
}

// roomLocked says whether blocks and heap fit into the limit, and gives back segments
// that they would exceed it with.
func (s *shard) roomLocked(blocks int, heap int64) bool {
	if s.shortLocked(blocks, heap) > 0 {
		return false
	}
	a := s.arena
	most := int((s.limit - s.reserved - s.heap - heap) / int64(segmentSize))
	for a.empts > 0 && a.resident+max(0, a.wants(blocks)-a.empts) > most {
		a.giveBack()
	}
	return true
}

// admit drops what is there under e's key, makes room for e and gives it blocks, if it is
// to be kept.
func (s *shard) admit(e *Entry, key []byte) (f fate, replaced bool, evicted int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.findLocked(e.hash, key); old != nil {
		s.removeLocked(old)
		replaced = true
	}
	segments := (len(e.blocks) + blocksOfSegment - 1) / blocksOfSegment
	if s.closed || int64(segments*segmentSize)+e.heap+s.reserved > s.limit {
		return rejected, replaced, 0
	}
	if !s.worthLocked(e.hash, s.shortLocked(len(e.blocks), e.heap)) {
		return declined, replaced, 0
	}
	evicted, ok := s.makeRoomLocked(len(e.blocks), e.heap)
	if !ok {
		return declined, replaced, evicted
	}
	s.arena.take(e.blocks)
	s.heap += e.heap
	return kept, replaced, evicted
}

// makeRoomLocked evicts the least recently used until blocks and heap fit; not so if the
// rest is in use by those who were given it.
func (s *shard) makeRoomLocked(blocks int, heap int64) (evicted int64, ok bool) {
	for !s.roomLocked(blocks, heap) {
		oldest := s.ends.newer
		if oldest == &s.ends {
			return evicted, false
		}
		if oldest.tally != nil {
			oldest.tally.Evicted.Add(1)
		}
		s.removeLocked(oldest)
		evicted++
	}
	return evicted, true
}

// worthLocked says whether the entries that have to go for need bytes were asked for less
// often than hash was. The oldest gets another turn if not, so that it is not in the way
// of everything that comes.
func (s *shard) worthLocked(hash uint64, need int64) bool {
	if need <= 0 {
		return true
	}
	left := s.asked.count(hash)
	for e := s.ends.newer; need > 0 && e != &s.ends; e = e.newer {
		if left -= s.asked.count(e.hash); left < 0 {
			oldest := s.ends.newer
			oldest.unlink()
			s.pushLocked(oldest)
			return false
		}
		need -= e.size
	}
	return true
}

// publish makes e, whose blocks are written, the entry of its key.
func (s *shard) publish(e *Entry, key []byte) (replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.freeLocked(e)
		return false
	}
	if other := s.findLocked(e.hash, key); other != nil {
		s.removeLocked(other)
		replaced = true
	}
	e.next = s.entries[e.hash]
	s.entries[e.hash] = e
	s.pushLocked(e)
	e.listed = true
	s.n++
	e.count(1)
	return replaced
}

// reserve sets bytes aside, and evicts what is in the way.
func (s *shard) reserve(bytes int64) (evicted int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved += bytes
	evicted, _ = s.makeRoomLocked(0, 0)
	return evicted
}

// close drops all entries, a few at a time.
func (s *shard) close() {
	const few = 256
	for over := false; !over; {
		s.mu.Lock()
		s.closed = true
		for i := 0; i < few && s.ends.newer != &s.ends; i++ {
			s.removeLocked(s.ends.newer)
		}
		for i := 0; i < few && s.arena.empts > 0; i++ {
			s.arena.giveBack()
		}
		over = s.n == 0 && s.arena.empts == 0
		s.mu.Unlock()
	}
}

func (s *shard) findLocked(hash uint64, key []byte) *Entry {
	for e := s.entries[hash]; e != nil; e = e.next {
		if e.key == len(key) && s.arena.begins(e.blocks, key) {
			return e
		}
	}
	return nil
}

func (s *shard) pushLocked(e *Entry) {
	e.newer, e.older = &s.ends, s.ends.older
	e.older.newer, s.ends.older = e, e
}

func (e *Entry) unlink() {
	e.newer.older, e.older.newer = e.older, e.newer
}

// removeLocked takes e out; its blocks stay as long as somebody needs them.
func (s *shard) removeLocked(e *Entry) {
	e.unlink()
	e.listed = false
	e.count(-1)
	s.n--
	first := s.entries[e.hash]
	switch {
	case first != e:
		for first.next != e {
			first = first.next
		}
		first.next = e.next
	case e.next == nil:
		delete(s.entries, e.hash)
	default:
		s.entries[e.hash] = e.next
	}
	e.next, e.newer, e.older = nil, nil, nil
	if e.refs.Add(-1) == 0 {
		s.freeLocked(e)
	}
}

func (s *shard) freeLocked(e *Entry) {
	s.arena.put(e.blocks)
	e.blocks = nil
	s.heap -= e.heap
}
