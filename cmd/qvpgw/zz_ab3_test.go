package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

// ABBIN="name=path[,ENV=V...] ..." ABSETS="simple:1 ..." ABROUNDS ABSECS
func TestZZAB3(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	env := func(n, d string) string {
		if v := os.Getenv(n); v != "" {
			return v
		}
		return d
	}
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	c.Pgbench(t, dsn, "-i", "-q", "-s", "5")
	r := fullBench
	r.idle = 100
	r.rounds, _ = strconv.Atoi(env("ABROUNDS", "7"))
	secs, _ := strconv.Atoi(env("ABSECS", "1"))
	r.length = time.Duration(secs) * time.Second
	b := &benchBed{benchRun: r, Cluster: c, dsn: dsn, database: database}
	port := 26432 + os.Getpid()%1000
	lines := env("ABCONF", "")
	start := func(name, path string, envs []string) benchTarget {
		port++
		dir := t.TempDir()
		os.WriteFile(dir+"/config.yaml", fmt.Appendf(nil, "listen: 127.0.0.1:%d\nhttp: \"\"\nlog: {level: warn}\nbackend: {host: 127.0.0.1, port: %d, database: %s, user: postgres, sslmode: disable}\npool: {size: 20, overflow: 0}\nauth: {method: trust}\nschema: {migrate: false}\n%s\n", port, b.Port, database, lines), 0o600)
		cmd := exec.Command(path, "serve")
		cmd.Dir = dir
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, envs...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		time.Sleep(1500 * time.Millisecond)
		return benchTarget{name: name, dsn: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database), pid: cmd.Process.Pid}
	}
	targets := []benchTarget{b.bouncer(t, "")}
	for _, f := range strings.Fields(os.Getenv("ABBIN")) {
		name, path, _ := strings.Cut(f, "=")
		parts := strings.Split(path, ",")
		targets = append(targets, start(name, parts[0], parts[1:]))
	}
	for _, set := range strings.Fields(env("ABSETS", "simple:1 simple:8 simple:64 prepared:8 prepared:64")) {
		p := strings.Split(set, ":")
		protocol := p[0]
		n, _ := strconv.Atoi(p[1])
		var warm, measure func(benchTarget) benchSample
		if len(p) > 2 && p[2] == "mixed" {
			if !strings.Contains(b.Psql(t, b.dsn, "-c", "SELECT count(*) FROM pg_class WHERE relname='mixed_kv'"), "1") {
				b.Psql(t, b.dsn, "-c", mixedTables)
			}
			warm, measure = b.pgbench(t, protocol, n, b.mixedScripts(t, protocol)...)
		} else {
			warm, measure = b.pgbench(t, protocol, n, "-S")
		}
		before := make([]map[string]float64, len(targets))
		for i := range targets {
			warm(targets[i])
			before[i] = threads(targets[i].pid)
		}
		s := make([][]benchSample, len(targets))
		for k := range b.rounds {
			for j := range targets {
				i := (j + k) % len(targets)
				s[i] = append(s[i], measure(targets[i]))
			}
		}
		for i := range targets {
			sec := 0.0
			for _, x := range s[i] {
				sec += x.tps * r.length.Seconds()
			}
			fmt.Printf("%-9s %2d %-12s tps %6.0f (%.2f)  cpu %5.1f (%.2f of pgb, %.3f of 1st)  threads:", protocol, n, targets[i].name, medianOf(s[i], nil, sampleTPS), medianOf(s[i], s[0], sampleTPS), medianOf(s[i], nil, sampleCPU), medianOf(s[i], s[0], sampleCPU), medianOf(s[i], s[min(1, len(s)-1)], sampleCPU))
			for k, v := range threads(targets[i].pid) {
				if d := (v - before[i][k]) / sec; d > 0.05 {
					fmt.Printf(" %.2f", d)
				}
			}
			fmt.Println()
		}
	}
}

// µs of each thread
func threads(pid int) map[string]float64 {
	m := map[string]float64{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		v, _ := strconv.ParseFloat(strings.Fields(string(b) + " 0")[0], 64)
		m[f] = v / 1000
	}
	return m
}
