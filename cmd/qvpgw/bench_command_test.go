package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"qvpgw/internal/pgtest"
)

func TestBenchPrintsRoundsRatiosAndFigures(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	c.Psql(t, dsn, "-c", "CREATE TABLE sent (n int)")
	file := filepath.Join(t.TempDir(), "transaction.sql")
	if err := os.WriteFile(file, []byte("BEGIN;\nINSERT INTO sent VALUES ({1..9});\nCOMMIT;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		var out strings.Builder
		root := command(&out, &out)
		root.SetArgs(append([]string{"bench"}, args...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}

	out, err := run(dsn, "--against", dsn, "--clients", "2", "--time", "50ms", "--rounds", "3", "--protocol", "prepared", "--file", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for pattern, want := range map[string]int{
		`(?m)^(tested|against) +[123] +[1-9][0-9]*  +[0-9.]+ +[0-9.]+ +[0-9.]+  0$`: 6,
		`(?m)^figure load\.(tested|against)\.(tps|p50_ms|p95_ms|p99_ms) [0-9.]+$`:   8,
		`(?m)^figure load\.(tested|against)\.errors 0$`:                             2,
		`(?m)^figure load\.ratio\.(tps|p50|p95|p99) [0-9.]+$`:                       4,
	} {
		if got := len(regexp.MustCompile(pattern).FindAllString(out, -1)); got != want {
			t.Errorf("%d lines are like %s, not %d:\n%s", got, pattern, want, out)
		}
	}
	if n := c.Psql(t, dsn, "-c", "SELECT count(*) > 6 AND min(n) >= 1 AND max(n) <= 9 FROM sent"); n != "t\n" {
		t.Errorf("the server has not what was sent: %s", n)
	}

	out, err = run(dsn, "--time", "20ms", "--statement", "SELECT 1/0")
	if err != nil || !strings.Contains(out, "22012") || !strings.Contains(out, "figure load.tested.tps 0\n") || strings.Contains(out, "ratio") {
		t.Errorf("failing statements: %v\n%s", err, out)
	}

	for _, bad := range [][]string{
		{dsn, "--protocol", "binary"},
		{dsn, "--time", "0s"},
		{dsn, "--clients", "0"},
		{dsn, "--statement", ""},
		{dsn, "--file", filepath.Join(t.TempDir(), "none")},
		{dsn, "--file", file, "--statement", "SELECT 1"},
		{"postgres://127.0.0.1:1/x?sslmode=disable"},
		{dsn, dsn},
	} {
		if out, err := run(bad...); err == nil {
			t.Errorf("%q ran:\n%s", bad, out)
		}
	}
}
