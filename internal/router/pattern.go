package router

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"qvpgw/internal/sqltext"
)

// patterns keep plans by texts whose integers may be any: what clients that write
// their values into the text send mostly. A text is compared with its pattern by
// its bytes, which is a fraction of the work of its shape, and without a lock. Two
// texts of one pattern have one shape.
type patterns struct {
	seed  maphash.Seed
	slots [1 << 10]patternSlot
}

// patternSlot has one pattern. One that is in use stays until it was looked at in
// vain again and again. Where pattern after pattern was of no use, as for texts that
// differ in other literals, there is none until the catalog changes.
type patternSlot struct {
	t      atomic.Pointer[pattern]
	spare  atomic.Int32 // looks in vain that it still stands
	used   atomic.Bool  // it was of use
	barren atomic.Int32 // how many in a row were of none
}

const (
	patience  = 8 // looks in vain in a row that a pattern stands
	maxBarren = 4
)

// pattern is a text and where its integers are.
type pattern struct {
	c     *Context
	epoch uint64 // under another one it is no longer valid
	plan  *Plan
	text  []byte
	holes []hole
}

// hole is an integer's place in a pattern.
type hole struct{ start, end uint16 }

// Bounds of a pattern.
const (
	maxPattern = 2 << 10 // bytes
	maxHoles   = 16
)

// slot is where a text's pattern is, if it has one: by what stands before its first
// digit or quote and behind its last, so that texts which differ in literals share it.
func (x *patterns) slot(c *Context, text []byte) *patternSlot {
	if len(text) > maxPattern {
		return nil
	}
	first := firstLiteral(text)
	if first == len(text) {
		return nil
	}
	last := len(text)
	for !digit(text[last-1]) && text[last-1] != '\'' {
		last--
	}
	h := maphash.Bytes(x.seed, text[:first]) + 3*maphash.Bytes(x.seed, text[last:]) + uint64(uintptr(unsafe.Pointer(c)))>>5
	return &x.slots[(h^h>>32)%uint64(len(x.slots))]
}

// firstLiteral is the index of the first digit or quote, len(text) without one.
func firstLiteral(text []byte) int {
	const ones = 0x0101010101010101
	i := 0
	for ; i+8 <= len(text); i += 8 {
		// The highest bit of each byte: of low, whether it is at least '0', of high, whether
		// it is more than '9', of other, whether it is no quote; w's own, that it is not ASCII.
		w := binary.LittleEndian.Uint64(text[i:])
		low, high := w&(0x7f*ones)+(0x80-'0')*ones, w&(0x7f*ones)+(0x7f-'9')*ones
		q := w ^ '\''*ones
		other := q&(0x7f*ones) + 0x7f*ones | q
		if found := (low&^high&^w | ^other) & (0x80 * ones); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(text) && !digit(text[i]) && text[i] != '\'' {
		i++
	}
	return i
}

// get returns the pattern of a text that is in the slot, which may be nil.
func (x *patternSlot) get(c *Context, text []byte, epoch uint64) *pattern {
	if x == nil {
		return nil
	}
	t := x.t.Load()
	if t == nil {
		return nil
	}
	if t.c != c || t.epoch != epoch || !t.matches(text) {
		x.spare.Add(-1)
		return nil
	}
	if x.spare.Load() != patience {
		x.spare.Store(patience)
	}
	if !x.used.Load() {
		x.used.Store(true)
		x.barren.Store(0)
	}
	return t
}

// Hint is where a text was found. Who looks for texts that often are like the last one
// keeps it, zero at first.
type Hint struct{ last *pattern }

// plan returns the plan of a text that is like the last one.
func (h *Hint) plan(c *Context, text []byte, epoch uint64) *Plan {
	if t := h.last; t != nil && t.c == c && t.epoch == epoch && t.matches(text) {
		return t.plan
	}
	return nil
}

// put makes a pattern of a text whose shape alone decides its plan, if it has
// integers.
func (x *patternSlot) put(c *Context, text []byte, plan *Plan, epoch uint64) {
	if x == nil || plan.Aggregates != nil { // which may expire
		return
	}
	if old := x.t.Load(); old != nil && old.epoch == epoch {
		if x.spare.Load() > 0 || x.barren.Load() >= maxBarren {
			return
		}
		if !x.used.Load() {
			x.barren.Add(1)
		}
	} else {
		x.barren.Store(0)
	}
	holes := holesOf(text, c.ConformingStrings)
	if len(holes) == 0 {
		return
	}
	x.spare.Store(patience)
	x.used.Store(false)
	x.t.Store(&pattern{c: c, epoch: epoch, plan: plan, text: bytes.Clone(text), holes: holes})
}

// holesOf returns where a text has integers of digits alone, behind which nothing
// stands that other digits could make a token with.
func holesOf(text []byte, conforming bool) (holes []hole) {
	s := sqltext.NewScanner(text, conforming)
	for len(holes) < maxHoles {
		t := s.Next()
		switch {
		case t.Kind == sqltext.EOF:
			return holes
		case t.Kind != sqltext.Integer, t.End < len(text) && joins(text[t.End]), bytes.ContainsFunc(t.Bytes(text), notDigit):
			continue
		}
		holes = append(holes, hole{uint16(t.Start), uint16(t.End)})
	}
	return holes
}

// matches says whether text is the pattern with other integers or the same.
func (t *pattern) matches(text []byte) bool {
	from := 0 // in t.text
	for _, h := range t.holes {
		n := int(h.start) - from
		if len(text) <= n || !bytes.Equal(text[:n], t.text[from:h.start]) || !digit(text[n]) {
			return false
		}
		for n++; n < len(text) && digit(text[n]); n++ {
		}
		text, from = text[n:], int(h.end)
	}
	return bytes.Equal(text, t.text[from:])
}

func digit(c byte) bool { return c-'0' < 10 }

func notDigit(r rune) bool { return r < '0' || r > '9' }

// joins says whether a byte behind digits may belong to their token.
func joins(c byte) bool {
	return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '$' || c == '.' || c >= 0x80
}
