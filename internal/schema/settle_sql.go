package schema

import (
	"fmt"

	"qvpgw/internal/catalog"
)

// settleLock is the advisory lock of the gateway that settles: "qvpgs" in ASCII.
const settleLock = 0x7176706773

// Codes in qvpgw.settled.reason: why an aggregate cannot be settled.
const (
	UnsettledNoLog     = "no_change_log"     // its hypertable has no triggers for the change log
	UnsettledPrivilege = "refresh_privilege" // the gateway's role does not own it
	UnsettledVersion   = "refresh_version"   // TimescaleDB cannot refresh by force (before 2.18)
	UnsettledTime      = "refresh_time"      // its time is neither timestamp nor timestamptz nor date nor an integer
)

// aggregatesStateSQL: aggregate, its hypertable, the hypertable at the root, depth,
// view, its owner's rights, type of the time, twice the bucket's width and one chunk
// interval in internal time, threshold, settled low, high, triggers and reason, the
// root's relation and its present triggers, start of the oldest chunk, or, while its
// retention may run, where that may come to: a refresh of what is dropped would lose
// history (integers under a policy have no chunk to tell);
// whether refresh_continuous_aggregate can be forced; the chunks of the materialization,
// each id:start:end, and those that are settled. Parents come before what stands on them.
func (l layout) aggregatesStateSQL() string {
	slices := `JOIN _timescaledb_catalog.chunk_constraint cc ON cc.chunk_id = k.id
      JOIN _timescaledb_catalog.dimension_slice s ON s.id = cc.dimension_slice_id`
	if l.sliceByID {
		slices = `JOIN _timescaledb_catalog.dimension_slice s ON s.chunk_id = k.id`
	}
	kept := `true`
	if l.dropped {
		kept = `NOT k.dropped`
	}
	return `
WITH RECURSIVE ` + loggedCTE + `,
tree (id, raw, root, depth) AS (
  SELECT c.mat_hypertable_id, c.raw_hypertable_id, c.raw_hypertable_id, 0
  FROM _timescaledb_catalog.continuous_agg c
  WHERE c.raw_hypertable_id NOT IN (SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg)
  UNION ALL
  SELECT c.mat_hypertable_id, c.raw_hypertable_id, t.root, t.depth + 1
  FROM _timescaledb_catalog.continuous_agg c JOIN tree t ON t.id = c.raw_hypertable_id)
SELECT t.id, t.raw, t.depth, v.oid, pg_has_role(v.relowner, 'USAGE'),
       d.column_type::regtype, CASE WHEN b.bucket_width ~ '^\d+$' THEN (b.bucket_width::bigint * 2)::text ELSE (extract(epoch FROM b.bucket_width::interval) * 2000000)::bigint::text END,
       d.interval_length, coalesce(i.watermark::text, ''),
       coalesce(s.low::text, ''), coalesce(s.high::text, ''), coalesce(s.triggers::text, ''), coalesce(s.reason, ''),
       r.oid, coalesce((SELECT l.triggers FROM logged l WHERE l.relation = r.oid AND l.log = 'corrections'), ''),
       coalesce((SELECT CASE
        WHEN d.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND EXISTS (
          SELECT FROM timescaledb_information.jobs j
          WHERE j.proc_name = 'policy_retention' AND j.hypertable_schema = ht.schema_name AND j.hypertable_name = ht.table_name) THEN NULL
        WHEN min(s.range_start) IS NOT NULL THEN greatest(min(s.range_start), (
          SELECT max((extract(epoch FROM now() - (j.config->>'drop_after')::interval) * 1000000)::bigint + 3600000000)
          FROM timescaledb_information.jobs j
          WHERE j.scheduled AND coalesce(j.next_start < now() + interval '15 minutes', true)
            AND (NOT pg_has_role('pg_read_all_stats', 'USAGE')
                 OR EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'TimescaleDB Background Worker Scheduler%'))
            AND j.proc_name = 'policy_retention' AND j.hypertable_schema = ht.schema_name AND j.hypertable_name = ht.table_name
            AND d.column_type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype))) END
      FROM _timescaledb_catalog.chunk k
      ` + slices + `
      WHERE k.hypertable_id = t.raw AND s.dimension_id = d.id AND ` + kept + `)::text, ''),
       EXISTS (SELECT FROM pg_proc p WHERE p.proname = 'refresh_continuous_aggregate' AND 'force' = ANY (p.proargnames)),
       coalesce((SELECT string_agg(concat_ws(':', k.id, s.range_start, s.range_end), ',' ORDER BY k.id)
      FROM _timescaledb_catalog.chunk k
      ` + slices + `
      WHERE k.hypertable_id = t.id AND ` + kept + `), ''),
       coalesce(array_to_string(s.chunks, ','), '')
FROM tree t
JOIN _timescaledb_catalog.continuous_agg c ON c.mat_hypertable_id = t.id
JOIN pg_namespace vn ON vn.nspname = c.user_view_schema
JOIN pg_class v ON v.relnamespace = vn.oid AND v.relname = c.user_view_name
JOIN _timescaledb_catalog.hypertable h ON h.id = t.root
JOIN _timescaledb_catalog.hypertable ht ON ht.id = t.raw
JOIN pg_namespace rn ON rn.nspname = h.schema_name
JOIN pg_class r ON r.relnamespace = rn.oid AND r.relname = h.table_name
JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = t.raw AND d.interval_length IS NOT NULL
  AND d.id = (SELECT min(o.id) FROM _timescaledb_catalog.dimension o WHERE o.hypertable_id = t.raw AND o.interval_length IS NOT NULL)
JOIN _timescaledb_catalog.continuous_aggs_bucket_function b ON b.mat_hypertable_id = t.id
LEFT JOIN _timescaledb_catalog.continuous_aggs_invalidation_threshold i ON i.hypertable_id = t.raw
LEFT JOIN qvpgw.settled s ON s.aggregate = t.id
ORDER BY t.depth, t.id`
}

// correctionsSQL: relation, lowest and highest time, "" for an open end, and the
// transactions whose rows these are. A bounded number at a time.
const correctionsSQL = `
SELECT c.relation::oid, CASE WHEN bool_and(c.low IS NOT NULL) THEN min(c.low)::text ELSE '' END,
       CASE WHEN bool_and(c.high IS NOT NULL) THEN max(c.high)::text ELSE '' END, array_agg(DISTINCT c.xid)::text
FROM (SELECT * FROM qvpgw.changes WHERE kind = 'c' ORDER BY relation, xid LIMIT 2000) c
GROUP BY c.relation`

// strayedSQL removes what is kept of aggregates that are gone.
const strayedSQL = `
DELETE FROM qvpgw.settled s
WHERE NOT EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg c WHERE c.mat_hypertable_id = s.aggregate)`

func recordSQL(a *settling) string {
	return fmt.Sprintf(`
INSERT INTO qvpgw.settled (aggregate, low, high, triggers, reason, chunks) VALUES (%d, %d, %d, %s, %s, %s)
ON CONFLICT (aggregate) DO UPDATE SET low = excluded.low, high = excluded.high, triggers = excluded.triggers, reason = excluded.reason, chunks = excluded.chunks, at = now()`,
		a.id, a.low, a.high, catalog.Literal(a.triggers), catalog.Literal(a.reason), catalog.Literal("{"+a.chunks()+"}"))
}
