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
	// ConformingStrings: standard_conforming_strings is on, as the parser has it.
	// When it is off, or not known, a text with a backslash in a plain literal is
	// not looked into.
	ConformingStrings bool
	Route             bool // qvpgw.route = auto
	// TrustLogs: TimescaleDB's logs are taken to name every change, so that settled
	// points and the change log are not asked for (traps T1 and T2).
	TrustLogs bool
	NoTables  map[string]bool // hypertables that no aggregate answers for, by name or schema.name
	Cache     bool            // qvpgw.cache = auto
}

// Catalog gives the planner the newest snapshot, nil when there is none.
type Catalog interface{ Load() *catalog.Snapshot }
