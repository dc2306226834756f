package gateway

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/auth"
	"qvpgw/internal/metrics"
	"qvpgw/internal/netloop"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// session is one client from its first byte to its last. But for what is atomic,
// its goroutine alone uses it.
//
// What every turn looks at comes first and lies together: with thousands of clients a
// turn finds little of its session in the processor's caches, and fetches it by the line.
type session struct {
	*work // nil while it is parked with nothing in it

	srv  *Server
	db   *database
	pool *pool.Pool
	loop *netloop.Conn // the socket when it is one of the loops', else nil
	net  net.Conn      // with TLS when the client asked for it
	raw  net.Conn      // the socket

	// Of the gears. The rest of the session belongs to who holds word.
	word        atomic.Uint32
	phase       phase
	first       bool // nothing may block
	mode        Mode
	handler     netloop.Handler // the session itself
	failed      error           // what ends the session, for the second gear to do
	foreseen    *router.Plan
	foreseenFor *byte        // the text that it is for
	binds       []*statement // of the turn that easy looked at

	// Of the server connection.
	owner     uint64
	conn      *pool.Conn                // held, or nil
	held      atomic.Pointer[pool.Conn] // the same, for cancels
	last      *pool.Conn                // held before, preferred
	bucket    *pool.Bucket              // settings now
	era       uint32                    // Pool.Era of the defaults above which base and bucket are
	pid       uint32                    // virtual backend key, from register
	busy      atomic.Uint64             // odd while a turn runs
	cancelled atomic.Uint64             // busy of the turn that was cancelled before it had a server connection
	awaiting  atomic.Uint32             // awaitsCatalog, awaitsSettings, awaitCancelled, or 0
	inTx      atomic.Bool               // a transaction is open between two turns
	idle      atomic.Uint32             // idle_session_timeout in ms, 0: none
	evicted   atomic.Pointer[Error]

	// Of what it leaves behind.
	pins       atomic.Uint32 // router.Pins
	kept       router.Pins   // of what no check finds out
	culprit    *router.Plan  // that began to keep the server connection, or made that last
	lastly     bool          // the latter
	renew      bool          // the next one must be one that nobody had before
	local      bool          // it has a SET LOCAL that changes what texts mean
	literals   bool          // it has a SET that changes how literals are read
	undone     bool          // an error undid pending, unless a savepoint keeps it
	rebased    bool          // what is reported next is what a RESET or DISCARD ALL went back to
	ddl        bool          // the open transaction changed the catalog
	perhapsDDL bool          // code that it ran may have
	notifies   bool          // the open transaction may send notifications
	shown      bool          // the connection was told of chans in this turn
	decided    bool          // the route of the statement under way is known already
	wrote      bool          // since the last round that it waited for, perhaps
	switches
	chans      *channels // nil before the first LISTEN
	route      lastRoute
	generation uint64 // of the router, when the newest plan was made
	waiter     pool.Waiter

	// What follows is for rarer events.

	database string
	user     string
	login    string                 // the user of the pool's server connections
	app      atomic.Pointer[string] // application_name
	key      []byte
	started  time.Time

	// guest, startup and binding are nil once it is logged in.
	guest       *guest
	startup     *wire.Startup
	bounded     *boundedConn // under TLS, nil without
	binding     []byte       // of the certificate shown to it
	direct      bool         // TLS began at once
	trusted     bool         // without a proof
	method      auth.Method  // how it logged in
	replication bool         // it asked for a replication connection

	// The sweeper's alone. Times are since started, 0: none.
	looked uint64        // busy at its last look,
	since  time.Duration // and since when
	queued int           // bytes that the client does not read,
	stuck  time.Duration // and since when
	again  time.Duration // when a hung-up client's statement is cancelled next

	fixed     bool                  // PinStatement stays: literals were read once and for all
	lasting   bool                  // PinCatalog stays: not all of them are there
	dated     bool                  // a SET datestyle completed
	logins    bool                  // the open transaction changed what a login runs, perhaps
	answered  bool                  // the client was passed a FATAL error, or a message that will not end: it can be told nothing more
	counted   router.Pins           // in the metrics
	base      *pool.Bucket          // settings of the startup packet
	sequences *pool.Conn            // where it used a sequence last
	params    params                // reported ones as the client knows them
	change    router.Change         // what ddl does to others
	before    *switches             // what the open transaction goes back to
	named     map[string]*statement // the client's prepared statements
	waited    time.Duration         // for the catalog
}

// serveConn takes a client in and runs its first turn.
func (s *Server) serveConn(n net.Conn) {
	guest := s.gate.enter(n)
	if guest == nil {
		defer s.wg.Done()
		s.m.LoginFailures[metrics.LoginLimit].Inc()
		turnAway(n)
		return
	}
	defer s.gate.leave(guest)
	c := &session{srv: s, net: n, raw: n, guest: guest, started: time.Now(), owner: s.nextOwner.Add(1)}
	s.enter(c)
	c.loop, _ = n.(*netloop.Conn)
	c.handler = c
	c.word.Store(running)
	c.waiter.Init(c)
	c.takeUp()
	if t, ok := n.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true)
	}
	if err := c.guarded(c.begin); err != nil {
		c.end(err)
		return
	}
	s.m.ClientConnected()
	if c.loop != nil {
		c.loop.Watch(&c.handler)
	}
	c.run()
}

// finish ends a session that was served.
func (s *session) finish(err error) {
	defer func() {
		if r := recover(); r != nil {
			_ = s.crashed(r)
			_ = s.net.Close()
		}
	}()
	s.srv.m.ClientGone()
	s.srv.unregister(s)
	s.end(err)
}

// end gives back what the session held, tells the client why it ends, and closes
// the connection.
func (s *session) end(err error) {
	defer s.srv.leave(s)
	defer s.net.Close()
	if s.loop != nil {
		s.loop.Watch(nil)
		s.loop.SetBlocking(true)
	}
	if s.conn != nil {
		s.abandon()
	}
	if s.pool != nil {
		s.pool.Forgo(&s.waiter) // granted for a turn that did not come to it
	}
	s.dropStatements()
	s.endListening()
	var e *Error
	switch {
	case err == nil || gone(err) && !errors.As(err, &e):
	case errors.As(err, &e): // the end of a server, too
		if !s.answered {
			s.tell(e)
			s.linger()
		}
		if e.Err != nil {
			s.srv.log.Info("client ended", "pid", s.pid, "user", s.user, "database", s.database, "error", e.Error())
		}
		s.srv.m.Error(e.Code)
	default:
		s.srv.log.Info("client ended", "pid", s.pid, "user", s.user, "database", s.database, "error", err)
	}
}

// attach gets a server connection with the session's settings.
func (s *session) attach() error { return s.attachWith(nil) }

// attachWith is attach; a connection that nobody had before logs in with params.
func (s *session) attachWith(params map[string]string) error {
	if s.conn != nil {
		if s.ahead != nil {
			return s.sendAhead()
		}
		return nil
	}
	s.busy.Store(s.busy.Load() | 1)
	s.waiter.After = s.srv.live.Load().QueueNotify
	for attempt := 0; ; attempt++ {
		c, err := s.pool.Acquire(&s.waiter, s.owner, s.last, s.bucket, s.srv.live.Load().QueueTimeout)
		if err != nil {
			var pe *pgconn.PgError
			if errors.As(err, &pe) && pe.Code == "57P01" && attempt < 3 {
				continue // somebody ended it while it logged in
			}
			return noServer(err)
		}
		if s.renew {
			if c, err = s.pool.Renew(c, s.owner, params); err != nil {
				return noServer(err)
			}
			s.renew = false
		}
		s.keepDefaults(c.Era)
		switched := !pool.Same(c.Bucket, s.bucket)
		if err := c.Adopt(s.bucket, switchTimeout); err != nil {
			var se *pool.ServerError
			if errors.As(err, &se) {
				s.pool.Release(c)
				return s.unrestored(se.Fields)
			}
			s.pool.Lost(c)
			if attempt < 3 {
				continue // nothing of the client's has been sent
			}
			return serverLost(err)
		}
		s.take(c)
		if s.cancelled.CompareAndSwap(s.busy.Load(), 0) {
			s.detach()
			return noServer(errCancelled)
		}
		if switched {
			return s.report()
		}
		return nil
	}
}

// unrestored is what a client is told whose settings the server refuses: as it logs in,
// the server's word. Later they were taken once (a role that was dropped since), and no
// statement of it could run any more.
func (s *session) unrestored(f *wire.ErrorFields) *Error {
	e := &Error{Code: f.Code, Message: f.Message, Detail: f.Detail, Hint: f.Hint, Fatal: true}
	if s.pid != 0 {
		e.Message, e.Hint = "cannot restore the session's settings: "+f.Message, "Connect again."
	}
	return e
}

// take makes c, which has the session's settings or is given them ahead, the connection
// that it holds. Until they are in force a cancel is kept: it is for the statement behind
// them.
func (s *session) take(c *pool.Conn) {
	if d := s.waiter.Waited(); d > 0 {
		s.srv.m.PoolWait.Observe(d)
	}
	s.conn, s.long = c, nil
	c.Client.Store(s.pid)
	if s.ahead == nil {
		s.held.Store(c)
	} else {
		s.awaiting.Store(awaitsSettings)
	}
	s.up.unread, s.asking = 0, false
	_, s.sentBefore = c.Stream.Counts()
	c.Stream.SetDst(s.net)
	s.client.SetDst(&s.up)
	s.cv.tx = wire.Idle
	if s.mode == Session {
		c.Once = true
	}
	c.Watch(&s.handler, !s.first)
}

// report tells the client which reported parameters came to differ from what it
// knows: a reset on a shared server connection goes to the server's default, the
// session's own comes back with the next connection.
func (s *session) report() error {
	for name, value := range s.conn.Params {
		if have, ok := s.params.get(name); !ok || have == value || name == "session_authorization" {
			continue
		}
		s.params.set(name, value)
		if name == "application_name" {
			s.app.Store(&value)
		}
		if err := s.conn.Stream.Inject(wire.AppendParameterStatus(nil, name, value)); err != nil {
			return s.serverError(err)
		}
	}
	return nil
}

const switchTimeout = 30 * time.Second

// detach gives the server connection back between two turns.
func (s *session) detach() { s.detachAt(pool.Now()) }

func (s *session) detachAt(now time.Time) {
	c := s.conn
	s.held.Store(nil)
	s.conn, s.last, s.ahead = nil, c, nil
	s.client.SetDst(nil)
	s.pool.ReleaseAt(c, now)
}

// lose drops a server connection that cannot be used any more.
func (s *session) lose() {
	c := s.conn
	if c == nil {
		return // what found it lost did so
	}
	s.held.Store(nil)
	s.conn, s.last = nil, nil
	s.client.SetDst(nil)
	s.pool.Lost(c)
}

// abandonTimeout bounds how long the end of a left query is waited for.
const abandonTimeout = 5 * time.Second

// abandon gives back a server connection in whatever state the client left it:
// what runs is cancelled, an open transaction is rolled back, the rest is reset.
func (s *session) abandon() {
	c := s.conn
	s.pipeline = nil
	if s.srv.opt.Pool.BrokenHandOver {
		s.detach()
		return
	}
	_ = c.Net.SetDeadline(time.Now().Add(abandonTimeout))
	c.Stream.SetDst(discard{})
	if s.asking || s.client.Midway() || s.client.Flush() != nil {
		s.lose() // replies of our own are to come, or half a message is with the server
		return
	}
	if !s.cv.idle() {
		if c.BeginCancel(s.owner) {
			go func() { _ = c.Cancel(s.cancelContext()) }()
		}
		if err := s.breakOff(); err != nil {
			s.lose()
			return
		}
	}
	if s.cv.tx != wire.Idle {
		if _, err := c.Query("ROLLBACK", abandonTimeout); err != nil {
			s.lose()
			return
		}
		s.pending = nil
	}
	_ = c.Net.SetDeadline(time.Time{})
	_ = c.Stream.Flush()
	s.settleSettings()
	c.Dirty = c.Dirty || s.due != 0 && !s.srv.unchecked.Load()
	s.held.Store(nil)
	s.conn = nil
	s.pool.Release(c)
}

// breakOff has the server answer everything that was sent to it, and ends the
// COPYs that it asks the client for meanwhile.
func (s *session) breakOff() error {
	for !s.cv.idle() {
		var b []byte
		if s.cv.copying {
			b = wire.AppendCopyFail(b, "the client hung up")
			s.cv.copying = false
		}
		if s.cv.group || s.cv.skip {
			b = wire.AppendSync(b)
			s.cv.expect(reply{msg: wire.Sync})
		}
		if _, err := s.conn.Net.Write(b); err != nil {
			return err
		}
		for s.cv.queue.n > 0 && !s.cv.copying {
			if err := s.step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// discard is a destination that swallows everything.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// wake has a client that sits between two turns look whether it is to end or may
// give its server connection back; a busy one does so when its turn is over.
func (s *session) wake() {
	_ = s.raw.SetReadDeadline(time.Unix(1, 0))
	s.poke()
}

// nudge has a session look for mail without ending its wait.
func (s *session) nudge() {
	if s.loop != nil && s.word.Swap(lookAgain) == parked {
		go s.drive()
		return
	}
	_ = s.raw.SetReadDeadline(time.Unix(1, 0))
}

// poke has a parked session look around.
func (s *session) poke() {
	if s.loop != nil {
		s.Ready()
	}
}
