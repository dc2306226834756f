package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

// PBIN binary, PSET "simple:8", PCMD run with PID env while it works
func TestZZProf(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	c.Pgbench(t, dsn, "-i", "-q", "-s", "5")
	b := &benchBed{benchRun: fullBench, Cluster: c, dsn: dsn, database: database}
	b.idle = 100
	port := 27432 + os.Getpid()%1000
	dir := t.TempDir()
	os.WriteFile(dir+"/config.yaml", fmt.Appendf(nil, "listen: 127.0.0.1:%d\nhttp: \"127.0.0.1:%d\"\nlog: {level: warn}\nbackend: {host: 127.0.0.1, port: %d, database: %s, user: postgres, sslmode: disable}\npool: {size: 20, overflow: 0}\nauth: {method: trust}\nschema: {migrate: false}\n%s\n", port, port+1, b.Port, database, os.Getenv("ABCONF")), 0o600)
	var target benchTarget
	if os.Getenv("PBIN") == "pgbouncer" {
		target = b.bouncer(t, "")
	} else {
		cmd := exec.Command(os.Getenv("PBIN"), "serve")
		cmd.Dir = dir
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, strings.Fields(os.Getenv("PENV"))...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		time.Sleep(1500 * time.Millisecond)
		target = benchTarget{name: "x", dsn: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database), pid: cmd.Process.Pid}
	}
	p := strings.Split(os.Getenv("PSET"), ":")
	k, _ := strconv.Atoi(p[1])
	args := []string{"-n", "-M", p[0], "-c", p[1], "-j", strconv.Itoa(min(2, k))}
	if len(p) > 2 {
		b.Psql(t, b.dsn, "-c", mixedTables)
		args = append(args, b.mixedScripts(t, p[0])...)
	} else {
		args = append(args, "-S")
	}
	c.Pgbench(t, target.dsn, append(args, "-t", "200")...)
	out := make(chan string, 1)
	before := threads(target.pid)
	go func() { out <- c.Pgbench(t, target.dsn, append(args, "-T", os.Getenv("PSECS"))...) }()
	time.Sleep(500 * time.Millisecond)
	cmd := exec.Command("bash", "-c", os.Getenv("PCMD"))
	cmd.Env = append(os.Environ(), "PID="+strconv.Itoa(target.pid), "HTTP=127.0.0.1:"+strconv.Itoa(port+1))
	o, err := cmd.CombinedOutput()
	fmt.Println(string(o), err)
	po := <-out
	n := benchNumber(t, benchCount, po)
	fmt.Println("tps", benchNumber(t, benchTPS, po))
	for k, v := range threads(target.pid) {
		fmt.Printf(" %s %.2f\n", k, (v-before[k])/n)
	}
}
