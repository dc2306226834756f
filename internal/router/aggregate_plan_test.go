package router

import (
	"slices"
	"strings"
	"testing"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

func TestTheGuardFollowsTheVersionOfTimescaleDB(t *testing.T) {
	snap := goldenSnapshot(t)
	for version, want := range map[string]struct {
		routed bool
		has    []string
		lacks  []string
	}{
		"2.11.0":     {true, []string{"NOT dropped"}, []string{"materialization_ranges", "schema_change", "pg_replication_slots"}},
		"2.21.3":     {true, []string{"NOT dropped"}, []string{"materialization_ranges", "pg_replication_slots"}},
		"2.23.0-dev": {true, []string{"NOT dropped", "materialization_ranges", "pg_replication_slots"}, []string{"schema_change"}},
		"2.26.1":     {true, []string{"materialization_ranges"}, []string{"NOT dropped", "schema_change", "pg_replication_slots"}},
		"2.29.2":     {true, []string{"materialization_ranges", "schema_change_timestamp IS NULL"}, []string{"NOT dropped"}},
		"2.10.3":     {}, "2.30.0": {}, "3.0.0": {}, "": {},
	} {
		s := *snap
		s.Timescale = version
		r, reason := planText(t, "SELECT count(*) FROM market_data", goldenContext(), &s, goldenNow)
		if (r != nil) != want.routed || r == nil && reason != ReasonAggVersion {
			t.Errorf("%q: routed %v, %s", version, r != nil, reason)
			continue
		}
		for _, text := range want.has {
			if !strings.Contains(r.Guard(), text) {
				t.Errorf("%s: the guard lacks %s", version, text)
			}
		}
		for _, text := range want.lacks {
			if strings.Contains(r.Guard(), text) {
				t.Errorf("%s: the guard has %s", version, text)
			}
		}
	}
}

func TestDirtyRangesAreReadFromTheHypertable(t *testing.T) {
	snap := goldenSnapshot(t)
	for _, a := range snap.Aggregates {
		a.Invalid = []catalog.Span{{Start: micros(t, "2024-02-10 10:10"), End: micros(t, "2024-02-10 10:11")}}
	}
	r, reason := planText(t, "SELECT sum(volume) FROM market_data WHERE timestamp < '2024-03-01'", goldenContext(), snap, goldenNow)
	if r == nil {
		t.Fatal(reason)
	}
	var got []string
	for _, x := range r.Ranges() {
		got = append(got, x.Source+" "+x.From+" "+x.To)
	}
	want := []string{
		"market_data_1h 2024-01-04T00:00:00Z 2024-02-10T10:00:00Z", "market_data 2024-02-10T10:00:00Z 2024-02-10T11:00:00Z", "market_data_1h 2024-02-10T11:00:00Z 2024-03-01T00:00:00Z",
	}
	if !slices.Equal(got, want) {
		t.Errorf("ranges %q, want %q", got, want)
	}
	if !strings.Contains(r.Lock, "_hyper_1_6_chunk") || strings.Contains(r.Lock, "_hyper_1_5_chunk") {
		t.Errorf("the chunk of the dirty range alone is locked, not: %s", r.Lock)
	}
}

func TestWhatThePlannerCannotTrustPasses(t *testing.T) {
	const sql = "SELECT symbol, sum(volume) FROM market_data GROUP BY symbol"
	for name, c := range map[string]struct {
		change func(*catalog.Snapshot, *Context)
		want   Reason
	}{
		"unknown settings":      {func(_ *catalog.Snapshot, c *Context) { c.SettingsKnown = false }, ReasonAggSettings},
		"other string literals": {func(_ *catalog.Snapshot, c *Context) { c.ConformingStrings = false }, ReasonAggSettings},
		"a zone without rules":  {func(_ *catalog.Snapshot, c *Context) { c.TimeZone = "<+03>-03" }, ReasonAggZone},
		"a user's cast":         {func(s *catalog.Snapshot, _ *Context) { s.UserCasts = true }, ReasonAggUserCode},
		"a user's sum":          {func(s *catalog.Snapshot, _ *Context) { s.UserFunctions["sum"] = true }, ReasonAggUserCode},
		"nothing materialized":  {func(s *catalog.Snapshot, _ *Context) { s.Hypertables[1].HasThreshold = false }, ReasonAggNotMaterial},
		"no chunks known":       {func(s *catalog.Snapshot, _ *Context) { s.Hypertables[1].Chunks = nil }, ReasonAggNotMaterial},
		"the old format": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) { a.Finalized = false })
		}, ReasonAggDefinition},
		"a bucket in a zone": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) { a.BucketTimeZone = "UTC" })
		}, ReasonAggDefinition},
		"no aggregate": {func(s *catalog.Snapshot, _ *Context) { s.Aggregates = nil }, ReasonAggNoAggregates},
		"held chunks not loaded": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) { delete(s.Hypertables, a.ID) })
		}, ReasonAggCatalog},
		"held chunks dropped": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) { s.Hypertables[a.ID].Chunks = nil })
		}, ReasonAggNotMaterial},
		"text, nondeterministic": {func(s *catalog.Snapshot, _ *Context) {
			columns := s.Relations[catalog.Name{Schema: "public", Name: "market_data"}].Columns
			columns[2].Nondeterministic = true
		}, ReasonAggGroupType},
		"a definition with WHERE": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) {
				a.Definition = strings.Replace(a.Definition, "GROUP BY", "WHERE (symbol <> 'x'::text) GROUP BY", 1)
			})
		}, ReasonAggDefinition},
		"a definition with HAVING": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) {
				a.Definition = strings.TrimSuffix(a.Definition, ";") + " HAVING (count(*) > 1)"
			})
		}, ReasonAggDefinition},
		"a definition with a join": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) {
				a.Definition = strings.Replace(a.Definition, "FROM market_data", "FROM market_data JOIN plain p ON true", 1)
			})
		}, ReasonAggDefinition},
		"a definition with two tables": {func(s *catalog.Snapshot, _ *Context) {
			eachAggregate(s, func(a *catalog.Aggregate) {
				a.Definition = strings.Replace(a.Definition, "FROM market_data", "FROM market_data, plain p", 1)
			})
		}, ReasonAggDefinition},
	} {
		snap, context := goldenSnapshot(t), goldenContext()
		c.change(snap, context)
		if r, reason := planText(t, sql, context, snap, goldenNow); r != nil || reason != c.want {
			t.Errorf("%s: routed %v, reason %s, want %s", name, r != nil, reason, c.want)
		}
	}
}

func eachAggregate(s *catalog.Snapshot, change func(*catalog.Aggregate)) {
	for _, a := range s.Aggregates {
		change(a)
	}
}

func TestHiddenGroupsOfADefinitionForbidFirstAndLastOnly(t *testing.T) {
	snap := goldenSnapshot(t)
	for _, a := range snap.Aggregates {
		a.Definition = strings.TrimSuffix(a.Definition, ";") + ", upper((symbol)::text)"
	}
	if r, reason := planText(t, "SELECT date_trunc('day', timestamp), sum(volume) FROM market_data WHERE symbol = 'A' GROUP BY 1", goldenContext(), snap, goldenNow); r == nil {
		t.Errorf("a sum over hidden groups passed with %s", reason)
	} else if !strings.Contains(r.SQL, "AS u GROUP BY") || !strings.Contains(r.SQL, " GROUP BY u.k1") {
		t.Errorf("several stored rows of one group are not put together: %s", r.SQL)
	}
	if r, reason := planText(t, "SELECT first(open, timestamp) FROM market_data WHERE symbol = 'A'", goldenContext(), snap, goldenNow); r != nil || reason != ReasonAggFirstTies {
		t.Errorf("first over hidden groups: routed %v, %s", r != nil, reason)
	}
}

func TestPlansRelativeToNowExpireBeforeTheirEstimatesFail(t *testing.T) {
	snap := goldenSnapshot(t)
	for sql, want := range map[string]time.Duration{
		"SELECT count(*) FROM market_data WHERE timestamp >= '2024-02-01'":                                   0,
		"SELECT count(*) FROM market_data WHERE timestamp >= current_date - 30":                              goldenNow.Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(goldenNow),
		"SELECT count(*) FROM market_data WHERE timestamp >= date_trunc('hour', now() - '1 week'::interval)": goldenNow.Truncate(time.Hour).Add(time.Hour).Sub(goldenNow),
	} {
		r, reason := planText(t, sql, goldenContext(), snap, goldenNow)
		if r == nil {
			t.Errorf("%s: %s", sql, reason)
			continue
		}
		got := r.Expires.Sub(goldenNow)
		if r.Expires.IsZero() {
			got = 0
		}
		if got != want {
			t.Errorf("%s: expires after %s, want %s", sql, got, want)
		}
	}
	for minute := range 60 {
		now := goldenNow.Truncate(time.Hour).Add(time.Duration(minute) * time.Minute)
		r, reason := planText(t, "SELECT count(*) FROM market_data WHERE timestamp > now() - interval '9 days'", goldenContext(), snap, now)
		if r == nil {
			t.Fatal(reason)
		}
		lo, err := time.Parse(time.RFC3339, r.Ranges()[len(r.Ranges())-2].From)
		if err != nil {
			t.Fatal(err)
		}
		if left := r.Expires.Sub(now); left < aggregateRewriteMargin/2 || r.Expires.Add(-9*24*time.Hour).After(lo) {
			t.Errorf("at minute %d the plan is good for %s, its bucket starts at %s", minute, left, lo)
		}
	}
}

func TestDefinitionsAreParsedOnceForACatalogAndWatermarksFollowEachSnapshot(t *testing.T) {
	first := goldenSnapshot(t)
	first.Fingerprint = "f1"
	before := viewsOf(first)
	second := goldenSnapshot(t)
	second.Fingerprint = "f1"
	second.Aggregates[0].Watermark++
	second.Aggregates[1].Definition = "not parsed again"
	after := viewsOf(second)
	if len(after) != len(before) || after[2].Aggregate != second.Aggregates[0] || after[2].Grid != before[2].Grid {
		t.Errorf("%d views after %d, the first of %p, want %p", len(after), len(before), after[2].Aggregate, second.Aggregates[0])
	}
	third := goldenSnapshot(t)
	third.Fingerprint = "f2"
	third.Aggregates[1].Definition = "parsed again, and not followed"
	if got := viewsOf(third); len(got) != len(before)-1 {
		t.Errorf("%d views of a changed catalog, want %d", len(got), len(before)-1)
	}
}

// FuzzPlanAggregate looks for a statement that the planner falls over or whose
// rewriting is not a statement.
func FuzzPlanAggregate(f *testing.F) {
	for _, name := range []string{"aggregates_routed.txt", "aggregates_passed.txt"} {
		for _, c := range readGolden(f, name) {
			f.Add(c.sql)
		}
	}
	snap := goldenSnapshot(f)
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) > 2000 || strings.Count(sql, "(") > 100 {
			return
		}
		tree, err := pg_query.Parse(sql)
		if err != nil || len(tree.Stmts) != 1 {
			return
		}
		r, reason := (&blocks{c: goldenContext(), snap: snap, now: goldenNow}).plan(tree.Stmts[0].Stmt)
		if r == nil {
			if aggregateReasons[reason] == "" {
				t.Errorf("reason %q has no text", reason)
			}
			return
		}
		if all, err := pg_query.Parse(r.Lock + ";" + r.Guard() + ";" + r.SQL); err != nil || len(all.Stmts) != 3 {
			t.Errorf("%v: %s", err, r.SQL)
		}
	})
}
