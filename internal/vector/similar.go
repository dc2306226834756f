package vector

import (
	"math"
	"math/bits"
)

// Gap returns how far apart two values are, for finding the nearest of many: the sum of
// the squared differences, of bits the number that differ; +Inf for other kinds or
// dimensions, and as soon as it is known to exceed limit.
func Gap(a, b *Value, limit float64) float64 {
	if a.Kind != b.Kind || a.dims != b.dims {
		return math.Inf(1)
	}
	sum := 0.0
	switch a.Kind {
	case Bit:
		for i, x := range a.bits {
			sum += float64(bits.OnesCount8(x ^ b.bits[i]))
		}
	case Sparsevec:
		var s sums
		s.sparse(L2, a, b)
		sum = s.squares
	default:
		const stride = 16
		for i := 0; i < len(a.dense) && sum <= limit; i += stride {
			y := b.dense[i:min(i+stride, len(b.dense))]
			for j, f := range a.dense[i:min(i+stride, len(a.dense))] {
				d := float64(f) - float64(y[j])
				sum += d * d
			}
		}
	}
	if sum > limit {
		return math.Inf(1)
	}
	return sum
}

// similar is the relative distance up to which values are near duplicates, and the share
// of bits: at it hardly a list of five times the rows proves anything.
const similar = 0.03

// Similar returns the Gap from v within which others are near duplicates of it.
func (v *Value) Similar() float64 {
	if v.Kind == Bit {
		return similar * float64(v.dims)
	}
	n := similar * norm(v)
	return n * n
}

// Len is the number of members.
func (l *List) Len() int { return len(l.members) }

// Whole says that there are no other rows.
func (l *List) Whole() bool { return math.IsInf(l.reach, 1) }
