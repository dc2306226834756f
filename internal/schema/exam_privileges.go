package schema

import (
	"fmt"

	"qvpgw/internal/catalog"
)

// ownedSQL lists what the gateway has to own and does not: statement that gives it to
// another role without its end, owner, and whether the owner is a superuser.
const ownedSQL = `
WITH mine AS (
  SELECT CASE WHEN c.relkind = 'v' THEN 'MATERIALIZED VIEW' WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
         format('%%I.%%I', n.nspname, c.relname) AS name, c.relowner AS owner
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid IN (%s)
     OR n.nspname = 'qvpgw' AND c.relkind IN ('r', 'p')
  UNION ALL
  SELECT 'SCHEMA', format('%%I', nspname), nspowner FROM pg_namespace WHERE nspname IN ('qvpgw', 'qvp')
  UNION ALL
  SELECT 'ROUTINE', p.oid::regprocedure::text, p.proowner
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('qvpgw', 'qvp'))
SELECT 'ALTER ' || kind || ' ' || name || ' OWNER TO ', r.rolname, r.rolsuper
FROM mine JOIN pg_roles r ON r.oid = mine.owner
WHERE NOT pg_has_role(current_user, mine.owner, 'USAGE')
ORDER BY r.rolname, kind, name`

// privileges says what the gateway's role may not do that it has to.
func (e *exam) privileges() error {
	role := catalog.Quote(e.v.role)
	if !e.r.Migrations.Current() && !e.r.Migrations.Dirty && e.r.Migrations.Version <= e.r.Migrations.Newest {
		if lacking := e.lacking(); lacking != nil {
			e.find("schema-privilege", lacking.what(), lacking.Grants...).Advice = as("the owner of the database or a superuser") + ", or migrate as that role"
		}
	}
	if err := e.owners(role); err != nil {
		return err
	}
	if e.o.AuthQuery && !e.v.mayReadSecrets {
		e.find("privilege-login", fmt.Sprintf("auth.query is on, and role %s may not read pg_authid: users that auth.users does not list cannot log in", e.v.role),
			fmt.Sprintf("GRANT SELECT ON pg_catalog.pg_authid TO %s;", role)).Advice = as("a superuser") + "; a function may stand before it: docs/authentication.md"
	}
	if !e.v.mayMonitor {
		e.find("privilege-monitor", fmt.Sprintf("role %s does not see what other sessions do", e.v.role),
			fmt.Sprintf("GRANT pg_read_all_stats TO %s;", role)).Advice = as("a superuser")
	}
	return nil
}

// owners says what belongs to others.
func (e *exam) owners(role string) error {
	if e.v.superuser || e.r.Migrations.Version < 1 {
		return nil
	}
	oids := "0"
	for _, names := range [][]string{hypertables, plainTables, vectorTables, aggregates} {
		for _, name := range names {
			if t := e.relation(name); t != nil {
				oids += fmt.Sprintf(", %d", t.OID)
			}
		}
	}
	rows, err := e.ask("owners", fmt.Sprintf(ownedSQL, oids), 3)
	if err != nil {
		return err
	}
	for len(rows) > 0 {
		owner := rows[0][1]
		var mend []string
		n := 0
		for ; n < len(rows) && rows[n][1] == owner; n++ {
			mend = append(mend, rows[n][0]+role+";")
		}
		if rows[0][2] != "t" {
			mend = []string{fmt.Sprintf("GRANT %s TO %s;", catalog.Quote(owner), role)}
		}
		e.find("privilege-owner", fmt.Sprintf("%d objects of the platform belong to role %s, whose rights role %s has not", n, owner, e.v.role), mend...).Advice = as("a superuser or " + owner)
		rows = rows[n:]
	}
	return nil
}

// lacking is what the role needs for migrating and has not, nil for nothing.
func (e *exam) lacking() *PrivilegeError {
	there := e.r.Migrations.Version >= 0
	return newPrivilegeError(e.v.role, e.v.database, firstOf(e.v.searchPath), there || e.v.mayCreate, e.v.mayCreateIn)
}

func firstOf(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[0]
}
