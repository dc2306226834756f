package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Command prepares a program of the root: a bare name is one of PostgreSQL's,
// a path is taken as it is. It sees the root's files alone, runs as postgres
// and dies with this process.
func (r *Root) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if !strings.Contains(name, "/") {
		name = pgBin + "/" + name
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/tmp", "PATH=" + pgBin + ":/usr/bin:/bin", "PGCONNECT_TIMEOUT=30"}
	r.inRoot(cmd, syscall.SIGKILL)
	return cmd
}

// TempDir makes a folder that both this machine and the programs of the root
// see, under two names. It is removed at the end of the test.
func (r *Root) TempDir(t testing.TB) (here, inside string) {
	t.Helper()
	here, inside, err := r.tempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(here) })
	return here, inside
}

func (r *Root) tempDir() (here, inside string, err error) {
	here, err = os.MkdirTemp(filepath.Join(r.Dir, stateDir, "tmp"), fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return "", "", fmt.Errorf("cannot make a folder in the root: %w", err)
	}
	if err := os.Chmod(here, 0o777); err != nil {
		return "", "", fmt.Errorf("cannot open a folder in the root: %w", err)
	}
	return here, filepath.Join(stateDir, "tmp", filepath.Base(here)), nil
}

// Psql runs psql without its rc file, unaligned and without headers, stopping
// at the first error, and returns its output. Any address will do, a gateway's
// too. A failure is the test's.
func (r *Root) Psql(t testing.TB, dsn string, args ...string) string {
	t.Helper()
	return r.tool(t, "psql", append([]string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn}, args...)...)
}

// Pgbench runs pgbench and returns its output. A failure is the test's.
func (r *Root) Pgbench(t testing.TB, dsn string, args ...string) string {
	t.Helper()
	return r.tool(t, "pgbench", append(append([]string{}, args...), dsn)...)
}

// PgDump runs pg_dump and returns its output. A failure is the test's.
func (r *Root) PgDump(t testing.TB, dsn string, args ...string) string {
	t.Helper()
	return r.tool(t, "pg_dump", append([]string{"-d", dsn}, args...)...)
}

func (r *Root) tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := r.Command(t.Context(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot run %s: %v: %s", strings.Join(cmd.Args, " "), err, tail([]byte(string(out)+stderr.String())))
	}
	return string(out)
}

// Bouncer is a running PgBouncer.
type Bouncer struct {
	Port int

	dir  string
	cmd  *exec.Cmd
	done <-chan error
}

// StartBouncer starts PgBouncer on a free loopback port. ini is its
// configuration; into its section [pgbouncer] go the address, the log and, as
// defaults, auth_type = trust with the roles of a Cluster.
func (r *Root) StartBouncer(ctx context.Context, ini string) (*Bouncer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	here, inside, err := r.tempDir()
	if err != nil {
		return nil, err
	}
	b := &Bouncer{Port: port, dir: here}
	users := fmt.Sprintf("%q \"x\"\n%q \"x\"\n%q %q\n", Superuser, PlainUser, ScramUser, ScramPassword)
	const section = "[pgbouncer]\n" // one only: a second would set the first's keys back
	own := fmt.Sprintf("%slisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nlogfile =\npidfile =\nauth_type = trust\nauth_file = %s/users\nadmin_users = %s\n",
		section, port, inside, Superuser)
	if !strings.Contains(ini, section) {
		ini += "\n" + section
	}
	ini = strings.Replace(ini, section, own, 1)
	for name, text := range map[string]string{"users": users, "ini": ini} {
		if err := r.writeFile(filepath.Join(here, name), []byte(text)); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(here, "log"))
	if err != nil {
		return nil, fmt.Errorf("cannot start pgbouncer: %w", err)
	}
	defer log.Close()
	b.cmd = exec.Command("/usr/sbin/pgbouncer", inside+"/ini")
	r.inRoot(b.cmd, syscall.SIGKILL)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if b.done, err = startBound(b.cmd); err != nil {
		return nil, fmt.Errorf("cannot start pgbouncer: %w", err)
	}
	for limit := time.Now().Add(10 * time.Second); ; {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.Addr())
		if err == nil {
			conn.Close()
			return b, nil
		}
		select {
		case <-b.done:
			return nil, errors.Join(fmt.Errorf("cannot start pgbouncer, it ended: %s", b.Log()), b.Stop())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(limit) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("cannot start pgbouncer: %w: %s", err, b.Log()), b.Stop())
		}
	}
}

// PgBouncer is StartBouncer for a test, stopped at its end.
func (r *Root) PgBouncer(t testing.TB, ini string) *Bouncer {
	t.Helper()
	b, err := r.StartBouncer(t.Context(), ini)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Addr is the address that PgBouncer listens on.
func (b *Bouncer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.Port)) }

// DSN names a database of PgBouncer, for the superuser.
func (b *Bouncer) DSN(database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", Superuser, b.Addr(), database)
}

// PID is PgBouncer's process, as CPUTime wants it.
func (b *Bouncer) PID() int { return b.cmd.Process.Pid }

// Log is the end of what PgBouncer said.
func (b *Bouncer) Log() string {
	out, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return tail(out)
}

// Stop ends PgBouncer and removes its files.
func (b *Bouncer) Stop() error {
	_ = b.cmd.Process.Kill()
	<-b.done
	return os.RemoveAll(b.dir)
}

// CPUTime is the processor time, user and system, that a process and its ended
// threads have used, in steps of 10 ms. Source: /proc/PID/stat, fields 14 and
// 15 in clock ticks, of which Linux shows 100 a second on every architecture.
func CPUTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot read the processor time of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold spaces
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("cannot read the processor time of process %d from %q", pid, stat)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("cannot read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// RSS is the memory of a process that is resident, in bytes: its own and what it
// shares. Source: VmRSS in /proc/PID/status, which counts whole pages.
func RSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot read the memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "VmRSS:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read the memory of process %d: %w", pid, err)
			}
			return n << 10, nil
		}
	}
	return 0, fmt.Errorf("cannot read the memory of process %d: its status has no VmRSS", pid)
}
