package vector

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Limits of pgvector 0.8 (vector.h, halfvec.h, sparsevec.h) and of bit (varbit.h).
const (
	maxDims       = 16000
	maxSparseDims = 1_000_000_000
	maxNonZero    = 16000
	maxBits       = 83_886_080
)

// Value is one value of a kind. The zero Value is empty and may be Set.
type Value struct {
	Kind  Kind
	dims  int
	dense []float32 // all elements; of a Sparsevec those that are not zero
	index []int32   // of a Sparsevec: of each element, from 0, ascending
	bits  []byte    // of a Bit: most significant first, the rest of the last byte zero
}

// Dense is a Vector or Halfvec of the given elements, whose memory it uses.
func Dense(k Kind, elements []float32) Value {
	return Value{Kind: k, dims: len(elements), dense: elements}
}

// Dims is the number of dimensions, or of bits.
func (v *Value) Dims() int { return v.dims }

// Bytes is the memory that the value holds besides itself.
func (v *Value) Bytes() int { return 4*cap(v.dense) + 4*cap(v.index) + cap(v.bits) }

// Clone returns a copy that shares no memory.
func (v *Value) Clone() Value {
	c := *v
	c.dense, c.index, c.bits = slices.Clone(v.dense), slices.Clone(v.index), slices.Clone(v.bits)
	return c
}

// Decode reads a value of a kind as the server does: format 0 is text, 1 binary. An
// error says that the bytes are not understood; the server may still read them.
func Decode(k Kind, format int16, b []byte) (Value, error) {
	var v Value
	err := v.Set(k, format, b)
	return v, err
}

// Set is Decode into the memory of v. After an error v is empty.
func (v *Value) Set(k Kind, format int16, b []byte) error {
	*v = Value{Kind: k, dense: v.dense[:0], index: v.index[:0], bits: v.bits[:0]}
	var err error
	switch {
	case format == 0 && (k == Vector || k == Halfvec):
		err = v.readDenseText(b)
	case format == 0 && k == Sparsevec:
		err = v.readSparseText(b)
	case format == 0 && k == Bit:
		err = v.readBitText(b)
	case format == 1 && (k == Vector || k == Halfvec):
		err = v.readDense(b)
	case format == 1 && k == Sparsevec:
		err = v.readSparse(b)
	case format == 1 && k == Bit:
		err = v.readBits(b)
	default:
		err = fmt.Errorf("no such kind or format %d", format)
	}
	if err != nil {
		*v = Value{dense: v.dense[:0], index: v.index[:0], bits: v.bits[:0]}
		return fmt.Errorf("cannot read a %s: %w", k, err)
	}
	return nil
}

// AppendKey appends bytes that are equal for two values exactly if they are of one kind
// and the server stores them alike, whatever form they were written in. A negative zero
// is not a zero: the server's output tells them apart. The bytes contain their length.
func (v *Value) AppendKey(dst []byte) []byte {
	dst = append(dst, byte(v.Kind))
	dst = binary.BigEndian.AppendUint32(dst, uint32(v.dims))
	if v.Kind == Sparsevec {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.index)))
		for _, i := range v.index {
			dst = binary.BigEndian.AppendUint32(dst, uint32(i))
		}
	}
	for _, f := range v.dense {
		dst = binary.BigEndian.AppendUint32(dst, math.Float32bits(f))
	}
	return append(dst, v.bits...)
}
