package figure

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Env names the file that Print appends to.
const Env = "QVPGW_FIGURES"

// TB is what Print needs of a testing.TB; programs do not link package testing.
type TB interface {
	Helper()
	Log(args ...any)
	Errorf(format string, args ...any)
}

// Print logs a figure and appends it to the file that $QVPGW_FIGURES names, if it
// is set. name has no spaces ("torture.foreign_rows"); its unit is in the name's
// documentation. The test fails when value is no number or the file cannot be
// written.
func Print[N int | int64 | uint64 | float64](t TB, name string, value N) {
	t.Helper()
	line, err := Line(name, float64(value))
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	t.Log(line)
	if path := os.Getenv(Env); path != "" {
		if err := appendLine(path, line); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// Line is the text of one figure, without a newline; four decimals at most.
func Line(name string, value float64) (string, error) {
	if name == "" || strings.ContainsAny(name, " \t\r\n") {
		return "", fmt.Errorf("cannot name a figure %q: it must be one word", name)
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return "", fmt.Errorf("cannot give %v as the figure %s: it is no number", value, name)
	}
	text := strconv.FormatFloat(value, 'f', 4, 64)
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	return "figure " + name + " " + text, nil
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot take down a figure: %w", err)
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		_ = f.Close() // the first error says it
		return fmt.Errorf("cannot take down a figure: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot take down a figure: %w", err)
	}
	return nil
}

// Newest returns the newest line of each name in text, sorted by name. Other lines
// are ignored.
func Newest(text string) []string {
	newest := map[string]string{}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "figure" {
			newest[words[1]] = strings.Join(words, " ")
		}
	}
	lines := make([]string, 0, len(newest))
	for _, line := range newest {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}
