//go:build !linux

package gateway

import "golang.org/x/sys/unix"

// pollHangUp is what there is without POLLRDHUP: full hang-ups alone are seen.
const pollHangUp = unix.POLLHUP

// unread is not known on this system.
func unread(any) (queued int, stuck bool) { return 0, false }
