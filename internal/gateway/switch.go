package gateway

import (
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// Restoring a client's settings on a server connection that another client had
// costs a round trip. Ahead of reads it does not: the settings are sent with the
// statement, as a message of our own in front of it. Should they be refused after
// all, the statement has run under another client's settings, so nothing of its
// reply is passed and the session ends; a write would have happened, so it waits.

// switchAhead has the settings of the session sent ahead of the turn's first
// message, if they may be: the connection was given by the pool and not used yet.
func (s *session) switchAhead(c *pool.Conn) bool {
	if !s.reads || s.renew {
		return false
	}
	m, ok := c.SwitchMessage(s.bucket)
	if ok {
		s.ahead = m
	}
	return ok
}

// sendAhead sends the settings that switchAhead found.
func (s *session) sendAhead() error {
	m := s.ahead
	s.ahead = nil
	s.conn.Bucket, s.conn.Unnamed = s.bucket, 0
	s.cv.expect(reply{msg: wire.Query, mode: drop, ahead: true})
	if err := s.client.Inject(m); err != nil {
		return s.clientError(err)
	}
	return nil
}

// inForce is called when the settings sent ahead have been taken.
func (s *session) inForce() {
	c := s.conn
	s.held.Store(c)
	if s.awaiting.Swap(0) == awaitCancelled && c.BeginCancel(s.owner) {
		go func() { _ = c.Cancel(s.cancelContext()) }()
	}
}

// aheadFailed ends a session whose settings were refused although they had been
// taken before.
func (s *session) aheadFailed(body []byte) error {
	e := &Error{Code: "08006", Message: "cannot restore the session's settings", Hint: "Connect again.", Fatal: true}
	if f, err := wire.ParseErrorFields(body); err == nil {
		e.Code, e.Detail = f.Code, f.Message
	}
	s.awaiting.Store(0)
	s.lose()
	return e
}
