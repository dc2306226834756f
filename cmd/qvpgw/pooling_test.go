package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/config"
	"qvpgw/internal/figure"
	"qvpgw/internal/handoff"
	"qvpgw/internal/pgtest"
)

// code is an error's SQLSTATE.
func code(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return fmt.Sprint(err)
}

// reach is connectTo for a client that may not be let in.
func reach(t *testing.T, addr, user, database string) (*pgconn.PgConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := pgconn.Connect(ctx, "postgres://"+user+"@"+addr+"/"+database+"?sslmode=disable")
	if err == nil {
		t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

// column is the value of a column in the console's row of a database.
func column(t *testing.T, console *pgconn.PgConn, topic, database, name string) string {
	t.Helper()
	results, err := console.Exec(t.Context(), "SHOW "+topic).ReadAll()
	if err != nil || len(results) != 1 {
		t.Fatalf("SHOW %s: %v", topic, err)
	}
	at := func(name string) int {
		for i, f := range results[0].FieldDescriptions {
			if f.Name == name {
				return i
			}
		}
		t.Fatalf("SHOW %s has no column %s", topic, name)
		return 0
	}
	key := 0
	if topic == "DATABASES" || topic == "USERS" {
		key = at("name")
	}
	for _, row := range results[0].Rows {
		if string(row[key]) == database {
			return string(row[at(name)])
		}
	}
	return ""
}

func TestLimitsOfClientsAndServers(t *testing.T) {
	cluster := pgtest.Native(t)
	_, addr := startGateway(t, nativeConfig(t, cluster, `
pool: {size: 2, overflow: 0, query_wait_timeout: 2s}
limits: {max_clients: 7, max_user_clients: 6}
databases:
  few: {database: postgres, max_clients: 2}
  one: {database: postgres, max_servers: 1}
  "*": {}
`))
	user := pgtest.Superuser
	a, err := reach(t, addr, user, "few")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reach(t, addr, user, "few"); err != nil {
		t.Fatal(err)
	}
	_, err = reach(t, addr, user, "few")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "53300" || !strings.Contains(pe.Message, "few") || pe.Hint == "" {
		t.Errorf("a third client of the database got %v", err)
	}
	_ = a.Close(t.Context())
	for range 5 {
		_, err = reach(t, addr, user, "template1")
		for end := time.Now().Add(20 * time.Second); code(err) == "53300" && time.Now().Before(end); {
			_, err = reach(t, addr, user, "template1") // the one that left is on its way out
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err = reach(t, addr, user, "template1"); code(err) != "53300" || !strings.Contains(err.Error(), "role") {
		t.Errorf("a seventh client of the user got %v", err)
	}
	console, err := reach(t, addr, user, "pgbouncer")
	if err != nil {
		t.Fatalf("the console is not let in beyond the limits: %v", err)
	}
	if got := column(t, console, "DATABASES", "few", "max_client_connections"); got != "2" {
		t.Errorf("SHOW DATABASES says %q", got)
	}
	if got := column(t, console, "USERS", user, "current_client_connections"); got != "6" {
		t.Errorf("SHOW USERS says %q", got)
	}
}

func TestServerConnectionsOfADatabaseAreLimitedOverItsUsers(t *testing.T) {
	cluster := pgtest.Native(t)
	admin := connect(t, cluster.DSN("postgres"))
	run(t, admin, "CREATE ROLE limit_tester LOGIN SUPERUSER")
	t.Cleanup(func() {
		if c, err := pgconn.Connect(context.Background(), cluster.DSN("postgres")); err == nil {
			_, _ = c.Exec(context.Background(), "DROP ROLE limit_tester").ReadAll()
			_ = c.Close(context.Background())
		}
	})
	_, addr := startGateway(t, nativeConfig(t, cluster, `
pool: {size: 5, overflow: 0, query_wait_timeout: 5s}
databases: {one: {database: postgres, max_servers: 1}}
`))
	a, b := connectTo(t, addr, pgtest.Superuser, "one"), connectTo(t, addr, "limit_tester", "one")
	var working sync.WaitGroup
	for _, c := range []*pgconn.PgConn{a, b} {
		working.Go(func() {
			for range 20 {
				if got := first(t, c, "SELECT 1"); got != "1" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	working.Wait()
	console := connectTo(t, addr, pgtest.Superuser, "pgbouncer")
	if got := column(t, console, "DATABASES", "one", "current_connections"); got != "1" {
		t.Errorf("two users have %q server connections", got)
	}
	if got := column(t, console, "DATABASES", "one", "max_connections"); got != "1" {
		t.Errorf("SHOW DATABASES says at most %q", got)
	}
}

func TestAClientThatWaitsLongIsTold(t *testing.T) {
	_, addr := startGateway(t, nativeConfig(t, pgtest.Native(t), `
pool: {size: 1, overflow: 0, query_wait_notify: 200ms, query_wait_timeout: 10s}
`))
	busy := connectTo(t, addr, pgtest.Superuser, "postgres")
	run(t, busy, "BEGIN")
	for range 2 { // the first may wait in either gear
		cfg, err := pgconn.ParseConfig("postgres://" + pgtest.Superuser + "@" + addr + "/postgres?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		var notices []string
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Severity+" "+n.Message) }
		waiting, err := pgconn.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan string)
		go func() { done <- first(t, waiting, "SELECT 42") }()
		time.Sleep(700 * time.Millisecond)
		run(t, busy, "COMMIT")
		if got := <-done; got != "42" {
			t.Errorf("after its wait the client got %q", got)
		}
		if len(notices) != 1 || !strings.HasPrefix(notices[0], "NOTICE no server connection") {
			t.Errorf("the client was told %q", notices)
		}
		_ = waiting.Close(t.Context())
		run(t, busy, "BEGIN")
	}
}

// TestFailoverWithoutARestart kills the server that clients are connected to; the
// gateway goes on with the next one, and with a new primary when the old one takes
// no writes any more.
func TestFailoverWithoutARestart(t *testing.T) {
	a, b := pgtest.Native(t, pgtest.Own()), pgtest.Native(t, pgtest.Own())
	for i, c := range []*pgtest.Cluster{a, b} {
		run(t, connect(t, c.DSN("postgres")), fmt.Sprintf("CREATE TABLE who AS SELECT '%c'::text AS name", 'a'+i))
	}
	_, addr := startGateway(t, strings.Replace(nativeConfig(t, a, `
pool: {size: 4, overflow: 0, login_backoff: 100ms}
`), "host: 127.0.0.1", fmt.Sprintf(`target_session_attrs: read-write, host: "127.0.0.1,127.0.0.1:%d"`, b.Port), 1))
	client := connectTo(t, addr, pgtest.Superuser, "postgres")
	other := connectTo(t, addr, pgtest.Superuser, "postgres")
	if got := first(t, client, "SELECT name FROM who"); got != "a" {
		t.Fatalf("at first the clients are at %q", got)
	}
	run(t, connect(t, a.DSN("postgres")), "ALTER SYSTEM SET default_transaction_read_only = on")
	run(t, connect(t, a.DSN("postgres")), "SELECT pg_reload_conf()")
	deadline := time.Now().Add(10 * time.Second)
	failures := 0
	for got := ""; got != "b"; got = first(t, client, "UPDATE who SET name = name RETURNING name") {
		if got != "" && got != "a" {
			failures++
			if got != "25006" {
				t.Errorf("a write got %q", got)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s writes still go to the old primary (%q)", got)
		}
	}
	figure.Print(t, "failover.demoted.failed", failures)
	if got := first(t, other, "SELECT name FROM who"); got != "b" && got != "a" {
		t.Errorf("another client got %q", got)
	}
	// Back, by the other being killed.
	old := connect(t, a.DSN("postgres"))
	run(t, old, "SET default_transaction_read_only = off")
	run(t, old, "ALTER SYSTEM RESET default_transaction_read_only")
	run(t, connect(t, a.DSN("postgres")), "SELECT pg_reload_conf()")
	if err := b.Crash(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for {
		c, err := reach(t, addr, pgtest.Superuser, "postgres")
		if err == nil && first(t, c, "UPDATE who SET name = name RETURNING name") == "a" {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("after 10 s nobody is served: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	figure.Print(t, "failover.seconds", time.Since(began).Seconds())
	if err := b.Start(t.Context()); err != nil { // for its Stop
		t.Fatal(err)
	}
}

func TestTheConsoleCountsWhoIsLoggingIn(t *testing.T) {
	_, addr := startGateway(t, nativeConfig(t, pgtest.Native(t), ""))
	console := connectTo(t, addr, pgtest.Superuser, "pgbouncer")
	listed := func() string {
		t.Helper()
		results, err := console.Exec(t.Context(), "SHOW LISTS").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range results[0].Rows {
			if string(row[0]) == "login_clients" {
				return string(row[1])
			}
		}
		return "nothing"
	}
	if n := listed(); n != "0" {
		t.Errorf("%s are listed, nobody logs in", n)
	}
	n, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for end := time.Now().Add(10 * time.Second); listed() != "1"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s are listed, one logs in", listed())
		}
	}
}

func TestTheConsolePausesKillsAndReconnects(t *testing.T) {
	cluster := pgtest.Native(t)
	_, addr := startGateway(t, nativeConfig(t, cluster, `
pool: {size: 2, overflow: 0}
databases: {one: {database: postgres}, two: {database: postgres}}
`))
	user := pgtest.Superuser
	console := connectTo(t, addr, user, "pgbouncer")
	one, two := connectTo(t, addr, user, "one"), connectTo(t, addr, user, "two")
	pid := first(t, one, "SELECT pg_backend_pid()")

	run(t, console, "RECONNECT one")
	run(t, console, "WAIT_CLOSE one")
	if again := first(t, one, "SELECT pg_backend_pid()"); again == pid {
		t.Error("after RECONNECT the server connection is the same")
	}

	run(t, one, "BEGIN")
	paused := make(chan string)
	go func() { paused <- first(t, console, "PAUSE one") }()
	select {
	case got := <-paused:
		t.Fatalf("PAUSE did not wait for a transaction: %q", got)
	case <-time.After(150 * time.Millisecond):
	}
	run(t, one, "COMMIT")
	if got := <-paused; got != "" {
		t.Fatalf("PAUSE gave %q", got)
	}
	waiting := make(chan string)
	go func() { waiting <- first(t, one, "SELECT 'went on'") }()
	if got := first(t, two, "SELECT 'not paused'"); got != "not paused" {
		t.Errorf("another database got %q", got)
	}
	console2 := connectTo(t, addr, user, "pgbouncer")
	if got := column(t, console2, "DATABASES", "one", "paused"); got != "1" {
		t.Errorf("SHOW DATABASES says paused %q", got)
	}
	select {
	case got := <-waiting:
		t.Fatalf("a client of a paused database got %q", got)
	case <-time.After(100 * time.Millisecond):
	}
	run(t, console, "RESUME one")
	if got := <-waiting; got != "went on" {
		t.Errorf("after RESUME the client got %q", got)
	}
	if got := first(t, console, "RESUME one"); got != "55000" {
		t.Errorf("RESUME of what is not paused gave %q", got)
	}
	if got := first(t, console, "PAUSE none"); got != "3D000" {
		t.Errorf("PAUSE of an unknown database gave %q", got)
	}

	run(t, console, "DISABLE two")
	if _, err := reach(t, addr, user, "two"); code(err) != "57P03" {
		t.Errorf("a client of a disabled database got %v", err)
	}
	if got := first(t, two, "SELECT 1"); got != "1" {
		t.Errorf("one that was there got %q", got)
	}
	run(t, console, "ENABLE two")
	if _, err := reach(t, addr, user, "two"); err != nil {
		t.Errorf("after ENABLE: %v", err)
	}

	victim := connectTo(t, addr, user, "two")
	run(t, console, fmt.Sprintf("KILL_CLIENT %d", victim.PID()))
	if got := first(t, victim, "SELECT 1"); got == "1" {
		t.Error("a killed client goes on")
	}
	if got := first(t, console, "KILL_CLIENT 1999999999"); got != "22023" {
		t.Errorf("KILL_CLIENT of nobody gave %q", got)
	}

	sleeping := make(chan string)
	go func() { sleeping <- first(t, one, "SELECT pg_sleep(60)") }()
	time.Sleep(50 * time.Millisecond)
	run(t, console, "KILL one")
	select {
	case <-sleeping:
	case <-time.After(5 * time.Second):
		t.Error("KILL left a client")
	}
	if got := first(t, two, "SELECT 2"); got != "2" {
		t.Errorf("KILL one: another database got %q", got)
	}
	run(t, console, "RESUME one")
	if got := first(t, connectTo(t, addr, user, "one"), "SELECT 3"); got != "3" {
		t.Errorf("after KILL and RESUME: %q", got)
	}
	for name, least := range map[string]string{"one": "total_query_count", "two": "total_xact_count"} {
		if got := column(t, console, "STATS", name, least); got == "" || got == "0" {
			t.Errorf("SHOW STATS says of %s: %s %q", name, least, got)
		}
	}
}

// TestAReloadDropsNobody changes what can be changed under an open transaction and
// a waiting client, and names what needs a restart.
func TestAReloadDropsNobody(t *testing.T) {
	cluster := pgtest.Native(t)
	dir := t.TempDir()
	read := func(more string) *config.Config {
		t.Helper()
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, fmt.Appendf(nil, nativeConfig(t, cluster, more), "127.0.0.1:0"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(path, func(string) (string, bool) { return "", false }, "")
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cfg := read("pool: {size: 1, overflow: 0, query_wait_timeout: 10s}")
	cfg.Listen = addr
	var said syncBuilder
	p, err := build(cfg, slog.New(slog.NewTextHandler(io.MultiWriter(&said), nil)), fixed{}, new(handoff.Process))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.serve(ctx, nil, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	<-ready
	a, b := connectTo(t, addr, pgtest.Superuser, "postgres"), connectTo(t, addr, pgtest.Superuser, "postgres")
	run(t, a, "BEGIN")
	waiting := make(chan string)
	go func() { waiting <- first(t, b, "SELECT 'served'") }()
	time.Sleep(50 * time.Millisecond)

	next := read(`
pool: {size: 3, overflow: 0, mode: statement}
rules: {delete_without_where: refuse}
route: {enabled: false}
cache: {bytes: 8MiB, mode: bounded}
databases: {postgres: {max_clients: 2}}
`)
	if err := p.reload(next); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-waiting:
		if got != "served" {
			t.Errorf("who waited got %q", got)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a larger pool did not help who waits")
	}
	if got := p.cache.Stat().Budget; got != 8<<20 {
		t.Errorf("answers may take %d bytes", got)
	}
	run(t, a, "CREATE TEMP TABLE gone (n int)")
	if got := first(t, a, "DELETE FROM gone"); got != "42501" {
		t.Errorf("the new rule is not in force: %q", got)
	}
	run(t, a, "ROLLBACK")
	run(t, a, "BEGIN") // its mode is that of its login
	run(t, a, "COMMIT")
	if _, err := reach(t, addr, pgtest.Superuser, "postgres"); code(err) != "53300" {
		t.Errorf("a third client got %v", err)
	}
	_ = b.Close(t.Context())
	c, err := reach(t, addr, pgtest.Superuser, "postgres")
	for end := time.Now().Add(20 * time.Second); code(err) == "53300" && time.Now().Before(end); {
		c, err = reach(t, addr, pgtest.Superuser, "postgres") // the one that left is on its way out
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := first(t, c, "BEGIN"); got != "0A000" {
		t.Errorf("a new client has the old mode: %q", got)
	}
	for _, want := range []string{
		"key=pool.size value=3 was=1", "key=cache.bytes value=8MiB was=64MiB", "key=cache.mode value=bounded was=strict", "key=rules.delete_without_where value=refuse",
		`msg="a restart is needed for this key to change" key=route.enabled value=false "in force"=true`,
		"key=listen value=127.0.0.1:0",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, said.String())
		}
	}
	bad := *next
	bad.Rules = map[string]config.RuleMode{"no_such_rule": config.RuleWarn}
	if err := p.reload(&bad); err == nil {
		t.Error("an unknown rule is put into force")
	}
	if got := first(t, a, "SELECT 1"); got != "1" {
		t.Errorf("after it a client got %q", got)
	}
}

// syncBuilder is a strings.Builder for several goroutines.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
