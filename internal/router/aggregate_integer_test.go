package router

import (
	"slices"
	"testing"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// TestDivisionOfIntegersIsFollowedFromZeroOn: PostgreSQL cuts towards zero, so that
// -3599 / 3600 and 3599 / 3600 are one group and no bucket.
func TestDivisionOfIntegersIsFollowedFromZeroOn(t *testing.T) {
	snap := goldenSnapshot(t)
	for text, want := range map[string]Reason{
		"SELECT at / 3600, count(*) FROM readings GROUP BY 1":             ReasonAggBucket,
		"SELECT time_bucket(3600, at), count(*) FROM readings GROUP BY 1": "",
	} {
		if _, reason := planText(t, text, goldenContext(), snap, goldenNow); reason != "" {
			t.Errorf("%s: passed with %s where time is positive", text, reason)
		}
		below := *snap
		hyper := *snap.Hypertables[12]
		first := hyper.Chunks[0]
		hyper.Chunks = append([]catalog.Chunk{{ID: 1300, Name: first.Name, Start: -604800, End: 0}}, hyper.Chunks...)
		held := *snap.Hypertables[14]
		held.Chunks = append([]catalog.Chunk{{ID: 1301, Name: first.Name, Start: -6048000, End: 0}}, held.Chunks...)
		below.Aggregates = slices.Clone(snap.Aggregates)
		for i, a := range snap.Aggregates {
			if a.ID == 14 {
				settled := *a
				settled.Settled.Chunks = append(slices.Clone(a.Settled.Chunks), 1301)
				below.Aggregates[i] = &settled
			}
		}
		below.Hypertables = map[int32]*catalog.Hypertable{12: &hyper, 14: &held}
		if _, reason := planText(t, text, goldenContext(), &below, goldenNow); reason != want {
			t.Errorf("%s: with negative times passed with %q, want %q", text, reason, want)
		}
	}
}

func TestIntegersAreReadFromTheirSpellings(t *testing.T) {
	for text, want := range map[string]int64{
		"5": 5, "-5": -5, "'42'": 42, "7::bigint": 7, "5000000000": 5000000000, "1 + 2 - 10": -7, "CAST('9' AS integer) + 1": 10,
	} {
		if got, ok := constInteger(expression(t, text)); !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"1.5", "'x'", "NULL", "9223372036854775807", "2 * 3", "now()", "5::numeric", "200000000000000000 + 200000000000000000"} {
		if got, ok := constInteger(expression(t, text)); ok {
			t.Errorf("%s: read as %d", text, got)
		}
	}
	if _, ok := wholeNumber(expression(t, "'5'")); ok {
		t.Error("a quoted literal is of no known type as a width")
	}
}

func expression(t *testing.T, text string) *pg_query.Node {
	t.Helper()
	tree, err := pg_query.Parse("SELECT " + text)
	if err != nil {
		t.Fatal(err)
	}
	return tree.Stmts[0].Stmt.GetSelectStmt().TargetList[0].GetResTarget().Val
}
