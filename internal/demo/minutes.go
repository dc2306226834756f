package demo

import (
	"math"
	"math/rand/v2"
	"time"
)

// A session has 390 one-minute bars from 14:30 UTC (09:30 in New York in
// winter). Daylight saving time is left out: all sessions begin at the same
// minute UTC, which keeps each in one UTC day.
const (
	minutesPerDay = 390
	sessionOpen   = 14*time.Hour + 30*time.Minute
)

// seed makes the drawn data the same on every machine and at every start.
const seed = 0x51_56_50_47_57 // "QVPGW"

// dayRand is the generator for one session; stream separates what is drawn for
// the same session for different purposes.
func dayRand(day time.Time, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed^stream<<48, uint64(day.Unix())))
}

// minuteBars draws the one-minute bars of a session from its daily bar. They
// reproduce it exactly: the first open, highest high, lowest low and last close
// are bit-equal to the day's, the volumes sum to the day's; each bar opens where
// the one before closed and is consistent.
func minuteBars(day Bar) []Bar {
	rng := dayRand(day.Time, 1)
	// The minutes that touch the day's high and low. The last one is left to the
	// close.
	atHigh := rng.IntN(minutesPerDay - 1)
	atLow := rng.IntN(minutesPerDay - 2)
	if atLow >= atHigh {
		atLow++
	}
	// The expected range of a random walk of n steps is about 1.6 sigma sqrt(n).
	spread := day.High - day.Low
	sigma := spread / (1.6 * math.Sqrt(minutesPerDay))
	knots := pricePath(rng, day, atHigh+1, atLow+1, sigma)
	volumes := splitVolume(rng, day.Volume)

	bars := make([]Bar, minutesPerDay)
	first := day.Time.Add(sessionOpen)
	for k := range bars {
		b := Bar{
			Time:   first.Add(time.Duration(k) * time.Minute),
			Open:   knots[k],
			Close:  knots[k+1],
			Volume: volumes[k],
		}
		wick := 0.5 * sigma
		b.High = clamp(cents(max(b.Open, b.Close)+wick*math.Abs(rng.NormFloat64())), max(b.Open, b.Close), day.High)
		b.Low = clamp(cents(min(b.Open, b.Close)-wick*math.Abs(rng.NormFloat64())), day.Low, min(b.Open, b.Close))
		if k == atHigh {
			b.High = day.High
		}
		if k == atLow {
			b.Low = day.Low
		}
		bars[k] = b
	}
	return bars
}

// pricePath draws the prices between the minutes: Brownian bridges of step sigma
// from the day's open by way of points near its high and its low, at the knots
// kh and kl in 1..389, to its close, folded back into [Low, High].
func pricePath(rng *rand.Rand, day Bar, kh, kl int, sigma float64) []float64 {
	type point struct {
		knot  int
		price float64
	}
	high := point{kh, day.High - 0.25*sigma*rng.Float64()}
	low := point{kl, day.Low + 0.25*sigma*rng.Float64()}
	way := []point{{0, day.Open}, high, low, {minutesPerDay, day.Close}}
	if kl < kh {
		way[1], way[2] = low, high
	}

	path := make([]float64, minutesPerDay+1)
	for i := 1; i < len(way); i++ {
		from, to := way[i-1], way[i]
		x := from.price
		for k := from.knot + 1; k < to.knot; k++ {
			left := float64(to.knot - k) // steps after this one
			x += (to.price-x)/(left+1) + sigma*math.Sqrt(left/(left+1))*rng.NormFloat64()
			path[k] = clamp(cents(fold(x, day.Low, day.High)), day.Low, day.High)
		}
		path[to.knot] = clamp(cents(to.price), day.Low, day.High)
	}
	path[0], path[minutesPerDay] = day.Open, day.Close
	return path
}

// splitVolume divides total over the minutes, busier at the open and the close,
// as integers that sum to total.
func splitVolume(rng *rand.Rand, total int64) []int64 {
	cumulated := make([]float64, minutesPerDay+1)
	for k := range minutesPerDay {
		x := (float64(k) - minutesPerDay/2) / (minutesPerDay / 2)
		cumulated[k+1] = cumulated[k] + (1+2*x*x)*(0.5+rng.Float64())
	}
	volumes := make([]int64, minutesPerDay)
	var given int64
	for k := range volumes {
		upTo := int64(float64(total) * (cumulated[k+1] / cumulated[minutesPerDay]))
		if k == minutesPerDay-1 {
			upTo = total
		}
		volumes[k] = upTo - given
		given = upTo
	}
	return volumes
}

// Tick is one trade with the quote around it.
type Tick struct {
	Time            time.Time
	Price, Bid, Ask float64
	Volume          int64
}

const ticksPerMinute = 4

// minuteTicks draws the ticks of a minute bar. They reproduce it exactly: the
// first is its open, the last its close, between them its low and its high, and
// their volumes sum to its volume. bid <= price <= ask.
func minuteTicks(rng *rand.Rand, bar Bar) []Tick {
	prices := [ticksPerMinute]float64{bar.Open, bar.Low, bar.High, bar.Close}
	if bar.Close < bar.Open {
		prices[1], prices[2] = bar.High, bar.Low
	}
	within := func(from, to time.Duration) time.Duration {
		return from + time.Duration(rng.Int64N(int64((to-from)/time.Microsecond)))*time.Microsecond
	}
	after := [ticksPerMinute]time.Duration{
		within(0, 5*time.Second),
		within(10*time.Second, 25*time.Second),
		within(30*time.Second, 50*time.Second),
		within(55*time.Second, 60*time.Second),
	}
	ticks := make([]Tick, ticksPerMinute)
	left := bar.Volume
	for i := range ticks {
		volume := left
		if rest := int64(ticksPerMinute - i); rest > 1 {
			volume = left / rest
		}
		left -= volume
		half := 0.005 * float64(1+rng.IntN(5)) // half a spread of 1 to 5 cents
		ticks[i] = Tick{
			Time: bar.Time.Add(after[i]), Price: prices[i], Volume: volume,
			Bid: prices[i] - half, Ask: prices[i] + half,
		}
	}
	return ticks
}

// dayTicks draws the ticks of a session's minute bars.
func dayTicks(day time.Time, bars []Bar) []Tick {
	rng := dayRand(day, 2)
	ticks := make([]Tick, 0, len(bars)*ticksPerMinute)
	for _, b := range bars {
		ticks = append(ticks, minuteTicks(rng, b)...)
	}
	return ticks
}

// fold reflects x at low and high until it lies between them.
func fold(x, low, high float64) float64 {
	width := high - low
	if width <= 0 {
		return low
	}
	y := math.Mod(x-low, 2*width)
	if y < 0 {
		y += 2 * width
	}
	if y > width {
		y = 2*width - y
	}
	return low + y
}

func cents(x float64) float64 { return math.Round(x*100) / 100 }

func clamp(x, low, high float64) float64 { return min(max(x, low), high) }
