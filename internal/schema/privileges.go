package schema

import (
	"context"
	"fmt"
	"strings"

	"qvpgw/internal/catalog"
)

// PrivilegeError says what a role may not do that migrating needs, and the
// statements that allow it.
type PrivilegeError struct {
	Role   string
	Lacks  []string // "create schemas in database market"
	Grants []string // SQL, as the owner of the database or a superuser
}

func (e *PrivilegeError) what() string {
	return fmt.Sprintf("role %s may not %s", e.Role, strings.Join(e.Lacks, ", nor "))
}

// Error gives the statements too.
func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("%s; as the owner of the database or a superuser: %s", e.what(), strings.Join(e.Grants, " "))
}

// newPrivilegeError returns nil when nothing lacks. schema is the first that the
// search path leads to, "" for none.
func newPrivilegeError(role, database, schema string, mayCreate, mayCreateIn bool) *PrivilegeError {
	e := &PrivilegeError{Role: role}
	if !mayCreate {
		e.Lacks = append(e.Lacks, "create schemas in database "+database)
		e.Grants = append(e.Grants, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;", catalog.Quote(database), catalog.Quote(role)))
	}
	if !mayCreateIn && schema != "" {
		e.Lacks = append(e.Lacks, "create tables in schema "+schema)
		e.Grants = append(e.Grants, fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s;", catalog.Quote(schema), catalog.Quote(role)))
	}
	if len(e.Lacks) == 0 {
		return nil
	}
	return e
}

// mayMigrateSQL: role, database, schema, whether schemas may be created in the
// database or ours is there, whether tables may be created in the schema.
const mayMigrateSQL = `
SELECT current_user, current_database(), coalesce(current_schema(), ''),
       to_regnamespace('qvpgw') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE'),
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), true)`

// mayMigrate returns a *PrivilegeError when the role lacks what migrations need.
func mayMigrate(ctx context.Context, q Query) error {
	rows, err := read(ctx, q, "privileges", mayMigrateSQL, 5)
	if err != nil {
		return err
	}
	row := rows[0]
	if e := newPrivilegeError(row[0], row[1], row[2], row[3] == "t", row[4] == "t"); e != nil {
		return e
	}
	return nil
}
