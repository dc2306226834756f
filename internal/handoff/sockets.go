package handoff

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a listening socket that was inherited or opened here.
type socket struct {
	Role    string // what is served on it
	Address string // as configured, which need not be what it is bound to
	fd      int    // a duplicate for successors, closed at exec
}

// sockets are the listening sockets of a process. The file descriptors are kept
// beside those that the process listens with, so that it may stop to listen and
// still hand them on.
type sockets struct {
	inherited []socket // not asked for yet
	used      []socket
	activated bool // systemd gave them: their addresses are its affair
}

// fromSystemd takes the sockets that systemd passed to this process
// (sd_listen_fds(3)): those named http (FileDescriptorName=) serve HTTP, all
// others PostgreSQL clients.
func (s *sockets) fromSystemd() error {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(v) // they are for this process alone
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > 64 {
		return fmt.Errorf("cannot use the sockets of systemd: LISTEN_FDS is %q", fds)
	}
	for i := range n {
		role := RoleClients
		if i < len(names) && names[i] == RoleHTTP {
			role = RoleHTTP
		}
		s.inherited = append(s.inherited, socket{Role: role, fd: firstFD + i})
		unix.CloseOnExec(firstFD + i)
	}
	s.activated = n > 0
	return nil
}

// The roles of sockets. Systemd gives none of RoleUnix.
const (
	RoleClients = "listen" // PostgreSQL clients
	RoleUnix    = "unix"   // those on this machine
	RoleHTTP    = "http"
)

// firstFD is the first descriptor that systemd, and Restart, pass on.
const firstFD = 3

// listen returns the sockets for a role and address: those that were inherited, or
// a new one. address is host:port, or the path of a Unix socket; it does not count
// for what systemd gave.
func (s *sockets) listen(role, address string) ([]net.Listener, error) {
	var found []net.Listener
	var rest []socket
	for _, x := range s.inherited {
		if x.Role != role || x.Address != address && (!s.activated || role == RoleUnix) {
			rest = append(rest, x)
			continue
		}
		l, err := listenerOf(x.fd)
		if err != nil {
			return nil, fmt.Errorf("cannot use the inherited socket for %s: %w", role, err)
		}
		found = append(found, l)
		s.used = append(s.used, socket{role, address, x.fd})
	}
	s.inherited = rest
	if len(found) > 0 {
		return found, nil
	}
	l, err := s.open(role, address)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// open makes a new socket.
func (s *sockets) open(role, address string) (net.Listener, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(l.(syscall.Conn))
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("cannot keep the socket for a successor: %w", err)
	}
	keepPath(l)
	s.used = append(s.used, socket{role, address, fd})
	return l, nil
}

// listenerOf listens with a descriptor of its own on the socket of fd.
func listenerOf(fd int) (net.Listener, error) {
	again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), "inherited socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	keepPath(l)
	return l, nil
}

// keepPath leaves a Unix socket's file where it is when one of the processes that
// have the socket closes it.
func keepPath(l net.Listener) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
}

// removeStale removes the file of a Unix socket that nobody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on %s: it is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return fmt.Errorf("cannot listen on %s: %w", path, syscall.EADDRINUSE)
	}
	return os.Remove(path)
}

// duplicate returns another descriptor of a socket. The two share their file
// status flags, which neither side changes: both are non-blocking.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(x uintptr) { fd, err = unix.FcntlInt(x, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// drop closes the inherited sockets that nobody asked for: the configuration has
// other addresses now.
func (s *sockets) drop() {
	for _, x := range s.inherited {
		_ = unix.Close(x.fd)
	}
	s.inherited = nil
}

// remove removes the files of Unix sockets, when the last process ends.
func (s *sockets) remove() {
	for _, x := range s.used {
		if strings.HasPrefix(x.Address, "/") && (!s.activated || x.Role == RoleUnix) {
			_ = os.Remove(x.Address) // it may be gone
		}
	}
}
