package pool

import "time"

// A pool has Size connections that stay, Overflow that are opened as soon as
// somebody waits, and Reserve. The reserve stands in for connections that clients
// keep beyond their transactions, one for one; and once a client has waited for
// ReserveTimeout all of it may be opened.

// roomLocked is how many connections may be open for a client that waits since
// then; zero: for one that does not.
func (p *Pool) roomLocked(since, now time.Time) int {
	n := p.opt.Size + p.opt.Overflow
	switch {
	case p.opt.Reserve == 0:
		return n
	case p.opt.ReserveTimeout > 0 && !since.IsZero() && now.Sub(since) >= p.opt.ReserveTimeout:
		return n + p.opt.Reserve
	}
	return n + min(p.opt.Reserve, p.kept)
}

// roomNowLocked says whether takePlaceLocked may succeed for who does not wait.
func (p *Pool) roomNowLocked() bool {
	now := time.Now()
	return !p.paused && !p.closed && p.open < p.roomLocked(time.Time{}, now) && !now.Before(p.nextDialLocked())
}

// takePlaceLocked counts one more connection for who waits since then (zero: does
// not) if one may be opened now; the caller then has it dialled.
func (p *Pool) takePlaceLocked(since time.Time) bool {
	now := time.Now()
	if p.paused || p.closed || p.open >= p.roomLocked(since, now) || now.Before(p.nextDialLocked()) {
		return false
	}
	if since.IsZero() {
		since = now
	}
	if !p.takePlacesLocked(since) {
		return false
	}
	p.open++
	if used := p.open - p.opt.Size - p.opt.Overflow; used > 0 {
		p.reserveOpened++
		p.reservePeak = max(p.reservePeak, used)
		p.stretched = p.stretched || used > min(p.opt.Reserve, p.kept)
	}
	return true
}

// leavePlaceLocked counts one connection less.
func (p *Pool) leavePlaceLocked() {
	p.open--
	p.givePlaces()
	if p.open <= p.roomLocked(time.Time{}, time.Time{}) {
		p.stretched = false
	}
}

// surplusLocked says whether a free connection stood in for one that was kept and
// is not any more. One that was opened for a long wait stays until it is idle.
func (p *Pool) surplusLocked(now time.Time) bool {
	if p.stretched {
		return p.open > p.opt.Size+p.opt.Overflow+p.opt.Reserve
	}
	var since time.Time
	if w := p.nextLocked(); w != nil {
		since = w.queued
	}
	return p.open > p.roomLocked(since, now)
}

// spentLocked says whether a connection that becomes free now is to be closed.
func (p *Pool) spentLocked(c *Conn, now time.Time) bool {
	if p.closed || p.paused || c.retired {
		return true
	}
	return p.agedLocked(c, now) || p.surplusLocked(now) || p.yieldsLocked(now)
}

// agedLocked says whether c has lived for its share of Lifetime: connections that
// were opened together are not closed together.
func (p *Pool) agedLocked(c *Conn, now time.Time) bool {
	return p.opt.Lifetime > 0 && now.Sub(c.created) > time.Duration(float64(p.opt.Lifetime)*c.share)
}

// Hold notes that the holder keeps c beyond its transaction, until it is released.
func (p *Pool) Hold(c *Conn) {
	if c.kept {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.kept = true
	p.kept++
	p.wakeLocked()
}

// unkeepLocked ends Hold.
func (p *Pool) unkeepLocked(c *Conn) {
	if c.kept {
		c.kept = false
		p.kept--
	}
}

// nextLocked is who is served next, or nil.
func (p *Pool) nextLocked() *Waiter {
	if p.control.head != nil {
		return p.control.head
	}
	return p.waiting.head
}

// wakeLocked lets the oldest waiter dial when there is room; who cannot now is
// looked at again when that may have changed.
func (p *Pool) wakeLocked() {
	w := p.nextLocked()
	if w == nil || p.closed || p.paused {
		return
	}
	now := time.Now()
	if p.takePlaceLocked(w.queued) {
		p.popLocked()
		w.deliverLocked(grant{})
		w = p.nextLocked()
	}
	if w != nil {
		p.alarmLocked(now)
	}
}

// alarmLocked has the queue looked at when a host may be tried again, or when one of
// those who come next has waited long enough for the reserve. now is that of the look
// before: what became due since is due at once.
func (p *Pool) alarmLocked(now time.Time) {
	var at time.Time
	if t := p.nextDialLocked(); now.Before(t) {
		at = t
	}
	for _, w := range [...]*Waiter{p.control.head, p.waiting.head} {
		if w == nil || p.opt.Reserve == 0 || p.opt.ReserveTimeout <= 0 {
			continue
		}
		if t := w.queued.Add(p.opt.ReserveTimeout); now.Before(t) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if at.IsZero() {
		return
	}
	left := max(0, time.Until(at))
	if p.alarm == nil {
		p.alarm = time.AfterFunc(left, p.wake)
		return
	}
	p.alarm.Reset(left)
}

// wake lets waiters dial for whom there is room now.
func (p *Pool) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := p.waiting.n + p.control.n; n > 0; n-- {
		before := p.open
		p.wakeLocked()
		if p.open == before {
			return
		}
	}
}

// fillLocked opens a connection that nobody asked for while there are fewer than
// Min.
func (p *Pool) fillLocked() {
	if p.filling || p.retiring || p.open >= p.opt.Min || p.nextLocked() != nil || !p.takePlaceLocked(time.Time{}) {
		return
	}
	p.filling = true
	go func() {
		c, err := p.dialFor(ControlOwner, nil)
		if err == nil {
			p.Release(c)
		}
		p.mu.Lock()
		p.filling = false
		if err == nil {
			p.fillLocked()
		}
		p.mu.Unlock()
	}()
}

// Pause keeps clients waiting and closes every connection as soon as it is free,
// until Resume. Stat tells when none is open.
func (p *Pool) Pause() {
	p.mu.Lock()
	p.paused = true
	gone := p.takeAllIdleLocked()
	p.mu.Unlock()
	p.part(gone)
}

// Resume ends Pause.
func (p *Pool) Resume() {
	p.mu.Lock()
	p.paused = false
	p.mu.Unlock()
	p.wake()
}
