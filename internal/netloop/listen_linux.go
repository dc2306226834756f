package netloop

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener accepts connections for the loops.
type Listener struct {
	net.Listener       // its descriptor is a duplicate's of the same socket
	c            *Conn // never read or written
	tcp          bool
}

// Listen has the loops accept what comes in on l. A listener without a descriptor
// accepts as it does.
func (s *Loops) Listen(l net.Listener) (net.Listener, error) {
	sc, ok := l.(syscall.Conn)
	if !ok {
		return l, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", l.Addr(), err)
	}
	fd := -1
	cerr := raw.Control(func(lfd uintptr) { fd, err = unix.FcntlInt(lfd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", l.Addr(), err)
	}
	c, err := s.adopt(fd)
	if err != nil {
		return nil, err
	}
	_, tcp := l.Addr().(*net.TCPAddr)
	return &Listener{Listener: l, c: c, tcp: tcp}, nil
}

// Accept waits for the next connection. An error that is a net.Error may pass.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.c.rd.state.Store(quiet)
		if !l.c.enter() {
			return nil, l.fail(net.ErrClosed)
		}
		fd, _, err := unix.Accept4(l.c.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		l.c.leave()
		switch err {
		case nil:
			if l.tcp {
				tune(fd)
			}
			return l.c.loop.set.adopt(fd)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EAGAIN:
			if err := l.c.rd.wait(); err != nil {
				return nil, l.fail(err)
			}
		default:
			return nil, l.fail(err)
		}
	}
}

func (l *Listener) fail(err error) error {
	return &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: err}
}

// Close stops accepting.
func (l *Listener) Close() error {
	return errors.Join(l.c.Close(), l.Listener.Close())
}
