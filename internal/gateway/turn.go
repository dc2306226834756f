package gateway

import (
	"errors"
	"time"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// maxName bounds messages that have little more than names in them, in bytes.
const maxName = 64 << 10

// turn reads what the client sends up to a point where it waits for an answer,
// passes the answers, and gives the server connection back if it may.
func (s *session) turn() error {
	if s.conn == nil {
		s.client.Release()
		if s.loop != nil && s.net == s.raw && s.client.Buffered() == 0 {
			s.loop.Await() // without a buffer
		}
	} else if err := s.awaitClient(); err != nil {
		return err
	}
	err := s.halves()
	if err == errAgain {
		if err = s.rewind(); err == nil {
			err = s.halves()
		}
	}
	if err != nil {
		return err
	}
	return s.settle()
}

// halves is a turn but for its beginning and its end.
func (s *session) halves() error {
	if err := s.clientHalf(); err != nil {
		return err
	}
	return s.serverHalf()
}

// clientHalf handles messages until the client awaits an answer and no more of it
// was read.
func (s *session) clientHalf() error {
	s.starts()
	awaited := false // an answer, to a message before the newest
	for {
		h, err := s.client.Next()
		if errors.Is(err, errHeard) {
			return nil
		}
		if err != nil {
			return s.clientError(err)
		}
		ends, err := s.message(&message{Header: h})
		if err != nil {
			return err
		}
		awaited = awaited || ends
		ends = ends && (s.client.Buffered() == 0 || h.Type == wire.Query || h.Type == wire.FunctionCall)
		// What awaits none may come behind one that does, in the same packet.
		if !ends && !s.cv.full() && (!awaited || s.client.Buffered() > 0) {
			continue
		}
		// The server answers nothing, and takes nothing of ours, before the message
		// is whole.
		if err := s.client.Finish(); err != nil {
			return s.clientError(err)
		}
		if ends {
			return nil
		}
		if err := s.drain(); err != nil {
			return err
		}
		awaited = false
	}
}

// clientError says what the end of the client's stream means.
func (s *session) clientError(err error) error {
	var we *wire.WriteError
	switch {
	case errors.As(err, &we):
		if s.conn == nil {
			return we.Err // found while the write stood aside
		}
		return s.serverGone(we.Err)
	case timedOut(err) && s.evicted.Load() != nil:
		return s.evicted.Load()
	case errors.Is(err, wire.ErrMessageLength):
		return violation("%v", err)
	}
	return err
}

// message handles one message of the client; ends says that the client awaits an
// answer now.
func (s *session) message(m *message) (ends bool, err error) {
	s.cv.pins, s.cv.doubts = 0, 0
	if (m.Type == wire.Query || m.Type == wire.Parse) && s.conn != nil && s.between() {
		if err := s.lend(catalogWait); err != nil {
			return false, err
		}
	}
	switch m.Type {
	case wire.Terminate:
		return false, errBye
	case wire.CopyData, wire.CopyDone, wire.CopyFail:
		return s.copyMessage(m)
	}
	if s.cv.copying {
		// A server that copies ignores Sync and Flush and fails the copy for
		// anything else; no reply of its own comes in either case.
		s.cv.copying = m.Type == wire.Sync || m.Type == wire.Flush
		s.forward(m)
		return !s.cv.copying, nil
	}
	if len(s.gathered) > 0 {
		if done, err := s.gather(m); done || err != nil {
			return m.Type == wire.Sync || m.Type == wire.Flush, err
		}
	}
	if s.cv.skip && m.Type != wire.Sync {
		s.leave(m) // the server would ignore it
		return m.Type == wire.Flush, nil
	}
	switch m.Type {
	case wire.Query:
		return true, s.onQuery(m)
	case wire.Parse:
		return false, s.onParse(m)
	case wire.Bind:
		return false, s.onBind(m)
	case wire.Describe:
		return false, s.onDescribe(m)
	case wire.Execute:
		return false, s.onExecute(m)
	case wire.Close:
		return false, s.onClose(m)
	case wire.Sync:
		return true, s.onSync(m)
	case wire.Flush:
		if s.conn != nil {
			s.forward(m)
		} else {
			s.leave(m)
		}
		return true, nil
	case wire.FunctionCall:
		return true, s.onFunctionCall(m)
	}
	return false, violation("invalid frontend message type %d", m.Type)
}

// copyMessage passes COPY's messages while the server takes them. Those that come
// after a failed COPY are ignored, as the server does.
func (s *session) copyMessage(m *message) (ends bool, err error) {
	if !s.cv.copying && s.cv.group && !s.cv.skip {
		// The client did not wait to hear whether its Execute copies.
		if err := s.drain(); err != nil {
			return false, err
		}
	}
	if !s.cv.copying {
		s.leave(m)
		return false, nil
	}
	s.forward(m)
	if m.Type == wire.CopyData {
		return false, nil
	}
	s.cv.copying = false
	return true, nil
}

// onQuery handles a simple query.
func (s *session) onQuery(m *message) error {
	if s.cv.queue.n > 0 || s.cv.group {
		if err := s.drain(); err != nil {
			return err
		}
		if s.cv.skip {
			s.leave(m)
			return nil
		}
	}
	plan, sql := unparsed, []byte(nil)
	body, err := s.body(m, s.srv.opt.MaxText)
	switch {
	case err == nil:
		if sql, err = wire.ParseQuery(body); err != nil {
			return violation("%v", err)
		}
		if err := s.await(sql); err != nil {
			return err
		}
		plan = s.plan(sql)
	case !errors.Is(err, wire.ErrBodyTooLarge):
		return s.clientError(err)
	}
	s.runs(plan)
	s.note(plan)
	if s.mode == Statement && begins(plan) {
		s.leave(m)
		return s.refuse(errStatementMode(), true)
	}
	switch plan.Action {
	case router.Pass:
		if plan.Names.Channel != nil && s.shares(plan) {
			if done, err := s.channelQuery(m, plan); done || err != nil {
				return err
			}
		}
	case router.Refused:
		s.leave(m)
		return s.refuse(refusal(plan.Refusal), true)
	case router.Local:
		s.leave(m)
		return s.localQuery(plan)
	case router.Rewrite, router.Cached:
		if s.mayAnswer(plan) {
			return s.answerQuery(m, plan, sql)
		}
		s.notAlone(plan, sql)
	}
	return s.passQuery(m, plan, sql)
}

// passQuery sends a simple query to the server as it is.
func (s *session) passQuery(m *message, plan *router.Plan, sql []byte) error {
	if err := s.needs(plan); err != nil {
		return err
	}
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, true)
	}
	if s.deallocates(plan) {
		s.leave(m)
		s.cv.expect(reply{msg: wire.Query, mode: fake, bytes: wire.AppendReadyForQuery(wire.AppendCommandComplete(nil, "DEALLOCATE"), s.cv.tx)})
		return nil
	}
	if err := s.showChannels(plan); err != nil {
		s.leave(m)
		return s.answer(err, true)
	}
	if e := s.unready(plan); e != nil {
		s.leave(m)
		return s.refuse(e, true)
	}
	if err := s.makeWay(plan); err != nil {
		return err
	}
	if err := s.executes(plan); err != nil {
		return err
	}
	if err := s.mark(plan, sql); err != nil {
		return err
	}
	s.unnamed.id = 0 // a simple query drops the unnamed statement
	s.conn.Unnamed = 0
	back := s.restores(plan)
	st, name := s.makes(plan, sql)
	if plan == unparsed {
		if err := s.follow(m, 5, nil); err != nil {
			return err
		}
	}
	s.cv.expect(reply{msg: wire.Query, plan: effects(plan), restored: len(back) > 0, stmt: st, name: name})
	s.forward(m)
	return s.injectEach(back)
}

// makeWay sends what has to stand on the connection, or to go from it, before statements
// of a plan run there.
func (s *session) makeWay(plan *router.Plan) error {
	if err := s.spoilPrepare(plan); err != nil {
		return err
	}
	if err := s.useNames(plan); err != nil {
		return err
	}
	return s.listenHere(plan)
}

// onSync ends an extended group.
func (s *session) onSync(m *message) error {
	if s.conn == nil {
		s.leave(m)
		s.cv.expect(reply{msg: wire.Sync, mode: fake, bytes: readyIdle})
		return nil
	}
	s.cv.expect(reply{msg: wire.Sync})
	s.forward(m)
	return nil
}

var readyIdle, flushMessage = wire.AppendReadyForQuery(nil, wire.Idle), wire.AppendFlush(nil)

// drain has everything that was sent answered before it returns.
func (s *session) drain() error {
	if s.cv.queue.n == 0 {
		return nil
	}
	if s.conn != nil && s.cv.group {
		if err := s.client.Inject(flushMessage); err != nil {
			return s.clientError(err)
		}
	}
	return s.serverHalf()
}

// effects returns plan if completions of its statements must be looked at.
func effects(plan *router.Plan) *router.Plan {
	if plan.Effects {
		return plan
	}
	return nil
}

// unparsed is the plan of a text too long to look into.
var unparsed = &router.Plan{Action: router.Pass, Reason: router.ReasonTooLong, Pins: router.PinUnparsed}

// plan returns the plan for a text under the session's settings. A client without a
// server connection waits for the catalog while a change that is not read yet has a
// say in it.
func (s *session) plan(sql []byte) *router.Plan {
	p := s.foresee(sql)
	if p != nil {
		s.generation = s.db.router.Generation()
		return p
	}
	sure := func() bool {
		s.generation = s.db.router.Generation()
		p = s.db.router.Plan(s.context(), sql)
		return s.db.certainOf(p) && s.generation == s.db.router.Generation()
	}
	if !sure() && s.conn == nil {
		s.awaiting.Store(awaitsCatalog)
		defer s.waits(time.Now())
		s.db.wait(s.patience(catalogWait), sure, func() bool { return s.awaiting.Load() == awaitCancelled })
		if s.awaiting.Swap(0) == awaitCancelled {
			return cancelledPlan
		}
	}
	return p
}

// States of session.awaiting.
const (
	awaitsCatalog = iota + 1
	awaitsSettings
	awaitCancelled
)

// cancelledPlan is the plan of a statement that was cancelled before it had one.
var cancelledPlan = &router.Plan{
	Action: router.Refused, Reason: router.ReasonPlain,
	Refusal: &router.Refusal{SQLState: "57014", Message: "canceling statement due to user request"},
}

// catalogWait is how long a client waits for the catalog to be read again after
// somebody changed it.
const catalogWait = 5 * time.Second
