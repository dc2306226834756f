package gateway

import "sync/atomic"

// worth says whether it is worth a round trip to ask whether a table's answers from
// memory still hold. Where every transaction writes, or no query comes twice, they never
// do.
type worth struct {
	vain atomic.Uint32 // times in a row that it was not
}

const (
	vainLimit = 64 // times in vain, before
	vainProbe = 16 // one in so many is tried
)

// worthwhile says whether to ask now.
func (w *worth) worthwhile() bool { return asks(w.vain.Add(1)) }

// vainly counts a time that it is not worthwhile; false: it is, and is not counted yet.
func (w *worth) vainly() bool {
	if asks(w.vain.Load() + 1) {
		return false
	}
	w.vain.Add(1)
	return true
}

func asks(n uint32) bool { return n <= vainLimit || n%vainProbe == 0 }

// hit notes that it was.
func (w *worth) hit() { w.vain.Store(0) }
