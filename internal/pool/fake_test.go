package pool

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// fake is a server that lets everybody in and answers every query with nothing, but
// for the question whether it is a standby.
type fake struct {
	net.Listener

	mu       sync.Mutex
	standby  bool
	readOnly bool
	refuses  string // SQLSTATE that a login gets
	open     map[net.Conn]bool
	logins   int
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// startFake listens at addr, "" for any port of 127.0.0.1.
func startFake(t *testing.T, addr string) *fake {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Listener: l, open: map[net.Conn]bool{}}
	t.Cleanup(f.stop)
	go func() {
		for {
			n, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(n)
		}
	}()
	return f
}

// stop ends the server and its connections.
func (f *fake) stop() {
	_ = f.Close()
	f.cut()
}

// cut ends the connections, the server goes on.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.open {
		_ = n.Close()
	}
}

// set changes what the server says of itself from now on.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// count is how many connections there are.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

func (f *fake) serve(n net.Conn) {
	defer n.Close()
	b := pgproto3.NewBackend(n, n)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	f.mu.Lock()
	f.logins++
	pid, refuses := uint32(f.logins), f.refuses
	if refuses == "" {
		f.open[n] = true
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: onOff(f.standby)})
	b.Send(&pgproto3.ParameterStatus{Name: "default_transaction_read_only", Value: onOff(f.standby || f.readOnly)})
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.open, n)
		f.mu.Unlock()
	}()
	if refuses != "" {
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: refuses, Message: "go away"})
		_ = b.Flush()
		return
	}
	b.Send(&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: []byte{1, 2, 3, 4}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Terminate:
			return
		case *pgproto3.Query:
			if len(m.String) > 40 {
				f.mu.Lock()
				row := [][]byte{[]byte(map[bool]string{true: "true", false: "false"}[f.standby]), []byte(onOff(f.readOnly))}
				f.mu.Unlock()
				b.Send(&pgproto3.DataRow{Values: row})
			}
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("OK")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		}
	}
}

// to is the way to fakes, in their order.
func to(t *testing.T, list ...*fake) *pgconn.Config {
	t.Helper()
	hosts, ports := "", ""
	for i, f := range list {
		host, port, err := net.SplitHostPort(f.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			hosts, ports = hosts+",", ports+","
		}
		hosts, ports = hosts+host, ports+port
	}
	c, err := pgconn.ParseConfig("host=" + hosts + " port=" + ports + " user=u dbname=d sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newPool returns a pool that is closed at the end of the test.
func newPool(t *testing.T, opt Options) *Pool {
	t.Helper()
	p := New(opt)
	t.Cleanup(p.Close)
	return p
}

var owners uint64

// take acquires a connection, which must succeed.
func take(t *testing.T, p *Pool) *Conn {
	t.Helper()
	c, err := try(p, 5*time.Second)
	if err != nil {
		t.Fatalf("cannot get a connection: %v", err)
	}
	return c
}

func try(p *Pool, timeout time.Duration) (*Conn, error) {
	var w Waiter
	w.Init(nil)
	owners++
	return p.Acquire(&w, owners, nil, p.Empty(), timeout)
}

// taking acquires in the background.
func taking(p *Pool, timeout time.Duration) <-chan error {
	got := make(chan error, 1)
	w := new(Waiter)
	w.Init(nil)
	owners++
	owner := owners
	go func() {
		c, err := p.Acquire(w, owner, nil, p.Empty(), timeout)
		if err == nil {
			defer p.Release(c)
		}
		got <- err
	}()
	return got
}

// eventually waits until what is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("after 5 s still not: %s", what)
		}
	}
}

// lookups is a LookupFunc whose answer can be changed.
type lookups struct {
	mu   sync.Mutex
	list []string
}

func (l *lookups) answer(list ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = list
}

func (l *lookups) lookup(context.Context, string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list, nil
}
