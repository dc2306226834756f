package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say where a server keeps what it needs.
type Options struct {
	Dir  string    // cache folder of the installation, see Install
	Data string    // data directory, made if missing; "": a temporary one, removed by Close
	Port int       // on loopback; 0: a free one
	Log  io.Writer // progress and the process's errors; nil: nowhere
}

// Server is a running process. Its methods may be called from any goroutine.
type Server struct {
	port  int
	temp  string // to remove, "" when the data are the caller's
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when the process has ended
	err   error         // how it ended; valid after done

	closing sync.Once
}

// Start installs what is missing, starts a server and waits until it listens. A
// first start takes some 10 s, a later one 1 s. ctx bounds the start alone.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	in, err := install(ctx, o.Dir, o.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{done: make(chan struct{})}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return nil, fmt.Errorf("cannot find the data directory %s: %w", o.Data, err)
	}
	if o.Data == "" {
		if s.temp, err = os.MkdirTemp("", "qvpgw-embedded-"); err != nil {
			return nil, fmt.Errorf("cannot make a data directory: %w", err)
		}
		data = filepath.Join(s.temp, "data")
	}
	if err := in.start(ctx, s, data, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// start fills a new data directory and starts the process on it.
func (in *installation) start(ctx context.Context, s *Server, data string, o Options) error {
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
		if err := copyTree(data, in.template()); err != nil {
			return fmt.Errorf("cannot make the data directory %s: %w", data, err)
		}
	}
	args := []string{in.script, "--data", data, "--port", strconv.Itoa(o.Port)}
	if s.temp != "" {
		args = append(args, "--remove", s.temp) // should this process be killed
	}
	cmd := exec.Command(in.node, args...)
	cmd.Dir = in.dir
	said := &lastBytes{}
	cmd.Stderr = io.MultiWriter(o.Log, said)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("cannot start the embedded database: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("cannot start the embedded database: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the embedded database: %w", err)
	}
	s.cmd, s.stdin = cmd, stdin

	ready := make(chan int, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if port, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				n, _ := strconv.Atoi(port)
				ready <- n
			}
		}
		s.err = cmd.Wait() // after the pipe is read to its end
		close(s.done)
	}()
	select {
	case s.port = <-ready:
		return nil
	case <-s.done:
		return fmt.Errorf("cannot start the embedded database: it ended: %s", said)
	case <-ctx.Done():
		return fmt.Errorf("cannot start the embedded database: %w: %s", ctx.Err(), said)
	}
}

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// DSN names the database, for its superuser.
func (s *Server) DSN() string {
	return "postgres://postgres@" + s.Addr() + "/template1?sslmode=disable"
}

// PID is the process that serves.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Done is closed when the process has ended, whoever ended it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends the server, its clients at once, and removes temporary data. It
// may be called more than once.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() {
		if s.cmd != nil {
			s.stdin.Close()
			select {
			case <-s.done:
			case <-time.After(5 * time.Second):
				err = s.cmd.Process.Kill()
				<-s.done
			}
		}
		if s.temp != "" {
			err = errors.Join(err, os.RemoveAll(s.temp))
		}
	})
	return err
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - 2048; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.buf))
}
