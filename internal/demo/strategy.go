package demo

import (
	"math"
	"time"
)

// The demo's portfolio: moving averages of the closes over fastDays and slowDays;
// all cash is invested at the open after the fast one closed above the slow one,
// and all is sold at the open after it closed below.
const (
	strategyName  = "SMA 10/30 on SPX"
	fastDays      = 10
	slowDays      = 30
	strategyDays  = 504     // the last two years of sessions
	startingCash  = 100_000 // dollars
	commissionPer = 0.005   // dollars a share
	sessionClose  = sessionOpen + minutesPerDay*time.Minute
)

// Trade is an order filled at a session's open.
type Trade struct {
	Time              time.Time
	Action            string // buy or sell
	Quantity          int64
	Price, Commission float64
}

// PortfolioValue is what the portfolio was worth at a session's close.
type PortfolioValue struct {
	Time                time.Time
	Total, Cash, Equity float64 // Total is Cash + Equity
}

// runStrategy trades the last strategyDays sessions (fewer when there are fewer
// after the first slow average) and values the portfolio after each.
func runStrategy(bars []Bar) ([]Trade, []PortfolioValue) {
	var trades []Trade
	var values []PortfolioValue
	cash, held := float64(startingCash), int64(0)
	for i := max(slowDays, len(bars)-strategyDays); i < len(bars); i++ {
		b := bars[i]
		long := meanClose(bars[i-fastDays:i]) > meanClose(bars[i-slowDays:i])
		t := Trade{Time: b.Time.Add(sessionOpen), Price: b.Open}
		switch {
		case long && held == 0:
			t.Action, t.Quantity = "buy", int64(math.Floor(cash/(b.Open+commissionPer)))
		case !long && held > 0:
			t.Action, t.Quantity = "sell", held
		}
		if t.Quantity > 0 {
			t.Commission = commissionPer * float64(t.Quantity)
			trades = append(trades, t)
			amount := b.Open * float64(t.Quantity)
			if t.Action == "buy" {
				cash, held = cash-amount-t.Commission, t.Quantity
			} else {
				cash, held = cash+amount-t.Commission, 0
			}
		}
		equity := float64(held) * b.Close
		values = append(values, PortfolioValue{
			Time: b.Time.Add(sessionClose), Total: cash + equity, Cash: cash, Equity: equity,
		})
	}
	return trades, values
}

func meanClose(bars []Bar) float64 {
	var sum float64
	for _, b := range bars {
		sum += b.Close
	}
	return sum / float64(len(bars))
}
