package rules

import (
	"strings"
	"testing"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

var market = catalog.Name{Schema: "public", Name: "market_data"}

func set(t *testing.T, config map[string]string) *Set {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachRuleMatchesWhatItNamesAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		rule         string
		match, spare Facts
	}{
		{"delete_without_where", Facts{Kind: sqltext.Delete}, Facts{Kind: sqltext.Delete, Where: true}},
		{"update_without_where", Facts{Kind: sqltext.Update}, Facts{Kind: sqltext.Delete}},
		{"truncate_hypertable", Facts{Kind: sqltext.Truncate, Hypertable: true}, Facts{Kind: sqltext.Truncate}},
		{"drop_hypertable", Facts{Kind: sqltext.DDL, Drop: true, Hypertable: true}, Facts{Kind: sqltext.DDL, Hypertable: true}},
		{"unbounded_scan", Facts{Kind: sqltext.Select, Hypertable: true, Where: true}, Facts{Kind: sqltext.Select, Hypertable: true, Time: true}},
		{"copy_program", Facts{Kind: sqltext.Copy, Program: true}, Facts{Kind: sqltext.Copy}},
		{"large_offset", Facts{Kind: sqltext.Select, Offset: largeOffset}, Facts{Kind: sqltext.Select, Offset: largeOffset - 1}},
	} {
		s := set(t, map[string]string{c.rule: "refuse"})
		c.match.Table, c.spare.Table = market, market
		v, ok := s.Check(&c.match)
		if !ok || v.Rule != c.rule || v.Action != Refuse {
			t.Errorf("%s does not refuse %+v: %+v", c.rule, c.match, v)
		}
		if len(v.SQLState) != 5 || v.Message == "" || v.Hint == "" || !strings.Contains(v.Detail, "rule_"+c.rule) {
			t.Errorf("%s: incomplete verdict %+v", c.rule, v)
		}
		if v, ok := s.Check(&c.spare); ok {
			t.Errorf("%s matches %+v: %+v", c.rule, c.spare, v)
		}
		if _, ok := set(t, nil).Check(&c.match); ok {
			t.Errorf("%s is on by default", c.rule)
		}
	}
}

func TestUnboundedScanSparesLimitsAndAggregates(t *testing.T) {
	s := set(t, map[string]string{"unbounded_scan": "refuse"})
	for _, f := range []Facts{
		{Kind: sqltext.Select, Hypertable: true, Limit: true},
		{Kind: sqltext.Select, Hypertable: true, Aggregate: true},
		{Kind: sqltext.Select},
	} {
		if v, ok := s.Check(&f); ok {
			t.Errorf("%+v: %+v", f, v)
		}
	}
}

func TestARefusalWinsOverAWarning(t *testing.T) {
	f := Facts{Kind: sqltext.Select, Hypertable: true, Offset: largeOffset}
	s := set(t, map[string]string{"unbounded_scan": "warn", "large_offset": "refuse"})
	if v, _ := s.Check(&f); v.Rule != "large_offset" || v.Action != Refuse {
		t.Errorf("got %+v", v)
	}
	s = set(t, map[string]string{"unbounded_scan": "warn", "large_offset": "warn"})
	if v, _ := s.Check(&f); v.Rule != "unbounded_scan" || v.Action != Warn {
		t.Errorf("got %+v", v)
	}
}

func TestAnUnknownRuleOrActionIsAnErrorThatListsTheKnown(t *testing.T) {
	_, err := New(map[string]string{"delete_without_were": "refuse"})
	if err == nil {
		t.Fatal("no error for an unknown rule")
	}
	for _, name := range Names() {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
	_, err = New(map[string]string{"large_offset": "on"})
	if err == nil || !strings.Contains(err.Error(), "off, warn or refuse") {
		t.Errorf("unknown action: %v", err)
	}
}

func TestTheNilSetHasAllRulesOff(t *testing.T) {
	var s *Set
	if _, ok := s.Check(&Facts{Kind: sqltext.Delete}); ok || s.Any() {
		t.Error("the nil set refuses")
	}
}

func TestActionsPrintAsTheyAreConfigured(t *testing.T) {
	for word, a := range actions {
		if a.String() != word {
			t.Errorf("%d prints %q, want %q", a, a, word)
		}
	}
}
