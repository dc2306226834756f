package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/auth"
	"qvpgw/internal/cache"
	"qvpgw/internal/metrics"
	"qvpgw/internal/netloop"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/rules"
	"qvpgw/internal/wire"
)

// Options of a Server. Durations of zero mean never.
type Options struct {
	// Backend gives the way to the server for a database and user. It is called
	// once for each pair that a client asks for.
	Backend func(database, user string) (*pgconn.Config, error)
	// Policy says what holds for a database and user; nil: Mode and Pool for all. An
	// *Error refuses the client. It is called at each login.
	Policy func(database, user string) (Policy, error)
	Mode   Mode         // without Policy
	Pool   pool.Options // without Policy; Server is filled in by Backend

	// Login is the one database and user that all server connections use, when
	// the backend knows no others; empty: each client's own.
	LoginDatabase, LoginUser string

	Guard         *auth.Guard // who may come in; nil: nobody
	MaxLogins     int         // clients that are not logged in yet, at one time; 0: any number
	MaxClients    int
	LoginTimeout  time.Duration // startup and authentication together
	QueueTimeout  time.Duration // longest wait for a server connection
	QueueNotify   time.Duration // after which a client that waits gets a notice
	CancelTimeout time.Duration
	IdleTimeout   time.Duration // a client without transaction that sends nothing for so long is closed
	IdleInTx      time.Duration // one with an open transaction
	SlowReader    time.Duration // one that takes no byte of its answer for so long while others wait; 0: none is
	MaxText       int           // longest statement that is looked into, in bytes; 0: 1 MiB
	Gear          Gear          // how clients are driven
	Loops         int           // event loops; 0: DefaultLoops, below: none, so the second gear alone
	NoRoute       bool          // aggregates are never rewritten
	// Nor are they in these databases, as the server names them, and over these tables,
	// by name or schema.name.
	NoRouteDatabases, NoRouteTables map[string]bool
	NoCache                         bool // k-NN answers are never kept
	TrustLogs                       bool // TimescaleDB's logs alone prove an aggregate fresh
	ExactFloats                     bool // nothing that adds floats in another order is rewritten
	AlwaysRoute                     bool // an aggregate answers even where reading the raw rows is cheaper

	Rules *rules.Set
	// NewLoader returns a reader of one database's catalog. It is given the last
	// snapshot to read only what changes often, or nil to read everything.
	NewLoader    func() LoadFunc
	CatalogEvery time.Duration // how often it is read again
	Cache        *cache.Cache
	MaxEntry     int // largest reply that is cached, in bytes
	Freshness    Freshness
	MaxAge       time.Duration        // of an answer under FreshBounded
	FreshTables  map[string]Freshness // by name, or schema.name
	Changes      int64                // of each database that cached replies are judged by, in bytes; 0: 8 MiB
	CoarseCache  bool                 // any change of a table ends the cached replies from it
	// Generation is how many gateways have served on the same sockets before. It is
	// in the process ids that clients are told, so that Elsewhere can be asked to
	// carry out the cancels for clients of another one; nil: there is none.
	Generation int
	Elsewhere  func(generation int, pid uint32, key []byte)
	Console    func(ctx context.Context, text string) (Table, error) // nil: there is no console; ctx ends when its client hangs up
	Admins     []string                                              // users that may use it
	Metrics    *metrics.Metrics
	Version    string
	Log        *slog.Logger
}

// QueryFunc runs one statement on a server connection of its own and returns the
// rows as text, NULL as nil.
type QueryFunc func(sql string) ([][]*string, error)

// Table is a result of the console.
type Table struct {
	Columns []wire.Field
	Rows    [][]string
	Tag     string
}

// Server accepts clients and serves them until Shutdown.
type Server struct {
	opt   Options                 // as at the start
	live  atomic.Pointer[Options] // as Reload left them
	log   *slog.Logger
	m     *metrics.Metrics
	mock  *wire.Mock // verifiers of unknown users
	keys  *auth.Keys // for logins to the server
	gate  *gate
	stmts statements
	loops *netloop.Loops // nil: clients have goroutines

	// mu protects what follows.
	mu        sync.Mutex
	sessions  map[uint32]*session   // by virtual pid
	entering  map[*session]struct{} // that are not registered yet
	databases map[string]*database
	listeners []net.Listener
	lastPID   uint32
	draining  bool
	ending    atomic.Bool // the same, without mu
	refusing  bool        // new logins, too

	paused  atomic.Bool // all databases, see Pause
	usersMu sync.Mutex  // protects users; may be taken under any other lock
	users   map[string]*userLimits

	nextOwner atomic.Uint64
	wg        sync.WaitGroup // connections, and Serve
	forced    atomic.Bool    // the drain's deadline is over
	done      chan struct{}  // closed when Shutdown begins
	routes    routeLog
	reasons   map[router.Reason]*metrics.Count // by reason code
	plain     *metrics.Count                   // that of ReasonPlain
	rules     map[string]metrics.RuleHits      // by rule

	unchecked atomic.Bool // nobody looks what a transaction left behind: for the tests that must see it

	unsettled atomic.Bool // kept answers are found without their settings: likewise

	unproven atomic.Bool // answers are not validated and guards not heeded: for the tests that must see it
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("the gateway is shut down")

// New returns a Server.
func New(opt Options) *Server {
	s := &Server{
		opt: opt, log: opt.Log, m: opt.Metrics,
		sessions: map[uint32]*session{}, entering: map[*session]struct{}{}, databases: map[string]*database{},
		users: map[string]*userLimits{},
		done:  make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.m == nil {
		s.m = metrics.New()
	}
	if s.opt.Changes <= 0 {
		s.opt.Changes = 8 << 20
	}
	if s.opt.MaxText <= 0 {
		s.opt.MaxText = 1 << 20
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		panic("BUG: " + err.Error())
	}
	s.mock = wire.NewMock(secret)
	if s.opt.Guard == nil {
		s.opt.Guard = &auth.Guard{}
	}
	now := s.opt
	s.live.Store(&now)
	s.keys = auth.NewKeys()
	s.gate = newGate(opt.MaxLogins)
	s.resolveMetrics()
	s.startLoops()
	go s.sweep()
	return s
}

// DefaultLoops is the number of event loops unless one is asked for: one for every
// two processors. The server and its clients want the others, and a loop that has
// more to do wakes up less often for it.
func DefaultLoops() int { return max(1, runtime.NumCPU()/2) }

// startLoops starts the event loops where there can be some.
func (s *Server) startLoops() {
	n := s.opt.Loops
	if n < 0 {
		return
	}
	if n == 0 {
		n = DefaultLoops()
	}
	loops, err := netloop.New(n)
	if err != nil {
		s.log.Warn("clients are served by goroutines", "error", err)
		return
	}
	s.loops = loops
}

// Guard says who may come in now.
func (s *Server) Guard() *auth.Guard { return s.live.Load().Guard }

// Serve accepts clients on l until Shutdown or a lasting error of l.
func (s *Server) Serve(l net.Listener) error {
	if s.loops != nil {
		var err error
		if l, err = s.loops.Listen(l); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners = append(s.listeners, l)
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	var delay time.Duration
	for {
		n, err := l.Accept()
		if err != nil {
			select {
			case <-s.done:
				return ErrServerClosed
			default:
			}
			var ne net.Error
			if errors.Is(err, net.ErrClosed) || !errors.As(err, &ne) {
				return fmt.Errorf("cannot accept on %s: %w", l.Addr(), err)
			}
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log.Warn("cannot accept", "address", l.Addr().String(), "error", err)
			time.Sleep(delay)
			continue
		}
		delay = 0
		s.wg.Add(1)
		go s.serveConn(n)
	}
}

// register gives the session its virtual backend key and makes it known, if the
// limits allow another client.
func (s *Server) register(c *session) error {
	var policy Policy
	if c.db != nil {
		policy, _ = s.policy(c.database, c.user) // findPool has asked already
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusing {
		return fatal("57P01", "the gateway is shutting down", "Connect again: another instance may be there already.")
	}
	if err := s.admitLocked(c, &policy); err != nil {
		return err
	}
	for s.lastPID = nextPID(s.lastPID, s.opt.Generation); s.sessions[s.lastPID] != nil; {
		s.lastPID = nextPID(s.lastPID, s.opt.Generation)
	}
	c.pid = s.lastPID
	key := make([]byte, 4)
	if c.startup.Version >= 3<<16|2 {
		key = make([]byte, 32)
	}
	if _, err := rand.Read(key); err != nil {
		return fatal("XX000", "cannot make a cancel key: "+err.Error(), "")
	}
	c.key = key
	s.sessions[c.pid] = c
	s.enterLocked(c)
	delete(s.entering, c)
	return nil
}

// Virtual process ids are positive: seven bits of the generation above a number
// that is not 0.
const pidBits = 24

// nextPID returns the id after last.
func nextPID(last uint32, generation int) uint32 {
	n := (last + 1) & (1<<pidBits - 1)
	return uint32(generation)&0x7f<<pidBits | max(n, 1)
}

// generationOf is what a virtual process id tells of its gateway's generation.
func generationOf(pid uint32) int { return int(pid >> pidBits & 0x7f) }

// enter makes a connection known before it has logged in.
func (s *Server) enter(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entering[c] = struct{}{}
	if s.refusing {
		_ = c.raw.SetDeadline(time.Unix(1, 0))
	}
}

// isRefusing says whether nobody is let in any more.
func (s *Server) isRefusing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusing
}

// leave forgets a connection that has ended.
func (s *Server) leave(c *session) {
	s.mu.Lock()
	delete(s.entering, c)
	s.mu.Unlock()
	s.wg.Done()
}

func (s *Server) unregister(c *session) {
	s.mu.Lock()
	delete(s.sessions, c.pid)
	s.leaveLocked(c)
	s.mu.Unlock()
}

// all returns the sessions of this moment.
func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq(make([]*session, 0, len(s.sessions)), maps.Values(s.sessions))
}

// sweepEvery is how often clients with a long turn are looked at; a turn is long
// when it was the same one at the last look.
const sweepEvery = 250 * time.Millisecond

// sweep looks whether clients whose turn takes long have hung up, so that their
// queries do not run for nobody.
func (s *Server) sweep() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	var tidy tidier
	for {
		now := <-t.C
		sessions := s.all()
		tidy.look(s.nextOwner.Load(), now)
		for _, c := range sessions {
			c.look(now)
		}
		select {
		case <-s.done:
			if len(sessions) == 0 {
				return
			}
		default:
		}
	}
}
