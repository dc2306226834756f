package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"qvpgw/internal/catalog"

	"github.com/jackc/pgx/v5"
)

// quiet has a session that migrates not be broken off by timeouts that were set for
// the role, and tells the migrations which extensions to do without.
func quiet(ctx context.Context, q Query, without []string) error {
	const timeouts = `SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')
UNION ALL SELECT set_config('qvpgw.without', %s, false)`
	if _, err := q(ctx, fmt.Sprintf(timeouts, catalog.Literal(strings.Join(without, " ")))); err != nil {
		return fmt.Errorf("cannot prepare the session that migrates: %w", err)
	}
	return nil
}

// ErrDemanded means that the configuration demands an extension that the database
// lacks and cannot get.
var ErrDemanded = errors.New("the configuration demands an extension that the database lacks")

// demandSQL: extension, and why it is not there and cannot be made by this role; none
// for those that can.
const demandSQL = `
SELECT wanted.name, CASE
  WHEN v.name IS NULL THEN 'it is not installed on the server: install the package, or use an image that has it'
  WHEN wanted.name = 'timescaledb' AND current_setting('timescaledb.disable_load', true) IS NULL
    THEN 'it is not preloaded: ALTER SYSTEM SET shared_preload_libraries = ''timescaledb'', then restart the server'
  ELSE format('role %I may not create it: CREATE EXTENSION %I; as a superuser', current_user, wanted.name) END
FROM unnest(string_to_array(%s, ' ')) wanted (name)
LEFT JOIN pg_available_extensions e ON e.name = wanted.name
LEFT JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version
WHERE NOT EXISTS (SELECT FROM pg_extension x WHERE x.extname = wanted.name)
  AND NOT coalesce(v.name IS NOT NULL AND (wanted.name <> 'timescaledb' OR current_setting('timescaledb.disable_load', true) IS NOT NULL)
                   AND ((SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                        OR v.trusted AND has_database_privilege(current_database(), 'CREATE')), false)`

// demand refuses to begin where an extension is missing for good.
func demand(ctx context.Context, q Query, names []string) error {
	if len(names) == 0 {
		return nil
	}
	rows, err := read(ctx, q, "extensions", strings.Replace(demandSQL, "%s", catalog.Literal(strings.Join(names, " ")), 1), 2)
	if err != nil {
		return err
	}
	var why []string
	for _, row := range rows {
		why = append(why, fmt.Sprintf("%s (%s is on): %s", row[0], extensionKeys[row[0]], row[1]))
	}
	if len(why) == 0 {
		return nil
	}
	slices.Sort(why)
	return fmt.Errorf("%w: %s; or set it to auto", ErrDemanded, strings.Join(why, "; "))
}

// Demand is ErrDemanded, with how to get the extension, when the database lacks one
// that is demanded.
func (m *Migrator) Demand(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, m.dsn)
	if err != nil {
		return fmt.Errorf("cannot connect to the database to look for its extensions: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return demand(ctx, ConnQuery(conn), m.o.Demanded)
}

// extensionKeys are the configuration's keys about extensions.
var extensionKeys = map[string]string{"timescaledb": "schema.timescaledb", "vector": "schema.pgvector"}
