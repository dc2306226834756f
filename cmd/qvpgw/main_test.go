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
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), fmt.Appendf(nil, config, addr), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(path, "serve")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				t.Errorf("the gateway ended with %v:\n%s", err, said.String())
			}
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Errorf("the gateway did not end within 10 s of SIGTERM:\n%s", said.String())
		}
	})
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if n, err := net.Dial("tcp", addr); err == nil {
			_ = n.Close()
			return cmd.Process.Pid, addr
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("cannot start the gateway, it ended with %v:\n%s", err, said.String())
		default:
		}
	}
	t.Fatal("cannot reach the gateway within 10 s")
	return 0, ""
}
