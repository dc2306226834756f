package gateway

import (
	"runtime/debug"
	"time"
)

// tidier gives memory back after many logins. What a login leaves behind is several
// times what an idle client keeps, and the collector neither hurries to find it nor
// to give it back when all is quiet.
type tidier struct {
	seen, done uint64    // connections counted at the last look, and tidied up after
	since      time.Time // no connection came since then
}

// tidyAfter is after how many connections, and how long a rest from them, tidying up
// is worth a collection.
const (
	tidyAfter = 500
	tidyRest  = 2 * time.Second
)

// look is told the number of connections that ever came.
func (t *tidier) look(count uint64, now time.Time) {
	if count != t.seen {
		t.seen, t.since = count, now
		return
	}
	if count-t.done >= tidyAfter && now.Sub(t.since) >= tidyRest {
		t.done = count
		go debug.FreeOSMemory()
	}
}
