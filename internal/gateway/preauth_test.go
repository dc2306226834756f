package gateway_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/auth"
	"qvpgw/internal/figure"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// preauthGateway lets in, with TLS offered, trusted clients and the user locked,
// who must prove himself.
func preauthGateway(t *testing.T, maxLogins int) (g *gateway.Server, addr, dsn string) {
	t.Helper()
	dsn = pgtest.Database(t)
	dir := t.TempDir()
	cert, key := pgtest.NewAuthority(t, "own").Issue(t, "gateway", "127.0.0.1")
	for name, content := range map[string][]byte{"/cert": cert, "/key": key} {
		if err := os.WriteFile(dir+name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certs, err := auth.NewCertificates(auth.Files{Cert: dir + "/cert", Key: dir + "/key"})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := auth.ParseTable([]string{"host all locked all scram-sha-256", "host all all all trust"})
	if err != nil {
		t.Fatal(err)
	}
	g, addr = startGateway(t, dsn, gateway.Options{
		Guard: &auth.Guard{Rules: rules, TLS: certs}, MaxLogins: maxLogins,
		Pool: pool.Options{Size: 2}, NewLoader: noCatalog, LoginTimeout: time.Minute,
	})
	return g, addr, dsn
}

// halfOpen are the ways in which a connection can stay where it is before its
// login: what it sends.
var halfOpen = []func(net.Conn) error{
	func(net.Conn) error { return nil },
	func(c net.Conn) error { _, err := c.Write([]byte{0, 0, 0x20, 0, 0, 3, 0, 0, 'u', 's'}); return err },
	func(c net.Conn) error { _, err := c.Write([]byte{0}); return err },
	func(c net.Conn) error { _, err := c.Write([]byte{0x16, 3, 1, 1, 0, 1, 0, 0}); return err },
	func(c net.Conn) error {
		_, err := c.Write(wire.AppendSSLRequest(nil))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		return err
	},
	func(c net.Conn) error { // waits for a proof
		_, err := c.Write(wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "locked"}}))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 9))
		}
		return err
	},
	func(c net.Conn) error { // TLS, and nothing in it
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}).Handshake()
	},
}

// awaitsProof is the one that has had an answer from behind the door.
const awaitsProof = 5

// crowd opens n connections that do not log in, of the given kinds in turn.
func crowd(t *testing.T, addr string, n int, kinds ...int) (list []net.Conn) {
	t.Helper()
	for i := range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
		_ = c.SetDeadline(time.Now().Add(patience))
		kind := i % len(halfOpen)
		if len(kinds) > 0 {
			kind = kinds[i%len(kinds)]
		}
		if err := halfOpen[kind](c); err != nil {
			t.Fatalf("connection %d of the kind %d: %v", i, kind, err)
		}
	}
	return list
}

// garbage connects a hundred times a second and sends noise, until stop is closed.
func garbage(addr string, stop <-chan struct{}) {
	noise := make([]byte, 4096)
	rand.Read(noise) // never fails
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		_, _ = c.Write(noise[i%1024:])
		_ = c.Close()
	}
}

// TestConnectionsThatDoNotLogInSlowNobodyDown compares the median round trip of a
// client that is logged in with and without a crowd before the door, in pairs. The
// bound of ten per cent is of the whole measurement (make torture); the short one
// is too noisy for that beside other tests.
func TestConnectionsThatDoNotLogInSlowNobodyDown(t *testing.T) {
	n, pairs, window, limit := 70, 3, 100*time.Millisecond, 3.0
	full := os.Getenv("QVPGW_TORTURE_STATEMENTS") != ""
	if full {
		n, pairs, window, limit = 1000, 21, 500*time.Millisecond, 1.10
	}
	_, addr, dsn := preauthGateway(t, 1000)
	client := mustDial(t, addr, dsn)
	median := func() float64 {
		var trips []time.Duration
		for begun := time.Now(); time.Since(begun) < window; {
			at := time.Now()
			if err := exec(client, "SELECT 1"); err != nil {
				t.Fatal(err)
			}
			trips = append(trips, time.Since(at))
		}
		slices.Sort(trips)
		return float64(trips[len(trips)/2])
	}
	median()
	var ratios []float64
	for range pairs {
		alone := median()
		list := crowd(t, addr, n)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { defer close(done); garbage(addr, stop) }()
		beside := median()
		close(stop)
		<-done
		for _, c := range list {
			_ = c.Close()
		}
		ratios = append(ratios, beside/alone)
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(ratios)
	slowdown := ratios[len(ratios)/2]
	if full {
		figure.Print(t, "preauth.slowdown", slowdown)
	}
	t.Logf("with %d connections that do not log in a round trip takes %.3f times as long (%.3f to %.3f)", n, slowdown, ratios[0], ratios[len(ratios)-1])
	if slowdown > limit {
		t.Errorf("%d connections that do not log in slow a client down by %.2f", n, slowdown)
	}
}

// TestAFullDoorLetsOthersIn fills every place from one address: another address
// still comes in, the same one gets an error that says why, and comes in once the
// places have been taken for longer than a login takes.
func TestAFullDoorLetsOthersIn(t *testing.T) {
	const places = 28
	g, addr, dsn := preauthGateway(t, places)
	gateway.SetLoginGrace(g, time.Hour)
	crowd(t, addr, places, awaitsProof)
	login := func(from string) error {
		cfg, err := pgconn.ParseConfig("postgres://postgres@" + addr + "/" + databaseOf(dsn) + "?sslmode=disable")
		if err != nil {
			return err
		}
		cfg.DialFunc = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := pgconn.ConnectConfig(ctx, cfg)
		if err == nil {
			err = c.Close(ctx)
		}
		return err
	}
	if err := login("127.0.0.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	crowd(t, addr, 1, awaitsProof) // takes the place that became free
	wantCode(t, login("127.0.0.1"), "53300", "too many connections are logging in")
	gateway.SetLoginGrace(g, 0)
	if err := login("127.0.0.1"); err != nil {
		t.Errorf("the same address after the grace: %v", err)
	}
}

// TestBytesBeforeTheLoginAreBounded sends without end, in the clear and under TLS.
func TestBytesBeforeTheLoginAreBounded(t *testing.T) {
	_, addr, _ := preauthGateway(t, 10)
	flood := func(c net.Conn, head []byte) int {
		_ = c.SetDeadline(time.Now().Add(patience))
		sent, _ := c.Write(head)
		for block := make([]byte, 4096); sent < 64<<20; {
			n, err := c.Write(block)
			sent += n
			if err != nil {
				break
			}
		}
		return sent
	}
	for name, head := range map[string][]byte{
		"a startup packet of 2 GiB":  {0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0},
		"a TLS record without end":   {0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc},
		"a password of a gigabyte":   append(wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "locked"}}), 'p', 0x3f, 0, 0, 0),
		"a message that is unwanted": append(wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "locked"}}), 'Q', 0x3f, 0, 0, 0),
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		// What the sockets' buffers take is sent, and no more.
		if sent := flood(c, head); sent > 16<<20 {
			t.Errorf("%s: %d bytes were taken", name, sent)
		}
		_ = c.Close()
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if sent := flood(c, []byte{0, 0, 0x20, 0, 0, 3, 0, 0}); sent > 16<<20 {
		t.Errorf("under TLS %d bytes were taken", sent)
	}
}
