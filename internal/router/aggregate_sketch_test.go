package router

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	goldenDate   = regexp.MustCompile(`'2024-0\d-\d\d( \d\d:\d\d)?`)
	goldenSymbol = regexp.MustCompile(`symbol = '[A-Z]*'`)
	goldenCount  = regexp.MustCompile(`LIMIT \d+`)
)

// TestASketchPlansWhatTheTreeGives asks every second golden statement with other bounds and
// values by a router that knows it, and plans each from its tree.
func TestASketchPlansWhatTheTreeGives(t *testing.T) {
	rnd := rand.New(rand.NewPCG(17, 23))
	snap := goldenSnapshot(t)
	for _, r := range snap.Relations {
		r.Clean = true
	}
	options := Options{Catalog: one{snap}, Now: func() time.Time { return goldenNow }}
	var texts []string
	for i, c := range readGolden(t, "aggregates_routed.txt") {
		if i%2 == 0 && !strings.HasPrefix(c.sql, "SET ") && !strings.HasPrefix(c.sql, "BIND ") {
			texts = append(texts, c.sql)
		}
	}
	c, outlines, shapes, plans := goldenContext(), 0, 0, 0
	for _, text := range append(texts,
		"SELECT symbol, count(*) FROM market_data WHERE symbol || E'\x01 1 1 200 1\x01' <> 'a' AND timestamp >= '2024-01-10' GROUP BY symbol",
		"SELECT symbol || E'\x011 5 200 1\x01' AS x, count(*) FROM market_data WHERE timestamp >= '2024-01-10' GROUP BY 1",
		"SELECT symbol, count(*) FROM market_data WHERE (symbol = 'A' OR symbol = 'B') AND timestamp >= timestamptz '2024-01-10' AND timestamp >= '2024-01-11' AND timestamp < '2024-02-11' AND timestamp <= '2024-03-11' GROUP BY symbol",
		"SELECT sensor, sum(n) FROM readings WHERE at >= 1704400000 AND at < 1707264300 AND sensor <> 'a' GROUP BY sensor",
	) {
		warm := New(options)
		for round := range 6 {
			shift := rnd.IntN(12) - 8
			asked := goldenDate.ReplaceAllStringFunc(text, func(s string) string {
				at, err := time.Parse("'2006-01-02 15:04", s+" 10:30"[:6*(1-strings.Count(s, ":"))])
				if err != nil {
					t.Fatal(err)
				}
				if at = at.AddDate(0, 0, shift); strings.Contains(s, ":") || rnd.IntN(4) == 0 {
					return at.Format("'2006-01-02") + fmt.Sprintf(" %02d:%02d", rnd.IntN(24), rnd.IntN(60))
				}
				return at.Format("'2006-01-02")
			})
			asked = goldenSymbol.ReplaceAllString(asked, []string{"symbol = 'SPY'", "symbol = 'it''s'", "symbol = ''"}[rnd.IntN(3)])
			asked = strings.ReplaceAll(asked, "170440", fmt.Sprint(170440+rnd.IntN(200)))
			asked = goldenCount.ReplaceAllString(asked, fmt.Sprint("LIMIT ", 5+rnd.IntN(6)/5))
			asked += fmt.Sprint(" -- ", round)
			plan := warm.Plan(c, []byte(asked))
			b, stmt := blocksOf(t, asked, c, snap, goldenNow)
			b.checked = true // it is compared here
			want, reason := b.plan(stmt)
			if got := describeRewrite(plan.Aggregates); got != describeRewrite(want) || want == nil && plan.Reason != reason {
				t.Errorf("%s\nby a router that knows it %s %s\nby the tree               %s %s", asked, plan.Reason, got, reason, describeRewrite(want))
			}
			plans++
			if round == 3 && !known(warm) {
				break // a statement around the one that is answered, or joined tables
			}
		}
		if known(warm) {
			shapes++
		}
		for _, s := range sketchesOf(warm) {
			if s.last != nil {
				outlines++
			}
		}
	}
	t.Logf("%d plans of %d shapes, %d outlines", plans, shapes, outlines)
	if shapes < 40 || outlines < shapes*3/4 {
		t.Errorf("%d outlines for %d shapes, want 40 and three quarters of them", outlines, shapes)
	}
}

func known(r *Router) bool { return len(sketchesOf(r)) > 0 }

func sketchesOf(r *Router) (list []*sketch) {
	r.state.Load().sketches.Range(func(_, all any) bool {
		for _, s := range all.(*sketches) {
			if s != nil {
				list = append(list, s)
			}
		}
		return true
	})
	return list
}

func TestASketchGoesWithItsSnapshot(t *testing.T) {
	at := &movable{snap: goldenSnapshot(t)}
	for _, r := range at.snap.Relations {
		r.Clean = true
	}
	r, c := New(Options{Catalog: at, Now: func() time.Time { return goldenNow }}), goldenContext()
	ask := func(i int) *Plan {
		return r.Plan(c, fmt.Appendf(nil, "SELECT symbol, count(*) FROM market_data WHERE timestamp >= '2024-01-10 10:%02d' GROUP BY symbol", i))
	}
	for i := range 5 {
		ask(i)
	}
	later := *at.snap
	later.Aggregates = nil
	at.snap = &later
	if p := ask(7); p.Aggregates != nil {
		t.Errorf("planned by an aggregate that is gone: %s", describePlan(p))
	}
}
