package gateway

import (
	"encoding/binary"
	"unsafe"

	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// maxEasy bounds a turn of the first gear, in bytes and messages.
const (
	maxEasy         = writeAhead / 2
	maxEasyMessages = 64
)

// verdicts of easy.
type ease uint8

const (
	incomplete ease = iota // more has to arrive
	easyTurn               // a whole turn, nothing of which can block
	hardTurn
)

// easy looks whether what was read of the client is a whole turn of statements
// whose plans are known and which pass, so that nothing of it can block but for
// the wait for a server connection and for its replies.
func (s *session) easy() ease {
	if s.notifies || s.chans != nil && len(s.chans.pending) > 0 {
		return hardTurn // its end may wait for the listener
	}
	if !s.cv.idle() || s.evicted.Load() != nil || s.ddl || router.Pins(s.pins.Load())&router.PinCatalog != 0 || s.srv.isDraining() {
		return hardTurn
	}
	b := s.client.Unread()
	if len(b) < 5 {
		return incomplete
	}
	s.reads, s.rewrites = true, nil
	s.binds = s.binds[:0]
	if b[0] == wire.Query {
		m, _, e := cutEasy(b)
		if e != easyTurn {
			return e
		}
		if n := len(m); n < 6 || m[n-1] != 0 || !s.easyText(m[5:n-1], false) {
			return hardTurn
		}
		return easyTurn
	}
	if s.cv.tx == wire.FailedTx {
		return hardTurn // what ends it is waited for before the rest is looked at
	}
	return s.easyGroup(b)
}

// easyGroup is easy for an extended group.
func (s *session) easyGroup(b []byte) ease {
	var parsed []byte // the statement that the group prepares, if any
	prepares := false
	synced := false
	for range maxEasyMessages {
		m, rest, e := cutEasy(b)
		if e == incomplete && synced {
			return hardTurn // an answer is awaited already
		}
		if e != easyTurn {
			return e
		}
		switch body := m[5:]; m[0] {
		case wire.Parse:
			name, sql, _, err := wire.ParseParse(body)
			if err != nil || !s.easyText(sql, true) {
				return hardTurn
			}
			parsed, prepares = name, true
		case wire.Bind:
			_, name, _, err := wire.BindNames(body)
			if err != nil {
				return hardTurn
			}
			if prepares && string(name) == string(parsed) {
				break
			}
			st := s.lookup(name)
			if st == nil || !s.easyStatement(st) {
				return hardTurn
			}
			s.binds = append(s.binds, st)
		case wire.Describe, wire.Execute, wire.Close:
		case wire.Sync:
			if len(rest) == 0 {
				return easyTurn
			}
			synced = true
		default:
			return hardTurn
		}
		b = rest
	}
	return hardTurn
}

// cutEasy cuts the first message off b; easyTurn: it is whole.
func cutEasy(b []byte) (m, rest []byte, e ease) {
	if len(b) < 5 {
		return nil, nil, incomplete
	}
	n := binary.BigEndian.Uint32(b[1:])
	switch {
	case n < 4 || n >= maxEasy:
		return nil, nil, hardTurn
	case int(n)+1 > len(b):
		return nil, nil, incomplete
	}
	return b[:n+1], b[n+1:], easyTurn
}

// easyText says whether a text has a known plan that passes.
func (s *session) easyText(sql []byte, group bool) bool {
	if !s.db.fresh.Load() {
		return false
	}
	p := s.db.router.KnownLike(&s.hint, s.context(), sql)
	switch {
	case p == nil:
		return false
	case p.Action == router.Rewrite:
		if group {
			return false
		}
		if s.rewrites = s.rewritable(p, sql); s.rewrites == nil {
			return false
		}
		s.reads = false // no settings go ahead of it
	case !s.easyPlan(p, group):
		return false
	}
	s.foreseen, s.foreseenFor = p, unsafe.SliceData(sql)
	return true
}

// easyStatement is easyText for a prepared statement.
func (s *session) easyStatement(st *statement) bool {
	if len(st.sql) == 0 || st.own || st.bySQL || !s.db.fresh.Load() {
		return false
	}
	if p := st.now.Load(); p != nil && p.context == s.context() && p.generation == s.db.router.Generation() {
		return s.easyPlan(p.plan, true)
	}
	p := s.db.router.Known(s.context(), st.sql)
	return p != nil && s.easyPlan(p, true)
}

// easyPlan says whether what passes under a plan can neither block nor needs an
// answer before the messages behind it.
func (s *session) easyPlan(p *router.Plan, group bool) bool {
	if n := &p.Names; n.Notifies || n.Listening || n.Channel != nil || n.Prepared || len(n.Executes) > 0 {
		return false
	}
	if !s.passable(p) || p.Pins != 0 || len(p.Warnings) > 0 || p.Moving {
		return false
	}
	for i := range p.Statements {
		s.reads = s.reads && !p.Effects && p.Statements[i].Kind == sqltext.Select
	}
	if !p.Effects {
		return true
	}
	for i := range p.Statements {
		switch st := &p.Statements[i]; st.Kind {
		case sqltext.Copy, sqltext.Discard, sqltext.Deallocate, sqltext.Prepare, sqltext.Execute, sqltext.Unlisten:
			return false
		default:
			if group && st.Setting != nil {
				return false
			}
		}
	}
	return true
}

// passable says whether a turn that begins now passes what a plan is of, whether or not
// it could be answered otherwise.
func (s *session) passable(p *router.Plan) bool {
	switch p.Action {
	case router.Pass:
		return true
	case router.Cached:
		return !s.lone() || s.freshnessOf(p.KNN.Table) == FreshOff || s.db.memory.of(p.KNN.Table).vainly()
	}
	return false
}

// foresee returns the plan that easy found for this very text.
func (s *session) foresee(sql []byte) *router.Plan {
	p := s.foreseen
	if p != nil && unsafe.SliceData(sql) == s.foreseenFor {
		return p
	}
	return nil
}
