package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limit bounds the server connections of several pools together, as those of one
// database or one user. Whose client has waited longest gets the next place.
//
// A pool's mu may be held when a Limit's is taken, never the other way round.
type Limit struct {
	hungry atomic.Bool // somebody is in waiting

	// mu protects what follows.
	mu      sync.Mutex
	max     int // 0: no limit
	used    int
	waiting []hungryPool // pools that found no place, the longest waiting first
	pools   map[*Pool]struct{}
}

type hungryPool struct {
	pool  *Pool
	since time.Time
}

// NewLimit returns a Limit of that many connections; 0: none.
func NewLimit(places int) *Limit { return &Limit{max: places, pools: map[*Pool]struct{}{}} }

// Set changes the limit. Connections beyond it stay until they are closed.
func (l *Limit) Set(places int) {
	l.mu.Lock()
	l.max = places
	l.mu.Unlock()
	go l.serve()
}

// Max returns the limit, 0 without.
func (l *Limit) Max() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.max
}

// Used returns how many places are taken.
func (l *Limit) Used() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// take takes a place for a client of p that has waited since then, unless others
// have waited longer for what is left.
func (l *Limit) take(p *Pool, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pools[p] = struct{}{}
	before := 0
	for _, h := range l.waiting {
		if h.pool != p && h.since.Before(since) {
			before++
		}
	}
	if l.max == 0 || l.used+before < l.max {
		l.used++
		l.forgetLocked(p)
		return true
	}
	if !slices.ContainsFunc(l.waiting, func(h hungryPool) bool { return h.pool == p }) {
		i, _ := slices.BinarySearchFunc(l.waiting, since, func(h hungryPool, t time.Time) int { return h.since.Compare(t) })
		l.waiting = slices.Insert(l.waiting, i, hungryPool{p, since})
		l.hungry.Store(true)
	}
	if l.used < l.max {
		go l.serve() // those who came before may have got what they need elsewhere
	}
	return false
}

// give gives a place back.
func (l *Limit) give() {
	l.mu.Lock()
	l.used--
	l.mu.Unlock()
	if l.hungry.Load() {
		go l.serve()
	}
}

// leave forgets a pool that was closed.
func (l *Limit) leave(p *Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetLocked(p)
	delete(l.pools, p)
}

func (l *Limit) forgetLocked(p *Pool) {
	l.waiting = slices.DeleteFunc(l.waiting, func(h hungryPool) bool { return h.pool == p })
	l.hungry.Store(len(l.waiting) > 0)
}

// serve lets the pools that wait try again, one after the other, as long as there
// are places.
func (l *Limit) serve() {
	for {
		l.mu.Lock()
		if len(l.waiting) == 0 || l.max > 0 && l.used >= l.max {
			l.mu.Unlock()
			return
		}
		p := l.waiting[0].pool
		l.forgetLocked(p)
		l.mu.Unlock()
		p.wake()
	}
}

// evict closes an idle connection of another pool, so that p has its place.
func (l *Limit) evict(p *Pool) {
	l.mu.Lock()
	others := make([]*Pool, 0, len(l.pools))
	for q := range l.pools {
		if q != p {
			others = append(others, q)
		}
	}
	l.mu.Unlock()
	for _, q := range others {
		q.mu.Lock()
		var c *Conn
		if len(q.idle) > 0 {
			c = q.removeIdleLocked(0)
		}
		q.mu.Unlock()
		if c != nil {
			q.part([]*Conn{c})
			return
		}
	}
}

// before says whether a pool other than p has waited for a place since before
// then.
func (l *Limit) before(p *Pool, since time.Time) bool {
	if !l.hungry.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0 && l.waiting[0].pool != p && l.waiting[0].since.Before(since)
}

// takePlacesLocked takes a place of each of the pool's limits, or of none.
func (p *Pool) takePlacesLocked(since time.Time) bool {
	for i, l := range p.opt.Limits {
		if l.take(p, since) {
			continue
		}
		for _, taken := range p.opt.Limits[:i] {
			taken.give()
		}
		go l.evict(p)
		return false
	}
	return true
}

// givePlaces gives the places of one connection back.
func (p *Pool) givePlaces() {
	for _, l := range p.opt.Limits {
		l.give()
	}
}

// yieldsLocked says whether a free connection should make room for another pool's,
// whose client has waited longer than the pool's own.
func (p *Pool) yieldsLocked(now time.Time) bool {
	for _, l := range p.opt.Limits {
		if !l.hungry.Load() {
			continue
		}
		since := now
		if w := p.nextLocked(); w != nil {
			since = w.queued
		}
		if l.before(p, since) {
			return true
		}
	}
	return false
}
