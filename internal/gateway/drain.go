package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qvpgw/internal/wire"
)

// Shutdown stops accepting, ends idle clients with 57P01, waits for the turns,
// transactions and pins of the others until ctx ends, and then ends them too, with
// the same error and their statements cancelled. Who is logging in is refused.
func (s *Server) Shutdown(ctx context.Context) error { return s.drain(ctx, false) }

// Retire is Shutdown for when a successor has the listening sockets: who is
// logging in gets in and may run a statement, and server connections that become
// free are closed, for the successor needs them.
func (s *Server) Retire(ctx context.Context) error { return s.drain(ctx, true) }

func (s *Server) drain(ctx context.Context, successor bool) error {
	s.mu.Lock()
	s.refusing = s.refusing || !successor
	if !s.draining {
		s.draining = true
		s.ending.Store(true)
		close(s.done)
	}
	for _, l := range s.listeners {
		_ = l.Close()
	}
	entering := make([]*session, 0, len(s.entering))
	for c := range s.entering {
		entering = append(entering, c)
	}
	s.mu.Unlock()
	for _, d := range s.allDatabases() {
		if successor {
			d.retire()
		}
	}
	for _, c := range s.all() {
		c.wake()
	}
	if !successor {
		for _, c := range entering {
			_ = c.raw.SetDeadline(time.Unix(1, 0))
		}
	}
	finished := make(chan struct{})
	go func() { s.wg.Wait(); close(finished) }()
	var err error
	select {
	case <-finished:
	case <-ctx.Done():
		err = s.force(ctx, finished)
	}
	for _, d := range s.allDatabases() {
		d.close()
	}
	if s.loops != nil {
		s.loops.Close()
	}
	return err
}

// farewell bounds how long the clients that are ended at the deadline may take to
// hear of it.
const farewell = 2 * time.Second

// force ends the clients that are left.
func (s *Server) force(ctx context.Context, finished <-chan struct{}) error {
	left := s.all()
	err := fmt.Errorf("cannot wait any longer for %d clients: %w", len(left), ctx.Err())
	if len(left) == 0 {
		err = nil // they are logging in, or hear the reason of their end
	}
	s.forced.Store(true)
	for _, c := range left {
		c.stop()
	}
	select {
	case <-finished:
		return err
	case <-time.After(farewell):
	}
	s.mu.Lock()
	for c := range s.entering {
		_ = c.raw.Close()
	}
	s.mu.Unlock()
	for _, c := range s.all() {
		_ = c.raw.Close()
	}
	select {
	case <-finished:
	case <-time.After(farewell):
	}
	return err
}

// stop ends what a client runs or waits for, and the client then.
func (s *session) stop() {
	if c := s.held.Load(); c != nil && c.BeginCancel(s.owner) {
		go func() { _ = c.Cancel(s.cancelContext()) }()
	}
	if s.pool != nil { // the console's clients have none
		s.pool.Abort(&s.waiter, errHungUp)
	}
	s.wake()
}

// isDraining says whether the gateway is shutting down.
func (s *Server) isDraining() bool { return s.ending.Load() }

// firstStatement is how long a client that has just logged in may take for it
// while the gateway drains: it connected in good faith.
const firstStatement = time.Second

// mayLeave says whether a client that sits between two turns can be ended by a
// drain: it holds no server connection, and nothing of a statement has been read
// or lies in the socket. What arrives after that is never run, and the client
// hears so.
func (s *session) mayLeave() bool {
	if s.srv.forced.Load() {
		return true
	}
	return s.conn == nil && s.client.Buffered() == 0 && !s.fresh() && !readable(s.raw)
}

// fresh says that a client logged in a moment ago and has had no turn.
func (s *session) fresh() bool {
	return s.busy.Load() < 2 && time.Since(s.started) < firstStatement
}

// stay gives a client that cannot be ended yet the time to send the rest of its
// statement, or of its transaction.
func (s *session) stay() {
	at := time.Time{} // until the drain's own deadline
	if s.conn == nil && s.client.Buffered() == 0 {
		at = time.Now().Add(firstStatement)
	}
	_ = s.raw.SetReadDeadline(at)
	if s.srv.forced.Load() {
		s.wake() // it may have come before the line above
	}
}

// readable says whether a socket has bytes to read, or its end.
func readable(n net.Conn) bool {
	sc, ok := n.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	_ = raw.Control(func(fd uintptr) { // an error: it is closed, and has nothing
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ready = err == nil && n > 0
	})
	return ready
}

// lingering bounds how long, and how much, a client that was told its end may
// still send.
const (
	lingering = 2 * time.Second
	lingered  = 1 << 20
)

// linger closes this side of the connection and reads what the client has sent
// until it closes its own: to close a socket with unread bytes resets the
// connection, and the reset may destroy the error that was written before.
func (s *session) linger() {
	if s.pid == 0 {
		return // not logged in: it is owed nothing
	}
	for _, n := range []net.Conn{s.net, s.raw} {
		if h, ok := n.(interface{ CloseWrite() error }); ok {
			if h.CloseWrite() != nil {
				return // it is gone
			}
		}
	}
	_ = s.raw.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, io.LimitReader(s.raw, lingered))
}

// tell writes an ErrorResponse without regard to the conversation.
func (s *session) tell(e *Error) {
	if s.conn != nil && s.conn.Stream.Midway() {
		return // it would be read as the rest of that message
	}
	f := e.fields()
	f.Severity, f.SeverityV = "FATAL", "FATAL"
	_ = s.net.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = s.net.Write(wire.AppendErrorResponse(s.out, f))
	s.out = s.out[:0]
}
