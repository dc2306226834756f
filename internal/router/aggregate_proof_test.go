package router

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestOneProofDoesForAllStatementsOfAShape(t *testing.T) {
	snap := goldenSnapshot(t)
	for _, shape := range [][]string{
		{
			"SELECT date_trunc('day', timestamp), max(high) FROM market_data WHERE timestamp >= '2024-01-10' AND timestamp < '2024-02-10' AND symbol = 'A' GROUP BY 1",
			"SELECT date_trunc('day', timestamp), max(high) FROM market_data WHERE timestamp >= '2024-01-24' AND timestamp < '2024-03-10' AND symbol = 'it''s' GROUP BY 1",
		},
		{
			"SELECT count(*) FROM market_data WHERE timestamp >= timestamptz '2024-01-10 10:30' AND timestamp < '2024-02-10 10:30'::timestamptz",
			"SELECT count(*) FROM market_data WHERE timestamp >= timestamptz '2024-01-12 11:30' AND timestamp < '2024-02-12 11:30'::timestamptz",
		},
		{
			"SELECT count(*) FROM market_data WHERE timestamp >= TO_TIMESTAMP('2024-01-10', 'YYYY-MM-DD') AND timestamp < TO_TIMESTAMP('2024-02-10', 'YYYY-MM-DD')",
			"SELECT count(*) FROM market_data WHERE timestamp >= TO_TIMESTAMP('2024-01-20', 'YYYY-MM-DD') AND timestamp < TO_TIMESTAMP('2024-02-20', 'YYYY-MM-DD')",
		},
	} {
		var texts []string
		var args [][]string
		for _, sql := range shape {
			r, reason := planText(t, sql, goldenContext(), snap, goldenNow)
			if r == nil {
				t.Fatalf("%s: %s", sql, reason)
			}
			texts, args = append(texts, r.Proof), append(args, r.ProofArgs)
			for n, a := range r.ProofArgs {
				if !strings.Contains(r.Proof, "$"+strconv.Itoa(n+1)+"::") {
					t.Errorf("$%d is not in %s", n+1, r.Proof)
				}
				if inside := strings.Trim(a, "{}"); !strings.Contains(r.Guard(), inside) && !strings.Contains(r.Guard(), strings.ReplaceAll(inside, "'", "''")) {
					t.Errorf("%s is not in %s", a, r.Guard())
				}
			}
			if strings.Contains(r.Guard()+r.Within()+r.Proof, mark) {
				t.Errorf("a mark is left in %q", r.Guard()+r.Within()+r.Proof)
			}
		}
		if texts[0] != texts[1] {
			t.Errorf("two proofs:\n%s\n%s", texts[0], texts[1])
		}
		if slices.Equal(args[0], args[1]) {
			t.Errorf("%q for both", args[0])
		}
	}
}
