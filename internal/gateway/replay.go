package gateway

import (
	"errors"
	"time"

	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// A turn is run a second time, once, when that cannot be told from its first
// attempt: it began outside a transaction, nothing of its reply has left, the
// client's messages are still in its Stream, and either its server connection was
// lost and it has reads alone, or the server refused to run a statement whose
// columns had changed and the client asks for the columns it gets.

// errAgain has the turn run again; it never leaves the session.
var errAgain = errors.New("the turn is to be run again")

// againWithin bounds the age of a turn whose server connection was lost: one that
// took longer did run, and was perhaps ended because it did.
const againWithin = time.Second

// attempt is what a session knows of the turn under way.
type attempt struct {
	may      bool // it began where it may be run again
	second   bool // it is being run again
	pure     bool // so far it has reads alone
	since    time.Time
	now      time.Time // since, until its statement is noted
	reshaped bool      // the rest of the refused attempt is swallowed
}

// starts begins an attempt.
func (s *session) starts() {
	a := &s.attempt
	a.may = s.cv.idle() && s.cv.tx == wire.Idle && s.pins.Load() == 0 && s.mode != Session && !s.renew &&
		len(s.pending) == 0 && len(s.gathered) == 0 && len(s.out) == 0 && !a.second
	a.pure, a.reshaped, a.since = true, false, time.Time{}
	a.now = time.Time{}
	if a.may {
		s.client.Mark()
	}
}

// runs takes note of a plan of the turn.
func (s *session) runs(p *router.Plan) {
	a := &s.attempt
	if !a.may || !a.pure {
		return
	}
	if a.since.IsZero() {
		a.since = pool.Now()
		a.now = a.since
	}
	a.pure = p.Action == router.Pass && p.Pins == 0 && !p.Effects && !p.Moving && len(p.Warnings) == 0
	for i := range p.Statements {
		a.pure = a.pure && p.Statements[i].Kind == sqltext.Select
	}
}

// untold says that the turn may be run again as far as the client has heard.
func (s *session) untold() bool {
	if !s.attempt.may || s.conn == nil || s.pins.Load() != 0 || len(s.out) > 0 {
		return false
	}
	_, sent := s.conn.Stream.Counts()
	return sent == s.sentBefore && !s.conn.Stream.Pending()
}

// survives says whether the turn can be run again on another server connection.
func (s *session) survives() bool {
	a := &s.attempt
	if !s.untold() || !a.pure || a.since.IsZero() || time.Since(a.since) > againWithin || s.conn.Cancelled() {
		return false
	}
	for i := range s.cv.queue.n {
		if s.cv.queue.at(i).mode == fake {
			return false
		}
	}
	return turnOf(s.client.Marked(), false)
}

// shutdown says whether an error is the server's word that it ends the connection.
func shutdown(f *wire.ErrorFields) bool {
	return f.Code == "57P01" || f.Code == "57P02" || f.Code == "57P03"
}

// reshape has the turn run again once the reply to it, whose first message is the
// server's refusal of a statement with other columns, is over.
func (s *session) reshape() bool {
	q := &s.cv.queue
	if !s.untold() || q.n != 1 || q.head().msg != wire.Sync || !turnOf(s.client.Marked(), true) {
		return false
	}
	q.head().mode = drop
	s.attempt.reshaped = true
	return true
}

// turnOf says whether b is one simple query or one extended group with its Sync;
// described: a group that prepares nothing and asks for the columns of what its
// first Bind bound.
func turnOf(b []byte, described bool) bool {
	first := true
	for len(b) >= 5 {
		m, rest, e := cutEasy(b)
		if e != easyTurn {
			return false
		}
		switch m[0] {
		case wire.Query, wire.Sync:
			return len(rest) == 0 && (m[0] == wire.Sync || first && !described)
		case wire.Bind:
			if described && first && !follows(m, rest) {
				return false
			}
		case wire.Parse:
			if described {
				return false
			}
		case wire.Describe, wire.Execute:
			if described && first {
				return false
			}
		default:
			return false
		}
		b, first = rest, false
	}
	return false
}

// follows says whether a client that sends the Bind m and behind it rest will take
// its rows by the columns that it is told then: it asks for them, and has not chosen
// a format for each of those that it knows.
func follows(m, rest []byte) bool {
	bind, err := wire.ParseBind(m[5:], nil)
	return err == nil && bind.ResultFormats.Len() <= 1 && describes(rest, bind.Portal)
}

// describes says whether the messages b ask for the columns of the portal before
// they run it.
func describes(b []byte, portal []byte) bool {
	for len(b) >= 5 {
		m, rest, e := cutEasy(b)
		if e != easyTurn {
			return false
		}
		switch m[0] {
		case wire.Describe:
			if kind, name, err := wire.ParseDescribe(m[5:]); err == nil && kind == 'P' && string(name) == string(portal) {
				return true
			}
		case wire.Execute, wire.Bind, wire.Sync:
			return false
		}
		b = rest
	}
	return false
}

// rewind makes the session as it was before the turn.
func (s *session) rewind() error {
	v := &s.cv
	for _, d := range v.dead {
		s.parseFailed(d)
	}
	for h := v.queue.head(); h != nil; h = v.queue.head() {
		if h.msg == wire.Parse && h.stmt != nil {
			s.parseFailed(deadParse{h.stmt, h.name, h.placed})
		}
		v.queue.pop()
	}
	clear(v.dead)
	v.dead = v.dead[:0]
	v.tx, v.copying, v.skip, v.group = wire.Idle, false, false, false
	v.pins, v.undone, v.lost, v.mute = 0, 0, false, false
	s.portal = nil
	clear(s.portals)
	s.binds, s.ahead, s.decided, s.foreseen = s.binds[:0], nil, false, nil
	s.attempt.second, s.attempt.may = true, false
	if !s.client.Rewind() {
		return serverLost(errAgain)
	}
	return nil
}

// successor returns the statement that stands for one whose columns have changed
// when the message m, a Bind of it, is of a client that follows them. Else st, which is refused.
func (s *session) successor(m *message, st *statement) *statement {
	if st == nil || !st.retired.Load() || m.mem != nil {
		return st
	}
	b := s.client.Unread()
	if bind, rest, e := cutEasy(b); e != easyTurn || !follows(bind, rest) {
		return st
	}
	for st.retired.Load() {
		st = s.srv.stmts.succeed(s.pool, st)
	}
	return st
}

// succeed returns the statement of the same text as st, which is retired.
func (t *statements) succeed(p *pool.Pool, st *statement) *statement {
	if next := st.next.Load(); next != nil {
		return next
	}
	next := t.get(p, st.bucket, st.plan, st.sql, st.oids, st.key != "")
	if !st.next.CompareAndSwap(nil, next) {
		t.put(next)
	}
	return st.next.Load()
}
