package gateway

import (
	"errors"
	"sync"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// listener listens for all clients of a database on one server connection, which
// it takes from the pool of the first that uses it and gives back when nobody does any
// more and every call is answered.
//
// What it sends are simple queries, in order; its reader answers them in order.
type listener struct {
	db *database

	// mu protects what follows. Writes to the connection happen under it, so that
	// calls and the queries sent for them have one order.
	mu       sync.Mutex
	conn     *pool.Conn // nil: there is none
	owner    uint64     // as the pool knows it
	encoding string
	starting chan struct{}         // closed when the connection is there or was not to be had
	users    map[*session]struct{} // from start to leave; whoever hears a channel is among them
	channels map[string]*channel
	calls    []*call // sent, unanswered
	lastFail time.Time
}

// channel is what the connection listens to, or will when it has answered.
type channel struct {
	heard  map[*session]struct{} // by whom
	coming int                   // LISTENs that are unanswered
}

// call is one query of a listener. done gets its error, under mu.
type call struct{ done func(err error) }

// listenTimeout bounds the wait for the listening connection of a client that holds
// another meanwhile, and each call of it. For so long after no connection could be
// had, nobody waits for one who can do without (trap T16).
const listenTimeout = 2 * time.Second

// listenRetry is the pause of a client that cannot do without.
const listenRetry = 100 * time.Millisecond

var (
	// errNoListener says that no connection could be had to listen on.
	errNoListener = errors.New("no server connection to listen on")
	// errListenRefused says that the server does not let us.
	errListenRefused = errors.New("the server refuses to listen")
	// errListenEncoding says that notifications would come in another encoding.
	errListenEncoding = errors.New("other clients of the database listen in another client_encoding")
)

// listenWait is how long a client waits for the listener: until a time, zero for
// ever; must: its LISTEN was answered already, so that there is no other way.
type listenWait struct {
	until time.Time
	must  bool
}

// listenWait says how long the client waits. One that holds no connection, or was
// answered, waits as long as it would for a connection of its own.
func (s *session) listenWait(answered bool) listenWait {
	limit := s.srv.live.Load().QueueTimeout
	if s.conn != nil && !answered {
		limit = listenTimeout
	}
	w := listenWait{must: answered}
	if limit > 0 {
		w.until = time.Now().Add(limit)
	}
	return w
}

func (w listenWait) over() bool { return !w.until.IsZero() && time.Now().After(w.until) }

// leaving says whether a session that waits is to end, or was cancelled.
func (s *session) leaving() bool {
	busy := s.busy.Load()
	return peerClosed(s.raw) || s.evicted.Load() != nil || busy&1 == 1 && s.cancelled.Load() == busy
}

// subscribe has s hear what is sent to a channel from now on. Until it returns
// nothing is promised, afterwards everything that commits. A connection that is
// lost meanwhile is exchanged for another.
func (l *listener) subscribe(s *session, name string, w listenWait) error {
	encoding := ""
	for {
		err := l.start(s, w)
		if err == nil {
			err = l.do("LISTEN "+catalog.Quote(name), func() {
				if l.channels[name] == nil {
					l.channels[name] = &channel{heard: map[*session]struct{}{}}
				}
				l.channels[name].coming++
			}, func(err error) {
				c := l.channels[name]
				c.coming--
				if err == nil {
					c.heard[s], encoding = struct{}{}, l.encoding
				}
				l.tidyLocked(name)
			})
		}
		if err == nil {
			s.chans.encoding = encoding
		}
		if err != errNoListener || !w.must || w.over() || s.leaving() {
			return err
		}
		time.Sleep(listenRetry)
	}
}

// unsubscribe ends that.
func (l *listener) unsubscribe(s *session, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.channels[name]; c != nil {
		delete(c.heard, s)
		l.tidyLocked(name)
	}
}

// tidyLocked ends listening to a channel that nobody hears or is about to.
func (l *listener) tidyLocked(name string) {
	if c := l.channels[name]; len(c.heard) > 0 || c.coming > 0 {
		return
	}
	delete(l.channels, name)
	if l.conn != nil {
		l.sendLocked("UNLISTEN "+catalog.Quote(name), func(error) {})
	}
}

// barrier returns once everything that was committed before has been delivered. A
// server sends what it has been told of before it answers.
func (l *listener) barrier() { _ = l.do("", func() {}, func(error) {}) }

// do runs a query within listenTimeout. Under mu, sent is called when the query is, and
// then, before anything that the server says later is delivered, ended, with the error
// that do returns; neither when there is no connection.
func (l *listener) do(sql string, sent func(), ended func(error)) error {
	l.mu.Lock()
	if l.conn == nil {
		l.mu.Unlock()
		return errNoListener
	}
	done := make(chan error, 1)
	sent()
	x := l.sendLocked(sql, func(err error) {
		ended(err)
		done <- err
	})
	l.mu.Unlock()
	t := time.NewTimer(listenTimeout)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(done) == 0 {
		x.done(errNoListener)
		x.done = func(error) {} // whatever the answer is
	}
	return <-done
}

// sendLocked sends a query.
func (l *listener) sendLocked(sql string, done func(error)) *call {
	x := &call{done: done}
	l.calls = append(l.calls, x)
	_ = l.conn.Net.SetWriteDeadline(time.Now().Add(listenTimeout))
	if _, err := l.conn.Net.Write(wire.AppendQuery(nil, sql)); err != nil {
		_ = l.conn.Net.Close() // its reader tells everybody
	}
	return x
}

// answeredLocked tells the oldest call its error.
func (l *listener) answeredLocked(err error) {
	x := l.calls[0]
	l.calls = l.calls[1:]
	x.done(err)
}

// leave ends the use of the connection that start began.
func (l *listener) leave(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked(s)
}

func (l *listener) leaveLocked(s *session) {
	delete(l.users, s)
	if l.conn != nil && l.idleLocked() {
		_ = l.conn.Net.SetReadDeadline(time.Unix(1, 0)) // its reader gives it back
	}
}

// idleLocked says that nobody needs the connection.
func (l *listener) idleLocked() bool { return len(l.users) == 0 && len(l.calls) == 0 }

// start waits until there is a connection, which the first who needs one has dialled,
// and keeps it there for s until leave. One with another client encoding does not do,
// but for a LISTEN that was answered: the client had the listener's encoding when it
// named the channel, has chosen another since, and hears nothing else until its own
// connection listens (moveChannels).
func (l *listener) start(s *session, w listenWait) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil && l.starting == nil && !w.must && time.Since(l.lastFail) < listenTimeout {
		return errNoListener
	}
	c := s.subscriptions()
	used := c.uses
	l.users[s], c.uses = struct{}{}, true
	if l.conn == nil {
		if l.starting == nil {
			l.starting = make(chan struct{})
			go l.dial(s.pool, l.starting)
		}
		starting := l.starting
		l.mu.Unlock()
		s.busy.Store(s.busy.Load() | 1)
		s.waitFor(starting, w)
		l.mu.Lock()
	}
	var err error
	switch {
	case l.conn == nil:
		err = errNoListener
	case !w.must && l.encoding != s.params.value("client_encoding"):
		err = errListenEncoding
	}
	if err != nil && !used {
		c.uses = false
		l.leaveLocked(s)
	}
	return err
}

// waitFor waits for done, as long as w and the client let it.
func (s *session) waitFor(done <-chan struct{}, w listenWait) {
	t := time.NewTicker(listenRetry)
	defer t.Stop()
	for !w.over() && !s.leaving() {
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
}

// dial takes a connection from the pool and reads it; done is closed when it is
// there or was not to be had.
func (l *listener) dial(p *pool.Pool, done chan struct{}) {
	var w pool.Waiter
	w.Init(nil)
	owner := l.db.srv.nextOwner.Add(1)
	c, err := p.Acquire(&w, owner, nil, p.Empty(), l.db.srv.live.Load().QueueTimeout)
	if err == nil {
		c.Dirty = true
		if err = c.Adopt(p.Empty(), listenTimeout); err != nil {
			p.Lost(c)
		}
	}
	l.mu.Lock()
	close(done)
	l.starting = nil
	switch {
	case err != nil:
		l.lastFail = time.Now()
	case len(l.users) == 0:
		p.Release(c)
		err = errNoListener
	default:
		l.conn, l.owner, l.encoding = c, owner, c.Params["client_encoding"]
	}
	l.mu.Unlock()
	if err == nil {
		l.read(c, p)
	}
}

// read reads the connection until it ends or nobody listens any more.
func (l *listener) read(c *pool.Conn, p *pool.Pool) {
	var failed error
	for {
		h, err := c.Stream.Next()
		var body []byte
		if err == nil {
			body, err = c.Stream.Body(1 << 20)
		}
		if timedOut(err) {
			if l.retire(c, p) {
				return
			}
			continue
		}
		if err != nil {
			l.lost(c, p)
			return
		}
		switch h.Type {
		case wire.NotificationResponse:
			if pid, channel, payload, err := wire.ParseNotification(body); err == nil {
				l.deliver(pid, string(channel), string(payload))
			}
		case wire.ErrorResponse:
			failed = errListenRefused
		case wire.ReadyForQuery:
			l.mu.Lock()
			if len(l.calls) > 0 {
				l.answeredLocked(failed)
			}
			failed = nil
			l.mu.Unlock()
			c.Stream.Drop()
			if l.retire(c, p) {
				return
			}
			continue
		}
		c.Stream.Drop()
	}
}

// retire gives the connection back if nobody needs it.
func (l *listener) retire(c *pool.Conn, p *pool.Pool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = c.Net.SetDeadline(time.Time{})
	if !l.idleLocked() {
		return false
	}
	l.conn = nil
	p.Release(c)
	return true
}

// lost tells everybody that notifications may have been lost: to them it is as if
// the connection to the server had ended, as it has for who listens on it directly.
func (l *listener) lost(c *pool.Conn, p *pool.Pool) {
	p.Lost(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = nil
	for len(l.calls) > 0 {
		l.answeredLocked(errNoListener)
	}
	for _, x := range l.channels {
		for s := range x.heard {
			e := fatal("57P01", "terminating connection because the server connection that listens was lost", "Connect and LISTEN again.")
			if s.evicted.CompareAndSwap(nil, e) {
				s.wake()
			}
		}
	}
	clear(l.channels)
}

// deliver passes a notification to everybody who listens.
func (l *listener) deliver(pid uint32, name, payload string) {
	b := wire.AppendNotificationResponse(nil, l.db.sender(pid), []byte(name), []byte(payload))
	var full []*session
	l.mu.Lock()
	if c := l.channels[name]; c != nil {
		for s := range c.heard {
			if !s.deliver(b) {
				full = append(full, s)
			}
		}
	}
	l.mu.Unlock()
	for _, s := range full {
		s.deliverSlowly(b)
	}
}

// sender returns the process id by which clients know the session that ran on the
// server connection pid last: the client's virtual one, or pid itself when it is
// none of ours.
func (d *database) sender(pid uint32) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pools {
		if v := p.ClientOf(pid); v != 0 {
			return v
		}
	}
	return pid
}
