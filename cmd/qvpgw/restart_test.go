package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

// TestASuccessorThatFailsChangesNothing asks for a restart with a configuration
// that is no good, and then with a good one.
func TestASuccessorThatFailsChangesNothing(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	r := &rolling{database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]}
	status := freeAddress(t)
	pid, addr := startGateway(t, restartConfig(c, r.database, status))
	r.addr = addr
	file := fmt.Sprintf("/proc/%d/cwd/config.yaml", pid)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	k, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := os.WriteFile(file, []byte("liste: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the successor has ended by now, or ends later: it makes no difference
	for range 3 {
		if _, err := k.run("SELECT 1"); err != nil {
			t.Errorf("a client of before gets %v", err)
		}
		n, err := r.dial()
		if err != nil {
			t.Fatalf("a new client gets %v", err)
		}
		_ = n.Close()
		time.Sleep(100 * time.Millisecond)
	}
	awaitGeneration(t, status, 0)
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	awaitGeneration(t, status, 2) // the one that failed is counted
}

// TestASecondSIGTERMEndsAtOnce has a client in a transaction, which a drain would
// wait for.
func TestASecondSIGTERMEndsAtOnce(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	r := &rolling{database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]}
	dir := t.TempDir()
	r.addr = freeAddress(t)
	text := strings.Replace(fmt.Sprintf(restartConfig(c, r.database, freeAddress(t)), r.addr), "shutdown_timeout: 10s", "shutdown_timeout: 1m", 1)
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	told := manager(t, dir)
	cmd := serving(t, dir, "exec \"$0\" serve", nil, "NOTIFY_SOCKET="+told.path)
	told.want(t, "READY=1")
	k, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.run("BEGIN"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	told.want(t, "STOPPING=1")
	if _, err := k.run("SELECT 1"); err != nil {
		t.Errorf("while the gateway drains, a statement of the transaction gets %v", err)
	}
	begun := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	for err == nil && time.Since(begun) < 10*time.Second {
		_, err = k.run("SELECT 1") // some may be answered before the signal counts
	}
	_ = cmd.Wait() // its status says that not all clients ended by themselves
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it ended after %v", d)
	}
}

// TestSocketsOfSystemdAreTakenOver starts the program the way systemd does, with
// sockets that nobody but a successor may close.
func TestSocketsOfSystemdAreTakenOver(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	r := &rolling{database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]}
	dir := t.TempDir()
	var files []*os.File
	var addresses []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		files = append(files, f)
		_ = l.Close()
	}
	r.addr = addresses[0]
	// The configured addresses do not count.
	text := fmt.Sprintf(restartConfig(c, r.database, "127.0.0.1:1"), "127.0.0.1:2")
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := serving(t, dir, "LISTEN_PID=$$ exec \"$0\" serve", files, "LISTEN_FDS=2", "LISTEN_FDNAMES=postgres:http")
	for _, f := range files {
		_ = f.Close()
	}
	awaitGeneration(t, addresses[1], 0)
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	awaitGeneration(t, addresses[1], 1)
	k, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.run("SELECT 1"); err != nil {
		t.Error(err)
	}
	_ = k.Close()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// serving starts the program by a shell command in which $0 is its path.
func serving(t *testing.T, dir, command string, files []*os.File, env ...string) *exec.Cmd {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", command, path)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it ends by itself unless the test failed
		_ = cmd.Wait()
	})
	return cmd
}

// serviceManager hears what the program tells systemd.
type serviceManager struct {
	path string
	conn *net.UnixConn
}

func manager(t *testing.T, dir string) *serviceManager {
	t.Helper()
	m := &serviceManager{path: filepath.Join(dir, "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

func (m *serviceManager) want(t *testing.T, state string) {
	t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 100)
	n, err := m.conn.Read(b)
	if err != nil || string(b[:n]) != state {
		t.Fatalf("the service manager was told %q, %v; want %q", b[:n], err, state)
	}
}
