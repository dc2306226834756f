package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cancelTimeout bounds how long the answer to a passed cancel request is waited for.
const cancelTimeout = 10 * time.Second

// environment names the variable that a successor is told its inheritance with.
const environment = "QVPGW_SUCCESSOR"

// inheritance is its value: descriptor 3 is the control socket, then come the
// listening sockets in this order.
type inheritance struct {
	Generation int
	Activated  bool // the sockets are systemd's
	Sockets    []socket
}

// Process is this process as one of those that share the listening sockets.
type Process struct {
	generation int
	sockets    sockets
	parent     *link // nil: this one was started first
	program    string
	cancel     func(pid uint32, key []byte)
	retired    chan struct{}

	mu       sync.Mutex // protects what follows
	children []*child   // that live
	last     int        // generation of the newest child
	current  *child     // that serves now, nil: this process
	starting bool
	retiring bool
	failure  error // of the one that served last
}

// child is a successor, as its parent sees it.
type child struct {
	generation int
	process    *os.Process
	link       *link
	ready      chan struct{} // closed when it serves
	ended      chan struct{} // closed when it is gone; err is set then
	err        error
}

// Start takes what this process inherits. Call it once, first of all.
func Start() (*Process, error) {
	p := &Process{retired: make(chan struct{})}
	p.program = programPath()
	given := os.Getenv(environment)
	_ = os.Unsetenv(environment)
	if given == "" {
		return p, p.sockets.fromSystemd()
	}
	var in inheritance
	if err := json.Unmarshal([]byte(given), &in); err != nil {
		return nil, fmt.Errorf("cannot read what was inherited: %s is %q: %w", environment, given, err)
	}
	unix.CloseOnExec(firstFD)
	f := os.NewFile(firstFD, "control socket")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("cannot use the inherited control socket: %w", err)
	}
	p.generation, p.parent, p.sockets.activated = in.Generation, newLink(conn), in.Activated
	for i, s := range in.Sockets {
		s.fd = firstFD + 1 + i
		unix.CloseOnExec(s.fd)
		p.sockets.inherited = append(p.sockets.inherited, s)
	}
	return p, nil
}

// programPath is how the program was called, so that a file or link that was
// replaced since counts.
func programPath() string {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		if path, err = filepath.Abs(path); err == nil {
			return path
		}
	}
	path, _ := os.Executable() // "" fails at the restart
	return path
}

// Generation is how many processes served before this one.
func (p *Process) Generation() int { return p.generation }

// Listen returns the listening sockets of a role: the inherited one of this
// address, or a new one, or all that systemd gave. address is host:port or the path
// of a Unix socket.
func (p *Process) Listen(role, address string) ([]net.Listener, error) {
	return p.sockets.listen(role, address)
}

// Ready says that this process serves: to the one before it, which then retires,
// and to systemd. cancel carries out cancel requests that arrived elsewhere.
func (p *Process) Ready(cancel func(pid uint32, key []byte)) error {
	p.sockets.drop()
	p.cancel = cancel
	if p.parent == nil {
		return notify("READY=1")
	}
	go func() {
		p.parent.read(func(word string) {
			if word == "retire" {
				p.retire()
			}
		}, cancel)
		p.retire() // there is nobody to be signalled through any more
	}()
	p.parent.send("ready")
	return nil
}

// Retired is closed when another process serves: this one is to stop accepting
// and to end when its clients are gone.
func (p *Process) Retired() <-chan struct{} { return p.retired }

func (p *Process) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.retiring {
		p.retiring = true
		close(p.retired)
	}
}

// Cancel passes a cancel request to the process with the client, by the client's
// generation, and returns when it was carried out or found nobody.
func (p *Process) Cancel(generation int, pid uint32, key []byte) {
	if p.parent != nil {
		p.parent.cancel(pid, key, cancelTimeout)
		return
	}
	p.mu.Lock()
	i := slices.IndexFunc(p.children, func(c *child) bool { return c.generation&generations == generation })
	var to *child
	if i >= 0 {
		to = p.children[i]
	}
	p.mu.Unlock()
	switch {
	case to != nil:
		to.link.cancel(pid, key, cancelTimeout)
	case generation == p.generation && p.cancel != nil:
		p.cancel(pid, key)
	}
}

// generations is the mask of those that can be told apart: what a generation
// leaves of itself in the process ids of its clients.
const generations = 0x7f

// Restart starts a successor and waits until it serves, at most for timeout. If it
// does not, it is ended, the error says why, and this process goes on. In a
// successor it asks the first process to do this, and returns at once.
func (p *Process) Restart(timeout time.Duration) error {
	if p.parent != nil {
		p.parent.send("restart")
		return nil
	}
	p.mu.Lock()
	if p.starting {
		p.mu.Unlock()
		return errors.New("cannot restart: a successor is starting already")
	}
	p.starting = true
	p.last++
	generation := p.last
	p.mu.Unlock()
	err := p.succeed(generation, timeout)
	p.mu.Lock()
	p.starting = false
	p.mu.Unlock()
	return err
}

// succeed has a new child take over.
func (p *Process) succeed(generation int, timeout time.Duration) error {
	c, err := p.spawn(generation)
	if err != nil {
		return fmt.Errorf("cannot restart: cannot start %s: %w", p.program, err)
	}
	go c.link.read(func(word string) {
		switch word {
		case "ready":
			c.becomeReady()
		case "restart":
			go func() { _ = p.Restart(timeout) }() // the successor that fails says so itself
		}
	}, func(pid uint32, key []byte) { p.Cancel(int(pid>>24), pid, key) })
	go p.await(c)
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-c.ready:
	case <-c.ended:
		return fmt.Errorf("cannot restart: the successor ended before it served: %w", c.err)
	case <-t.C:
		_ = c.process.Kill()
		return fmt.Errorf("cannot restart: the successor did not serve within %v", timeout)
	}
	p.mu.Lock()
	before := p.current
	p.current = c
	p.mu.Unlock()
	if before != nil {
		before.link.send("retire")
	} else {
		p.retire()
	}
	return nil
}

// becomeReady may come once; a second one is nobody's mistake worth an end.
func (c *child) becomeReady() {
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
}

// spawn starts the program again with the same arguments, the sockets and a
// control socket.
func (p *Process) spawn(generation int) (*child, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	in, err := json.Marshal(inheritance{generation, p.sockets.activated, p.sockets.used})
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	files := []uintptr{0, 1, 2, uintptr(theirs)}
	for _, s := range p.sockets.used {
		files = append(files, uintptr(s.fd))
	}
	pid, err := syscall.ForkExec(p.program, os.Args, &syscall.ProcAttr{
		Env: append(os.Environ(), environment+"="+string(in)), Files: files,
		Sys: &syscall.SysProcAttr{Setpgid: true}, // signals of a terminal come through its parent
	})
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	c := &child{generation: generation, process: process, link: newLink(ours), ready: make(chan struct{}), ended: make(chan struct{})}
	p.mu.Lock()
	p.children = append(p.children, c)
	p.mu.Unlock()
	return c, nil
}

// pair returns the two ends of a control socket.
func pair() (net.Conn, int, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, -1, err
	}
	f := os.NewFile(uintptr(fds[0]), "control socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, -1, err
	}
	return c, fds[1], nil
}

// await notes a child's end.
func (p *Process) await(c *child) {
	state, err := c.process.Wait()
	switch {
	case err != nil:
		c.err = err
	case !state.Success():
		c.err = &exec.ExitError{ProcessState: state}
	}
	_ = c.link.conn.Close()
	p.mu.Lock()
	p.children = slices.DeleteFunc(p.children, func(x *child) bool { return x == c })
	if p.current == c && c.err != nil {
		p.failure = fmt.Errorf("the process that served ended: %w", c.err)
	}
	p.mu.Unlock()
	close(c.ended)
}

// Served says how the newest successor stands: nil without any, else a channel
// that is closed when it is gone.
func (p *Process) Served() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		return nil
	}
	return p.current.ended
}

// Wait returns when no successor lives any more, with the failure of the one that
// served last.
func (p *Process) Wait() error {
	for {
		p.mu.Lock()
		if len(p.children) == 0 {
			defer p.mu.Unlock()
			return p.failure
		}
		c := p.children[0]
		p.mu.Unlock()
		<-c.ended
	}
}

// Signal sends a signal to every successor that lives; SIGHUP to the one that
// serves alone.
func (p *Process) Signal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.children {
		if s != syscall.SIGHUP || c == p.current {
			_ = c.process.Signal(s) // it may have ended
		}
	}
}

// Stopping tells systemd that the service ends.
func (p *Process) Stopping() {
	if p.parent == nil {
		_ = notify("STOPPING=1") // whether it is told makes no difference to the end
	}
}

// Close removes the files of Unix sockets, if this process is the last one.
func (p *Process) Close() {
	if p.parent == nil {
		p.sockets.remove()
	}
}
