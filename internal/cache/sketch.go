package cache

import "math/bits"

// sketch estimates how often keys were asked for lately: a count-min sketch of small
// counters, all of which are halved from time to time (TinyLFU, arXiv 1512.00727).
type sketch struct {
	rows  [depth][]uint8
	shift uint
	added int // since the last halving
	limit int
}

const (
	depth      = 4
	maxCount   = 15
	leastWidth = 64
	mostWidth  = 1 << 16
	// perEntry is the size of a small answer, in bytes: a counter for each that fits.
	perEntry = 512
)

// odd multiply a hash for each row.
var odd = [depth]uint64{0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0xd6e8feb86659fd93}

// newSketch returns one for entries of so many bytes together.
func newSketch(bytes int64) sketch {
	width := min(max(bytes/perEntry, leastWidth), mostWidth)
	k := uint(bits.Len64(uint64(width - 1)))
	s := sketch{shift: 64 - k, limit: 10 << k}
	all := make([]uint8, depth<<k)
	for i := range s.rows {
		s.rows[i] = all[i<<k : (i+1)<<k]
	}
	return s
}

// bytes is the memory of the counters.
func (s *sketch) bytes() int64 { return int64(depth * len(s.rows[0])) }

// add counts a question.
func (s *sketch) add(hash uint64) {
	for i := range s.rows {
		if c := &s.rows[i][hash*odd[i]>>s.shift]; *c < maxCount {
			*c++
		}
	}
	if s.added++; s.added >= s.limit {
		s.added = 0
		for i := range s.rows {
			for j := range s.rows[i] {
				s.rows[i][j] >>= 1
			}
		}
	}
}

// count is how often it was asked for, at least.
func (s *sketch) count(hash uint64) int {
	n := uint8(maxCount)
	for i := range s.rows {
		n = min(n, s.rows[i][hash*odd[i]>>s.shift])
	}
	return int(n)
}
