package schema

import "qvpgw/internal/catalog"

// loggedCTE lists the relations whose changes are in the gateway's change log: what
// is logged, and by which triggers. A relation counts when all its triggers are
// there, and nothing passes them by: children and parents by whose names its rows are
// written, and the workers of a subscription, which fire no statement's triggers.
const loggedCTE = `logged (relation, log, triggers) AS MATERIALIZED (
  SELECT t.tgrelid, CASE WHEN bool_and(p.proname = 'log_correction') THEN 'corrections' ELSE 'rows' END, '{' || string_agg(t.oid::text, ',' ORDER BY t.oid) || '}'
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
  WHERE (p.pronamespace, p.proowner) IN (` + ownSchema + `)
    AND t.tgenabled IN ('O', 'A') AND t.tgtype & 3 = 0 AND t.tgqual IS NULL
    AND NOT EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = t.tgrelid)
  GROUP BY t.tgrelid
  HAVING bool_and(p.proname = 'log_correction') AND bit_or(t.tgtype) & 24 = 24
      OR bool_and(p.proname LIKE 'log\_rows\_of\_%') AND bit_or(t.tgtype) & 60 = 60 AND bool_and(t.tgenabled = 'A')
         AND NOT EXISTS (SELECT FROM pg_inherits i WHERE t.tgrelid IN (i.inhparent, i.inhrelid)))`

func logged(what string) catalog.ChangeLog {
	switch what {
	case "corrections":
		return catalog.CorrectionsLogged
	case "rows":
		return catalog.RowsLogged
	}
	return catalog.NotLogged
}

// settledSQL adds to volatileSQL what the gateway's worker keeps: rows of qvpgw.settled,
// and of the change log those that no refresh has healed yet.
const settledSQL = `
UNION ALL
SELECT 'settled', aggregate, 0, reason, triggers::text, low, high, array_to_string(chunks, ','), '' FROM qvpgw.settled
UNION ALL
SELECT DISTINCT 'changed', h.id, 0, '', '', coalesce(c.low, -9223372036854775808), coalesce(c.high, 9223372036854775807), '', ''
FROM qvpgw.changes c
JOIN pg_class r ON r.oid = c.relation
JOIN pg_namespace n ON n.oid = r.relnamespace
JOIN _timescaledb_catalog.hypertable h ON h.schema_name = n.nspname AND h.table_name = r.relname
WHERE c.kind = 'c'`
