package netloop

import (
	"os"
	"sync/atomic"
	"time"
)

// states of a side.
const (
	quiet   = iota // nothing was heard since it was last looked at
	ready          // the socket may be ready, or a deadline passed, or it was closed
	waiting        // a goroutine blocks on wake
)

// side is one direction of a Conn. What is not atomic belongs to the one
// goroutine that reads (or writes) at the moment, but for timer, which the Conn's
// mu protects.
type side struct {
	state    atomic.Uint32
	deadline atomic.Int64 // Unix time in ns, 0: none
	wake     chan struct{}
	timer    *time.Timer
}

// notify has whoever waits, or looks next, look at the socket again. It says whether
// somebody waited.
func (s *side) notify() bool {
	if s.state.Load() == ready || s.state.Swap(ready) != waiting {
		return false
	}
	s.wake <- struct{}{}
	return true
}

// expired says whether the deadline has passed.
func (s *side) expired() bool {
	d := s.deadline.Load()
	return d != 0 && time.Now().UnixNano() >= d
}

// wait blocks until notify was called since the last look, or the deadline passed.
func (s *side) wait() error {
	if s.expired() {
		return os.ErrDeadlineExceeded
	}
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	if s.state.CompareAndSwap(quiet, waiting) {
		<-s.wake
	}
	if s.expired() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// set changes the deadline; the zero time means none. The Conn's mu is held.
func (s *side) set(t time.Time) {
	if s.timer != nil {
		s.timer.Stop()
	}
	if t.IsZero() {
		s.timer = nil // an idle connection is to be small
		s.deadline.Store(0)
		return
	}
	s.deadline.Store(max(t.UnixNano(), 1))
	d := time.Until(t)
	switch {
	case d <= 0:
		s.notify()
	case s.timer == nil:
		s.timer = time.AfterFunc(d, func() { s.notify() })
	default:
		s.timer.Reset(d)
	}
}
