package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
)

// reloading is a gateway whose configuration is changed under clients that may not
// notice.
type reloading struct {
	*testing.T
	dir, addr, database string
	pid                 int
	port                int

	stop atomic.Bool
	done atomic.Int64
}

// configuration is the file, with what the test changes.
func (r *reloading) configuration(size int, users, rules string) string {
	return fmt.Sprintf(`listen: %s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {size: %d, overflow: 0}
auth:
  query: false
  hba: ["host all all 127.0.0.1/32 scram-sha-256"]
  admins: [%s]
  users:
    - {name: %s, password: first}
%s
tls: {mode: allow, cert: server.crt, key: server.key}
schema: {migrate: false}
rules: {%s}
`, r.addr, r.port, r.database, pgtest.Superuser, size, pgtest.Superuser, pgtest.Superuser, users, rules)
}

func (r *reloading) write(name string, content []byte) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), content, 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *reloading) connect(user, password, database string) (*pgconn.PgConn, error) {
	return pgconn.Connect(r.Context(), fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", user, password, r.addr, database))
}

// client runs statements until the end; nothing of them may fail.
func (r *reloading) client(n int) {
	c, err := r.connect(pgtest.Superuser, "first", r.database)
	if err != nil {
		r.Errorf("client %d cannot connect: %v", n, err)
		return
	}
	defer c.Close(r.Context())
	for i := 0; !r.stop.Load(); i++ {
		sql, want := fmt.Sprintf("SELECT '%d %d' FROM pg_sleep(0.01)", n, i), fmt.Sprintf("%d %d", n, i)
		if i%3 == 0 {
			sql = "BEGIN; " + sql + "; COMMIT"
		}
		results, err := c.Exec(r.Context(), sql).ReadAll()
		if err != nil {
			r.Errorf("client %d: %v", n, err)
			return
		}
		for _, res := range results {
			if len(res.Rows) == 1 && string(res.Rows[0][0]) != want {
				r.Errorf("client %d asked for %q and got %q", n, want, res.Rows[0][0])
			}
		}
		r.done.Add(1)
	}
}

// reload has the console read the file again, and returns the error's SQLSTATE and
// message.
func (r *reloading) reload() string {
	r.Helper()
	c, err := r.connect(pgtest.Superuser, "first", "qvpgw")
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close(r.Context())
	if _, err = c.Exec(r.Context(), "RELOAD").ReadAll(); err != nil {
		return err.Error()
	}
	return ""
}

// servers counts the server connections of the gateway.
func (r *reloading) servers() int {
	r.Helper()
	rows := runSQL(r.T, fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", pgtest.Superuser, r.port),
		"SELECT count(*) FROM pg_stat_activity WHERE datname = '"+r.database+"' AND backend_type = 'client backend'")
	n, _ := strconv.Atoi(rows[0][0])
	return n
}

// shown is the serial number of the certificate that clients are shown.
func (r *reloading) shown() string {
	r.Helper()
	n, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)); err != nil {
		r.Fatal(err)
	}
	if _, err := io.ReadFull(n, make([]byte, 1)); err != nil {
		r.Fatal(err)
	}
	t := tls.Client(n, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		r.Fatal(err)
	}
	return t.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// until waits for something that a reload brings about.
func (r *reloading) until(what string, ok func() bool) {
	r.Helper()
	for limit := time.Now().Add(15 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			r.Fatalf("%s: not within 15 s", what)
		}
	}
}

// TestReloadUnderLoadDropsNobody changes the pool's size, the users, the rules and
// the certificate of a gateway at work, by the console's RELOAD and by SIGHUP; a
// bad file changes nothing and says where it is bad.
func TestReloadUnderLoadDropsNobody(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	r := &reloading{T: t, port: c.Port, database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]}
	role := "reload_" + r.database
	runSQL(t, dsn, "CREATE TABLE reloaded (i int); CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		k, err := pgconn.Connect(context.Background(), c.DSN("postgres"))
		if err != nil {
			t.Error(err)
			return
		}
		defer k.Close(context.Background())
		if _, err := k.Exec(context.Background(), "DROP ROLE "+role).ReadAll(); err != nil {
			t.Error(err)
		}
	})
	own := pgtest.NewAuthority(t, "own")
	cert, key := own.Issue(t, "first", "127.0.0.1")
	r.pid, r.addr = startGateway(t, "listen: %s\nhttp: \"\"\nschema: {migrate: false}\nauth: {method: trust}\nlog: {level: error}\n")
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", r.pid))
	if err != nil {
		t.Fatal(err)
	}
	r.dir = dir
	r.write("server.crt", cert)
	r.write("server.key", key)
	r.write("config.yaml", []byte(r.configuration(2, "", "")))
	// tls.mode and backend.host cannot change in a running gateway; a restart can.
	if err := syscall.Kill(r.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	r.until("the restart", func() bool { // after which passwords count
		k, err := r.connect(pgtest.Superuser, "wrong", "qvpgw")
		if err == nil {
			_ = k.Close(t.Context())
		}
		return err != nil && strings.Contains(err.Error(), "28P01")
	})

	var working sync.WaitGroup
	for n := range 16 {
		working.Go(func() { r.client(n) })
	}
	defer func() {
		r.stop.Store(true)
		working.Wait()
		t.Logf("%d statements", r.done.Load())
	}()
	r.until("two server connections", func() bool { return r.servers() >= 2 && r.done.Load() > 50 })
	if n := r.servers(); n > 4 { // one each for the catalog and for notifications
		t.Errorf("%d server connections in a pool of 2", n)
	}

	r.write("config.yaml", []byte(r.configuration(10, "", "")))
	if e := r.reload(); e != "" {
		t.Fatalf("RELOAD: %s", e)
	}
	r.until("ten server connections", func() bool { return r.servers() >= 10 })

	if _, err := r.connect(role, "second", r.database); err == nil {
		t.Error("a user came in who is not in the configuration")
	}
	r.write("config.yaml", []byte(r.configuration(3, "    - {name: "+role+", password: second}", "delete_without_where: refuse")))
	if err := syscall.Kill(r.pid, syscall.SIGHUP); err != nil { // passed on to the successor
		t.Fatal(err)
	}
	r.until("the new user", func() bool {
		k, err := r.connect(role, "second", r.database)
		if err == nil {
			_ = k.Close(t.Context())
		}
		return err == nil
	})
	k, err := r.connect(pgtest.Superuser, "first", r.database)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Exec(t.Context(), "DELETE FROM reloaded").ReadAll(); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("the new rule's statement got %v", err)
	}
	_ = k.Close(t.Context())
	r.until("fewer server connections", func() bool { return r.servers() <= 6 })

	was := r.shown()
	cert, key = own.Issue(t, "second", "127.0.0.1")
	r.write("server.crt", cert)
	r.write("server.key", key)
	if e := r.reload(); e != "" {
		t.Fatalf("RELOAD: %s", e)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if now := r.shown(); now == was || now != leaf.SerialNumber.String() {
		t.Errorf("clients are shown the certificate %s, before %s, in the file is %s", now, was, leaf.SerialNumber)
	}

	for what, text := range map[string]string{
		"a value":        r.configuration(-1, "", ""),
		"an unknown key": r.configuration(3, "", "") + "liste: 1\n",
		"a rule":         r.configuration(3, "", "no_such_rule: refuse"),
	} {
		r.write("config.yaml", []byte(text))
		if e := r.reload(); !strings.Contains(e, "config.yaml:") || !strings.Contains(e, "F0000") {
			t.Errorf("%s is bad: RELOAD says %q", what, e)
		}
	}
	r.write("server.key", []byte("no key"))
	r.write("config.yaml", []byte(r.configuration(3, "", "")))
	if e := r.reload(); !strings.Contains(e, "tls.key") {
		t.Errorf("the key is bad: RELOAD says %q", e)
	}
	if k, err = r.connect(role, "second", r.database); err != nil {
		t.Errorf("after bad files the user of the last good one gets %v", err)
	} else {
		_ = k.Close(t.Context())
	}
	if now := r.shown(); now != leaf.SerialNumber.String() {
		t.Errorf("after a bad key clients are shown the certificate %s", now)
	}
}
