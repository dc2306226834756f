package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/config"
	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// TestUpDownUpDumpsTheSame migrates an empty database up, to 0 and up again, with
// the policies of the shipped configuration, and compares what pg_dump says of it
// through the gateway.
func TestUpDownUpDumpsTheSame(t *testing.T) {
	tools := pgtest.Tools(t)
	differ := 0
	t.Run("native", func(t *testing.T) {
		c := pgtest.Native(t)
		const name = "roundtrip"
		if err := c.Exec(t.Context(), "postgres", "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.DropDatabase(context.Background(), name); err != nil {
				t.Error(err)
			}
		})
		differ += roundtrip(t, tools, c.DSN(name), func(t *testing.T) string {
			_, addr := startGateway(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
auth: {method: trust}
schema: {migrate: false}
`, c.Port, name, pgtest.Superuser))
			return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgtest.Superuser, addr, name)
		})
	})
	t.Run("embedded", func(t *testing.T) {
		backend := pgtest.OwnEmbedded(t)
		differ += roundtrip(t, tools, backend.DSN(), func(t *testing.T) string {
			return "postgres://postgres@" + serveDemo(t, backend.Addr()) + "/qvp?sslmode=disable"
		})
	})
	figure.Print(t, "schema.roundtrip.differs", differ)
}

// roundtrip returns how many entries of the dumps differ.
func roundtrip(t *testing.T, tools *pgtest.Root, dsn string, gateway func(*testing.T) string) (differ int) {
	m := schema.NewMigrator(dsn, schema.Options{Policies: policies(config.Default())})
	dumps := map[string][]string{}
	dump := func(name string) {
		t.Run(name, func(t *testing.T) { // its gateway ends with it: the backend may have one session
			dumps[name] = entries(tools.PgDump(t, gateway(t), "--schema-only", "--restrict-key=qvpgw"))
		})
	}
	must := func(step string, to func(context.Context) (schema.Result, error)) schema.Result {
		t.Helper()
		r, err := to(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		return r
	}
	up := must("up", m.Up)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	report, err := schema.Doctor(t.Context(), schema.ConnQuery(conn), schema.DoctorOptions{})
	_ = conn.Close(t.Context())
	if err != nil || !report.Healthy() {
		t.Errorf("doctor says %v\n%s", err, report.Text())
	}
	dump("first")
	zero := func(ctx context.Context) (schema.Result, error) { return m.Goto(ctx, 0) }
	must("down to 0", zero)
	dump("empty")
	again := must("up again", m.Up)
	if !slices.Equal(again.Policies.Changes, up.Policies.Changes) || len(again.Policies.Unsettled()) > 0 {
		t.Errorf("the second up changed the policies\n%s\nthe first\n%s", again.Policies.Text(), up.Policies.Text())
	}
	dump("second")
	must("down to 0 again", zero)
	dump("empty again")
	for _, pair := range [][2]string{{"first", "second"}, {"empty", "empty again"}} {
		a, b := dumps[pair[0]], dumps[pair[1]]
		if len(a) < 5 {
			t.Errorf("the %s dump has %d entries: %q", pair[0], len(a), a)
		}
		for _, e := range apart(a, b) {
			differ++
			t.Errorf("only in the %s dump:\n%s", pair[0], e)
		}
		for _, e := range apart(b, a) {
			differ++
			t.Errorf("only in the %s dump:\n%s", pair[1], e)
		}
	}
	t.Logf("%d entries with the schema, %d without", len(dumps["first"]), len(dumps["empty"]))
	if len(dumps["first"]) < len(dumps["empty"])+30 {
		t.Error("the dump of the schema has hardly anything in it: the comparison sees nothing")
	}
	return differ
}

// numbered are the names and arguments in which TimescaleDB writes the number of a
// hypertable, from a sequence that dropping one does not set back.
var numbered = regexp.MustCompile(`(_materialized_hypertable_|_compressed_hypertable_|_partial_view_|_direct_view_|invalidation_trigger\('|cagg_watermark\()(\d+)`)

// entries splits a dump at its objects, with TimescaleDB's numbers replaced by
// their order, and sorts them: pg_dump sorts by name, in which 10 is before 9.
func entries(dump string) []string {
	var numbers []int
	for _, m := range numbered.FindAllStringSubmatch(dump, -1) {
		if n, err := strconv.Atoi(m[2]); err == nil && !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	dump = numbered.ReplaceAllStringFunc(dump, func(s string) string {
		m := numbered.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		return m[1] + "#" + strconv.Itoa(slices.Index(numbers, n)+1)
	})
	list := strings.Split(dump, "\n--\n-- Name: ")
	slices.Sort(list)
	return list
}

// apart lists what a has and b has not, in sorted lists.
func apart(a, b []string) (only []string) {
	left := slices.Clone(b)
	for _, e := range a {
		if i := slices.Index(left, e); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			only = append(only, e)
		}
	}
	return only
}

func TestNumbersOfHypertablesAreComparedByTheirOrder(t *testing.T) {
	made := func(a, b int) string {
		return fmt.Sprintf("\n--\n-- Name: _materialized_hypertable_%d\nx\n--\n-- Name: _materialized_hypertable_%d\ny('%[1]d')\n", a, b)
	}
	if only := apart(entries(made(2, 3)), entries(made(9, 10))); len(only) != 1 || !strings.Contains(only[0], "y('2')") {
		t.Errorf("apart are %q: of numbers elsewhere nothing is known", only)
	}
	if only := apart(entries("a"+made(2, 3)), entries("b"+made(2, 3))); len(only) != 1 {
		t.Errorf("apart are %q", only)
	}
}
