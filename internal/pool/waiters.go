package pool

import "time"

// Waiter is a place in a pool's queue. A session owns one for its whole life, so
// that waiting allocates nothing but, once, a timer.
type Waiter struct {
	ch         chan grant
	timer      *time.Timer // made by the first wait with a timeout
	queued     time.Time
	waited     time.Duration // of the last Acquire in the queue
	next, prev *Waiter
	in         bool // in the queue; under the pool's mu
}

// Waited is how long the last Acquire waited in the queue.
func (w *Waiter) Waited() time.Duration { return w.waited }

// grant is what a waiter gets: a connection, an error, or neither: then it dials.
type grant struct {
	conn *Conn
	err  error
}

// Init makes w ready for use.
func (w *Waiter) Init() { w.ch = make(chan grant, 1) }

// waiters is a FIFO queue; a waiter leaves it exactly once, by pop or remove, and
// whoever pops one sends it one grant.
type waiters struct {
	head, tail *Waiter
	n          int
}

func (q *waiters) push(w *Waiter) {
	w.in, w.next, w.prev = true, nil, q.tail
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
}

func (q *waiters) pop() *Waiter {
	w := q.head
	if w != nil {
		q.remove(w)
	}
	return w
}

func (q *waiters) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.next, w.prev, w.in = nil, nil, false
	q.n--
}

// wait returns what w is granted; dial means that the caller is to dial itself.
func (p *Pool) wait(w *Waiter, timeout time.Duration) (c *Conn, dial bool, err error) {
	var expired <-chan time.Time
	if timeout > 0 {
		if w.timer == nil {
			w.timer = time.NewTimer(timeout)
		} else {
			w.timer.Reset(timeout)
		}
		defer w.timer.Stop()
		expired = w.timer.C
	}
	var g grant
	select {
	case g = <-w.ch:
	case <-expired:
		if p.leave(w) {
			p.timeouts.Add(1)
			return nil, false, ErrTimeout
		}
		g = <-w.ch // granted meanwhile
	}
	return g.conn, g.conn == nil && g.err == nil, g.err
}

// leave takes w out of the queue; false when it was granted already.
func (p *Pool) leave(w *Waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.in {
		return false
	}
	p.waiting.remove(w)
	return true
}

// Abort ends w's wait with err, if it waits.
func (p *Pool) Abort(w *Waiter, err error) {
	if p.leave(w) {
		w.ch <- grant{err: err}
	}
}
