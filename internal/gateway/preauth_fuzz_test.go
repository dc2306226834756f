package gateway_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/auth"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/rules"
	"qvpgw/internal/wire"
)

// Bounds of what one client that never logs in may cost.
const (
	preauthTime       = 10 * time.Second // from its last byte to the end of its connection
	preauthAnswer     = 64 << 10         // bytes that it is sent
	preauthHeap       = 32 << 20         // of all of them together, in bytes
	preauthGoroutines = 60               // beyond those without clients
)

// FuzzPreauth sends a string as all that a client sends before it hangs up, to a
// gateway that asks everybody for a password or a certificate: startup packets, TLS,
// GSS, cancels, SASL. Whatever it is, the client does not get in, the connection ends
// soon, and neither memory nor goroutines pile up.
func FuzzPreauth(f *testing.F) {
	addr := closedDoor(f)
	for _, seed := range preauthSeeds(f) {
		f.Add(seed)
	}
	var runs atomic.Int64
	var before usage
	f.Fuzz(func(t *testing.T, b []byte) {
		n := runs.Add(1)
		if n == 500 {
			before = used() // the fuzzer has taken what it needs itself by now
		}
		answer := knock(t, addr, b)
		if len(answer) > preauthAnswer {
			t.Errorf("%q was answered with %d bytes", b, len(answer))
		}
		letIn(t, b, answer)
		if n > 500 && n%500 == 0 {
			bounded(t, before)
		}
	})
}

// closedDoor serves on a Unix socket, which needs no ports, and has no server behind
// it: nobody gets so far.
func closedDoor(f *testing.F) (path string) {
	f.Helper()
	dir, err := os.MkdirTemp("", "qvpgw") // a short path
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	own := pgtest.NewAuthority(f, "own")
	cert, key := own.Issue(f, "gateway", "localhost")
	for name, content := range map[string][]byte{"cert": cert, "key": key, "ca": own.CertPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	certs, err := auth.NewCertificates(auth.Files{
		Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), ClientCA: filepath.Join(dir, "ca"),
	})
	if err != nil {
		f.Fatal(err)
	}
	g := &auth.Guard{TLS: certs, Users: map[string]auth.Secret{}}
	if g.Rules, err = auth.ParseTable([]string{
		"local all md5 md5", "local all plain password", "local all nobody reject", "local all,replication all scram-sha-256",
	}); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"scram", "plain"} {
		if g.Users[name], err = auth.PlainSecret(name, "secret"); err != nil {
			f.Fatal(err)
		}
	}
	if g.Users["md5"], err = auth.StoredSecret(wire.MD5Secret("md5", "secret")); err != nil {
		f.Fatal(err)
	}
	set, err := rules.New(nil)
	if err != nil {
		f.Fatal(err)
	}
	srv := gateway.New(gateway.Options{
		Guard: g, Rules: set, LoginTimeout: preauthTime / 2,
		Backend: func(string, string) (*pgconn.Config, error) { return nil, errors.New("somebody got in") },
	})
	path = filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		f.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	f.Cleanup(func() { _ = l.Close() })
	return path
}

// knock sends b, closes the sending side, and returns what comes until the end.
func knock(t *testing.T, path string, b []byte) []byte {
	t.Helper()
	n, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_ = n.SetDeadline(time.Now().Add(preauthTime))
	go func() {
		_, _ = n.Write(b) // the gateway may hang up before it is all sent
		_ = n.(*net.UnixConn).CloseWrite()
	}()
	answer, err := io.ReadAll(io.LimitReader(n, preauthAnswer+1))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%q: the connection did not end within %v", b, preauthTime)
	}
	return answer
}

// letIn fails when an answer says that a client is in.
func letIn(t *testing.T, b, answer []byte) {
	t.Helper()
	for len(answer) > 0 && (answer[0] == 'N' && (len(answer) == 1 || answer[1] != 0) || answer[0] == 'S' && len(answer) == 1) {
		answer = answer[1:] // to a request for encryption
	}
	if len(answer) > 0 && (answer[0] == 'S' || answer[0] == 0x15 || answer[0] == 0x16) {
		return // TLS follows
	}
	for len(answer) >= 5 {
		h := int(answer[1])<<24 | int(answer[2])<<16 | int(answer[3])<<8 | int(answer[4])
		if h < 4 || h+1 > len(answer) {
			t.Errorf("%q: the answer's message %q has the length %d of %d", b, answer[0], h, len(answer)-1)
			return
		}
		body := answer[5 : h+1]
		switch {
		case answer[0] == 'R' && bytes.Equal(body, []byte{0, 0, 0, 0}), answer[0] == 'Z', answer[0] == 'K':
			t.Errorf("%q: the client is in", b)
		case bytes.IndexByte([]byte("REvN"), answer[0]) < 0:
			t.Errorf("%q: the answer has a message %q", b, answer[0])
		}
		answer = answer[h+1:]
	}
}

// usage is what the process uses.
type usage struct {
	heap       uint64 // bytes
	goroutines int
}

func used() usage {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, runtime.NumGoroutine()}
}

// bounded fails when memory or goroutines pile up.
func bounded(t *testing.T, before usage) {
	t.Helper()
	now := used()
	if now.heap > before.heap+preauthHeap {
		t.Errorf("%d MB more of heap are in use", (now.heap-before.heap)>>20)
	}
	if n := now.goroutines - before.goroutines; n > preauthGoroutines {
		t.Errorf("%d goroutines more than before", n)
	}
}

// preauthSeeds are the ways in, cut off where the client's secret is needed.
func preauthSeeds(f *testing.F) [][]byte {
	f.Helper()
	startup := func(user string, more ...wire.Param) []byte {
		return wire.AppendStartup(nil, wire.Version32, append([]wire.Param{{Name: "user", Value: user}, {Name: "database", Value: "d"}}, more...))
	}
	message := func(typ byte, body []byte) []byte {
		n := len(body) + 4
		return append([]byte{typ, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
	first := []byte("n,,n=,r=fyko+d2lbbFgONRv9qkxdawL")
	sasl := append([]byte("SCRAM-SHA-256\x00"), 0, 0, 0, byte(len(first)))
	sasl = message('p', append(sasl, first...))
	last := message('p', []byte("c=biws,r=fyko+d2lbbFgONRv9qkxdawLabc,p="+string(bytes.Repeat([]byte("A"), 43))+"="))
	hello := &recorder{}
	_ = tls.Client(hello, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}).Handshake() // nobody answers
	if len(hello.sent) < 100 {
		f.Fatal("there is no ClientHello")
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	return [][]byte{
		nil,
		wire.AppendSSLRequest(nil),
		join(wire.AppendSSLRequest(nil), hello.sent),
		join(wire.AppendSSLRequest(nil), startup("scram")),
		hello.sent,
		wire.AppendGSSENCRequest(nil),
		join(wire.AppendGSSENCRequest(nil), wire.AppendSSLRequest(nil), hello.sent),
		join(wire.AppendGSSENCRequest(nil), startup("scram"), sasl),
		wire.AppendCancelRequest(nil, 1, []byte{1, 2, 3, 4}),
		wire.AppendCancelRequest(nil, 1<<24|1, bytes.Repeat([]byte{7}, 256)),
		startup("scram"),
		join(startup("scram"), sasl, last),
		join(startup("scram"), sasl, sasl),
		join(startup("nobody-knows"), sasl, last),
		join(startup("md5"), message('p', []byte("md5"+string(bytes.Repeat([]byte("0"), 32))+"\x00"))),
		join(startup("plain"), message('p', []byte("wrong\x00"))),
		join(startup("cert"), message('Q', []byte("SELECT 1\x00"))),
		startup("nobody"),
		startup("scram", wire.Param{Name: "replication", Value: "true"}),
		startup("scram", wire.Param{Name: "_pq_.protocol_managed_params", Value: "x"}, wire.Param{Name: "options", Value: `-c a\ b=c --d-e=f`}),
		join([]byte{0, 0, 0, 8, 0, 3, 0, 0}),
		join([]byte{0, 0, 0, 9, 0, 3, 0, 0, 0}),
		{0xff, 0xff, 0xff, 0xff},
		{0, 0, 0x27, 0x10, 0, 3, 0, 0, 'u'},
		join(startup("scram"), []byte{'p', 0x7f, 0xff, 0xff, 0xff}),
	}
}

// recorder is a connection on which nobody answers.
type recorder struct{ sent []byte }

func (r *recorder) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return len(b), nil
}
func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recorder) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
