package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
)

// dependsSQL lists what would be lost with the table %[1]s: kind, name, advice.
const dependsSQL = `
SELECT 'kind', c.relkind::text, '' FROM pg_class c WHERE c.oid = to_regclass(%[1]s)
UNION ALL
SELECT DISTINCT 'view', v.oid::regclass::text, pg_get_viewdef(v.oid)
FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(%[1]s) AND v.oid <> d.refobjid
UNION ALL
SELECT DISTINCT 'function', d.objid::regprocedure::text, ''
FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(%[1]s)
UNION ALL
SELECT 'trigger', t.tgname, ''
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE t.tgrelid = to_regclass(%[1]s) AND NOT t.tgisinternal AND n.nspname NOT LIKE '\_timescaledb\_%%'
UNION ALL
SELECT 'policy', polname, '' FROM pg_policy WHERE polrelid = to_regclass(%[1]s)
UNION ALL
SELECT 'rule', rulename, '' FROM pg_rewrite WHERE ev_class = to_regclass(%[1]s) AND rulename <> '_RETURN'
UNION ALL
SELECT 'key', n.conname, n.conrelid::regclass::text FROM pg_constraint n WHERE n.contype = 'f' AND n.confrelid = to_regclass(%[1]s)
UNION ALL
SELECT 'grant', x.privilege_type || CASE WHEN x.is_grantable THEN ' *' ELSE '' END, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
FROM pg_class c CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
WHERE c.oid = to_regclass(%[1]s) AND x.grantee <> current_user::regrole
ORDER BY 1, 2, 3`

// look reads a table as it is found, locks it, and lists what would be lost with
// it.
func (a *adoption) look(ctx context.Context, t *adopted) (err error) {
	name := a.at(t.name)
	rows, err := read(ctx, a.q, "what depends on "+t.name, fmt.Sprintf(dependsSQL, catalog.Literal(name.String())), 3)
	if err != nil {
		return err
	}
	for _, r := range rows {
		switch what := r[1]; r[0] {
		case "kind":
			if t.kind = what; what != "r" {
				a.problem("%s is not an ordinary table: move it away with ALTER … RENAME", t.name)
			}
		case "view":
			a.problem("view %s reads %s: DROP VIEW %s, adopt, then CREATE VIEW %s AS %s", what, t.name, what, what, strings.Join(strings.Fields(r[2]), " "))
		case "function":
			a.problem("function %s depends on %s: drop it, adopt, and create it again", what, t.name)
		case "key":
			if !slices.ContainsFunc(a.tables, func(o *adopted) bool { return o.name == r[2] }) {
				a.problem("foreign key %s of %s refers to %s: ALTER TABLE %s DROP CONSTRAINT %s", what, r[2], t.name, r[2], catalog.Quote(what))
			}
		case "grant":
			privilege, option := strings.CutSuffix(what, " *")
			sql := fmt.Sprintf("GRANT %s ON %s TO %s", privilege, name, r[2])
			if option {
				sql += " WITH GRANT OPTION"
			}
			t.grants = append(t.grants, sql)
		default:
			a.problem("%s %s of %s would be lost: drop it, adopt, and create it again if it is still wanted", r[0], what, t.name)
		}
	}
	if t.kind != "r" {
		return nil
	}
	if err := a.driver.exec("LOCK TABLE " + name.String() + " IN ACCESS EXCLUSIVE MODE"); err != nil {
		return fmt.Errorf("cannot lock table %s: %w", t.name, err)
	}
	t.old, err = readTable(ctx, a.q, name)
	return err
}

// compare lists what of a table's rows and layout the fresh one cannot take.
func (a *adoption) compare(ctx context.Context, t *adopted) error {
	if t.fresh == nil {
		return nil
	}
	for _, want := range t.fresh.columns {
		have, ok := t.old.column(want.name)
		if !ok {
			if err := a.missing(ctx, t, want); err != nil {
				return err
			}
			continue
		}
		if have.generated || want.generated {
			a.problem("column %s.%s is generated", t.name, want.name)
			continue
		}
		if err := a.compareType(ctx, t, have, want); err != nil {
			return err
		}
		if want.notNull && !have.notNull {
			n, err := a.count(ctx, t, catalog.Quote(want.name)+" IS NULL")
			if err != nil {
				return err
			}
			if n > 0 {
				a.problem("column %s.%s must not be NULL, and is in %d rows: DELETE or UPDATE those WHERE %s IS NULL", t.name, want.name, n, want.name)
			}
		}
	}
	for _, have := range t.old.columns {
		if _, ok := t.fresh.column(have.name); ok {
			continue
		}
		if have.generated || have.identity != "" || have.sequence != "" {
			a.problem("column %s.%s is not one of the platform's, and the values that the server makes for it would end: ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT, DROP EXPRESSION or DROP IDENTITY", t.name, have.name, t.name, have.name)
		}
	}
	if err := a.compareRules(ctx, t); err != nil {
		return err
	}
	for _, u := range t.uniques() {
		if t.fresh.time != "" && !slices.Contains(u.columns, t.fresh.time) {
			a.problem("%s of %s is unique without column %s, which a hypertable cannot keep: %s", u.name, t.name, t.fresh.time, u.def)
		}
	}
	return nil
}

// uniques are the unique indexes and constraints of the old table that the fresh
// one has not, but for its primary key, which is replaced.
func (t *adopted) uniques() (list []index) {
	for _, c := range t.old.constraints {
		if (c.kind == "u" || c.kind == "x") && !t.fresh.constraint(c.def) {
			list = append(list, index{name: c.name, def: fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.name, catalog.Quote(c.name)), columns: c.columns})
		}
	}
	for _, i := range t.old.indexes {
		if i.unique && !t.fresh.index(i) {
			list = append(list, index{name: i.name, def: "DROP INDEX " + catalog.Quote(i.name), columns: i.columns})
		}
	}
	return list
}

func (a *adoption) missing(ctx context.Context, t *adopted, want column) error {
	if !want.notNull || want.makes() {
		return nil
	}
	n, err := a.count(ctx, t, "true")
	if err == nil && n > 0 {
		a.problem("%s has no column %s, which must not be NULL: ALTER TABLE %s ADD COLUMN %s %s, and fill it", t.name, want.name, t.name, want.name, want.typ)
	}
	return err
}

// compareType lists a column whose type is another one, unless its values are
// the same in the wanted type.
func (a *adoption) compareType(ctx context.Context, t *adopted, have, want column) error {
	if have.typ == want.typ {
		return nil
	}
	c := catalog.Quote(want.name)
	misfit := "true"
	switch from, to := have.typname, want.typname; {
	case slices.Contains([]string{"varchar", "text"}, from) && slices.Contains([]string{"varchar", "text"}, to):
		misfit = "false"
		if want.mod > 4 {
			misfit = fmt.Sprintf("length(%s) > %d", c, want.mod-4)
		}
	case integers[from] > 0 && integers[to] > 0:
		misfit = fmt.Sprintf("%s::numeric NOT BETWEEN -(2::numeric ^ %d) AND 2::numeric ^ %d - 1", c, integers[to]*8-1, integers[to]*8-1)
	case from == "float4" && to == "float8":
		misfit = "false"
	case from == "vector" && to == "vector":
		misfit = fmt.Sprintf("vector_dims(%s) <> %d", c, want.mod)
	}
	if misfit == "true" {
		using := fmt.Sprintf("%s::%s", want.name, want.typ)
		if have.typname == "timestamp" && want.typname == "timestamptz" {
			using = want.name + " AT TIME ZONE 'UTC' (or whichever zone it is in)"
		}
		a.problem("column %s.%s is %s, not %s: ALTER TABLE %s ALTER COLUMN %s TYPE %s USING %s", t.name, want.name, have.typ, want.typ, t.name, want.name, want.typ, using)
		return nil
	}
	n, err := a.count(ctx, t, misfit)
	if err == nil && n > 0 {
		a.problem("column %s.%s is %s, not %s, and %d of its values do not fit: UPDATE or DELETE those WHERE %s", t.name, want.name, have.typ, want.typ, n, misfit)
	}
	return err
}

// integers are the sizes of integers in bytes.
var integers = map[string]int{"int2": 2, "int4": 4, "int8": 8}

// compareRules lists rows that the fresh table's keys and checks refuse.
func (a *adoption) compareRules(ctx context.Context, t *adopted) error {
	has := func(columns []string) bool {
		return len(columns) > 0 && !slices.ContainsFunc(columns, func(c string) bool { _, ok := t.old.column(c); return !ok })
	}
	keys := map[string][]string{}
	for _, c := range t.fresh.constraints {
		if c.kind == "p" || c.kind == "u" {
			keys[c.name] = c.columns
		}
		if c.kind == "c" && has(c.columns) {
			n, err := a.count(ctx, t, "NOT ("+c.expr+")")
			if err != nil {
				return err
			}
			if n > 0 {
				a.problem("%d rows of %s are against %s: UPDATE or DELETE those WHERE NOT (%s)", n, t.name, c.def, c.expr)
			}
		}
	}
	for _, i := range t.fresh.indexes {
		if i.unique {
			keys[i.name] = i.columns
		}
	}
	for name, columns := range keys {
		if !has(columns) {
			continue
		}
		var list, there []string
		for _, c := range columns {
			list, there = append(list, catalog.Quote(c)), append(there, catalog.Quote(c)+" IS NOT NULL")
		}
		key := strings.Join(list, ", ")
		n, err := a.number(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s WHERE %s GROUP BY %s HAVING count(*) > 1) k", a.aside(t.name), strings.Join(there, " AND "), key))
		if err != nil {
			return err
		}
		if n > 0 {
			a.problem("%d values of (%s) are in %s more than once, %s wants them once: DELETE the others", n, key, t.name, name)
		}
	}
	return nil
}

func (a *adoption) count(ctx context.Context, t *adopted, condition string) (int64, error) {
	return a.number(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s", a.aside(t.name), condition))
}

func (a *adoption) number(ctx context.Context, sql string) (int64, error) {
	rows, err := read(ctx, a.q, "the rows", sql, 1)
	if err != nil {
		return 0, err
	}
	var n numbers
	v := n.int64(rows[0][0])
	return v, n.err
}

// additions are what the old table has of its own: columns, defaults, checks,
// unique constraints, indexes and grants.
func (a *adoption) additions(t *adopted) (sql []string) {
	on := a.at(t.name)
	for _, c := range t.old.columns {
		fresh, ok := t.fresh.column(c.name)
		switch {
		case !ok:
			sql = append(sql, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s", on, c.sql()))
		case c.def != "" && c.sequence == "" && !fresh.makes():
			sql = append(sql, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", on, catalog.Quote(c.name), c.def))
		}
	}
	taken := map[string]bool{}
	for _, i := range t.fresh.indexes {
		taken[i.name] = true
	}
	for _, c := range t.fresh.constraints {
		taken[c.name] = true
	}
	free := func(name string) string {
		for taken[name] {
			name += "_old"
		}
		taken[name] = true
		return name
	}
	for _, c := range t.old.constraints {
		if (c.kind == "c" || c.kind == "u") && !t.fresh.constraint(c.def) {
			sql = append(sql, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", on, catalog.Quote(free(c.name)), c.def))
		}
	}
	for _, i := range t.old.indexes {
		if !t.fresh.index(i) {
			sql = append(sql, i.sql(free(i.name), on))
		}
	}
	return append(sql, t.grants...)
}
