package netloop

import (
	"errors"
	"os"
)

// ErrUnsupported is what New returns on a system without epoll.
var ErrUnsupported = errors.New("event loops need Linux")

// ErrWouldBlock is what a Conn in non-blocking mode returns from Read when nothing
// has arrived. It is a net.Error that is Temporary and a Timeout, so that
// crypto/tls can read on after it.
var ErrWouldBlock error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "the read would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }
func (wouldBlock) Unwrap() error   { return os.ErrDeadlineExceeded }

// Handler is told that a socket may be ready. Ready runs on a loop's goroutine,
// for several connections at the same time, and must not wait for anything.
type Handler interface{ Ready() }
