package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// fake is a gateway of scripted answers and routes.
type fake struct {
	auto, off         answer
	onRoute, offRoute string // last_route with routing on and off
	mode              string
	asked             int
	broken            error
}

func (f *fake) set(_ context.Context, name, value string) error {
	if name == "qvpgw.route" {
		f.mode = value
	}
	return nil
}

func (f *fake) ask(context.Context, query) (answer, error) {
	f.asked++
	if f.mode == "off" {
		return f.off, f.broken
	}
	return f.auto, f.broken
}

func (f *fake) route(context.Context) (string, error) {
	if f.mode == "off" {
		return f.offRoute, nil
	}
	return f.onRoute, nil
}

// good is a gateway that answers rightly by way of the hourly aggregate.
func good() *fake {
	a := averages([3]string{"SPY", "1.5", "3"})
	a.took = time.Millisecond
	b := averages([3]string{"SPY", "1.5", "3"})
	b.took = 20 * time.Millisecond
	return &fake{auto: a, off: b, onRoute: "rewrite market_data_1h strict", offRoute: "pass route_off"}
}

func runFake(t *testing.T, f *fake, s step) (Result, string) {
	t.Helper()
	var out strings.Builder
	tr := &tour{reader: f, out: &out, write: func(context.Context, []string) error { return nil }}
	r, err := tr.run(t.Context(), []step{s})
	if err != nil {
		t.Fatal(err)
	}
	return r, out.String()
}

var hourly = step{title: "bars by hour", route: []string{"rewrite market_data_1h"}, sums: averageOfBars}

func TestALineHoldsWhenAnswerAndRouteAreRight(t *testing.T) {
	r, out := runFake(t, good(), hourly)
	if !r.OK() || r.Lines != 1 || r.WithinBound != 0 {
		t.Fatalf("%+v\n%s", r, out)
	}
	for _, want := range []string{"rewrite market_data_1h", " 1.00 ms", " 20.0 ms", "20x", "yes", "figure demo.lines 1\n", "figure demo.unequal 0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
}

func TestALineFailsWhenAnyPartOfItIsWrong(t *testing.T) {
	for name, spoil := range map[string]func(*fake, *step){
		"an unequal answer":           func(f *fake, _ *step) { f.auto = averages([3]string{"SPY", "1.5", "4"}) },
		"an empty answer":             func(f *fake, _ *step) { f.auto, f.off = averages(), averages() },
		"not routed":                  func(f *fake, _ *step) { f.onRoute = "pass no_aggregate" },
		"another aggregate":           func(f *fake, _ *step) { f.onRoute = "rewrite market_data_1hour" },
		"no route":                    func(f *fake, _ *step) { f.onRoute = "" },
		"routed although off":         func(f *fake, _ *step) { f.offRoute = f.onRoute },
		"a failed check":              func(_ *fake, s *step) { s.check = func(answer) error { return errors.New("wrong") } },
		"an error through":            func(f *fake, _ *step) { f.auto = answer{err: &pgconn.PgError{Code: "XX000"}} },
		"a gateway's empty statement": func(f *fake, s *step) { s.alone, f.auto = true, averages() },
	} {
		f, s := good(), hourly
		spoil(f, &s)
		r, out := runFake(t, f, s)
		if r.Unequal != 1 || r.OK() || !strings.Contains(out, "figure demo.unequal 1\n") || !strings.Contains(out, "NO") {
			t.Errorf("%s: %+v\n%s", name, r, out)
		}
	}
}

func TestRoutesMatchByActionAndWords(t *testing.T) {
	for _, c := range []struct {
		route, wanted string
		want          bool
	}{
		{"rewrite market_data_1h strict", "rewrite market_data_1h", true},
		{"rewrite aggregate public.market_data_1h", "rewrite market_data_1h", true},
		{"rewrite aggregate market_data_1d", "rewrite market_data_1h", false},
		{"pass not_fresh market_data_1h", "rewrite market_data_1h", false},
		{"cached hit feature_embeddings", "cached hit", true},
		{"cached miss feature_embeddings", "cached hit", false},
		{"refused rule_delete_without_where", "refused delete_without_where", true},
		{"refused", "refused delete_without_where", false},
		{"passed", "pass", false},
		{"", "pass", false},
	} {
		if got := matches(c.route, []string{c.wanted}); got != c.want {
			t.Errorf("%q for %q: %v", c.route, c.wanted, got)
		}
	}
	if !matches("pass", nil) || !matches("pass", []string{"rewrite", "pass"}) || matches("pass", []string{"rewrite", "cached"}) {
		t.Error("one of several, or none, is not understood")
	}
}

func TestFloatsWithinTheirBoundAreCountedApart(t *testing.T) {
	f := good()
	f.auto = averages([3]string{"SPY", "1.5000000000000002", "3"})
	r, out := runFake(t, f, hourly)
	if !r.OK() || r.WithinBound != 1 || !strings.Contains(out, "bound") {
		t.Fatalf("%+v\n%s", r, out)
	}
}

func TestARefusalIsALineThatHolds(t *testing.T) {
	f := good()
	refusal := &pgconn.PgError{Code: "42501", Message: "refused", Detail: "rule delete_without_where", Hint: "add WHERE"}
	f.auto, f.off = answer{err: refusal}, answer{err: refusal}
	f.onRoute, f.offRoute = "refused delete_without_where", "refused delete_without_where"
	s := step{title: "DELETE", route: []string{"refused delete_without_where"}, check: refusedBy("42501", "delete_without_where")}
	r, out := runFake(t, f, s)
	if !r.OK() || !strings.Contains(out, "add WHERE") {
		t.Fatalf("%+v\n%s", r, out)
	}
	refusal.Detail = "rule of another name"
	if r, _ := runFake(t, f, s); r.OK() {
		t.Fatal("a refusal by another rule holds")
	}
}

func TestALineIsRunSeveralTimesEachWay(t *testing.T) {
	f := good()
	runFake(t, f, hourly)
	if f.asked != 2*manyRuns {
		t.Errorf("asked %d times", f.asked)
	}
	f = good()
	s := hourly
	s.runs = 1
	runFake(t, f, s)
	if f.asked != 2 {
		t.Errorf("asked %d times with runs = 1", f.asked)
	}
}

func TestABrokenConnectionEndsTheTour(t *testing.T) {
	f := good()
	f.broken = errors.New("connection reset")
	tr := &tour{reader: f, out: &strings.Builder{}}
	if _, err := tr.run(t.Context(), []step{hourly}); err == nil || !strings.Contains(err.Error(), "bars by hour") {
		t.Fatalf("%v", err)
	}
}

func TestAnotherClientWritesBeforeALine(t *testing.T) {
	f := good()
	var wrote []string
	tr := &tour{reader: f, out: &strings.Builder{}, write: func(_ context.Context, s []string) error {
		if f.asked > 0 {
			t.Error("written after the statement")
		}
		wrote = append(wrote, s...)
		return nil
	}}
	s := hourly
	s.before = []string{"INSERT"}
	if _, err := tr.run(t.Context(), []step{s}); err != nil || len(wrote) != 1 {
		t.Fatalf("%v %v", wrote, err)
	}
}

func TestTheTableFits120Columns(t *testing.T) {
	f := good()
	f.onRoute = "rewrite market_data_1h " + strings.Repeat("reason ", 10)
	s := hourly
	s.title, s.query.protocol = strings.Repeat("long title ", 10), extended
	_, out := runFake(t, f, s)
	table, _, _ := strings.Cut(out, "\n\n")
	for _, line := range strings.Split(table, "\n") {
		if n := utf8.RuneCountInString(line); n > 120 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestTheTourHasTheLinesThatItIsFor(t *testing.T) {
	all := steps(facts{from: time.Date(2019, 12, 19, 20, 59, 0, 0, time.UTC), vector: make([]float32, Window), refreshes: []string{"CALL"}})
	if len(all) < 12 {
		t.Fatalf("%d lines", len(all))
	}
	used := map[protocol]bool{}
	for _, s := range all {
		used[s.query.protocol] = true
		if s.query.protocol == simple && len(s.query.args) > 0 {
			t.Errorf("%s: parameters in the simple protocol", s.title)
		}
		if !s.alone && len(s.route) == 0 {
			t.Errorf("%s: any route will do", s.title)
		}
		if strings.HasPrefix(s.query.sql, "SELECT") && !strings.Contains(s.query.sql, "ORDER BY") && !strings.Contains(s.title, "no bucket") {
			t.Errorf("%s: without an order", s.title)
		}
	}
	if len(used) != 3 {
		t.Errorf("protocols used: %v", used)
	}
	const first = "SELECT time_bucket('1 hour', timestamp) AS bucket, symbol, first(open, timestamp) AS open, max(high) AS high," +
		" min(low) AS low, last(close, timestamp) AS close, sum(volume) AS volume FROM market_data" +
		" WHERE symbol = 'SPY' AND timestamp >= '2019-12-19 20:59:00+00' GROUP BY bucket, symbol ORDER BY bucket DESC"
	if all[0].query.sql != first {
		t.Errorf("the first line is %s", all[0].query.sql)
	}
}

func TestLateBarsShowInTheirBucketsAlone(t *testing.T) {
	bars := func(buckets ...string) answer {
		a := answer{fields: []pgconn.FieldDescription{{Name: "bucket"}, {Name: "high"}}}
		for _, b := range buckets {
			a.rows = append(a.rows, [][]byte{[]byte(b), []byte("4000.25")})
		}
		a.rows = append(a.rows, [][]byte{[]byte("2020-01-02 15:00:00+00"), []byte("3257.85")})
		return a
	}
	if err := lateBarsShow(bars("2020-01-15 16:00:00+00", "2020-01-15 15:00:00+00")); err != nil {
		t.Error(err)
	}
	for _, buckets := range [][]string{
		{},
		{"2020-01-15 16:00:00+00"},
		{"2020-01-15 16:00:00+00", "2020-01-15 15:00:00+00", "2020-01-14 15:00:00+00"},
	} {
		if lateBarsShow(bars(buckets...)) == nil {
			t.Errorf("buckets %v pass", buckets)
		}
	}
}

func TestNeighboursMustRiseAndBeOursOnceInserted(t *testing.T) {
	near := func(metadata string, distances ...string) answer {
		a := answer{fields: []pgconn.FieldDescription{{Name: "metadata"}, {Name: "distance"}}}
		for _, d := range distances {
			a.rows = append(a.rows, [][]byte{[]byte(metadata), []byte(d)})
		}
		return a
	}
	ten := strings.Fields("0 .1 .2 .3 .4 .5 .6 .7 .8 .9")
	if err := ascending(near("", ten...)); err != nil {
		t.Error(err)
	}
	if err := nearestIsOurs(near(tourMark, ten...)); err != nil {
		t.Error(err)
	}
	if nearestIsOurs(near("", ten...)) == nil {
		t.Error("a stale answer passes")
	}
	if ascending(near("", ten[:9]...)) == nil {
		t.Error("nine neighbours pass")
	}
	ten[4] = ten[3]
	if ascending(near("", ten...)) == nil {
		t.Error("a tie passes")
	}
}

func TestBesidesIsNearButNotTheSame(t *testing.T) {
	v, err := besides("[" + strings.TrimSuffix(strings.Repeat("0.1,", Window), ",") + "]")
	if err != nil || len(v) != Window {
		t.Fatalf("%d values: %v", len(v), err)
	}
	var sum float64
	for _, x := range v {
		sum += float64(x)
	}
	if cosine := sum / 11.313708498984761; cosine < 0.9 || cosine > 0.999 {
		t.Fatalf("cosine %v", cosine)
	}
	for _, text := range []string{"", "[]", "[a]", "[0,0]"} {
		if v, err := besides(text); err == nil {
			t.Errorf("%q gives %v", text, v)
		}
	}
}
