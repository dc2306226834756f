package gateway

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"

	"qvpgw/internal/netloop"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// Gear says how clients are driven.
type Gear uint8

// The gears. In the first a turn runs on an event loop, without a goroutine; in
// the second in a goroutine that blocks. The same code drives both.
const (
	GearAuto   Gear = iota // first where nothing can block, else second
	GearSecond             // second always
	GearMixed              // either by chance, for tests
)

// ParseGear reads "auto", "second" or "mixed".
func ParseGear(s string) (Gear, error) {
	for i, name := range [...]string{"auto", "second", "mixed"} {
		if s == name {
			return Gear(i), nil
		}
	}
	return 0, fmt.Errorf("cannot shift into gear %q: auto, second or mixed", s)
}

// States of session.word: who runs the session.
const (
	parked    = iota // nobody: the next event does
	running          // somebody
	lookAgain        // somebody, who has to look again before it parks
)

// phase is what a session in the first gear waits for.
type phase uint8

const (
	atClient phase = iota // a message of the client
	atPool                // a server connection
	atServer              // the server's replies
)

// maxFirst bounds what one turn passes from the server in the first gear, in
// bytes: a loop is there for everybody.
const maxFirst = 256 << 10

// Ready is called for an event of the client's or the server's socket, for a
// granted server connection, and by wake. It drives the session unless somebody
// does, who will look again (trap T12).
func (s *session) Ready() {
	if s.word.Swap(lookAgain) == parked {
		s.drive()
	}
}

// drive runs the session, which the caller holds, in the first gear until it has
// to wait; should something have to block, a goroutine goes on in the second.
func (s *session) drive() {
	for {
		s.word.Store(running)
		s.takeUp()
		if !s.pass() {
			s.loop.Woke()
			go s.second()
			return
		}
		s.layDown()
		if s.word.CompareAndSwap(running, parked) {
			return // it may be somebody else's by now
		}
	}
}

// pass goes on from where the session waited; true: it waits again. It never
// blocks.
func (s *session) pass() (waits bool) {
	defer func() {
		if r := recover(); r != nil {
			s.failed = s.crashed(r)
			waits = false
		}
	}()
	for {
		var p progress
		switch s.phase {
		case atClient:
			p = s.clientReady()
		case atPool:
			p = s.poolReady()
		case atServer:
			p = s.serverReady()
		}
		if p != goesOn {
			return p == mustWait
		}
	}
}

// progress is what became of a session in the first gear.
type progress uint8

const (
	goesOn    progress = iota // to its next phase
	mustWait                  // for an event
	mustBlock                 // so it shifts into the second gear
)

// crashed reports a panic.
func (s *session) crashed(r any) *Error {
	s.srv.log.Error("session failed", "pid", s.pid, "error", fmt.Sprint(r), "stack", string(debug.Stack()))
	if s.conn != nil {
		s.lose()
	}
	return &Error{Code: "XX000", Message: "internal error of the gateway", Fatal: true}
}

// shift makes reads and writes block, or not.
func (s *session) shift(first bool) {
	s.first, s.foreseen, s.rewrites, s.light = first, nil, nil, false
	if s.loop != nil {
		s.loop.SetBlocking(!first)
	}
	if s.conn != nil {
		s.conn.Watch(&s.handler, !first)
	}
}

// second runs the session in the second gear: what could not be done in the first,
// then whole turns until it may be parked again.
func (s *session) second() {
	s.shift(false)
	err := s.guarded(s.shiftUp)
	if err != nil {
		s.finish(err)
		return
	}
	s.run()
}

// run runs turns in the second gear until the session may be parked or ends.
func (s *session) run() {
	for {
		if s.parkable() {
			s.phase = atClient
			s.shift(true)
			s.drive()
			return
		}
		if err := s.guarded(s.turn); err != nil {
			s.finish(err)
			return
		}
	}
}

// guarded calls f; a panic ends the session alone.
func (s *session) guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = s.crashed(r)
		}
	}()
	return f()
}

// shiftUp goes on in the second gear with what the first left.
func (s *session) shiftUp() error {
	if s.failed == errAgain {
		s.failed = nil
		if err := s.rewind(); err != nil {
			return err
		}
		s.phase = atClient
		return s.turn()
	}
	if s.failed != nil {
		return s.failed
	}
	if err := s.loop.Flush(); err != nil {
		return errHungUp
	}
	if s.conn != nil && s.conn.Loop.Pending() > 0 {
		// The server may wait for us to read before it reads on.
		if _, err := s.writeAside(nil); err != nil {
			return s.clientError(&wire.WriteError{Err: err})
		}
	}
	if s.phase != atServer {
		return s.turn()
	}
	if err := s.serverHalf(); err != nil {
		return err
	}
	return s.settle()
}

// parkable says whether the session may wait without a goroutine.
func (s *session) parkable() bool {
	switch {
	case s.loop == nil || s.srv.opt.Gear == GearSecond || !s.cv.idle() || len(s.gathered) > 0:
		return false
	case s.conn != nil && s.conn.Loop == nil:
		return false
	}
	return s.srv.opt.Gear != GearMixed || rand.IntN(2) == 0
}

// clientReady reads the client and begins its turn.
func (s *session) clientReady() progress {
	// What came behind a ReadyForQuery may have been read with it.
	if s.conn != nil && (s.conn.Loop.Heard() || s.conn.Stream.Buffered() > 0) {
		if s.failed = s.passAsync(); s.failed != nil || s.loop.Pending() > 0 {
			return mustBlock
		}
	}
	if s.failed = s.passMail(); s.failed != nil || s.loop.Pending() > 0 {
		return mustBlock
	}
	for {
		switch s.easy() {
		case easyTurn:
			return s.beginFirst()
		case hardTurn:
			return mustBlock
		case incomplete:
			err := netloop.ErrWouldBlock
			if s.net != s.raw || !s.loop.Silent() { // or it takes a buffer for nothing
				err = s.client.Fill()
			}
			if err == netloop.ErrWouldBlock {
				return mustWait
			}
			if err != nil {
				return mustBlock // which meets it again
			}
		}
	}
}

// beginFirst begins a turn that was found easy.
func (s *session) beginFirst() progress {
	s.busy.Store(s.busy.Load() | 1)
	if s.conn != nil && !s.readyOn(s.conn) {
		return mustBlock
	}
	if s.conn != nil {
		return s.sendFirst()
	}
	s.waiter.After = s.srv.live.Load().QueueNotify
	c, ok := s.pool.Begin(&s.waiter, s.owner, s.last, s.bucket)
	return s.acquired(c, ok)
}

// poolReady takes the server connection that the session waited for.
func (s *session) poolReady() progress {
	c, ok := s.pool.Granted(&s.waiter, s.owner)
	return s.acquired(c, ok)
}

// acquired goes on with what Begin or Granted returned.
func (s *session) acquired(c *pool.Conn, ok bool) progress {
	switch {
	case c != nil && c.Era != s.era: // attach has the settings kept
		s.pool.Keep(&s.waiter, c)
		s.phase = atClient
		return mustBlock
	case c != nil && c.Loop != nil && !s.renew && pool.Same(c.Bucket, s.bucket):
		c.Bucket = s.bucket
		return s.takeFirst(c)
	case c != nil && c.Loop != nil && s.readyOn(c) && s.switchAhead(c):
		return s.takeFirst(c)
	case c != nil:
		s.pool.Keep(&s.waiter, c)
		fallthrough
	case !ok:
		s.phase = atClient
		return mustBlock
	}
	s.phase = atPool
	return mustWait
}

// takeFirst sends the turn on a connection that has the session's settings, or is given
// them ahead.
func (s *session) takeFirst(c *pool.Conn) progress {
	s.take(c)
	switch {
	case s.cancelled.Load() == s.busy.Load():
		s.detach() // attach answers it
	case s.readyOn(c):
		return s.sendFirst()
	}
	s.phase = atClient
	return mustBlock
}

// sendFirst handles the turn's messages, which are all there.
func (s *session) sendFirst() progress {
	s.phase = atClient
	if s.unprovable() {
		s.detach() // or it would not be alone
		return mustBlock
	}
	if s.light = s.sendPlain(); !s.light {
		if s.failed = s.clientHalf(); s.failed != nil {
			return mustBlock
		}
	}
	s.foreseen = nil
	s.phase = atServer
	if s.conn == nil {
		return mustBlock // answered without a server
	}
	if err := s.client.Flush(); err != nil {
		s.failed = s.clientError(err)
		return mustBlock
	}
	if s.conn.Loop.Pending() > 0 {
		return mustBlock
	}
	return goesOn
}

// serverReady passes replies; at their end the turn is over.
func (s *session) serverReady() progress {
	for s.cv.queue.n > 0 {
		err := s.step()
		if err == netloop.ErrWouldBlock && s.loop.Pending() == 0 {
			return mustWait
		}
		if err == netloop.ErrWouldBlock || err == errShift {
			return mustBlock
		}
		if err != nil {
			s.failed = err
			return mustBlock
		}
		if s.cv.copying || s.muchSent() {
			return mustBlock
		}
	}
	if err := s.conn.Stream.Flush(); err != nil {
		s.failed = s.serverError(err)
		return mustBlock
	}
	s.up.unread = 0
	if s.loop.Pending() > 0 || s.cv.copying || !s.settlesLight() && !s.settlesAtOnce() {
		return mustBlock
	}
	if s.failed = s.settle(); s.failed != nil {
		return mustBlock
	}
	s.phase = atClient
	return goesOn
}

// muchSent says that the turn has passed more than maxFirst.
func (s *session) muchSent() bool {
	_, sent := s.conn.Stream.Counts()
	return sent-s.sentBefore > maxFirst
}

// settlesAtOnce says that settle will not ask the server anything.
func (s *session) settlesAtOnce() bool {
	if s.between() {
		s.releaseLong()
	}
	pins := router.Pins(s.pins.Load())
	return !s.between() || s.due == 0 && !s.foreign() && pins&router.PinCatalog == 0 && (pins != 0 || s.learned() != nil)
}
