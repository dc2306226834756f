package demo

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The table is 120 columns wide.
const rowFormat = "%2s  %-30s  %-8s  %-34s %4s  %9s  %9s %5s  %-5s\n"

func (t *tour) head() {
	fmt.Fprintf(t.out, rowFormat, "", "statement", "protocol", "route and reason", "rows", "gateway", "route=off", "gain", "equal")
	fmt.Fprintln(t.out, strings.Repeat("-", 120))
}

func (t *tour) row(number int, s step, o outcome) {
	without, gain := "", ""
	if o.without > 0 && o.through > 0 {
		without = short(o.without)
		gain = fmt.Sprintf("%.1fx", float64(o.without)/float64(o.through))
		if o.without >= 10*o.through {
			gain = fmt.Sprintf("%.0fx", float64(o.without)/float64(o.through))
		}
	}
	fmt.Fprintf(t.out, rowFormat, fmt.Sprint(number), clip(s.title, 30), s.query.protocol, clip(o.route, 34),
		grouped(o.rows), short(o.through), without, gain, o.verdict)
	if o.note != "" || utf8.RuneCountInString(o.route) > 34 {
		t.notes = append(t.notes, fmt.Sprintf("%2d  %s: %s", number, o.route, o.note))
	}
}

// foot writes what is to be said about single lines, and the figures.
func (t *tour) foot() {
	fmt.Fprintln(t.out)
	for _, n := range t.notes {
		fmt.Fprintln(t.out, n)
	}
	if n := t.result.WithinBound; n > 0 {
		fmt.Fprintf(t.out, "%d of the equal lines hold averages of floats that were summed in another order, equal within 2n/2^53 of their value.\n", n)
	}
	fmt.Fprintf(t.out, "figure demo.lines %d\nfigure demo.unequal %d\n", t.result.Lines, t.result.Unequal)
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
