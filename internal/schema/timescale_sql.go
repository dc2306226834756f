package schema

import "strconv"

// The queries over TimescaleDB's own catalog.

// hypertablesSQL: id, schema, name, time column, its type, partitioning
// function. The open dimension with the lowest id is the time; materialization
// hypertables are hypertables too, those that hold compressed rows have no
// dimension.
const hypertablesSQL = `
SELECT h.id, h.schema_name, h.table_name, d.column_name, d.column_type::oid,
       coalesce((SELECT p.partitioning_func_schema || '.' || p.partitioning_func
                 FROM _timescaledb_catalog.dimension p
                 WHERE p.hypertable_id = h.id AND p.partitioning_func_schema NOT IN ('_timescaledb_functions', '_timescaledb_internal')
                 LIMIT 1), '')
FROM _timescaledb_catalog.hypertable h
JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
WHERE d.interval_length IS NOT NULL
  AND d.id = (SELECT min(o.id) FROM _timescaledb_catalog.dimension o WHERE o.hypertable_id = h.id AND o.interval_length IS NOT NULL)`

// aggregatesSQL: id, raw id, view, materialization, definition,
// materialized_only, finalized, and the bucket's width, origin, offset, time
// zone and fixedness. The column finalized is gone since 2.25; where it is
// missing, its name means the one of absent.
const aggregatesSQL = `
SELECT c.mat_hypertable_id, c.raw_hypertable_id, c.user_view_schema, c.user_view_name, h.schema_name, h.table_name,
       i.view_definition, c.materialized_only, i.is_finalized,
       coalesce(b.bucket_width, ''), coalesce(b.bucket_origin, ''), coalesce(b.bucket_offset, ''),
       coalesce(b.bucket_timezone, ''), coalesce(b.bucket_fixed_width, false)
FROM _timescaledb_catalog.continuous_agg c
JOIN _timescaledb_catalog.hypertable h ON h.id = c.mat_hypertable_id
JOIN (VALUES (true)) absent (finalized) ON true
CROSS JOIN LATERAL (
  SELECT v.view_definition, finalized AS is_finalized
  FROM timescaledb_information.continuous_aggregates v
  WHERE v.view_schema = c.user_view_schema AND v.view_name = c.user_view_name) i
LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function b ON b.mat_hypertable_id = c.mat_hypertable_id
ORDER BY c.mat_hypertable_id`

// volatileSQL: kind, id, second id, schema, name, start, end, and the compressed
// relation's schema and name. Kinds: chunk (hypertable, chunk, name, range),
// threshold (hypertable), watermark (aggregate), recovery, and from the logs of
// what is not materialized: changed (hypertable, range), invalid (aggregate,
// range); of the gateway's own: settled (aggregate, range, reason, triggers); what
// ANALYZE found: rows (hypertable, chunk, number), distinct (hypertable, column, number
// of values).
func (l layout) volatileSQL() string {
	const recovery = `
SELECT 'recovery', 0, 0, '', '', CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END::bigint, 0::bigint, '', ''`
	if !l.present {
		return recovery
	}
	slices := `JOIN _timescaledb_catalog.chunk_constraint cc ON cc.chunk_id = k.id
JOIN _timescaledb_catalog.dimension_slice s ON s.id = cc.dimension_slice_id`
	if l.sliceByID {
		slices = `JOIN _timescaledb_catalog.dimension_slice s ON s.chunk_id = k.id`
	}
	name, oid, relation := `k.schema_name::text, k.table_name::text`, `to_regclass(format('%I.%I', k.schema_name, k.table_name))`, ``
	if l.chunkOID {
		name, oid, relation = `n.nspname::text, r.relname::text`, `k.relid`, `
JOIN pg_class r ON r.oid = k.relid JOIN pg_namespace n ON n.oid = r.relnamespace`
	}
	compressed, settings := `coalesce(z.schema_name::text, ''), coalesce(z.table_name::text, '')`, `
LEFT JOIN _timescaledb_catalog.chunk z ON z.id = k.compressed_chunk_id`
	if !l.compressedID {
		compressed, settings = `coalesce(zn.nspname::text, ''), coalesce(z.relname::text, '')`, `
LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = `+oid+`
LEFT JOIN pg_class z ON z.oid = cs.compress_relid LEFT JOIN pg_namespace zn ON zn.oid = z.relnamespace`
	}
	rows := `JOIN pg_namespace n ON n.nspname = k.schema_name JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = k.table_name`
	if l.chunkOID {
		rows = `JOIN pg_class r ON r.oid = k.relid`
	}
	kept := `true`
	if l.dropped {
		kept = `NOT k.dropped`
	}
	ranges := ``
	if l.ranges {
		ranges = `
UNION ALL
SELECT 'invalid', materialization_id, 0, '', '', lowest_modified_value, greatest_modified_value, '', ''
FROM _timescaledb_catalog.continuous_aggs_materialization_ranges`
	}
	settled := ``
	if l.settled {
		settled = settledSQL
	}
	return recovery + settled + `
UNION ALL
SELECT 'threshold', hypertable_id, 0, '', '', watermark, 0, '', '' FROM _timescaledb_catalog.continuous_aggs_invalidation_threshold
UNION ALL
SELECT 'watermark', mat_hypertable_id, 0, '', '', watermark, 0, '', '' FROM _timescaledb_catalog.continuous_aggs_watermark
UNION ALL
SELECT 'changed', hypertable_id, 0, '', '', lowest_modified_value, greatest_modified_value, '', ''
FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log
UNION ALL
SELECT 'invalid', materialization_id, 0, '', '', lowest_modified_value, greatest_modified_value, '', ''
FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log` + ranges + `
UNION ALL
SELECT 'chunk', k.hypertable_id, k.id, ` + name + `, s.range_start, s.range_end, ` + compressed + `
FROM _timescaledb_catalog.chunk k
` + slices + `
JOIN (SELECT hypertable_id, min(id) AS id FROM _timescaledb_catalog.dimension
      WHERE interval_length IS NOT NULL GROUP BY hypertable_id) d ON d.id = s.dimension_id AND d.hypertable_id = k.hypertable_id` + relation + settings + `
WHERE ` + kept + `
UNION ALL
SELECT 'rows', k.hypertable_id, k.id, '', '', r.reltuples::bigint, 0, '', '' FROM _timescaledb_catalog.chunk k ` + rows + `
WHERE r.reltuples >= 0 AND ` + kept + `
UNION ALL
SELECT 'distinct', h.id, 0, t.attname, '', t.n_distinct::bigint, 0, '', ''
FROM _timescaledb_catalog.hypertable h JOIN pg_stats t ON t.schemaname = h.schema_name AND t.tablename = h.table_name
WHERE t.inherited AND t.n_distinct >= 1 AND h.id IN (SELECT raw_hypertable_id FROM _timescaledb_catalog.continuous_agg)`
}

// oldest is the lowest TimescaleDB version whose catalog these queries read.
var oldest = version{2, 15, 1}

// version is an extension's version; what follows the third number is ignored.
type version [3]int

func parseVersion(s string) version {
	var v version
	part := 0
	for i := 0; i < len(s) && part < len(v); {
		end := i
		for end < len(s) && s[end] >= '0' && s[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(s[i:end])
		if err != nil {
			break
		}
		v[part] = n
		part++
		if end == len(s) || s[end] != '.' {
			break
		}
		i = end + 1
	}
	return v
}

func (v version) less(o version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}
