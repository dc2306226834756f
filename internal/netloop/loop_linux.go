package netloop

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

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
	stop int // an eventfd that ends it

	events  [256]unix.EpollEvent
	yielded time.Time // when other goroutines had their turn last
}

// maxDescriptors bounds the descriptors of connections; the process's limit is
// seldom higher.
const maxDescriptors = 1 << 20

// maxRun is how long a loop goes on without giving other goroutines their turn:
// one that spins on a system with as many loops as processors starves them
// (trap T11).
const maxRun = 200 * time.Microsecond

// maxTurn is how long a loop that has little to do goes on without a scheduling
// point.
const maxTurn = 4 * time.Millisecond

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
	if err := unix.SetNonblock(epfd, true); err != nil {
		_ = unix.Close(epfd)
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

// Len is the number of loops.
func (s *Loops) Len() int { return len(s.loops) }

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

// run waits for events and calls handlers until Close. Go's own poller waits for
// the epoll set, which is a file like any other, so that the goroutine never sits in
// a system call: one that blocks there costs hand-overs of its processor, futexes
// and the attention of the runtime's monitor for each wait.
func (l *loop) run() {
	defer l.set.done.Done()
	defer unix.Close(l.stop)
	f := os.NewFile(uintptr(l.epfd), "epoll set") // owns epfd from here on
	defer f.Close()
	raw, err := f.SyscallConn()
	if err == nil {
		l.yielded = time.Now()
		err = raw.Read(func(uintptr) bool { return l.drain() })
	}
	if err != nil {
		panic("BUG: cannot wait for an epoll set: " + err.Error())
	}
}

// drain calls the handlers of what is ready; true: the loop is to end.
func (l *loop) drain() bool {
	for {
		n, err := epollPoll(l.epfd, l.events[:])
		if err != 0 {
			panic("BUG: cannot read an epoll set: " + err.Error())
		}
		if n == 0 {
			return false
		}
		began := time.Now()
		if began.Sub(l.yielded) > maxTurn {
			// The scheduler preempts by a signal what it has not seen for 10 ms.
			l.yield()
			began = l.yielded
		}
		for i := range n {
			ev := &l.events[i]
			if ev.Fd == -1 {
				return true
			}
			// A descriptor that was closed in this very batch may be in use again:
			// its events carry the older generation.
			if c := l.set.at(int(ev.Fd)).Load(); c != nil && c.gen == ev.Pad {
				c.event(ev.Events)
			}
			if i&15 == 15 && time.Since(began) > maxRun {
				l.yield()
				began = l.yielded
			}
		}
		if n < repoll {
			return false
		}
	}
}

// repoll is from how many events at once on more are looked for without a wait.
const repoll = 4

func (l *loop) yield() {
	runtime.Gosched()
	l.yielded = time.Now()
}

// epollPoll is epoll_wait without a wait.
func epollPoll(epfd int, events []unix.EpollEvent) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// watched are the events of a connection. Edge-triggered: each is told once.
const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)

// adopt makes a Conn of a connected non-blocking socket, which it owns from then
// on.
func (s *Loops) adopt(fd int) (*Conn, error) {
	if fd >= maxDescriptors {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot take another connection: %w (%d descriptors)", unix.EMFILE, maxDescriptors)
	}
	c := &Conn{fd: fd, set: s, gen: int32(s.gen.Add(1))}
	s.at(fd).Store(c)
	l := s.loops[int(s.next.Add(1))%len(s.loops)]
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
