package gateway

import (
	"slices"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/router"
)

// Unproven has answers from memory and from aggregates given without proof, for the
// tests that must see wrong ones then (trap T17).
func Unproven(s *Server) { s.unproven.Store(true) }

// Unsettled has kept answers found without a look at their settings.
func Unsettled(s *Server) { s.unsettled.Store(true) }

// Unchecked has the gateway not look what a transaction left behind.
func Unchecked(s *Server) { s.unchecked.Store(true) }

// SetLoginGrace says how long a login may take before its place is given away.
func SetLoginGrace(s *Server, d time.Duration) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	s.gate.grace = d
}

// ReloadWith has the server go on with changed options.
func ReloadWith(s *Server, change func(*Options)) {
	now := *s.live.Load()
	change(&now)
	s.Reload(now)
}

// Fresh says that no change of a catalog is known that is not read.
func Fresh(s *Server) bool {
	return !slices.ContainsFunc(s.allDatabases(), func(d *database) bool { return !d.fresh.Load() })
}

// NextPID is nextPID.
var NextPID = nextPID

// Doubts are a database's doubts.
type Doubts struct{ doubts }

// Add is doubts.add.
func (d *Doubts) Add(c router.Change, n uint64) { d.add(c, n) }

// Read is doubts.read.
func (d *Doubts) Read(snap *catalog.Snapshot, n uint64) { d.read(snap, n) }

// About is doubts.about.
func (d *Doubts) About(p *router.Plan) bool { return d.about(p) }
