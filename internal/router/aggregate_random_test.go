package router

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	randomCases = flag.Int("aggregate-cases", 150, "random queries and writes of TestRandomQueriesAndWrites")
	randomSeed  = flag.Uint64("aggregate-seed", 1, "seed of TestRandomQueriesAndWrites")
)

// generator makes random statements over market_data.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

// moment gives a time in the two ranges of the live data, often a boundary.
func (g generator) moment() time.Time {
	from := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	days := 76
	if g.IntN(3) == 0 {
		from, days = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -47), 49
	}
	t := from.Add(time.Duration(g.Int64N(int64(days) * 24 * int64(time.Hour)))).Truncate(time.Microsecond)
	switch g.IntN(4) {
	case 0:
		return t
	case 1:
		return t.Truncate(24 * time.Hour)
	case 2:
		return t.Truncate(time.Hour).Add(-time.Microsecond)
	}
	return t.Truncate(time.Hour)
}

// bound gives the value of a comparison with the time column.
func (g generator) bound() string {
	text := g.moment().Format("2006-01-02 15:04:05.999999")
	switch g.IntN(8) {
	case 0:
		return "'" + text + "Z'"
	case 1:
		return "timestamptz '" + text + "+05:30'"
	case 2:
		return "'" + text + "'::timestamp"
	case 3:
		return "date '" + text[:10] + "'"
	case 4:
		return fmt.Sprintf("now() - interval '%d days %d hours'", g.IntN(50), g.IntN(24))
	case 5:
		return fmt.Sprintf("current_date - %d", g.IntN(50))
	case 6:
		return fmt.Sprintf("date_trunc('%s', now()) - interval '%d hours'", g.one("hour", "day", "week", "month"), g.IntN(900))
	}
	return "'" + text + "'"
}

func (g generator) query() string {
	var keys, outputs, where []string
	if g.IntN(4) > 0 {
		form := formTexts[g.IntN(len(formTexts))]
		keys = append(keys, strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(form, "(t", "(timestamp"), " t", " timestamp"), "t::", "timestamp::"))
	}
	if g.IntN(2) == 0 {
		keys = append(keys, g.one("symbol", "symbol", "left(symbol, 2)"))
	}
	outputs = append(outputs, keys...)
	for range 1 + g.IntN(4) {
		outputs = append(outputs, g.one("count(*)", "count(close)", "count(symbol)", "sum(volume)", "avg(volume)", "sum(close)", "avg(close)", "min(low)", "max(high)", "max(low)", "min(volume)",
			"first(open, timestamp)", "last(close, timestamp)", "min(timestamp)", "max(timestamp)", "max(symbol)", "round(avg(volume), 3) + count(*)", "coalesce(sum(volume), -1) / (1 + count(close))", "max(high) - min(low)"))
	}
	if strings.Contains(strings.Join(outputs, " "), "st(") && g.IntN(5) > 0 {
		where = append(where, "symbol = 'SPY'") // else first and last are not routed
	} else if g.IntN(2) == 0 {
		where = append(where, g.one("symbol = 'SPY'", "symbol = 'SPX'", "symbol IN ('SPY', 'none')", "symbol LIKE '%X'", "symbol <> 'SPX' AND symbol IS NOT NULL", "NOT symbol = 'none'"))
	}
	if g.IntN(3) > 0 {
		where = append(where, "timestamp "+g.one(">=", ">=", ">")+" "+g.bound())
	}
	if g.IntN(3) == 0 {
		where = append(where, "timestamp "+g.one("<", "<", "<=")+" "+g.bound())
	}
	if g.IntN(8) == 0 {
		where = append(where, g.one("extract(hour FROM timestamp) < 12", "date_trunc('day', timestamp) >= '2024-02-01'", "extract(dow FROM timestamp) IN (1, 2)"))
	}
	sql := "SELECT " + strings.Join(outputs, ", ") + " FROM market_data"
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	if len(keys) > 0 {
		sql += " GROUP BY " + strings.Join(keys, ", ")
	}
	if g.IntN(6) == 0 {
		sql += " HAVING count(*) > " + g.one("0", "1", "20")
	}
	return fmt.Sprintf("SET TimeZone = '%s'; %s", g.one("UTC", "UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"), sql)
}

// write gives a statement that changes rows or aggregates.
func (g generator) write() string {
	from := g.moment()
	to := from.Add(time.Duration(g.IntN(72*60)) * time.Minute)
	between := fmt.Sprintf("timestamp >= '%s+00' AND timestamp < '%s+00'", from.Format("2006-01-02 15:04:05.999999"), to.Format("2006-01-02 15:04:05.999999"))
	name := g.one("market_data_1h", "market_data_1d", "market_data_1w")
	switch g.IntN(8) {
	case 0:
		return "DELETE FROM market_data WHERE " + between + " AND symbol = 'SPY'"
	case 1:
		return "UPDATE market_data SET volume = volume + 1, close = NULL WHERE " + between
	case 2, 3:
		return fmt.Sprintf("CALL refresh_continuous_aggregate('%s', '%s+00', '%s+00')", name, from.AddDate(0, 0, -8).Format(time.DateTime), to.AddDate(0, 0, 8).Format(time.DateTime))
	case 4:
		return fmt.Sprintf("CALL refresh_continuous_aggregate('%s', NULL, NULL)", name)
	}
	return fmt.Sprintf("INSERT INTO market_data (timestamp, symbol, open, high, low, close, volume) VALUES ('%s+00', '%s', %d, %d, 1, NULL, %d)",
		from.Add(time.Duration(g.IntN(3600*1e6))*time.Microsecond).Format("2006-01-02 15:04:05.999999"), g.one("SPY", "SPX", "NEW"), g.IntN(200), g.IntN(300), g.IntN(1000))
}

func TestRandomQueriesAndWrites(t *testing.T) {
	l := newLive(t)
	g := generator{rand.New(rand.NewPCG(*randomSeed, 0))}
	snap := l.snapshot(t)
	counts := map[outcome]int{}
	reasons := map[Reason]int{}
	saves := 0
	for i := range *randomCases {
		if g.IntN(6) == 0 {
			l.exec(t, g.write())
			if g.IntN(2) == 0 {
				snap = l.snapshot(t)
			}
		}
		sql := g.query()
		o, saved := l.check(t, fmt.Sprintf("case %d", i), goldenCase{title: sql, sql: sql}, snap)
		counts[o[0]]++
		if saved {
			saves++
		}
		if o[0] == passed {
			_, reason := planText(t, sql, liveContext(), snap, time.Now())
			reasons[reason]++
		}
		if i%10 == 9 {
			snap = l.snapshot(t)
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("seed %d: %d cases: %d answered, %d refused by the guard, %d of them rightly, %d passed: %v", *randomSeed, *randomCases, counts[answered], counts[refused], saves, counts[passed], reasons)
	if !t.Failed() && counts[answered] < *randomCases*2/5 {
		t.Errorf("%d of %d were answered, want two fifths", counts[answered], *randomCases)
	}
}
