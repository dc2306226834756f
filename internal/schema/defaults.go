package schema

import (
	"fmt"
	"strings"

	"qvpgw/internal/catalog"
)

// defaultsSQL reads what sessions begin with: kind, name of a role or a setting, flag,
// value. What the reader's own session has of ALTER ROLE or ALTER DATABASE hides what
// the server's files say: it has 'hidden' instead.
const defaultsSQL = `
SELECT 'row', coalesce(r.rolname, '')::text, (s.setdatabase <> 0)::text, c.c
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c (c) LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND (s.setrole = 0 OR r.oid IS NOT NULL)
UNION ALL
SELECT CASE WHEN source IN ('global', 'database', 'user', 'database user') THEN 'hidden' ELSE 'server' END, name, (context = 'superuser')::text, coalesce(reset_val, '')
FROM pg_settings WHERE context IN ('user', 'superuser')
UNION ALL
SELECT 'superuser', rolname::text, 'true', '' FROM pg_roles WHERE rolsuper`

// defaults takes defaultsSQL's rows.
func (l *Loader) defaults(rows [][]string) (*catalog.Defaults, error) {
	d := &catalog.Defaults{Server: map[string]catalog.ServerSetting{}, Superusers: map[string]bool{}}
	for _, row := range rows {
		switch row[0] {
		case "row":
			name, value, ok := strings.Cut(row[3], "=")
			if !ok {
				return nil, fmt.Errorf("setting %q of role %q has no value", row[3], row[1])
			}
			d.Rows = append(d.Rows, catalog.RoleSetting{Role: row[1], Database: row[2] == "true", Name: strings.ToLower(name), Value: value})
		case "server", "hidden":
			name, hidden := strings.ToLower(row[1]), row[0] == "hidden"
			s := catalog.ServerSetting{Value: row[3], Superuser: row[2] == "true", Hidden: hidden}
			if shown, ok := l.server[name]; ok && hidden {
				s = shown
			}
			d.Server[name] = s
		case "superuser":
			d.Superusers[row[1]] = true
		}
	}
	l.server = d.Server
	return d, nil
}
