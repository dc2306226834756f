package gateway

import (
	"time"
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
