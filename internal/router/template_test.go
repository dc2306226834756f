package router

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qvpgw/internal/catalog"
)

// one is a catalog that stays as it is.
type one struct{ snap *catalog.Snapshot }

func (o one) Load() *catalog.Snapshot { return o.snap }

func goldenRouter(t testing.TB) *Router {
	t.Helper()
	snap := goldenSnapshot(t)
	for _, r := range snap.Relations {
		r.Clean = true
	}
	return New(Options{Catalog: one{snap}, Now: func() time.Time { return goldenNow }})
}

// TestATextOfAKnownShapeIsPlannedAsByTheParser plans texts of one shape after each
// other, and each by a router that sees it first.
func TestATextOfAKnownShapeIsPlannedAsByTheParser(t *testing.T) {
	c := goldenContext()
	for _, shape := range []struct {
		format string
		args   [][]any
	}{
		{"SELECT symbol, count(*) FROM market_data WHERE timestamp >= '%s' AND symbol <> '%s' GROUP BY symbol LIMIT %d", [][]any{
			{"2024-01-10", "A", 3}, {"2024-02-10 10:30", "it''s", 4}, {"2024-03-15", "", 5}, {"nonsense", "B", 5}, {"2024-01-10", "A", 3},
		}},
		{"SELECT time_bucket('%s', timestamp) AS b, sum(volume * 1) FROM market_data GROUP BY %d HAVING sum(volume) > -%d", [][]any{
			{"1 day", 1, 5}, {"7 days", 1, 77}, {"1 minute", 1, 0}, {"1 day", 2, 5},
		}},
		{"SELECT date_trunc('%s', timestamp) AS b, sum(volume) + %s AS v FROM market_data GROUP BY 1 HAVING sum(volume) > -%s ORDER BY %d", [][]any{
			{"week", "1.50", "3", 1}, {"hour", "2.5", "99999999999", 2}, {"day", "3.", "3", 3},
		}},
		{"SELECT count(*) FROM (SELECT symbol, max(high) AS h FROM market_data WHERE timestamp < '%s' GROUP BY symbol) x WHERE x.h > %d", [][]any{
			{"2024-02-10", 1}, {"2024-02-12", 2}, {"2023-02-12", 2},
		}},
	} {
		warm := goldenRouter(t)
		for i, args := range shape.args {
			text := fmt.Sprintf(shape.format, args...)
			got, want := warm.Plan(c, []byte(text)), goldenRouter(t).Plan(c, []byte(text))
			if describePlan(got) != describePlan(want) {
				t.Errorf("%s\nfrom the template %s\nfrom the parser   %s", text, describePlan(got), describePlan(want))
			}
			if parsed := warm.Stat().Parsed; parsed != 1 && i > 0 {
				t.Errorf("%s: %d texts parsed, want the first alone", text, parsed)
			}
		}
	}
}

func describePlan(p *Plan) string {
	s := fmt.Sprint(p.Action, " ", p.Reason, " ", p.AtBind, " ", p.Statements, " ", p.Pins.Names(), " ", len(p.mentioned))
	return s + describeRewrite(p.Aggregates)
}

func describeRewrite(a *AggregateRewrite) string {
	if a == nil {
		return ""
	}
	copied, s := *a, ""
	if a.Copy != nil {
		s += fmt.Sprint(*a.Copy)
	}
	if a.Cursor != nil {
		s += fmt.Sprint(*a.Cursor)
	}
	copied.alone, copied.Copy, copied.Cursor, copied.Memo = nil, nil, nil, nil
	return s + fmt.Sprint(" ", copied, a.Guard(), a.Within())
}

func TestParametersAreBoundToWhatTheyMean(t *testing.T) {
	c := goldenContext()
	r := goldenRouter(t)
	const text = "SELECT time_bucket($3::interval, timestamp) AS b, symbol, sum(volume) FROM market_data WHERE timestamp >= $1 AND timestamp < $2::date AND symbol = $4 GROUP BY 1, 2 LIMIT 7"
	if p := r.Plan(c, []byte(text)); !p.AtBind || p.Action != Rewrite || p.Aggregates != nil {
		t.Fatalf("before Bind: %s", describePlan(p))
	}
	micros := func(s string) []byte {
		at, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.AppendUint64(nil, uint64(at.UnixMicro()-postgresEpoch))
	}
	date := func(s string) []byte {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.AppendUint32(nil, uint32((at.UnixMicro()-postgresEpoch)/86_400_000_000))
	}
	week := append(make([]byte, 8), 0, 0, 0, 7, 0, 0, 0, 0)
	symbol := Param{Type: oidVarchar, Value: []byte("SPY")}
	binaries := []Param{
		{Type: oidTimestamptz, Binary: true, Value: micros("2024-01-10 10:30:00")},
		{Type: oidDate, Binary: true, Value: date("2024-03-01")},
		{Type: oidInterval, Binary: true, Value: week},
		symbol,
	}
	texts := []Param{
		{Type: oidTimestamptz, Value: []byte("2024-01-10 10:30:00+00")},
		{Type: oidDate, Value: []byte("2024-03-01")},
		{Type: oidInterval, Value: []byte("0 months 7 days 0.000000 seconds")},
		symbol,
	}
	a, b := r.Bound(c, []byte(text), binaries), r.Bound(c, []byte(text), texts)
	if a.Aggregates == nil || !strings.Contains(a.Aggregates.SQL, "= $4") || strings.Contains(a.Aggregates.SQL+a.Aggregates.Guard(), "$1") {
		t.Fatalf("bound: %s", describePlan(a))
	}
	for _, plan := range []*Plan{a, b} {
		if got := plan.Aggregates.View; got != "market_data_1d" && got != "market_data_1w" {
			t.Errorf("bound to %s", got)
		}
		if got := plan.Aggregates.Ranges(); len(got) < 2 || got[0].From != "2024-01-10T10:30:00Z" || got[len(got)-1].To != "2024-03-01T00:00:00Z" {
			t.Errorf("ranges %v", got)
		}
	}
	if again := r.Bound(c, []byte(text), append(binaries[:3:3], Param{Type: oidVarchar, Value: []byte("SPX")})); again != a {
		t.Error("the plan depends on a parameter that it does not look at")
	}
	for name, params := range map[string][]Param{
		"NULL":        {{Type: oidTimestamptz}, binaries[1], binaries[2], symbol},
		"infinity":    {{Type: oidTimestamptz, Binary: true, Value: []byte{0x7f, 255, 255, 255, 255, 255, 255, 255}}, binaries[1], binaries[2], symbol},
		"now":         {{Type: oidTimestamptz, Value: []byte("now")}, binaries[1], binaries[2], symbol},
		"short":       {{Type: oidTimestamptz, Binary: true, Value: []byte{1}}, binaries[1], binaries[2], symbol},
		"a text":      {{Type: oidText, Value: []byte("2024-01-10")}, binaries[1], binaries[2], symbol},
		"a minute":    {binaries[0], binaries[1], {Type: oidInterval, Value: []byte("1 minute")}, symbol},
		"an empty":    {binaries[0], {Type: oidDate, Value: []byte("2024-01-10")}, binaries[2], symbol},
		"none at all": {},
	} {
		if p := r.Bound(c, []byte(text), params); p.Aggregates != nil {
			t.Errorf("%s: %s", name, describePlan(p))
		}
	}
}

// Integers are looked at where they are moments or widths of integer time only.
func TestIntegersAreBoundWhereTheyAreTimes(t *testing.T) {
	c, r := goldenContext(), goldenRouter(t)
	const text = "SELECT time_bucket($1, at) AS b, sum(n) + $4 FROM readings WHERE at >= $2 AND at < $3::bigint - 60 AND length(sensor) < $5 GROUP BY b"
	if p := r.Plan(c, []byte(text)); !p.AtBind {
		t.Fatalf("before Bind: %s", describePlan(p))
	}
	number := func(v int64) Param {
		return Param{Type: oidInt8, Binary: true, Value: binary.BigEndian.AppendUint64(nil, uint64(v))}
	}
	small := Param{Type: oidInt4, Binary: true, Value: []byte{0, 0, 0, 9}}
	params := []Param{number(7200), number(1704400000), {Type: oidInt8, Value: []byte("1707264360")}, small, small}
	p := r.Bound(c, []byte(text), params)
	if p.Aggregates == nil || !strings.Contains(p.Aggregates.SQL, "$4") || !strings.Contains(p.Aggregates.SQL, "$5") || strings.Contains(p.Aggregates.SQL, "$1") {
		t.Fatalf("bound: %s", describePlan(p))
	}
	if got := p.Aggregates.Ranges(); len(got) != 3 || got[0].From != "1704400000" || got[2].To != "1707264300" {
		t.Errorf("ranges %v", got)
	}
	larger := Param{Type: oidInt4, Binary: true, Value: []byte{0, 0, 1, 0}}
	if again := r.Bound(c, []byte(text), append(params[:3:3], larger, larger)); again != p {
		t.Error("the plan depends on a parameter that it does not look at")
	}
	moved := r.Bound(c, []byte(text), append([]Param{params[0], number(1704400001)}, params[2:]...))
	if moved.Aggregates == nil || moved.Aggregates.Proof != p.Aggregates.Proof {
		t.Errorf("another bound has another proof: %s", describePlan(moved))
	}
	for name, other := range map[string]Param{
		"NULL": {Type: oidInt8}, "short": {Type: oidInt8, Binary: true, Value: []byte{1}}, "text": {Type: oidText, Value: []byte("5")},
		"huge": number(1 << 62), "no number": {Type: oidInt8, Value: []byte("0x10")},
	} {
		if p := r.Bound(c, []byte(text), append([]Param{params[0], other}, params[2:]...)); p.Aggregates != nil {
			t.Errorf("%s: %s", name, describePlan(p))
		}
	}
}

// BenchmarkATextOfAKnownShape plans texts of one shape over a year of weekly chunks, none
// of which was planned before: what a dashboard whose range moves costs. cpu-ns/op is the
// processor's time with that of the garbage collector, which a loaded machine says too.
func BenchmarkATextOfAKnownShape(b *testing.B) {
	snap := goldenSnapshot(b)
	yearOfChunks(snap)
	r, c := New(Options{Catalog: one{snap}, Now: func() time.Time { return goldenNow }}), goldenContext()
	from := time.Date(2024, 1, 10, 0, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	before := processorTime(b)
	for i := 0; b.Loop(); i++ {
		text := fmt.Appendf(nil, "SELECT date_trunc('day', timestamp) AS day, max(high), min(low), sum(volume) FROM market_data WHERE symbol = 'SPY' AND timestamp >= '%s' AND timestamp < '2024-11-01' GROUP BY day ORDER BY day", from.Add(time.Duration(i)*time.Second).Format(time.DateTime))
		if p := r.Plan(c, text); p.Aggregates == nil {
			b.Fatal(p.Reason)
		}
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	if r.Stat().Parsed != 1 {
		b.Fatalf("%d texts parsed", r.Stat().Parsed)
	}
}

// processorTime is what this process has used of the processor.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// yearOfChunks gives market_data and its aggregates the chunks of a year, all settled.
func yearOfChunks(s *catalog.Snapshot) {
	for _, r := range s.Relations {
		r.Clean = true
	}
	for _, id := range []int32{1, 2, 3, 4} {
		h := s.Hypertables[id]
		for last := h.Chunks[len(h.Chunks)-1]; last.End < time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(); last = h.Chunks[len(h.Chunks)-1] {
			last.ID += 1000
			last.Start, last.End = last.End, last.End+last.End-last.Start
			h.Chunks = append(h.Chunks, last)
		}
		h.Threshold = h.Chunks[len(h.Chunks)-1].End
	}
	for _, a := range s.Aggregates {
		if a.RawID != 1 {
			continue
		}
		a.Watermark, a.Settled.End, a.Settled.Chunks = s.Hypertables[1].Threshold, s.Hypertables[1].Threshold, nil
		for _, c := range s.Hypertables[a.ID].Chunks {
			a.Settled.Chunks = append(a.Settled.Chunks, c.ID)
		}
	}
}
