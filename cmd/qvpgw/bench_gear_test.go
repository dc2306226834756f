package main

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"qvpgw/internal/bench"
)

// benchGear measures what the clients of the first gear do to one of the second: its
// p99 beside 64 that saturate the first gear, and beside 64 of its own kind. Its
// statement has another text each time, which no plan is known for.
func benchGear(t *testing.T, b *benchBed) {
	targets := []benchTarget{b.gateway(t, benchForced("auto")), b.gateway(t, benchForced("second"))}
	targets[0].name, targets[1].name = "first gear", "second gear"
	probe := b.script(t, fmt.Sprintf("SELECT abalance AS as_{1..2000000000} FROM pgbench_accounts WHERE aid = {1..%d}", b.scale*100000))
	samples := make([][]*bench.Latencies, len(targets))
	fleets := make([]*bench.Fleet, len(targets))
	for i, target := range targets {
		fleets[i] = b.fleet(t, bench.Options{DSN: target.dsn, Clients: 1})
		b.load(t, fleets[i], bench.Run{Script: probe, Protocol: bench.Simple, Count: 100})
	}
	for range b.rounds {
		for i, target := range targets {
			ended := b.saturate(t, target, b.length+time.Second)
			time.Sleep(300 * time.Millisecond) // logging in is over
			r := bench.Run{Script: probe, Protocol: bench.Simple, Duration: b.length, Count: b.each(32)}
			samples[i] = append(samples[i], b.load(t, fleets[i], r).Latencies)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
	}
	p99 := func(l *bench.Latencies) float64 { return seconds(l, 0.99) }
	for i, target := range targets {
		fmt.Printf("one client of the second gear beside 64 of the %s: p50 %.2f ms, p99 %.2f ms\n", target.name,
			1e3*medianOf(samples[i], nil, func(l *bench.Latencies) float64 { return seconds(l, 0.5) }), 1e3*medianOf(samples[i], nil, p99))
	}
	b.figure(t, "bench.mixed_gear.p99_ratio", medianOf(samples[0], samples[1], p99))
}

// saturate starts 64 clients of pgbench -S; the channel gets the outcome.
func (b *benchBed) saturate(t *testing.T, target benchTarget, length time.Duration) <-chan error {
	cmd := b.Command(t.Context(), "pgbench", "-n", "-S", "-M", "prepared", "-c", "64", "-j", "2", "-T", strconv.Itoa(int(length/time.Second)), target.dsn)
	ended := make(chan error, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("cannot run pgbench: %w: %s", err, out)
		}
		ended <- err
	}()
	return ended
}

// benchForced is the configuration that forces a gear.
func benchForced(gear string) string { return "engine:\n  gear: " + gear + "\n" }
