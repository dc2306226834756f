package catalog

import "strings"

// String is the name as SQL, each part quoted.
func (n Name) String() string { return Quote(n.Schema) + "." + Quote(n.Name) }

// Quote quotes an identifier.
func Quote(identifier string) string {
	return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"`
}
