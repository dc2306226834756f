package pool

import "time"

// Begin is Acquire for a caller that must not block. It returns a connection; or
// nil and true: w waits in the queue, its handler will be told, and Granted says
// what it got; or nil and false: only Acquire can tell.
func (p *Pool) Begin(w *Waiter, owner uint64, prefer *Conn, b *Bucket) (c *Conn, ok bool) {
	w.begin()
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false
		}
		c := p.takeIdleLocked(prefer, b)
		switch {
		case c != nil:
			p.mu.Unlock()
			if !p.usable(c) {
				continue
			}
			p.acquires.Add(1)
			return p.grant(c, owner), true
		case p.waiting.n == 0 && p.roomNowLocked(), p.downLocked() != nil:
			p.mu.Unlock()
			return nil, false
		}
		p.acquires.Add(1)
		p.waits.Add(1)
		w.async = true
		p.queueLocked(w, owner)
		p.mu.Unlock()
		return nil, true
	}
}

// Granted returns what w, which Begin put in the queue, was given: a connection;
// nil and true: nothing yet; nil and false: Acquire takes it from here.
func (p *Pool) Granted(w *Waiter, owner uint64) (c *Conn, ok bool) {
	if !w.granted.Load() {
		return nil, true
	}
	g := w.got
	w.got, w.async = grant{}, false
	w.granted.Store(false)
	if w.waited = max(0, g.at.Sub(w.queued)); g.at.IsZero() {
		w.waited = time.Since(w.queued)
	}
	p.waited.Add(int64(w.waited))
	if g.conn != nil && p.usable(g.conn) {
		return p.grant(g.conn, owner), true
	}
	switch {
	case g.conn != nil:
		w.resumed = true // that one was dead: Acquire goes on waiting
	case !w.resumed:
		kept := g // g itself stays on the stack
		w.kept = &kept
	}
	return nil, false
}

// Keep has the next Acquire of w return c, which Begin or Granted returned.
func (p *Pool) Keep(w *Waiter, c *Conn) { w.kept = &grant{conn: c} }

// Forgo gives back what was left for an Acquire that never came, and ends its wait.
func (p *Pool) Forgo(w *Waiter) {
	w.resumed = false
	g := w.kept
	if g == nil {
		return
	}
	w.kept = nil
	switch {
	case g.conn != nil:
		p.Release(g.conn)
	case g.err == nil:
		p.mu.Lock()
		p.leavePlaceLocked()
		p.wakeLocked()
		p.mu.Unlock()
	}
}

// Expire ends a wait that Begin began longer than timeout ago; 0: none. One that is
// to be told of (Waiter.Long) goes on in an Acquire, at the same place.
func (p *Pool) Expire(w *Waiter, timeout time.Duration) {
	p.mu.Lock()
	if w.queue == nil || !w.async {
		p.mu.Unlock()
		return
	}
	waited := time.Since(w.queued)
	late, told := timeout > 0 && waited > timeout, w.tells() && waited >= w.After
	if late || told {
		w.queue.remove(w)
		w.resumed = !late
	}
	p.mu.Unlock()
	switch {
	case late:
		p.timeouts.Add(1)
		w.deliver(grant{err: p.timeoutError()})
	case told:
		w.deliver(grant{})
	}
}
