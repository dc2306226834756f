package vector

import (
	"bytes"
	"testing"
)

// FuzzDecode: no bytes crash or grow a value beyond their own size times a small factor,
// and a value's key is that of the value read from its own binary form.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"[1,2,3]", " [ -0 , 1e-45 ]", "[3.4028236e38]", "{1:1,3:2}/5", "{}/5", "{3:1,1:2}/1000000000", "1010", "xFf", "\x00\x01\x00\x00\x3f\x80\x00\x00"} {
		for k := Vector; k <= Bit; k++ {
			f.Add(byte(k), int16(0), []byte(s))
			f.Add(byte(k), int16(1), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, format int16, b []byte) {
		v, err := Decode(Kind(kind), format, b)
		if err != nil {
			if v.Dims() != 0 {
				t.Errorf("%v with the error %v", v, err)
			}
			return
		}
		if v.Bytes() > 64+64*len(b) {
			t.Errorf("%d bytes became %d", len(b), v.Bytes())
		}
		again, err := Decode(v.Kind, 1, appendBinary(nil, &v))
		if err != nil {
			t.Fatalf("the binary form of %v is refused: %v", v, err)
		}
		if !bytes.Equal(v.AppendKey(nil), again.AppendKey(nil)) {
			t.Errorf("%v has another key than %v", v, again)
		}
		for op := L2; op <= Jaccard; op++ {
			if lo, hi, ok := Distance(op, &v, &again); ok && !(lo <= hi) {
				t.Errorf("%v %s itself is between %g and %g", v, op, lo, hi)
			}
		}
	})
}
