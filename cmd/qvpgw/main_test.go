package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if dir := binaryDir; dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// binaryDir holds what builtBinary built.
var binaryDir string

// builtBinary is the program as users run it, without the race detector.
var builtBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "qvpgw-test-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "qvpgw")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build the program: %w: %s", err, out)
	}
	return path, nil
})

// startGateway runs the program with a configuration, in which %s stands for the
// address to listen on, until the end of the test.
func startGateway(t *testing.T, config string) (pid int, addr string) {
	t.Helper()
	l := launch(t, config)
	return l.cmd.Process.Pid, l.addr
}

// launched is a program that runs until stop or the end of the test.
type launched struct {
	addr  string
	cmd   *exec.Cmd
	said  strings.Builder // complete once it has ended
	ended chan error
	over  bool
}

// stop ends the program and returns what it said.
func (l *launched) stop(t *testing.T) string {
	t.Helper()
	if l.over {
		return l.said.String()
	}
	l.over = true
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-l.ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Errorf("the gateway ended with %v:\n%s", err, l.said.String())
		}
	case <-time.After(10 * time.Second):
		_ = l.cmd.Process.Kill()
		<-l.ended
		t.Errorf("the gateway did not end within 10 s of SIGTERM:\n%s", l.said.String())
	}
	return l.said.String()
}

// launch runs the program as startGateway does.
func launch(t *testing.T, config string) *launched {
	t.Helper()
	l := begin(t, config)
	l.await(t, 10*time.Second)
	return l
}

// begin starts the program and does not wait until it serves.
func begin(t *testing.T, config string) *launched {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &launched{addr: n.Addr().String(), ended: make(chan error, 1)}
	_ = n.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), fmt.Appendf(nil, config, l.addr), 0o600); err != nil {
		t.Fatal(err)
	}
	l.cmd = exec.Command(path, "serve")
	l.cmd.Dir = dir
	l.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	l.cmd.Stdout, l.cmd.Stderr = &l.said, &l.said
	if err := l.cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", path, err)
	}
	go func() { l.ended <- l.cmd.Wait() }()
	t.Cleanup(func() { l.stop(t) })
	return l
}

// await waits until the program takes connections.
func (l *launched) await(t *testing.T, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n, err := net.Dial("tcp", l.addr); err == nil {
			_ = n.Close()
			return
		}
		select {
		case err := <-l.ended:
			l.over = true
			t.Fatalf("cannot start the gateway, it ended with %v:\n%s", err, l.said.String())
		default:
		}
	}
	t.Fatalf("cannot reach the gateway within %v", limit)
}
