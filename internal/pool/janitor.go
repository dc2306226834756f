package pool

import (
	"crypto/tls"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qvpgw/internal/wire"
)

// janitor closes, once a second, idle connections that are too old, too long idle
// or beyond the pool's size, and opens those that Min asks for.
func (p *Pool) janitor() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
			p.part(p.expired(time.Now()))
		}
	}
}

// expired removes the idle connections that are to be closed.
func (p *Pool) expired(now time.Time) []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.all {
		if owner := c.state.Load() >> 16; owner != c.seen {
			c.seen, c.seenSince = owner, now
		}
	}
	var gone []*Conn
	p.wakeLocked()
	p.fillLocked()
	if p.opt.Resolve > 0 && !p.resolving && now.Sub(p.resolved) >= p.opt.Resolve {
		p.resolved, p.resolving = now, true
		go p.resolve()
	}
	beyond := p.open - p.opt.Size
	for i := 0; i < len(p.idle); {
		c := p.idle[i]
		idle := now.Sub(c.idleSince)
		switch {
		case beyond > 0 && idle > overflowIdle,
			p.agedLocked(c, now),
			p.opt.IdleTimeout > 0 && idle > p.opt.IdleTimeout && p.open-len(gone) > p.opt.Min:
			beyond--
			gone = append(gone, p.removeIdleLocked(i))
		default:
			i++
		}
	}
	return gone
}

// goodbye tells the server that the session ends.
func (c *Conn) goodbye() {
	_ = c.Net.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Net.Write(wire.AppendTerminate(nil))
}

// suspect says whether the connection should be looked at before use.
func (p *Pool) suspect(c *Conn) bool {
	delay := time.Duration(p.checkDelay.Load())
	if c.Loop != nil && c.Loop.Heard() {
		return true // as when the server has ended it
	}
	return c.failed || delay > 0 && !c.idleSince.IsZero() && time.Since(c.idleSince) > delay
}

// alive looks, without waiting, whether the server has closed the connection or
// said anything unasked for; both mean that it is not to be used.
func (c *Conn) alive() bool {
	if c.Loop != nil {
		return c.Loop.Quiet()
	}
	n := c.Net
	if t, ok := n.(*tls.Conn); ok {
		n = t.NetConn()
	}
	sc, ok := n.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = err == unix.EAGAIN
	})
	return err == nil && quiet
}

// ClientOf returns Client of the connection to the server process pid, or 0.
func (p *Pool) ClientOf(pid uint32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.all {
		if c.PID == pid {
			return c.Client.Load()
		}
	}
	return 0
}

// Stat is a snapshot of a pool's figures. Times are in nanoseconds.
type Stat struct {
	Size, Overflow, Min          int
	Open, Idle, Resting, Waiting int
	OldestWait                   time.Duration
	Handovers, Acquires          int64
	Waits, Waited, Timeouts      int64
	Dials, DialFailures          int64
	Resets, Dead                 int64
	LastDialError                string
	Buckets                      int

	Paused        bool
	Kept          int // connections that their holders keep beyond their transactions
	Retired       int // to be closed when they are free
	Login         int // being dialled, of Open
	Cancels       int // cancel requests on their way to the server
	Reserve       int
	ReserveUsed   int   // connections open beyond Size and Overflow,
	ReservePeak   int   // at most since the start,
	ReserveOpened int64 // and how many of them were opened
}

// Active is the number of connections that have a holder.
func (s Stat) Active() int { return s.Open - s.Idle - s.Resting - s.Login }

// Stat returns the pool's figures.
func (p *Pool) Stat() Stat {
	s := Stat{
		Handovers: p.handovers.Load(), Acquires: p.acquires.Load(), Waits: p.waits.Load(),
		Waited: p.waited.Load(), Timeouts: p.timeouts.Load(), Dials: p.dials.Load(),
		DialFailures: p.dialFailures.Load(), Resets: p.resets.Load(), Dead: p.dead.Load(),
	}
	p.mu.Lock()
	s.Size, s.Overflow, s.Min, s.Reserve = p.opt.Size, p.opt.Overflow, p.opt.Min, p.opt.Reserve
	s.Paused, s.Kept, s.ReservePeak, s.ReserveOpened = p.paused, p.kept, p.reservePeak, p.reserveOpened
	s.ReserveUsed = max(0, p.open-p.opt.Size-p.opt.Overflow)
	for c := range p.all {
		if c.retired {
			s.Retired++
		}
		s.Cancels += int(c.state.Load() & (cancelSeen - 1))
	}
	s.Login = p.open - len(p.all)
	s.Open, s.Idle, s.Resting, s.Waiting = p.open, len(p.idle), p.resting, p.waiting.n+p.control.n
	if w := p.waiting.head; w != nil {
		s.OldestWait = time.Since(w.queued)
	}
	if p.dialErr != nil {
		s.LastDialError = p.dialErr.Error()
	}
	p.mu.Unlock()
	p.buckets.mu.Lock()
	s.Buckets = len(p.buckets.known)
	p.buckets.mu.Unlock()
	return s
}

// ConnStat is one server connection as it is now.
type ConnStat struct {
	PID           uint32
	Owner         uint64    // its holder, 0: free
	Since         time.Time // the first of the janitor's looks that all found it with Owner, or now; zero: free
	Idle          bool
	Retired       bool // to be closed when it is free
	Host          string
	Connected     time.Time
	Remote, Local net.Addr
	Login         Login
}

// Conns returns the server connections, oldest first.
func (p *Pool) Conns() []ConnStat {
	p.mu.Lock()
	list := make([]ConnStat, 0, len(p.all))
	now := time.Now()
	for c := range p.all {
		x := ConnStat{
			PID: c.PID, Owner: c.state.Load() >> 16, Idle: c.where >= 0, Retired: c.retired, Host: c.host, Connected: c.created,
			Remote: c.Net.RemoteAddr(), Local: c.Net.LocalAddr(), Login: c.Login,
		}
		switch {
		case x.Owner == 0:
		case x.Owner == c.seen:
			x.Since = c.seenSince
		default:
			x.Since = now
		}
		list = append(list, x)
	}
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b ConnStat) int { return a.Connected.Compare(b.Connected) })
	return list
}
