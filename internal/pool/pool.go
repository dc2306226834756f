package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/netloop"
	"qvpgw/internal/wire"
)

// Options of a Pool. Durations of zero mean never, but for ConnectTimeout (5 s).
type Options struct {
	Server   *pgconn.Config                // with further hosts as Fallbacks
	Target   Target                        // which of them; "": Any
	Balance  Balance                       // in which order; "": InOrder
	Resolve  time.Duration                 // how often names are looked up for addresses that have gone
	Size     int                           // connections kept open
	Overflow int                           // opened beyond Size while clients wait, closed when idle
	Min      int                           // opened without a client; at most Size
	Reserve  int                           // opened beyond Size and Overflow; see roomLocked
	Limits   []*Limit                      // shared with other pools; as they are at New
	Loops    *netloop.Loops                // that the connections belong to; nil: Server.DialFunc dials
	Keys     func() (wire.ScramKeys, bool) // what logs in by SCRAM when Server has no password; nil: nothing

	ReserveTimeout time.Duration
	ConnectTimeout time.Duration // dial, TLS and login together, for each host
	Lifetime       time.Duration // a connection older than this is closed when it is free
	IdleTimeout    time.Duration // an idle connection within Size is closed after this
	CheckDelay     time.Duration // one idle for longer is looked at before use
	Backoff        time.Duration // how long a host is left alone after a failed dial,
	BackoffMax     time.Duration // at most, since it doubles with each failure in a row
	WaitDown       bool          // clients wait while no host can be dialled and nothing is open

	// BrokenHandOver skips the reset of dirty connections and the check of a
	// cancelled one, and gives one away in the middle of a statement when its
	// client hangs up: for the tests that must see it go wrong (trap T17).
	BrokenHandOver bool
}

// Errors of Acquire.
var (
	ErrClosed  = errors.New("the pool is closed")
	ErrTimeout = errors.New("no server connection became free in time")
)

// overflowIdle is how long a connection beyond Size may be idle.
const overflowIdle = 5 * time.Second

// controlTimeout bounds our own round trips on a server connection.
const controlTimeout = 10 * time.Second

// Pool keeps the server connections of one database and user.
type Pool struct {
	ID uint64 // unique in the process

	opt     Options
	ctx     context.Context // ends when the pool is closed
	cancel  context.CancelFunc
	buckets *buckets
	derived derivedKeys

	// mu protects what follows. Nothing that can block happens under it.
	mu       sync.Mutex
	idle     []*Conn // last released at the end
	all      map[*Conn]struct{}
	open     int // connections that exist or are being dialled
	closed   bool
	retiring bool // who is free is closed unless somebody waits
	waiting  waiters
	control  waiters // work of our own, served first
	dialErr  error
	resting  int // being reset or checked before they are free

	hosts     []*host
	turn      int // of RoundRobin
	resolved  time.Time
	resolving bool
	paused    bool
	filling   bool
	alarm     *time.Timer // see alarmLocked

	kept          int  // connections that their holders keep (Hold)
	stretched     bool // the reserve is open for long waits, too
	reservePeak   int
	reserveOpened int64

	eras eras

	renewals       atomic.Uint64 // how often all connections were to be replaced; changed under mu
	era            atomic.Uint32 // eras.now, for who has no lock
	checkDelay     atomic.Int64  // Options.CheckDelay
	brokenHandOver bool          // Options.BrokenHandOver

	handovers, acquires, waits, timeouts, dials, dialFailures, resets, dead atomic.Int64
	waited                                                                  atomic.Int64 // ns
}

var lastID atomic.Uint64

func (o Options) complete() Options {
	o.Size = max(o.Size, 1)
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	return o
}

// New returns a pool; it dials nothing yet.
func New(opt Options) *Pool {
	opt = opt.complete()
	p := &Pool{all: map[*Conn]struct{}{}, ID: lastID.Add(1), opt: opt, buckets: newBuckets(), resolved: time.Now()}
	if opt.Server != nil {
		p.hosts = splitHosts(opt.Server)
	}
	p.checkDelay.Store(int64(opt.CheckDelay))
	p.brokenHandOver = opt.BrokenHandOver
	p.ctx, p.cancel = context.WithCancel(context.Background())
	go p.janitor()
	return p
}

// Intern returns the pool's Bucket for settings, which it keeps.
func (p *Pool) Intern(settings []Setting) *Bucket { return p.buckets.intern(settings) }

// Empty returns the Bucket of a new session.
func (p *Pool) Empty() *Bucket { return p.buckets.empty }

// Acquire returns a free connection for owner, whose ids are unique and not 0.
// It takes, in this order: prefer when it is idle, an idle one with bucket b, any
// idle one, a new one; else it waits, at most timeout (0: for ever), in the order
// of arrival. w belongs to the caller and is used for one Acquire at a time.
func (p *Pool) Acquire(w *Waiter, owner uint64, prefer *Conn, b *Bucket, timeout time.Duration) (*Conn, error) {
	if w.kept != nil {
		g := *w.kept
		w.kept = nil
		switch {
		case g.err != nil:
			return nil, g.err
		case g.conn == nil:
			c, err := p.dialFor(owner, nil)
			if err == nil || !p.waitsOut() {
				return c, err
			}
			w.resumed = true
		case p.usable(g.conn):
			return p.grant(g.conn, owner), nil
		}
	}
	p.acquires.Add(1)
	if !w.resumed {
		w.begin()
	}
	w.resumed = false
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		if c := p.takeIdleLocked(prefer, b); c != nil {
			p.mu.Unlock()
			if !p.usable(c) {
				continue
			}
			return p.grant(c, owner), nil
		}
		if (owner == ControlOwner || p.waiting.n == 0 || !w.queued.IsZero()) && p.takePlaceLocked(time.Time{}) {
			p.mu.Unlock()
			c, err := p.dialFor(owner, nil)
			if err != nil && p.waitsOut() {
				continue
			}
			return c, err
		}
		if err := p.downLocked(); err != nil {
			p.mu.Unlock()
			return nil, err
		}
		p.queueLocked(w, owner)
		p.mu.Unlock()
		p.waits.Add(1)
		c, dial, err := p.wait(w, timeout)
		switch {
		case err != nil:
			return nil, err
		case dial:
			c, err := p.dialFor(owner, nil)
			if err != nil && p.waitsOut() {
				continue
			}
			return c, err
		case w.back != nil:
			return c, nil // lent: it stays its holder's
		case p.usable(c):
			return p.grant(c, owner), nil
		}
	}
}

// usable says whether c can be given to a client; else it is discarded.
func (p *Pool) usable(c *Conn) bool {
	if p.suspect(c) && !c.alive() {
		p.dead.Add(1)
		p.Discard(c)
		return false
	}
	return true
}

// grant makes owner the holder.
func (p *Pool) grant(c *Conn, owner uint64) *Conn {
	c.grants++
	c.failed = false
	c.Heard = nil // somebody else's
	c.idleSince = time.Time{}
	c.state.Store(owner << 16)
	return c
}

// dialFor dials for a holder whose place in open is taken already. params are startup
// parameters of that holder alone: what the server says of them is nobody else's.
func (p *Pool) dialFor(owner uint64, params map[string]string) (*Conn, error) {
	var c *Conn
	var err error
	for {
		renewals := p.renewals.Load()
		p.dials.Add(1)
		c, err = p.dial(params)
		p.mu.Lock()
		if err != nil || renewals == p.renewals.Load() || p.closed {
			break
		}
		p.mu.Unlock()
		c.goodbye() // it may be what those were that are retired since
		_ = c.Net.Close()
	}
	if err != nil {
		p.dialFailures.Add(1)
		p.leavePlaceLocked()
		if params == nil {
			p.dialErr = err
		}
		if params == nil && p.open == 0 && !p.opt.WaitDown {
			// Nobody will release anything: who waits has the same answer.
			for w := p.popLocked(); w != nil; w = p.popLocked() {
				w.deliverLocked(grant{err: err})
			}
		}
		p.wakeLocked() // the place is there for who waits
		p.mu.Unlock()
		return nil, err
	}
	if p.closed {
		p.leavePlaceLocked()
		p.mu.Unlock()
		_ = c.Net.Close()
		return nil, ErrClosed
	}
	p.dialErr = nil
	c.Era = p.eras.now
	p.all[c] = struct{}{}
	p.wakeLocked()
	p.mu.Unlock()
	return p.grant(c, owner), nil
}

// Renew exchanges c, which owner holds and has not used, for a connection that nobody
// held before, unless it is one. params are startup parameters for it, nil for those of
// all; with others it is owner's alone, which has to set Once. After an error owner
// holds none.
func (p *Pool) Renew(c *Conn, owner uint64, params map[string]string) (*Conn, error) {
	if c.grants == 1 && params == nil {
		return c, nil
	}
	c.goodbye()
	_ = c.Net.Close()
	p.mu.Lock()
	delete(p.all, c)
	p.mu.Unlock()
	return p.dialFor(owner, params)
}

// takeIdleLocked removes and returns the best idle connection, or nil.
func (p *Pool) takeIdleLocked(prefer *Conn, b *Bucket) *Conn {
	n := len(p.idle)
	if n == 0 || p.paused {
		return nil
	}
	best := n - 1
	if prefer != nil && prefer.where >= 0 {
		best = prefer.where
	} else {
		for i := n - 1; i >= 0; i-- {
			if p.idle[i].Bucket == b {
				best = i
				break
			}
		}
	}
	return p.removeIdleLocked(best)
}

func (p *Pool) removeIdleLocked(i int) *Conn {
	c := p.idle[i]
	last := len(p.idle) - 1
	copy(p.idle[i:], p.idle[i+1:])
	for j := i; j < last; j++ {
		p.idle[j].where = j
	}
	p.idle[last] = nil
	p.idle = p.idle[:last]
	c.where = -1
	return c
}

// takeAllIdleLocked empties the idle ones, which the caller has to part with.
func (p *Pool) takeAllIdleLocked() []*Conn {
	gone := p.idle
	p.idle = nil
	for _, c := range gone {
		c.where = -1
	}
	return gone
}

// Release gives the connection back between two turns: to the client that has
// waited longest, or to the idle ones. A dirty one is reset first, one for which
// a cancel was sent is proven to have swallowed it.
func (p *Pool) Release(c *Conn) { p.ReleaseAt(c, Now()) }

// ReleaseAt is Release for who has looked at the clock.
func (p *Pool) ReleaseAt(c *Conn, now time.Time) {
	st := c.state.Load()
	for !c.state.CompareAndSwap(st, st&0xffff) {
		st = c.state.Load()
	}
	c.Watch(nil, true)
	if c.kept {
		p.mu.Lock()
		p.unkeepLocked(c)
		p.mu.Unlock()
	}
	if c.Once {
		c.goodbye()
	}
	if c.Once || !c.Stream.Clean() {
		p.Discard(c)
		return
	}
	c.Stream.Release()
	c.Stream.SetDst(nil)
	c.Dirty = c.Dirty || c.Bucket != nil && c.Bucket.restless
	if (c.Dirty || c.Bucket == nil || c.doubtful || st&0xffff != 0) && !p.brokenHandOver {
		p.mu.Lock()
		p.resting++
		p.mu.Unlock()
		go p.restore(c)
		return
	}
	p.free(c, now)
}

// restore resets a connection and waits out the cancels sent for it.
func (p *Pool) restore(c *Conn) {
	p.resets.Add(1)
	ok := c.settle() && (!c.Dirty && c.Bucket != nil || c.reset(controlTimeout) == nil) && !(c.doubtful && p.demoted(c))
	p.mu.Lock()
	p.resting--
	p.mu.Unlock()
	if !ok {
		p.Discard(c)
		return
	}
	p.free(c, Now())
}

// settle waits until every cancel for c was delivered and swallows what is left
// of it: an empty round trip, in which a cancel's error may arrive (trap T10).
func (c *Conn) settle() bool {
	if c.state.Load() == 0 {
		return true
	}
	deadline := time.Now().Add(controlTimeout)
	for c.state.Load()&(cancelSeen-1) != 0 {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Query("", controlTimeout); err != nil {
		var se *ServerError
		if !errors.As(err, &se) || se.Fields.Code != "57014" {
			return false
		}
	}
	c.state.Store(0)
	return true
}

// free hands c to the oldest waiter or makes it idle.
func (p *Pool) free(c *Conn, now time.Time) {
	p.mu.Lock()
	if p.spentLocked(c, now) {
		p.mu.Unlock()
		p.Discard(c)
		return
	}
	if w := p.popLocked(); w != nil {
		p.mu.Unlock()
		p.handovers.Add(1)
		w.deliver(grant{conn: c, at: now})
		return
	}
	if p.retiring {
		p.mu.Unlock()
		c.goodbye()
		p.Discard(c)
		return
	}
	c.idleSince = now
	c.where = len(p.idle)
	p.idle = append(p.idle, c)
	p.mu.Unlock()
}

// Discard closes the connection; whoever waits longest may dial another.
func (p *Pool) Discard(c *Conn) {
	st := c.state.Load()
	for !c.state.CompareAndSwap(st, st&0xffff) {
		st = c.state.Load()
	}
	_ = c.Net.Close()
	p.mu.Lock()
	p.unkeepLocked(c)
	p.leavePlaceLocked()
	delete(p.all, c)
	p.wakeLocked()
	p.mu.Unlock()
}

// Lost discards a connection that the server ended. The others may have ended
// with it (a restart), so each is looked at before it is used again.
func (p *Pool) Lost(c *Conn) {
	p.dead.Add(1)
	p.mu.Lock()
	for _, i := range p.idle {
		i.failed = true
	}
	p.mu.Unlock()
	p.Discard(c)
}

// Query runs sql on a connection of the pool, for control work. It waits like a
// client does, so it never needs a connection beyond those of the pool.
func (p *Pool) Query(sql string, timeout time.Duration) ([][]*string, error) {
	return p.ours(func(c *Conn) ([][]*string, error) { return c.Query(sql, timeout) }, timeout)
}

// ours runs work on a connection with the settings of a new session.
func (p *Pool) ours(work func(*Conn) ([][]*string, error), timeout time.Duration) ([][]*string, error) {
	var w Waiter
	w.Init(nil)
	c, err := p.Acquire(&w, ControlOwner, nil, p.Empty(), timeout)
	if err != nil {
		return nil, err
	}
	var rows [][]*string
	if err = c.Adopt(p.Empty(), timeout); err == nil {
		rows, err = work(c)
	}
	var se *ServerError
	if w.back != nil {
		w.back <- err == nil || errors.As(err, &se)
		return rows, err
	}
	if err != nil && !errors.As(err, &se) {
		p.Discard(c)
		return nil, fmt.Errorf("cannot run a control query: %w", err)
	}
	p.Release(c)
	return rows, err
}

// ControlOwner is the owner of connections that the gateway uses for itself.
const ControlOwner = 1<<48 - 1

// SeveralOwners is Conn.SequenceOwner of a session that has values of several holders.
const SeveralOwners = ControlOwner

// Retire closes idle connections, and from now on each that becomes free while
// nobody waits: another process needs them. Whoever asks still gets one.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retiring = true
	gone := p.takeAllIdleLocked()
	p.mu.Unlock()
	p.part(gone)
}

// Close ends the pool: idle connections at once, held ones when they are
// released; who waits gets ErrClosed.
func (p *Pool) Close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	gone := p.takeAllIdleLocked()
	for w := p.popLocked(); w != nil; w = p.popLocked() {
		w.deliverLocked(grant{err: ErrClosed})
	}
	for _, l := range p.opt.Limits {
		l.leave(p)
	}
	if p.alarm != nil {
		p.alarm.Stop()
	}
	p.mu.Unlock()
	p.part(gone)
}
