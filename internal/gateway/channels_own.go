package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// foreign says whether channels that the client listens to by way of the listener
// belong onto its own connection: it has chosen another client_encoding since, or that
// listens already, and what comes is to have one order.
func (s *session) foreign() bool {
	c := s.chans
	return c != nil && len(c.on) > 0 &&
		(router.Pins(s.pins.Load())&router.PinListen != 0 || c.encoding != s.params.value("client_encoding"))
}

// moveChannels has the client's own connection, which it keeps from then on, listen to
// them. What is sent meanwhile is heard on both and passed once.
func (s *session) moveChannels() error {
	c := s.chans
	if c == nil {
		return nil
	}
	c.moved = nil
	if !s.foreign() {
		return nil
	}
	var b strings.Builder
	for _, name := range c.inOrder() {
		b.WriteString("LISTEN " + catalog.Quote(name) + ";")
	}
	texts := []string{b.String()}
	if !ascii(texts[0]) {
		// The names are as the client wrote them; a text is read before any of it runs,
		// and nothing is heard in a transaction.
		texts = []string{"BEGIN; SET LOCAL client_encoding TO " + catalog.Literal(c.encoding), texts[0], "COMMIT"}
	}
	s.pin(router.PinListen)
	for _, sql := range texts {
		_, err := s.conn.Query(sql, switchTimeout)
		s.conn.Stream.SetDst(s.net)
		var se *pool.ServerError
		if errors.As(err, &se) {
			return &Error{Code: se.Fields.Code, Message: "cannot LISTEN: " + se.Fields.Message, Fatal: true, Err: err}
		}
		if err != nil {
			return s.serverGone(err)
		}
	}
	s.db.listener.barrier()
	for name := range c.on {
		s.db.listener.unsubscribe(s, name)
	}
	clear(c.on)
	if err := s.passMoved(); err != nil {
		return err
	}
	if err := s.conn.Stream.Flush(); err != nil {
		return s.serverError(err)
	}
	return nil
}

// passMoved passes what the listener has heard, in the encoding that the client has now.
func (s *session) passMoved() error {
	c := s.chans
	c.moved = map[string]int{}
	for b := s.takeMail(); len(b) > 0; {
		m, rest := cutMessage(b)
		b = rest
		n := m.mem
		if pid, channel, payload, err := wire.ParseNotification(n[5:]); err == nil && !ascii(string(n[9:])) {
			texts, err := s.convert(c.encoding, channel, payload)
			if err != nil {
				return err
			}
			n = wire.AppendNotificationResponse(nil, pid, []byte(texts[0]), []byte(texts[1]))
		}
		c.moved[string(n)]++
		if err := s.conn.Stream.Inject(n); err != nil {
			return s.serverError(err)
		}
	}
	return nil
}

// convert returns texts, which are in an encoding, in the connection's.
func (s *session) convert(encoding string, texts ...[]byte) ([]string, error) {
	var b strings.Builder
	for i, text := range texts {
		fmt.Fprintf(&b, "%s pg_catalog.convert_from('\\x%x', %s)", [...]string{"SELECT", ","}[min(i, 1)], text, catalog.Literal(encoding))
	}
	rows, err := s.conn.Query(b.String(), switchTimeout)
	s.conn.Stream.SetDst(s.net)
	var se *pool.ServerError
	if errors.As(err, &se) || err == nil && (len(rows) != 1 || len(rows[0]) != len(texts)) {
		// As when the server cannot tell it: it has ended the session then.
		return nil, &Error{Code: "57P01", Message: "terminating connection because a notification cannot be converted to the client's encoding", Fatal: true, Err: err}
	}
	if err != nil {
		return nil, s.serverGone(err)
	}
	out := make([]string, len(texts))
	for i, v := range rows[0] {
		out[i] = *v
	}
	return out, nil
}

// spoilPrepare has the server refuse PREPARE TRANSACTION, as it does after a LISTEN, or
// an UNLISTEN in a session that has listened, where it was told of none.
func (s *session) spoilPrepare(plan *router.Plan) error {
	c := s.chans
	if c == nil || s.cv.tx == wire.FailedTx || !slices.ContainsFunc(c.pending, func(x channelStep) bool { return !x.savepoint && (!x.Off || c.encoding != "") }) {
		return nil
	}
	for i := range plan.Statements {
		if plan.Statements[i].Kind == sqltext.PrepareTransaction {
			return s.inject("LISTEN " + injected)
		}
	}
	return nil
}
