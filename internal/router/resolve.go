package router

import (
	"strings"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// view is a snapshot with what is looked up by bare name.
type view struct {
	snap   *catalog.Snapshot // nil: nothing is known
	byName map[string][]*catalog.Relation
	// comparison: a user's operator is named like one that PostgreSQL looks up by
	// name where the text shows none: USING, CASE x WHEN, IN (SELECT …), BETWEEN.
	comparison bool
}

func newView(snap *catalog.Snapshot) *view {
	v := &view{snap: snap}
	if snap == nil {
		return v
	}
	v.byName = make(map[string][]*catalog.Relation, len(snap.Relations))
	for _, r := range snap.Relations {
		v.byName[r.Name.Name] = append(v.byName[r.Name.Name], r)
	}
	for _, op := range []string{"=", "<>", "<", "<=", ">", ">="} {
		v.comparison = v.comparison || snap.UserOperators[op]
	}
	return v
}

// verdict is what is known of a name.
type verdict uint8

const (
	clean   verdict = iota
	own             // a user's, which is clean
	unclean         // may run code of a user
	strange         // is not in the catalog
	unknown         // cannot be told without a catalog
)

// function resolves a function's name. The special ones are not its concern. A type's
// name that is none of a function is a cast.
func (v *view) function(schema, name string) verdict {
	f := v.named(schema, name, builtinFunctions, func(s *catalog.Snapshot) (map[string]bool, map[string]bool, bool) {
		return s.UserFunctions, s.CleanFunctions, s.Timescale != "" && timescaleFunctions[name] || s.Vector != "" && vectorFunctions[name]
	})
	if f == strange {
		return v.typeName(schema, name)
	}
	return f
}

func (v *view) operator(schema, name string) verdict {
	return v.named(schema, name, builtinOperators, func(s *catalog.Snapshot) (map[string]bool, map[string]bool, bool) {
		return s.UserOperators, s.CleanOperators, s.Vector != "" && vectorOperators[name]
	})
}

func (v *view) typeName(schema, name string) verdict {
	switch name {
	case "serial", "bigserial", "smallserial", "serial2", "serial4", "serial8":
		if schema == "" {
			return clean
		}
	}
	return v.named(schema, name, builtinTypes, func(s *catalog.Snapshot) (map[string]bool, map[string]bool, bool) {
		return s.UserTypes, s.CleanTypes, s.Vector != "" && vectorTypes[name]
	})
}

// named resolves a name that is built in, a user's, or a known extension's. beyond
// gives the catalog's unclean and clean names, and whether it is an extension's.
func (v *view) named(schema, name string, builtin map[string]bool, beyond func(*catalog.Snapshot) (users, others map[string]bool, extension bool)) verdict {
	switch schema {
	case "pg_catalog":
		return knownIf(builtin[name])
	case "information_schema":
		return clean
	}
	if v.snap == nil {
		return unknown
	}
	users, others, extension := beyond(v.snap)
	if users[name] {
		return unclean
	}
	user, known := others[name]
	if user {
		return own
	}
	return knownIf(known || schema == "" && builtin[name] || extension)
}

func knownIf(ok bool) verdict {
	if ok {
		return clean
	}
	return strange
}

// relations resolves a relation's name under a context. system: it is
// PostgreSQL's or TimescaleDB's own, which runs no user code when it is read.
// Otherwise found has the relation it must be; or, when the context's search path
// is not sure, all that it could be; or nothing, when it is temporary, newer than
// the catalog, or does not exist.
func (v *view) relations(c *Context, sure bool, schema, name string) (found []*catalog.Relation, system bool) {
	switch {
	case schema == "pg_catalog", schema == "information_schema", schema == "pg_toast":
		return nil, true
	case v.snap == nil:
		return nil, schema == "" && sure && c.catalogFirst() && systemRelations[name]
	case schema != "":
		if r := v.snap.Relations[catalog.Name{Schema: schema, Name: name}]; r != nil {
			return []*catalog.Relation{r}, false
		}
		return nil, v.snap.Timescale != "" && timescaleSchemas[schema]
	case !sure:
		found = v.byName[name]
		return found, len(found) == 0 && systemRelations[name]
	}
	if c.catalogFirst() && systemRelations[name] {
		return nil, true
	}
	for _, schema := range c.SearchPath {
		if schema == "pg_catalog" && systemRelations[name] {
			return nil, true
		}
		if r := v.snap.Relations[catalog.Name{Schema: schema, Name: name}]; r != nil {
			return []*catalog.Relation{r}, false
		}
	}
	return nil, false
}

// code returns what is known of what the functions of that name do, nil when
// nothing is.
func (v *view) code(name string) *catalog.Code {
	if v.snap == nil {
		return nil
	}
	if c := v.snap.Code[name]; c != nil || !v.snap.UserFunctions[name] {
		return c
	}
	return &anything
}

// anything is code of which nothing is known.
var anything = catalog.Code{State: uint16(sqltext.LeavesAnything), Nextval: true, Notifies: true}

// hypertable returns the hypertable that a relation is, nil when it is none.
func (v *view) hypertable(r *catalog.Relation) *catalog.Hypertable {
	if r.HypertableID == 0 {
		return nil
	}
	h := v.snap.Hypertables[r.HypertableID]
	if h == nil || h.Name != r.Name {
		return nil
	}
	return h
}

// catalogFirst reports whether pg_catalog is searched before the search path, as
// it is unless the path names it.
func (c *Context) catalogFirst() bool {
	for _, s := range c.SearchPath {
		if s == "pg_catalog" {
			return false
		}
	}
	return true
}

// isTempSchema reports whether a schema is some session's temporary one.
func isTempSchema(name string) bool {
	return name == "pg_temp" || strings.HasPrefix(name, "pg_temp_")
}
