package demo

import (
	"math"
	"time"
)

// Window is the length of an embedding in daily log returns.
const Window = 128

// FeatureType is feature_embeddings.feature_type of the windows.
const FeatureType = "log_returns_128d"

// Embedding is a window of daily log returns of SPX, scaled to length 1, and the
// date of its last return.
type Embedding struct {
	Time   time.Time
	Vector []float32 // Window values
}

// logReturns gives ln(close/previous close) of each bar but the first.
func logReturns(bars []Bar) []float64 {
	r := make([]float64, 0, len(bars))
	for i := 1; i < len(bars); i++ {
		r = append(r, math.Log(bars[i].Close/bars[i-1].Close))
	}
	return r
}

// embeddings gives every window of the bars' returns: n bars give n-Window of
// them. A window without any move has no direction and is left out.
func embeddings(bars []Bar) []Embedding {
	returns := logReturns(bars)
	var all []Embedding
	for end := Window; end <= len(returns); end++ {
		if v, ok := normalise(returns[end-Window : end]); ok {
			all = append(all, Embedding{Time: bars[end].Time, Vector: v})
		}
	}
	return all
}

// normalise scales x to Euclidean length 1; false when its length is 0.
func normalise(x []float64) ([]float32, bool) {
	var sum float64
	for _, v := range x {
		sum += v * v
	}
	length := math.Sqrt(sum)
	if length == 0 {
		return nil, false
	}
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v / length)
	}
	return out, true
}

// Regime describes the returns of one calendar month.
type Regime struct {
	Time        time.Time // the month's last session
	Label       string
	RealizedVol float64 // standard deviation of the daily log returns, times sqrt(252)
	// VIXLevel is not the VIX: it is approximated as 100 times RealizedVol, in
	// VIX points; Label says so.
	VIXLevel float64
	Skew     float64
	Kurtosis float64   // excess kurtosis, 0 for a normal distribution
	Vector   []float32 // 64 values, see regimeVector
}

// The fewest returns of a month that is described.
const minMonthReturns = 10

// regimes describes each month of the bars.
func regimes(bars []Bar) []Regime {
	returns := logReturns(bars)
	var all []Regime
	for from := 0; from < len(returns); {
		to := from
		for to < len(returns) && sameMonth(bars[from+1].Time, bars[to+1].Time) {
			to++
		}
		if to-from >= minMonthReturns {
			all = append(all, describe(bars[to].Time, returns[from:to]))
		}
		from = to
	}
	return all
}

func sameMonth(a, b time.Time) bool { return a.Year() == b.Year() && a.Month() == b.Month() }

func describe(at time.Time, returns []float64) Regime {
	n := float64(len(returns))
	var mean, m2, m3, m4 float64
	for _, x := range returns {
		mean += x / n
	}
	for _, x := range returns {
		d := x - mean
		m2 += d * d / n
		m3 += d * d * d / n
		m4 += d * d * d * d / n
	}
	r := Regime{Time: at, RealizedVol: math.Sqrt(m2 * n / (n - 1) * 252)}
	if m2 > 0 {
		r.Skew = m3 / math.Pow(m2, 1.5)
		r.Kurtosis = m4/(m2*m2) - 3
	}
	r.VIXLevel = 100 * r.RealizedVol
	r.Label = regimeName(r.RealizedVol) + " (vix_level approximated from realized_vol)"
	r.Vector = regimeVector(r.RealizedVol, r.VIXLevel, r.Skew, r.Kurtosis)
	return r
}

func regimeName(vol float64) string {
	switch {
	case vol < 0.10:
		return "calm"
	case vol < 0.20:
		return "normal"
	case vol < 0.40:
		return "high"
	default:
		return "crisis"
	}
}

// regimeVector encodes four features as 16 Gaussian bumps each, centred evenly
// over the feature's range and as wide as their distance; values beyond the range
// count as its end. Ranges: realized_vol 0..1, vix_level 0..100, skew -4..4,
// kurtosis -2..14.
func regimeVector(vol, vix, skew, kurtosis float64) []float32 {
	const bumps = 16
	v := make([]float32, 0, 4*bumps)
	for _, f := range [4]struct{ x, low, high float64 }{
		{vol, 0, 1}, {vix, 0, 100}, {skew, -4, 4}, {kurtosis, -2, 14},
	} {
		x := (clamp(f.x, f.low, f.high) - f.low) / (f.high - f.low) * (bumps - 1)
		for i := range bumps {
			d := x - float64(i)
			v = append(v, float32(math.Exp(-d*d/2)))
		}
	}
	return v
}
