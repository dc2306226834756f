package rollup

import (
	"math/rand/v2"
	"testing"
	"time"
)

// grids covers fixed widths on and off the usual origins, weeks and months.
var grids = map[string]Grid{
	"1 min": Fixed(Minute, 0), "5 min": Fixed(5*Minute, 0), "7 min": Fixed(7*Minute, bucketOrigin), "15 min": Fixed(15*Minute, 0), "30 min": Fixed(30*Minute, 0),
	"1 h": Fixed(Hour, bucketOrigin), "1 h at :30": Fixed(Hour, 30*Minute), "90 min": Fixed(90*Minute, 0), "2 h": Fixed(2*Hour, bucketOrigin), "7 h": Fixed(7*Hour, 0),
	"16 h": Fixed(16*Hour, 0), "16 h, bucket": Fixed(16*Hour, bucketOrigin), "1 d": Fixed(Day, 0), "1 d at 6": Fixed(Day, 6*Hour), "2 d": Fixed(2*Day, 0),
	"2 d, bucket": Fixed(2*Day, bucketOrigin), "7 d, epoch": Fixed(7*Day, 0), "week": Fixed(7*Day, bucketOrigin), "14 d": Fixed(14*Day, bucketOrigin), "30 d": Fixed(30*Day, bucketOrigin),
	"month": Monthly(1, 0), "2 months": Monthly(2, bucketOriginMonth), "quarter": Monthly(3, 0), "5 months": Monthly(5, bucketOriginMonth), "year": Monthly(12, 0), "decade": Monthly(120, 360), "century": Monthly(1200, 372),
}

// moments gives times between 1960 and 2060: random ones and ones next to
// boundaries of both grids.
func moments(rnd *rand.Rand, n int, near ...Grid) []int64 {
	from := time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	to := time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	var out []int64
	for range n {
		t := from + rnd.Int64N(to-from)
		out = append(out, t)
		for _, g := range near {
			b := g.Floor(t)
			out = append(out, b-1, b, b+1, g.Next(b)-1, g.Next(b))
		}
	}
	return out
}

func TestFloorIsTheGreatestBoundaryNotAfterAndCeilTheLeastNotBefore(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, g := range grids {
		for _, m := range moments(rnd, 200, g) {
			f, c := g.Floor(m), g.Ceil(m)
			if f > m || g.Next(f) <= m || g.Floor(f) != f {
				t.Fatalf("%s: Floor(%d) = %d, next %d", name, m, f, g.Next(f))
			}
			if c < m || g.Floor(c) != c || c != m && g.Floor(c-1) != f {
				t.Fatalf("%s: Ceil(%d) = %d, Floor %d", name, m, c, f)
			}
		}
	}
}

func TestRefinesIsTheBucketLemma(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	refining := 0
	for fine, f := range grids {
		for coarse, g := range grids {
			holds := true
			for _, m := range moments(rnd, 300, f, g) {
				if g.Floor(m) != g.Floor(f.Floor(m)) {
					holds = false
					break
				}
			}
			if got := f.Refines(g); got != holds {
				t.Errorf("%s refines %s: %v, but g(t) = g(f(t)) is %v", fine, coarse, got, holds)
			}
			if holds {
				refining++
			}
		}
	}
	if refining < 100 {
		t.Errorf("%d pairs refine, the test is too weak", refining)
	}
}

// clockFloor is date_trunc on a zone's clock: the boundary at or before what the
// clock shows, together with the offset in force, which date_trunc keeps for units
// of an hour and less.
func clockFloor(g Grid, loc *time.Location, micros int64) [2]int64 {
	_, offset := time.UnixMicro(micros).In(loc).Zone()
	floor := g.Floor(micros + int64(offset)*Second)
	if g.Months != 0 || g.Width >= Day {
		return [2]int64{floor, 0}
	}
	return [2]int64{floor, int64(offset)}
}

func TestRefinesInIsTheLemmaOnAZonesClock(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	from := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	to := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	want := map[string][2]bool{ // one hour, a quarter of an hour refine the zone's day
		"UTC": {true, true}, "Europe/Berlin": {true, true}, "America/New_York": {true, true}, "Asia/Kolkata": {false, true},
		"Australia/Lord_Howe": {false, true}, "Asia/Kathmandu": {false, true}, "America/St_Johns": {false, true},
	}
	for name, expect := range want {
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		day, _ := Unit("day")
		if got := Fixed(Hour, 0).RefinesIn(day, loc, from, to); got != expect[0] {
			t.Errorf("hours refine days in %s: %v", name, got)
		}
		if got := Fixed(15*Minute, 0).RefinesIn(day, loc, from, to); got != expect[1] {
			t.Errorf("quarters of an hour refine days in %s: %v", name, got)
		}
		for fine, f := range grids {
			for _, unit := range []string{"minute", "hour", "day", "week", "month", "quarter", "year"} {
				g, _ := Unit(unit)
				if !f.RefinesIn(g, loc, from, to) {
					continue
				}
				for range 400 {
					m := from + rnd.Int64N(to-from)
					if b := f.Floor(m); b >= from && clockFloor(g, loc, m) != clockFloor(g, loc, b) {
						t.Fatalf("%s refines %s in %s, but not at %s", fine, unit, name, time.UnixMicro(m).UTC())
					}
				}
			}
		}
	}
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	winter := [2]int64{time.Date(2024, 11, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro()}
	if !Fixed(Day, 0).RefinesIn(Fixed(Day, 0), london, winter[0], winter[1]) {
		t.Error("days of UTC are not London's days in winter")
	}
	if Fixed(Day, 0).RefinesIn(Fixed(Day, 0), london, winter[0], winter[1]+60*Day) {
		t.Error("days of UTC are London's days across the change to summer time")
	}
}

func TestIntervalsAreReadByTheirMeaning(t *testing.T) {
	for text, want := range map[string]Interval{
		"1 hour": {0, 0, Hour}, "01:00:00": {0, 0, Hour}, "60 min": {0, 0, Hour}, "3600": {0, 0, Hour}, "3600 seconds": {0, 0, Hour},
		"300.000s": {0, 0, 5 * Minute}, "0.020s": {0, 0, 20_000}, "1.5 hours": {0, 0, 90 * Minute}, "1 day": {0, 1, 0}, "7 days": {0, 7, 0}, "1 week": {0, 7, 0},
		"2 weeks 12:30": {0, 14, 12*Hour + 30*Minute}, "1 mon": {1, 0, 0}, "1 month": {1, 0, 0}, "1 year 2 mons": {14, 0, 0}, "3 mons 2 days 04:05:06.000007": {3, 2, 4*Hour + 5*Minute + 6*Second + 7},
		"-1 day": {0, -1, 0}, "  1 day  ": {0, 1, 0}, "1day": {0, 1, 0}, "250 ms": {0, 0, 250_000},
	} {
		if got, ok := ParseInterval(text); !ok || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "hour", "1 fortnight", "1.5 days", "1 day ago", "P1D", "-1 day 02:00", "1 day -02:00", "1:99", "0.0000001s", "1 2", "@ 1 day", "1-2", "99999999999999999999 days", "--1 day"} {
		if got, ok := ParseInterval(text); ok {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestIntervalsAreAddedAsPostgreSQLAddsThem(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		from string
		add  Interval
		want string
	}{
		{"2024-03-31 10:00", Interval{Months: -1}, "2024-02-29 10:00"},
		{"2023-12-31 10:00", Interval{Months: 2}, "2024-02-29 10:00"},
		{"2024-01-15 10:00", Interval{Months: -13, Days: 1, Micros: -Hour}, "2022-12-16 09:00"},
		{"2024-01-15 10:00", Interval{Days: 2}.Times(-3), "2024-01-09 10:00"},
	} {
		if got := c.add.AddTo(at(c.from)); !got.Equal(at(c.want)) {
			t.Errorf("%s + %v = %s, want %s", c.from, c.add, got, c.want)
		}
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Date(2024, 3, 30, 12, 0, 0, 0, berlin)
	if got := (Interval{Days: 1}).AddTo(before); got.Sub(before) != 23*time.Hour {
		t.Errorf("a day across the change to summer time took %s", got.Sub(before))
	}
}

func TestBucketsTakeOnlyTheWidthsThatTimeBucketTakes(t *testing.T) {
	for _, w := range []Interval{{}, {Days: -1}, {Months: 1, Days: 1}, {Months: 1, Micros: 1}, {Micros: -5}} {
		if g, ok := Bucket(w); ok {
			t.Errorf("%v gives %v", w, g)
		}
	}
	week, _ := Bucket(Interval{Days: 7})
	if monday := time.Date(2024, 3, 11, 0, 0, 0, 0, time.UTC).UnixMicro(); week.Floor(monday+3*Day) != monday {
		t.Error("weeks do not start on Monday")
	}
	if g, ok := BucketShifted(Interval{Days: 1}, Interval{Micros: 6 * Hour}); !ok || g != Fixed(Day, 6*Hour) {
		t.Errorf("a day moved by six hours is %v, %v", g, ok)
	}
	if _, ok := BucketShifted(Interval{Days: 1}, Interval{Months: 1}); ok {
		t.Error("a day moved by a month is taken")
	}
	if _, ok := BucketAt(Interval{Months: 1}, 0); ok {
		t.Error("months with an origin are taken")
	}
}
