package rollup

import (
	"math/rand/v2"
	"slices"
	"testing"

	"qvpgw/internal/catalog"
)

func inside(spans []catalog.Span, t int64) bool {
	for _, s := range spans {
		if t >= s.Start && t < s.End {
			return true
		}
	}
	return false
}

func TestSplitGivesWholeBucketsThatAreAskedForHeldAndClean(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	routed := 0
	for range 3000 {
		base := int64(1_704_067_200) * Second
		r := Request{From: base + rnd.Int64N(40*int64(Day)), Limit: base + rnd.Int64N(60*int64(Day))}
		r.To = r.From + rnd.Int64N(40*int64(Day))
		if rnd.IntN(4) == 0 {
			r.From = MinTime
		}
		if rnd.IntN(4) == 0 {
			r.To = MaxTime
		}
		r.Held = make([][]catalog.Chunk, 1+rnd.IntN(2))
		for i := range rnd.IntN(8) {
			start := base + int64(i)*7*Day
			if rnd.IntN(5) > 0 {
				r.Raw = append(r.Raw, catalog.Chunk{ID: int32(i), Start: start, End: start + 7*Day})
			}
			for level := range r.Held {
				if rnd.IntN(5) > 0 {
					r.Held[level] = append(r.Held[level], catalog.Chunk{ID: int32(i), Start: start - 7*Day, End: start + 7*Day})
				}
			}
		}
		for range rnd.IntN(4) {
			start := base + rnd.Int64N(50*int64(Day))
			r.Invalid = append(r.Invalid, catalog.Span{Start: start, End: start + 1 + rnd.Int64N(int64(Day))})
		}
		g := []Grid{Fixed(Hour, 0), Fixed(Day, 0), Fixed(7*Day, bucketOrigin), Monthly(1, 0)}[rnd.IntN(4)]
		spans := Split(g, r)
		last := MinTime
		for _, s := range spans {
			routed++
			if s.Start >= s.End || s.Start < last || g.Floor(s.Start) != s.Start || g.Floor(s.End) != s.End {
				t.Fatalf("%v of %+v is not in order or not of whole buckets", spans, r)
			}
			last = s.End
			if s.End > r.Limit || s.End > r.To || s.Start < r.From {
				t.Fatalf("%v leaves the request %+v", s, r)
			}
		}
		for range 50 {
			m := base - 10*Day + rnd.Int64N(80*int64(Day))
			if !inside(spans, m) {
				continue
			}
			for _, x := range r.Invalid {
				if m >= x.Start && m < x.End {
					t.Fatalf("%d of %v is invalid in %+v", m, spans, r)
				}
			}
			in := func(c catalog.Chunk) bool { return m >= c.Start && m < c.End }
			for _, held := range r.Held {
				if slices.ContainsFunc(r.Raw, in) && !slices.ContainsFunc(held, in) {
					t.Fatalf("%d of %v has raw rows that are not held in %+v", m, spans, r)
				}
			}
		}
	}
	if routed < 1000 {
		t.Errorf("%d spans, the test is too weak", routed)
	}
}

func TestSplitUsesTheCleanRangesAroundADirtyOne(t *testing.T) {
	base := int64(1_704_067_200) * Second
	chunk := []catalog.Chunk{{ID: 1, Start: base, End: base + 70*Day}}
	r := Request{From: MinTime, To: MaxTime, Limit: base + 60*Day, Raw: chunk, Held: [][]catalog.Chunk{chunk}, Invalid: []catalog.Span{{Start: base + 10*Day + 5, End: base + 10*Day + 6}, {Start: MinTime - 5, End: MinTime - 1}, {Start: base + 60*Day, End: MaxTime}}}
	got := Split(Fixed(Day, 0), r)
	want := []catalog.Span{{Start: base, End: base + 10*Day}, {Start: base + 11*Day, End: base + 60*Day}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("spans %v, want %v", got, want)
	}
	if coarse, fine := Cost(Fixed(Day, 0), r, got), Cost(Fixed(Hour, 0), r, Split(Fixed(Hour, 0), r)); coarse <= 0 || fine <= 0 {
		t.Errorf("costs %d and %d", coarse, fine)
	}
}

func TestACoarserAggregateCostsLessUntilItsEdgesAreRaw(t *testing.T) {
	base := int64(1_704_067_200) * Second
	chunk := []catalog.Chunk{{ID: 1, Start: base, End: base + 70*Day}}
	cost := func(width int64, days int64) int64 {
		r := Request{From: base + 30*Minute, To: base + days*Day + 30*Minute, Limit: base + 70*Day, Raw: chunk, Held: [][]catalog.Chunk{chunk}}
		return Cost(Fixed(width, 0), r, Split(Fixed(width, 0), r))
	}
	if cost(Hour, 2) >= cost(Day, 2) {
		t.Error("two ragged days are cheaper by day than by hour")
	}
	if cost(Day, 65) >= 65*24*60 {
		t.Error("sixty days by day cost as much as raw rows")
	}
}
