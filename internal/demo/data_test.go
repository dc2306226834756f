package demo

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// walk makes n daily bars of a random walk, with prices as odd as the real
// file's and some degenerate sessions among them.
func walk(n int) []Bar {
	rng := rand.New(rand.NewPCG(1, 2))
	day := time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)
	price := 2500.0
	bars := make([]Bar, n)
	for i := range bars {
		open := price
		price *= math.Exp(0.02 * rng.NormFloat64())
		b := Bar{Time: day, Open: open, Close: price, Volume: 1_000_000_001 + rng.Int64N(8_000_000_000)}
		b.High = max(b.Open, b.Close) * (1 + 0.01*rng.Float64())
		b.Low = min(b.Open, b.Close) * (1 - 0.01*rng.Float64())
		switch i % 10 {
		case 3:
			b.High = max(b.Open, b.Close)
		case 6:
			b.Low = min(b.Open, b.Close)
		case 9: // nothing moved
			b.High, b.Low, b.Close = b.Open, b.Open, b.Open
			price = open
		}
		bars[i] = b
		day = day.AddDate(0, 0, 1)
	}
	return bars
}

func TestMinuteBarsReproduceTheirDayExactly(t *testing.T) {
	for _, day := range walk(200) {
		bars := minuteBars(day)
		if len(bars) != minutesPerDay {
			t.Fatalf("%s: %d bars", day.Time, len(bars))
		}
		got := Bar{Time: day.Time, Open: bars[0].Open, High: bars[0].High, Low: bars[0].Low, Close: bars[len(bars)-1].Close}
		for k, b := range bars {
			if !b.consistent() {
				t.Fatalf("%s: minute %d is inconsistent: %+v", day.Time, k, b)
			}
			if k > 0 && b.Open != bars[k-1].Close {
				t.Fatalf("%s: minute %d opens at %v, the one before closed at %v", day.Time, k, b.Open, bars[k-1].Close)
			}
			if want := day.Time.Add(sessionOpen + time.Duration(k)*time.Minute); !b.Time.Equal(want) {
				t.Fatalf("minute %d is at %s, want %s", k, b.Time, want)
			}
			if b.Volume <= 0 {
				t.Fatalf("%s: minute %d has volume %d", day.Time, k, b.Volume)
			}
			got.High, got.Low = max(got.High, b.High), min(got.Low, b.Low)
			got.Volume += b.Volume
		}
		if got != day {
			t.Fatalf("the minutes give %+v, the day is %+v", got, day)
		}
	}
}

func TestMinuteBarsMoveThroughTheDaysRange(t *testing.T) {
	for _, day := range walk(8) {
		closes := map[float64]bool{}
		for _, b := range minuteBars(day) {
			closes[b.Close] = true
		}
		if len(closes) < minutesPerDay/2 {
			t.Fatalf("%s: only %d different closes", day.Time, len(closes))
		}
	}
}

func TestTicksReproduceTheirMinuteExactly(t *testing.T) {
	for _, day := range walk(20) {
		bars := minuteBars(day)
		ticks := dayTicks(day.Time, bars)
		if len(ticks) != ticksPerMinute*len(bars) {
			t.Fatalf("%d ticks for %d minutes", len(ticks), len(bars))
		}
		for k, bar := range bars {
			of := ticks[k*ticksPerMinute : (k+1)*ticksPerMinute]
			got := Bar{Time: bar.Time, Open: of[0].Price, High: of[0].Price, Low: of[0].Price, Close: of[len(of)-1].Price}
			for i, tick := range of {
				if tick.Bid > tick.Price || tick.Price > tick.Ask {
					t.Fatalf("quote does not enclose the price: %+v", tick)
				}
				if tick.Time.Truncate(time.Minute) != bar.Time || i > 0 && !of[i-1].Time.Before(tick.Time) {
					t.Fatalf("tick %d of minute %s is at %s", i, bar.Time, tick.Time)
				}
				got.High, got.Low = max(got.High, tick.Price), min(got.Low, tick.Price)
				got.Volume += tick.Volume
			}
			if got != bar {
				t.Fatalf("the ticks give %+v, the minute is %+v", got, bar)
			}
		}
	}
}

func TestEmbeddingsAreAllWindowsAtLengthOne(t *testing.T) {
	bars := walk(Window + 40)
	all := embeddings(bars)
	if want := len(bars) - Window; len(all) != want {
		t.Fatalf("%d windows of %d bars, want %d", len(all), len(bars), want)
	}
	for i, e := range all {
		if len(e.Vector) != Window || !e.Time.Equal(bars[Window+i].Time) {
			t.Fatalf("window %d has %d values and ends at %s", i, len(e.Vector), e.Time)
		}
		var sum float64
		for _, v := range e.Vector {
			sum += float64(v) * float64(v)
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Fatalf("window %d has squared length %v", i, sum)
		}
	}
	// The last return of the last window, against the bars themselves.
	last := all[len(all)-1].Vector
	n := len(bars)
	r1, r2 := math.Log(bars[n-1].Close/bars[n-2].Close), math.Log(bars[n-2].Close/bars[n-3].Close)
	if got, want := float64(last[Window-2])*r1, float64(last[Window-1])*r2; math.Abs(got-want) > 1e-9 {
		t.Fatalf("the last two values are not in the ratio of their returns: %v, %v", got, want)
	}
}

func TestAWindowWithoutAnyMoveIsLeftOut(t *testing.T) {
	bars := walk(Window + 1)
	for i := range bars {
		bars[i].Close = 100
	}
	if all := embeddings(bars); len(all) != 0 {
		t.Fatalf("%d windows of a constant price", len(all))
	}
}

func TestRegimesDescribeEachMonthOnce(t *testing.T) {
	all := regimes(walk(365)) // 2019, daily
	if len(all) != 12 {
		t.Fatalf("%d regimes of a year", len(all))
	}
	for i, r := range all {
		if r.Time.Month() != time.Month(i+1) || r.Time.AddDate(0, 0, 1).Month() == r.Time.Month() {
			t.Errorf("regime %d is at %s, not on a month's last session", i, r.Time)
		}
		if len(r.Vector) != 64 || !(r.RealizedVol > 0) || r.VIXLevel != 100*r.RealizedVol {
			t.Errorf("regime %d: %+v", i, r)
		}
		if !strings.Contains(r.Label, "approximated") || len(r.Label) > 50 {
			t.Errorf("label %q", r.Label)
		}
	}
}

func TestMomentsOfAKnownSample(t *testing.T) {
	// In hundredths: mean 1, deviations -2, -1, -1, 0, 4.
	r := describe(time.Time{}, []float64{-0.01, 0, 0, 0.01, 0.05})
	for name, v := range map[string][2]float64{
		"volatility": {r.RealizedVol, math.Sqrt(22e-4 / 4 * 252)},
		"skew":       {r.Skew, (-8 - 1 - 1 + 0 + 64) / 5.0 / math.Pow(4.4, 1.5)},
		"kurtosis":   {r.Kurtosis, (16+1+1+0+256)/5.0/(4.4*4.4) - 3},
	} {
		if math.Abs(v[0]-v[1]) > 1e-12 {
			t.Errorf("%s is %v, want %v", name, v[0], v[1])
		}
	}
}

func TestRegimeVectorsPeakWhereTheFeatureLies(t *testing.T) {
	v := regimeVector(0, 200, 0, 6)
	for i, want := range map[int]float32{0: 1, 16 + 15: 1} {
		if v[i] != want {
			t.Errorf("value %d is %v, want %v", i, v[i], want)
		}
	}
	if v[32+7] != v[32+8] || v[48+7] != v[48+8] {
		t.Error("a feature in the middle of its range is not symmetric")
	}
}

func TestThePortfolioBalances(t *testing.T) {
	bars := walk(700)
	trades, values := runStrategy(bars)
	if len(values) != strategyDays {
		t.Fatalf("%d portfolio values, want %d", len(values), strategyDays)
	}
	if len(trades) < 4 {
		t.Fatalf("only %d trades", len(trades))
	}
	cash, held, next := float64(startingCash), int64(0), 0
	for i, v := range values {
		for next < len(trades) && trades[next].Time.Before(v.Time) {
			tr := trades[next]
			if want := []string{"buy", "sell"}[next%2]; tr.Action != want {
				t.Fatalf("trade %d is a %s", next, tr.Action)
			}
			sign := float64(1)
			if tr.Action == "buy" {
				sign, held = -1, held+tr.Quantity
			} else {
				held -= tr.Quantity
			}
			cash += sign*tr.Price*float64(tr.Quantity) - tr.Commission
			next++
		}
		b := bars[len(bars)-strategyDays+i]
		if v.Cash < 0 || math.Abs(v.Cash-cash) > 1e-6 || v.Equity != float64(held)*b.Close || v.Total != v.Cash+v.Equity {
			t.Fatalf("value %d is %+v, held %d and cash %v", i, v, held, cash)
		}
	}
	if next != len(trades) {
		t.Fatalf("%d of %d trades lie in the valued sessions", next, len(trades))
	}
}

func TestTheSameBarsGiveTheSameDataset(t *testing.T) {
	bars := walk(300)
	a, err := NewDataset(bars)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewDataset(slices.Clone(bars))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Fatal("two datasets of the same bars differ")
	}
	if len(a.Minutes) != minuteDays*minutesPerDay || len(a.Ticks) != tickDays*minutesPerDay*ticksPerMinute {
		t.Fatalf("%d minute bars, %d ticks", len(a.Minutes), len(a.Ticks))
	}
	if last := a.Minutes[len(a.Minutes)-1]; last.Close != bars[len(bars)-1].Close {
		t.Fatalf("the last minute closes at %v, the last day at %v", last.Close, bars[len(bars)-1].Close)
	}
}

func TestTooFewBarsAreRefused(t *testing.T) {
	if _, err := NewDataset(walk(Window)); err == nil {
		t.Fatal("a dataset was made of fewer bars than one window needs")
	}
}

func TestBarsAreReadByTheNamesOfTheirColumns(t *testing.T) {
	const file = "volume,date,open,high,low,close,adjclose\n931800000,2000-01-03,1469.250000,1478.000000,1438.359985,1455.219971,0\n"
	bars, err := ParseBars(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	want := []Bar{{
		Time: time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC),
		Open: 1469.25, High: 1478, Low: 1438.359985, Close: 1455.219971, Volume: 931_800_000,
	}}
	if !reflect.DeepEqual(bars, want) {
		t.Fatalf("read %+v", bars)
	}
}

func TestImpossibleBarsAreRefused(t *testing.T) {
	const header = "date,open,high,low,close,volume\n"
	for name, file := range map[string]string{
		"no header":              "",
		"a column missing":       "date,open,high,low,close\n2000-01-03,1,1,1,1\n",
		"a bad date":             header + "03/01/2000,1,1,1,1,1\n",
		"a bad price":            header + "2000-01-03,one,1,1,1,1\n",
		"a fractional volume":    header + "2000-01-03,1,1,1,1,1.5\n",
		"a high below the open":  header + "2000-01-03,2,1,1,1,1\n",
		"not a number":           header + "2000-01-03,NaN,NaN,NaN,NaN,1\n",
		"a price of zero":        header + "2000-01-03,0,0,0,0,1\n",
		"no volume":              header + "2000-01-03,1,1,1,1,0\n",
		"a date that comes back": header + "2000-01-03,1,1,1,1,1\n2000-01-03,1,1,1,1,1\n",
		"a short row":            header + "2000-01-03,1\n",
	} {
		if bars, err := ParseBars(strings.NewReader(file)); err == nil {
			t.Errorf("%s was read as %+v", name, bars)
		}
	}
}
