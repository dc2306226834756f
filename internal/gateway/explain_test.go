package gateway

import (
	"strings"
	"testing"
)

func TestAnExplanationIsFoldedWhereItsSQLStaysTheSame(t *testing.T) {
	words, name := "'"+strings.Repeat("it''s long, ", 12)+"'", `"`+strings.Repeat("a name ", 20)+`"`
	array, mixed := "'{1"+strings.Repeat(",234", 200)+"}'", "'{1"+strings.Repeat(",234", 30)+", word}'"
	for _, long := range []string{
		"SQL: SELECT " + words + ", " + name + strings.Repeat(" AND column", 30),
		"Guard: SELECT id = ANY (" + array + ") AND " + mixed + " <> " + words,
	} {
		parts := folded(long)
		got := strings.Join(parts, "\n")
		if bare := func(s string) string { return strings.Join(strings.Fields(s), "") }; bare(got) != bare(long) {
			t.Errorf("%q is not the same as\n%s", long, got)
		}
		for _, text := range []string{words, name, mixed} {
			if strings.Contains(long, text) && !strings.Contains(got, text) {
				t.Errorf("%s is broken:\n%s", text, got)
			}
		}
		for _, p := range parts {
			if len(p) > maxLine+2 && !strings.Contains(p, words) && !strings.Contains(p, name) && !strings.Contains(p, mixed) {
				t.Errorf("a line has %d bytes: %q", len(p), p)
			}
		}
	}
	if got := folded("Action: pass"); len(got) != 1 || got[0] != "Action: pass" {
		t.Errorf("a short line became %q", got)
	}
}
