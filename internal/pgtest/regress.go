package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// RegressDatabase is the database that the regression suite runs in.
const RegressDatabase = "regression"

// regressFileLimit is how long one file may take; after it psql is ended and the file
// has failed.
const regressFileLimit = 4 * time.Minute

// Regress is PostgreSQL's own regression suite. It is run as pg_regress runs it (its
// source, pg_regress.c and pg_regress_main.c of version 17): psql reads each file with
// everything echoed, the files of one group at once, and what comes out must equal one
// of the expected outputs byte for byte.
type Regress struct {
	root   *Root
	Groups [][]string // names of files that run at the same time, group after group
}

// RegressResult is what became of one file.
type RegressResult struct {
	Name   string
	Passed bool
	Output []byte
	Diff   string        // of a failed file from the expected output that comes nearest
	Took   time.Duration // of psql
}

// RegressSuite returns the suite with the groups of its parallel_schedule.
func RegressSuite(t testing.TB) *Regress {
	t.Helper()
	r := Tools(t)
	ctx, cancel := context.WithTimeout(t.Context(), provisionLimit)
	defer cancel()
	if err := r.provisionRegress(ctx, os.Stderr); err != nil {
		missing(t, err)
	}
	schedule, err := os.ReadFile(filepath.Join(r.Dir, regressDir, "parallel_schedule"))
	if err != nil {
		t.Fatalf("cannot read the regression suite's schedule: %v", err)
	}
	return &Regress{root: r, Groups: parseSchedule(string(schedule))}
}

// parseSchedule reads lines of the form "test: name name …".
func parseSchedule(text string) [][]string {
	var groups [][]string
	for line := range strings.Lines(text) {
		if names, ok := strings.CutPrefix(strings.TrimSpace(line), "test:"); ok {
			groups = append(groups, strings.Fields(names))
		}
	}
	return groups
}

// Files counts the files of all groups.
func (s *Regress) Files() int {
	n := 0
	for _, g := range s.Groups {
		n += len(g)
	}
	return n
}

// Only returns the suite reduced to the named files, in the schedule's order. What a
// file needs of others it must be given too.
func (s *Regress) Only(names ...string) *Regress {
	few := &Regress{root: s.root}
	for _, g := range s.Groups {
		var kept []string
		for _, name := range g {
			if slices.Contains(names, name) {
				kept = append(kept, name)
			}
		}
		if len(kept) > 0 {
			few.Groups = append(few.Groups, kept)
		}
	}
	return few
}

// Run makes the suite's database on the cluster and runs the files at addr, which is
// the cluster's own address or that of a gateway before it. Results are in the
// schedule's order.
func (s *Regress) Run(ctx context.Context, c *Cluster, addr string) ([]RegressResult, error) {
	if err := createRegressDatabase(ctx, c); err != nil {
		return nil, err
	}
	here, inside, err := s.root.tempDir()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(here)
	if err := os.Mkdir(filepath.Join(here, "results"), 0o777); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the results: %w", err)
	}
	if err := os.Chown(filepath.Join(here, "results"), s.root.uid, s.root.gid); err != nil {
		return nil, fmt.Errorf("cannot give the folder of the results away: %w", err)
	}
	var all []RegressResult
	for _, group := range s.Groups {
		results := make([]RegressResult, len(group))
		errs := make([]error, len(group))
		var wg sync.WaitGroup
		for i, name := range group {
			wg.Go(func() { results[i], errs[i] = s.runFile(ctx, name, addr, here, inside) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		all = append(all, results...)
	}
	return all, nil
}

func createRegressDatabase(ctx context.Context, c *Cluster) error {
	conn, err := pgconn.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("cannot connect to make the regression suite's database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	list := []string{"CREATE DATABASE " + RegressDatabase + " TEMPLATE template0"}
	for _, set := range []string{"lc_messages TO 'C'", "lc_monetary TO 'C'", "lc_numeric TO 'C'", "lc_time TO 'C'", "bytea_output TO 'hex'", "timezone_abbreviations TO 'Default'"} {
		list = append(list, "ALTER DATABASE "+RegressDatabase+" SET "+set)
	}
	for _, sql := range list {
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("cannot make the regression suite's database: %q: %w", sql, err)
		}
	}
	return nil
}

// runFile runs one file in the root and compares. here and inside are the folder of
// the results.
func (s *Regress) runFile(ctx context.Context, name, addr, here, inside string) (RegressResult, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return RegressResult{}, fmt.Errorf("cannot run the regression suite at %q: %w", addr, err)
	}
	fileCtx, cancel := context.WithTimeout(ctx, regressFileLimit)
	defer cancel()
	in, err := os.Open(filepath.Join(s.root.Dir, regressDir, "sql", name+".sql"))
	if err != nil {
		return RegressResult{}, fmt.Errorf("cannot run a file of the regression suite: %w", err)
	}
	defer in.Close()
	result := filepath.Join(here, "results", name+".out")
	out, err := os.Create(result)
	if err != nil {
		return RegressResult{}, fmt.Errorf("cannot keep the results of the regression suite: %w", err)
	}
	defer out.Close()
	cmd := s.root.Command(fileCtx, "psql", "-X", "-a", "-q", "-d", RegressDatabase, "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")
	cmd.Env = []string{
		"PATH=" + pgBin + ":/usr/bin:/bin", "HOME=/tmp", "LC_MESSAGES=C", "TZ=UTC",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + Superuser, "PGAPPNAME=pg_regress/" + name,
		"PGTZ=America/Los_Angeles", "PGDATESTYLE=Postgres, MDY", "PGOPTIONS= -c intervalstyle=postgres_verbose",
		"PG_ABS_SRCDIR=" + regressDir, "PG_ABS_BUILDDIR=" + inside, "PG_LIBDIR=" + regressDir + "/lib", "PG_DLSUFFIX=.so",
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	start := time.Now()
	err = cmd.Run() // psql's own failure shows in its output
	r := RegressResult{Name: name, Took: time.Since(start)}
	if ctx.Err() != nil {
		return r, fmt.Errorf("cannot finish %s: %w", name, errors.Join(ctx.Err(), err))
	}
	if r.Output, err = os.ReadFile(result); err != nil {
		return r, fmt.Errorf("cannot read the results of the regression suite: %w", err)
	}
	if fileCtx.Err() != nil {
		r.Output = append(r.Output, "\n-- ended after "+regressFileLimit.String()+"\n"...)
	}
	return r, s.compare(ctx, &r)
}

// compare looks for an expected output that equals the result: the main one or one of
// the alternatives _0 to _9.
func (s *Regress) compare(ctx context.Context, r *RegressResult) error {
	expected := filepath.Join(s.root.Dir, regressDir, "expected")
	for _, alternative := range []string{"", "_0", "_1", "_2", "_3", "_4", "_5", "_6", "_7", "_8", "_9"} {
		path := filepath.Join(expected, r.Name+alternative+".out")
		want, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && alternative != "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read what %s is expected to answer: %w", r.Name, err)
		}
		if bytes.Equal(want, r.Output) {
			r.Passed, r.Diff = true, ""
			return nil
		}
		diff, err := Diff(ctx, want, r.Output)
		if err != nil {
			return err
		}
		if r.Diff == "" || len(diff) < len(r.Diff) {
			r.Diff = diff
		}
	}
	return nil
}

// Diff is the unified difference of two outputs, "" for equal ones.
func Diff(ctx context.Context, want, got []byte) (string, error) {
	dir, err := os.MkdirTemp("", "qvpgw-diff-")
	if err != nil {
		return "", fmt.Errorf("cannot compare two outputs: %w", err)
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string][]byte{"want": want, "got": got} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", fmt.Errorf("cannot compare two outputs: %w", err)
		}
	}
	return diffFiles(ctx, filepath.Join(dir, "want"), filepath.Join(dir, "got"))
}

func diffFiles(ctx context.Context, want, got string) (string, error) {
	cmd := exec.CommandContext(ctx, "diff", "-U3", "--label", "want", "--label", "got", want, got)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // they differ
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot run diff: %w", err)
	}
	return string(out), nil
}
