package gateway_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// valve stands between the gateway and a server, and holds back what the server says
// while it is shut.
type valve struct {
	testing.TB

	// mu protects what follows.
	mu   sync.Mutex
	shut chan struct{} // closed when it opens; nil: it is open
	said bytes.Buffer  // by the gateway, on all connections
}

// newValve stands an open one before the server of dsn and returns the DSN by way of it.
func newValve(t testing.TB, dsn string) (v *valve, through string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	v = &valve{TB: t}
	t.Cleanup(v.open)
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(far, io.TeeReader(near, v))
				_ = far.Close()
			}()
			go func() {
				_, _ = io.Copy(valved{near, v}, far)
				_ = near.Close()
			}()
		}
	}()
	u.Host = l.Addr().String()
	return v, u.String()
}

// valved writes to a connection while the valve is open.
type valved struct {
	net.Conn
	v *valve
}

func (h valved) Write(b []byte) (int, error) {
	h.v.mu.Lock()
	shut := h.v.shut
	h.v.mu.Unlock()
	if shut != nil {
		<-shut
	}
	return h.Conn.Write(b)
}

// Write takes note of what the gateway says.
func (v *valve) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.said.Write(b)
}

func (v *valve) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = make(chan struct{})
	v.said.Reset()
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut != nil {
		close(v.shut)
		v.shut = nil
	}
}

// heard waits until the gateway has said a text so often since the valve was closed.
func (v *valve) heard(text string, times int) {
	v.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		v.mu.Lock()
		n := bytes.Count(v.said.Bytes(), []byte(text))
		v.mu.Unlock()
		if n >= times {
			return
		}
		if time.Now().After(deadline) {
			v.Fatalf("the gateway said %q %d times, want %d", text, n, times)
		}
	}
}
