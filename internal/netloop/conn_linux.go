package netloop

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a connection of a loop. It blocks like any net.Conn until SetBlocking
// says otherwise.
type Conn struct {
	fd   int
	gen  int32
	loop *loop
	// users counts who is in a system call on fd, and is above closed once the
	// Conn is closed; the last one out gives the descriptor back.
	users    atomic.Int64
	released atomic.Bool // it was given back, once
	rd, wr   side
	ended    atomic.Bool // the peer will send nothing more, or the socket failed
	handler  atomic.Pointer[Handler]
	mu       sync.Mutex // protects the sides' timers

	nonblocking bool
	drained     bool   // the last read took all that was there; the reader's
	pending     []byte // what the socket did not take in non-blocking mode; the writer's
}

const closed = 1 << 32

// Watch has h told of every event of the socket from now on; nil: nobody. What h
// points to is not copied.
func (c *Conn) Watch(h *Handler) { c.handler.Store(h) }

// SetBlocking says how Read and Write behave when the socket is not ready: they
// block the goroutine, or Read returns ErrWouldBlock and Write keeps what the
// socket did not take (see Pending). It is for whoever reads and writes.
func (c *Conn) SetBlocking(blocking bool) {
	c.nonblocking = !blocking
	if !blocking {
		c.rd.wake, c.wr.wake = nil, nil // an idle connection is to be small
	}
}

// Pending returns the number of bytes that a Write in non-blocking mode left over.
// They leave, and are waited for, with Flush or the next Write in blocking mode.
func (c *Conn) Pending() int { return len(c.pending) }

// PeerClosed says, without looking at the socket, whether the peer has closed its
// sending side or the connection is broken. Bytes that came before may be unread.
func (c *Conn) PeerClosed() bool { return c.ended.Load() }

// Heard says, without looking at the socket, whether a Read may find something.
func (c *Conn) Heard() bool {
	return !c.drained || c.rd.state.Load() != quiet || c.ended.Load()
}

// Silent says, without looking at the socket, that a Read in non-blocking mode would
// find nothing and no deadline either.
func (c *Conn) Silent() bool { return !c.Heard() && c.rd.deadline.Load() == 0 }

// Await blocks until a Read may find something or the read deadline passes, which
// the Read will say.
func (c *Conn) Await() {
	for !c.Heard() && c.rd.wait() == nil {
	}
}

// Quiet looks, without reading, whether nothing has arrived and the connection
// stands.
func (c *Conn) Quiet() bool {
	if !c.enter() {
		return false
	}
	defer c.leave()
	var b [1]byte
	_, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN
}

// Stuck says whether a Write waits for the peer, and how many bytes the socket has
// that the peer did not take. Anybody may ask.
func (c *Conn) Stuck() (queued int, stuck bool) {
	if c.wr.state.Load() != waiting || !c.enter() {
		return 0, false
	}
	defer c.leave()
	n, err := unix.IoctlGetInt(c.fd, unix.SIOCOUTQ)
	return n, err == nil
}

// event is called by the loop.
func (c *Conn) event(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.ended.Store(true)
	}
	in := events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	if in && c.rd.notify() {
		c.loop.woke.Store(true)
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 && c.wr.notify() {
		c.loop.woke.Store(true)
	}
	if h := c.handler.Load(); h != nil && in {
		(*h).Ready()
	}
}

// enter begins a system call on the descriptor; false when the Conn is closed.
func (c *Conn) enter() bool {
	if c.users.Add(1) >= closed {
		c.leave()
		return false
	}
	return true
}

func (c *Conn) leave() {
	if c.users.Add(-1) == closed {
		c.release()
	}
}

// release gives the descriptor back; epoll forgets it with that.
func (c *Conn) release() {
	if c.released.Swap(true) {
		return // whoever found the Conn closed was in and out again
	}
	c.loop.set.at(c.fd).CompareAndSwap(c, nil)
	_ = unix.Close(c.fd)
}

// Close closes the connection; a goroutine that blocks on it gets net.ErrClosed.
func (c *Conn) Close() error {
	for {
		n := c.users.Load()
		if n >= closed {
			return c.fail("close", net.ErrClosed)
		}
		// One more user, so that it is released once whoever comes last.
		if c.users.CompareAndSwap(n, n+closed+1) {
			break
		}
	}
	c.mu.Lock()
	for _, s := range [...]*side{&c.rd, &c.wr} {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	c.mu.Unlock()
	c.rd.notify()
	c.wr.notify()
	c.leave()
	return nil
}

// Woke tells the loop that the handler started a goroutine, which is to have its turn
// soon.
func (c *Conn) Woke() { c.loop.woke.Store(true) }

// read is one raw read: -1 and EAGAIN when nothing is there.
func (c *Conn) read(b []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// write is one raw write.
func (c *Conn) write(b []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// Read reads what has arrived, at most len(b) bytes.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if c.rd.expired() {
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		}
		// Once all was read, the loop tells of more (epoll(7), edge-triggered); a
		// peer's end may have been told together with what came before it.
		if c.Heard() {
			c.rd.state.Store(quiet)
			if !c.enter() {
				return 0, c.fail("read", net.ErrClosed)
			}
			n, e := c.read(b)
			c.leave()
			switch {
			case e == 0 && n == 0:
				return 0, io.EOF
			case e == 0:
				c.drained = n < len(b)
				return n, nil
			case e != unix.EAGAIN:
				return 0, c.fail("read", os.NewSyscallError("read", e))
			}
			c.drained = true
		}
		if c.nonblocking {
			return 0, ErrWouldBlock
		}
		if err := c.rd.wait(); err != nil {
			return 0, c.fail("read", err)
		}
	}
}

// Write writes b, in non-blocking mode what the socket takes of it: the rest is
// kept.
func (c *Conn) Write(b []byte) (int, error) {
	if c.nonblocking {
		if len(c.pending) > 0 {
			c.pending = append(c.pending, b...)
			return len(b), nil
		}
		n, err := c.put(b)
		if err == ErrWouldBlock {
			c.pending = append(c.pending, b[n:]...)
			return len(b), nil
		}
		return n, err
	}
	if err := c.Flush(); err != nil {
		return 0, err
	}
	return c.writeAll(b)
}

// Flush writes what earlier Writes left over, and waits for it.
func (c *Conn) Flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	_, err := c.writeAll(c.pending)
	c.pending = nil
	return err
}

func (c *Conn) writeAll(b []byte) (int, error) {
	done := 0
	for {
		n, err := c.put(b[done:])
		done += n
		if err != ErrWouldBlock {
			return done, err
		}
		if err := c.wr.wait(); err != nil {
			return done, c.fail("write", err)
		}
	}
}

// put writes until b is written or the socket takes no more: ErrWouldBlock.
func (c *Conn) put(b []byte) (int, error) {
	if c.wr.expired() {
		return 0, c.fail("write", os.ErrDeadlineExceeded)
	}
	done := 0
	for done < len(b) {
		if !c.enter() {
			return done, c.fail("write", net.ErrClosed)
		}
		n, e := c.write(b[done:])
		c.leave()
		switch {
		case e == unix.EAGAIN && c.wr.state.Load() != quiet:
			c.wr.state.Store(quiet) // and another look, so that no event is lost
			continue
		case e == unix.EAGAIN:
			return done, ErrWouldBlock
		case e != 0:
			return done, c.fail("write", os.NewSyscallError("write", e))
		}
		done += n
	}
	return done, nil
}

// CloseWrite ends the sending side.
func (c *Conn) CloseWrite() error {
	if !c.enter() {
		return c.fail("close", net.ErrClosed)
	}
	defer c.leave()
	return os.NewSyscallError("shutdown", unix.Shutdown(c.fd, unix.SHUT_WR))
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline ends Reads, one that blocks included, at t; zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rd.set(t)
	return nil
}

// SetWriteDeadline ends Writes, one that blocks included, at t; zero: never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wr.set(t)
	return nil
}

// LocalAddr returns the address of this end, the zero TCPAddr when the Conn is
// closed.
func (c *Conn) LocalAddr() net.Addr { return c.address(unix.Getsockname) }

// RemoteAddr returns the address of the peer, the zero TCPAddr when the Conn is
// closed or the peer is gone.
func (c *Conn) RemoteAddr() net.Addr { return c.address(unix.Getpeername) }

// fail gives an error the form that package net's have.
func (c *Conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}
