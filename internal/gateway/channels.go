package gateway

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// channels is what a client listens to by way of its database's listener, and what
// has arrived for it.
type channels struct {
	on      map[string]int // with how many it had listened to before; the session's alone, like pending
	had     int
	pending []channelStep // of the open transaction
	// encoding is the listener's, which notifications come in.
	encoding string
	moved    map[string]int // notifications that were passed and come there again
	uses     bool           // the listener's connection, from its start to its leave

	waiting atomic.Bool // mail holds something

	// mu protects what follows.
	mu   sync.Mutex
	mail []byte // notifications as messages
}

// channelStep is a LISTEN or UNLISTEN whose transaction has not ended, or a
// savepoint that stands among them.
type channelStep struct {
	router.Channel
	savepoint bool // named Name
}

// maxMail bounds what waits for a client that is in a transaction or does not
// read, in bytes.
const maxMail = 1 << 20

// deliver has b, whole messages, reach the client as soon as it is between two
// turns and in no transaction. It may be called by any goroutine, never blocks,
// and keeps a copy of b. False: too much waits for the client already.
func (s *session) deliver(b []byte) bool {
	c := s.chans
	c.mu.Lock()
	full := len(c.mail)+len(b) > maxMail && len(c.mail) > 0
	if !full {
		c.mail = append(c.mail, b...)
	}
	c.mu.Unlock()
	if full {
		return false
	}
	c.waiting.Store(true)
	s.nudge()
	return true
}

// mailPatience is how long a burst of notifications waits for a client that takes
// none of them.
const mailPatience = time.Second

// deliverSlowly is deliver for a client for which too much waits: it ends one that
// takes nothing for mailPatience.
func (s *session) deliverSlowly(b []byte) {
	for start := time.Now(); time.Since(start) < mailPatience; time.Sleep(time.Millisecond) {
		if s.deliver(b) {
			return
		}
	}
	if s.evicted.CompareAndSwap(nil, fatal("54000", "too many notifications wait for this client", "Read them, and end transactions, in time.")) {
		_ = s.raw.SetWriteDeadline(time.Unix(1, 0)) // it may be writing
		s.wake()
	}
}

// takeMail returns the notifications that have arrived; none while a transaction
// is open.
func (s *session) takeMail() []byte {
	c := s.chans
	if c == nil || s.cv.tx != wire.Idle || s.foreign() || !c.waiting.Swap(false) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.mail
	c.mail = nil
	return b
}

// passMail writes the notifications that have arrived to a client between two
// turns.
func (s *session) passMail() error {
	if s.chans == nil || !s.between() {
		return nil
	}
	b := s.takeMail()
	if len(b) == 0 {
		return nil
	}
	if _, err := s.net.Write(b); err != nil {
		return errHungUp
	}
	return nil
}

// shares says whether a LISTEN or UNLISTEN is the database's listener's business
// and none of the client's server connection: not where there is but one (trap
// T16), nor for a client that listens on its own connection already, but for the
// channels that it had before.
func (s *session) shares(plan *router.Plan) bool {
	if plan.Names.Channel == nil || s.mode == Session {
		return false
	}
	if router.Pins(s.pins.Load())&router.PinListen != 0 {
		if !s.listens() {
			return false
		}
		_, on := s.chans.on[plan.Names.Channel.Name] // UNLISTEN * is for both
		return on
	}
	if s.notifies && !plan.Names.Channel.Off {
		return false // it hears what its transaction has sent
	}
	if st := s.pool.Stat(); st.Size+st.Overflow < 2 {
		return false
	}
	// Notifications come in the listener's encoding.
	return plan.Names.Channel.Off || s.db.listener.start(s, s.listenWait(false)) == nil
}

// channelTag is what completes a LISTEN or UNLISTEN.
func channelTag(c *router.Channel) string {
	if c.Off {
		return "UNLISTEN"
	}
	return "LISTEN"
}

// errAborted is the server's answer to whatever comes in a failed transaction.
func errAborted() *Error {
	return &Error{Code: "25P02", Message: "current transaction is aborted, commands ignored until end of transaction block"}
}

// channelQuery answers a simple query that is a LISTEN or UNLISTEN; false: the
// server connection has to do it.
func (s *session) channelQuery(m *message, plan *router.Plan) (bool, error) {
	if s.cv.tx == wire.FailedTx {
		s.leave(m)
		return true, s.refuse(errAborted(), true)
	}
	s.channelStep(plan.Names.Channel)
	if s.cv.tx == wire.Idle && !s.applyChannels(false) {
		return false, nil
	}
	s.leave(m)
	b := wire.AppendCommandComplete(nil, channelTag(plan.Names.Channel))
	b = append(b, s.takeMail()...) // what came before an UNLISTEN does not come after it
	s.cv.expect(reply{msg: wire.Query, mode: fake, bytes: wire.AppendReadyForQuery(b, s.cv.tx)})
	return true, nil
}

// channelPlan is the plan of a prepared LISTEN or UNLISTEN that is answered here.
func channelPlan(plan *router.Plan) *router.Plan {
	p := *plan
	p.Action, p.Pins = router.Local, 0
	p.Local = &router.LocalAnswer{Kind: router.LocalChannel, Channel: plan.Names.Channel}
	return &p
}

func (s *session) channelStep(step *router.Channel) {
	c := s.subscriptions()
	c.pending = append(c.pending, channelStep{Channel: *step})
}

// subscriptions returns s.chans, which it makes for the first LISTEN.
func (s *session) subscriptions() *channels {
	if s.chans == nil {
		s.chans = &channels{on: map[string]int{}}
	}
	return s.chans
}

// channelsDid follows the end of a transaction, or of a part of it, by the
// completion of a statement.
func (s *session) channelsDid(st *router.Statement, tag string) {
	c := s.chans
	if c == nil || len(c.pending)+len(c.on) == 0 {
		return
	}
	last := -1
	if st.Kind == sqltext.RollbackTo || st.Kind == sqltext.Release {
		for i, x := range c.pending {
			if x.savepoint && x.Name == st.Name {
				last = i
			}
		}
	}
	switch st.Kind {
	case sqltext.Unlisten: // the server was told of, which knows of other channels
		s.channelStep(&router.Channel{Name: st.Name, Off: true})
	case sqltext.Savepoint:
		c.pending = append(c.pending, channelStep{savepoint: true, Channel: router.Channel{Name: st.Name}})
	case sqltext.RollbackTo:
		c.pending = c.pending[:last+1] // a savepoint that is not among them stands before all
	case sqltext.Release:
		if last >= 0 {
			c.pending = slices.DeleteFunc(c.pending, func(x channelStep) bool { return x.savepoint && x.Name == st.Name })
		}
	case sqltext.Commit, sqltext.Rollback:
		if tag == "ROLLBACK" {
			c.pending = c.pending[:0]
		} else {
			s.applyChannels(true)
		}
	}
}

// channelsReady ends what the open transaction did to the client's channels when
// it has ended.
func (s *session) channelsReady() {
	c := s.chans
	if c == nil || s.cv.tx != wire.Idle || len(c.pending) == 0 {
		return
	}
	if s.undone {
		c.pending = c.pending[:0]
		return
	}
	s.applyChannels(true)
}

// applyChannels makes the pending steps count. A client whose LISTEN was answered
// waits until there is a connection to listen on, and if none can be had is told
// that its session ends. False says so, or, for a LISTEN that was not answered, that
// the client's own connection must do it.
func (s *session) applyChannels(answered bool) bool {
	c := s.chans
	steps := c.pending
	c.pending = nil
	if slices.ContainsFunc(steps, func(x channelStep) bool { return x.Off }) {
		s.hearOut()
		defer s.unhear()
	}
	for _, x := range steps {
		switch {
		case x.savepoint:
		case x.Off && x.Name == "":
			s.unlistenAll()
		case x.Off:
			delete(c.on, x.Name)
			s.db.listener.unsubscribe(s, x.Name)
		default:
			if _, on := c.on[x.Name]; on {
				continue
			}
			if err := s.db.listener.subscribe(s, x.Name, s.listenWait(answered)); err != nil {
				if answered {
					s.evicted.CompareAndSwap(nil, &Error{
						Code: "53300", Message: "cannot LISTEN: " + err.Error(), Fatal: true, Err: err,
						Hint: "Raise pool.size, or LISTEN outside of transactions.",
					})
					s.wake()
				}
				return false
			}
			c.on[x.Name] = c.had
			c.had++
		}
	}
	return true
}

// unhear takes back what the client has sent itself in the transaction that ended its
// listening.
func (s *session) unhear() {
	c := s.chans
	c.mu.Lock()
	defer c.mu.Unlock()
	var kept []byte
	for b := c.mail; len(b) > 0; {
		m, rest := cutMessage(b)
		pid, channel, _, err := wire.ParseNotification(m.mem[5:])
		if _, on := c.on[string(channel)]; on || err != nil || pid != s.pid {
			kept = append(kept, m.mem...)
		}
		b = rest
	}
	c.mail = kept
}

// hearOut has delivered what was sent, before an UNLISTEN, to the channels that the
// client listens to.
func (s *session) hearOut() {
	if s.listens() {
		s.db.listener.barrier()
	}
}

// unlistenAll ends all subscriptions.
func (s *session) unlistenAll() {
	if s.chans == nil {
		return
	}
	for name := range s.chans.on {
		s.db.listener.unsubscribe(s, name)
	}
	clear(s.chans.on)
}

// leaveListener lets go of the listener when the client, between two transactions,
// neither listens by way of it nor is about to.
func (s *session) leaveListener() {
	if c := s.chans; c != nil && c.uses && len(c.on) == 0 && len(c.pending) == 0 && s.between() {
		c.uses = false
		s.db.listener.leave(s)
	}
}

// endListening is the end of the session.
func (s *session) endListening() {
	s.unlistenAll()
	if s.chans != nil && s.chans.uses {
		s.db.listener.leave(s)
	}
}

// inOrder returns the channels in the order of their LISTENs, which is the server's.
func (c *channels) inOrder() []string {
	return slices.SortedFunc(maps.Keys(c.on), func(a, b string) int { return cmp.Compare(c.on[a], c.on[b]) })
}

// listens says whether the client listens by way of the listener.
func (s *session) listens() bool { return s.chans != nil && len(s.chans.on) > 0 }

// noteNotify remembers that the transaction may send notifications.
func (s *session) noteNotify(plan *router.Plan) {
	s.notifies = s.notifies || plan.Names.Notifies || plan.Pins&codeRuns != 0
}

// listenHere has the client's own connection listen, for a text that may NOTIFY, to what
// its transaction LISTENs to: it hears what it sends itself. The group that the text is in
// may have failed meanwhile.
func (s *session) listenHere(plan *router.Plan) error {
	c := s.chans
	if c == nil || !plan.Names.Notifies {
		return nil
	}
	if err := s.drain(); err != nil || s.cv.skip { // a LISTEN of the group may not have been answered
		return err
	}
	if len(c.pending) == 0 || slices.ContainsFunc(c.pending, func(x channelStep) bool { return x.savepoint || x.Off }) {
		return nil
	}
	for _, x := range c.pending {
		if err := s.inject("LISTEN " + catalog.Quote(x.Name)); err != nil {
			return err
		}
	}
	c.pending = nil
	s.due |= sqltext.LeavesListen
	s.pin(router.PinListen)
	return nil
}

// notified waits, when a transaction that may have sent notifications has ended,
// until they were delivered: the client's own come before its ReadyForQuery, and
// the sender is found by its server connection, which nobody else has yet.
func (s *session) notified() {
	if s.notifies {
		s.notifies = false
		s.db.listener.barrier()
	}
}

// showChannels has the server connection listen to what the client listens to, for a
// statement that asks the server which channels these are; it is reset before anybody
// else gets it. For code that may UNLISTEN it goes on listening in their place.
func (s *session) showChannels(plan *router.Plan) error {
	if !s.listens() || s.shown {
		return nil
	}
	if !plan.Names.Listening {
		if plan.Leaves&(sqltext.LeavesListen|sqltext.LeavesAnything) == 0 || !s.between() {
			return nil
		}
		s.pin(router.PinListen)
		return s.moveChannels()
	}
	if s.cv.tx != wire.Idle || s.cv.group {
		return &Error{
			Code: "0A000", Message: "pg_listening_channels() cannot be answered inside a transaction",
			Hint: "Call it outside, or through a pool in session mode.",
		}
	}
	s.conn.Dirty, s.shown = true, true
	for _, name := range s.chans.inOrder() {
		if err := s.inject("LISTEN " + catalog.Quote(name)); err != nil {
			return err
		}
	}
	return nil
}
