package catalog

import (
	"maps"
	"slices"
	"strings"
)

// Defaults are the settings that sessions of the database begin with. Names are in
// lower case.
type Defaults struct {
	Rows       []RoleSetting            // of pg_db_role_setting, for this database or for all
	Server     map[string]ServerSetting // what a session may set, with the value without Rows
	Superusers map[string]bool
}

// RoleSetting is what ALTER ROLE or ALTER DATABASE has SET.
type RoleSetting struct {
	Role        string // "": each
	Database    bool   // in this database alone
	Name, Value string
}

// ServerSetting is one that a session may set.
type ServerSetting struct {
	Value     string
	Superuser bool // none but a superuser's
	Hidden    bool // Value is one of Rows, now or before
}

// Former is a setting's value before it was changed.
type Former struct{ Name, Value string }

// of returns what sessions of a role have by Rows; the narrower row counts.
func (d *Defaults) of(role string) map[string]string {
	values := map[string]string{}
	for _, narrow := range [...]struct{ role, database bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		for _, r := range d.Rows {
			if r.Role == role && narrow.role && r.Database == narrow.database || r.Role == "" && !narrow.role && r.Database == narrow.database {
				values[r.Name] = r.Value
			}
		}
	}
	return values
}

// Changed says whether new sessions of a role begin otherwise than they did by last,
// and returns what those that began before had, sorted by name, as far as it is known
// and the role may set it.
func (d *Defaults) Changed(last *Defaults, role string) (former []Former, changed bool) {
	if d == nil || last == nil {
		return nil, false
	}
	was, is := last.of(role), d.of(role)
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if value, ok := is[name]; !ok || value != was[name] {
			changed = true
			if d.may(last, role, name) {
				former = append(former, Former{name, was[name]})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, ok := was[name]; ok {
			continue
		}
		changed = true
		if s, ok := last.Server[name]; ok && !s.Hidden && d.may(last, role, name) {
			former = append(former, Former{name, s.Value})
		} else if !ok && last.custom(name) {
			former = append(former, Former{name, ""})
		}
	}
	slices.SortFunc(former, func(a, b Former) int { return strings.Compare(a.Name, b.Name) })
	return former, changed
}

// may says whether a role may set a setting of that name: one that only a session's
// start may set, or another role, is not known by both.
func (d *Defaults) may(last *Defaults, role, name string) bool {
	for _, x := range [...]*Defaults{d, last} {
		if s, ok := x.Server[name]; ok {
			return !s.Superuser || d.Superusers[role]
		}
	}
	return d.custom(name)
}

// custom says that a name is of no setting that the server or a library declares.
func (d *Defaults) custom(name string) bool {
	prefix, _, ok := strings.Cut(name, ".")
	if !ok {
		return false
	}
	for declared := range d.Server {
		if strings.HasPrefix(declared, prefix+".") {
			return false
		}
	}
	return true
}
