package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// place is a database and the role that the gateway has there.
type place struct {
	addr, database, user string
	more                 string // of the configuration
}

func (p place) config() string {
	host, port, _ := net.SplitHostPort(p.addr)
	return fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: %s, port: %s, database: %s, user: %s, sslmode: disable}
pool: {size: 1, overflow: 0}
auth: {method: trust}
%s`, host, port, p.database, p.user, p.more)
}

// said is what a command of the program wrote, and its status.
type said struct {
	out, errs string
	status    int
}

// program runs one of the program's commands as a user does.
func (p place) program(t *testing.T, args ...string) (s said) {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), fmt.Appendf(nil, p.config(), "127.0.0.1:0"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute) // serve may not end
	defer stop()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	s = said{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	for _, raw := range []string{"SQLSTATE", "ERROR:"} {
		if strings.Contains(s.out+s.errs, raw) {
			t.Errorf("%v gives a raw error:\n%s%s", args, s.out, s.errs)
		}
	}
	return s
}

// doctor is what doctor --json says.
func (p place) doctor(t *testing.T) (r schema.Report, status int) {
	t.Helper()
	s := p.program(t, "doctor", "--json")
	if err := json.Unmarshal([]byte(s.out), &r); err != nil {
		t.Fatalf("%v: %s%s", err, s.out, s.errs)
	}
	return r, s.status
}

func finding(r schema.Report, code string) (f schema.Finding, ok bool) {
	i := slices.IndexFunc(r.Findings, func(f schema.Finding) bool { return f.Code == code })
	if i < 0 {
		return f, false
	}
	return r.Findings[i], true
}

// TestEveryEditionGetsWhatItCan migrates, examines and serves an empty database of
// each edition.
func TestEveryEditionGetsWhatItCan(t *testing.T) {
	const hypertables = 4
	native := func(opts ...pgtest.Option) func(*testing.T) place {
		return func(t *testing.T) place {
			c := pgtest.Native(t, opts...)
			name := strings.ToLower("edition_" + filepath.Base(t.Name()))
			if err := c.Exec(t.Context(), "postgres", "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Exec(context.Background(), "postgres", "DROP DATABASE "+name+" WITH (FORCE)") })
			return place{addr: c.Addr(), database: name, user: pgtest.Superuser}
		}
	}
	for _, e := range []struct {
		name        string
		open        func(*testing.T) place
		edition     string
		off         []string // capabilities
		codes       []string
		vectors     bool
		hypertables int
	}{
		{"community", func(t *testing.T) place {
			return place{addr: pgtest.OwnEmbedded(t).Addr(), database: "template1", user: pgtest.Superuser}
		}, "Community", nil, nil, true, hypertables},
		{"apache", native(), "Apache", []string{schema.CapAggregates, schema.CapPolicies}, []string{"timescaledb-apache"}, true, hypertables},
		{"no_timescaledb", native(pgtest.Hide("timescaledb")), "", []string{schema.CapAggregates, schema.CapPolicies}, []string{"timescaledb-missing"}, true, 0},
		{"no_pgvector", native(pgtest.Hide("vector")), "Apache", []string{schema.CapAggregates, schema.CapPolicies, schema.CapKNN}, []string{"pgvector-missing"}, false, hypertables},
		{"neither", native(pgtest.Hide("timescaledb", "vector")), "", []string{schema.CapAggregates, schema.CapPolicies, schema.CapKNN}, []string{"timescaledb-missing", "pgvector-missing"}, false, 0},
	} {
		t.Run(e.name, func(t *testing.T) {
			p := e.open(t)
			if s := p.program(t, "migrate", "up"); s.status != 0 {
				t.Fatalf("migrate up ended with %d: %s", s.status, s.errs)
			}
			r, status := p.doctor(t)
			if status != 0 || !r.Migrations.Current() || r.Edition != e.edition || r.Hypertables != e.hypertables || (r.Vector != "") != e.vectors {
				t.Errorf("status %d: %+v", status, r)
			}
			for _, c := range r.Capabilities {
				if c.On == slices.Contains(e.off, c.Name) {
					t.Errorf("capability %+v", c)
				}
			}
			for _, code := range e.codes {
				f, ok := finding(r, code)
				if !ok || f.Off == "" || f.Advice == "" {
					t.Errorf("%s: %+v does not say what it turns off and how to get it", code, f)
				}
			}
			_, addr := startGateway(t, p.config())
			client := connect(t, "postgres://"+p.user+"@"+addr+"/"+p.database+"?sslmode=disable")
			run(t, client, "INSERT INTO market_data (timestamp, symbol, close) VALUES ('2024-01-02', 'SPY', 1), ('2024-02-02', 'SPY', 2)")
			run(t, client, "INSERT INTO trades (timestamp, symbol, action) VALUES (now(), 'SPY', 'buy')")
			if got := run(t, client, "SELECT count(*), sum(close) FROM market_data"); got != "2\n3" {
				t.Errorf("the gateway answers %q", got)
			}
			if there := run(t, client, "SELECT count(*) FROM pg_tables WHERE tablename IN ('feature_embeddings', 'volatility_regimes')"); (there == "2") != e.vectors {
				t.Errorf("%s vector tables", there)
			}
		})
	}
}

// TestARoleThatMayNothingIsToldWhatItLacks has the gateway with a role that may not
// make anything: it says what to grant, and serves what is there.
func TestARoleThatMayNothingIsToldWhatItLacks(t *testing.T) {
	c := pgtest.Native(t)
	exec := func(database, sql string) {
		t.Helper()
		if err := c.Exec(context.Background(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("postgres", "CREATE DATABASE poor TEMPLATE template0")
	exec("postgres", "CREATE ROLE beggar LOGIN")
	t.Cleanup(func() {
		exec("postgres", "DROP DATABASE poor WITH (FORCE)")
		exec("postgres", "DROP ROLE beggar")
	})
	p := place{addr: c.Addr(), database: "poor", user: "beggar"}
	if s := p.program(t, "migrate", "up"); s.status != 1 || !strings.Contains(s.errs, `role beggar may not create schemas in database poor`) || !strings.Contains(s.errs, `GRANT CREATE ON DATABASE "poor" TO "beggar";`) {
		t.Errorf("migrate up gives %+v", s)
	}
	r, status := p.doctor(t)
	f, ok := finding(r, "schema-privilege")
	if status != 1 || !ok || len(f.Mend) != 2 {
		t.Fatalf("doctor ends with %d and finds %+v", status, r.Findings)
	}
	g := launch(t, p.config())
	if got := run(t, connect(t, "postgres://beggar@"+g.addr+"/poor?sslmode=disable"), "SELECT 1"); got != "1" {
		t.Errorf("the gateway answers %q", got)
	}
	if text := g.stop(t); !strings.Contains(text, "may not create schemas") || !strings.Contains(text, "GRANT CREATE ON DATABASE") || strings.Contains(text, "SQLSTATE") {
		t.Errorf("serve says:\n%s", text)
	}
	for _, sql := range f.Mend {
		exec("poor", sql)
	}
	// It may now make schemas and trusted extensions; pgvector is none.
	if s := p.program(t, "migrate", "up"); s.status != 0 || !strings.Contains(s.errs, "run CREATE EXTENSION vector as a superuser") {
		t.Errorf("with the grants migrate up gives %+v", s)
	}
	r, status = p.doctor(t)
	if f, ok = finding(r, "pgvector-not-created"); status != 0 || !ok || !slices.Equal(f.Mend, []string{"CREATE EXTENSION vector;"}) {
		t.Errorf("doctor ends with %d and finds %+v", status, r.Findings)
	}
}

func TestAnExtensionIsDemandedOrDoneWithout(t *testing.T) {
	c := pgtest.Native(t, pgtest.Hide("vector"))
	for _, name := range []string{"demands", "without"} {
		if err := c.Exec(t.Context(), "postgres", "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
			t.Fatal(err)
		}
	}
	p := place{addr: c.Addr(), database: "demands", user: pgtest.Superuser, more: "schema: {pgvector: on}\n"}
	const why = "vector (schema.pgvector is on): it is not installed on the server"
	for _, args := range [][]string{{"migrate", "up"}, {"serve"}} {
		if s := p.program(t, args...); s.status != 1 || !strings.Contains(s.errs, why) {
			t.Errorf("%v gives %+v", args, s)
		}
	}
	if r, status := p.doctor(t); status != 1 || len(r.Findings) == 0 || r.Findings[0].Code != "extension-demanded" {
		t.Errorf("doctor ends with %d: %+v", status, r.Findings)
	}
	p.more = "schema: {pgvector: on, migrate: false}\n"
	if s := p.program(t, "serve"); s.status != 1 || !strings.Contains(s.errs, why) {
		t.Errorf("without migrating serve gives %+v", s)
	}

	p = place{addr: c.Addr(), database: "without", user: pgtest.Superuser, more: "schema: {timescaledb: off, pgvector: off}\n"}
	if s := p.program(t, "migrate", "up"); s.status != 0 {
		t.Errorf("migrate up gives %+v", s)
	}
	r, status := p.doctor(t)
	if status != 0 || r.Timescale != "" || r.Hypertables != 0 || !r.Migrations.Current() {
		t.Errorf("doctor ends with %d: %+v", status, r)
	}
	for _, f := range r.Findings {
		if strings.Contains(f.Code, "timescaledb") || strings.Contains(f.Code, "pgvector") {
			t.Errorf("what the configuration does without is missed: %+v", f)
		}
	}
}
