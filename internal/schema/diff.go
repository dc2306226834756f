package schema

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"qvpgw/internal/catalog"
)

// Diff is what must be done to a database for its schema to be the wanted one.
type Diff struct {
	Up, Down []string // statements, without semicolons
	Loses    []string // what Down drops that may hold rows
	Kept     []string // what the database has of its own on the platform's tables, and may keep
}

// Empty says that there is nothing to do.
func (d Diff) Empty() bool { return len(d.Up) == 0 }

// step adds a statement and the one that undoes it.
func (d *Diff) step(up, down string) {
	d.Up = append(d.Up, up)
	d.Down = slices.Insert(d.Down, 0, down)
}

// Diff compares the database with the schema that its migrations make. They are
// run in an empty database, which is made beside it for that and dropped, or is
// the one that scratch names. Nothing of the database itself is changed. It is an
// error if the database is not at the newest version.
func (m *Migrator) Diff(ctx context.Context, scratch string) (diff Diff, err error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return Diff{}, fmt.Errorf("cannot connect to the database to compare it: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	q := ConnQuery(conn)
	s, err := m.statusBy(ctx, q)
	if err != nil {
		return Diff{}, err
	}
	if !s.Current() {
		return Diff{}, fmt.Errorf("cannot compare the schema, it is at version %s and the newest is %s: %s", versionText(s.Version), versionText(s.Newest), s.Advice)
	}
	other := &Migrator{dsn: scratch, o: m.o}
	other.o.Policies = nil
	if scratch == "" {
		other.dsn = m.dsn
		other.database = fmt.Sprintf("qvpgw_wanted_%d_%d", os.Getpid(), time.Now().UnixNano())
		if _, err := q(ctx, "CREATE DATABASE "+other.database+" TEMPLATE template0"); err != nil {
			return Diff{}, fmt.Errorf("cannot make a database for the wanted schema: %w; name an empty one with --scratch", err)
		}
		defer func() {
			_, derr := q(context.WithoutCancel(ctx), "DROP DATABASE "+other.database+" WITH (FORCE)")
			err = errors.Join(err, derr)
		}()
	}
	wanted, err := other.wanted(ctx)
	if err != nil {
		return Diff{}, err
	}
	actual, err := readLayout(ctx, q)
	if err != nil {
		return Diff{}, err
	}
	return compareLayouts(wanted, actual), nil
}

// wanted runs the migrations in an empty database and reads what they made. It has
// one connection at a time.
func (m *Migrator) wanted(ctx context.Context) (*layoutOf, error) {
	empty, err := m.layout(ctx)
	if err != nil {
		return nil, err
	}
	if len(empty.tables) > 0 {
		return nil, errors.New("cannot make the wanted schema: the scratch database is not empty")
	}
	if _, err := m.Up(ctx); err != nil {
		return nil, fmt.Errorf("cannot make the wanted schema in the scratch database: %w", err)
	}
	return m.layout(ctx)
}

func (m *Migrator) layout(ctx context.Context) (l *layoutOf, err error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the scratch database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return readLayout(ctx, ConnQuery(conn))
}

// layoutOf is the platform's part of a database.
type layoutOf struct {
	tables     map[string]*table
	extensions []string
	aggregates map[string]string // by view: the statement that makes it
	order      []string          // the aggregates, each after those that it stands on
	objects    map[string]object // functions, views and triggers, by what they are
}

type object struct {
	create, drop string
}

// layoutSQL lists tables, aggregates, views, functions and triggers of the schemas
// that migrations make things in: kind, schema, name, definition, drop.
const layoutSQL = `
SELECT 'table', n.nspname, c.relname, '', '' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'qvp', 'qvpgw') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'view', n.nspname, c.relname, pg_get_viewdef(c.oid), '' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND n.nspname IN ('public', 'qvp', 'qvpgw') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'function', n.nspname, p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.prokind::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind IN ('f', 'p') AND n.nspname IN ('public', 'qvp', 'qvpgw') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'trigger', n.nspname, t.tgname || ' ON ' || c.oid::regclass, pg_get_triggerdef(t.oid), '' FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
WHERE NOT t.tgisinternal AND n.nspname IN ('public', 'qvp', 'qvpgw') AND f.nspname NOT LIKE '\_timescaledb\_%'
ORDER BY 1, 2, 3`

// layoutAggregatesSQL lists continuous aggregates: schema, name, definition, options.
const layoutAggregatesSQL = `
SELECT view_schema, view_name, rtrim(view_definition, E' \n;'), materialized_only::text FROM timescaledb_information.continuous_aggregates
ORDER BY length(materialization_hypertable_name), materialization_hypertable_name`

func readLayout(ctx context.Context, q Query) (*layoutOf, error) {
	l := &layoutOf{tables: map[string]*table{}, aggregates: map[string]string{}, objects: map[string]object{}}
	extensions, err := read(ctx, q, "extensions", "SELECT extname FROM pg_extension WHERE extname IN ('timescaledb', 'vector') ORDER BY 1", 1)
	if err != nil {
		return nil, err
	}
	for _, e := range extensions {
		l.extensions = append(l.extensions, e[0])
	}
	there, err := read(ctx, q, "TimescaleDB", "SELECT to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL", 1)
	if err != nil {
		return nil, err
	}
	if there[0][0] == "t" {
		rows, err := read(ctx, q, "continuous aggregates", layoutAggregatesSQL, 4)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			name := catalog.Name{Schema: r[0], Name: r[1]}.String()
			l.order = append(l.order, name)
			l.aggregates[name] = fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s WITH (timescaledb.continuous, timescaledb.materialized_only = %s) AS\n%s\nWITH NO DATA", name, r[3], r[2])
		}
	}
	rows, err := read(ctx, q, "the schema", layoutSQL, 5)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		name := catalog.Name{Schema: r[1], Name: r[2]}
		switch r[0] {
		case "table":
			if l.tables[name.String()], err = readTable(ctx, q, name); err != nil {
				return nil, err
			}
		case "view":
			if _, aggregate := l.aggregates[name.String()]; !aggregate {
				l.objects["view "+name.String()] = object{"CREATE OR REPLACE VIEW " + name.String() + " AS\n" + strings.TrimRight(r[3], " \n;"), "DROP VIEW " + name.String()}
			}
		case "function":
			kind := map[string]string{"f": "FUNCTION ", "p": "PROCEDURE "}[r[4]]
			l.objects["function "+r[2]] = object{strings.TrimRight(r[3], " \n"), "DROP " + kind + r[2]}
		default:
			l.objects["trigger "+r[2]] = object{strings.Replace(r[3], "CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1), "DROP TRIGGER " + r[2]}
		}
	}
	return l, nil
}
