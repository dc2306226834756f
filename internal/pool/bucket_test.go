package pool

import (
	"slices"
	"testing"
)

func TestARoleIsPutOffFirstAndOnLast(t *testing.T) {
	b := newBuckets()
	plain := []Setting{{"work_mem", "SET work_mem TO '1MB'"}}
	role := []Setting{
		{"app.x", "SET app.x TO '1'"},
		{"role", "SET role TO 'r'"},
		{"session_authorization", "SET session_authorization TO 'u'"},
		{"zone", "SET zone TO 'z'"},
	}
	for _, c := range []struct {
		from, to []Setting
		want     []string
	}{
		{nil, plain, []string{"SET work_mem TO '1MB'"}},
		{plain, role, []string{"SET app.x TO '1'", `RESET "work_mem"`, "SET zone TO 'z'", "SET session_authorization TO 'u'", "SET role TO 'r'"}},
		{role, plain, []string{"RESET role", "RESET session_authorization", `RESET "app"."x"`, "SET work_mem TO '1MB'", `RESET "zone"`}},
		{role, role[:2], []string{"RESET role", "RESET session_authorization", `RESET "zone"`, "SET role TO 'r'"}},
		{role, role, nil},
	} {
		if got := Switch(b.intern(slices.Clone(c.from)), b.intern(slices.Clone(c.to))); !slices.Equal(got, c.want) {
			t.Errorf("from %v to %v:\n got %q\nwant %q", c.from, c.to, got, c.want)
		}
	}
}
