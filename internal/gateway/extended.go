package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// namesPrefix is how much of a Bind is looked at for its two names.
const namesPrefix = 8 << 10

// onBind handles a Bind. Of its body only the two names are looked at.
func (s *session) onBind(m *message) error {
	if left, err := s.awaitFate(m); left || err != nil {
		return err
	}
	head, err := s.prefix(m, namesPrefix)
	if err != nil {
		return s.clientError(err)
	}
	s.tally().binds.Add(1)
	portal, name, n, err := wire.BindNames(head)
	if err != nil {
		return violation("%v", err)
	}
	if s.long != nil {
		if err := s.client.Flush(); err != nil { // it is judged with its last byte
			return s.clientError(err)
		}
	}
	st := s.successor(m, s.lookup(name))
	plan := unparsed
	if st != nil {
		plan = s.planOf(st)
		if s.mode == Statement && begins(plan) {
			s.leave(m)
			return s.refuse(errStatementMode(), false)
		}
		switch plan.Action {
		case router.Refused:
			s.note(plan)
			s.leave(m)
			return s.refuse(refusal(plan.Refusal), false)
		case router.Local:
			s.leave(m)
			if plan.Local.Kind == router.LocalChannel && s.cv.tx == wire.FailedTx {
				return s.refuse(errAborted(), false)
			}
			s.setPortal(portal, st)
			s.cv.expect(reply{msg: wire.Bind, mode: fake, bytes: bindComplete})
			return nil
		case router.Rewrite, router.Cached:
			if m.mem == nil && s.mayAnswer(plan) {
				if held, err := s.startGather(); held || err != nil {
					return err
				}
			}
		}
	} else if e := s.unknownStatement(name); e != nil {
		s.leave(m)
		return s.refuse(e, false)
	}
	s.runs(plan)
	if err := s.needs(plan); err != nil {
		return err
	}
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, false)
	}
	here := false // under the client's own name, as what lists them must find it
	if st == nil {
		if err := s.claim(); err != nil {
			return err
		}
	} else {
		if err := s.showChannels(plan); err != nil {
			s.leave(m)
			return s.answer(err, false)
		}
		if err := s.makeWay(plan); err != nil {
			return err
		}
		if s.cv.skip {
			s.leave(m)
			return nil
		}
		if err := s.executes(plan); err != nil {
			return err
		}
		if here = plan.Names.Prepared && s.placed(string(told(name)), st); !here {
			err := s.prepare(st)
			if next := s.successor(m, st); err != nil && next != st {
				st = next
				err = s.prepare(st)
			}
			if err != nil {
				return s.unprepared(m, err)
			}
		}
		if s.cv.skip {
			s.leave(m) // it failed meanwhile
			return nil
		}
		if !s.decided {
			s.note(plan)
			if plan.Action == router.Rewrite || plan.Action == router.Cached {
				s.notAlone(plan, st.sql)
			}
		}
		text := st.sql
		if st.isLong() {
			text = st.skeleton
		}
		if err := s.mark(plan, text); err != nil {
			return err
		}
	}
	s.setPortal(portal, st)
	if here || st == nil || st.own || st.name == "" {
		s.cv.expect(reply{msg: wire.Bind})
		s.forward(m)
		return nil
	}
	s.cv.expect(reply{msg: wire.Bind, of: shared(st)})
	b := wire.AppendBindHead(s.scratch[:0], portal, st.name, m.Len-n)
	s.scratch = b[:0]
	s.replace(m, 5+n, b)
	return nil
}

// unknownStatement is the error for a name that the client has not prepared, but
// that stands for a statement on the server connection: another client's, or a shared
// one. Nil for a name that the server is to look for, after claim.
func (s *session) unknownStatement(name []byte) *Error {
	switch {
	case len(name) == 0:
		return &Error{Code: "26000", Message: "unnamed prepared statement does not exist"}
	case bytes.HasPrefix(name, []byte(injected)), s.conn != nil && s.cv.tx == wire.FailedTx && s.conn.Own[string(told(name))] != 0:
		return &Error{Code: "26000", Message: "prepared statement \"" + string(name) + "\" does not exist"}
	}
	return nil
}

// shared returns st if it is one that clients share, else nil.
func shared(st *statement) *statement {
	if st == nil || st.own || st.bySQL || st.name == "" {
		return nil
	}
	return st
}

// unprepared answers a message whose statement cannot be prepared.
func (s *session) unprepared(m *message, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Fatal {
		return err
	}
	s.leave(m)
	return s.refuse(e, false)
}

// setPortal notes which statement a portal runs.
func (s *session) setPortal(name []byte, st *statement) {
	if len(name) == 0 {
		s.portal = st
		return
	}
	if s.portals == nil {
		s.portals = map[string]*statement{}
	}
	s.portals[string(told(name))] = st
}

func (s *session) portalOf(name []byte) *statement {
	if len(name) == 0 {
		return s.portal
	}
	return s.portals[string(told(name))]
}

// onDescribe handles a Describe of a statement or portal.
func (s *session) onDescribe(m *message) error {
	if s.cv.tx == wire.FailedTx {
		if left, err := s.awaitFate(m); left || err != nil {
			return err
		}
	}
	body, err := s.body(m, maxName)
	if err != nil {
		return s.bodyError(err)
	}
	kind, name, err := wire.ParseDescribe(body)
	if err != nil {
		return violation("%v", err)
	}
	st := s.portalOf(name)
	if kind == 'S' {
		st = s.lookup(name)
		if e := s.unknownStatement(name); st == nil && e != nil {
			s.leave(m)
			return s.refuse(e, false)
		}
	}
	if st != nil && st.plan.Action == router.Local {
		s.leave(m)
		s.cv.expect(reply{msg: wire.Describe, mode: fake, bytes: s.describeLocal(st.plan.Local, kind == 'S')})
		return nil
	}
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, false)
	}
	if kind == 'S' && st == nil {
		if err := s.claim(); err != nil {
			return err
		}
	}
	if kind == 'S' && st != nil {
		if err := s.prepare(st); err != nil {
			return s.unprepared(m, err)
		}
		if s.cv.skip {
			s.leave(m) // it failed meanwhile
			return nil
		}
		if st.name != "" && !st.own {
			b := wire.AppendDescribe(s.scratch[:0], 'S', st.name)
			s.scratch = b[:0]
			r := reply{msg: wire.Describe}
			if s.fetches(st.plan) {
				r.plan = st.plan
			}
			s.cv.expect(r)
			s.replaceAll(m, b)
			return nil
		}
	}
	r := reply{msg: wire.Describe}
	if st != nil && s.fetches(st.plan) {
		r.plan = st.plan
	}
	s.cv.expect(r)
	s.forward(m)
	return nil
}

// replaceAll sends b instead of the message.
func (s *session) replaceAll(m *message, b []byte) {
	_ = s.client.Inject(b) // an error comes again at the next flush
	s.leave(m)
}

// onExecute handles an Execute.
func (s *session) onExecute(m *message) error {
	body, err := s.body(m, maxName)
	if err != nil {
		return s.bodyError(err)
	}
	portal, _, err := wire.ParseExecute(body)
	if err != nil {
		return violation("%v", err)
	}
	st := s.portalOf(portal)
	if st != nil && st.plan.Action == router.Local {
		s.leave(m)
		s.cv.expect(reply{msg: wire.Execute, mode: fake, local: st.plan.Local, bytes: s.executeLocal(st.plan.Local)})
		return nil
	}
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, false)
	}
	r := reply{msg: wire.Execute}
	if st != nil {
		r.stmt, r.name = s.makes(st.plan, st.sql)
		if s.deallocates(st.plan) {
			s.leave(m)
			s.cv.expect(reply{msg: wire.Execute, mode: fake, bytes: wire.AppendCommandComplete(nil, "DEALLOCATE")})
			return nil
		}
		r.plan = effects(st.plan)
	}
	var back []string
	if r.plan != nil {
		back = s.restores(r.plan)
		r.restored = len(back) > 0
	}
	s.cv.expect(r)
	s.forward(m)
	return s.injectEach(back)
}

// onClose handles a Close. Shared statements stay on the server connection.
func (s *session) onClose(m *message) error {
	body, err := s.body(m, maxName)
	if err != nil {
		return s.bodyError(err)
	}
	kind, name, err := wire.ParseClose(body)
	if err != nil {
		return violation("%v", err)
	}
	here := false
	if kind == 'S' {
		st := s.lookup(name)
		switch {
		case st == nil:
			here = s.conn == nil || s.unknownStatement(name) != nil
			if !here {
				if err := s.claim(); err != nil {
					return err
				}
			}
		case len(name) == 0:
			here = s.conn == nil || s.conn.Unnamed != st.id
			if !here {
				s.conn.Unnamed = 0
			}
			s.unnamed.id = 0
		default:
			here = !st.own && !s.placed(string(told(name)), st) || st.plan.Action == router.Local
			s.forget(string(told(name)))
		}
	} else {
		st := s.portalOf(name)
		here = s.conn == nil || st != nil && st.plan.Action == router.Local
		s.setPortal(name, nil)
	}
	if here {
		s.leave(m)
		s.cv.expect(reply{msg: wire.Close, mode: fake, bytes: closeComplete})
		return nil
	}
	s.cv.expect(reply{msg: wire.Close})
	s.forward(m)
	return nil
}

// bodyError is clientError for a message that must be short.
func (s *session) bodyError(err error) error {
	if errors.Is(err, wire.ErrBodyTooLarge) {
		return violation("%v", err)
	}
	return s.clientError(err)
}

// lone says whether a statement may be answered in another way than by the server
// running it: nothing is open, pinned or under way (trap T4).
func (s *session) lone() bool {
	return s.cv.idle() && s.cv.tx == wire.Idle && s.conn == nil && s.pins.Load() == 0 && len(s.pending) == 0 && s.mode != Session
}

// mayAnswer says whether that holds for a plan: one that reads an aggregate may be inside
// a transaction, and in the first gear the connection is there already.
func (s *session) mayAnswer(plan *router.Plan) bool {
	return s.lone() || plan.Action == router.Rewrite && (s.within() || s.rewrites != nil)
}

// maxGather bounds an extended group that is held back to see whether it is one
// statement alone, in bytes.
const maxGather = 64 << 10

// startGather begins to hold back the group that the current message opens; false
// when the message is too long for that.
func (s *session) startGather() (bool, error) {
	if _, err := s.client.Body(maxGather); err != nil {
		if errors.Is(err, wire.ErrBodyTooLarge) {
			return false, nil
		}
		return false, s.clientError(err)
	}
	s.gathered = append(s.gathered[:0], s.client.Message()...)
	s.client.Drop()
	s.decided = false
	return true, nil
}

// gather adds a message to the group held back. At its Sync the group is answered
// if it is one statement alone; any other shape of group is passed on as it came.
func (s *session) gather(m *message) (done bool, err error) {
	fits := m.Type == wire.Bind || m.Type == wire.Describe || m.Type == wire.Execute || m.Type == wire.Sync
	if !fits || len(s.gathered)+m.Len+5 > maxGather {
		return false, s.passGathered()
	}
	if _, err := s.client.Body(maxGather); err != nil {
		return false, s.clientError(err)
	}
	s.gathered = append(s.gathered, s.client.Message()...)
	s.client.Drop()
	if m.Type != wire.Sync {
		return true, nil
	}
	if g, ok := s.loneGroup(s.gathered); ok {
		answered, err := s.answerGroup(g)
		if answered || err != nil {
			s.gathered = s.gathered[:0]
			return true, err
		}
	}
	return true, s.passGathered()
}

// passGathered handles the messages held back as if they came now.
func (s *session) passGathered() error {
	g := s.gathered
	s.gathered = nil
	for b := g; len(b) > 0; {
		m, rest := cutMessage(b)
		if _, err := s.message(m); err != nil {
			return err
		}
		b = rest
	}
	s.gathered = g[:0]
	return nil
}

// cutMessage cuts the first message off b, which holds whole messages.
func cutMessage(b []byte) (m *message, rest []byte) {
	n := int(binary.BigEndian.Uint32(b[1:])) + 1
	return &message{Header: wire.Header{Type: b[0], Len: n - 5}, mem: b[:n]}, b[n:]
}
