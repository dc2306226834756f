package gateway

import (
	"errors"
	"strings"
	"sync"
	"time"

	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// listener listens for all clients of a database on one server connection, which
// it takes from the pool of the first and gives back after the last.
//
// What it sends are simple queries, in order; its reader answers them in order.
type listener struct {
	db *database

	// mu protects what follows. Writes to the connection happen under it, so that
	// calls and the queries sent for them have one order.
	mu       sync.Mutex
	conn     *pool.Conn // nil: nobody listens
	encoding string
	starting chan struct{} // closed when the connection is there or was not to be had
	channels map[string]map[*session]struct{}
	wanted   int     // who waits for starting
	calls    []*call // sent, unanswered
	lastFail time.Time
}

// call is one query of a listener. done gets its error, unless the client gave up.
type call struct {
	done func(err error)
	gone bool
}

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
func (l *listener) subscribe(s *session, channel string, w listenWait) error {
	for {
		err := l.start(s, w)
		if err == nil {
			err = l.do("LISTEN "+quoteName(channel), listenTimeout, func() {
				if l.channels == nil {
					l.channels = map[string]map[*session]struct{}{}
				}
				if l.channels[channel] == nil {
					l.channels[channel] = map[*session]struct{}{}
				}
				l.channels[channel][s] = struct{}{}
			})
			if err != nil {
				l.unused()
			}
		}
		if err != errNoListener || !w.must || w.over() || s.leaving() {
			return err
		}
		time.Sleep(listenRetry)
	}
}

// unsubscribe ends that; the last one gives the connection back.
func (l *listener) unsubscribe(s *session, channel string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := l.channels[channel]
	delete(set, s)
	if len(set) > 0 || set == nil {
		return
	}
	delete(l.channels, channel)
	switch {
	case l.conn == nil:
	case len(l.channels) == 0 && len(l.calls) == 0:
		_ = l.conn.Net.SetReadDeadline(time.Unix(1, 0)) // its reader gives it back
	default:
		l.sendLocked("UNLISTEN "+quoteName(channel), func(error) {})
	}
}

// barrier returns once everything that was committed before has been delivered. A
// server sends what it has been told of before it answers.
func (l *listener) barrier() {
	l.mu.Lock()
	idle := l.conn == nil
	l.mu.Unlock()
	if !idle {
		_ = l.do("", listenTimeout, func() {})
	}
}

// do runs a query and then, before anything that the server says later is
// delivered, ok under mu; not if it returns an error.
func (l *listener) do(sql string, timeout time.Duration, ok func()) error {
	done := make(chan error, 1)
	l.mu.Lock()
	if l.conn == nil {
		l.mu.Unlock()
		return errNoListener
	}
	x := l.sendLocked(sql, func(err error) {
		if err == nil {
			ok()
		}
		done <- err
	})
	l.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-done:
		return err
	default:
		x.gone = true
		return errNoListener
	}
}

// sendLocked sends a query. done is called under mu.
func (l *listener) sendLocked(sql string, done func(error)) *call {
	x := &call{done: done}
	l.calls = append(l.calls, x)
	_ = l.conn.Net.SetWriteDeadline(time.Now().Add(listenTimeout))
	if _, err := l.conn.Net.Write(wire.AppendQuery(nil, sql)); err != nil {
		_ = l.conn.Net.Close() // its reader tells everybody
	}
	return x
}

func (x *call) answer(err error) {
	if !x.gone {
		x.done(err)
	}
}

// unused gives the connection back if nobody listens.
func (l *listener) unused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && len(l.channels) == 0 && len(l.calls) == 0 {
		_ = l.conn.Net.SetReadDeadline(time.Unix(1, 0)) // its reader gives it back
	}
}

// start waits until there is a connection, which the first who needs one has dialled.
// One with another client encoding does not do, but for a LISTEN that was answered:
// the client had the listener's encoding when it named the channel, has chosen another
// since, and hears nothing else until its own connection listens (moveChannels).
func (l *listener) start(s *session, w listenWait) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		if l.starting == nil {
			if !w.must && time.Since(l.lastFail) < listenTimeout {
				return errNoListener
			}
			l.starting = make(chan struct{})
			go l.dial(s.pool, l.starting)
		}
		starting := l.starting
		l.wanted++
		l.mu.Unlock()
		s.busy.Store(s.busy.Load() | 1)
		s.waitFor(starting, w)
		l.mu.Lock()
		l.wanted--
	}
	switch {
	case l.conn == nil:
		return errNoListener
	case !w.must && l.encoding != s.params.value("client_encoding"):
		return errListenEncoding
	}
	if s.chans != nil {
		s.chans.encoding = l.encoding
	}
	return nil
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
	c, err := p.Acquire(&w, l.db.srv.nextOwner.Add(1), nil, p.Empty(), l.db.srv.live.Load().QueueTimeout)
	if err == nil {
		c.Dirty = true
		if err = c.Switch(p.Empty(), listenTimeout); err != nil {
			p.Lost(c)
		}
	}
	l.mu.Lock()
	close(done)
	l.starting = nil
	switch {
	case err != nil:
		l.lastFail = time.Now()
	case l.wanted == 0:
		p.Release(c)
		err = errNoListener
	default:
		l.conn, l.encoding = c, c.Params["client_encoding"]
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
		if timedOut(err) {
			if l.retire(c, p) {
				return
			}
			continue
		}
		var body []byte
		if err == nil {
			body, err = c.Stream.Body(1 << 20)
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
				l.calls[0].answer(failed)
				l.calls = l.calls[1:]
			}
			failed = nil
			l.mu.Unlock()
		}
		c.Stream.Drop()
	}
}

// retire gives the connection back if nobody listens.
func (l *listener) retire(c *pool.Conn, p *pool.Pool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = c.Net.SetDeadline(time.Time{})
	if len(l.channels) > 0 || len(l.calls) > 0 {
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
	for _, x := range l.calls {
		x.answer(errNoListener)
	}
	l.calls = nil
	for _, set := range l.channels {
		for s := range set {
			e := fatal("57P01", "terminating connection because the server connection that listens was lost", "Connect and LISTEN again.")
			if s.evicted.CompareAndSwap(nil, e) {
				s.wake()
			}
		}
	}
	l.channels = nil
}

// deliver passes a notification to everybody who listens.
func (l *listener) deliver(pid uint32, channel, payload string) {
	b := wire.AppendNotificationResponse(nil, l.db.sender(pid), []byte(channel), []byte(payload))
	var full []*session
	l.mu.Lock()
	for s := range l.channels[channel] {
		if !s.deliver(b) {
			full = append(full, s)
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

// quoteName quotes an identifier.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
