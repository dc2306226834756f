package schema

import (
	"strings"

	"qvpgw/internal/catalog"
)

// listSQL: for each kind of object that comes and goes with DDL what there is, and the
// functions that something stands on, each as one text: an object is its oid, the
// transaction that wrote its row, and its name.
func (l layout) listSQL() string {
	const internal = ` <> coalesce((SELECT oid FROM pg_namespace WHERE nspname = '_timescaledb_internal'), 0)`
	return `
WITH ` + l.chunksCTE() + `
SELECT coalesce((SELECT string_agg(concat_ws(' ', c.oid, c.xmin, c.relname), chr(1)) FROM pg_class c
                 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
                   AND c.relnamespace` + internal + ` AND c.oid NOT IN (SELECT oid FROM chunks)), ''),
       coalesce((SELECT string_agg(concat_ws(' ', t.oid, t.xmin, t.typname), chr(1)) FROM pg_type t
                 WHERE t.oid >= 16384 AND t.typnamespace` + internal + `), ''),
       coalesce((SELECT string_agg(concat_ws(' ', p.oid, p.xmin, p.proname), chr(1)) FROM pg_proc p WHERE p.oid >= 16384), ''),
       coalesce((SELECT string_agg(p.oid::text, ' ') FROM pg_proc p WHERE p.oid >= 16384 AND ` + usedSQL + `), '')`
}

// patternSQL: what stands in the trees of expressions that call the functions of state,
// and nextval, or state alone.
const patternSQL = `
SELECT ':funcid (1574|' || string_agg(oid::text, '|') || ') ', ':funcid (' || string_agg(oid::text, '|') || ') '
FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384 AND (` + stateful + `)`

// touchedSQL: kind, a, b, text, as codeSQL has them, of what belongs to some relations,
// types and functions alone, when nothing in it runs or depends on code of a user; else
// a row of the kind "whole". told are the functions of triggers that may call nextval
// or send notifications, pattern is patternSQL's row. A row "candidate" is a function of one of the names; b: it
// is of no known extension.
func (l layout) touchedSQL(t *touched, told map[catalog.OID]bool, pattern []string) string {
	return strings.NewReplacer(
		"{chunks}", l.chunksCTE(), "{owned}", ownedCTE,
		"{relations}", array(t.relations), "{types}", array(t.types), "{functions}", array(t.functions),
		"{typenames}", names(t.typeNames), "{functionnames}", names(t.functionNames),
		"{badfunctions}", array(t.bad["bad-function"]), "{badoperators}", array(t.bad["bad-operator"]), "{badclasses}", array(t.bad["bad-class"]), "{badtypes}", array(t.bad["bad-type"]),
		"{told}", array(told), "{all}", catalog.Literal(pattern[0]), "{defaults}", catalog.Literal(pattern[1]),
	).Replace(touchedTemplate)
}

const touchedTemplate = `
WITH {chunks}, {owned},
o (oid) AS MATERIALIZED (SELECT unnest({relations})),
things (classid, objid) AS MATERIALIZED (
  SELECT 'pg_class'::regclass::oid, oid FROM o
  UNION ALL SELECT 'pg_class'::regclass, typrelid FROM pg_type WHERE oid = ANY ({types}) AND typrelid <> 0
  UNION ALL SELECT 'pg_type'::regclass, unnest({types})
  UNION ALL SELECT 'pg_proc'::regclass, unnest({functions})
  UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = ANY ({relations})
  UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t WHERE t.tgrelid = ANY ({relations})
  UNION ALL SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r WHERE r.ev_class = ANY ({relations})
  UNION ALL SELECT 'pg_policy'::regclass, l.oid FROM pg_policy l WHERE l.polrelid = ANY ({relations})
  UNION ALL SELECT 'pg_attrdef'::regclass, f.oid FROM pg_attrdef f WHERE f.adrelid = ANY ({relations})
  UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c WHERE c.conrelid = ANY ({relations})
  UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c WHERE c.contypid = ANY ({types}))
SELECT 'whole' AS kind, 0::oid AS a, 0::oid AS b, '' AS what
WHERE EXISTS (SELECT FROM things s JOIN pg_depend d ON d.classid = s.classid AND d.objid = s.objid
              WHERE d.refobjid >= 16384 AND (d.deptype <> 'e' AND (d.refclassid = 'pg_proc'::regclass AND d.refobjid = ANY ({badfunctions})
                     OR d.refclassid = 'pg_operator'::regclass AND d.refobjid = ANY ({badoperators})
                     OR d.refclassid = 'pg_opclass'::regclass AND d.refobjid = ANY ({badclasses}))
                     OR d.refclassid = 'pg_type'::regclass AND d.refobjid = ANY ({badtypes})))
   OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY ({relations}) AND (t.tgfoid = ANY ({told}) OR t.tgqual::text ~ {all}))
   OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = ANY ({relations}) AND (r.rulename <> '_RETURN' OR r.ev_action::text ~ {all}))
   OR EXISTS (SELECT FROM pg_policy l WHERE l.polrelid = ANY ({relations}) AND concat(l.polqual, l.polwithcheck) ~ {all})
   OR EXISTS (SELECT FROM pg_attrdef f WHERE f.adrelid = ANY ({relations}) AND f.adbin::text ~ {defaults})
   OR EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = ANY ({relations}) AND c.contype = 'c' AND c.conbin::text ~ {all})
   OR EXISTS (SELECT FROM pg_constraint c WHERE c.contypid = ANY ({types}) AND c.conbin::text ~ {all})
   OR EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY ({types}) AND t.typtype NOT IN ('c', 'd', 'e') AND t.typcategory <> 'A')
   OR EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY ({types}) AND t.typdefaultbin::text ~ {defaults})
   OR EXISTS (SELECT FROM pg_proc p WHERE p.oid = ANY ({functions}) AND p.proargdefaults::text ~ {all})
   OR EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY ({relations}) AND (c.relam >= 16384 OR c.relkind = 'f'))
UNION ALL
SELECT 'domain', 0, t.oid, '' FROM pg_type t WHERE t.oid = ANY ({types}) AND t.typtype = 'd'
UNION ALL
SELECT CASE WHEN (NOT p.known OR p.proname IN (` + unsafeExtension + `))
             AND NOT (p.owned AND p.provolatile = 'i' AND p.prolang IN (12, 13))
             AND NOT (p.prolang = 12 AND p.prosrc ~ '^(multi)?range_constructor[0-3]$')
             AND (p.pronamespace, p.proowner) NOT IN (` + ownSchema + `) THEN 'candidate' ELSE 'function' END,
       p.oid, (NOT p.known)::int, p.proname
FROM (SELECT *, oid IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass) AS owned,
             oid IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass AND known) AS known
      FROM pg_proc WHERE oid >= 16384 AND proname = ANY ({functionnames})) p
UNION ALL
SELECT 'known-type', 0, bool_or(oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_type'::regclass AND known))::int, typname FROM pg_type t
WHERE oid >= 16384 AND typname = ANY ({typenames})
  AND typnamespace <> coalesce((SELECT oid FROM pg_namespace WHERE nspname = '_timescaledb_internal'), 0) AND t.typtype <> 'p'
GROUP BY typname
UNION ALL
SELECT DISTINCT 'reads', l.polrelid, d.refobjid, ''
FROM pg_policy l
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = l.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> l.polrelid
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
WHERE l.polrelid = ANY ({relations})
UNION ALL
SELECT DISTINCT 'reads', v.oid, d.refobjid, ''
FROM pg_class v JOIN pg_rewrite r ON r.ev_class = v.oid AND r.rulename = '_RETURN'
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
WHERE v.oid = ANY ({relations}) AND v.relkind IN ('v', 'm')
  AND v.oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_class'::regclass AND known)
UNION ALL
SELECT 'holds', i.inhparent, i.inhrelid, '' FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
WHERE (i.inhparent = ANY ({relations}) OR i.inhrelid = ANY ({relations})) AND ` + heldSQL + ` AND i.inhrelid NOT IN (SELECT oid FROM chunks)
UNION ALL
SELECT 'cascades', confrelid, conrelid, CASE WHEN 'd' IN (confdeltype, confupdtype) THEN 'default' ELSE '' END
FROM pg_constraint
WHERE contype = 'f' AND (conrelid = ANY ({relations}) OR confrelid = ANY ({relations}))
  AND conrelid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_class'::regclass AND known)
  AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
  AND conrelid NOT IN (SELECT oid FROM chunks)`

// heldSQL is the condition on the class c of what holds others: an index is no relation
// of the snapshot, nor is what is temporary.
const heldSQL = `c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'`
