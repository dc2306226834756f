package gateway

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// fromAddr is a connection from an address, which notes that it was closed.
type fromAddr struct {
	net.Conn
	addr   string
	closed bool
}

func (c *fromAddr) RemoteAddr() net.Addr {
	if c.addr == "local" {
		return &net.UnixAddr{Name: "@", Net: "unix"}
	}
	return &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 1}
}

func (c *fromAddr) Close() error { c.closed = true; return nil }

func TestTheAddressWithTheMostUnfinishedLoginsPays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10)
		var crowd []*fromAddr
		for range 10 {
			c := &fromAddr{addr: "10.0.0.1"}
			crowd = append(crowd, c)
			if g.enter(c) == nil {
				t.Fatal("there was room")
			}
		}
		closed := func() (n int) {
			for _, c := range crowd {
				if c.closed {
					n++
				}
			}
			return n
		}
		if g.enter(&fromAddr{addr: "10.0.0.1"}) != nil {
			t.Error("an eleventh login of an address was let in beside ten that have just begun")
		}
		other := g.enter(&fromAddr{addr: "10.0.0.2"})
		if other == nil || closed() != 1 || !crowd[0].closed {
			t.Fatalf("another address: %v, %d closed", other, closed())
		}
		unix := g.enter(&fromAddr{addr: "local"})
		if unix == nil || !unix.local || closed() != 2 {
			t.Errorf("a Unix socket: %+v, %d closed", unix, closed())
		}
		time.Sleep(loginGrace)
		if g.enter(&fromAddr{addr: "10.0.0.1"}) == nil || closed() != 3 || !crowd[2].closed {
			t.Errorf("the oldest does not make room for a newer one of its address: %d closed", closed())
		}
		if g.n != 10 {
			t.Errorf("%d are counted", g.n)
		}
		g.leave(other)
		g.leave(other)
		g.leave(unix)
		if g.n != 8 || len(g.guests) != 1 {
			t.Errorf("after two have left: %d, %d addresses", g.n, len(g.guests))
		}
	})
}

func TestAnIPv6SiteIsOneAddress(t *testing.T) {
	g := newGate(2)
	g.enter(&fromAddr{addr: "2001:db8::1"})
	g.enter(&fromAddr{addr: "2001:db8::2"})
	if len(g.guests) != 1 {
		t.Errorf("one site counts as %d", len(g.guests))
	}
	if g.enter(&fromAddr{addr: "2001:db8::3"}) != nil {
		t.Error("a site has more than there is room for")
	}
	if g.enter(&fromAddr{addr: "2001:db8:0:1::1"}) == nil {
		t.Error("another site has no room")
	}
	if g := newGate(0); g.enter(&fromAddr{addr: "10.0.0.1"}) == nil {
		t.Error("without a limit there is no room")
	}
}
