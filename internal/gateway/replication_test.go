package gateway_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// TestReplicationToolsWorkThroughTheGateway runs PostgreSQL's own programs over
// replication connections: physical and logical, in both directions for long.
func TestReplicationToolsWorkThroughTheGateway(t *testing.T) {
	c := pgtest.Native(t, pgtest.Setting("wal_level", "logical"))
	dsn := c.DSN("postgres")
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	u.Host = addr
	via := u.String()
	tool := func(name string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := c.Command(ctx, name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	run(t, dsn, "CREATE TABLE copied (n int)")

	t.Run("a replication command", func(t *testing.T) {
		if out := tool("psql", "-XAtc", "IDENTIFY_SYSTEM", via+"&replication=true"); !strings.Contains(out, "|1|") {
			t.Errorf("got %q", out)
		}
		out := tool("psql", "-XAtc", "SELECT current_setting('application_name')", via+"&replication=database&application_name=walker")
		if strings.TrimSpace(out) != "walker" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("pg_basebackup", func(t *testing.T) {
		here, inside := c.TempDir(t)
		tool("pg_basebackup", "-d", via, "-D", inside+"/backup", "-X", "stream", "-c", "fast")
		if _, err := os.Stat(filepath.Join(here, "backup", "PG_VERSION")); err != nil {
			t.Error(err)
		}
		tool("pg_verifybackup", inside+"/backup")
	})
	t.Run("pg_recvlogical", func(t *testing.T) {
		tool("pg_recvlogical", "-d", via, "--slot=decoded", "--create-slot", "-P", "test_decoding")
		run(t, dsn, "INSERT INTO copied VALUES (4711)")
		end := run(t, dsn, "SELECT pg_current_wal_lsn()")[0][0]
		run(t, dsn, "INSERT INTO copied VALUES (4712)")
		out := tool("pg_recvlogical", "-d", via, "--slot=decoded", "--start", "-f", "-", "--endpos="+end)
		if !strings.Contains(out, "n[integer]:4711") || strings.Contains(out, "4712") {
			t.Errorf("got %q", out)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		p := dial(t, addr, dsn, "replication=database")
		p.send(simple("SELECT pg_sleep(60)"))
		if got := cancelled(t, addr, p); got != "57014" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a value that is none", func(t *testing.T) {
		_, direct := login(t, server, dsn, 3<<16, "replication=perhaps")
		_, via := login(t, addr, dsn, 3<<16, "replication=perhaps")
		if direct == nil || via == nil || direct.Error() != via.Error() {
			t.Errorf("directly %v, through the gateway %v", direct, via)
		}
	})
	t.Run("pg_receivewal", func(t *testing.T) {
		tool("pg_receivewal", "-d", via, "--slot=walked", "--create-slot")
		here, inside := c.TempDir(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cmd := c.Command(ctx, "pg_receivewal", "-d", via, "--slot=walked", "-D", inside, "-n")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wantFile(t, here, ".partial", func() { run(t, dsn, "INSERT INTO copied VALUES (1)") })
		wantFile(t, here, "", func() {
			run(t, dsn, "INSERT INTO copied VALUES (2)")
			run(t, dsn, "SELECT pg_switch_wal()")
		})
		// The gateway's shutdown ends it; the server ends its walsender.
		stop, done := context.WithTimeout(t.Context(), 5*time.Second)
		defer done()
		if err := g.Shutdown(stop); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("pg_receivewal was not told that its connection ended")
		}
	})
}

// wantFile waits for a file of WAL whose name ends in suffix.
func wantFile(t *testing.T, dir, suffix string, do func()) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		do()
		names, err := filepath.Glob(filepath.Join(dir, "0*"+suffix))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if suffix != "" || !strings.Contains(filepath.Base(n), ".") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no file %q in %s", suffix, dir)
		}
	}
}
