package gateway

import (
	"errors"
	"time"

	"qvpgw/internal/netloop"
)

// slowWrite is how long a write may take before we read meanwhile (pgx waits as
// long before it starts its background reader).
const slowWrite = 15 * time.Millisecond

// writeAside writes b in a goroutine of its own and, when that takes long, passes
// the server's replies until it is done. Only the writer touches the connection's
// sending side, only this goroutine its receiving side.
func (s *session) writeAside(b []byte) (int, error) {
	c := s.conn.Net
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := c.Write(b)
		done <- result{n, err}
	}()
	slow := time.NewTimer(slowWrite)
	defer slow.Stop()
	select {
	case r := <-done:
		return r.n, r.err
	case <-slow.C:
	}
	var r result
	finished := make(chan struct{})
	go func() {
		r = <-done
		close(finished)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // ends the read below
	}()
	for {
		if s.cv.queue.n == 0 {
			<-finished
		}
		select {
		case <-finished:
			_ = c.SetReadDeadline(time.Time{})
			return r.n, r.err
		default:
		}
		err := s.step()
		if err == nil && s.conn.Stream.Buffered() == 0 {
			err = s.conn.Stream.Flush()
			if err != nil {
				err = s.serverError(err)
			}
		}
		if err != nil && !timedOut(err) {
			if s.conn != nil {
				s.lose() // a part of b is with the server
			}
			<-finished
			return 0, err
		}
	}
}

// errHeard is what a read of the client returns when its COPY has failed and all was
// said to it, before it sent more.
var errHeard = errors.New("the server has ended the COPY")

// readOrHear reads from the client. While that copies, what the server says meanwhile,
// above all that the COPY has failed, is passed at once; a read that the server ended
// has timed out.
func (s *session) readOrHear(b []byte) (int, error) {
	if s.first || s.conn == nil || s.conn.Loop == nil || !s.cv.copying {
		return s.net.Read(b)
	}
	var h netloop.Handler = hearing{s}
	s.conn.Watch(&h, true) // ahead of the look: what comes behind it is heard
	err := s.hear()
	if err == nil {
		n, err := s.net.Read(b)
		s.conn.Watch(&s.handler, true)
		return n, err
	}
	if s.conn != nil {
		s.conn.Watch(&s.handler, true)
	}
	return 0, err
}

// hearing ends a client's read when its server says something.
type hearing struct{ s *session }

// Ready is called for an event of the server's socket.
func (h hearing) Ready() { _ = h.s.raw.SetReadDeadline(time.Unix(1, 0)) }

// hear passes what the server has said to a client that copies.
func (s *session) hear() error {
	st := &s.conn.Stream
	heard := false
	for s.cv.queue.n > 0 && (!s.cv.copying || st.Buffered() > 0 || !s.conn.Loop.Quiet()) {
		if err := s.step(); err != nil {
			return err
		}
		heard = true
	}
	if !heard {
		return nil
	}
	if err := st.Flush(); err != nil {
		return s.serverError(err)
	}
	if s.cv.idle() && !s.client.Midway() && s.client.Buffered() == 0 {
		return errHeard
	}
	return nil
}
