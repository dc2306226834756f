package gateway

import (
	"strconv"
	"testing"

	"qvpgw/internal/cache"
	"qvpgw/internal/vector"
)

// TestVectorsThatWereAskedForAreOfTheCachesBudget asks for many, each at its own place.
func TestVectorsThatWereAskedForAreOfTheCachesBudget(t *testing.T) {
	asked := func(i int) *nearQuery {
		v, err := vector.Decode(vector.Vector, 0, []byte("["+strconv.Itoa(i*i)+",1,2,3]"))
		if err != nil {
			t.Fatal(err)
		}
		return &nearQuery{query: v, family: []byte("a family")}
	}
	known := func(m *nearby, i int) bool {
		n := asked(i)
		m.find(n)
		return n.promising
	}
	for _, c := range []struct {
		budget, held int64
		knows        bool
	}{
		{64 << 20, 3 * mostNearby, true},    // the heap counts three times
		{1 << 20, 2 * 3 * nearbyStep, true}, // no more than half of the budget
		{200 << 10, 0, false},
	} {
		kept, err := cache.New(c.budget)
		if err != nil {
			t.Fatal(err)
		}
		m := nearby{cache: kept}
		most := int64(0)
		for i := range 8_000 {
			m.find(asked(i))
			if i%100 == 0 {
				most = max(most, kept.Stat().Bytes)
			}
			if m.bytes > m.reserved {
				t.Fatalf("%d bytes are held, %d are reserved", m.bytes, m.reserved)
			}
		}
		if most != c.held {
			t.Errorf("of %d bytes %d are the vectors', they should be %d", c.budget, most, c.held)
		}
		if got := known(&m, 7_999); got != c.knows {
			t.Errorf("of %d bytes: the last is known: %v", c.budget, got)
		}
		m.forget()
		if st := kept.Stat(); st.Bytes != 0 || known(&m, 7_999) {
			t.Errorf("%d bytes are left", st.Bytes)
		}
	}
}
