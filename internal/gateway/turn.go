package gateway

import (
	"errors"
	"slices"
	"time"

	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
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
	return false, violation("unexpected message type %q", m.Type)
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
	if err := s.spoilPrepare(plan); err != nil {
		return err
	}
	if err := s.useNames(plan); err != nil {
		return err
	}
	if err := s.listenHere(plan); err != nil {
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

// mark notes what a plan that is about to be sent does to the connection.
func (s *session) mark(plan *router.Plan, sql []byte) error {
	s.wrote = s.wrote || !reads(plan)
	s.noteNotify(plan)
	certain := s.certain(plan, sql)
	s.conn.Once = s.conn.Once || plan.Loads
	s.pinFor(plan, plan.Pins|unsure(plan, certain), sql)
	if len(plan.Warnings) > 0 {
		if err := s.warn(plan); err != nil {
			return err
		}
	}
	if plan.Pins&router.PinUnparsed != 0 {
		s.perhapsDDL = true // it may hold anything
		return s.useSequences(true)
	}
	if !plan.Effects {
		return nil
	}
	for i := range plan.Statements {
		if st := &plan.Statements[i]; st.Nextval || st.Currval {
			if err := s.useSequences(st.Currval); err != nil {
				return err
			}
		}
	}
	s.noteEffects(plan, certain)
	return nil
}

// reads says that a plan's statements are queries that call nothing of which it is not
// known that it only reads.
func reads(plan *router.Plan) bool {
	if plan.Pins != 0 || plan.Effects || len(plan.Statements) == 0 {
		return false
	}
	for i := range plan.Statements {
		if plan.Statements[i].Kind != sqltext.Select {
			return false
		}
	}
	return true
}

// noteEffects notes what a plan does to the catalog.
func (s *session) noteEffects(plan *router.Plan, certain bool) {
	runs, unnamed := false, false
	for i := range plan.Statements {
		st := &plan.Statements[i]
		if st.DDL && runsCode[st.Kind] && !st.Logins {
			s.perhapsDDL = true
		} else {
			// What is dropped although the catalog has not got it is temporary, or new.
			s.ddl = s.ddl || st.DDL || !certain && st.Kind == sqltext.DDL && len(plan.Change.Names) > 0
			runs = runs || st.DDL
			unnamed = unnamed || st.DDL && st.Kind != sqltext.DDL // code that it runs does it
			s.logins = s.logins || st.Logins
		}
	}
	if s.ddl {
		s.change.Add(plan.Change)
		// Code of a user that it runs, and is not known yet, may change anything.
		s.change.Any = s.change.Any || unnamed || runs && !certain || len(s.change.Names) > maxChanged
	}
}

// maxChanged bounds the names that a transaction's changes are told apart by.
const maxChanged = 1000

// runsCode are the kinds of statements that change the catalog only if the user's
// code that they run does. That is looked for in the background, like a change
// that is made beside the gateway: to stop everybody for each call of a function
// would starve them.
var runsCode = map[sqltext.Kind]bool{
	sqltext.Do: true, sqltext.Call: true, sqltext.Select: true, sqltext.With: true, sqltext.Insert: true,
	sqltext.Update: true, sqltext.Delete: true, sqltext.Merge: true, sqltext.Copy: true, sqltext.Explain: true,
	sqltext.Execute: true, sqltext.Declare: true, sqltext.Fetch: true,
}

// certain says that the plan is that of the catalog as it is: no change that is not
// read yet has a say in it, be it of others or of this transaction.
func (s *session) certain(plan *router.Plan, sql []byte) bool {
	if g := s.db.router.Generation(); g != s.generation && len(sql) > 0 {
		s.generation = g // it waited for a server connection since
		if now := s.db.router.Plan(s.context(), sql); now.Pins&^plan.Pins != 0 || !s.db.certainOf(now) {
			return false
		}
	}
	return s.db.certainOf(plan) && !(s.ddl && has(s.change, plan))
}

// has says whether a change has a say in a plan.
func has(c router.Change, plan *router.Plan) bool {
	return c.Any || plan.Mentions(func(id router.Identifier) bool { return slices.Contains(c.Names, id) })
}

// unsure returns PinCatalog for a plan whose statements may run code that it does
// not know of: it is not certain, or a statement before them changes the catalog.
func unsure(plan *router.Plan, certain bool) router.Pins {
	for i := range plan.Statements {
		switch st := &plan.Statements[i]; st.Kind {
		case sqltext.Select, sqltext.With, sqltext.Insert, sqltext.Update, sqltext.Delete, sqltext.Merge, sqltext.Copy, sqltext.Explain, sqltext.Declare, sqltext.Truncate,
			sqltext.Do, sqltext.Call:
			if !certain {
				return router.PinCatalog
			}
		case sqltext.DDL:
			if !certain && plan.Pins&(router.PinFunction|router.PinRelation) != 0 {
				return router.PinCatalog // against what is not there any more, perhaps
			}
			certain = false
		}
	}
	return 0
}

// inject runs a statement of our own before the client's next message; its reply
// is dropped.
func (s *session) inject(sql string) error { return s.injectFor(sql, reply{}) }

// injectFor is inject for a statement whose failure r tells of.
func (s *session) injectFor(sql string, r reply) error {
	r.mode = drop
	b := s.scratch[:0]
	if !s.cv.group {
		r.quiet = s.quiet
		b = wire.AppendQuery(b, sql)
		s.conn.Unnamed = 0
		r.msg = wire.Query
		s.cv.expect(r)
	} else {
		b = wire.AppendParse(b, injected, sql, nil)
		b = wire.AppendBind(b, injected, injected, nil, nil, nil)
		b = wire.AppendExecute(b, injected, 0)
		b = wire.AppendClose(b, 'S', injected)
		b = wire.AppendClose(b, 'P', injected)
		for _, msg := range [...]byte{wire.Parse, wire.Bind, wire.Execute, wire.Close, wire.Close} {
			x := reply{msg: msg, mode: drop}
			if msg == wire.Parse || msg == wire.Execute {
				x.stmt, x.name, x.placed = r.stmt, r.name, r.placed
			}
			s.cv.expect(x)
		}
	}
	s.scratch = b[:0]
	if err := s.client.Inject(b); err != nil {
		return s.clientError(err)
	}
	return nil
}

// injected is the name of statements and portals of our own.
const injected = "_qvpgw"

// message is one message of the client: still in its Stream, or gathered from it.
type message struct {
	wire.Header
	mem []byte // the whole message when it was gathered
}

// body returns the message's body, at most limit bytes of it.
func (s *session) body(m *message, limit int) ([]byte, error) {
	if m.mem != nil {
		return m.mem[5:], nil
	}
	return s.client.Body(limit)
}

// prefix returns the first n bytes of the body, or all of a shorter one.
func (s *session) prefix(m *message, n int) ([]byte, error) {
	if m.mem != nil {
		return m.mem[5:min(len(m.mem), n+5)], nil
	}
	return s.client.Prefix(n)
}

// forward sends the message as it is.
func (s *session) forward(m *message) {
	if m.mem != nil {
		_ = s.client.Inject(m.mem) // an error comes again at the next flush
		return
	}
	s.client.Forward()
}

// leave does not send the message.
func (s *session) leave(m *message) {
	if m.mem == nil {
		s.client.Drop()
	}
}

// replace sends the message with its first n bytes exchanged for prefix.
func (s *session) replace(m *message, n int, prefix []byte) {
	if m.mem != nil {
		_ = s.client.Inject(prefix)
		_ = s.client.Inject(m.mem[n:])
		return
	}
	s.client.Replace(n, prefix)
}
