package gateway

import (
	"sync/atomic"
	"time"

	"qvpgw/internal/metrics"
)

// Figures are those of one database since the start. Times are sums.
type Figures struct {
	Queries, SharedXacts, PinnedXacts int64
	Received, Sent                    int64 // bytes, from and to clients
	ClientParses, ServerParses, Binds int64
	Routed, Cached, Refused           int64
	QueryTime, XactTime               time.Duration
}

// figures count a database's Figures. Each session counts in one of several, so
// that cores seldom write to the same memory.
type figures [8]tally

type tally struct {
	queries, shared, pinned, received, sent, parses, prepared, binds atomic.Int64
	routed, cached, refused, queryTime, xactTime                     atomic.Int64

	_ [24]byte // a pair of cache lines each
}

// tally is where the session counts.
func (s *session) tally() *tally { return &s.db.figures[s.owner%uint64(len(s.db.figures))] }

// answered counts a turn's statement, which took so long.
func (t *tally) answered(a metrics.Action, took time.Duration) {
	t.queryTime.Add(int64(took))
	switch a {
	case metrics.Rewrite:
		t.routed.Add(1)
	case metrics.Cached:
		t.cached.Add(1)
	case metrics.Refused:
		t.refused.Add(1)
	}
}

// ended counts the end, now, of a transaction. One whose client keeps the connection is
// pinned.
func (s *session) ended(pinned bool, now time.Time) {
	t := s.tally()
	if pinned {
		t.pinned.Add(1)
	} else {
		t.shared.Add(1)
	}
	if !s.opened.IsZero() {
		t.xactTime.Add(int64(now.Sub(s.opened)))
		s.opened = time.Time{}
	}
}

func (f *figures) read() (sum Figures) {
	for i := range f {
		x := &f[i]
		sum.Queries += x.queries.Load()
		sum.SharedXacts += x.shared.Load()
		sum.PinnedXacts += x.pinned.Load()
		sum.Received += x.received.Load()
		sum.Sent += x.sent.Load()
		sum.ClientParses += x.parses.Load()
		sum.ServerParses += x.prepared.Load()
		sum.Binds += x.binds.Load()
		sum.Routed += x.routed.Load()
		sum.Cached += x.cached.Load()
		sum.Refused += x.refused.Load()
		sum.QueryTime += time.Duration(x.queryTime.Load())
		sum.XactTime += time.Duration(x.xactTime.Load())
	}
	return sum
}
