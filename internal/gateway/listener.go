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
	calls    []*call // sent, unanswered
	lastFail time.Time
}

// call is one query of a listener. done gets its error.
type call struct {
	done func(err error)
}

// listenTimeout bounds the wait for the listening connection, and each call of it.
const listenTimeout = 2 * time.Second

// errNoListener says that no connection could be had to listen on.
var errNoListener = errors.New("no server connection to listen on")

// subscribe has s hear what is sent to a channel from now on. Until it returns
// nothing is promised, afterwards everything that commits.
func (l *listener) subscribe(s *session, channel string) error {
	if err := l.start(s.pool, s.params.value("client_encoding")); err != nil {
		return err
	}
	return l.do("LISTEN "+quoteName(channel), func() {
		if l.channels == nil {
			l.channels = map[string]map[*session]struct{}{}
		}
		if l.channels[channel] == nil {
			l.channels[channel] = map[*session]struct{}{}
		}
		l.channels[channel][s] = struct{}{}
	})
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
		_ = l.do("", func() {})
	}
}

// do runs a query and then, before anything that the server says later is
// delivered, ok under mu.
func (l *listener) do(sql string, ok func()) error {
	done := make(chan error, 1)
	l.mu.Lock()
	if l.conn == nil {
		l.mu.Unlock()
		return errNoListener
	}
	l.sendLocked(sql, func(err error) {
		if err == nil {
			ok()
		}
		done <- err
	})
	l.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-time.After(listenTimeout):
		return errNoListener
	}
}

// sendLocked sends a query. done is called under mu.
func (l *listener) sendLocked(sql string, done func(error)) {
	l.calls = append(l.calls, &call{done})
	_ = l.conn.Net.SetWriteDeadline(time.Now().Add(listenTimeout))
	if _, err := l.conn.Net.Write(wire.AppendQuery(nil, sql)); err != nil {
		_ = l.conn.Net.Close() // its reader tells everybody
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

// start takes a connection if there is none. One with another client encoding
// does not do.
func (l *listener) start(p *pool.Pool, encoding string) error {
	for {
		l.mu.Lock()
		switch {
		case l.conn != nil:
			other := l.encoding != encoding
			l.mu.Unlock()
			if other {
				return errNoListener
			}
			return nil
		case l.starting != nil:
			wait := l.starting
			l.mu.Unlock()
			<-wait
			continue
		case time.Since(l.lastFail) < listenTimeout:
			l.mu.Unlock()
			return errNoListener
		}
		l.starting = make(chan struct{})
		l.mu.Unlock()
		var w pool.Waiter
		w.Init(nil)
		c, err := p.Acquire(&w, l.db.srv.nextOwner.Add(1), nil, p.Empty(), listenTimeout)
		if err == nil {
			c.Dirty = true
			if err = c.Switch(p.Empty(), listenTimeout); err != nil {
				p.Lost(c)
			}
		}
		l.mu.Lock()
		close(l.starting)
		l.starting = nil
		if err != nil {
			l.lastFail = time.Now()
			l.mu.Unlock()
			return errNoListener
		}
		l.conn, l.encoding = c, c.Params["client_encoding"]
		l.mu.Unlock()
		go l.read(c, p)
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
			failed = errNoListener
		case wire.ReadyForQuery:
			l.mu.Lock()
			if len(l.calls) > 0 {
				l.calls[0].done(failed)
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
		x.done(errNoListener)
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
