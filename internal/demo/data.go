package demo

import (
	"fmt"
	"math"
	"time"
)

// What is drawn from the last sessions.
const (
	minuteDays = 120 // sessions with minute bars
	tickDays   = 5   // sessions with ticks
)

// The symbols of the loaded rows.
const (
	Daily  = "SPX" // the daily bars, real
	Minute = "SPY" // minute bars and ticks, drawn
)

// Dataset is everything that Load writes. It is a function of the daily bars
// alone.
type Dataset struct {
	Daily      []Bar // market_data, symbol Daily
	Minutes    []Bar // market_data, symbol Minute
	Ticks      []Tick
	Embeddings []Embedding
	Regimes    []Regime
	Trades     []Trade
	Values     []PortfolioValue
}

// NewDataset derives the demo's data from daily bars, of which it needs more than
// a window and the sessions with minute bars.
func NewDataset(daily []Bar) (*Dataset, error) {
	if need := max(Window, minuteDays, slowDays) + 1; len(daily) < need {
		return nil, fmt.Errorf("cannot derive the demo's data from %d daily bars: at least %d are needed", len(daily), need)
	}
	d := &Dataset{Daily: daily, Embeddings: embeddings(daily), Regimes: regimes(daily)}
	d.Trades, d.Values = runStrategy(daily)
	for i := len(daily) - minuteDays; i < len(daily); i++ {
		bars := minuteBars(daily[i])
		d.Minutes = append(d.Minutes, bars...)
		if i < len(daily)-tickDays {
			continue
		}
		for _, b := range bars {
			if b.Volume > math.MaxInt32 { // tick_data.volume is an integer
				return nil, fmt.Errorf("cannot draw ticks of %s: a minute's volume of %d does not fit an integer",
					daily[i].Time.Format(time.DateOnly), b.Volume)
			}
		}
		d.Ticks = append(d.Ticks, dayTicks(daily[i].Time, bars)...)
	}
	return d, nil
}
