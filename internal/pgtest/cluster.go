package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A cluster has these roles. All but ScramUser connect over loopback without a
// password.
const (
	Superuser     = "postgres"
	ScramUser     = "scram" // not a superuser; may create in every test database
	ScramPassword = "scram-secret"
	PlainUser     = "plain" // not a superuser
)

// templateDB is a database of each cluster with both extensions, that only
// CREATE DATABASE may touch.
const templateDB = "qvpgw_template"

type options struct {
	settings []string
	hba      []string
	files    map[string][]byte
	plain    bool
	hidden   []string
	template string // data directory to start from; "": the template of all clusters
}

// Option asks for a cluster that differs from the shared one. Any option, Own
// too, makes Native start a cluster for the one test.
type Option func(*options)

// Own asks for a cluster of one's own with the usual settings.
func Own() Option { return func(*options) {} }

// Setting sets a parameter of postgresql.conf.
func Setting(name, value string) Option {
	line := fmt.Sprintf("%s = '%s'", name, strings.ReplaceAll(value, "'", "''"))
	return func(o *options) { o.settings = append(o.settings, line) }
}

// MaxConnections sets max_connections. Superusers keep three of them unless
// superuser_reserved_connections says otherwise.
func MaxConnections(n int) Option { return Setting("max_connections", strconv.Itoa(n)) }

// Fsync turns fsync on, for tests of durability and honest benchmarks of
// writes; it is off otherwise.
func Fsync() Option { return Setting("fsync", "on") }

// HBA puts lines before those of pg_hba.conf.
func HBA(lines ...string) Option {
	return func(o *options) { o.hba = append(o.hba, lines...) }
}

// Plain leaves TimescaleDB out and has the settings that PostgreSQL's own tests
// expect: a cluster as initdb makes it.
func Plain() Option { return func(o *options) { o.plain = true } }

// Hide has the server not know extensions, as if their packages were not installed.
// Databases must then be made from template0; TimescaleDB's library is not preloaded
// when it is hidden.
func Hide(extensions ...string) Option {
	return func(o *options) {
		o.hidden = append(o.hidden, extensions...)
		if slices.Contains(extensions, "timescaledb") {
			o.settings = append(o.settings, "shared_preload_libraries = ''")
		}
	}
}

// File writes a file into the data directory, as a server certificate.
func File(name string, content []byte) Option {
	return func(o *options) {
		if o.files == nil {
			o.files = map[string][]byte{}
		}
		o.files[name] = content
	}
}

// Cluster is a running PostgreSQL on loopback.
type Cluster struct {
	*Root
	Port int

	dir     string // of the data, on this machine
	inside  string // the same in the root
	bin     string // of the server's program, in the root
	cmd     *exec.Cmd
	done    <-chan error
	counter atomic.Int64 // of databases
}

// StartCluster starts a cluster. Stop removes it; if this process dies first it
// dies too, and a later StartCluster removes its data.
func (r *Root) StartCluster(ctx context.Context, opts ...Option) (*Cluster, error) {
	o := options{settings: []string{"fsync = 'off'", "full_page_writes = 'off'", "autovacuum = 'off'", "max_prepared_transactions = '20'"}}
	for _, opt := range opts {
		opt(&o)
	}
	r.sweep()
	dir, err := os.MkdirTemp(filepath.Join(r.Dir, stateDir, "run"), fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("cannot make a data directory: %w", err)
	}
	c := &Cluster{Root: r, dir: filepath.Join(dir, "data"), inside: filepath.Join(stateDir, "run", filepath.Base(dir), "data"), bin: pgBin}
	if err := c.create(ctx, o); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if c.Port, err = freePort(); err != nil {
			break
		}
		err = c.Start(ctx)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "could not bind") {
			break
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return c, nil
}

// create copies the template and writes the configuration.
func (c *Cluster) create(ctx context.Context, o options) error {
	if err := os.Chown(filepath.Dir(c.dir), c.uid, c.gid); err != nil {
		return fmt.Errorf("cannot give the data directory to postgres: %w", err)
	}
	if o.plain {
		if err := c.initialise(ctx, c.inside, ""); err != nil {
			return err
		}
	} else {
		template := o.template
		if template == "" {
			template = filepath.Join(c.Root.Dir, stateDir, "template")
		}
		if err := run(ctx, nil, "cp", "-a", "--reflink=auto", template, c.dir); err != nil {
			return fmt.Errorf("cannot copy the template cluster: %w", err)
		}
	}
	if len(o.hidden) > 0 {
		if err := c.hide(o.hidden); err != nil {
			return fmt.Errorf("cannot hide extensions from the server: %w", err)
		}
	}
	files := map[string][]byte{"qvpgw.conf": []byte(strings.Join(o.settings, "\n") + "\n")}
	if len(o.hba) > 0 {
		hba, err := os.ReadFile(filepath.Join(c.dir, "pg_hba.conf"))
		if err != nil {
			return fmt.Errorf("cannot read the template's pg_hba.conf: %w", err)
		}
		files["pg_hba.conf"] = []byte(strings.Join(o.hba, "\n") + "\n" + string(hba))
	}
	for name, content := range o.files {
		files[name] = content
	}
	for name, content := range files {
		if err := c.writeFile(filepath.Join(c.dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// hide gives the cluster an installation of its own beside its data: the program,
// which finds the other files by its own place, and links to all that is not hidden.
func (c *Cluster) hide(extensions []string) error {
	const program, share = "/usr/lib/postgresql/17", "/usr/share/postgresql/17"
	base := filepath.Dir(c.inside)
	here := func(path string) string { return filepath.Join(c.Root.Dir, path) }
	c.bin = filepath.Join(base, "lib/postgresql/17/bin")
	for _, dir := range []string{c.bin, filepath.Join(base, "share/postgresql/17/extension")} {
		if err := os.MkdirAll(here(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Link(here(program+"/bin/postgres"), here(c.bin+"/postgres")); err != nil {
		return err
	}
	links := map[string]string{filepath.Join(base, "lib/postgresql/17/lib"): program + "/lib"}
	for _, sub := range []string{"", "extension"} {
		list, err := os.ReadDir(here(filepath.Join(share, sub)))
		if err != nil {
			return err
		}
		for _, f := range list {
			hidden := slices.ContainsFunc(extensions, func(x string) bool { return f.Name() == x+".control" || strings.HasPrefix(f.Name(), x+"--") })
			if f.Name() != "extension" && !hidden {
				links[filepath.Join(base, "share/postgresql/17", sub, f.Name())] = filepath.Join(share, sub, f.Name())
			}
		}
	}
	for link, target := range links {
		if err := os.Symlink(target, here(link)); err != nil {
			return err
		}
	}
	return nil
}

// Start starts a cluster that was crashed, on its old port and data.
func (c *Cluster) Start(ctx context.Context) error {
	cmd := exec.Command(c.bin+"/postgres", "-D", c.inside, "-p", strconv.Itoa(c.Port))
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	c.inRoot(cmd, syscall.SIGQUIT)
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open the cluster's log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	c.cmd = cmd
	if c.done, err = startBound(cmd); err != nil {
		return fmt.Errorf("cannot start postgres in %s: %w", c.Root.Dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := c.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("cannot start postgres, it ended: %s", c.Log())
		case <-ctx.Done():
			c.signal(syscall.SIGKILL)
			return fmt.Errorf("cannot start postgres within a minute: %w: %s", err, c.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Cluster) ping(ctx context.Context) error {
	conn, err := pgconn.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code != "57P03" { // any answer but "starting up" is life
			return nil
		}
		return err
	}
	return conn.Close(ctx)
}

// Stop ends the cluster, its sessions at once, and removes its data.
func (c *Cluster) Stop() error {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		c.signal(s)
		if c.ended(10 * time.Second) {
			return os.RemoveAll(filepath.Dir(c.dir))
		}
	}
	return fmt.Errorf("cannot stop postgres, process %d", c.PID())
}

// Crash ends the cluster as a power cut of its processes would: no checkpoint,
// no word to any client. Start brings it back.
func (c *Cluster) Crash() error {
	c.signal(syscall.SIGQUIT)
	if !c.ended(10 * time.Second) {
		return fmt.Errorf("cannot crash postgres, process %d", c.PID())
	}
	return nil
}

func (c *Cluster) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

func (c *Cluster) ended(limit time.Duration) bool {
	select {
	case <-c.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// PID is the postmaster's.
func (c *Cluster) PID() int { return c.cmd.Process.Pid }

// Addr is the address that the cluster listens on.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)) }

// DSN names a database of the cluster, for the superuser.
func (c *Cluster) DSN(database string) string { return c.UserDSN(Superuser, "", database) }

// UserDSN names a database of the cluster for a role; password may be "".
func (c *Cluster) UserDSN(user, password, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: c.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// CreateDatabase makes an empty database with both extensions and returns its
// name. It stays until the cluster is stopped or DropDatabase is called.
func (c *Cluster) CreateDatabase(ctx context.Context) (string, error) {
	name := fmt.Sprintf("test_%d", c.counter.Add(1))
	if err := c.Exec(ctx, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+templateDB); err != nil {
		return "", err
	}
	return name, nil
}

// DropDatabase removes a database and ends its sessions.
func (c *Cluster) DropDatabase(ctx context.Context, name string) error {
	return c.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// Exec runs statements as the superuser on a connection of its own.
func (c *Cluster) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgconn.Connect(ctx, c.DSN(database))
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("cannot run %q: %w", sql, err)
	}
	return nil
}

// Log is the end of the server's log.
func (c *Cluster) Log() string {
	out, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return tail(out)
}

func (c *Cluster) logFile() string { return filepath.Join(filepath.Dir(c.dir), "log") }

// makeTemplate makes the cluster that all others are copies of.
func (r *Root) makeTemplate(ctx context.Context) error {
	state := filepath.Join(r.Dir, stateDir)
	for _, dir := range []string{state, filepath.Join(state, "run"), filepath.Join(state, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chown(dir, r.uid, r.gid); err != nil {
			return err
		}
	}
	template := filepath.Join(state, "template")
	if err := r.initialise(ctx, stateDir+"/template", "shared_preload_libraries = 'timescaledb'\ntimescaledb.telemetry_level = off\n"); err != nil {
		return err
	}
	c, err := r.StartCluster(ctx)
	if err != nil {
		return err
	}
	for _, s := range [][2]string{
		{"postgres", "CREATE ROLE " + ScramUser + " LOGIN PASSWORD '" + ScramPassword + "'; CREATE ROLE " + PlainUser + " LOGIN"},
		{"postgres", "CREATE DATABASE " + templateDB + " TEMPLATE template0"},
		{templateDB, "SET client_min_messages = error; CREATE EXTENSION timescaledb; CREATE EXTENSION vector; GRANT CREATE ON SCHEMA public TO PUBLIC"},
		{"postgres", "UPDATE pg_database SET datistemplate = true, datallowconn = false WHERE datname = '" + templateDB + "'"},
		{"postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + templateDB + "'; CHECKPOINT"},
	} {
		if err := c.Exec(ctx, s[0], s[1]); err != nil {
			return errors.Join(err, c.Stop())
		}
	}
	c.signal(syscall.SIGINT)
	if !c.ended(time.Minute) {
		return fmt.Errorf("cannot stop the template cluster: %s", c.Log())
	}
	if err := os.RemoveAll(template); err != nil {
		return err
	}
	if err := os.Rename(c.dir, template); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(c.dir))
}

// initialise makes the data directory dir, a path in the root, with more at the end of
// its postgresql.conf. What a cluster is given by options goes to qvpgw.conf.
func (r *Root) initialise(ctx context.Context, dir, more string) error {
	cmd := r.Command(ctx, "initdb", "-D", dir, "-U", Superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run initdb: %w: %s", err, tail(out))
	}
	conf := strings.Join([]string{
		"listen_addresses = '127.0.0.1'",
		"unix_socket_directories = ''",
		"timezone = 'UTC'",
		"log_timezone = 'UTC'",
		more + "include 'qvpgw.conf'",
	}, "\n") + "\n"
	hba := strings.Join([]string{
		"local all all trust",
		"host all " + ScramUser + " 127.0.0.1/32 scram-sha-256",
		"host all all 127.0.0.1/32 trust",
		"host replication all 127.0.0.1/32 trust",
	}, "\n") + "\n"
	here := filepath.Join(r.Dir, dir)
	sample, err := os.ReadFile(filepath.Join(here, "postgresql.conf"))
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"postgresql.conf": string(sample) + conf, "pg_hba.conf": hba} {
		if err := r.writeFile(filepath.Join(here, name), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file that postgres in the root may read.
func (r *Root) writeFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("cannot write into the root: %w", err)
	}
	if err := os.Chown(path, r.uid, r.gid); err != nil {
		return fmt.Errorf("cannot write into the root: %w", err)
	}
	return nil
}

// sweep removes what processes that no longer live left behind.
func (r *Root) sweep() {
	for _, kind := range []string{"run", "tmp"} {
		sweepFolders(filepath.Join(r.Dir, stateDir, kind))
	}
}

// sweepFolders removes the folders in dir whose processes no longer live. A folder's
// name starts with the process id of its owner.
func sweepFolders(dir string) {
	dirs, _ := filepath.Glob(filepath.Join(dir, "*-*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(filepath.Base(dir), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}

// freePort is a loopback port that nobody listens on at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
