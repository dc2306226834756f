package schema

import (
	"context"
	"fmt"
	"time"
)

// vitals are facts about the server, the database and the role that are not the
// catalog's.
type vitals struct {
	version, database, role       string
	superuser                     bool
	single                        bool // one process for all, without background workers: the embedded backend
	prepared, maxPrepared         int
	maxConnections, reserved      int
	roleLimit, databaseLimit      int // CONNECTION LIMIT, -1 for none
	restoring, preloaded          bool
	libraries                     string // shared_preload_libraries
	timescaleReady, vectorReady   string // versions that CREATE EXTENSION would take, "" for none
	timescaleSchema, vectorSchema string // of the extensions, "" without
	searchPath                    []string
	synchronous                   string
	mayCreate                     bool // schemas in the database
	mayCreateIn                   bool // tables in the first schema of the search path
	mayMonitor, mayReadSecrets    bool
	jit                           bool          // on, and available
	skew                          time.Duration // this machine's clock minus the server's, as far as the round trip tells
}

const vitalsSQL = `
SELECT v.name, v.value FROM (VALUES
  ('version', current_setting('server_version')),
  ('database', current_database()),
  ('role', current_user),
  ('superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)::text),
  ('single', (pg_backend_pid() = 0)::text),
  ('prepared', (SELECT count(*) FROM pg_prepared_xacts)::text),
  ('max prepared', current_setting('max_prepared_transactions')),
  ('max connections', current_setting('max_connections')),
  ('reserved', (current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0))::text),
  ('role limit', (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END FROM pg_roles WHERE rolname = current_user)::text),
  ('database limit', (SELECT CASE WHEN r.rolsuper THEN -1 ELSE datconnlimit END FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user)::text),
  ('restoring', (coalesce(current_setting('timescaledb.restoring', true), '') = 'on')::text),
  ('preloaded', (current_setting('timescaledb.disable_load', true) IS NOT NULL)::text),
  ('libraries', coalesce((SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), '')),
  ('timescale ready', (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb')),
  ('vector ready', (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')),
  ('timescale schema', (SELECT n.nspname::text FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'timescaledb')),
  ('vector schema', (SELECT n.nspname::text FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'vector')),
  ('synchronous', current_setting('synchronous_standby_names')),
  ('may create', has_database_privilege(current_database(), 'CREATE')::text),
  ('may create in', coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)::text),
  ('may monitor', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')::text),
  ('may read secrets', has_table_privilege('pg_catalog.pg_authid', 'SELECT')::text),
  ('jit', (current_setting('jit', true) = 'on' AND pg_jit_available())::text)) v (name, value)
UNION ALL
SELECT 'path', n FROM unnest(current_schemas(false)) n
UNION ALL
SELECT 'clock', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text`

func readVitals(ctx context.Context, q Query, now func() time.Time) (vitals, error) {
	before := now()
	rows, err := read(ctx, q, "the server's settings", vitalsSQL, 2)
	if err != nil {
		return vitals{}, err
	}
	after := now()
	facts := map[string]string{}
	var path []string
	for _, row := range rows {
		if row[0] == "path" {
			path = append(path, row[1])
		}
		facts[row[0]] = row[1]
	}
	var n numbers
	yes := func(name string) bool { return facts[name] == "true" }
	v := vitals{
		version: facts["version"], database: facts["database"], role: facts["role"],
		superuser: yes("superuser"), single: yes("single"),
		prepared: n.int(facts["prepared"]), maxPrepared: n.int(facts["max prepared"]),
		maxConnections: n.int(facts["max connections"]), reserved: n.int(facts["reserved"]),
		roleLimit: n.int(facts["role limit"]), databaseLimit: n.int(facts["database limit"]),
		restoring: yes("restoring"), preloaded: yes("preloaded"), libraries: facts["libraries"],
		timescaleReady: facts["timescale ready"], vectorReady: facts["vector ready"],
		timescaleSchema: facts["timescale schema"], vectorSchema: facts["vector schema"],
		searchPath: path, synchronous: facts["synchronous"],
		mayCreate: yes("may create"), mayCreateIn: yes("may create in"),
		mayMonitor: yes("may monitor"), mayReadSecrets: yes("may read secrets"), jit: yes("jit"),
	}
	server := time.UnixMicro(n.int64(facts["clock"]))
	if n.err != nil {
		return vitals{}, fmt.Errorf("cannot read the server's settings: %w", n.err)
	}
	switch {
	case server.Before(before):
		v.skew = before.Sub(server)
	case server.After(after):
		v.skew = after.Sub(server)
	}
	return v, nil
}
