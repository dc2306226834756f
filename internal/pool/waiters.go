package pool

import (
	"fmt"
	"sync/atomic"
	"time"

	"qvpgw/internal/netloop"
)

// Waiter is a place in a pool's queue. A session owns one for its whole life, so
// that waiting allocates nothing but, once, a timer.
type Waiter struct {
	ch      chan grant
	timer   *time.Timer   // made by the first wait with a timeout
	queued  time.Time     // when the Acquire under way came to the queue
	waited  time.Duration // of the last Acquire in the queue
	told    bool          // Long was called
	resumed bool          // the next Acquire goes on with the wait that Begin began

	// Long, when set, is called once in an Acquire that waits for longer than After,
	// by the goroutine that waits.
	Long       func()
	After      time.Duration
	next, prev *Waiter
	queue      *waiters // that it is in, or nil; under the pool's mu
	back       chan<- bool
	handler    netloop.Handler // told of a grant that Begin waits for
	async      bool            // Begin put it in the queue: got is what it is given
	granted    atomic.Bool     // got is set
	got        grant
	kept       *grant // what Begin left for Acquire
}

// Waited is how long the last Acquire waited in the queue.
func (w *Waiter) Waited() time.Duration { return w.waited }

// begin makes w ready for another wait.
func (w *Waiter) begin() {
	w.waited, w.queued, w.told = 0, time.Time{}, false
}

// grant is what a waiter gets: a connection, an error, or neither: then it dials.
type grant struct {
	conn *Conn
	at   time.Time // when conn became free
	err  error
	back chan<- bool // the connection is lent: its holder waits to hear whether it can go on with it
}

// Init makes w ready for use. h is told of what Begin waits for.
func (w *Waiter) Init(h netloop.Handler) { w.handler = h }

// deliver gives w, which was taken out of its queue, what it is granted.
func (w *Waiter) deliver(g grant) {
	if w.give(g) {
		w.handler.Ready()
	}
}

// deliverLocked is deliver under the pool's mu, which a handler may want.
func (w *Waiter) deliverLocked(g grant) {
	if w.give(g) {
		go w.handler.Ready()
	}
}

// give hands g over; true: w's handler is to be told. After that w may be in use
// for something else.
func (w *Waiter) give(g grant) bool {
	if !w.async {
		w.ch <- g
		return false
	}
	w.got = g
	w.granted.Store(true)
	return true
}

// waiters is a FIFO queue; a waiter leaves it exactly once, by pop or remove, and
// whoever pops one sends it one grant.
type waiters struct {
	head, tail *Waiter
	n          int
}

func (q *waiters) push(w *Waiter) {
	w.queue, w.next, w.prev = q, nil, q.tail
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
}

// restore puts a waiter back to where it was, by how long it has waited.
func (q *waiters) restore(w *Waiter) {
	next := q.head
	for next != nil && !w.queued.Before(next.queued) {
		next = next.next
	}
	if next == nil {
		q.push(w)
		return
	}
	w.queue, w.next, w.prev = q, next, next.prev
	if next.prev != nil {
		next.prev.next = w
	} else {
		q.head = w
	}
	next.prev = w
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
	w.next, w.prev, w.queue = nil, nil, nil
	q.n--
}

// queueLocked puts w into its queue; one whose dial failed, or who was given a dead
// connection, keeps its place.
func (p *Pool) queueLocked(w *Waiter, owner uint64) {
	q := &p.waiting
	if owner == ControlOwner {
		q = &p.control
	}
	if w.ch == nil && !w.async {
		w.ch = make(chan grant, 1)
	}
	if w.queued.IsZero() {
		w.queued = Now()
		q.push(w)
	} else {
		q.restore(w)
	}
	if p.nextLocked() == w {
		p.alarmLocked(w.queued)
	}
}

// wait returns what w is granted; dial means that the caller is to dial itself.
// timeout counts from when w was queued first.
func (p *Pool) wait(w *Waiter, timeout time.Duration) (c *Conn, dial bool, err error) {
	defer func() {
		d := time.Since(w.queued)
		p.waited.Add(int64(d - w.waited))
		w.waited = d
	}()
	var g grant
	for granted := false; !granted; {
		select {
		case g = <-w.ch:
			granted = true
		case <-w.expires(timeout):
			switch waited := time.Since(w.queued); {
			case w.tells() && waited >= w.After && (timeout <= 0 || waited < timeout):
				w.told = true
				w.Long()
			case timeout <= 0 || waited < timeout:
			case p.leave(w):
				p.timeouts.Add(1)
				return nil, false, p.timeoutError()
			default:
				g, granted = <-w.ch, true // granted meanwhile
			}
		}
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	w.back = g.back
	return g.conn, g.conn == nil && g.err == nil, g.err
}

func (w *Waiter) tells() bool { return w.Long != nil && w.After > 0 && !w.told }

// expires is when w is to be told that it waits, or its time is up; nil: never.
func (w *Waiter) expires(timeout time.Duration) <-chan time.Time {
	left, waited := time.Duration(-1), time.Since(w.queued)
	if timeout > 0 {
		left = max(0, timeout-waited)
	}
	if w.tells() && (left < 0 || w.After-waited < left) {
		left = max(0, w.After-waited)
	}
	if left < 0 {
		return nil
	}
	if w.timer == nil {
		w.timer = time.NewTimer(left)
	} else {
		w.timer.Reset(left)
	}
	return w.timer.C
}

// timeoutError is ErrTimeout, with why no connection could be opened meanwhile.
func (p *Pool) timeoutError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialErr == nil {
		return ErrTimeout
	}
	return fmt.Errorf("%w; the last login failed: %v", ErrTimeout, p.dialErr)
}

// leave takes w out of the queue; false when it was granted already.
func (p *Pool) leave(w *Waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.queue == nil {
		return false
	}
	w.queue.remove(w)
	return true
}

// Abort ends w's wait with err, if it waits.
func (p *Pool) Abort(w *Waiter, err error) {
	if p.leave(w) {
		w.deliver(grant{err: err})
	}
}

// popLocked takes the next waiter out of its queue: control work first, since
// clients may wait for it.
func (p *Pool) popLocked() *Waiter {
	if w := p.control.pop(); w != nil {
		return w
	}
	return p.waiting.pop()
}

// Lend lets the control work that has waited longest use c, which stays its
// holder's, so that control work never waits for connections whose holders wait
// for it (trap T16). The connection must be between two transactions; afterwards
// its settings are those of Empty, and its Stream has no destination.
//
// lent: something used it; ok: it can be used on, else it is lost.
func (p *Pool) Lend(c *Conn) (lent, ok bool) {
	p.mu.Lock()
	w := p.control.pop()
	p.mu.Unlock()
	if w == nil {
		return false, true
	}
	back := make(chan bool, 1)
	w.ch <- grant{conn: c, back: back}
	return true, <-back
}
