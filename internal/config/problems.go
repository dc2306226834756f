package config

import (
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong.
type Problem struct {
	Where string // "config.yaml:12", "POSTGRES_PORT", ".env:3"; "" for the configuration as a whole
	Text  string // what is wrong and what would be right
}

// Problems is everything that is wrong, in the order of the file. It is the error
// that Load returns.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, q := range p {
		lines[i] = q.Text
		if q.Where != "" {
			lines[i] = q.Where + ": " + q.Text
		}
	}
	return strings.Join(lines, "\n")
}

// sorted puts lines of one file in order, and leaves the rest as found.
func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		fa, la := splitLine(a.Where)
		fb, lb := splitLine(b.Where)
		if fa != fb {
			return 0
		}
		return la - lb
	})
	return p
}

func splitLine(where string) (file string, line int) {
	i := strings.LastIndexByte(where, ':')
	if i < 0 {
		return where, 0
	}
	n, err := strconv.Atoi(where[i+1:])
	if err != nil {
		return where, 0
	}
	return where[:i], n
}

// didYouMean returns `; did you mean "x"?` for the nearest candidate, or "".
func didYouMean(word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(best) + "?"
}

// distance is the Levenshtein distance in bytes. Words longer than any key are
// cut, so that its cost is bounded.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
