package config

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} by lookup's answers. As in the
// shell, the default holds when the name is unset or empty; ${NAME} alone must be
// set. $${ stands for ${ itself; any other $ is only a $. Replacements are not
// expanded again.
func expand(s string, lookup func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		s = s[i+2:]
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", fmt.Errorf("${ without its }; write ${NAME} or ${NAME:-default}, or $${ for the characters themselves")
		}
		name, fallback, hasFallback := strings.Cut(s[:end], ":-")
		s = s[end+1:]
		if !isName(name) {
			return "", fmt.Errorf("${%s} names no environment variable; write ${NAME} or ${NAME:-default}", name)
		}
		value, set := lookup(name)
		switch {
		case set && value != "":
		case hasFallback:
			value = fallback
		case !set:
			return "", fmt.Errorf("the environment has no %s; set it, or write ${%s:-default}", name, name)
		}
		out.WriteString(value)
	}
}

// isName reports whether s can name an environment variable: [A-Za-z_][A-Za-z0-9_]*.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
