package netloop

import (
	"errors"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// address asks the socket for an address of it. It is not kept: a parked client is
// to be small.
func (c *Conn) address(ask func(int) (unix.Sockaddr, error)) net.Addr {
	unknown := &net.TCPAddr{}
	if !c.enter() {
		return unknown
	}
	defer c.leave()
	sa, err := ask(c.fd)
	if err != nil {
		return unknown
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: net.IP(a.Addr[:]), Port: a.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: net.IP(a.Addr[:]), Port: a.Port, Zone: zone(a.ZoneId)}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: a.Name, Net: "unix"}
	}
	return unknown
}

func zone(id uint32) string {
	if id == 0 {
		return ""
	}
	if i, err := net.InterfaceByIndex(int(id)); err == nil {
		return i.Name
	}
	return strconv.Itoa(int(id))
}

// SyscallConn gives the descriptor to whoever has to look at the socket.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }

// rawConn is a syscall.RawConn for looking, not for reading and writing.
type rawConn struct{ c *Conn }

func (r rawConn) Control(f func(fd uintptr)) error {
	if !r.c.enter() {
		return r.c.fail("control", net.ErrClosed)
	}
	defer r.c.leave()
	f(uintptr(r.c.fd))
	return nil
}

func (r rawConn) Read(func(fd uintptr) bool) error { return r.c.fail("read", errors.ErrUnsupported) }

func (r rawConn) Write(func(fd uintptr) bool) error { return r.c.fail("write", errors.ErrUnsupported) }
