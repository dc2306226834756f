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
// cost while they do nothing; then it lets some of them work. One pooler comes after
// the other: few machines let a process have the files for both.
func benchIdle(t *testing.T, b *benchBed) {
	allowFiles(t, b.idle+1000)
	one := b.oneAccount(t)
	var bytes []float64
	spread := map[string]float64{}
	for _, target := range []benchTarget{b.bouncer(t, ""), b.gateway(t, "")} {
		t.Run(target.name, func(t *testing.T) {
			f, each := b.idleClients(t, target, b.idle)
			bytes = append(bytes, each)
			f = f.Part(0, b.active)
			b.load(t, f, bench.Run{Script: one, Protocol: bench.Simple, Count: 5})
			var rounds []*bench.Latencies
			for range b.rounds {
				rounds = append(rounds, b.load(t, f, bench.Run{Script: one, Protocol: bench.Simple, Duration: b.length, Count: b.each(b.active)}).Latencies)
			}
			spread[target.name] = medianOf(rounds, nil, func(l *bench.Latencies) float64 { return seconds(l, 0.99) / seconds(l, 0.5) })
			fmt.Printf("%s, %d clients of %d at work: p50 %.2f ms, p99 %.2f ms, p99/p50 %.2f\n", target.name, b.active, b.idle,
				1e3*medianOf(rounds, nil, func(l *bench.Latencies) float64 { return seconds(l, 0.5) }),
				1e3*medianOf(rounds, nil, func(l *bench.Latencies) float64 { return seconds(l, 0.99) }), spread[target.name])
		})
	}
	b.idleFigures(t, "bench.idle", bytes)
	b.figure(t, "bench.10k.p99_over_p50", spread["qvpgw"])
	b.figure(t, "bench.10k.pgbouncer.p99_over_p50", spread["pgbouncer"])
}

// benchIdleTLS is the first half of benchIdle with TLS to the clients.
func benchIdleTLS(t *testing.T, b *benchBed) {
	allowFiles(t, b.idleTLS+1000)
	var bytes []float64
	for _, target := range b.tlsTargets(t) {
		t.Run(target.name, func(t *testing.T) {
			_, each := b.idleClients(t, target, b.idleTLS)
			bytes = append(bytes, each)
		})
	}
	b.idleFigures(t, "bench.idle_tls", bytes)
}

func seconds(l *bench.Latencies, share float64) float64 { return l.Percentile(share).Seconds() }

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
	start := time.Now()
	before := benchRSS(t, target.pid)
	f = b.fleet(t, bench.Options{DSN: target.dsn, Clients: n})
	for first := 0; first < n; first += benchPool {
		b.load(t, f.Part(first, min(first+benchPool, n)), bench.Run{Script: one, Protocol: bench.Simple, Count: 1})
	}
	t.Logf("%d clients came within %v", n, time.Since(start))
	time.Sleep(b.settle)
	return f, float64(benchRSS(t, target.pid)-before) / float64(n)
}

func (b *benchBed) idleFigures(t *testing.T, name string, bytes []float64) {
	t.Helper()
	if len(bytes) != 2 {
		t.FailNow() // a pooler's part said why
	}
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
