package pool

import "time"

// Begin is Acquire for a caller that must not block. It returns a connection; or
// nil and true: w waits in the queue, its handler will be told, and Granted says
// what it got; or nil and false: only Acquire can tell.
func (p *Pool) Begin(w *Waiter, owner uint64, prefer *Conn, b *Bucket) (c *Conn, ok bool) {
	w.waited = 0
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
		case p.open < p.opt.Size+p.opt.Overflow:
			p.mu.Unlock()
			return nil, false
		}
		p.acquires.Add(1)
		p.waits.Add(1)
		w.queued, w.async = time.Now(), true
		p.waiting.push(w)
		p.mu.Unlock()
		return nil, true
	}
}

// Granted returns what w, which Begin put in the queue, was given: a connection;
// nil and true: nothing yet; nil and false: Acquire takes it from here.
func (p *Pool) Granted(w *Waiter, owner uint64) (c *Conn, ok bool) {
	var g grant
	select {
	case g = <-w.ch:
	default:
		return nil, true
	}
	w.async = false
	w.waited = time.Since(w.queued)
	p.waited.Add(int64(w.waited))
	if g.conn != nil && p.usable(g.conn) {
		return p.grant(g.conn, owner), true
	}
	if g.conn == nil {
		w.kept = &g
	}
	return nil, false
}

// Keep has the next Acquire of w return c, which Begin or Granted returned.
func (p *Pool) Keep(w *Waiter, c *Conn) { w.kept = &grant{conn: c} }

// Forgo gives back what was left for an Acquire that never came.
func (p *Pool) Forgo(w *Waiter) {
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
		p.open--
		p.wakeLocked()
		p.mu.Unlock()
	}
}

// Expire ends a wait that Begin began longer than timeout ago; 0: none.
func (p *Pool) Expire(w *Waiter, timeout time.Duration) {
	p.mu.Lock()
	late := timeout > 0 && w.queue != nil && w.async && time.Since(w.queued) > timeout
	if late {
		w.queue.remove(w)
	}
	p.mu.Unlock()
	if late {
		p.timeouts.Add(1)
		w.deliver(grant{err: ErrTimeout})
	}
}
