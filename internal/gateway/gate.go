package gateway

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"qvpgw/internal/wire"
)

// gate counts the connections that are not logged in yet. When there are too many,
// the address with the most of them pays: for a newcomer from an address with
// fewer its oldest is closed, and its own newcomer is turned away unless its oldest
// has been there for longer than a login takes.
type gate struct {
	limit int // at one time; 0: any number

	// mu protects what follows.
	mu     sync.Mutex
	grace  time.Duration // how long a login may take before its place is given away
	n      int
	guests map[netip.Addr]*list.List // of *guest, oldest first
}

// guest is one connection that is not logged in.
type guest struct {
	conn  net.Conn
	local bool       // it comes over a Unix socket
	addr  netip.Addr // else
	from  netip.Addr // what counts as its address
	since time.Time
	place *list.Element // nil: it has left
}

// loginGrace is the grace of a new gate.
const loginGrace = time.Second

func newGate(limit int) *gate {
	return &gate{limit: limit, grace: loginGrace, guests: map[netip.Addr]*list.List{}}
}

// enter lets a connection begin to log in, or says nil.
func (g *gate) enter(conn net.Conn) *guest {
	x := &guest{conn: conn, since: time.Now()}
	switch a := conn.RemoteAddr().(type) {
	case *net.TCPAddr:
		x.addr = a.AddrPort().Addr().Unmap()
	case *net.UnixAddr:
		x.local = true
	}
	x.from = network(x.addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit > 0 && g.n >= g.limit && !g.makeRoomLocked(x) {
		return nil
	}
	q := g.guests[x.from]
	if q == nil {
		q = list.New()
		g.guests[x.from] = q
	}
	x.place = q.PushBack(x)
	g.n++
	return x
}

// makeRoomLocked closes the connection whose place x may have.
func (g *gate) makeRoomLocked(x *guest) bool {
	most := x.from
	for from, q := range g.guests {
		if now := g.guests[most]; now == nil || q.Len() > now.Len() {
			most = from
		}
	}
	q := g.guests[most]
	own := 0
	if q == nil {
		return false
	}
	if mine := g.guests[x.from]; mine != nil {
		own = mine.Len()
	}
	oldest := q.Front().Value.(*guest)
	if own+1 >= q.Len() && x.since.Sub(oldest.since) < g.grace {
		return false
	}
	g.leaveLocked(oldest)
	_ = oldest.conn.Close()
	return true
}

// leave takes a connection out: it is logged in, or gone.
func (g *gate) leave(x *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(x)
}

func (g *gate) leaveLocked(x *guest) {
	if x.place == nil {
		return
	}
	q := g.guests[x.from]
	q.Remove(x.place)
	x.place = nil
	g.n--
	if q.Len() == 0 {
		delete(g.guests, x.from)
	}
}

// turnAway tells a connection that there are too many of its kind. It waits for
// the first bytes, since an answer to nothing may be lost as the socket closes.
func turnAway(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
	var first [512]byte
	_, _ = conn.Read(first[:])
	e := fatal("53300", "too many connections are logging in", "Try again, or raise limits.max_logins.")
	_, _ = conn.Write(wire.AppendErrorResponse(nil, e.fields()))
}

// network is what counts as one address: of IPv6 the 64 bits that one site has.
func network(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
