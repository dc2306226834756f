package gateway

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerUser is the name of the user whose process connected to a Unix socket (unix(7),
// SO_PEERCRED).
func peerUser(n net.Conn) (string, error) {
	sc, ok := n.(syscall.Conn)
	if !ok {
		return "", fmt.Errorf("cannot ask %T for its other end", n)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("cannot ask a socket for its other end: %w", err)
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return "", fmt.Errorf("cannot ask a socket for its other end: %w", err)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10))
	if err != nil {
		return "", fmt.Errorf("cannot find the operating system's user %d: %w", cred.Uid, err)
	}
	return u.Username, nil
}
