package gateway

import (
	"bytes"
	"unsafe"

	"qvpgw/internal/wire"
)

// Most turns are one simple query with a plan that is Plain, of a client that keeps
// nothing. Of all that a message and a turn's end may have to do there remains, for
// them, to count and to pass: sendPlain is clientHalf without the rest, and
// settle leaves the rest out if settlesLight.

// sendPlain has the turn's message, which easy looked at, sent if it is of that kind.
func (s *session) sendPlain() bool {
	p := s.foreseen
	b, ok := s.client.Whole()
	if !ok || p == nil || !p.Plain || len(b) < 6 || b[0] != wire.Query || unsafe.SliceData(b[5:]) != s.foreseenFor {
		return false
	}
	m, _, e := cutEasy(b)
	if e != easyTurn || bytes.IndexByte(m[5:], 0) != len(m)-6 || s.conn == nil || s.ahead != nil || !s.keepsNothing() || !s.db.fresh.Load() {
		return false
	}
	s.generation = s.db.router.Generation()
	s.starts()
	s.runs(p)
	s.note(p)
	s.unnamed.id = 0 // a simple query drops the unnamed statement
	s.conn.Unnamed = 0
	s.cv.pins, s.cv.doubts = 0, 0
	s.cv.expect(reply{msg: wire.Query})
	s.client.ForwardRun(len(m))
	return true
}

// keepsNothing says that the session stands outside a transaction with nothing that a
// turn's end would have to look after.
func (s *session) keepsNothing() bool {
	return s.mode == Transaction && s.pins.Load() == 0 && s.kept == 0 && s.culprit == nil && s.chans == nil && !s.notifies &&
		s.cv.tx == wire.Idle && s.due == 0 && len(s.pending) == 0 && len(s.gathered) == 0 && len(s.doubts) == 0 && len(s.portals) == 0 &&
		!s.ddl && !s.perhapsDDL && !s.local && s.learned() != nil
}

// settlesLight says that a turn which sendPlain began ends with nothing but its
// connection to be given back.
func (s *session) settlesLight() bool {
	return s.light && s.conn != nil && s.between() && len(s.conn.Heard) == 0 && s.keepsNothing()
}
