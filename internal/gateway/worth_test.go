package gateway_test

import (
	"strings"
	"testing"

	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
)

// A table that nobody logs, in a database where others write all the time: no answer
// ever holds, so most questions pass in the first gear. Once the writes end, an answer is
// found again.
func TestATableThatIsAskedInVainIsPassedInTheFirstGear(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema)
	m := metrics.New()
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, Metrics: m})
	p, exact := dial(t, addr, dsn), direct(t, dsn)
	const question = "SELECT id FROM points ORDER BY v <-> '[1.2,0,0]' LIMIT 2"
	want := exact.rows(question)
	turns := m.Turns[metrics.FirstGear].Load
	var passed int
	var before int64
	for n := range 160 {
		exact.must("INSERT INTO elsewhere VALUES (1)")
		if n == 64 {
			before = turns()
		}
		p.want(question, want)
		if p.route() == "pass never_again public.points" {
			passed++
		}
	}
	if first := turns() - before; passed != 90 || first < 90 {
		t.Errorf("of 96 questions %d were passed, and %v turns were in the first gear: want 90, as one of 16 is looked for", passed, first)
	}
	for n := 1; ; n++ {
		p.want(question, want)
		if strings.HasPrefix(p.route(), "cached hit") {
			break
		}
		if n == 64 {
			t.Fatalf("nobody writes, and after %d questions no answer is found", n)
		}
	}
}
