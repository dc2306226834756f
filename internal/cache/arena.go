package cache

import (
	"bytes"
	"math/bits"
	"os"
	"runtime"
)

// Segments are what the system gives memory in and takes it back; blocks are what
// entries are made of. A block is 256 bytes where pages are not larger than 16 KiB.
const blocksOfSegment = 64

var (
	blockSize   = max(256, os.Getpagesize()/blocksOfSegment)
	segmentSize = blockSize * blocksOfSegment
)

// arena is memory that the collector does not know, in blocks of equal size, so that
// free ones are never too small or in the wrong place. Blocks are numbered; no pointer
// is ever stored in one. The memory goes back when nothing refers to the arena.
type arena struct {
	mem []byte

	// What follows is protected by the shard's mu.
	free                  []uint64 // of each segment: its free blocks
	loose, empty, absent  bitset   // segments: in part free, wholly free, without memory
	used, resident, empts int      // blocks in use; segments with memory, and those of them in empty

	poisoned bool // free blocks are overwritten, for tests
}

var poison = bytes.Repeat([]byte{0xdb}, blockSize)

// newArena returns one of at most size bytes, none of which are resident yet.
func newArena(size int64, reserve func(int) ([]byte, func(), error)) (*arena, error) {
	n := int(max(size, 0)) / segmentSize
	a := &arena{free: make([]uint64, n), loose: newBitset(n), empty: newBitset(n), absent: newBitset(n)}
	if n == 0 {
		return a, nil
	}
	mem, release, err := reserve(n * segmentSize)
	if err != nil {
		return nil, err
	}
	a.mem = mem
	runtime.AddCleanup(a, func(release func()) { release() }, release)
	for i := range a.free {
		a.free[i] = ^uint64(0)
		a.absent.set(i)
	}
	return a, nil
}

// take fills numbers with those of blocks. They are there: the caller asked wants.
func (a *arena) take(numbers []uint32) {
	for i := 0; i < len(numbers); {
		seg := a.loose.first()
		if seg < 0 {
			if seg = a.empty.first(); seg >= 0 {
				a.empty.clear(seg)
				a.empts--
			} else {
				seg = a.absent.first()
				a.absent.clear(seg)
				a.resident++
			}
			a.loose.set(seg)
		}
		for ; i < len(numbers) && a.free[seg] != 0; i++ {
			k := bits.TrailingZeros64(a.free[seg])
			a.free[seg] &^= 1 << k
			numbers[i] = uint32(seg*blocksOfSegment + k)
			a.used++
		}
		if a.free[seg] == 0 {
			a.loose.clear(seg)
		}
	}
}

// put frees blocks.
func (a *arena) put(numbers []uint32) {
	for _, n := range numbers {
		seg, bit := int(n/blocksOfSegment), uint64(1)<<(n%blocksOfSegment)
		if a.free[seg]&bit != 0 {
			panic("BUG: a block of kept answers is freed twice")
		}
		if a.poisoned {
			copy(a.block(n), poison)
		}
		a.free[seg] |= bit
		a.used--
		if a.free[seg] == ^uint64(0) {
			a.loose.clear(seg)
			a.empty.set(seg)
			a.empts++
		} else {
			a.loose.set(seg)
		}
	}
}

// wants is how many segments n blocks need beyond those that hold others.
func (a *arena) wants(n int) int {
	n -= (a.resident-a.empts)*blocksOfSegment - a.used
	return max(0, (n+blocksOfSegment-1)/blocksOfSegment)
}

// busy is how many segments hold something.
func (a *arena) busy() int { return a.resident - a.empts }

// giveBack returns the memory of an empty segment to the system.
func (a *arena) giveBack() {
	seg := a.empty.first()
	decommit(a.mem[seg*segmentSize : (seg+1)*segmentSize])
	a.empty.clear(seg)
	a.absent.set(seg)
	a.empts--
	a.resident--
}

func (a *arena) block(n uint32) []byte {
	at := int(n) * blockSize
	return a.mem[at : at+blockSize : at+blockSize]
}

// write copies the parts, one behind the other, into blocks.
func (a *arena) write(numbers []uint32, parts ...[]byte) {
	var b []byte
	for _, p := range parts {
		for len(p) > 0 {
			if len(b) == 0 {
				b, numbers = a.block(numbers[0]), numbers[1:]
			}
			n := copy(b, p)
			b, p = b[n:], p[n:]
		}
	}
	runtime.KeepAlive(a)
}

// append appends n bytes of blocks, from an offset on.
func (a *arena) append(dst []byte, numbers []uint32, from, n int) []byte {
	for at := from % blockSize; n > 0; at = 0 {
		b := a.block(numbers[from/blockSize])[at:]
		b = b[:min(n, len(b))]
		dst = append(dst, b...)
		from += len(b)
		n -= len(b)
	}
	runtime.KeepAlive(a)
	return dst
}

// begins says whether blocks begin with key.
func (a *arena) begins(numbers []uint32, key []byte) bool {
	for i := 0; len(key) > 0; i++ {
		b := a.block(numbers[i])
		b = b[:min(len(b), len(key))]
		if string(b) != string(key[:len(b)]) {
			return false
		}
		key = key[len(b):]
	}
	return true
}

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int)   { b[i/64] |= 1 << (i % 64) }
func (b bitset) clear(i int) { b[i/64] &^= 1 << (i % 64) }

// first is the least number; negative: there is none.
func (b bitset) first() int {
	for i, w := range b {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}
