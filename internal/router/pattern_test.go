package router

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"qvpgw/internal/sqltext"
)

func TestTextsThatDifferInIntegersHaveOnePattern(t *testing.T) {
	r := New(Options{})
	c := plainContext()
	const shape = "SELECT x AS a%d_1, '%d', $1 FROM t WHERE i = %d AND j IN (%d,-%d) LIMIT %[3]d"
	text := func(i int) []byte { return fmt.Appendf(nil, shape, 7, 8, i, i*10, i) }
	for i := range 3 {
		r.Plan(c, text(i+1))
	}
	slot := r.patterns.slot(c, text(5))
	st := r.current()
	p := slot.get(c, text(123456), st.epoch)
	if p == nil {
		t.Fatal("another integer has no pattern")
	}
	if p.plan != r.Plan(c, text(99)) {
		t.Error("the pattern has another plan than the text")
	}
	var h Hint
	if r.KnownLike(&h, c, text(98)) != p.plan || h.last != p || h.plan(c, text(97), st.epoch) != p.plan {
		t.Error("a text that is like the last one is not found by that")
	}
	if h.plan(c, text(97), st.epoch+1) != nil || h.plan(c, append(text(97), '1', '.'), st.epoch) != nil {
		t.Error("the last text holds for another")
	}
	other := *c
	for what, got := range map[string]*pattern{
		"another context":    slot.get(&other, text(5), st.epoch),
		"another epoch":      slot.get(c, text(5), st.epoch+1),
		"a literal's digits": slot.get(c, fmt.Appendf(nil, shape, 7, 9, 1, 10, 1), st.epoch),
		"a name's digits":    slot.get(c, fmt.Appendf(nil, shape, 6, 8, 1, 10, 1), st.epoch),
		"a parameter":        slot.get(c, bytes.Replace(text(5), []byte("$1"), []byte("$2"), 1), st.epoch),
		"a decimal":          slot.get(c, bytes.Replace(text(5), []byte("= 5"), []byte("= 5.5"), 1), st.epoch),
		"no integer":         slot.get(c, bytes.Replace(text(5), []byte("= 5"), []byte("= "), 1), st.epoch),
		"an end":             slot.get(c, append(text(5), " FOR UPDATE"...), st.epoch),
	} {
		if got != nil {
			t.Errorf("the pattern holds for %s", what)
		}
	}
}

// TestAPatternHoldsForTextsOfOneShapeAlone puts other integers into what are patterns,
// among neighbours that could make another token with them.
func TestAPatternHoldsForTextsOfOneShapeAlone(t *testing.T) {
	shape := func(text []byte) (string, sqltext.Info) {
		b, info := sqltext.AppendShape(nil, text, true)
		return string(b), info
	}
	matched := 0
	for _, before := range []string{"", " ", "a", "-", "--", "$", "'", "\"", ".", "..", "0x", "1e", "1_", "E'", "/*", "U&'", "x'", ":", "$a$", "é"} {
		for _, behind := range []string{"", " ", ")", ",", "x", "x1", "X1", "e5", "b", "o7", ".", "..", ".5", "_", "_1", "$", "'", "'1'", "::int", "-1", "--1", "\n'1'", "é", "*/1"} {
			for _, old := range []string{"1", "0", "5", "077"} {
				text := []byte("SELECT 1, " + before + old + behind)
				p := &pattern{text: text, holes: holesOf(text, true)}
				want, info := shape(text)
				for _, now := range []string{"0", "9", "00", "123456789012345678901234567890"} {
					other := []byte("SELECT 2, " + before + now + behind)
					if !p.matches(other) {
						continue
					}
					matched++
					if got, i := shape(other); got != want || i != info {
						t.Errorf("%q is taken for %q: %q and %q", other, text, got, want)
					}
				}
			}
		}
	}
	if matched < 500 {
		t.Errorf("%d texts have a pattern", matched)
	}
}

func TestAPatternInUseStays(t *testing.T) {
	var x patternSlot
	c := plainContext()
	a, b := []byte("SELECT 1"), []byte("VALUES (1)")
	pa, pb := &Plan{}, &Plan{Reason: "b"}
	x.put(c, a, pa, 1)
	for range 3 * patience {
		x.get(c, a, 1)
		if x.get(c, b, 1) != nil {
			t.Fatal("a text has another's plan")
		}
		x.put(c, b, pb, 1)
	}
	if p := x.get(c, a, 1); p == nil || p.plan != pa {
		t.Error("a pattern in use is gone")
	}
	for range patience {
		x.get(c, b, 1)
		x.put(c, b, pb, 1)
	}
	if p := x.get(c, b, 1); p == nil || p.plan != pb {
		t.Error("a pattern that nobody uses stands in the way")
	}
	many := []byte("SELECT " + strings.Repeat("1, ", 100) + "1")
	x.put(c, many, pa, 2)
	if p := x.get(c, many, 2); p == nil || p.plan != pa {
		t.Error("one with many integers has no pattern")
	}
}

func TestTextsThatDifferInOtherLiteralsLeaveOffPatterns(t *testing.T) {
	var x patternSlot
	c := plainContext()
	kept := 0
	for i := range 10 * patience * maxBarren {
		text := fmt.Appendf(nil, "SELECT 1, 'x%d'", i)
		before := x.t.Load()
		if x.get(c, text, 1) == nil {
			x.put(c, text, &Plan{}, 1)
		}
		if x.t.Load() != before {
			kept++
		}
	}
	if kept > maxBarren+1 {
		t.Errorf("%d patterns of no use were kept", kept)
	}
	text := []byte("SELECT 2")
	if x.put(c, text, &Plan{}, 2); x.get(c, text, 2) == nil {
		t.Error("there is no pattern after a change of the catalog")
	}
}

func TestTheFirstLiteralIsFoundAmongAllBytes(t *testing.T) {
	for at := range 20 {
		for b := range 256 {
			text := bytes.Repeat([]byte{0x2f}, 20)
			for i := range text {
				text[i] = []byte{'/', ':', '&', '(', 0xb0, 0xa7, 0x80, 0xff}[(i+at)%8]
			}
			text[at] = byte(b)
			want := len(text)
			if digit(byte(b)) || b == '\'' {
				want = at
			}
			if got := firstLiteral(text); got != want {
				t.Fatalf("%q: %d, want %d", text, got, want)
			}
		}
	}
}
