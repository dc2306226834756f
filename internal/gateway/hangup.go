package gateway

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// lookForHangUp is the sweeper's look at a session: if the turn that runs is the
// one that ran at the last look and the client has hung up, its wait ends and its
// query is cancelled. Nothing is read from the client, so nothing needs handing
// back, and TLS makes no difference.
func (s *session) lookForHangUp() {
	busy := s.busy.Load()
	if busy&1 == 0 || busy != s.looked {
		s.looked = busy
		return
	}
	if s.hungUp.Load() || !peerClosed(s.raw) {
		return
	}
	s.hungUp.Store(true)
	s.pool.Abort(&s.waiter, errHungUp)
	if c := s.held.Load(); c != nil && c.BeginCancel(s.owner) {
		go func() { _ = c.Cancel(s.cancelContext()) }()
	}
}

// peerClosed says whether the other end has closed its sending side, without
// reading.
func peerClosed(n any) bool {
	sc, ok := n.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: pollHangUp}}
		n, err := unix.Poll(p, 0)
		closed = err == nil && n > 0 && p[0].Revents&(pollHangUp|unix.POLLHUP|unix.POLLERR) != 0
	})
	return closed || err != nil
}
