package gateway

import (
	"bytes"
	"errors"
	"strings"
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
	sure, kept := p&router.PinCatalog == 0, s.kept
	s.leaves(plan, sure)
	if !sure {
		p &^= router.PinFunction | router.PinRelation | router.PinDo // resolve says whether they are true
	}
	s.blame(plan)
	if p == 0 {
		return
	}
	s.cv.pins |= p&^router.Pins(s.pins.Load()) | s.kept&^kept
	s.pin(p)
	if p&router.PinCatalog != 0 {
		s.doubt(plan, sql)
	}
}

// unpin takes back pins of statements that never ran.
func (s *session) unpin(p router.Pins) {
	s.pins.Store(s.pins.Load() &^ uint32(p))
	s.kept &^= p
	s.lastly = s.lastly && s.kept != 0
}

// beforeRunning says whether an error, answered before anything else, was found while
// the text was read and its names were looked up, so that nothing of it ran. What code
// of a user raises has its place in that code with it.
func beforeRunning(f *wire.ErrorFields) bool {
	if f.Where != "" || f.InternalQuery != "" {
		return false
	}
	switch f.File {
	case "scan.l", "gram.y", "parser.c": // the grammar's errors, whatever their codes
		return true
	}
	return strings.HasPrefix(f.Code, "42")
}

// Texts kept for resolve, in number and bytes each; beyond them a doubt is
// settled by the end of the session.
const (
	maxDoubts    = 256
	maxDoubtText = 16 << 10
)

// doubt is a text that was sent with PinCatalog, and what it meant.
type doubt struct {
	plan    *router.Plan // the one that was in doubt
	context *router.Context
	sql     []byte
	// asOf is the reading of the catalog, less one, that settles it: what others have
	// changed since its transaction ended is no part of it. 0: it has not ended.
	asOf uint64
}

// doubt keeps a text that is sent with PinCatalog.
func (s *session) doubt(plan *router.Plan, sql []byte) {
	c := s.context()
	for i := range s.doubts {
		if d := &s.doubts[i]; d.context == c && (d.plan == plan || bytes.Equal(d.sql, sql)) {
			d.asOf = 0
			return // equal plans are of texts that differ in literals without a say
		}
	}
	if len(s.doubts) == maxDoubts || len(sql) > maxDoubtText {
		s.lasting = true
		return
	}
	s.doubts = append(s.doubts, doubt{plan: plan, context: c, sql: bytes.Clone(sql)})
	s.cv.doubts++
}

// undoubt forgets the newest n texts, which never ran.
func (s *session) undoubt(n int) {
	last := max(0, len(s.doubts)-n)
	clear(s.doubts[last:])
	s.doubts = s.doubts[:last]
}

// resolve ends each doubt about whose text the catalog is known again, and PinCatalog
// with the last. Called between two transactions.
func (s *session) resolve() {
	if router.Pins(s.pins.Load())&router.PinCatalog == 0 || s.lasting {
		return
	}
	s.db.mu.Lock()
	have, wanted, fresh := s.db.have, s.db.wanted, s.db.fresh.Load()
	s.db.mu.Unlock()
	var rest router.Pins
	open := s.doubts[:0]
	for _, d := range s.doubts {
		if d.asOf == 0 {
			d.asOf = wanted + 1
		}
		if !fresh && (have+1 < d.asOf || s.db.catalog.Load() == nil) {
			open = append(open, d)
			continue
		}
		plan := s.db.router.Plan(d.context, d.sql)
		s.leaves(plan, true)
		s.blame(plan)
		rest |= plan.Pins
	}
	clear(s.doubts[len(open):])
	s.doubts = open
	s.lasting = rest&router.PinCatalog != 0
	if len(open) == 0 && !s.lasting {
		s.unpin(router.PinCatalog)
	}
	if rest != 0 {
		s.pin(rest)
	}
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
		n, err := s.readOrHear(b)
		if n > 0 || s.first || !timedOut(err) {
			return n, err
		}
		_ = s.raw.SetReadDeadline(time.Time{}) // ahead of the looks: who wakes it behind one is heard
		if s.evicted.Load() != nil {
			return n, err
		}
		if s.srv.isDraining() {
			if s.mayLeave() {
				return 0, errDrain
			}
			s.stay()
			continue
		}
		if err := s.passMail(); err != nil {
			return 0, err
		}
		if s.conn == nil || !s.between() || s.client.Buffered() > 0 || s.client.Midway() {
			continue
		}
		if err := s.reconsider(lendFor); err != nil {
			return 0, err
		}
		if s.pins.Load() == 0 && s.mode != Session {
			s.detach()
		}
	}
}

// reconsider looks, between two transactions, for what still keeps the connection, and
// waits at most idle for the catalog if nothing else does.
func (s *session) reconsider(idle time.Duration) error {
	s.resolve()
	if pins := router.Pins(s.pins.Load()); pins&router.PinCatalog != 0 && pins&found != 0 {
		if err := s.check(); err != nil {
			return err
		}
	}
	if err := s.lend(idle); err != nil {
		return err
	}
	return s.check()
}

// lend lets the catalog be read on a connection that is kept only because the
// catalog is not known: if all are, nobody else's will become free. The connection
// waits at most idle for each query of such a read.
func (s *session) lend(idle time.Duration) error {
	if router.Pins(s.pins.Load()) != router.PinCatalog || s.lasting || s.mode == Session {
		return nil
	}
	return s.lendWhile(s.patience(idle), s.unresolved)
}

// unresolved looks whether the catalog is still to be read for what the session ran.
func (s *session) unresolved() bool {
	s.resolve()
	return router.Pins(s.pins.Load())&router.PinCatalog != 0 && !s.lasting
}

// await has a client that keeps its connection wait for the catalog, as one without does
// (plan), while a change that is not read yet has a say in a text that it sends between
// two transactions: what the text runs may be gone before its doubt is settled.
func (s *session) await(sql []byte) error {
	if s.conn == nil || s.mode == Session || s.kept != 0 || s.lasting || s.db.fresh.Load() || !s.between() {
		return nil
	}
	return s.lendWhile(s.patience(catalogWait), func() bool { return !s.db.certainOf(s.db.router.Plan(s.context(), sql)) })
}

// patience is how long a client waits for the catalog, at most limit: all its waits
// together are bounded by half of its life, for where the catalog changes all the time a
// pin costs less than a wait.
func (s *session) patience(limit time.Duration) time.Duration {
	return max(0, min(limit, catalogWait+time.Since(s.started)/2-s.waited))
}

// waits adds a wait for the catalog that began then.
func (s *session) waits(since time.Time) { s.waited += time.Since(since) }

// lendWhile lets the catalog be read on the connection while that is wanted.
func (s *session) lendWhile(idle time.Duration, wanted func() bool) error {
	used := false
	defer s.waits(time.Now())
	for wait := time.Now(); wanted() && time.Since(wait) < idle; time.Sleep(time.Millisecond) {
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
