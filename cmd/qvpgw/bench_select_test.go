package main

import (
	"fmt"
	"strings"
	"testing"
)

// benchSelect is pgbench -S: as little work as a server can have.
func benchSelect(t *testing.T, b *benchBed) {
	targets := []benchTarget{{name: "direct", dsn: b.dsn}, b.bouncer(t, ""), b.gateway(t, "")}
	table := newBenchTable("select-only")
	for _, protocol := range []string{"simple", "prepared"} {
		for _, clients := range b.clients {
			warm, measure := b.pgbench(t, protocol, clients, "-S")
			r := summarise(b.alternate(targets, warm, measure))
			table.add(protocol, clients, r)
			for name, v := range r.figures() {
				if b.full && v <= 0 {
					t.Errorf("bench.%s.%d.%s is %v", protocol, clients, name, v)
				}
				b.figure(t, fmt.Sprintf("bench.%s.%d.%s", protocol, clients, name), v)
			}
		}
	}
	fmt.Print(table)
}

// benchResult is one cell over all rounds: medians.
type benchResult struct {
	direct, bouncer, gateway benchSample
	vsBouncer, vsDirect      float64 // transactions/s of the gateway to theirs
	cpuVsBouncer             float64
}

// summarise takes PgBouncer's and the gateway's samples, before them perhaps those of
// no pooler.
func summarise(s [][]benchSample) (r benchResult) {
	median := func(x []benchSample) benchSample {
		return benchSample{tps: medianOf(x, nil, sampleTPS), cpu: medianOf(x, nil, sampleCPU)}
	}
	if len(s) == 3 {
		r.direct, r.vsDirect = median(s[0]), medianOf(s[2], s[0], sampleTPS)
		s = s[1:]
	}
	r.bouncer, r.gateway = median(s[0]), median(s[1])
	r.vsBouncer, r.cpuVsBouncer = medianOf(s[1], s[0], sampleTPS), medianOf(s[1], s[0], sampleCPU)
	return r
}

// figures are what is printed of a cell, by the end of the figure's name.
func (r benchResult) figures() map[string]float64 {
	f := map[string]float64{
		"tps": r.gateway.tps, "vs_pgbouncer": r.vsBouncer,
		"cpu_us": r.gateway.cpu, "cpu_vs_pgbouncer": r.cpuVsBouncer,
	}
	if r.direct.tps > 0 {
		f["vs_direct"] = r.vsDirect
	}
	return f
}

// benchTable is the comparison for people; - stands for what was not measured.
type benchTable struct{ strings.Builder }

func newBenchTable(what string) *benchTable {
	t := &benchTable{}
	fmt.Fprintf(t, "%-9s %7s  %30s  %20s  %26s\n", what, "", "transactions/s", "qvpgw's to", "pooler's µs a transaction")
	fmt.Fprintf(t, "%-9s %7s  %9s %10s %9s  %10s %9s  %10s %7s %7s\n",
		"protocol", "clients", "direct", "pgbouncer", "qvpgw", "pgbouncer", "direct", "pgbouncer", "qvpgw", "ratio")
	return t
}

func (t *benchTable) add(protocol string, clients int, r benchResult) {
	direct, vsDirect := "-", "-"
	if r.direct.tps > 0 {
		direct, vsDirect = fmt.Sprintf("%.0f", r.direct.tps), fmt.Sprintf("%.2f", r.vsDirect)
	}
	fmt.Fprintf(t, "%-9s %7d  %9s %10.0f %9.0f  %10.2f %9s  %10.1f %7.1f %7.2f\n", protocol, clients,
		direct, r.bouncer.tps, r.gateway.tps, r.vsBouncer, vsDirect, r.bouncer.cpu, r.gateway.cpu, r.cpuVsBouncer)
}
