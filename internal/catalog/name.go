package catalog

import "strings"

// String is the name as SQL, each part quoted.
func (n Name) String() string { return Quote(n.Schema) + "." + Quote(n.Name) }

// Quote quotes an identifier.
func Quote(identifier string) string {
	return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"`
}

// Literal writes a string literal that means the same whatever
// standard_conforming_strings says.
func Literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		q = "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
