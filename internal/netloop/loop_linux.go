package netloop

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"
)

// Loops is a set of event loops.
type Loops struct {
	loops []*loop
	conns [maxDescriptors / chunkSize]atomic.Pointer[chunk] // by descriptor
	next  atomic.Uint32
	gen   atomic.Uint32
	close sync.Once
	done  sync.WaitGroup
}

// chunk is a part of the table of connections.
type chunk [chunkSize]atomic.Pointer[Conn]

const chunkSize = 1 << 10

// at returns the place of a descriptor's connection.
func (s *Loops) at(fd int) *atomic.Pointer[Conn] {
	c := &s.conns[fd/chunkSize]
	if c.Load() == nil {
		c.CompareAndSwap(nil, new(chunk))
	}
	return &c.Load()[fd%chunkSize]
}

// loop is one epoll set and the goroutine that waits for it.
type loop struct {
	set  *Loops
	epfd int
	stop int         // an eventfd that ends it
	woke atomic.Bool // a goroutine, since it last gave others their turn
}

// maxDescriptors bounds the descriptors of connections; the process's limit is
// seldom higher.
const maxDescriptors = 1 << 20

// Goroutines have as many processors as there are besides those of the loops, so one
// that another goroutine wakes runs beside a busy loop (trap T11). What the loop itself
// makes ready lies in its own queue until somebody steals it: it gives that its turn
// after maxRun, and looks around after longRun, since who is asked to run in vain is
// woken for nothing.
const (
	maxRun  = 200 * time.Microsecond
	longRun = 2 * time.Millisecond
)

// maxTurn is how long a loop that has little to do goes on without a scheduling
// point. What the runtime has not seen at one for 10 ms it takes its processor from
// at every wait, and watches at its shortest interval.
const maxTurn = time.Millisecond

// New starts n loops.
func New(n int) (*Loops, error) {
	s := new(Loops)
	for range max(n, 1) {
		l, err := newLoop(s)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.loops = append(s.loops, l)
		s.done.Add(1)
		go l.run()
	}
	return s, nil
}

func newLoop(s *Loops) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll set: %w", err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("cannot make an eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, stop, &ev); err != nil {
		_ = unix.Close(epfd)
		_ = unix.Close(stop)
		return nil, fmt.Errorf("cannot watch an eventfd: %w", err)
	}
	return &loop{set: s, epfd: epfd, stop: stop}, nil
}

// Close ends the loops. Connections that are still open are closed.
func (s *Loops) Close() {
	s.close.Do(func() {
		for i := range s.conns {
			part := s.conns[i].Load()
			for j := range chunkSize {
				if part == nil {
					break
				}
				if c := part[j].Load(); c != nil {
					_ = c.Close()
				}
			}
		}
		for _, l := range s.loops {
			_, _ = unix.Write(l.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}
		s.done.Wait()
	})
}

// run waits for events and calls handlers until Close.
func (l *loop) run() {
	defer l.set.done.Done()
	defer unix.Close(l.epfd)
	defer unix.Close(l.stop)
	events := make([]unix.EpollEvent, 256)
	start, yielded := time.Now(), time.Duration(0) // a time since is half the price of a time
	for {
		n, err := unix.EpollWait(l.epfd, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			panic("BUG: cannot wait for an epoll set: " + err.Error())
		}
		began := time.Since(start)
		if began-yielded > maxTurn {
			began = l.yield(start)
			yielded = began
		}
		for i := range n {
			ev := &events[i]
			if ev.Fd == -1 {
				return
			}
			// A descriptor that was closed in this very batch may be in use again:
			// its events carry the older generation.
			if c := l.set.at(int(ev.Fd)).Load(); c != nil && c.gen == ev.Pad {
				c.event(ev.Events)
			}
			if i&15 != 15 {
				continue
			}
			if ran := time.Since(start) - began; ran > longRun || ran > maxRun && l.woke.Load() {
				began = l.yield(start)
				yielded = began
			}
		}
	}
}

// yield gives other goroutines their turn and returns the time since start.
func (l *loop) yield(start time.Time) time.Duration {
	if l.woke.Swap(false) {
		runtime.Gosched()
	} else {
		goyield()
	}
	return time.Since(start)
}

// goyield is runtime.Gosched, but for that the goroutine stays in the queue of its own
// processor, for when nobody waits there: from the common one, to which Gosched puts it,
// another thread that is woken for it takes it, and each move costs two futexes and warm
// caches. The runtime keeps this name for others.
//
//go:linkname goyield runtime.goyield
func goyield()

// watched are the events of a connection. Edge-triggered: each is told once.
const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)

// adopt makes a Conn of a connected non-blocking socket, which it owns from then
// on.
func (s *Loops) adopt(fd int) (*Conn, error) {
	if fd >= maxDescriptors {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot take another connection: %w (%d descriptors)", unix.EMFILE, maxDescriptors)
	}
	l := s.loops[int(s.next.Add(1))%len(s.loops)]
	c := &Conn{fd: fd, loop: l, gen: int32(s.gen.Add(1))}
	s.at(fd).Store(c)
	ev := unix.EpollEvent{Events: watched, Fd: int32(fd), Pad: c.gen}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("cannot watch a connection: %w", err)
	}
	return c, nil
}

// tune sets what package net sets for a TCP connection: no delay, and probes that
// find a dead peer.
func tune(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9)
}
