package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qvpgw/internal/config"
	"qvpgw/internal/handoff"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// TestTrapT16TheKeeperWaitsForAPinnedClient has a server that takes one connection
// more, a pool that would open four, and a client that keeps the one.
func TestTrapT16TheKeeperWaitsForAPinnedClient(t *testing.T) {
	const most = 8
	cluster := pgtest.Native(t, pgtest.MaxConnections(most), pgtest.Setting("superuser_reserved_connections", "0"))
	database, err := cluster.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dsn := cluster.DSN(database)
	if err := schema.Migrate(t.Context(), dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	direct := connect(t, dsn)
	run(t, direct, "INSERT INTO feature_embeddings (timestamp, symbol) VALUES (now(), 'A')")
	for n := 1; n < most-1; n++ {
		connect(t, dsn)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, migratingConfig(dsn), addr), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, func(string) (string, bool) { return "", false }, "")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	p, err := build(cfg, slog.New(slog.NewTextHandler(&said, nil)), fixed{}, new(handoff.Process))
	if err != nil {
		t.Fatal(err)
	}
	// It is driven by hand, on a clock on which what was logged is old.
	k := &keeper{program: p}
	later := time.Duration(0)
	k.pruner.Now = func() time.Time { return time.Now().Add(later) }
	rounds := func() {
		for range 2 {
			k.round(t.Context())
			later += time.Hour
		}
	}
	serves(t, p, l.Addr())
	logged := func() string { return first(t, direct, "SELECT count(*) FROM qvpgw.changes") }
	if got := logged(); got != "1" {
		t.Fatalf("%s changes are logged", got)
	}

	pinned := connectTo(t, addr, pgtest.Superuser, database)
	run(t, pinned, "BEGIN")
	rounds()
	if got := first(t, pinned, "SELECT 1"); got != "1" || logged() != "1" {
		t.Errorf("while a client has the only connection, its statement gives %s, %s changes are logged", got, logged())
	}
	other := connectTo(t, addr, pgtest.Superuser, database)
	answer := make(chan error, 1)
	go func() { answer <- other.Exec(context.Background(), "SELECT 1").Close() }()
	rounds()
	select {
	case err := <-answer:
		t.Errorf("a second client had an answer although there is no connection: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	run(t, pinned, "COMMIT")
	if err := <-answer; err != nil {
		t.Errorf("the second client's answer is %v", err)
	}
	for limit := time.Now().Add(20 * time.Second); logged() != "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the keeper did not prune although a connection is free:\n%s", said.String())
		}
		rounds()
	}
}

// serves runs p until the end of the test.
func serves(t *testing.T, p *program, addr net.Addr) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.serve(ctx, nil, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the gateway on %s ended with %v", addr, err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
}
