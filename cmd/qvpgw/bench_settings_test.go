package main

import (
	"fmt"
	"strings"
	"testing"

	"qvpgw/internal/bench"
)

// benchSettings gives every client an application_name and a TimeZone of its own,
// which both poolers keep for it: with more clients than server connections hardly a
// transaction finds the settings it needs.
func benchSettings(t *testing.T, b *benchBed) {
	const clients = 64
	zones := strings.Fields(b.Psql(t, b.dsn, "-c", fmt.Sprintf(
		`SELECT name FROM pg_timezone_names WHERE name ~ '^(Asia|Europe)/' ORDER BY name LIMIT %d`, clients)))
	if len(zones) != clients {
		t.Fatalf("the server has %d time zones, not %d", len(zones), clients)
	}
	targets := []benchTarget{b.bouncer(t, ""), b.gateway(t, "")}
	fleets := map[string]*bench.Fleet{}
	for _, target := range targets {
		fleets[target.name] = b.fleet(t, bench.Options{DSN: target.dsn, Clients: clients, Settings: func(i int) map[string]string {
			return map[string]string{"application_name": "bench " + zones[i], "TimeZone": zones[i]}
		}})
	}
	// A client that works with another's settings divides by zero.
	own := b.script(t, "SELECT 1 / (current_setting('application_name') = 'bench ' || current_setting('TimeZone'))::int")
	one := b.oneAccount(t)
	table := newBenchTable("settings")
	var ratios []float64
	for _, protocol := range []bench.Protocol{bench.Simple, bench.Prepared} {
		measure := func(target benchTarget) benchSample {
			before := benchCPU(t, target.pid)
			res := b.load(t, fleets[target.name], bench.Run{Script: one, Protocol: protocol, Duration: b.length, Count: b.each(clients)})
			return newBenchSample(res.TPS(), benchCPU(t, target.pid)-before, float64(res.Transactions))
		}
		for _, target := range targets {
			b.load(t, fleets[target.name], bench.Run{Script: own, Protocol: protocol, Count: 20})
		}
		r := summarise(b.alternate(targets, measure, measure))
		table.add(string(protocol), clients, r)
		ratios = append(ratios, r.cpuVsBouncer)
		b.figure(t, fmt.Sprintf("bench.settings.%s.%d.cpu_vs_pgbouncer", protocol, clients), r.cpuVsBouncer)
		b.figure(t, fmt.Sprintf("bench.settings.%s.%d.vs_pgbouncer", protocol, clients), r.vsBouncer)
	}
	b.worst(t, fmt.Sprintf("bench.settings.%d.cpu_vs_pgbouncer", clients), ratios...)
	fmt.Print(table)
}
