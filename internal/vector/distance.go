package vector

import (
	"encoding/binary"
	"math"
	"math/bits"
)

const (
	unit     = 0x1p-24         // half the distance from 1 to the next float32
	smallest = 0x1p-126        // of the normal float32: below it a rounding may cost all
	largest  = math.MaxFloat32 // above it a sum may be infinite
	wider    = 0x1p-48         // relative: covers the roundings of a few float64 operations
)

// gamma bounds the relative error of a float32 sum of n products (doc.go), with room for
// the float64 sum it is compared with.
func gamma(n int) float64 {
	e := float64(n+4) * unit
	return e / (1 - e)
}

// sums are what the distances of two values are made of, in float64.
type sums struct {
	squares  float64 // of the differences
	absolute float64 // differences
	product  float64 // inner
	products float64 // absolute values of
	a, b     float64 // squares of the elements
	n        int     // terms
}

// Distance returns bounds of the float8 that the server computes for a <op> b, in either
// order of the operands. ok is false where nothing is known: other kinds or dimensions
// (an error on the server), a result that may be NaN (zero vectors under <=>) or that
// float32 may not hold.
func Distance(op Op, a, b *Value) (lo, hi float64, ok bool) {
	if a.Kind != b.Kind || a.dims != b.dims || !op.takes(a.Kind) {
		return 0, 0, false
	}
	switch op {
	case Hamming:
		differ, _, _, _ := overlap(a.bits, b.bits)
		return float64(differ), float64(differ), true
	case Jaccard:
		return jaccard(a.bits, b.bits)
	}
	var s sums
	if a.Kind == Sparsevec {
		s.sparse(op, a, b)
	} else {
		s.dense(op, a.dense, b.dense)
	}
	return s.bounds(op)
}

// bounds are those of Distance.
func (s *sums) bounds(op Op) (lo, hi float64, ok bool) {
	e, tiny := gamma(s.n), float64(s.n)*smallest
	switch op {
	case L2:
		if s.squares == 0 {
			return 0, 0, true // every difference is zero in float32 too
		}
		hi = s.squares*(1+e) + tiny
		if hi > largest {
			hi = math.Inf(1)
		}
		return math.Sqrt(max(0, min(s.squares, largest)*(1-e)-tiny)) * (1 - wider), math.Sqrt(hi) * (1 + wider), true
	case L1:
		if s.absolute == 0 {
			return 0, 0, true
		}
		hi = s.absolute*(1+e) + tiny
		if hi > largest {
			hi = math.Inf(1)
		}
		return max(0, min(s.absolute, largest)*(1-e)-tiny), hi, true
	case InnerProduct:
		d := s.products*e + tiny
		if s.products+d > largest {
			return 0, 0, false
		}
		return -s.product - d, -s.product + d, true
	}
	d := s.products*e + tiny
	aLo, aHi, bLo, bHi := s.a*(1-e)-tiny, s.a*(1+e)+tiny, s.b*(1-e)-tiny, s.b*(1+e)+tiny
	if aLo <= 0 || bLo <= 0 || aHi > largest || bHi > largest || s.products+d > largest {
		return 0, 0, false
	}
	shortest, longest := math.Sqrt(aLo*bLo), math.Sqrt(aHi*bHi)
	low, high := (s.product-d)/shortest, (s.product+d)/shortest
	if low > 0 {
		low = (s.product - d) / longest
	}
	if high < 0 {
		high = (s.product + d) / longest
	}
	low, high = min(max(low-wider, -1), 1), min(max(high+wider, -1), 1)
	return max(0, 1-high-wider), min(2, 1-low+wider), true
}

// dense fills what op needs.
func (s *sums) dense(op Op, a, b []float32) {
	s.n = len(a)
	b = b[:len(a)]
	switch op {
	case L2:
		var x, y float64
		i := 0
		for ; i+1 < len(a); i += 2 {
			d, e := float64(a[i])-float64(b[i]), float64(a[i+1])-float64(b[i+1])
			x += d * d
			y += e * e
		}
		if i < len(a) {
			d := float64(a[i]) - float64(b[i])
			x += d * d
		}
		s.squares = x + y
	case L1:
		var x float64
		for i, f := range a {
			x += math.Abs(float64(f) - float64(b[i]))
		}
		s.absolute = x
	case InnerProduct:
		var product, products float64
		for i, f := range a {
			p := float64(f) * float64(b[i])
			product += p
			products += math.Abs(p)
		}
		s.product, s.products = product, products
	case Cosine:
		var product, products, inA, inB float64
		for i, f := range a {
			x, y := float64(f), float64(b[i])
			p := x * y
			product += p
			products += math.Abs(p)
			inA += x * x
			inB += y * y
		}
		s.product, s.products, s.a, s.b = product, products, inA, inB
	}
}

// sparse fills everything, whatever op needs.
func (s *sums) sparse(_ Op, a, b *Value) {
	s.n = len(a.index) + len(b.index)
	for i, j := 0, 0; i < len(a.index) || j < len(b.index); {
		var x, y float64
		switch {
		case j == len(b.index) || i < len(a.index) && a.index[i] < b.index[j]:
			x = float64(a.dense[i])
			i++
		case i == len(a.index) || b.index[j] < a.index[i]:
			y = float64(b.dense[j])
			j++
		default:
			x, y = float64(a.dense[i]), float64(b.dense[j])
			i, j = i+1, j+1
		}
		d := x - y
		s.squares += d * d
		s.absolute += math.Abs(d)
		s.product += x * y
		s.products += math.Abs(x * y)
		s.a += x * x
		s.b += y * y
	}
}

// overlap counts the bits that differ, that are set in both, in a and in b.
func overlap(a, b []byte) (differ, both, inA, inB int) {
	for len(a) >= 8 && len(b) >= 8 {
		x, y := binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b)
		differ += bits.OnesCount64(x ^ y)
		both += bits.OnesCount64(x & y)
		inA += bits.OnesCount64(x)
		inB += bits.OnesCount64(y)
		a, b = a[8:], b[8:]
	}
	for i, x := range a {
		y := b[i]
		differ += bits.OnesCount8(x ^ y)
		both += bits.OnesCount8(x & y)
		inA += bits.OnesCount8(x)
		inB += bits.OnesCount8(y)
	}
	return differ, both, inA, inB
}

// jaccard is 1 - |a and b| / |a or b|, and 1 for two empty sets as in pgvector.
func jaccard(a, b []byte) (lo, hi float64, ok bool) {
	_, both, inA, inB := overlap(a, b)
	if both == 0 {
		return 1, 1, true
	}
	d := 1 - float64(both)/float64(inA+inB-both)
	return max(0, d-wider), d + wider, true
}
