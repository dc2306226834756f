package catalog

import (
	"math"
	"testing"
)

func TestWithReplacesWhatMovesAndKeepsTheRest(t *testing.T) {
	old := &Snapshot{
		Fingerprint: "f",
		Moment:      "1",
		Relations:   map[Name]*Relation{{"public", "bars"}: {HypertableID: 1}},
		Hypertables: map[int32]*Hypertable{
			1: {ID: 1, TimeColumn: "timestamp", Chunks: []Chunk{{ID: 7}}, Threshold: 5, HasThreshold: true},
			2: {ID: 2, Threshold: 9, HasThreshold: true},
		},
		Aggregates: []*Aggregate{{ID: 2, RawID: 1, Watermark: 5}, {ID: 3, RawID: 1, Watermark: 6}},
	}
	n := old.With(Volatile{
		Moment: "2", InRecovery: true,
		Chunks:     map[int32][]Chunk{1: {{ID: 7}, {ID: 8}}, 99: {{ID: 1}}},
		Thresholds: map[int32]int64{1: 10},
		Watermarks: map[int32]int64{2: 10},
	})
	if n.Fingerprint != "f" || n.Moment != "2" || !n.InRecovery || len(n.Relations) != 1 {
		t.Errorf("snapshot is %+v", n)
	}
	h := n.Hypertables[1]
	if len(h.Chunks) != 2 || h.Threshold != 10 || h.TimeColumn != "timestamp" {
		t.Errorf("hypertable is %+v", h)
	}
	if n.Hypertables[2].HasThreshold || len(n.Hypertables) != 2 {
		t.Errorf("hypertables are %+v", n.Hypertables)
	}
	if n.Aggregates[0].Watermark != 10 || n.Aggregates[1].Watermark != math.MinInt64 {
		t.Errorf("watermarks are %d and %d", n.Aggregates[0].Watermark, n.Aggregates[1].Watermark)
	}
	if old.Moment != "1" || len(old.Hypertables[1].Chunks) != 1 || old.Aggregates[0].Watermark != 5 {
		t.Error("the old snapshot was changed")
	}
}

func TestNamesAreQuotedAsSQL(t *testing.T) {
	if got := (Name{"public", `odd"name`}).String(); got != `"public"."odd""name"` {
		t.Errorf("got %s", got)
	}
}
