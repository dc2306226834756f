package admin

import (
	"cmp"
	"slices"
	"time"
)

// Status is what the page shows, and /api/status in JSON. Durations are in
// nanoseconds, as their names say.
type Status struct {
	Version      string       `json:"version"`
	Now          time.Time    `json:"now"` // filled by the server
	Started      time.Time    `json:"started"`
	Listen       string       `json:"listen"`
	Backend      Backend      `json:"backend"`
	Capabilities []Capability `json:"capabilities"`
	Actions      []Count      `json:"actions"` // queries by action, since the start
	Cache        CacheFigures `json:"cache"`
	Pools        []PoolRow    `json:"pools"`
	Clients      []ClientRow  `json:"clients"`       // at most pageRows, pinned and waiting ones first
	ClientsTotal int          `json:"clients_total"` // filled by the server
	Routes       []RouteRow   `json:"routes"`        // the newest first, at most pageRows
}

// Backend is the server as the catalog found it.
type Backend struct {
	Address    string `json:"address"`
	Server     string `json:"server"`    // "17.5"; "" while it is not known
	Timescale  string `json:"timescale"` // version, "" without
	Edition    string `json:"edition"`   // TimescaleDB's: "community", "apache" or ""
	Vector     string `json:"vector"`    // pgvector's version, "" without
	InRecovery bool   `json:"in_recovery"`
}

// Capability is something the gateway can do, or why it cannot here.
type Capability struct {
	Name   string `json:"name"`
	On     bool   `json:"on"`
	Reason string `json:"reason"`
}

// Count is a number with its name.
type Count struct {
	Name  string  `json:"name"`
	Count float64 `json:"count"`
}

// CacheFigures are the k-NN cache's.
type CacheFigures struct {
	Entries   int   `json:"entries"`
	Bytes     int64 `json:"bytes"`
	Budget    int64 `json:"budget"`
	Hits      int64 `json:"hits"`
	Misses    int64 `json:"misses"`
	Evictions int64 `json:"evictions"`
}

// RouteRow is one statement of which a decision was made.
type RouteRow struct {
	When     time.Time     `json:"when"`
	Database string        `json:"database"`
	User     string        `json:"user"`
	Text     string        `json:"text"`   // may be shortened
	Action   string        `json:"action"` // as in the metrics
	Reason   string        `json:"reason"` // a stable code
	Source   string        `json:"source"` // the aggregate or table it was answered from
	Duration time.Duration `json:"duration_ns"`
}

// pageRows bounds the lists that the page gets.
const pageRows = 200

// trim puts what an operator looks for first and bounds the lists.
func (s *Status) trim(now time.Time) {
	s.Now = now
	s.ClientsTotal = len(s.Clients)
	rank := func(c ClientRow) int {
		switch {
		case len(c.Pins) > 0:
			return 0
		case c.State == "waiting":
			return 1
		case c.State == "active":
			return 2
		}
		return 3
	}
	slices.SortFunc(s.Clients, func(a, b ClientRow) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
	})
	slices.SortStableFunc(s.Routes, func(a, b RouteRow) int { return b.When.Compare(a.When) })
	s.Clients = s.Clients[:min(len(s.Clients), pageRows)]
	s.Routes = s.Routes[:min(len(s.Routes), pageRows)]
}
