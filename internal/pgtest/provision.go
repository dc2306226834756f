package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	suite    = "trixie"
	packages = "postgresql-17,postgresql-17-timescaledb,postgresql-17-pgvector,pgbouncer"
	pgBin    = "/usr/lib/postgresql/17/bin"
	// stateDir lies in the root: the template cluster and the running ones.
	stateDir = "/var/lib/qvpgw"
	// layout is part of the stamp: a new one makes old caches be rebuilt.
	layout = "1"
)

// Root is a Debian root directory with PostgreSQL 17, TimescaleDB, pgvector and
// pgbouncer, whose programs run by chroot. Any number of processes may use one.
type Root struct {
	Dir      string // on this machine
	uid, gid int    // of postgres in the root
}

// Cache is the folder that backends are installed in: $QVPGW_CACHE, else
// qvpgw in the user's cache folder.
func Cache() (string, error) {
	if dir := os.Getenv("QVPGW_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder, set QVPGW_CACHE: %w", err)
	}
	return filepath.Join(dir, "qvpgw"), nil
}

// Provision returns the root in the cache and builds it first when it is not
// complete there. Processes that ask at the same time wait for the one that
// builds. Progress goes to log.
func Provision(ctx context.Context, log io.Writer) (*Root, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("cannot provision the native backend: it needs Linux")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot provision the native backend: debootstrap and chroot need root")
	}
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	want := strings.Join([]string{layout, suite, packages}, " ")
	root, err := built(filepath.Join(cache, "native"), want, func(root string) error { return buildRoot(ctx, root, log) })
	if err != nil {
		return nil, err
	}
	return open(root)
}

// built returns the folder root below base and has build make it first when base's
// stamp is not want.
func built(base, want string, build func(root string) error) (root string, err error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache folder: %w", err)
	}
	stamp := filepath.Join(base, "stamp")
	root = filepath.Join(base, "root")
	complete := func() bool {
		have, err := os.ReadFile(stamp)
		_, gone := os.Stat(root)
		return err == nil && gone == nil && string(have) == want
	}
	if complete() {
		return root, nil
	}
	unlock, err := lock(filepath.Join(base, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete() {
		return root, nil
	}
	if err := build(root); err != nil {
		return "", err
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("cannot mark %s as complete: %w", root, err)
	}
	return root, nil
}

// open reads who postgres is in the root.
func open(root string) (*Root, error) {
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return nil, fmt.Errorf("cannot open the native backend, remove %s to have it rebuilt: %w", filepath.Dir(root), err)
	}
	r := &Root{Dir: root}
	for line := range strings.Lines(string(passwd)) {
		if rest, ok := strings.CutPrefix(line, "postgres:x:"); ok {
			if _, err := fmt.Sscanf(rest, "%d:%d:", &r.uid, &r.gid); err != nil {
				return nil, fmt.Errorf("cannot read the root's user postgres from %q: %w", line, err)
			}
			return r, nil
		}
	}
	return nil, fmt.Errorf("cannot find the user postgres in %s/etc/passwd", root)
}

// buildRoot makes root from nothing: packages, then a template cluster. It works in
// a folder of another name, so that a root that exists is whole.
func buildRoot(ctx context.Context, root string, log io.Writer) error {
	start := time.Now()
	part := root + ".part"
	fmt.Fprintln(log, "native backend: installing PostgreSQL 17, TimescaleDB, pgvector and pgbouncer, a minute or two")
	if err := bootstrap(ctx, root, suite, packages); err != nil {
		return fmt.Errorf("cannot provision the native backend: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(part, "var/lib/postgresql/17")); err != nil {
		return fmt.Errorf("cannot tidy the new root: %w", err)
	}
	if err := os.Chmod(filepath.Join(part, "dev/shm"), 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("cannot open dev/shm of the new root: %w", err)
	}
	r, err := open(part)
	if err != nil {
		return err
	}
	if err := r.makeTemplate(ctx); err != nil {
		return fmt.Errorf("cannot make the template cluster: %w", err)
	}
	if err := os.Rename(part, root); err != nil {
		return fmt.Errorf("cannot put the new root in place: %w", err)
	}
	fmt.Fprintf(log, "native backend: ready in %.0f s\n", time.Since(start).Seconds())
	return nil
}

// bootstrap installs packages of a Debian suite into root+".part"; an older root
// is removed.
func bootstrap(ctx context.Context, root, suite, packages string) error {
	part := root + ".part"
	for _, dir := range []string{part, root} {
		if err := removeRoot(dir); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		if err := run(ctx, nil, "apt-get", "install", "-y", "--no-install-recommends", "debootstrap"); err != nil {
			if err := run(ctx, nil, "apt-get", "update"); err != nil {
				return fmt.Errorf("debootstrap is missing: %w", err)
			}
			if err := run(ctx, nil, "apt-get", "install", "-y", "--no-install-recommends", "debootstrap"); err != nil {
				return fmt.Errorf("debootstrap is missing: %w", err)
			}
		}
	}
	args := []string{"--variant=minbase", "--include=" + packages, suite, part}
	if mirror := debianMirror(ctx); mirror != "" {
		args = append(args, mirror)
	}
	if err := run(ctx, []string{"DEBIAN_FRONTEND=noninteractive"}, "debootstrap", args...); err != nil {
		return err
	}
	for _, dir := range []string{"var/cache/apt", "var/lib/apt/lists"} {
		if err := os.RemoveAll(filepath.Join(part, dir)); err != nil {
			return fmt.Errorf("cannot tidy the new root: %w", err)
		}
	}
	return nil
}

// removeRoot removes a root. An interrupted debootstrap leaves proc mounted.
func removeRoot(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("cannot read what is mounted: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			if err := unmount(f[1]); err != nil {
				return fmt.Errorf("cannot unmount %s: %w", f[1], err)
			}
		}
	}
	if err := run(context.Background(), nil, "rm", "-rf", "--one-file-system", dir); err != nil {
		return fmt.Errorf("cannot remove the incomplete root: %w", err)
	}
	return nil
}

var debianURI = regexp.MustCompile(`(?:https?|file)://[^\s\]]+/debian/?(?:\s|$)`)

// debianMirror is the mirror that apt uses on this machine, or the environment
// names; "" lets debootstrap take its own.
func debianMirror(ctx context.Context) string {
	if uri := os.Getenv("QVPGW_DEBIAN_MIRROR"); uri != "" {
		return uri
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages")
	cmd.Stdout = &out
	if cmd.Run() == nil {
		if uri := debianURI.FindString(out.String()); uri != "" {
			return strings.TrimSpace(uri)
		}
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "URIs:") || strings.HasPrefix(line, "deb ") {
				if uri := debianURI.FindString(line); uri != "" {
					return strings.TrimSpace(uri)
				}
			}
		}
	}
	return ""
}

// lock takes an exclusive lock on a file and returns its release.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// run runs a program of this machine; the error has the end of its output.
func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w: %s", strings.Join(cmd.Args, " "), err, tail(out))
	}
	return nil
}

// tail is the last kilobyte of a program's output.
func tail(out []byte) string {
	out = bytes.TrimSpace(out)
	if len(out) > 1024 {
		out = out[len(out)-1024:]
	}
	return string(out)
}
