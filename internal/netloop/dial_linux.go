package netloop

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to a numeric TCP address or a Unix socket, like net.Dialer.
func (s *Loops) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := s.dial(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", addr, err)
	}
	return c, nil
}

func (s *Loops) dial(ctx context.Context, network, addr string) (*Conn, error) {
	family, sa, err := resolve(network, addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if family != unix.AF_UNIX {
		tune(fd)
	}
	err = unix.Connect(fd, sa)
	for err == unix.EAGAIN && ctx.Err() == nil { // a Unix socket whose backlog is full
		time.Sleep(time.Millisecond)
		err = unix.Connect(fd, sa)
	}
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c, aerr := s.adopt(fd)
	if aerr != nil || err == nil {
		return c, aerr
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	err = c.connected()
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// connected waits until the socket is connected or says why not.
func (c *Conn) connected() error {
	for {
		c.wr.state.Store(quiet)
		p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(p, 0); err == nil && n > 0 {
			e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && e != 0 {
				err = unix.Errno(e)
			}
			return os.NewSyscallError("connect", err)
		}
		if err := c.wr.wait(); err != nil {
			return err
		}
	}
}

// resolve makes a socket address. Names are resolved here, too, and only the first
// address is tried; whoever wants another looks them up itself.
func resolve(network, addr string) (family int, sa unix.Sockaddr, err error) {
	if network == "unix" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: addr}, nil
	}
	a, err := net.ResolveTCPAddr(network, addr)
	if err != nil {
		return 0, nil, err
	}
	if ip := a.IP.To4(); ip != nil {
		return unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, nil
	}
	if len(a.IP) == 0 {
		return unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}}, nil
	}
	to := &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP)}
	if a.Zone != "" {
		i, err := net.InterfaceByName(a.Zone)
		if err != nil {
			return 0, nil, err
		}
		to.ZoneId = uint32(i.Index)
	}
	return unix.AF_INET6, to, nil
}
