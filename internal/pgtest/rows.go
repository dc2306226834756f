package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// fill puts up to three rows into every table of schema public, whatever its
// columns are; tables that others refer to come first. A row that a constraint
// refuses is left out.
const fill = `
DO $do$
DECLARE
  t record;
  names text;
  templates text;
BEGIN
  FOR t IN
    SELECT c.oid, c.oid::regclass AS name FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY (SELECT count(*) FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'), c.relname
  LOOP
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), string_agg(v.value, ', ' ORDER BY a.attnum)
    INTO names, templates
    FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
    CROSS JOIN LATERAL (SELECT CASE
      WHEN y.typname IN ('timestamptz', 'timestamp', 'date') THEN format('(timestamptz ''2024-01-01 00:00:00+00'' + $1 * interval ''1 day'')::%s', y.typname)
      WHEN y.typname IN ('int2', 'int4', 'int8') THEN '$1'
      WHEN y.typname IN ('float4', 'float8', 'numeric') THEN '$1 + 0.5'
      WHEN y.typname IN ('text', 'varchar', 'bpchar') THEN '(ARRAY[''buy'', ''sell'', ''buy''])[$1]'
      WHEN y.typname = 'bool' THEN '$1 = 1'
      WHEN y.typname IN ('json', 'jsonb') THEN 'json_build_object(''a'', $1)::' || y.typname
      WHEN y.typname = 'vector' THEN format('array_fill(($1 / 10.0)::real, ARRAY[%s])::vector', greatest(a.atttypmod, 1))
      END AS value) v
    WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.atthasdef
      AND a.attidentity = '' AND a.attgenerated = '' AND v.value IS NOT NULL;
    CONTINUE WHEN names IS NULL;
    FOR i IN 1..3 LOOP
      BEGIN
        EXECUTE format('INSERT INTO %s (%s) SELECT %s', t.name, names, templates) USING i;
      EXCEPTION WHEN integrity_constraint_violation THEN
      END;
    END LOOP;
  END LOOP;
END
$do$`

// looks makes, for every table that fill fills, the query for the number and a
// checksum of its rows, by the columns that it has now.
const looks = `
SELECT format('SELECT %L || count(*) || '' '' || coalesce(sum(hashtextextended(ROW(%s)::text, 0)), 0) FROM %s',
  c.relname || ' ', string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), c.oid::regclass)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY c.oid, c.relname ORDER BY c.relname`

// FillTables puts rows into every table of schema public and returns a query for
// each table that gives one text: its name, the number of its rows and their
// checksum.
func FillTables(ctx context.Context, conn *pgconn.PgConn) ([]string, error) {
	if _, err := conn.Exec(ctx, fill).ReadAll(); err != nil {
		return nil, fmt.Errorf("cannot fill the tables: %w", err)
	}
	return Looks(ctx, conn)
}

// Looks returns those queries without filling anything.
func Looks(ctx context.Context, conn *pgconn.PgConn) ([]string, error) {
	return column(ctx, conn, looks)
}

// Answers runs queries that give one text each.
func Answers(ctx context.Context, conn *pgconn.PgConn, queries []string) (all []string, err error) {
	for _, q := range queries {
		rows, err := column(ctx, conn, q)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

func column(ctx context.Context, conn *pgconn.PgConn, sql string) (values []string, err error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("cannot run %q: %w", sql, err)
	}
	for _, row := range results[0].Rows {
		values = append(values, string(row[0]))
	}
	return values, nil
}
