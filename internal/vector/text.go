package vector

import (
	"errors"
	"slices"
	"strconv"
	"unsafe"
)

// The text forms are those of vector_in, halfvec_in, sparsevec_in (pgvector 0.8) and
// bit_in (PostgreSQL). The server reads numbers with strtof, which rounds a decimal to
// the nearest float32 once, as strconv does at 32 bits; its hexadecimal numbers are
// refused here.

var (
	errSyntax = errors.New("invalid syntax")
	errNumber = errors.New("a number is invalid or out of range")
)

// reader is the rest of a text.
type reader struct{ b []byte }

// space skips what scanner_isspace takes for space.
func (r *reader) space() {
	for len(r.b) > 0 && (r.b[0] == ' ' || r.b[0] >= '\t' && r.b[0] <= '\r') {
		r.b = r.b[1:]
	}
}

// take skips c and the space around it, if it is next.
func (r *reader) take(c byte) bool {
	r.space()
	if len(r.b) == 0 || r.b[0] != c {
		return false
	}
	r.b = r.b[1:]
	r.space()
	return true
}

// digits returns the length of the decimal digits from i.
func (r *reader) digits(i int) int {
	n := 0
	for i+n < len(r.b) && r.b[i+n]-'0' <= 9 {
		n++
	}
	return n
}

// float reads a decimal number. nonzero says that one of its digits before the exponent
// is not 0.
func (r *reader) float() (f float32, nonzero bool, err error) {
	i := 0
	if len(r.b) > 0 && (r.b[0] == '+' || r.b[0] == '-') {
		i++
	}
	whole := r.digits(i)
	i += whole
	fraction := 0
	if i < len(r.b) && r.b[i] == '.' {
		fraction = r.digits(i + 1)
		i += 1 + fraction
	}
	if whole+fraction == 0 {
		return 0, false, errNumber
	}
	for _, c := range r.b[:i] {
		nonzero = nonzero || c >= '1' && c <= '9'
	}
	if i < len(r.b) && r.b[i]|0x20 == 'e' {
		i++
		if i < len(r.b) && (r.b[i] == '+' || r.b[i] == '-') {
			i++
		}
		n := r.digits(i)
		if n == 0 {
			return 0, false, errNumber
		}
		i += n
	}
	// The string is not kept: an error of strconv holds a copy.
	wide, err := strconv.ParseFloat(unsafe.String(&r.b[0], i), 32)
	if err != nil {
		return 0, false, errNumber
	}
	r.b = r.b[i:]
	return float32(wide), nonzero, nil
}

// integer reads a number without sign.
func (r *reader) integer() (int, error) {
	n := r.digits(0)
	if n == 0 || n > 18 {
		return 0, errNumber
	}
	i := 0
	for _, c := range r.b[:n] {
		i = i*10 + int(c-'0')
	}
	r.b = r.b[n:]
	return i, nil
}

func (v *Value) readDenseText(b []byte) error {
	r := reader{b}
	if !r.take('[') {
		return errSyntax
	}
	for {
		f, _, err := r.float()
		if err != nil {
			return err
		}
		if v.Kind == Halfvec {
			f = halfValue(halfBits(f))
		}
		if !finite(f) {
			return errNumber
		}
		if len(v.dense) == maxDims {
			return errDims
		}
		v.dense = append(v.dense, f)
		if r.take(',') {
			continue
		}
		if !r.take(']') || len(r.b) > 0 {
			return errSyntax
		}
		v.dims = len(v.dense)
		return nil
	}
}

// readSparseText reads {index:element,…}/dimensions, with indexes from 1 in any order.
func (v *Value) readSparseText(b []byte) error {
	r := reader{b}
	if !r.take('{') {
		return errSyntax
	}
	for count := 0; !r.take('}'); count++ {
		if count == maxNonZero {
			return errDims
		}
		if count > 0 && !r.take(',') {
			return errSyntax
		}
		i, err := r.integer()
		if err != nil {
			return err
		}
		if i < 1 || i > maxSparseDims {
			return errIndex
		}
		if !r.take(':') {
			return errSyntax
		}
		f, nonzero, err := r.float()
		if err != nil {
			return err
		}
		if f == 0 && nonzero {
			return errNumber // strtof says ERANGE, and so does sparsevec_in
		}
		if f != 0 {
			v.index, v.dense = append(v.index, int32(i-1)), append(v.dense, f)
		}
	}
	if !r.take('/') {
		return errSyntax
	}
	dims, err := r.integer()
	if err != nil {
		return err
	}
	r.space()
	if len(r.b) > 0 {
		return errSyntax
	}
	if dims < 1 || dims > maxSparseDims {
		return errDims
	}
	v.dims = dims
	return v.order()
}

// order sorts the elements of a Sparsevec by index.
func (v *Value) order() error {
	if !slices.IsSorted(v.index) {
		of := make(map[int32]float32, len(v.index))
		for i, at := range v.index {
			of[at] = v.dense[i]
		}
		if len(of) < len(v.index) {
			return errIndex
		}
		slices.Sort(v.index)
		for i, at := range v.index {
			v.dense[i] = of[at]
		}
	}
	for i, at := range v.index {
		if int(at) >= v.dims || i > 0 && at == v.index[i-1] {
			return errIndex
		}
	}
	return nil
}

// readBitText reads binary digits, or hexadecimal ones behind an x.
func (v *Value) readBitText(b []byte) error {
	width := 1
	if len(b) > 0 && b[0]|0x20 == 'b' {
		b = b[1:]
	} else if len(b) > 0 && b[0]|0x20 == 'x' {
		b, width = b[1:], 4
	}
	if len(b)*width > maxBits {
		return errDims
	}
	for i, c := range b {
		var d byte
		switch {
		case c == '0' || c == '1':
			d = c - '0'
		case width == 1:
			return errSyntax
		case c-'0' <= 9:
			d = c - '0'
		case (c|0x20)-'a' <= 5:
			d = (c | 0x20) - 'a' + 10
		default:
			return errSyntax
		}
		at := i * width
		if at%8 == 0 {
			v.bits = append(v.bits, 0)
		}
		v.bits[at/8] |= d << (8 - width - at%8)
	}
	v.dims = len(b) * width
	return nil
}
