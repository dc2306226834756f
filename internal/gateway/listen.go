package gateway

import (
	"errors"
	"time"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// awaitClient waits for the next byte of a client that keeps its server connection
// and listens: what the server says meanwhile (notifications above all) is passed
// at once. The client's goroutine only reads from the client until the other one
// has ended, so neither needs a lock.
func (s *session) awaitClient() error {
	if s.conn == nil || router.Pins(s.pins.Load())&router.PinListen == 0 || !s.cv.idle() || s.client.Buffered() > 0 {
		return nil
	}
	c := s.conn
	lost := make(chan error, 1)
	go func() {
		err := s.passAsync()
		if err != nil {
			s.wake()
		}
		lost <- err
	}()
	_, err := s.client.Next()
	_ = c.Net.SetReadDeadline(time.Unix(1, 0))
	gone := <-lost
	_ = c.Net.SetReadDeadline(time.Time{})
	if gone != nil {
		return gone
	}
	if err != nil {
		return s.clientError(err)
	}
	return nil
}

// passHeard passes the notifications that came while the gateway asked something
// for itself on the client's connection.
func (s *session) passHeard() error {
	c := s.conn
	if len(c.Heard) == 0 {
		return nil
	}
	b := c.Heard
	c.Heard = nil
	if router.Pins(s.pins.Load())&router.PinListen == 0 {
		return nil
	}
	for len(b) > 0 {
		m, rest := cutMessage(b)
		b = rest
		pid, channel, payload, err := wire.ParseNotification(m.mem[5:])
		if err != nil {
			return s.serverGone(err)
		}
		if n := s.notification(pid, channel, payload); n != nil {
			if err := c.Stream.Inject(n); err != nil {
				return s.serverError(err)
			}
		}
	}
	if err := c.Stream.Flush(); err != nil {
		return s.serverError(err)
	}
	return nil
}

// notification returns a notification as the client is to see it: from the sender
// as clients know it; nil when the listener delivers it, or has.
func (s *session) notification(pid uint32, channel, payload []byte) []byte {
	if s.chans != nil {
		if _, on := s.chans.on[string(channel)]; on {
			return nil
		}
	}
	if v := s.db.sender(pid); v != pid {
		pid = v
	} else if pid == s.conn.PID {
		pid = s.pid
	}
	b := wire.AppendNotificationResponse(nil, pid, channel, payload)
	if s.chans != nil && s.chans.moved[string(b)] > 0 {
		s.chans.moved[string(b)]--
		return nil
	}
	return b
}

// passAsync passes what the server says between two turns until its read deadline
// ends that, without error.
func (s *session) passAsync() error {
	st := &s.conn.Stream
	for {
		h, err := st.Next()
		if timedOut(err) {
			return nil
		}
		if err != nil {
			return s.asyncError(err)
		}
		body, err := st.Body(1 << 20)
		if timedOut(err) {
			return nil
		}
		if err != nil {
			return s.asyncError(err)
		}
		v, _ := s.cv.fromServer(h.Type)
		if err := s.onEvent(v, body); err != nil {
			return err
		}
		if st.Buffered() == 0 {
			if err := st.Flush(); err != nil {
				return s.asyncError(err)
			}
		}
	}
}

// asyncError says what an error between two turns means.
func (s *session) asyncError(err error) error {
	var we *wire.WriteError
	if errors.As(err, &we) {
		return errHungUp
	}
	return serverLost(err)
}
