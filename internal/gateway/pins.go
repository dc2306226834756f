package gateway

import (
	"bytes"
	"errors"
	"time"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// pin keeps the server connection for this client until its session ends or is
// discarded, or until it turns out that nothing was to be kept: what the pin was
// taken for did not run (unpin), or a newer catalog says so (resolve). The
// connection is reset before anybody else gets it in every case.
func (s *session) pin(p router.Pins) {
	have := router.Pins(s.pins.Load())
	s.conn.Dirty = true
	if have&p == p {
		return
	}
	s.pins.Store(uint32(have | p))
}

// pinFor is pin for the message that is being handled: should it not run, its pins
// are taken back.
func (s *session) pinFor(plan *router.Plan, p router.Pins, sql []byte) {
	sure := p&router.PinCatalog == 0
	s.leaves(plan, sure)
	if !sure {
		p &^= router.PinFunction | router.PinRelation // resolve says whether they are true
	}
	if p == 0 {
		return
	}
	s.cv.pins |= p &^ router.Pins(s.pins.Load())
	s.pin(p)
	if p&router.PinCatalog != 0 {
		s.doubt(plan, sql)
	}
}

// unpin takes back pins of statements that never ran.
func (s *session) unpin(p router.Pins) {
	s.pins.Store(s.pins.Load() &^ uint32(p))
	s.kept &^= p
}

// beforeRunning says whether an error of that code, answered before anything else,
// was found while the text was read and its names were looked up, so that nothing
// of it ran. A function that fails with such a code of its own has PinFunction.
func beforeRunning(code string, pins router.Pins) bool {
	const found = router.PinUnparsed | router.PinRelation | router.PinCatalog
	return pins&^found == 0 && (code == "42601" || code == "42P01")
}

// Texts kept for resolve, in number and bytes each; beyond them a doubt is
// settled by the end of the session.
const (
	maxDoubts    = 64
	maxDoubtText = 16 << 10
)

// doubt is a text that was sent with PinCatalog, and what it meant.
type doubt struct {
	plan    *router.Plan // the one that was in doubt
	context *router.Context
	sql     []byte
}

// doubt keeps a text that is sent with PinCatalog.
func (s *session) doubt(plan *router.Plan, sql []byte) {
	c := s.context()
	s.asOf = 0
	for i := range s.doubts {
		if d := &s.doubts[i]; d.context == c && (d.plan == plan || bytes.Equal(d.sql, sql)) {
			return // equal plans are of texts that differ in literals without a say
		}
	}
	if len(s.doubts) == maxDoubts || len(sql) > maxDoubtText {
		s.lasting = true
		return
	}
	s.doubts = append(s.doubts, doubt{plan, c, bytes.Clone(sql)})
}

// known says whether the catalog was read since the transaction of the last doubt
// ended: what others have changed meanwhile is no part of that doubt.
func (s *session) known() bool {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.asOf == 0 {
		s.asOf = s.db.wanted + 1
	}
	return s.db.fresh.Load() || s.db.have+1 >= s.asOf && s.db.catalog.Load() != nil
}

// resolve ends PinCatalog once the catalog is known again and has nothing against
// the texts that were sent without knowing it. Called between two transactions.
func (s *session) resolve() {
	if router.Pins(s.pins.Load())&router.PinCatalog == 0 || s.lasting || !s.known() {
		return
	}
	s.unpin(router.PinCatalog)
	for _, d := range s.doubts {
		plan := s.db.router.Plan(d.context, d.sql)
		if s.leaves(plan, true); plan.Pins != 0 {
			s.pin(plan.Pins)
		}
	}
	s.lasting = router.Pins(s.pins.Load())&router.PinCatalog != 0
	s.doubts = s.doubts[:0]
}

// between says that nothing is expected and no transaction is open.
func (s *session) between() bool { return s.cv.idle() && s.cv.tx == wire.Idle }

// clientReader reads from the client. A read that wake ended, without the client
// or the gateway being at their end, lets the session look whether its server
// connection became free meanwhile, and goes on.
type clientReader struct{ s *session }

func (r clientReader) Read(b []byte) (int, error) {
	s := r.s
	for {
		n, err := s.net.Read(b)
		if n > 0 || s.first || !timedOut(err) || s.evicted.Load() != nil {
			return n, err
		}
		if s.srv.isDraining() {
			if s.mayLeave() {
				return 0, errDrain
			}
			s.stay()
			continue
		}
		_ = s.raw.SetReadDeadline(time.Time{})
		if err := s.passMail(); err != nil {
			return 0, err
		}
		if s.conn == nil || !s.between() || s.client.Buffered() > 0 {
			continue
		}
		s.resolve()
		if err := s.lend(lendFor); err != nil {
			return 0, err
		}
		if err := s.check(); err != nil {
			return 0, err
		}
		if s.pins.Load() == 0 && s.mode != Session {
			s.detach()
		}
	}
}

// lend lets the catalog be read on a connection that is kept only because the
// catalog is not known: if all are, nobody else's will become free. The connection
// waits at most idle for each query of such a read.
func (s *session) lend(idle time.Duration) error {
	if router.Pins(s.pins.Load()) != router.PinCatalog || s.lasting || s.mode == Session {
		return nil
	}
	used := false
	for wait := time.Now(); !s.known() && time.Since(wait) < idle; time.Sleep(time.Millisecond) {
		lent, ok := s.pool.Lend(s.conn)
		if !ok {
			return s.serverGone(errors.New("the connection ended while the catalog was read on it"))
		}
		if lent {
			used, wait = true, time.Now()
		}
	}
	if used {
		if err := s.conn.Switch(s.bucket, switchTimeout); err != nil {
			return s.serverGone(err)
		}
		s.conn.Stream.SetDst(s.net)
	}
	s.resolve()
	return nil
}

// lendFor is how long a connection waits to be used for reading the catalog when
// its client has asked for nothing.
const lendFor = 20 * time.Millisecond

// certain has the clients that were pinned for want of a catalog look again.
func (d *database) certain() {
	for _, c := range d.srv.all() {
		if c.db == d && router.Pins(c.pins.Load())&router.PinCatalog != 0 {
			c.wake()
		}
	}
}
