package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qvpgw/internal/config"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// TestAReloadChangesThePolicies starts the gateway with one server connection,
// changes its file and sends SIGHUP: the policies follow, and status says so.
func TestAReloadChangesThePolicies(t *testing.T) {
	t.Run("native", func(t *testing.T) { reloadPolicies(t, pgtest.Database(t), false) })
	t.Run("embedded", func(t *testing.T) { reloadPolicies(t, pgtest.OwnEmbedded(t).DSN(), true) })
}

func reloadPolicies(t *testing.T, dsn string, community bool) {
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	// A slow machine takes longer than a start may to make the tables.
	if _, err := schema.NewMigrator(dsn, schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := func(listen, policies string) string {
		return fmt.Sprintf(`listen: %s
http: ""
log: {level: info}
backend: {host: 127.0.0.1, port: %s, database: %s, user: %s, sslmode: disable}
pool: {size: 1, overflow: 0}
auth: {method: trust, query: false}
schema: {policies: {%s}}
`, listen, u.Port(), strings.TrimPrefix(u.Path, "/"), u.User.Username(), policies)
	}
	g := launch(t, file("%s", ""))
	client := connect(t, fmt.Sprintf("postgres://%s@%s%s?sslmode=disable", u.User.Username(), g.addr, u.Path))
	chunks := func() string {
		return run(t, client, "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = 'market_data'")
	}
	retained := func() string {
		return run(t, client, "SELECT config->>'drop_after' FROM timescaledb_information.jobs WHERE hypertable_name = 'tick_data' AND proc_name = 'policy_retention'")
	}
	if got := chunks(); got != "7 days" {
		t.Errorf("before the reload chunks are of %s", got)
	}
	if got := retained(); community && got != "365 days" {
		t.Errorf("before the reload ticks are kept for %q", got)
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	const changed = "tables: {market_data: {chunk_interval: 1d}, tick_data: {retain: 400d}}"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(file(g.addr, changed)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(g.cmd.Process.Pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(20 * time.Second); chunks() != "1 day" || community && retained() != "400 days"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("after the reload chunks are of %s, ticks kept for %s\n%s", chunks(), retained(), g.stop(t))
		}
	}
	said := g.stop(t)
	if want := `msg=policy changed="market_data chunk interval: 7d -> 1d"`; !strings.Contains(said, want) {
		t.Errorf("the log has no %s:\n%s", want, said)
	}

	status := status(t, filepath.Join(dir, "config.yaml"), "--json")
	for _, want := range []string{`"object": "market_data"`, `"kind": "chunk interval"`, `"wanted": "1d"`, `"actual": "1d"`, `"state": "as wanted"`} {
		if !strings.Contains(status, want) {
			t.Errorf("status --json has no %s:\n%s", want, status)
		}
	}
	if !community && !strings.Contains(status, "is the Apache edition, which has none") {
		t.Errorf("status does not name the edition:\n%s", status)
	}
}

// status is what qvpgw migrate status prints.
func status(t *testing.T, path string, args ...string) string {
	t.Helper()
	c := migrateCommand(func() (*config.Config, error) { return config.Load(path, os.LookupEnv, "") })
	var out strings.Builder
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append([]string{"status"}, args...))
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

func TestSwitchedOffPoliciesAreLeftAlone(t *testing.T) {
	cfg := config.Default()
	if w := policies(cfg); w.Off != "" || len(w.Tables) != 4 || len(w.Aggregates) != 8 || w.Tables[0].SegmentBy != "symbol" || w.Aggregates[3].Bucket != time.Minute {
		t.Errorf("the default wants %+v", w)
	}
	cfg.Schema.Policies.Tables.TickData.Enabled = false
	if w := policies(cfg); !w.Tables[1].Off || w.Tables[0].Off {
		t.Errorf("with tick_data off it wants %+v", w)
	}
	cfg.Schema.TimescaleDB = config.Off
	if w := policies(cfg); w.Off != "schema.timescaledb is off" {
		t.Errorf("without TimescaleDB it wants %+v", w)
	}
	cfg.Schema.TimescaleDB, cfg.Schema.Policies.Enabled = config.Auto, false
	if w := policies(cfg); w.Off != "schema.policies.enabled is false" {
		t.Errorf("with policies off it wants %+v", w)
	}
}
