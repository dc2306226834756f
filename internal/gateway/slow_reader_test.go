package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/auth"
	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// hugeResult is 200 MB.
const hugeResult = "SELECT pg_catalog.repeat('x', 1000) FROM pg_catalog.generate_series(1, 200000)"

// TestAReaderThatDoesNotRead (trap T14) keeps its server connection and costs no
// memory while nobody waits for it, and is ended when somebody does.
func TestAReaderThatDoesNotRead(t *testing.T) {
	dsn := nativeDatabase(t, "")
	const limit = time.Second
	for name, how := range map[string]struct {
		gear gateway.Gear
		tls  bool
	}{"first gear": {gear: gateway.GearAuto}, "second gear": {gear: gateway.GearSecond}, "TLS": {tls: true}} {
		t.Run(name, func(t *testing.T) {
			m := metrics.New()
			opt := gateway.Options{Pool: pool.Options{Size: 1}, SlowReader: limit, Gear: how.gear, Metrics: m}
			if how.tls {
				opt.Guard = trusting()
				opt.Guard.TLS = certificates(t)
			}
			_, addr := serve(t, dsn, opt)
			slow, other := dial(t, addr, dsn), dial(t, addr, dsn)
			if how.tls {
				slow = dialTLS(t, addr, dsn)
			}
			other.want("SELECT 1", "1")
			other.want("SELECT 1", "1")
			backend := slow.rows("SELECT pg_backend_pid()")
			before := memory(t)
			slow.send(&pgproto3.Query{String: hugeResult})
			for start := time.Now(); time.Since(start) < 2*limit; time.Sleep(50 * time.Millisecond) {
				if more := memory(t) - before; more > 32<<20 {
					t.Fatalf("the gateway holds %d bytes more for an answer that is not read", more)
				}
			}
			if n := counterOf(t, m, "qvpgw_slow_readers_total"); n != 0 {
				t.Fatalf("%v were ended while nobody waited", n)
			}
			began := time.Now()
			if got := other.rows("SELECT pg_backend_pid()"); got != backend {
				t.Errorf("the next client is on server connection %s, want %s: the statement was not just cancelled", got, backend)
			}
			if took := time.Since(began); took > 3*limit {
				t.Errorf("who waited had to for %v", took)
			}
			if n := counterOf(t, m, "qvpgw_slow_readers_total"); n != 1 {
				t.Errorf("%v were counted, want 1", n)
			}
			_ = slow.conn.SetReadDeadline(time.Now().Add(patience))
			if n, err := io.Copy(io.Discard, slow.conn); n >= 200<<20 {
				t.Errorf("the slow client read all of it: %d bytes, %v", n, err)
			} else if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("the slow client's connection stays open")
			}
		})
	}
}

// TestASlowReaderThatReadsIsLeftAlone: others wait on.
func TestASlowReaderThatReadsIsLeftAlone(t *testing.T) {
	dsn := nativeDatabase(t, "")
	m := metrics.New()
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}, SlowReader: time.Second, QueueTimeout: 2 * time.Second, Metrics: m})
	slow, other := dial(t, addr, dsn), dial(t, addr, dsn)
	slow.send(&pgproto3.Query{String: hugeResult})
	done := make(chan string)
	time.AfterFunc(500*time.Millisecond, func() { done <- other.rows("SELECT 1") })
	for b := make([]byte, 256<<10); ; time.Sleep(50 * time.Millisecond) {
		_ = slow.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := slow.conn.Read(b); err != nil {
			t.Fatalf("a client that reads slowly gets %v", err)
		}
		select {
		case got := <-done:
			if got != "53300" {
				t.Errorf("who waited got %q", got)
			}
			if n := counterOf(t, m, "qvpgw_slow_readers_total"); n != 0 {
				t.Errorf("%v were counted, want 0", n)
			}
			return
		default:
		}
	}
}

// certificates are those of a server at loopback.
func certificates(t *testing.T) *auth.Certificates {
	t.Helper()
	dir := t.TempDir()
	files := auth.Files{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	cert, key := pgtest.NewAuthority(t, "own").Issue(t, "server", "127.0.0.1")
	if err := errors.Join(os.WriteFile(files.Cert, cert, 0o600), os.WriteFile(files.Key, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	c, err := auth.NewCertificates(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dialTLS is dial with TLS from the first byte on.
func dialTLS(t *testing.T, addr, dsn string) *peer {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := loginOver(t, conn, dsn, pgproto3.ProtocolVersion30)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// memory is what this process has, the gateway included.
func memory(t *testing.T) int64 {
	t.Helper()
	n, err := pgtest.RSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// counterOf reads a counter.
func counterOf(t *testing.T, m *metrics.Metrics, name string) float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no counter %s", name)
	return 0
}
