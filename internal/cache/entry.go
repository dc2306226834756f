package cache

import (
	"slices"
	"sync/atomic"
)

// Answer is what is put under a key. Head and Reply are copied.
type Answer struct {
	Head   []byte // the wire bytes that describe its columns
	Reply  []byte // those of the answer
	Rows   int    // data rows in Reply
	Proof  any    // what says whether it still holds
	Weight int64  // what Proof takes of Go's heap, in bytes
	Tally  *Tally // counts it, if not nil
}

// Entry is a kept answer, immutable. Its bytes are blocks of an arena, which stay until
// everybody who was given it has called Release, evicted or not.
type Entry struct {
	Rows  int
	Proof any

	home   *shard
	tally  *Tally
	blocks []uint32 // key, head and reply, one behind the other
	key    int      // their lengths
	head   int
	reply  int
	refs   atomic.Int32 // who needs the blocks: the shard, and those who were given it
	hash   uint64
	size   int64 // what it costs, and what of that is Go's heap
	heap   int64

	// What follows is protected by home.mu.
	listed       bool   // in the map and in the ring
	next         *Entry // of equal hash
	newer, older *Entry
}

// Tally counts the entries of a kind.
type Tally struct {
	Entries, Bytes atomic.Int64
	Evicted        atomic.Int64 // for want of room
}

func (e *Entry) count(n int64) {
	if e.tally != nil {
		e.tally.Entries.Add(n)
		e.tally.Bytes.Add(n * e.size)
	}
}

// slack is what a byte on Go's heap counts as. The collector, at its default, lets garbage
// take as much as what lives; spans in part use, its own tables and what is not yet given
// back to the system come on top: make bench-knn saw 2.4 bytes of resident memory for one
// that lives.
const slack = 3

// overhead is what an entry takes of Go's heap, in bytes, beside its proof and the
// numbers of its blocks: the Entry and its place in the map at the map's lowest load. A
// test holds that the heap grows by no more than is counted.
const overhead = 240

// cost is what an answer with such a key needs: blocks, and bytes of Go's heap as they
// are counted.
func cost(key []byte, a *Answer) (blocks int, heap int64) {
	blocks = (len(key) + len(a.Head) + len(a.Reply) + blockSize - 1) / blockSize
	return blocks, slack * (overhead + int64(blocks)*9/2 + a.Weight)
}

// AppendHead appends the bytes that describe the columns.
func (e *Entry) AppendHead(dst []byte) []byte { return e.append(dst, e.key, e.head) }

// AppendReply appends the reply.
func (e *Entry) AppendReply(dst []byte) []byte { return e.AppendPart(dst, 0, e.reply) }

// AppendPart appends the reply's bytes from an offset to another.
func (e *Entry) AppendPart(dst []byte, from, to int) []byte {
	if from < 0 || from > to || to > e.reply {
		panic("BUG: a part of a kept answer that it does not have")
	}
	return e.append(dst, e.key+e.head+from, to-from)
}

func (e *Entry) append(dst []byte, from, n int) []byte {
	return e.home.arena.append(slices.Grow(dst, n), e.blocks, from, n)
}

// Release says that the caller needs the bytes of an entry that it was given no more.
func (e *Entry) Release() {
	if e.refs.Add(-1) == 0 {
		s := e.home
		s.mu.Lock()
		s.freeLocked(e)
		s.mu.Unlock()
	}
}
