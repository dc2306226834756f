package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of `go test -json`, as `go doc cmd/test2json` describes it.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string // "" for the package itself
	Output     string
	Elapsed    float64 // seconds
}

type summary struct {
	out     io.Writer
	verbose bool

	passed, failed int
	skipped        []string            // tests
	output         map[string][]string // of what runs, by package and test
	passedIn       map[string]int      // by package
	failedIn       map[string]int
}

func (s *summary) read(r io.Reader) error {
	s.output, s.passedIn, s.failedIn = map[string][]string{}, map[string]int{}, map[string]int{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				s.event(e)
			} else {
				fmt.Fprint(s.out, line) // the go command's own words
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the test events: %w", err)
		}
	}
}

func (s *summary) event(e event) {
	key := e.Package + e.ImportPath + "\x00" + e.Test
	switch e.Action {
	case "output", "build-output":
		if s.verbose && e.Action == "output" {
			fmt.Fprint(s.out, e.Output)
		} else {
			s.output[key] = append(s.output[key], e.Output)
		}
		return
	case "build-fail":
		fmt.Fprint(s.out, strings.Join(s.output[key], ""))
	case "pass":
		if e.Test != "" {
			s.passed++
			s.passedIn[e.Package]++
		} else if !s.verbose {
			fmt.Fprintf(s.out, "ok    %-40s %7.1fs %5d passed\n", e.Package, e.Elapsed, s.passedIn[e.Package])
		}
	case "fail":
		if e.Test != "" {
			s.failed++
			s.failedIn[e.Package]++
		} else if s.failedIn[e.Package] == 0 {
			s.failed++ // it did not build, panicked or ran out of time
		}
		if e.Test == "" {
			s.unended(key)
		}
		name := strings.TrimSpace(e.Package + " " + e.Test)
		fmt.Fprintf(s.out, "FAIL  %s %.1fs\n%s", name, e.Elapsed, strings.Join(s.output[key], ""))
	case "skip":
		if e.Test != "" {
			s.skipped = append(s.skipped, e.Package+" "+e.Test+"\n"+strings.Join(s.output[key], ""))
		}
	default:
		return
	}
	delete(s.output, key)
}

// unended prints what the tests of a package said that had no end: one of them hung or
// panicked.
func (s *summary) unended(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(s.output)) {
		if test, ok := strings.CutPrefix(key, pkg); ok && test != "" {
			fmt.Fprintf(s.out, "NO END  %s%s\n%s", strings.TrimSuffix(pkg, "\x00")+" ", test, strings.Join(s.output[key], ""))
			delete(s.output, key)
		}
	}
}

// finish prints the end and says whether all is well.
func (s *summary) finish(ci bool) bool {
	for _, text := range s.skipped {
		fmt.Fprint(s.out, "SKIP  "+text)
	}
	if n := len(s.skipped); n > 0 {
		fmt.Fprintf(s.out, "%d skipped\n", n)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed\n", s.passed, s.failed)
	return s.failed == 0 && s.passed > 0 && (!ci || len(s.skipped) == 0)
}
