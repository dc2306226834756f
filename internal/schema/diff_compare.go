package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
)

// compareLayouts says what makes actual be as wanted. Statements come in an order
// in which they can be run: extensions, tables, their parts, aggregates, functions,
// views and triggers. Those of Up change nothing in a schema that is the wanted one:
// the migration may be run on other databases, too.
func compareLayouts(wanted, actual *layoutOf) Diff {
	d := &Diff{}
	for _, e := range wanted.extensions {
		if !slices.Contains(actual.extensions, e) {
			d.step("CREATE EXTENSION IF NOT EXISTS "+catalog.Quote(e), "-- extension "+e+" stays: other tables may stand on it")
		}
	}
	names := slices.Sorted(maps.Keys(wanted.tables))
	for _, name := range names {
		if have := actual.tables[name]; have == nil {
			d.create(wanted.tables[name])
		} else {
			d.alter(wanted.tables[name], have)
		}
	}
	for _, name := range names { // they may refer to any of the tables
		d.keys(wanted.tables[name], actual.tables[name])
	}
	d.aggregates(wanted, actual)
	d.objects(wanted, actual)
	return *d
}

// create makes a table that is not there.
func (d *Diff) create(t *table) {
	var parts []string
	for _, c := range t.columns {
		parts = append(parts, "  "+c.sql())
	}
	for _, c := range t.constraints {
		if c.kind != "f" {
			parts = append(parts, fmt.Sprintf("  CONSTRAINT %s %s", catalog.Quote(c.name), c.def))
		}
	}
	d.step(fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (\n%s\n)", t.name, strings.Join(parts, ",\n")), fmt.Sprintf("DROP TABLE %s", t.name))
	d.Loses = append(d.Loses, lossName(t.name))
	if t.time != "" {
		d.Up = append(d.Up, hypertable(t)) // dropped with the table
	}
	for _, i := range t.indexes {
		d.Up = append(d.Up, i.sqlOnce(t.name))
	}
}

// lossName is a table as the first line of a down file names it.
func lossName(n catalog.Name) string {
	if n.Schema == "public" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

func hypertable(t *table) string {
	return fmt.Sprintf("SELECT create_hypertable(%s, by_range(%s, INTERVAL '7 days'), create_default_indexes => false, migrate_data => true, if_not_exists => true)", catalog.Literal(t.name.String()), catalog.Literal(t.time))
}

// alter changes what differs of a table that is there.
func (d *Diff) alter(want, have *table) {
	on := "ALTER TABLE " + want.name.String()
	for _, w := range want.columns {
		h, ok := have.column(w.name)
		column := on + " ALTER COLUMN " + catalog.Quote(w.name)
		if !ok {
			d.step(on+" ADD COLUMN IF NOT EXISTS "+w.sql(), on+" DROP COLUMN "+catalog.Quote(w.name))
			d.Loses = append(d.Loses, lossName(want.name)+"."+w.name)
			continue
		}
		if h.typ != w.typ {
			c := catalog.Quote(w.name)
			d.step(fmt.Sprintf("%s TYPE %s USING %s::%s", column, w.typ, c, w.typ), fmt.Sprintf("%s TYPE %s USING %s::%s", column, h.typ, c, h.typ))
		}
		if h.notNull != w.notNull {
			set, drop := column+" SET NOT NULL", column+" DROP NOT NULL"
			if !w.notNull {
				set, drop = drop, set
			}
			d.step(set, drop)
		}
		if h.identity != w.identity {
			d.step(identity(want, w), identity(want, h))
		}
		if h.def != w.def && !h.generated && !w.generated {
			d.step(setDefault(column, w), setDefault(column, h))
		}
	}
	for _, h := range have.columns {
		if _, ok := want.column(h.name); !ok {
			d.Kept = append(d.Kept, fmt.Sprintf("column %s of %s", h.name, want.name))
		}
	}
	d.constraints(want, have)
	if want.time != "" && have.time == "" {
		d.step(hypertable(want), "-- "+want.name.String()+" stays a hypertable: no statement makes it plain again")
	}
	d.indexes(want, have)
}

// identity makes a column's identity be what it is in c; a new one goes on after
// the highest value.
func identity(t *table, c column) string {
	column := catalog.Quote(c.name)
	sql := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP IDENTITY IF EXISTS", t.name, column)
	kind := map[string]string{"a": "ALWAYS", "d": "BY DEFAULT"}[c.identity]
	if kind == "" {
		return sql
	}
	return fmt.Sprintf("%s;\nALTER TABLE %s ALTER COLUMN %s ADD GENERATED %s AS IDENTITY;\nSELECT setval(pg_get_serial_sequence(%s, %s), max(%s)) FROM %s HAVING max(%s) >= 1",
		sql, t.name, column, kind, catalog.Literal(t.name.String()), catalog.Literal(c.name), column, t.name, column)
}

func setDefault(column string, c column) string {
	if c.def == "" {
		return column + " DROP DEFAULT"
	}
	return column + " SET DEFAULT " + c.def
}

// constraints replaces those of the same name that say something else and adds
// those that are missing; others are kept. Foreign keys come later.
func (d *Diff) constraints(want, have *table) {
	on := "ALTER TABLE " + want.name.String()
	replaced := map[string]bool{}
	for _, w := range want.constraints {
		if w.kind == "f" || have.constraint(w.def) {
			continue
		}
		for _, h := range have.constraints {
			if h.name == w.name || h.kind == "p" && w.kind == "p" {
				replaced[h.name] = true
			}
		}
		add := fmt.Sprintf("%s ADD CONSTRAINT %s %s", on, catalog.Quote(w.name), w.def)
		undo := []string{on + " DROP CONSTRAINT " + catalog.Quote(w.name)}
		back := true
		d.Up = append(d.Up, on+" DROP CONSTRAINT IF EXISTS "+catalog.Quote(w.name))
		for _, h := range have.constraints {
			if !replaced[h.name] || h.name != w.name && (h.kind != "p" || w.kind != "p") {
				continue
			}
			if h.name != w.name {
				d.Up = append(d.Up, on+" DROP CONSTRAINT IF EXISTS "+catalog.Quote(h.name))
			}
			undo = append(undo, fmt.Sprintf("%s ADD CONSTRAINT %s %s", on, catalog.Quote(h.name), h.def))
			// A hypertable's keys contain its time column.
			back = back && (want.time == "" || h.kind != "p" && h.kind != "u" || slices.Contains(h.columns, want.time))
		}
		d.Up = append(d.Up, add)
		if back {
			d.Down = slices.Insert(d.Down, 0, undo...)
		}
	}
	for _, h := range have.constraints {
		if !want.constraint(h.def) && !replaced[h.name] {
			d.Kept = append(d.Kept, fmt.Sprintf("constraint %s of %s", h.name, want.name))
		}
	}
}

func (d *Diff) indexes(want, have *table) {
	replaced := map[string]bool{}
	for _, w := range want.indexes {
		if have.index(w) {
			continue
		}
		for _, h := range have.indexes {
			if h.name == w.name {
				replaced[h.name] = true
				d.step("DROP INDEX IF EXISTS "+catalog.Name{Schema: want.name.Schema, Name: h.name}.String(), h.sql(h.name, want.name))
			}
		}
		d.step(w.sqlOnce(want.name), "DROP INDEX "+catalog.Name{Schema: want.name.Schema, Name: w.name}.String())
	}
	for _, h := range have.indexes {
		if !want.index(h) && !replaced[h.name] {
			d.Kept = append(d.Kept, fmt.Sprintf("index %s of %s", h.name, want.name))
		}
	}
}

// keys adds the foreign keys that are missing.
func (d *Diff) keys(want, have *table) {
	on := "ALTER TABLE " + want.name.String()
	for _, w := range want.constraints {
		if w.kind == "f" && (have == nil || !have.constraint(w.def)) {
			drop := on + " DROP CONSTRAINT IF EXISTS " + catalog.Quote(w.name)
			d.step(fmt.Sprintf("%s;\n%s ADD CONSTRAINT %s %s", drop, on, catalog.Quote(w.name), w.def), drop)
		}
	}
}

// aggregates makes those that are missing; one that says something else is made
// anew.
func (d *Diff) aggregates(wanted, actual *layoutOf) {
	for _, name := range wanted.order {
		w := wanted.aggregates[name]
		h, ok := actual.aggregates[name]
		if h == w {
			continue
		}
		drop := "DROP MATERIALIZED VIEW " + name
		if ok {
			d.step("DROP MATERIALIZED VIEW IF EXISTS "+name, h)
		}
		d.step(w, drop)
	}
}

// objects makes functions, views and triggers that are missing or say something
// else.
func (d *Diff) objects(wanted, actual *layoutOf) {
	quiet := false
	for _, name := range slices.Sorted(maps.Keys(wanted.objects)) {
		w := wanted.objects[name]
		h, ok := actual.objects[name]
		if ok && h == w {
			continue
		}
		if !quiet {
			// Functions may name what comes later.
			d.Up = append(d.Up, "SET LOCAL check_function_bodies = off")
			quiet = true
		}
		switch {
		case !ok:
			d.step(w.create, w.drop)
		default:
			d.step(w.create, h.create)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(actual.objects)) {
		if _, ok := wanted.objects[name]; !ok && (strings.Contains(name, "qvp.") || strings.Contains(name, "qvpgw.") || strings.HasPrefix(name, "trigger ")) {
			d.Kept = append(d.Kept, name)
		}
	}
}

// Files are the texts of the migration.
func (d Diff) Files() (up, down string) {
	var b strings.Builder
	b.WriteString("-- Brings this database to the schema that the migrations before make. Look it over\n-- before it is run: it is one transaction.\n")
	for _, k := range d.Kept {
		fmt.Fprintf(&b, "-- Kept, though no migration makes it: %s.\n", k)
	}
	for _, s := range d.Up {
		fmt.Fprintf(&b, "\n%s;\n", s)
	}
	up = b.String()
	b.Reset()
	fmt.Fprintf(&b, "-- loses: %s\n", strings.Join(d.Loses, " "))
	for _, s := range d.Down {
		b.WriteString("\n" + s)
		if !strings.HasPrefix(s, "--") {
			b.WriteString(";")
		}
		b.WriteString("\n")
	}
	return up, b.String()
}
