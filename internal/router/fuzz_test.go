package router

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenTexts returns the statements of the golden files: the seed corpus.
func goldenTexts(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for block := range strings.SplitSeq(string(data), "\n\n") {
			var sql []string
			for line := range strings.Lines(block) {
				if !strings.HasPrefix(line, "=> ") && !strings.HasPrefix(line, "@ ") && !strings.HasPrefix(line, "#") {
					sql = append(sql, line)
				}
			}
			texts = append(texts, strings.TrimSpace(strings.Join(sql, "")))
		}
	}
	return texts
}

// Any text has a plan, the same one twice, under each state of the catalog; what
// was not understood is never anything but forwarded.
func FuzzPlan(f *testing.F) {
	for _, text := range goldenTexts(f) {
		f.Add(text)
	}
	known, _ := newRouter(fixture())
	blind, _ := newRouter(nil)
	c := plainContext()
	loose := plainContext()
	loose.ConformingStrings, loose.SettingsKnown = false, false
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range []*Router{known, blind} {
			for _, c := range []*Context{c, loose} {
				p := r.Plan(c, []byte(text))
				if again := r.Plan(c, []byte(text)); again.Action != p.Action || again.Pins != p.Pins || again.Reason != p.Reason {
					t.Fatalf("planned twice: %v and %v", p, again)
				}
				if p.Reason.Text() == "" {
					t.Fatalf("reason %q", p.Reason)
				}
				if p.Pins&PinUnparsed != 0 && (p.Action != Pass || p.Statements != nil) {
					t.Fatalf("unparsed and %v", p)
				}
				if (p.Action == Rewrite) != (p.Aggregates != nil) || (p.Action == Cached) != (p.KNN != nil) ||
					(p.Action == Local) != (p.Local != nil) || (p.Action == Refused) != (p.Refusal != nil) {
					t.Fatalf("action and answer differ: %v", p)
				}
				if (p.Action == Rewrite || p.Action == Cached) && (p.Pins != 0 || !c.SettingsKnown) {
					t.Fatalf("routed though it is not clean: %v", p)
				}
				if p.Pins != 0 && !p.Effects {
					t.Fatalf("pins without effects: %v", p)
				}
			}
		}
	})
}

// Two texts of one shape must have one classification: the plan of each is what
// it is when it is planned alone.
func TestAShapeNeverLendsAWrongPlan(t *testing.T) {
	texts := goldenTexts(t)
	shared, _ := newRouter(fixture())
	c := plainContext()
	for _, text := range texts {
		for _, variant := range []string{text, strings.ReplaceAll(text, "'", "'x"), strings.ReplaceAll(text, "1", "7"), strings.ToUpper(text)} {
			alone, _ := newRouter(fixture())
			want := strings.Join(describe(alone.Plan(c, []byte(variant))), "\n")
			if got := strings.Join(describe(shared.Plan(c, []byte(variant))), "\n"); got != want {
				t.Errorf("%q\nshared:\n%s\nalone:\n%s", variant, got, want)
			}
		}
	}
}
