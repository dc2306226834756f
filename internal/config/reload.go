package config

import "strings"

// Reloadable says whether a change of key takes effect without a restart.
func Reloadable(key string) bool {
	switch key {
	case "limits.max_statement", "limits.max_logins", "cache.enabled", "cache.geometry", "cache.changes":
		return false
	}
	for _, section := range []string{"backend", "pool", "databases", "users", "limits", "cache", "rules", "auth", "tls", "schema.policies", "schema.settle", "schema.change_log"} {
		if rest, ok := strings.CutPrefix(key, section); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// WithReloadable returns c with those keys of read that need no restart.
func (c *Config) WithReloadable(read *Config) *Config {
	next := *c
	next.Backend, next.Pool, next.Databases, next.Users, next.Rules = read.Backend, read.Pool, read.Databases, read.Users, read.Rules
	next.Auth, next.TLS = read.Auth, read.TLS
	next.Schema.Policies, next.Schema.Settle, next.Schema.ChangeLog = read.Schema.Policies, read.Schema.Settle, read.Schema.ChangeLog
	next.Limits = read.Limits
	next.Cache = read.Cache
	next.Cache.Enabled, next.Cache.Geometry, next.Cache.Changes = c.Cache.Enabled, c.Cache.Geometry, c.Cache.Changes
	next.Limits.MaxStatement, next.Limits.MaxLogins = c.Limits.MaxStatement, c.Limits.MaxLogins
	next.where = map[string]string{}
	for _, from := range []*Config{c, read} {
		wanted := from == read
		for key, w := range from.where {
			if Reloadable(key) == wanted {
				next.where[key] = w
			}
		}
	}
	return &next
}
