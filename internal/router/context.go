package router

import "qvpgw/internal/catalog"

// Context is everything besides the text that a plan depends on. Contexts are
// interned by the gateway: equal facts, same pointer; so the plan cache compares
// pointers.
type Context struct {
	Database   string
	User       string
	SearchPath []string // effective schemas as set; "$user" already replaced by User
	TimeZone   string   // session TimeZone, as "UTC"
	// SettingsKnown is false while the session may hold settings that were not
	// followed: then nothing is rewritten or cached.
	SettingsKnown bool
	// PlainSettings: only settings that cannot change the meaning of a query's
	// text differ from the defaults (standard_conforming_strings is on).
	ConformingStrings bool
	Route             bool // qvpgw.route = auto
	Cache             bool // qvpgw.cache = auto
}

// Catalog gives the planner the newest snapshot, nil when there is none.
type Catalog interface{ Load() *catalog.Snapshot }
