package auth

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Maps says which names of certificates, and of the operating system's users, may log
// in as which users, by the map's name.
type Maps map[string][]mapping

type mapping struct {
	system  string
	pattern *regexp.Regexp // of /pattern
	user    string         // with \1 for the pattern's first group
	all     bool
}

// ParseMaps reads lines of pg_ident.conf: MAP, name there, user. A
// failure is a *LineError for each bad line.
func ParseMaps(lines []string) (Maps, error) {
	m := Maps{}
	var failed []error
	for i, line := range lines {
		fields, err := tokens(line)
		switch {
		case err != nil:
			failed = append(failed, &LineError{i, err})
		case len(fields) == 0:
		case len(fields) != 3:
			failed = append(failed, &LineError{i, fmt.Errorf("%q is not MAP NAME USER", line)})
		default:
			x := mapping{system: fields[1].text(), user: fields[2].text()}
			x.all = x.user == "all" && !fields[2][0].quoted
			if pattern, ok := strings.CutPrefix(x.system, "/"); ok {
				if x.pattern, err = regexp.Compile(pattern); err != nil {
					failed = append(failed, &LineError{i, fmt.Errorf("%q is not a regular expression: %w", pattern, err)})
					continue
				}
				if strings.Contains(x.user, `\1`) && x.pattern.NumSubexp() < 1 {
					failed = append(failed, &LineError{i, fmt.Errorf(`%q has no group for \1`, pattern)})
					continue
				}
			}
			m[fields[0].text()] = append(m[fields[0].text()], x)
		}
	}
	return m, errors.Join(failed...)
}

// Permit says whether who has that name elsewhere may log in as user by the named map; without a map the two must be the same.
func (m Maps) Permit(mapName, system, user string) bool {
	if system == "" {
		return false
	}
	if mapName == "" {
		return system == user
	}
	return slices.ContainsFunc(m[mapName], func(x mapping) bool { return x.permits(system, user) })
}

func (x mapping) permits(system, user string) bool {
	if x.pattern == nil {
		return x.system == system && (x.all || x.user == user)
	}
	found := x.pattern.FindStringSubmatch(system)
	if found == nil {
		return false
	}
	want := x.user
	if len(found) > 1 {
		want = strings.Replace(want, `\1`, found[1], 1)
	}
	return x.all || want == user
}
