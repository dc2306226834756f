package vector

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// key is the key of a text, or the error.
func key(t *testing.T, k Kind, text string) string {
	t.Helper()
	v, err := Decode(k, 0, []byte(text))
	if err != nil {
		return "error"
	}
	return string(v.AppendKey(nil))
}

func TestOneValueHasOneKeyInWhateverFormItIsWritten(t *testing.T) {
	same := func(k Kind, binary string, texts ...string) {
		t.Helper()
		b, err := hex.DecodeString(strings.ReplaceAll(binary, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		v, err := Decode(k, 1, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if got, want := key(t, k, text), string(v.AppendKey(nil)); got != want {
				t.Errorf("%s %q has the key %x, its binary form %x", k, text, got, want)
			}
		}
	}
	same(Vector, "0003 0000 3f800000 40000000 40400000", "[1,2,3]", " [ 1 , 2.0,\t3e0 ]\n", "[+1.,.2e1,0.3E+1]", "[1.00000000001,2,3]")
	same(Vector, "0001 0000 80000000", "[-0]", "[-0.0]", "[-1e-60]")
	same(Vector, "0001 0000 00000001", "[1.4e-45]", "[1e-45]", "[0.71e-45]")
	same(Vector, "0001 0000 7f7fffff", "[3.4028235e38]", "[340282346638528859811704183484516925440]")
	same(Vector, "0001 0000 4b800000", "[16777217]") // tie to even, rounded once
	same(Halfvec, "0002 0000 3c00 c000", "[1,-2]", "[1.0004,-2]")
	same(Halfvec, "0003 0000 7bff 0001 8000", "[65519.99,6e-8,-2.9e-8]")
	same(Sparsevec, "00000005 00000002 00000000 00000000 00000002 3f800000 40000000", "{1:1,3:2}/5", "{3:2, 1 : 1}/5", " { 3:2,2:0,1:1 } / 5 ")
	same(Sparsevec, "00000005 00000000 00000000", "{}/5", "{ }/5", "{5:0,1:-0}/5")
	same(Bit, "0000000a a540", "1010010101", "b1010010101")
	same(Bit, "0000000a a57f", "1010010101")
	same(Bit, "00000008 af", "xAf", "Xaf", "10101111")
	same(Bit, "00000000", "")
}

func TestOtherValuesHaveOtherKeys(t *testing.T) {
	seen := map[string]string{}
	differ := func(k Kind, texts ...string) {
		t.Helper()
		for _, text := range texts {
			got := key(t, k, text)
			if other, twice := seen[got]; twice || got == "error" {
				t.Errorf("%s %q has the key %x of %q", k, text, got, other)
			}
			seen[got] = k.String() + text
		}
	}
	differ(Vector, "[0]", "[-0]", "[0,0]", "[1]", "[1,0]", "[1.0000001]")
	differ(Halfvec, "[0]", "[-0]", "[0,0]", "[1]", "[1,0]")
	differ(Sparsevec, "{}/1", "{}/2", "{1:1}/1", "{1:1}/2", "{2:1}/2", "{1:1,2:1}/2")
	differ(Bit, "", "0", "1", "00", "10", "01", "10000000", "100000000")
}

func TestWhatTheServerRefusesIsRefused(t *testing.T) {
	refused := func(k Kind, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if key(t, k, text) != "error" {
				t.Errorf("%s %q is read", k, text)
			}
		}
	}
	refused(
		Vector, "", "[", "]", "[]", "[ ]", "1", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1]]", "[1] x", "[1]\x00", "[nan]", "[NaN]", "[inf]", "[-Infinity]",
		"[1e39]", "[3.4028236e38]", "[.]", "[e1]", "[1e]", "[1e+]", "[--1]", "[1_0]", "[0x1p0]", "{1}", "["+strings.Repeat("1,", 16000)+"1]",
	)
	refused(Halfvec, "[65520]", "[-65520]", "[1e39]", "[]", "[nan]", "["+strings.Repeat("1,", 16000)+"1]")
	refused(
		Sparsevec, "", "{}", "{}/", "{}/0", "{}/-1", "{}/1000000001", "{0:1}/1", "{-1:1}/1", "{2:1}/1", "{1:1,1:2}/1", "{1:1,}/2", "{,1:1}/2", "{1}/2", "{1:}/2",
		"{1:nan}/1", "{1:1e39}/1", "{1:1e-60}/1", "{}/1x", "{1:1}5", "{99999999999999999999:1}/5", "{"+strings.Repeat("1:0,", 16000)+"1:0}/5",
	)
	refused(Bit, "2", " 1", "1 ", "bx", "xg", "b1x", "x 1")

	refusedBinary := func(k Kind, hexes ...string) {
		t.Helper()
		for _, h := range hexes {
			b, err := hex.DecodeString(strings.ReplaceAll(h, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if v, err := Decode(k, 1, b); err == nil || v.Dims() != 0 {
				t.Errorf("%s %s is read", k, h)
			}
		}
	}
	refusedBinary(
		Vector, "", "0001", "0000 0000", "ffff 0000", "0001 0001 3f800000", "0001 0000", "0001 0000 3f80", "0001 0000 3f800000 00", "0001 0000 7f800000",
		"0001 0000 ffc00000", "3e81 0000"+strings.Repeat("00000000", 16001),
	)
	refusedBinary(Halfvec, "0001 0000 7c00", "0001 0000 fe00", "0002 0000 0000", "0000 0000")
	refusedBinary(
		Sparsevec, "", "00000001 00000000", "00000000 00000000 00000000", "3b9aca01 00000000 00000000", "00000001 00000002 00000000", "00000001 00000000 00000001",
		"00000002 00000001 00000000 00000002 3f800000", "00000002 00000001 00000000 ffffffff 3f800000", "00000002 00000002 00000000 00000001 00000000 3f800000 3f800000",
		"00000002 00000002 00000000 00000001 00000001 3f800000 3f800000", "00000002 00000001 00000000 00000001 80000000", "00000002 00000001 00000000 00000001 7fc00000",
		"80000000 80000000 00000000", "00000005 ffffffff 00000000",
	)
	refusedBinary(Bit, "", "00000001", "00000001 8080", "ffffffff", "05000001")
	if _, err := Decode(0, 0, nil); err == nil {
		t.Error("a value of no kind is read")
	}
	if _, err := Decode(Vector, 2, []byte("[1]")); err == nil {
		t.Error("a format 2 is read")
	}
}

func TestHalvesRoundToTheNearestAndTiesToEven(t *testing.T) {
	for h := range 1 << 16 {
		f := halfValue(uint16(h))
		if f != f {
			continue
		}
		if got := halfBits(f); got != uint16(h) {
			t.Fatalf("%#04x is %g and comes back as %#04x", h, f, got)
		}
		if h&0x7fff >= 0x7bff {
			continue
		}
		// Halfway to the next one of larger size, and a little to either side of it.
		next := halfValue(uint16(h + 1))
		middle := (f + next) / 2
		even := uint16(h + h&1)
		for _, c := range []struct {
			f    float32
			want uint16
		}{
			{middle, even},
			{math.Nextafter32(middle, f), uint16(h)},
			{math.Nextafter32(middle, next), uint16(h + 1)},
		} {
			if got := halfBits(c.f); got != c.want {
				t.Fatalf("%g is rounded to %#04x, not %#04x", c.f, got, c.want)
			}
		}
	}
	for f, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, -1e30: 0xfc00, 2.9802322e-08: 0, 2.9802326e-08: 1} {
		if got := halfBits(f); got != want {
			t.Errorf("%g is rounded to %#04x, not %#04x", f, got, want)
		}
	}
}

func TestMemoryIsUsedAgainAndCopiesDoNotShareIt(t *testing.T) {
	text := []byte("[1,2,3,4,5,6,7,8]")
	var v Value
	if err := v.Set(Vector, 0, text); err != nil {
		t.Fatal(err)
	}
	c := v.Clone()
	buf := make([]byte, 0, 128)
	before := c.AppendKey(nil)
	if n := testing.AllocsPerRun(100, func() {
		if v.Set(Vector, 0, text) != nil {
			t.Fail()
		}
		buf = v.AppendKey(buf[:0])
	}); n != 0 {
		t.Errorf("reading a vector again allocates %v times", n)
	}
	if v.Set(Vector, 0, []byte("[8,7]")) != nil || !bytes.Equal(c.AppendKey(nil), before) {
		t.Error("the copy changed")
	}
	if v.Set(Vector, 0, []byte("[8,7")) == nil || v.Dims() != 0 || v.Kind != 0 {
		t.Errorf("after an error the value is %v", v)
	}
}
