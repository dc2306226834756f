package vector

import (
	"encoding/binary"
	"errors"
	"math"
)

// The binary forms are those of vector_recv, halfvec_recv, sparsevec_recv (pgvector
// 0.8) and varbit_recv (PostgreSQL).

var (
	errLength  = errors.New("the length does not fit")
	errUnused  = errors.New("the unused field is not 0")
	errDims    = errors.New("the number of dimensions is out of range")
	errElement = errors.New("an element is not finite")
	errIndex   = errors.New("the indexes are not ascending and in range")
	errZero    = errors.New("a stored element is zero")
)

// readDense reads int16 dimensions, int16 unused, and the elements, big-endian.
func (v *Value) readDense(b []byte) error {
	if len(b) < 4 {
		return errLength
	}
	dims, size := int(binary.BigEndian.Uint16(b)), 4
	if v.Kind == Halfvec {
		size = 2
	}
	switch {
	case binary.BigEndian.Uint16(b[2:]) != 0:
		return errUnused
	case dims < 1 || dims > maxDims:
		return errDims
	case len(b) != 4+size*dims:
		return errLength
	}
	for b = b[4:]; len(b) > 0; b = b[size:] {
		var f float32
		if size == 2 {
			f = halfValue(binary.BigEndian.Uint16(b))
		} else {
			f = math.Float32frombits(binary.BigEndian.Uint32(b))
		}
		if !finite(f) {
			return errElement
		}
		v.dense = append(v.dense, f)
	}
	v.dims = dims
	return nil
}

// readSparse reads int32 dimensions, int32 non-zero elements, int32 unused, the indexes
// from 0, and the elements.
func (v *Value) readSparse(b []byte) error {
	if len(b) < 12 {
		return errLength
	}
	dims, count := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	switch {
	case binary.BigEndian.Uint32(b[8:]) != 0:
		return errUnused
	case dims < 1 || dims > maxSparseDims || count > maxNonZero || count > dims:
		return errDims
	case len(b) != 12+8*int(count):
		return errLength
	}
	b = b[12:]
	indexes, elements := b[:4*count], b[4*count:]
	for last := -1; len(indexes) > 0; indexes, elements = indexes[4:], elements[4:] {
		i, f := binary.BigEndian.Uint32(indexes), math.Float32frombits(binary.BigEndian.Uint32(elements))
		switch {
		case i >= dims || int(i) <= last:
			return errIndex
		case !finite(f):
			return errElement
		case f == 0:
			return errZero
		}
		v.index, v.dense, last = append(v.index, int32(i)), append(v.dense, f), int(i)
	}
	v.dims = int(dims)
	return nil
}

// readBits reads int32 bits and the bytes that hold them. Bits behind the last are
// cleared, as the server does.
func (v *Value) readBits(b []byte) error {
	if len(b) < 4 {
		return errLength
	}
	n := binary.BigEndian.Uint32(b)
	switch {
	case n > maxBits:
		return errDims
	case len(b) != 4+(int(n)+7)/8:
		return errLength
	}
	v.bits, v.dims = append(v.bits, b[4:]...), int(n)
	if rest := n % 8; rest > 0 {
		v.bits[len(v.bits)-1] &= 0xff << (8 - rest)
	}
	return nil
}

func finite(f float32) bool { return math.Float32bits(f)&0x7f800000 != 0x7f800000 }
