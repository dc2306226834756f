//go:build !linux

package gateway

import "golang.org/x/sys/unix"

// pollHangUp is what there is without POLLRDHUP: full hang-ups alone are seen.
const pollHangUp = unix.POLLHUP
