package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
)

// vectorsSQL lists the columns of pgvector's types: schema, table, column, type,
// dimensions (0: any), kind, and the operator classes of their valid indexes for
// nearest neighbours, those over an expression with the column included.
const vectorsSQL = `
SELECT n.nspname, c.relname, a.attname, t.typname, greatest(a.atttypmod, 0), c.relkind,
       coalesce((SELECT string_agg(o.opcname, ' ')
                 FROM pg_index i
                 JOIN pg_class x ON x.oid = i.indexrelid
                 JOIN pg_am m ON m.oid = x.relam AND m.amname IN ('hnsw', 'ivfflat', 'diskann')
                 JOIN pg_opclass o ON o.oid = ANY (i.indclass::oid[])
                 WHERE i.indrelid = c.oid AND i.indisvalid
                   AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = x.oid
                               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum)), '')
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid AND t.typname IN ('vector', 'halfvec')
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't' AND n.nspname <> '_timescaledb_internal'
  AND t.typnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector')
ORDER BY 1, 2, 3`

// What pgvector can index.
var maxDimensions = map[string]int{"vector": 2000, "halfvec": 4000}

// vectors says which vector columns have no index that their queries can use.
func (e *exam) vectors() error {
	if e.s.Vector == "" {
		return nil
	}
	rows, err := e.ask("vector columns", vectorsSQL, 7)
	if err != nil {
		return err
	}
	for _, row := range rows {
		name, column, typ := catalog.Name{Schema: row[0], Name: row[1]}, row[2], row[3]
		var n numbers
		dimensions := n.int(row[4])
		if n.err != nil {
			return fmt.Errorf("cannot understand the dimensions of %s.%s: %w", name, column, n.err)
		}
		wanted := platformMetric[[2]string{name.Name, column}]
		if t := e.relation(name.Name); t == nil || t.Name != name {
			wanted = "" // a table of that name elsewhere
		}
		text := name.Name + "." + column
		switch {
		case row[6] == "" && (dimensions == 0 || dimensions > maxDimensions[typ]):
			f := e.find("vector-without-index", fmt.Sprintf("%s (%s of %s dimensions) has no index: its k-NN queries read every row", text, typ, orAny(dimensions)))
			f.Advice = fmt.Sprintf("an index wants a fixed number of dimensions, at most %d for vector and %d for halfvec", maxDimensions["vector"], maxDimensions["halfvec"])
		case row[6] == "":
			operators := wanted
			if operators == "" {
				operators = typ + "_cosine_ops"
			}
			f := e.find("vector-without-index", text+" has no hnsw or ivfflat index: its k-NN queries read every row", e.createIndex(name, column, operators, row[5]))
			if wanted == "" {
				f.Advice = fmt.Sprintf("%[1]s_l2_ops, %[1]s_ip_ops or %[1]s_l1_ops where queries order by <->, <#> or <+> instead of <=>", typ)
			}
		case wanted != "" && !slices.Contains(strings.Fields(row[6]), wanted):
			e.find("vector-index-metric", fmt.Sprintf("%s has an index for %s, and the platform's functions order by %s", text, row[6], wanted), e.createIndex(name, column, wanted, row[5]))
		}
	}
	return nil
}

func orAny(dimensions int) string {
	if dimensions == 0 {
		return "any number of"
	}
	return fmt.Sprint(dimensions)
}

// createIndex builds without blocking writers where that can be done.
func (e *exam) createIndex(table catalog.Name, column, operators, kind string) string {
	concurrently := " CONCURRENTLY"
	if t := e.s.Relations[table]; kind == "p" || e.v.single || t != nil && t.HypertableID != 0 {
		concurrently = ""
	}
	return fmt.Sprintf("CREATE INDEX%s ON %s USING hnsw (%s %s);", concurrently, table, catalog.Quote(column), operators)
}

// invalidSQL lists the indexes that are not valid and not being built, as far as the
// role may see: schema, index, table.
const invalidSQL = `
SELECT n.nspname, x.relname, c.relname
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i' AND x.relpersistence <> 't'
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = x.relnamespace
WHERE NOT i.indisvalid AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = x.oid)
ORDER BY 1, 2`

// leftover are the names that REINDEX CONCURRENTLY gives to copies.
var leftover = regexp.MustCompile(`_cc(new|old)\d*$`)

// invalidIndexes says which indexes are in the way.
func (e *exam) invalidIndexes() error {
	rows, err := e.ask("invalid indexes", invalidSQL, 3)
	for _, row := range rows {
		name := catalog.Name{Schema: row[0], Name: row[1]}
		mend := fmt.Sprintf("REINDEX INDEX CONCURRENTLY %s;", name)
		if leftover.MatchString(row[1]) {
			mend = fmt.Sprintf("DROP INDEX CONCURRENTLY %s;", name)
		}
		e.find("index-invalid", fmt.Sprintf("index %s of %s is invalid: an attempt to build it failed", row[1], row[2]), mend).Advice = "or DROP INDEX CONCURRENTLY, if nobody needs it"
	}
	return err
}
