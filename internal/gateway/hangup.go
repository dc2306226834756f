package gateway

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qvpgw/internal/netloop"
)

// cancelAgain is when a statement of a client that has hung up is cancelled once
// more: a cancel that comes between two statements does nothing.
const cancelAgain = time.Second

// look is the sweeper's look at a session. A client whose turn is the one that
// ran at the last look and who has hung up stops waiting, and its query is
// cancelled; nothing is read from the client, so nothing needs handing back, and
// TLS makes no difference. A client that has been silent for too long is ended.
func (s *session) look(now time.Time) {
	age := now.Sub(s.started)
	busy := s.busy.Load()
	if busy != s.looked || s.since == 0 {
		s.looked, s.since, s.again = busy, age, 0
		return
	}
	if busy&1 == 0 {
		s.lookIdle(age - s.since)
		return
	}
	if s.pool == nil {
		return
	}
	s.pool.Expire(&s.waiter, s.srv.live.Load().QueueTimeout)
	s.lookSlow(age)
	if age < s.again || !peerClosed(s.raw) {
		return
	}
	s.pool.Abort(&s.waiter, errHungUp)
	if c := s.held.Load(); c != nil && c.BeginCancel(s.owner) {
		s.again = age + cancelAgain
		go func() { _ = c.Cancel(s.cancelContext()) }()
	}
}

// lookSlow ends a client that does not read the answer which it keeps a server
// connection for, when others wait for one (trap T14). What it was sent may end
// inside a message, so it cannot be told.
func (s *session) lookSlow(age time.Duration) {
	limit, c := s.srv.live.Load().SlowReader, s.held.Load()
	queued, stuck := 0, false
	if limit > 0 && c != nil {
		queued, stuck = unread(s.raw)
	}
	if !stuck || s.stuck == 0 || queued != s.queued {
		s.queued, s.stuck = queued, 0
		if stuck {
			s.stuck = age
		}
		return
	}
	if age-s.stuck < limit || s.pool.Stat().Waiting == 0 {
		return
	}
	e := fatal("53400", "terminating connection because the client does not read", "limits.slow_reader_timeout is "+limit.String()+".")
	if !s.evicted.CompareAndSwap(nil, e) {
		return
	}
	s.srv.m.SlowReaders.Inc()
	s.srv.m.Error(e.Code)
	s.srv.log.Info("client ended", "pid", s.pid, "user", s.user, "database", s.database, "error", e.Error())
	if c.BeginCancel(s.owner) {
		go func() { _ = c.Cancel(s.cancelContext()) }()
	}
	_ = s.raw.SetWriteDeadline(time.Unix(1, 0))
}

// peerClosed says whether the other end has closed its sending side, without
// reading.
func peerClosed(n any) bool {
	if c, ok := n.(*netloop.Conn); ok {
		return c.PeerClosed()
	}
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
