package gateway

import "sync/atomic"

// worth says whether it is worth a round trip to ask whether an answer from memory
// still holds. Where every transaction writes, or no query comes twice, it never does.
type worth struct {
	vain atomic.Uint32 // times in a row that it was not
}

const (
	vainLimit = 64 // times in vain, before
	vainProbe = 16 // one in so many is tried
)

// worthwhile says whether to ask now.
func (w *worth) worthwhile() bool {
	n := w.vain.Add(1)
	return n <= vainLimit || n%vainProbe == 0
}

// hit notes that it was.
func (w *worth) hit() { w.vain.Store(0) }
