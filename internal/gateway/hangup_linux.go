package gateway

import (
	"syscall"

	"golang.org/x/sys/unix"

	"qvpgw/internal/netloop"
)

// pollHangUp asks for the peer's half-close, as PostgreSQL's
// client_connection_check_interval does.
const pollHangUp = unix.POLLRDHUP

// unread says whether a connection takes no more because the other end does not
// read, and how many bytes wait for it.
func unread(n any) (queued int, stuck bool) {
	if c, ok := n.(*netloop.Conn); ok {
		return c.Stuck()
	}
	sc, ok := n.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if k, err := unix.Poll(p, 0); err != nil || k > 0 {
			return
		}
		q, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		queued, stuck = q, err == nil
	})
	return queued, stuck && err == nil
}
