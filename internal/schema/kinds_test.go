package schema

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/doctor.md anew")

const doctorPage = "../../docs/doctor.md"

// TestFindingsAreOnTheirPage holds the table of docs/doctor.md against kinds; with
// -update it writes it.
func TestFindingsAreOnTheirPage(t *testing.T) {
	const head = "| code | level | means | turns off | mended by |\n|---|---|---|---|---|\n"
	var rows strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s | %s |\n", k.Code, k.Level, k.Means, k.Off, k.Mend)
	}
	have, err := os.ReadFile(doctorPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(have), head)
	end := strings.Index(rest, "\n## ")
	if !found || end < 0 {
		t.Fatal("the page has no table of findings, or nothing behind it")
	}
	page := before + head + rows.String() + rest[end:]
	if *update {
		if err := os.WriteFile(doctorPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page != string(have) {
		t.Errorf("docs/doctor.md is not what the code says; run go test ./internal/schema -run FindingsAreOnTheirPage -update")
	}
}

func TestEveryFindingIsBroughtAboutByATest(t *testing.T) {
	tested := map[string]bool{}
	for _, a := range slices.Concat(nativeAilments, embeddedAilments, restartAilments) {
		tested[a.code] = true
	}
	codes := map[string]bool{}
	for _, k := range kinds {
		if codes[k.Code] {
			t.Errorf("there are two findings %s", k.Code)
		}
		codes[k.Code] = true
		if why, no := unmended[k.Code]; tested[k.Code] == no {
			t.Errorf("%s: mended in a test: %t, not to be mended: %q", k.Code, tested[k.Code], why)
		}
		if !regexp.MustCompile(`^[a-z-]+$`).MatchString(k.Code) || k.Means == "" {
			t.Errorf("%+v", k)
		}
	}
	for code := range unmended {
		tested[code] = true
	}
	for code := range tested {
		if !codes[code] {
			t.Errorf("a test is about %s, which is no finding", code)
		}
	}
}
