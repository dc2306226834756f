package router

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rules"
)

func newRouter(s *catalog.Snapshot) (*Router, *catalog.Holder) {
	h := holder(s)
	return New(Options{Catalog: h, Now: fixedNow}), h
}

func TestATextIsParsedOnceAndAShapeOnce(t *testing.T) {
	r, _ := newRouter(fixture())
	c := plainContext()
	plan := func(sql string) *Plan { return r.Plan(c, []byte(sql)) }
	first := plan("SELECT close FROM market_data WHERE symbol = 'A' LIMIT 1")
	for _, same := range []string{
		"SELECT close FROM market_data WHERE symbol = 'A' LIMIT 1",
		"SELECT close FROM market_data WHERE symbol = 'B' LIMIT 1",
		"select close from MARKET_DATA /* x */ where symbol='C' limit 99",
	} {
		if plan(same) != first {
			t.Errorf("%q has another plan", same)
		}
	}
	if n := r.Stat().Parsed; n != 1 {
		t.Errorf("%d texts parsed, want 1", n)
	}
	plan("SELECT close FROM market_data WHERE symbol = $1 LIMIT 1")
	if n := r.Stat().Parsed; n != 2 {
		t.Errorf("%d texts parsed, want 2", n)
	}
}

func TestATextThatItsShapeAnsweredTwiceIsKeptByItsBytes(t *testing.T) {
	r, _ := newRouter(fixture())
	c := plainContext()
	text := []byte("SELECT id FROM trades WHERE symbol = 'A'")
	for want := range 3 {
		r.Plan(c, text)
		if got := r.Stat().Texts; got != max(0, want-1) {
			t.Errorf("%d texts are kept after %d times, want %d", got, want+1, max(0, want-1))
		}
	}
}

func TestWhatALiteralDecidesIsNotSharedByShape(t *testing.T) {
	r, _ := newRouter(fixture())
	c := plainContext()
	plan := func(sql string) *Plan { return r.Plan(c, []byte(sql)) }
	if a, b := plan("SET work_mem TO '1MB'"), plan("SET work_mem TO '2MB'"); a.Statements[0].Setting.Value != "1MB" || b.Statements[0].Setting.Value != "2MB" {
		t.Error("two values of a setting have one plan")
	}
	if a, b := plan("SET qvpgw.route = off"), plan("SET qvpgw.route = auto"); a.Local.Value != "off" || b.Local.Value != "auto" {
		t.Error("two local statements have one plan")
	}
	plain := "SELECT id FROM feature_embeddings WHERE kind = 'x' ORDER BY embedding <=> $1 LIMIT 1"
	if p := plan(plain); p.Action != Cached {
		t.Fatalf("%s: %s", plain, p.Reason)
	}
	if p := plan(strings.Replace(plain, "'x'", "'now'", 1)); p.Action != Pass || p.Reason != ReasonMovingLiteral {
		t.Errorf("a literal that may mean now is shared: %d %s", p.Action, p.Reason)
	}
	if p := plan(strings.Replace(plain, "'x'", "'y'", 1)); p.Action != Cached {
		t.Errorf("the shape is not shared: %s", p.Reason)
	}

	set, err := rules.New(map[string]string{"large_offset": "refuse"})
	if err != nil {
		t.Fatal(err)
	}
	r = New(Options{Catalog: holder(fixture()), Rules: set})
	if a, b := plan("SELECT id FROM trades OFFSET 5"), plan("SELECT id FROM trades OFFSET 50000"); a.Action != Pass || b.Action != Refused {
		t.Errorf("offsets share a plan: %d, %d", a.Action, b.Action)
	}
}

func TestContextsDoNotSharePlans(t *testing.T) {
	r, _ := newRouter(fixture())
	public, tenant := plainContext(), plainContext()
	tenant.SearchPath = []string{"tenant"}
	text := []byte("INSERT INTO audited VALUES (1)")
	if p := r.Plan(public, text); p.Pins != PinRelation {
		t.Errorf("public.audited: %v", p.Pins.Names())
	}
	if p := r.Plan(tenant, text); p.Pins != 0 {
		t.Errorf("tenant.audited: %v", p.Pins.Names())
	}
}

func TestAnotherFingerprintVoidsAllPlans(t *testing.T) {
	r, h := newRouter(fixture())
	c := plainContext()
	text := []byte("SELECT slow(id) FROM trades")
	if p := r.Plan(c, text); p.Pins != PinFunction {
		t.Fatalf("pins %v", p.Pins.Names())
	}
	clean := []byte("SELECT id FROM trades")
	before := r.Plan(c, clean)

	same := fixture() // a newer snapshot of the same fingerprint
	h.Store(same)
	if r.Plan(c, clean) != before {
		t.Error("a plan was void for a snapshot of the same fingerprint")
	}

	other := fixture()
	other.Fingerprint = "other"
	delete(other.Relations, catalog.Name{Schema: "public", Name: "trades"})
	h.Store(other)
	if p := r.Plan(c, clean); p.Pins != PinRelation {
		t.Errorf("after the table is gone: %v", p.Pins.Names())
	}
	if n := r.Stat().Texts + r.Stat().Shapes; n != 1 {
		t.Errorf("%d plans are kept, want 1", n)
	}
}

func TestTheFirstSnapshotEndsPinCatalog(t *testing.T) {
	r, h := newRouter(nil)
	c := plainContext()
	text := []byte("SELECT id FROM trades")
	if p := r.Plan(c, text); p.Pins != PinCatalog || p.Reason != ReasonNoCatalog {
		t.Fatalf("without a catalog: %v %s", p.Pins.Names(), p.Reason)
	}
	h.Store(fixture())
	if p := r.Plan(c, text); p.Pins != 0 {
		t.Errorf("with one: %v", p.Pins.Names())
	}
}

func TestAPromotedStandbyIsPlannedAnew(t *testing.T) {
	s := fixture()
	s.InRecovery = true
	r, h := newRouter(s)
	c := plainContext()
	text := []byte("SELECT id FROM feature_embeddings ORDER BY embedding <=> $1 LIMIT 1")
	if p := r.Plan(c, text); p.Action != Pass {
		t.Fatal("cached on a standby")
	}
	h.Store(fixture())
	if p := r.Plan(c, text); p.Action != Cached {
		t.Errorf("not cached on the promoted one: %s", p.Reason)
	}
}

func TestHostileTextsAreNotParsed(t *testing.T) {
	r, _ := newRouter(fixture())
	c := plainContext()
	for name, sql := range map[string]string{
		"sum of 64,000 terms":  "SELECT 1" + strings.Repeat("+1", 64_000),
		"64,000 brackets":      "SELECT " + strings.Repeat("(", 64_000) + "1" + strings.Repeat(")", 64_000),
		"64,000 NOTs":          "SELECT " + strings.Repeat("NOT ", 64_000) + "true",
		"64,000 UNIONs":        "SELECT 1" + strings.Repeat(" UNION SELECT 1", 64_000),
		"2 MB":                 "SELECT '" + strings.Repeat("x", 2<<20) + "'",
		"not UTF-8":            "SELECT '\xff'",
		"an open literal":      "SELECT 'x",
		"newer syntax or none": "SELECT FROM WHERE",
	} {
		p := r.Plan(c, []byte(sql))
		if p.Action != Pass || p.Pins != PinUnparsed || p.Statements != nil || !p.Effects {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestTheDeepestTextsThatAreParsedDoNotEndTheProcess(t *testing.T) {
	r, _ := newRouter(fixture())
	c := plainContext()
	n := maxDepth - 1
	for name, sql := range map[string]string{
		"sum":      "SELECT 1" + strings.Repeat("+1", n),
		"brackets": "SELECT " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n),
		"nested":   "SELECT " + strings.Repeat("(SELECT 1 +", n) + "1" + strings.Repeat(")", n),
		"case":     "SELECT " + strings.Repeat("CASE WHEN true THEN ", n) + "1" + strings.Repeat(" END", n),
		"not":      "SELECT " + strings.Repeat("NOT ", n) + "true",
		"union":    "SELECT 1" + strings.Repeat(" UNION ALL SELECT 1", n),
		"joins":    "SELECT 1 FROM trades" + strings.Repeat(" CROSS JOIN trades", n),
	} {
		if p := r.Plan(c, []byte(sql)); p.Pins&^PinUnparsed != 0 {
			t.Errorf("%s: %v %s", name, p.Pins.Names(), p.Unclean)
		}
	}
}

func TestManyStatementsAtOnceFindTheirPlans(t *testing.T) {
	r, h := newRouter(fixture())
	contexts := []*Context{plainContext(), plainContext()}
	contexts[1].SearchPath = []string{"tenant", "public"}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 400 {
				c := contexts[(g+i)%2]
				text := fmt.Sprintf("INSERT INTO audited VALUES (%d)", i%50)
				if i%7 == 0 {
					text = fmt.Sprintf("SET work_mem TO '%d MB'", i%50)
				}
				p := r.Plan(c, []byte(text))
				switch {
				case i%7 == 0:
					if want := fmt.Sprintf("%d MB", i%50); p.Statements[0].Setting.Value != want {
						t.Errorf("%s, want %s", p.Statements[0].Setting.Value, want)
					}
				case (p.Pins == PinRelation) != (c == contexts[0]):
					t.Errorf("%s: %v", text, p.Pins.Names())
				}
				if g == 0 && i%40 == 0 {
					s := fixture()
					s.Fingerprint = fmt.Sprint("fixture", i)
					h.Store(s)
				}
			}
		})
	}
	group.Wait()
}

func TestTheCacheKeepsItsBoundsAndWhatWasUsedLast(t *testing.T) {
	p := newPlanCache(shards*4, shards*(4*entryOverhead+4096))
	c, st, now := plainContext(), &state{}, time.Now
	hot := []byte("hot")
	p.put(c, &planEntry{text: hot, plan: planEmpty})
	for i := range 2000 {
		p.put(c, &planEntry{text: fmt.Appendf(nil, "text %d", i), plan: planEmpty})
		if p.get(c, hot, st, now) == nil {
			t.Fatal("what was just used is gone")
		}
	}
	if n, _ := p.stat(); n > shards*4 {
		t.Errorf("%d entries, want at most %d", n, shards*4)
	}
	for i := range 100 {
		p.put(c, &planEntry{text: make([]byte, 3000+i), plan: planEmpty})
	}
	if _, size := p.stat(); size > shards*(4*entryOverhead+4096) {
		t.Errorf("%d bytes", size)
	}
	huge := make([]byte, 1<<20)
	p.put(c, &planEntry{text: huge, plan: planEmpty})
	if p.get(c, huge, st, now) != nil {
		t.Error("a text larger than the cache is kept")
	}
	long := &Plan{Aggregates: &AggregateRewrite{SQL: string(huge)}}
	p.put(c, &planEntry{text: []byte("short"), plan: long})
	if p.get(c, []byte("short"), st, now) != nil {
		t.Error("a plan whose texts are larger than the cache is kept")
	}
	p.clear()
	if n, size := p.stat(); n != 0 || size != 0 {
		t.Errorf("%d entries of %d bytes after clear", n, size)
	}
}

func TestAPlanExpires(t *testing.T) {
	p := newPlanCache(10, 1<<20)
	c, st := plainContext(), &state{snapshot: 2}
	at := fixedNow()
	clock := func() time.Time { return at }
	text := []byte("x")
	p.put(c, &planEntry{text: text, plan: planEmpty, snapshot: 2, expires: at.Add(time.Second)})
	if p.get(c, text, st, clock) == nil {
		t.Fatal("gone at once")
	}
	if p.get(c, text, &state{snapshot: 3}, clock) != nil {
		t.Error("kept under another snapshot")
	}
	p.put(c, &planEntry{text: text, plan: planEmpty, snapshot: 2, expires: at.Add(time.Second)})
	at = at.Add(2 * time.Second)
	if p.get(c, text, st, clock) != nil {
		t.Error("kept after its time")
	}
}

func TestAHitTakesNoMemory(t *testing.T) {
	r, _ := newRouter(fixture())
	c := plainContext()
	text := []byte("SELECT close FROM market_data WHERE symbol = 'SPY' LIMIT 10")
	for range 3 {
		r.Plan(c, text)
	}
	if n := testing.AllocsPerRun(200, func() { r.Plan(c, text) }); n != 0 {
		t.Errorf("%v allocations for a known text", n)
	}
	other := []byte("SELECT close FROM market_data WHERE symbol = 'AAA' LIMIT 10")
	i := 0
	if n := testing.AllocsPerRun(200, func() {
		i++
		other[len("SELECT close FROM market_data WHERE symbol = '")] = byte('A' + i%26)
		other[len("SELECT close FROM market_data WHERE symbol = '")+1] = byte('A' + i/26%26)
		r.Plan(c, other)
	}); n >= 1 && !raced {
		t.Errorf("%v allocations for a known shape", n)
	}
}

func BenchmarkPlanOfAKnownText(b *testing.B) {
	r, _ := newRouter(fixture())
	c := plainContext()
	text := []byte("SELECT close FROM market_data WHERE symbol = 'SPY' LIMIT 10")
	for range 3 {
		r.Plan(c, text)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Plan(c, text)
		}
	})
}

func BenchmarkPlanOfAKnownShape(b *testing.B) {
	r, _ := newRouter(fixture())
	c := plainContext()
	texts := make([][]byte, 1<<14)
	for i := range texts {
		texts[i] = fmt.Appendf(nil, "SELECT close FROM market_data WHERE symbol = 'S%d' LIMIT 10", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		r.Plan(c, texts[i%len(texts)])
	}
}

func BenchmarkPlanOfANewShape(b *testing.B) {
	r, _ := newRouter(fixture())
	c := plainContext()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		r.Plan(c, fmt.Appendf(nil, "SELECT close AS c%d FROM market_data WHERE symbol = 'SPY' LIMIT 10", i))
	}
}
