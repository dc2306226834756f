package gateway

import (
	"errors"
	"slices"
	"strings"
	"time"

	"qvpgw/internal/metrics"
	"qvpgw/internal/netloop"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// serverHalf sends what is pending and passes replies until none is expected or
// the server asks for COPY data.
func (s *session) serverHalf() error {
	if s.conn == nil {
		s.emitFakes()
		return s.flushOwn()
	}
	s.busy.Store(s.busy.Load() | 1)
	if err := s.client.Flush(); err != nil {
		return s.clientError(err)
	}
	for s.cv.queue.n > 0 && !s.cv.copying {
		if err := s.step(); err != nil {
			return err
		}
	}
	if err := s.conn.Stream.Flush(); err != nil {
		return s.serverError(err)
	}
	if !s.cv.copying {
		s.up.unread = 0
	}
	return nil
}

// step handles one message of the server. After a deadline it may be called again.
func (s *session) step() error {
	if s.pipeline != nil {
		return s.stepPipeline()
	}
	st := &s.conn.Stream
	s.emitFakes()
	if s.cv.queue.n == 0 {
		return nil
	}
	if b, ok := st.Whole(); ok && !s.attempt.reshaped {
		if len(b) == 0 {
			if err := st.Fill(); err != nil {
				return s.serverError(err)
			}
			b, _ = st.Whole()
		}
		n := s.cv.run(b)
		st.ForwardRun(n)
		if tx, ok := s.cv.ready(b[n:]); ok {
			if err := s.onReady(tx); err != nil {
				return err
			}
			st.ForwardRun(readyLen)
			s.cv.queue.pop()
			n += readyLen
		}
		if n > 0 {
			s.emitFakes()
			return nil
		}
	}
	h, err := st.Next()
	if err != nil {
		return s.serverError(err)
	}
	var body []byte
	head := s.cv.queue.head()
	switch h.Type {
	case wire.RowDescription, wire.NoData:
		if head.of != nil && head.msg == wire.Describe {
			if body, err = st.Body(wire.MaxMessage); err != nil {
				return s.serverError(err)
			}
			if err := s.learnShape(head.of, head.name, h.Type, body); err != nil {
				return err
			}
		}
		if h.Type == wire.RowDescription && len(s.cursors) > 0 {
			if body, err = st.Body(wire.MaxMessage); err != nil {
				return s.serverError(err)
			}
			if done, err := s.passDeclared(head, body); done || err != nil {
				return err
			}
		}
	case wire.DataRow:
		if s.cv.queue.head().mode == drop {
			st.Drop()
		} else {
			st.Forward()
		}
		return nil
	case wire.ReadyForQuery, wire.CommandComplete, wire.ErrorResponse, wire.ParameterStatus, wire.NotificationResponse:
		// What we act on must be whole before the conversation hears of it.
		if body, err = st.Body(wire.MaxMessage); err != nil {
			return s.serverError(err)
		}
	}
	v, ends := s.cv.fromServer(h.Type)
	if err := s.onEvent(v, body); err != nil {
		return err
	}
	if ends {
		s.cv.queue.pop()
		s.emitFakes()
		if s.attempt.reshaped && s.cv.queue.n == 0 {
			return errAgain
		}
	}
	return nil
}

// onEvent does what a message means beyond being passed on, and forwards or drops
// it.
func (s *session) onEvent(v verdict, body []byte) error {
	switch v.event {
	case broken:
		s.srv.log.Error("unexpected message from the server", "pid", s.pid)
		return s.serverGone(errors.New("the server sent a message that nothing asked for"))
	case reported:
		return s.onParameter(v, body)
	case notified:
		return s.onNotification(body)
	case failed:
		if v.quiet {
			s.buryDead()
			s.conn.Stream.Drop()
			return nil
		}
		if f, err := wire.ParseErrorFields(body); err == nil && shutdown(f) && s.survives() {
			s.lose()
			return errAgain
		}
		if v.ahead {
			return s.aheadFailed(body)
		}
		return s.onError(v, body)
	case completed:
		s.onComplete(v.reply, body)
	case ready:
		if v.ahead {
			s.inForce()
			break
		}
		status, err := wire.ParseReadyForQuery(body)
		if err != nil {
			return s.serverGone(err)
		}
		if err := s.onReady(status); err != nil {
			return err
		}
	}
	if v.drop {
		s.conn.Stream.Drop()
	} else {
		s.conn.Stream.Forward()
	}
	return nil
}

// onReady is called for a ReadyForQuery before it is passed.
func (s *session) onReady(status wire.TxStatus) error {
	s.cv.tx = status
	if status == wire.Idle {
		s.channelsReady()
		s.notified()
		if b := s.takeMail(); len(b) > 0 {
			if err := s.conn.Stream.Inject(b); err != nil {
				return s.serverError(err)
			}
		}
	}
	s.settingsReady()
	s.rebased = false
	return nil
}

// onParameter passes a changed parameter unless the client knows it already, as
// it does when its own settings were restored.
func (s *session) onParameter(v verdict, body []byte) error {
	st := &s.conn.Stream
	name, value, err := wire.ParseParameterStatus(body)
	if err != nil {
		return s.serverGone(err)
	}
	if s.conn.Params[string(name)] != string(value) {
		s.conn.Params[string(name)] = string(value)
	}
	known := string(value)
	if own, ok := s.defaultOf(string(name)); ok && s.rebased {
		known = own
	}
	if have, ok := s.params.get(string(name)); v.mode == drop || ok && have == known {
		st.Drop()
		return nil
	}
	s.params.set(string(name), known)
	if string(name) == "application_name" {
		s.app.Store(&known)
	}
	if known == string(value) {
		st.Forward()
		return nil
	}
	b := wire.AppendParameterStatus(nil, string(name), known)
	st.Drop()
	if err := st.Inject(b); err != nil {
		return s.serverError(err)
	}
	return nil
}

// defaultOf returns a reported parameter's value of the startup packet, if that has
// it: what the client's RESET goes back to, on the way over the server's default.
func (s *session) defaultOf(name string) (value string, ok bool) {
	if !slices.ContainsFunc(s.base.Settings, func(x pool.Setting) bool { return strings.EqualFold(x.Name, name) }) {
		return "", false
	}
	for _, p := range s.params.shared {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// onNotification passes a notification; one that this session's own server
// process sent carries the process id that the client knows as its own.
func (s *session) onNotification(body []byte) error {
	st := &s.conn.Stream
	pid, channel, payload, err := wire.ParseNotification(body)
	if err != nil {
		return s.serverGone(err)
	}
	b := s.notification(pid, channel, payload)
	st.Drop()
	if b == nil {
		return nil
	}
	if err := st.Inject(b); err != nil {
		return s.serverError(err)
	}
	return nil
}

// onError passes an error, or the one that stands for it.
func (s *session) onError(v verdict, body []byte) error {
	st := &s.conn.Stream
	s.conn.Failed()
	var renamed []byte
	if f, err := wire.ParseErrorFields(body); err == nil {
		if s.ownNames(f) {
			renamed = wire.AppendErrorResponse(nil, f)
		}
		s.srv.m.Error(f.Code)
		if v.of != nil && f.Code == "0A000" && f.Routine == "RevalidateCachedQuery" {
			s.srv.stmts.retire(v.of)
			if s.reshape() {
				v.drop, v.mode = true, drop
			}
		}
		if f.Code == "25006" {
			s.conn.Doubt()
		}
		if (v.pins != 0 || v.doubts != 0) && beforeRunning(f) {
			s.undoubt(int(v.doubts))
			s.unpin(v.pins)
		}
		if f.SeverityV == "FATAL" || f.SeverityV == "PANIC" {
			s.answered = true
		}
	}
	s.unpin(s.cv.undone)
	s.cv.undone = 0
	if s.cv.lost {
		s.cv.lost, s.sequences = false, nil
	}
	s.buryDead()
	s.undone = true
	if v.mode == instead || renamed != nil {
		b := v.bytes
		if v.mode != instead {
			b = renamed
		}
		st.Drop()
		if err := st.Inject(b); err != nil {
			return s.serverError(err)
		}
		return nil
	}
	if v.drop {
		st.Drop()
	} else {
		st.Forward()
	}
	return nil
}

// buryDead forgets what came to nothing.
func (s *session) buryDead() {
	for _, d := range s.cv.dead {
		s.parseFailed(d)
	}
	clear(s.cv.dead)
	s.cv.dead = s.cv.dead[:0]
}

// emitFakes sends the replies of our own that are due.
func (s *session) emitFakes() {
	for r := s.cv.queue.head(); r != nil && r.mode == fake; r = s.cv.queue.head() {
		if r.local != nil {
			s.applyLocal(r.local)
		}
		var mail []byte
		if r.msg == wire.Sync && s.chans != nil {
			s.channelsReady()
			s.undone = false
			mail = s.takeMail() // what came before an UNLISTEN does not come after it
		}
		if s.conn != nil {
			if len(mail) > 0 {
				_ = s.conn.Stream.Inject(mail)
			}
			_ = s.conn.Stream.Inject(r.bytes) // an error comes again at the next flush
		} else {
			s.out = append(append(s.out, mail...), r.bytes...)
		}
		s.cv.queue.pop()
	}
}

// flushOwn writes the answers of our own.
func (s *session) flushOwn() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.net.Write(s.out)
	s.out = s.out[:0]
	if err != nil {
		return errHungUp
	}
	return nil
}

// serverError says what an error of the server's Stream means.
func (s *session) serverError(err error) error {
	if err == netloop.ErrWouldBlock {
		return err
	}
	var we *wire.WriteError
	switch {
	case errors.As(err, &we):
		return errHungUp
	case timedOut(err):
		return err
	}
	return s.serverGone(err)
}

// serverGone drops the lost server connection; the client is told unless the
// server did so itself.
func (s *session) serverGone(err error) error {
	if s.conn != nil {
		if !s.answered && s.survives() {
			s.lose()
			return errAgain
		}
		if s.answered {
			_ = s.conn.Stream.Flush()
		}
		// An error behind half a message would be read as its other half.
		s.answered = s.answered || s.conn.Stream.Midway()
		s.lose()
	}
	return serverLost(err)
}

// settle ends a turn: what the transaction changed counts from here on, and the
// server connection is free for others unless the client must keep it.
func (s *session) settle() error {
	s.srv.m.Turns[1-bit(s.first)].Inc()
	now := pool.Now()
	s.account(now)
	s.pool.Forgo(&s.waiter)
	s.decided, s.attempt = false, attempt{}
	switch {
	case s.settlesLight():
		s.giveBack(now)
	case s.conn != nil && s.between():
		s.settleSettings()
		s.releaseLong()
		s.portal = nil
		if len(s.portals) > 0 {
			clear(s.portals)
		}
		s.cursors = nil
		if s.ddl {
			s.ddl = false
			if s.logins {
				s.logins = false
				s.db.logins.Store(true)
			}
			s.db.stale(s.change)
			s.change = router.Change{}
		}
		if s.perhapsDDL {
			s.perhapsDDL = false
			s.db.suspect()
		}
		if err := s.reconsider(catalogWait); err != nil {
			return err
		}
		if err := s.learn(); err != nil {
			return err
		}
		if err := s.moveChannels(); err != nil {
			return err
		}
		if err := s.passHeard(); err != nil {
			return err
		}
		if s.pins.Load() == 0 && s.mode != Session {
			s.giveBack(now)
		} else {
			if err := s.rebase(); err != nil {
				return err
			}
			s.srv.m.Transactions[metrics.Pinned].Inc()
			s.ended(true, now)
			if s.mode != Session {
				s.srv.m.PinnedBy(s.reason(), s.culpritKind())
				s.pool.Hold(s.conn)
			}
		}
	}
	if s.mode == Statement && s.cv.tx != wire.Idle {
		e := errStatementMode()
		e.Fatal = true
		return e // its end rolls the transaction back
	}
	if err := s.passMail(); err != nil {
		return err
	}
	s.leaveListener()
	s.shown = false
	s.noteIdle()
	s.inTx.Store(s.cv.tx != wire.Idle)
	s.busy.Store((s.busy.Load() | 1) + 1)
	if s.srv.isDraining() && s.mayLeave() {
		return errDrain
	}
	return nil
}

// giveBack gives back the server connection of a transaction that has ended now.
func (s *session) giveBack(now time.Time) {
	s.srv.m.Transactions[metrics.Shared].Inc()
	s.culprit, s.lastly = nil, false
	s.ended(false, now)
	s.detachAt(now)
}

// account adds a turn that ends now to the figures.
func (s *session) account(now time.Time) {
	m := s.srv.m
	read, _ := s.client.Counts()
	m.Received.Add(read - s.readBefore)
	t := s.tally()
	t.received.Add(read - s.readBefore)
	s.readBefore = read
	if s.conn != nil {
		_, sent := s.conn.Stream.Counts()
		m.Sent.Add(sent - s.sentBefore)
		t.sent.Add(sent - s.sentBefore)
		s.sentBefore = sent
	} else {
		s.opened = time.Time{}
	}
	if !s.began.IsZero() && s.cv.idle() {
		took := now.Sub(s.began)
		m.Duration[s.route.action()].Observe(took)
		t.answered(s.route.action(), took)
		s.began = time.Time{}
	}
}

// serverWriter is the client's way to the server. Small writes go straight; once
// more than writeAhead bytes were written in a turn, the server may wait for us to
// read its replies before it reads on, so a write that is not taken lets the
// replies flow meanwhile. (A background reader does the same in pgx; here the
// write steps aside, since replies then flow to the client without a buffer that
// could grow.)
type serverWriter struct {
	s      *session
	unread int // bytes written since the replies were last read to the end
}

// writeAhead is what a socket surely takes although its reader does not read:
// less than half of Linux's default receive buffer.
const writeAhead = 32 << 10

func (w *serverWriter) Write(b []byte) (int, error) {
	if w.s.long != nil {
		w.s.passes(b)
	}
	if w.s.first || w.unread+len(b) <= writeAhead {
		w.unread += len(b)
		return w.s.conn.Net.Write(b)
	}
	return w.s.writeAside(b)
}
