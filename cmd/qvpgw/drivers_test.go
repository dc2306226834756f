package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// driversAtOnce is how many programs run at one time with QVPGW_DRIVERS=full;
// driversPool is how many server connections they share.
const (
	driversAtOnce = 16
	driversPool   = 4
	driversLimit  = 4 * time.Minute // for one program
)

// instance is one run of a driver's program, in a schema of its own.
type instance struct {
	pgtest.Driver
	schema string
	env    []string
}

// TestDrivers has the programs of the folder drivers say what they see of the
// server itself and then, all at once over few server connections, of the gateway:
// every line must be the same. QVPGW_DRIVERS=full runs all drivers and gives the
// figures; a list of names runs these once each, and without it the main ones.
func TestDrivers(t *testing.T) {
	drivers, full, runs := chosenDrivers(t)
	programs := pgtest.DriverPrograms(t, "../../drivers", drivers)
	c := pgtest.Native(t)
	dsn := c.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]

	var instances []instance
	for i := range runs {
		in := instance{Driver: drivers[i%len(drivers)], schema: fmt.Sprintf("drv_%02d", i+10)}
		in.env = driverFiles(t, programs, in, i+10)
		instances = append(instances, in)
	}
	setUp := func() {
		for _, in := range instances {
			setUpDriver(t, c, database, in)
		}
	}
	setUp()
	direct := runDrivers(t, programs, instances[:len(drivers)], c.Addr(), database)
	setUp()
	gateway := startDriversGateway(t, c, database)
	// What hangs is to be seen before it is ended.
	watch := time.AfterFunc(driversLimit-20*time.Second, func() {
		t.Errorf("programs do not come to their end:\n%s", gateway.stuck(t, c, database))
	})
	through := runDrivers(t, programs, instances, gateway.addr, database)
	watch.Stop()

	seen := gateway.read(t)
	report := driversReport(t, drivers, instances, direct, through)
	fmt.Print(report)
	fmt.Println(seen)
	if report.checks == 0 {
		t.Error("the programs checked nothing")
	}
	if (full || os.Getenv("QVPGW_DRIVERS") == "") && seen.unpinned() < 0.8 {
		t.Errorf("%.4f of the transactions left their connection free, want at least 0.8", seen.unpinned())
	}
	seesDifferences(t, c, gateway.addr, database, programs, instances[0], direct[0].text)
	if full {
		figure.Print(t, "drivers.count", len(drivers))
		figure.Print(t, "drivers.checks", report.checks)
		figure.Print(t, "drivers.unequal", report.unequal)
		figure.Print(t, "drivers.unpinned_share", seen.unpinned())
		figure.Print(t, "drivers.reserve_used", seen.reserve)
	}
}

// seesDifferences runs a program against a gateway before a database that is not the
// one it was compared with: a sequence counts otherwise.
func seesDifferences(t *testing.T, c *pgtest.Cluster, addr, database string, programs *pgtest.Programs, in instance, direct string) {
	t.Helper()
	setUpDriver(t, c, database, in)
	if err := c.Exec(t.Context(), database, "ALTER SEQUENCE "+in.schema+".counter INCREMENT BY 2"); err != nil {
		t.Fatal(err)
	}
	if n, _ := driverDiff(direct, runDrivers(t, programs, []instance{in}, addr, database)[0].text); n == 0 {
		t.Errorf("%s sees no difference between two databases that differ", in.Name)
	}
}

// setUpDriver makes an instance's schema as new.
func setUpDriver(t *testing.T, c *pgtest.Cluster, database string, in instance) {
	t.Helper()
	if err := c.Exec(t.Context(), database, "SET client_min_messages TO error; DROP SCHEMA IF EXISTS "+in.schema+" CASCADE"); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(t.Context(), database, driverText(t, "setup.sql", in.schema, 0)); err != nil {
		t.Fatal(err)
	}
}

// chosenDrivers are the drivers that QVPGW_DRIVERS asks for.
func chosenDrivers(t *testing.T) (chosen []pgtest.Driver, full bool, runs int) {
	want := os.Getenv("QVPGW_DRIVERS")
	for _, d := range pgtest.Drivers {
		if want == "full" || want == "" && d.Main || slices.Contains(strings.Split(want, ","), d.Name) {
			chosen = append(chosen, d)
		}
	}
	if len(chosen) == 0 {
		t.Fatalf("QVPGW_DRIVERS=%s names no driver", want)
	}
	if want == "full" {
		return chosen, true, driversAtOnce
	}
	return chosen, false, len(chosen)
}

// driverText is a shared file as an instance gets it.
func driverText(t *testing.T, name, schema string, number int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../drivers", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("{schema}", schema, "{n}", fmt.Sprint(number)).Replace(string(text))
}

// driverFiles writes the shared files for an instance and returns the environment
// that names them.
func driverFiles(t *testing.T, programs *pgtest.Programs, in instance, number int) []string {
	t.Helper()
	here, inside := programs.Files(t, in.Driver)
	for _, name := range []string{"steps.tsv", "styles.tsv", "types.tsv"} {
		if err := os.WriteFile(filepath.Join(here, name), []byte(driverText(t, name, in.schema, number)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"DRIVER_FILES=" + inside, "DRIVER_SCHEMA=" + in.schema, "PGOPTIONS=-c search_path=" + in.schema + ",public -c lock_timeout=60s"}
}

// runDrivers runs programs against an address, all at once, and returns what each
// printed, the names of schemas made equal.
func runDrivers(t *testing.T, programs *pgtest.Programs, instances []instance, addr, database string) []driverSaid {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), driversLimit)
	defer cancel()
	said := make([]driverSaid, len(instances))
	host, port, _ := strings.Cut(addr, ":")
	env := []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGDATABASE=" + database, "PGUSER=" + pgtest.Superuser, "PGSSLMODE=disable",
	}
	var group sync.WaitGroup
	for i, in := range instances {
		cmd, err := programs.Command(ctx, in.Driver, append(env, in.env...)...)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			start := time.Now()
			said[i].text = strings.ReplaceAll(driverSays(cmd), in.schema, "drv_NN")
			said[i].took = time.Since(start)
		})
	}
	group.Wait()
	return said
}

// driverSaid is what one program printed, and how long it took.
type driverSaid struct {
	text string
	took time.Duration
}

// driverSays is what a program printed, and how it ended if not well.
func driverSays(cmd *exec.Cmd) string {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(&out, "\nended: %v\n", err)
	}
	return out.String()
}

// driverCheck is the beginning of a check's line; psql's has its own line.
var driverCheck = regexp.MustCompile(`(?m)^(?:# )?[a-zA-Z][^:\n]*: `)

// driverRow is one driver's line of the table.
type driverRow struct {
	driver          string
	checks, runs    int
	unequal         int
	direct, through time.Duration // the longest run
}

type driversResult struct {
	rows            []driverRow
	checks, unequal int
}

// driversReport compares and shows the first differences.
func driversReport(t *testing.T, drivers []pgtest.Driver, instances []instance, direct, through []driverSaid) *driversResult {
	r := &driversResult{}
	for i, d := range drivers {
		want := direct[i].text
		row := driverRow{driver: d.Name, checks: len(driverCheck.FindAllString(want, -1)), direct: direct[i].took}
		if strings.Contains(want, "\nended: ") || row.checks == 0 {
			t.Errorf("%s did not come to its end against the server itself:\n%s", d.Name, lastLines(want, 10))
		}
		for k, in := range instances {
			if in.Name != d.Name {
				continue
			}
			row.runs++
			row.through = max(row.through, through[k].took)
			if n, text := driverDiff(want, through[k].text); n > 0 {
				row.unequal = max(row.unequal, n)
				t.Errorf("%s sees %d differences through the gateway:\n%s", d.Name, n, text)
			}
		}
		r.rows = append(r.rows, row)
		r.checks += row.checks
		r.unequal += row.unequal
	}
	return r
}

// String is the table.
func (r *driversResult) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-14s %7s %5s %7s %9s %9s\n", "driver", "checks", "runs", "equal", "direct s", "through s")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "%-14s %7d %5d %7d %9.1f %9.1f\n", row.driver, row.checks, row.runs, max(0, row.checks-row.unequal), row.direct.Seconds(), row.through.Seconds())
	}
	return b.String()
}

// maxDriverDiff bounds the differences shown of one run.
const maxDriverDiff = 12

// driverDiff counts the lines of want that got has otherwise, and shows the first.
func driverDiff(want, got string) (int, string) {
	if want == got {
		return 0, ""
	}
	a, b := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	var text strings.Builder
	n := 0
	for len(a) > 0 || len(b) > 0 {
		if len(a) > 0 && len(b) > 0 && a[0] == b[0] {
			a, b = a[1:], b[1:]
			continue
		}
		// The nearest line that both have again.
		i, j := resume(a, b)
		for k := range max(i, j) {
			if n++; n > maxDriverDiff {
				continue
			}
			if k < i {
				fmt.Fprintf(&text, "  server:  %s", short(a[k]))
			}
			if k < j {
				fmt.Fprintf(&text, "  gateway: %s", short(b[k]))
			}
		}
		a, b = a[i:], b[j:]
	}
	return n, text.String()
}

// resume finds how many lines of a and b to pass until they agree again.
func resume(a, b []string) (int, int) {
	for sum := 1; sum < len(a)+len(b); sum++ {
		for i := max(0, sum-len(b)+1); i <= sum && i < len(a); i++ {
			if a[i] == b[sum-i] {
				return i, sum - i
			}
		}
	}
	return len(a), len(b)
}

// short is a line of bearable length, with its newline.
func short(line string) string {
	line = strings.TrimRight(line, "\n")
	if len(line) > 400 {
		line = line[:400] + "…"
	}
	return line + "\n"
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
