package knn

import (
	"sync"
	"sync/atomic"
	"time"
)

// Link runs rounds on a server connection.
type Link interface {
	// Read asks the server, at most for a bounded time.
	Read(Question) (*Reading, error)
	// Rest gives the connection back: no round is wanted for now.
	Rest()
}

// linger is how long the connection is kept for another round.
const linger = 20 * time.Millisecond

// Waiter is who waits for a round. It belongs to one goroutine and is used again.
type Waiter struct{ done chan bool }

// Rounds runs rounds for all who wait, one at a time: each has one statement for all who
// came before it was sent.
type Rounds struct {
	log  *Log
	link Link

	// mu protects what follows.
	mu      sync.Mutex
	waiting []*Waiter
	spare   []*Waiter // the other half of a double buffer
	running bool
	wake    chan struct{}

	rounds, served, failed atomic.Int64
}

// NewRounds returns Rounds that log is told of.
func NewRounds(log *Log, link Link) *Rounds {
	return &Rounds{log: log, link: link, wake: make(chan struct{}, 1)}
}

// Wait returns when a round that was sent after the call has been applied; false: there
// could be none.
func (r *Rounds) Wait(w *Waiter) bool {
	if w.done == nil {
		w.done = make(chan bool, 1)
	}
	r.mu.Lock()
	r.waiting = append(r.waiting, w)
	switch {
	case !r.running:
		r.running = true
		go r.run()
	case len(r.waiting) == 1:
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	r.mu.Unlock()
	return <-w.done
}

// run runs rounds until nobody has wanted one for a while.
func (r *Rounds) run() {
	idle := time.NewTimer(linger)
	defer idle.Stop()
	for {
		r.mu.Lock()
		batch := r.waiting
		r.waiting, r.spare = r.spare[:0], nil
		r.mu.Unlock()
		if len(batch) > 0 {
			r.round(batch)
			clear(batch)
		}
		r.mu.Lock()
		r.spare = batch[:0]
		more := len(r.waiting) > 0
		r.mu.Unlock()
		if more {
			continue
		}
		idle.Reset(linger)
		select {
		case <-r.wake:
			continue
		case <-idle.C:
		}
		r.link.Rest()
		r.mu.Lock()
		if len(r.waiting) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// round runs one round for a batch.
func (r *Rounds) round(batch []*Waiter) {
	q := r.log.Ask()
	reading, err := r.link.Read(q)
	if err != nil {
		r.failed.Add(1) // the next one that is answered says what came since the last
	} else {
		r.log.Apply(q, reading)
		r.rounds.Add(1)
		r.served.Add(int64(len(batch)))
	}
	for _, w := range batch {
		w.done <- err == nil
	}
}

// RoundStat are the figures of Rounds since the start.
type RoundStat struct {
	Rounds int64 // that were answered
	Served int64 // waits that they ended
	Failed int64
}

// Stat returns the figures.
func (r *Rounds) Stat() RoundStat {
	return RoundStat{r.rounds.Load(), r.served.Load(), r.failed.Load()}
}
