package vector

import (
	"cmp"
	"math"
	"slices"
	"unsafe"
)

// Norms bounds the L2 norms of the values that a query may meet, zero vectors and NULLs
// aside. The zero Norms says that nothing is known.
type Norms struct{ Min, Max float64 }

// NormsOfSquares bounds the norms by the least and the largest inner product of a value
// with itself as the server computes it, for values of a number of dimensions. A zero
// vector makes the least norm 0, so <=> then has no List.
func NormsOfSquares(least, most float64, dims int) Norms {
	n := min(dims, 2*maxNonZero)
	e, tiny := gamma(n), float64(n)*smallest
	return Norms{Min: math.Sqrt(max(0, least-tiny)/(1+e)) * (1 - wider), Max: math.Sqrt((most+tiny)/(1-e)) * (1 + wider)}
}

// Norms within which float32 neither over- nor underflows in the sums of <=> and <#>
// between values of at most 32,000 terms.
const (
	leastNorm = 0x1p-40
	mostNorm  = 0x1p40
)

// List is the answer of an exact plan to ORDER BY column <op> centre LIMIT n: it can
// answer a query near the centre where the triangle inequality proves it.
//
// With c the centre, q the query, R the server's distance of the last member and o a row
// that is not a member, the server found d(c,o) >= R. Each step from a float32 distance
// to the true one and back is paid with the bounds of doc.go:
//
//	true d(c,o) >= R less its error;  true d(q,o) >= true d(c,o) - true d(c,q)
//	server's d(q,o) >= true d(q,o) less its error =: beyond
//
// The members whose server's distances surely differ from each other's and lie below
// beyond come first, in their order. <-> and <+> are metrics as they are, <~> too and
// exactly, <%> on sets that are not empty, <=> by its chord: |x/|x| - y/|y||^2 = 2 d. For
// <#>, |q.o - c.o| <= |q-c| |o| (Cauchy and Schwarz) with the largest norm for |o|.
type List struct {
	op      Op
	centre  Value
	members []Value
	reach   float64 // least true distance of any other row from the centre; for <=> the chord, for <#> the negated product
	terms   int     // of a sum with any row
	norms   Norms
	last    float64
	bytes   int
}

// Ranked is the memory of Near, reused from call to call.
type Ranked struct {
	rows []ranked
	Rows []int // the members' positions, nearest first
}

type ranked struct {
	lo, hi float64
	row    int
}

// NewList copies the members, in the order of the rows. last is the server's largest
// distance among them; whole says that there are no other rows that the query could
// return, so last does not matter. norms are those of all rows that it could return; <=>
// of vector and sparsevec, and <#>, need them.
//
// ok is false where nothing could ever be proven: an operator that does not take the
// kind, members that have other dimensions or are NULL (a Value of kind 0), a centre that
// is zero under <=> or <%>, a last that is no finite distance.
func NewList(op Op, centre *Value, members []Value, last float64, whole bool, norms Norms) (l *List, ok bool) {
	if !op.takes(centre.Kind) || len(members) == 0 && !whole {
		return nil, false
	}
	for i := range members {
		if members[i].Kind != centre.Kind || members[i].dims != centre.dims {
			return nil, false
		}
	}
	if centre.Kind == Halfvec && op == Cosine {
		// Halves are 2^-24 to 65504, or zero: with 16,000 of them below 2^23.
		norms = Norms{Min: 0x1p-24, Max: 0x1p23}
	}
	l = &List{op: op, centre: centre.Clone(), norms: norms, last: last, terms: centre.dims}
	if centre.Kind == Sparsevec {
		l.terms = min(centre.dims, len(centre.index)+maxNonZero)
	}
	if whole {
		l.last, l.reach = math.Inf(1), math.Inf(1)
	} else if !l.measure() {
		return nil, false
	}
	l.members = make([]Value, len(members))
	for i := range members {
		l.members[i] = members[i].Clone()
	}
	l.bytes = int(unsafe.Sizeof(*l)) + l.centre.Bytes()
	for i := range l.members {
		l.bytes += l.members[i].Bytes() + int(unsafe.Sizeof(l.members[i]))
	}
	return l, true
}

// Bytes is the memory that the list holds, with itself.
func (l *List) Bytes() int { return l.bytes }

// measure sets reach; false: nothing is proven.
func (l *List) measure() bool {
	e, tiny := gamma(l.terms), float64(l.terms)*smallest
	if math.IsNaN(l.last) || math.Abs(l.last) > mostNorm*mostNorm {
		return false
	}
	switch l.op {
	case L2:
		l.reach = (l.last*(1-wider) - math.Sqrt(tiny)) / math.Sqrt(1+e) * (1 - wider)
	case L1:
		l.reach = (l.last - tiny) / (1 + e) * (1 - wider)
	case Hamming:
		l.reach = l.last
	case Jaccard:
		l.reach = l.last - wider
		return anyBit(l.centre.bits)
	case Cosine:
		if !l.norms.hold() || !within(&l.centre) {
			return false
		}
		l.reach = chord(l.last-cosineError(l.terms)) * (1 - wider)
	case InnerProduct:
		if l.norms.Max <= 0 || l.norms.Max > mostNorm || norm(&l.centre) > mostNorm {
			return false
		}
		l.reach = l.last - (norm(&l.centre)*l.norms.Max*e+tiny)*(1+summed)
	}
	return l.op == InnerProduct || l.reach > 0
}

// cosineError bounds the difference of the server's <=> and the true one, for norms
// within leastNorm and mostNorm: gamma from the product, by |a.b| <= |a||b|, and gamma
// from the root of the product of the squared norms, each with the underflow, which is
// below the roundings that gamma counts in excess.
func cosineError(terms int) float64 { return 3 * gamma(terms) }

// chord is the length between two unit vectors at a cosine distance.
func chord(d float64) float64 { return math.Sqrt(max(0, 2*d)) }

func (n Norms) hold() bool { return n.Min >= leastNorm && n.Max <= mostNorm && n.Min <= n.Max }

func within(v *Value) bool {
	x := norm(v)
	return x >= leastNorm && x <= mostNorm
}

// summed covers, relatively, the roundings of a float64 sum of up to 32,000 terms that
// are not negative (2^-38), of its root, and of two factors more.
const summed = 0x1p-35

// norm is the true L2 norm but for roundings of float64.
func norm(v *Value) float64 {
	s := 0.0
	for _, f := range v.dense {
		s += float64(f) * float64(f)
	}
	return math.Sqrt(s)
}

func anyBit(b []byte) bool { return slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// beyond returns a distance that the server's of any row that is not a member surely is
// not below, seen from q.
func (l *List) beyond(q *Value) (float64, bool) {
	if math.IsInf(l.reach, 1) {
		return l.reach, true
	}
	e, tiny := gamma(l.terms), float64(l.terms)*smallest
	if q.Kind == Sparsevec {
		n := min(q.dims, len(q.index)+maxNonZero)
		e, tiny = gamma(n), float64(n)*smallest
	}
	switch l.op {
	case L2, L1:
		var s sums
		if q.Kind == Sparsevec {
			s.sparse(l.op, &l.centre, q)
		} else {
			s.dense(l.op, l.centre.dense, q.dense)
		}
		if l.op == L1 {
			return ((l.reach-s.absolute*(1+summed))*(1-e) - tiny) * (1 - wider), true
		}
		d := l.reach - math.Sqrt(s.squares)*(1+summed)
		if d <= 0 {
			return 0, false
		}
		return math.Sqrt(max(0, d*d*(1-e)-tiny)) * (1 - wider), true
	case Hamming:
		differ, _, _, _ := overlap(l.centre.bits, q.bits)
		return l.reach - float64(differ), true
	case Jaccard:
		_, d, _ := jaccard(l.centre.bits, q.bits)
		return l.reach - d - wider, anyBit(q.bits)
	case Cosine:
		if !within(q) {
			return 0, false
		}
		c := l.reach - l.turn(q)
		return c*c/2 - cosineError(l.terms) - wider, c > 0
	}
	x := norm(q)
	if x > mostNorm {
		return 0, false
	}
	var s sums
	if q.Kind == Sparsevec {
		s.sparse(L2, &l.centre, q)
	} else {
		s.dense(L2, l.centre.dense, q.dense)
	}
	return l.reach - (math.Sqrt(s.squares)*l.norms.Max+x*l.norms.Max*e+tiny)*(1+summed), true
}

// turn is the chord between the directions of the centre and of q, rounded up: summed
// from the differences of the normalised elements, since 1 - cosine would lose the digits
// of a small one.
func (l *List) turn(q *Value) float64 {
	a, b := norm(&l.centre), norm(q)
	s := 0.0
	if q.Kind == Sparsevec {
		for i, j := 0, 0; i < len(l.centre.index) || j < len(q.index); {
			var d float64
			switch {
			case j == len(q.index) || i < len(l.centre.index) && l.centre.index[i] < q.index[j]:
				d = float64(l.centre.dense[i]) / a
				i++
			case i == len(l.centre.index) || q.index[j] < l.centre.index[i]:
				d = float64(q.dense[j]) / b
				j++
			default:
				d = float64(l.centre.dense[i])/a - float64(q.dense[j])/b
				i, j = i+1, j+1
			}
			s += d * d
		}
	} else {
		for i, f := range l.centre.dense {
			d := float64(f)/a - float64(q.dense[i])/b
			s += d * d
		}
	}
	return math.Sqrt(s)*(1+summed) + summed
}

// Near says which members are the first k rows of the exact answer to q, nearest first,
// in r.Rows. false: not proven, by far the usual case unless q is a near duplicate of the
// centre and the list longer than k. Of a whole list k may be larger than the list.
func (l *List) Near(q *Value, k int, r *Ranked) bool {
	if q.Kind != l.centre.Kind || q.dims != l.centre.dims || k < 0 {
		return false
	}
	if k > len(l.members) {
		if !math.IsInf(l.reach, 1) {
			return false
		}
		k = len(l.members)
	}
	beyond, ok := l.beyond(q)
	if !ok {
		return false
	}
	r.rows, r.Rows = r.rows[:0], r.Rows[:0]
	for i := range l.members {
		lo, hi, ok := Distance(l.op, q, &l.members[i])
		if !ok {
			return false
		}
		r.rows = append(r.rows, ranked{lo, hi, i})
	}
	slices.SortFunc(r.rows, func(a, b ranked) int { return cmp.Compare(a.lo, b.lo) })
	for i, m := range r.rows[:k] {
		if i+1 < len(r.rows) && m.hi >= r.rows[i+1].lo || m.hi >= beyond || math.IsInf(m.hi, 1) {
			return false
		}
		r.Rows = append(r.Rows, m.row)
	}
	return true
}

// Admits reports whether the list may be wrong once a row with v, or NULL for nil, was
// inserted: it may enter, or its norm is outside of what was said of all rows.
func (l *List) Admits(v *Value) bool {
	if MayEnterValue(l.op, &l.centre, v, l.last) {
		return true
	}
	if v == nil || l.op != Cosine && l.op != InnerProduct {
		return false
	}
	n := norm(v)
	return n < l.norms.Min || n > l.norms.Max
}
