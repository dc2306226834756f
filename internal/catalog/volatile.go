package catalog

import "math"

// Volatile is the part of a Snapshot that changes while statements' plans stay
// good: read often, cheaply.
type Volatile struct {
	Moment     string // differs whenever anything below differs
	InRecovery bool
	Chunks     map[int32][]Chunk          // by hypertable id, sorted by Start
	Thresholds map[int32]int64            // by hypertable id
	Watermarks map[int32]int64            // by aggregate id
	Settled    map[int32]Settled          // by aggregate id
	Invalid    map[int32][]Span           // by aggregate id
	Distinct   map[int32]map[string]int64 // by hypertable id and column
}

// With returns a copy of s with other chunks, thresholds, watermarks, settled and
// invalid spans, the same Fingerprint, and everything else shared. Hypertables and aggregates that
// s does not know are left out; those that v does not name have none, and an
// aggregate without a watermark has nothing materialized: the lowest one.
func (s *Snapshot) With(v Volatile) *Snapshot {
	n := *s
	n.Moment, n.InRecovery = v.Moment, v.InRecovery
	n.Hypertables = make(map[int32]*Hypertable, len(s.Hypertables))
	for id, h := range s.Hypertables {
		c := *h
		c.Chunks, c.Distinct = v.Chunks[id], v.Distinct[id]
		c.Threshold, c.HasThreshold = v.Thresholds[id]
		n.Hypertables[id] = &c
	}
	n.Aggregates = make([]*Aggregate, len(s.Aggregates))
	for i, a := range s.Aggregates {
		c := *a
		c.Watermark, c.Invalid, c.Settled = math.MinInt64, v.Invalid[a.ID], v.Settled[a.ID]
		if w, ok := v.Watermarks[a.ID]; ok {
			c.Watermark = w
		}
		n.Aggregates[i] = &c
	}
	return &n
}
