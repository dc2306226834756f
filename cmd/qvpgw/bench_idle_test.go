package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"qvpgw/internal/bench"
	"qvpgw/internal/pgtest"
)

// benchIdle logs many clients in, lets each run one statement, and measures what they
// cost while they do nothing; then it lets some of them work.
func benchIdle(t *testing.T, b *benchBed) {
	allowFiles(t, 2*b.idle+1000)
	targets := []benchTarget{b.bouncer(t, ""), b.gateway(t, "")}
	fleets := make([]*bench.Fleet, len(targets))
	bytes := make([]float64, len(targets))
	for i, target := range targets {
		fleets[i], bytes[i] = b.idleClients(t, target, b.idle)
	}
	b.idleFigures(t, "bench.idle", bytes)

	one := b.oneAccount(t)
	run := func(i int, r bench.Run) *bench.Latencies {
		return b.load(t, fleets[i].Part(0, b.active), r).Latencies
	}
	spread := make([][]*bench.Latencies, len(targets))
	for i := range targets {
		run(i, bench.Run{Script: one, Protocol: bench.Simple, Count: 5})
	}
	for range b.rounds {
		for i := range targets {
			spread[i] = append(spread[i], run(i, bench.Run{Script: one, Protocol: bench.Simple, Duration: b.length, Count: b.each(b.active)}))
		}
	}
	fmt.Printf("%d clients of %d at work %16s %10s %10s\n", b.active, b.idle, "p50", "p99", "p99/p50")
	for i, target := range targets {
		p50 := medianOf(spread[i], nil, func(l *bench.Latencies) float64 { return l.Percentile(0.5).Seconds() })
		p99 := medianOf(spread[i], nil, func(l *bench.Latencies) float64 { return l.Percentile(0.99).Seconds() })
		ratio := medianOf(spread[i], nil, func(l *bench.Latencies) float64 {
			return l.Percentile(0.99).Seconds() / l.Percentile(0.5).Seconds()
		})
		fmt.Printf("  %-30s %7.2f ms %7.2f ms %10.2f\n", target.name, p50*1e3, p99*1e3, ratio)
		name := "bench.10k.p99_over_p50"
		if i == 0 {
			name = "bench.10k.pgbouncer.p99_over_p50"
		}
		b.figure(t, name, ratio)
	}
}

// benchIdleTLS is the first half of benchIdle with TLS to the clients.
func benchIdleTLS(t *testing.T, b *benchBed) {
	allowFiles(t, 2*b.idleTLS+1000)
	var bytes []float64
	for _, target := range b.tlsTargets(t) {
		_, each := b.idleClients(t, target, b.idleTLS)
		bytes = append(bytes, each)
	}
	b.idleFigures(t, "bench.idle_tls", bytes)
}

// idleClients logs n clients in, lets each run one statement, and returns what the
// pooler's resident memory grew by for each of them. The pooler has all its server
// connections and has worked before. Resident memory is what an operator sees after
// b.settle without a statement: memory that a collector has freed and not yet given
// back counts.
func (b *benchBed) idleClients(t *testing.T, target benchTarget, n int) (f *bench.Fleet, each float64) {
	t.Helper()
	warm := b.fleet(t, bench.Options{DSN: target.dsn, Clients: benchPool})
	b.load(t, warm, bench.Run{Script: b.script(t, "SELECT pg_sleep(0.05)"), Protocol: bench.Simple, Count: 1})
	one := b.oneAccount(t)
	b.load(t, warm, bench.Run{Script: one, Protocol: bench.Simple, Count: 50})
	time.Sleep(b.settle / 5)
	before := benchRSS(t, target.pid)
	f = b.fleet(t, bench.Options{DSN: target.dsn, Clients: n})
	for first := 0; first < n; first += benchPool {
		b.load(t, f.Part(first, min(first+benchPool, n)), bench.Run{Script: one, Protocol: bench.Simple, Count: 1})
	}
	time.Sleep(b.settle)
	return f, float64(benchRSS(t, target.pid)-before) / float64(n)
}

func (b *benchBed) idleFigures(t *testing.T, name string, bytes []float64) {
	fmt.Printf("%s: resident bytes for each idle client: pgbouncer %.0f, qvpgw %.0f\n", name, bytes[0], bytes[1])
	if !b.full {
		return // a hundred clients may fit into what is resident already
	}
	if bytes[0] <= 0 {
		t.Fatalf("PgBouncer has no memory for idle clients: %v", bytes)
	}
	b.figure(t, name+".bytes_per_client", bytes[1])
	b.figure(t, name+".pgbouncer.bytes_per_client", bytes[0])
	b.figure(t, name+".vs_pgbouncer", bytes[1]/bytes[0])
}

func benchRSS(t *testing.T, pid int) int64 {
	t.Helper()
	n, err := pgtest.RSS(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// allowFiles lets this process and those that it starts from now on have n files open.
func allowFiles(t *testing.T, n int) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = max(limit.Cur, uint64(n))
	limit.Max = max(limit.Max, limit.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("cannot have %d files open (ulimit -n): %v", n, err)
	}
}
