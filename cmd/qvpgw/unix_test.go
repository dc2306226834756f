package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
)

// TestClientsComeByAUnixSocket has them come in by who they are to the operating
// system, cancel what they run, and come to the successor after a restart.
func TestClientsComeByAUnixSocket(t *testing.T) {
	c := pgtest.Native(t)
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "qvpgw") // t.TempDir's may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	status := freeAddress(t)
	l := launch(t, fmt.Sprintf(`
listen: "%%s"
listen_unix: %s
http: %s
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: disable}
auth:
  hba: ["local all all peer map=own", "host all all all reject"]
  ident: ["own %s %[4]s"]
schema: {migrate: false}
`, dir, status, c.Port, pgtest.Superuser, self.Username))
	_, port, _ := net.SplitHostPort(l.addr)
	path := filepath.Join(dir, ".s.PGSQL."+port)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	runs := make(chan struct{}, 1)
	login := func(user string) (*pgconn.PgConn, error) {
		to, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=prefer", dir, port, user))
		if err != nil {
			return nil, err
		}
		to.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { runs <- struct{}{} }
		return pgconn.ConnectConfig(t.Context(), to)
	}
	come := func() {
		t.Helper()
		k, err := login(pgtest.Superuser)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close(context.Background())
		if got := first(t, k, "SHOW qvpgw.login"); got != "peer" {
			t.Errorf("it came in by %s", got)
		}
		cancelled := make(chan error, 1)
		go func() {
			<-runs
			cancelled <- k.CancelRequest(t.Context())
		}()
		_, err = k.Exec(t.Context(), "DO $$ BEGIN RAISE NOTICE 'now'; PERFORM pg_sleep(60); END $$").ReadAll()
		if err == nil || errorCode(err) != "57014" {
			t.Errorf("the statement that was to be cancelled ended with %v", err)
		}
		if err := <-cancelled; err != nil {
			t.Error(err)
		}
	}
	come()
	if _, err := login("somebody"); err == nil || errorCode(err) != "28000" || !strings.Contains(err.Error(), "peer authentication failed") {
		t.Errorf("somebody else's name: %v", err)
	}
	if _, err := pgconn.Connect(t.Context(), "postgres://"+pgtest.Superuser+"@"+l.addr+"/postgres?sslmode=disable"); err == nil || errorCode(err) != "28000" {
		t.Errorf("by TCP: %v", err)
	}
	k, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=%s dbname=pgbouncer", dir, port, pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := k.Exec(t.Context(), "SHOW LOGINS").ReadAll(); err != nil || string(r[0].Rows[0][0]) != "password" || string(r[0].Rows[0][1]) != "2" {
		t.Errorf("%+v were not let in (%v), want the two above", r, err)
	}
	_ = k.Close(context.Background())
	if err := syscall.Kill(l.cmd.Process.Pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	awaitGeneration(t, status, 1)
	come()
	if said := l.stop(t); strings.Contains(said, "level=ERROR") {
		t.Error(said)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
