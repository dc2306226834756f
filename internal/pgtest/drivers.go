package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Driver is one program of the folder drivers: it speaks to a server through one
// client library and prints what it sees.
type Driver struct {
	Name string // of its folder
	Main bool   // one of those that CI runs

	home  string   // where it runs: a key of driverRoots, npm or golang
	build []string // makes OUT from the folder, once for each version of it; nil: nothing to make
	argv  []string // in its folder; OUT stands for what build made
	proc  bool     // it needs /proc
}

// Homes that are no Debian root.
const (
	npm    = "npm"
	golang = "go"
)

// driverRoots are the Debian roots that drivers run in: those of CI are small.
var driverRoots = map[string]struct{ suite, packages string }{
	"psql": {"bookworm", "postgresql-client-15"},
	"main": {"trixie", "python3-psycopg,python3-asyncpg,libpostgresql-jdbc-java,default-jdk-headless"},
	"more": {"trixie", "python3-psycopg2,python3-pyodbc,odbc-postgresql,libdbd-pg-perl,ruby-pg,php-cli,php-pgsql,libpq-dev,gcc,libc6-dev"},
}

// Drivers are all drivers, those of CI first.
var Drivers = []Driver{
	{Name: "psql", Main: true, home: "psql", argv: []string{"sh", "main.sh"}},
	{Name: "psycopg3", Main: true, home: "main", argv: []string{"python3", "main.py"}},
	{Name: "asyncpg", Main: true, home: "main", argv: []string{"python3", "main.py"}},
	{
		Name: "pgjdbc", Main: true, home: "main", proc: true,
		build: []string{"javac", "-cp", "/usr/share/java/postgresql.jar", "-d", "OUT", "Main.java"},
		argv:  []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", "OUT:/usr/share/java/postgresql.jar", "Main"},
	},
	{Name: "node-postgres", Main: true, home: npm, argv: []string{"node", "--no-deprecation", "main.mjs"}},
	{Name: "pgx", Main: true, home: golang, build: []string{"go", "build", "-o", "OUT", "."}, argv: []string{"OUT/pgx"}},
	{Name: "libpq", home: "more", build: []string{"gcc", "-O1", "-Wall", "-I/usr/include/postgresql", "-o", "OUT/main", "main.c", "-lpq"}, argv: []string{"OUT/main"}},
	{Name: "psycopg2", home: "more", argv: []string{"python3", "main.py"}},
	{Name: "psqlodbc", home: "more", argv: []string{"python3", "main.py"}},
	{Name: "dbd-pg", home: "more", argv: []string{"perl", "main.pl"}},
	{Name: "ruby-pg", home: "more", argv: []string{"ruby", "main.rb"}},
	{Name: "php-pgsql", home: "more", argv: []string{"php", "main.php"}},
	{Name: "postgres-js", home: npm, argv: []string{"node", "--no-deprecation", "main.mjs"}},
	{Name: "lib-pq", home: golang, build: []string{"go", "build", "-o", "OUT", "."}, argv: []string{"OUT/lib-pq"}},
}

// Programs are the drivers' programs, ready to run.
type Programs struct {
	source string            // the folder drivers of the repository
	homes  map[string]string // where each home is on this machine
	copies map[string]string // the folder drivers as the programs of each home see it
}

// ProvisionDrivers installs what the given drivers need into the cache, where it is
// not there, and builds their programs, whose sources are in the folder source.
// Progress goes to log. remove removes this process's copies of the sources.
func ProvisionDrivers(ctx context.Context, source string, drivers []Driver, log io.Writer) (p *Programs, remove func(), err error) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return nil, nil, errors.New("cannot provision the drivers: debootstrap and chroot need Linux and root")
	}
	if source, err = filepath.Abs(source); err != nil {
		return nil, nil, err
	}
	p = &Programs{source: source, homes: map[string]string{}, copies: map[string]string{}}
	remove = func() {
		for home, dir := range p.copies {
			if driverRoots[home].suite != "" {
				_ = os.RemoveAll(filepath.Join(p.homes[home], filepath.Dir(dir)))
			}
		}
	}
	for _, d := range drivers {
		if _, have := p.homes[d.home]; !have {
			if err := p.open(ctx, d.home, log); err != nil {
				remove()
				return nil, nil, err
			}
		}
		if err := p.make(ctx, d); err != nil {
			remove()
			return nil, nil, err
		}
	}
	return p, remove, nil
}

// open provisions a home and gives it a copy of the sources.
func (p *Programs) open(ctx context.Context, home string, log io.Writer) error {
	cache, err := Cache()
	if err != nil {
		return err
	}
	base := filepath.Join(cache, "drivers", home)
	want, isRoot := driverRoots[home]
	switch {
	case home == golang:
		p.homes[home], p.copies[home] = base, p.source
		return os.MkdirAll(base, 0o755)
	case home == npm:
		p.homes[home], err = p.installNpm(ctx, base, log)
		p.copies[home] = p.source
		return err
	case !isRoot:
		panic("BUG: a driver lives in " + home)
	}
	root, err := built(base, want.suite+" "+want.packages, func(root string) error {
		fmt.Fprintf(log, "drivers: installing %s, a minute or so\n", want.packages)
		if err := bootstrap(ctx, root, want.suite, want.packages); err != nil {
			return fmt.Errorf("cannot provision the drivers %s: %w", want.packages, err)
		}
		return os.Rename(root+".part", root)
	})
	if err != nil {
		return err
	}
	p.homes[home] = root
	sweepFolders(filepath.Join(root, "tmp"))
	here, err := os.MkdirTemp(filepath.Join(root, "tmp"), fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return fmt.Errorf("cannot make a folder for the drivers: %w", err)
	}
	p.copies[home] = "/tmp/" + filepath.Base(here) + "/drivers"
	if err := errors.Join(os.Chmod(here, 0o755), os.CopyFS(filepath.Join(here, "drivers"), os.DirFS(p.source))); err != nil {
		return fmt.Errorf("cannot copy the drivers into %s: %w", root, err)
	}
	return nil
}

// installNpm installs the npm packages of the folder npm, once for each lock file.
func (p *Programs) installNpm(ctx context.Context, base string, log io.Writer) (string, error) {
	from := filepath.Join(p.source, npm)
	lock, err := os.ReadFile(filepath.Join(from, "package-lock.json"))
	if err != nil {
		return "", fmt.Errorf("cannot install the drivers' npm packages: %w", err)
	}
	return built(base, digest(lock), func(root string) error {
		fmt.Fprintln(log, "drivers: installing the npm packages")
		if err := errors.Join(os.RemoveAll(root), os.CopyFS(root, os.DirFS(from))); err != nil {
			return fmt.Errorf("cannot install the drivers' npm packages: %w", err)
		}
		return run(ctx, nil, "npm", "ci", "--prefix", root, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	})
}

// make builds a driver's program where this version of it is not built yet.
func (p *Programs) make(ctx context.Context, d Driver) error {
	if d.build == nil {
		return nil
	}
	out, inside, err := p.out(d)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(out, "complete")); err == nil {
		return nil
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("cannot build the driver %s: %w", d.Name, err)
	}
	cmd := p.command(ctx, d, inside, d.build)
	asRoot(cmd)
	cmd.Env = append(os.Environ(), cmd.Env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the driver %s: %w: %s", d.Name, err, tail(said))
	}
	return os.WriteFile(filepath.Join(out, "complete"), nil, 0o644)
}

// out is where a driver's program is built, on this machine and inside its home.
func (p *Programs) out(d Driver) (here, inside string, err error) {
	if d.build == nil {
		return "", "", nil
	}
	var all []byte
	for _, pattern := range []string{d.Name + "/*", "go.sum"} {
		files, err := filepath.Glob(filepath.Join(p.source, pattern))
		if err != nil {
			return "", "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", "", fmt.Errorf("cannot read a driver's source: %w", err)
			}
			all = append(all, text...)
		}
	}
	name := filepath.Join("built", d.Name+"-"+digest(append(all, strings.Join(d.build, " ")...)))
	here = filepath.Join(p.homes[d.home], name)
	if driverRoots[d.home].suite == "" {
		return here, here, nil
	}
	return here, "/" + name, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// DriverPrograms is ProvisionDrivers for a test.
func DriverPrograms(t testing.TB, source string, drivers []Driver) *Programs {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*provisionLimit) // three roots
	defer cancel()
	p, remove, err := ProvisionDrivers(ctx, source, drivers, os.Stderr)
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(remove)
	return p
}

// Running is the driver with another program of its folder, which needs no building.
func (d Driver) Running(argv ...string) Driver {
	d.argv = argv
	return d
}

// Command prepares a driver's program; env is added to its environment. It dies
// with this process.
func (p *Programs) Command(ctx context.Context, d Driver, env ...string) (*exec.Cmd, error) {
	_, inside, err := p.out(d)
	if err != nil {
		return nil, err
	}
	cmd := p.command(ctx, d, inside, d.argv)
	cmd.Env = append(cmd.Env, env...)
	return cmd, nil
}

// Files makes a folder for files that a driver's program reads, on this machine and
// as the program sees it. It is removed at the end of the test.
func (p *Programs) Files(t testing.TB, d Driver) (here, inside string) {
	t.Helper()
	if driverRoots[d.home].suite == "" {
		here = t.TempDir()
		return here, here
	}
	here, err := os.MkdirTemp(filepath.Join(p.homes[d.home], p.copies[d.home], ".."), "files-")
	if err == nil {
		err = os.Chmod(here, 0o755)
	}
	if err != nil {
		t.Fatalf("cannot make a folder for a driver: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(here) })
	return here, strings.TrimPrefix(here, p.homes[d.home])
}

func (p *Programs) command(ctx context.Context, d Driver, out string, argv []string) *exec.Cmd {
	args := make([]string, len(argv))
	for i, arg := range argv {
		args[i] = strings.ReplaceAll(arg, "OUT", out)
	}
	dir := filepath.Join(p.copies[d.home], d.Name)
	env := []string{"LC_ALL=C.UTF-8", "TZ=UTC", "PGCONNECT_TIMEOUT=60"}
	root := p.homes[d.home]
	if driverRoots[d.home].suite == "" {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), "DRIVER_MODULES="+root)
		boundIn(cmd, "")
		return cmd
	}
	env = append(env, "HOME=/tmp", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	if d.proc {
		// A namespace of its own has /proc for this program alone.
		const script = `mount -t proc proc "$0/proc" && exec chroot "$0" sh -c 'cd "$0" && exec "$@"' "$@"`
		cmd := exec.CommandContext(ctx, "unshare", append([]string{"-m", "sh", "-c", script, root, dir}, args...)...)
		cmd.Env = env
		boundIn(cmd, "")
		return cmd
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/env", args...)
	cmd.Dir = dir
	cmd.Env = env
	boundIn(cmd, root)
	return cmd
}
