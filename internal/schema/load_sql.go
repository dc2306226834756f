package schema

import "strings"

// The queries of Loader. They name no column that differs between TimescaleDB
// 2.15 and 2.30 but through layout, need no privilege beyond what PUBLIC has,
// and return no NULL that matters. Objects below oid 16384 are initdb's and are
// taken as built in.

// layout says how TimescaleDB's catalog is laid out.
type layout struct {
	present   bool // the extension is there and new enough
	chunkOID  bool // chunk has relid instead of schema_name and table_name (2.30)
	sliceByID bool // dimension_slice has chunk_id, and chunk_constraint is gone (2.30)
	dropped   bool // chunk has a column dropped

	compressedID bool // chunk has compressed_chunk_id; else compression_settings leads to the compressed relation
	ranges       bool // continuous_aggs_materialization_ranges is there (2.22)

	settled   bool // qvpgw.settled is there and may be read
	knownOnly bool // no function, operator or domain but those of initdb and known extensions
}

const factsSQL = `
WITH ` + ownedCTE + `
SELECT current_setting('server_version_num'),
       coalesce((SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), ''),
       coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'), ''),
       coalesce(current_setting('timescaledb.license', true), ''),
       pg_is_in_recovery(),
       (SELECT coalesce(string_agg(c.relname || '.' || a.attname, ' '), '')
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = '_timescaledb_catalog')
          AND c.relname IN ('chunk', 'dimension_slice', 'continuous_aggs_materialization_ranges')
          AND a.attnum > 0 AND NOT a.attisdropped),
       NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384 AND oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass AND known)
                   AND (pronamespace, proowner) NOT IN (` + ownSchema + `))
       AND NOT EXISTS (SELECT FROM pg_operator WHERE oid >= 16384 AND oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_operator'::regclass AND known))
       AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384 AND typtype = 'd'),
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'qvpgw' AND c.relname = 'settled' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))`

// ownSchema is the gateway's own schema, with its owner: the owner's functions in it
// are the gateway's.
const ownSchema = `SELECT oid, nspowner FROM pg_namespace WHERE nspname = 'qvpgw'`

// knownExtensions are those whose functions are known to leave no state in a
// session and to run no code of users, but for unsafeExtension.
const knownExtensions = `'timescaledb', 'timescaledb_toolkit', 'vector', 'vectorscale', 'plpgsql', 'pgcrypto', 'uuid-ossp', 'citext', 'hstore', 'pg_stat_statements',
  'pg_trgm', 'btree_gist', 'btree_gin', 'intarray', 'ltree', 'cube', 'earthdistance', 'fuzzystrmatch', 'unaccent', 'isn', 'seg', 'lo', 'bloom',
  'tcn', 'tsm_system_rows', 'tsm_system_time', 'dict_int', 'dict_xsyn', 'pg_buffercache', 'pg_freespacemap', 'pg_visibility', 'pgrowlocks',
  'pgstattuple', 'pg_prewarm', 'sslinfo', 'amcheck', 'pageinspect', 'postgis'`

// unsafeExtension are functions of known extensions that set settings of the
// session.
const unsafeExtension = `'timescaledb_pre_restore', 'timescaledb_post_restore'`

// stateful are built-in functions that leave state in the session, send notifications
// or run SQL that they are given. nextval is apart: in a default it is expected.
const stateful = `p.proname IN ('set_config', 'setseed', 'setval', 'currval', 'lastval', 'pg_notify',
  'query_to_xml', 'query_to_xmlschema', 'query_to_xml_and_xmlschema', 'cursor_to_xml', 'cursor_to_xmlschema',
  'table_to_xml', 'table_to_xmlschema', 'table_to_xml_and_xmlschema', 'schema_to_xml', 'schema_to_xml_and_xmlschema',
  'database_to_xml', 'database_to_xml_and_xmlschema', 'ts_stat', 'ts_rewrite', 'pg_stat_force_next_flush',
  'pg_create_physical_replication_slot', 'pg_create_logical_replication_slot', 'pg_copy_physical_replication_slot',
  'pg_copy_logical_replication_slot', 'pg_replication_origin_session_setup', 'pg_replication_origin_session_reset',
  'pg_backup_start', 'pg_backup_stop')
  OR p.proname LIKE 'pg\_%advisory\_%'`

// chunksCTE lists the relations that are chunks; they stand for their
// hypertable and are no relations of the snapshot.
func (l layout) chunksCTE() string {
	const compressed = `
  SELECT c.oid FROM pg_class c
  WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = '_timescaledb_internal') AND c.relname LIKE '%\_chunk'`
	switch {
	case !l.present:
		return `chunks (oid) AS (SELECT 0::oid WHERE false)`
	case l.chunkOID:
		return `chunks (oid) AS MATERIALIZED (
  SELECT relid::oid FROM _timescaledb_catalog.chunk
  UNION` + compressed + `)`
	}
	return `chunks (oid) AS MATERIALIZED (
  SELECT c.oid FROM _timescaledb_catalog.chunk k
  JOIN pg_namespace n ON n.nspname = k.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = k.table_name
  UNION` + compressed + `)`
}

// ownedCTE lists what extensions own, and whether the extension is known.
const ownedCTE = `owned (classid, objid, known) AS MATERIALIZED (
  SELECT d.classid, d.objid, x.extname IN (` + knownExtensions + `)
  FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
  WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')`

// relationsSQL: oid, schema, name, kind, row security, insert trigger, and what
// loggedCTE gives.
func (l layout) relationsSQL() string {
	return `
WITH ` + l.chunksCTE() + `, ` + loggedCTE + `,
inserted AS (
  SELECT DISTINCT t.tgrelid
  FROM pg_trigger t
  JOIN pg_proc p ON p.oid = t.tgfoid
  WHERE t.tgtype & 4 <> 0
    AND p.pronamespace <> coalesce((SELECT oid FROM pg_namespace WHERE nspname = 'qvpgw'), 0)
    AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'timescaledb'))
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity OR c.relforcerowsecurity,
       c.oid IN (SELECT tgrelid FROM inserted),
       coalesce((SELECT log FROM logged l WHERE l.relation = c.oid), ''), coalesce((SELECT triggers FROM logged l WHERE l.relation = c.oid), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  AND n.nspname <> 'pg_toast'
  AND c.oid NOT IN (SELECT oid FROM chunks)
  AND NOT (n.nspname = '_timescaledb_internal' AND c.relkind = 'v')`
}

// columnsSQL: relation, number, name, type, typmod, not null, nextval,
// nondeterministic collation. Relations of initdb and of known extensions are left out:
// nobody plans on their columns. where is "" or one more condition on the relation c.
func (l layout) columnsSQL(where string) string {
	return `
WITH ` + l.chunksCTE() + `, ` + ownedCTE + `
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
       a.attidentity <> ''
       OR EXISTS (SELECT FROM pg_attrdef f WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum AND f.adbin::text LIKE '%:funcid 1574 %')
       OR EXISTS (SELECT FROM pg_type t WHERE t.oid = a.atttypid AND t.oid >= 16384 AND t.typtype = 'd' AND t.typdefaultbin::text LIKE '%:funcid 1574 %'),
       a.attcollation >= 16384
       AND EXISTS (SELECT FROM pg_collation l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
  AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relnamespace <> coalesce((SELECT oid FROM pg_namespace WHERE nspname = 'pg_toast'), 0)
  AND c.oid NOT IN (SELECT oid FROM chunks)
  AND c.oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_class'::regclass AND known)` + where + `
ORDER BY a.attrelid, a.attnum`
}

// knownOnly stands for badCTE in a database without a function, operator or
// domain of a user: three quarters of the work are then not needed.
const knownOnly = `badoperator (oid) AS (SELECT 0::oid WHERE false),
badclass (oid, opcdefault, type, native) AS (SELECT 0::oid, false, 0::oid, false WHERE false),
badtype (oid) AS (SELECT 0::oid WHERE false),
bad (classid, objid, objsubid, code) AS (SELECT 0::oid, 0::oid, 0, 0::oid WHERE false),
`

// badCTE finds what runs code: operators, operator classes and types, those included
// whose values have such operators, casts or sort orders, and then everything that pg_depend says stands on them, with the function, or 0 where it is
// an operator's, a class's or a type's.
const badCTE = `badoperator (oid) AS MATERIALIZED (
  SELECT o.oid FROM pg_operator o
  WHERE o.oid >= 16384
    AND (o.oprcode IN (SELECT oid FROM code UNION ALL SELECT oid FROM state UNION ALL SELECT 1574)
         OR o.oprrest IN (SELECT oid FROM code) OR o.oprjoin IN (SELECT oid FROM code))),
badclass (oid, opcdefault, type, native) AS MATERIALIZED (
  SELECT c.oid, c.opcdefault, c.opcintype, bool_and(f.native) FROM pg_opclass c
  JOIN (SELECT a.amprocfamily AS family, k.native FROM pg_amproc a JOIN code k ON k.oid = a.amproc
        UNION ALL
        SELECT a.amopfamily, false FROM pg_amop a JOIN badoperator b ON b.oid = a.amopopr) f ON f.family = c.opcfamily
  GROUP BY c.oid, c.opcdefault, c.opcintype),
direct (classid, objid, objsubid, code) AS MATERIALIZED (
  SELECT DISTINCT d.classid, d.objid, d.objsubid, CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE 0 END
  FROM pg_depend d
  JOIN (SELECT 'pg_proc'::regclass::oid, oid FROM code
        UNION ALL SELECT 'pg_operator'::regclass, oid FROM badoperator
        UNION ALL SELECT 'pg_opclass'::regclass, oid FROM badclass) b (classid, oid)
    ON d.refclassid = b.classid AND d.refobjid = b.oid
  WHERE d.deptype <> 'e'),
badtype (oid) AS (
  (SELECT t.oid FROM pg_type t
   WHERE t.oid >= 16384
     AND ARRAY[t.typinput::oid, t.typoutput::oid, t.typreceive::oid, t.typsend::oid, t.typmodin::oid, t.typmodout::oid, t.typsubscript::oid] && (SELECT array_agg(oid) FROM code)
   UNION ALL
   SELECT v.type FROM pg_cast c JOIN code k ON k.oid = c.castfunc, LATERAL (VALUES (c.castsource), (c.casttarget)) v (type)
   WHERE v.type >= 16384
   UNION ALL
   SELECT c.type FROM badclass c WHERE c.opcdefault AND c.type >= 16384
   UNION ALL
   SELECT v.type FROM badoperator b JOIN pg_operator o ON o.oid = b.oid, LATERAL (VALUES (o.oprleft), (o.oprright)) v (type)
   WHERE v.type >= 16384
   UNION ALL
   SELECT r.rngtypid FROM pg_range r JOIN code k ON k.oid IN (r.rngcanonical, r.rngsubdiff)
   UNION ALL
   SELECT c.contypid FROM pg_constraint c
   WHERE c.contypid >= 16384
     AND (c.conbin::text ~ (SELECT all_ FROM pattern)
          OR c.oid IN (SELECT objid FROM direct WHERE classid = 'pg_constraint'::regclass))
   UNION ALL
   SELECT t.oid FROM pg_type t
   WHERE t.typtype = 'd' AND t.oid >= 16384
     AND (t.typdefaultbin::text ~ (SELECT defaults FROM pattern)
          OR t.oid IN (SELECT objid FROM direct WHERE classid = 'pg_type'::regclass)))
  UNION
  SELECT e.oid FROM badtype b
  JOIN (SELECT oid, typbasetype FROM pg_type WHERE typbasetype >= 16384
        UNION ALL SELECT oid, typelem FROM pg_type WHERE typelem >= 16384
        UNION ALL SELECT rngtypid, rngsubtype FROM pg_range WHERE rngsubtype >= 16384
        UNION ALL SELECT rngmultitypid, rngtypid FROM pg_range WHERE rngtypid >= 16384
        UNION ALL SELECT c.reltype, a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                  WHERE a.atttypid >= 16384 AND a.attnum > 0 AND c.reltype <> 0) e (oid, inner_)
    ON e.inner_ = b.oid),
bad (classid, objid, objsubid, code) AS MATERIALIZED (
  SELECT classid, objid, objsubid, code FROM direct
  UNION
  SELECT d.classid, d.objid, d.objsubid, 0 FROM pg_depend d JOIN badtype b ON b.oid = d.refobjid
  WHERE d.refclassid = 'pg_type'::regclass),
`

// codeSQL: kind, a, b, text. The kinds are in the constants of clean.go. What a
// thing runs is found in two ways: pg_depend for users' objects, and the node
// trees' funcids for the built-in functions that pg_depend does not record.
func (l layout) codeSQL(fs *functions) string {
	bad := badCTE
	if l.knownOnly {
		bad = knownOnly
	}
	return strings.NewReplacer("{chunks}", l.chunksCTE(), "{owned}", ownedCTE, "{bad}", bad, "{clean}", array(fs.harmless()), "{told}", array(fs.told())).Replace(codeTemplate)
}

const codeTemplate = `
WITH RECURSIVE {chunks}, {owned},
code (oid, proname, native) AS MATERIALIZED (
  SELECT p.oid, p.proname, p.owned AND p.prolang IN (12, 13)
  FROM (SELECT *, oid IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass) AS owned,
               oid IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass AND known) AS known
        FROM pg_proc WHERE oid >= 16384) p
  WHERE (NOT p.known OR p.proname IN (` + unsafeExtension + `))
    AND NOT (p.owned AND p.provolatile = 'i' AND p.prolang IN (12, 13))
    AND NOT (p.prolang = 12 AND p.prosrc ~ '^(multi)?range_constructor[0-3]$')
    AND (p.pronamespace, p.proowner) NOT IN (` + ownSchema + `)
    AND p.oid <> ALL ({clean})),
state (oid, shown) AS MATERIALIZED (
  SELECT p.oid, p.proname IN ('setval', 'currval', 'lastval', 'pg_notify') FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384 AND (` + stateful + `)),
pattern (defaults, all_, hides) AS MATERIALIZED (
  SELECT ':funcid (' || string_agg(oid::text, '|') || ') ', ':funcid (1574|' || string_agg(oid::text, '|') || ') ',
         ':funcid (' || string_agg(oid::text, '|') FILTER (WHERE NOT shown) || ') ' FROM state),
{bad}views (oid, rule, action) AS MATERIALIZED (
  SELECT c.oid, r.oid, r.ev_action
  FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename = '_RETURN'
  WHERE c.relkind IN ('v', 'm') AND c.oid >= 16384
    AND c.oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_class'::regclass AND known)
    AND c.relnamespace <> coalesce((SELECT oid FROM pg_namespace WHERE nspname = '_timescaledb_internal'), 0)),
taint (relid, mode, what, code) AS (
  SELECT t.tgrelid, 'w', 'trigger ' || t.tgname, CASE WHEN t.tgqual::text ~ (SELECT hides FROM pattern) THEN 1 ELSE coalesce(b.code, 2) END
  FROM pg_trigger t LEFT JOIN bad b ON b.classid = 'pg_trigger'::regclass AND b.objid = t.oid
  WHERE t.tgenabled <> 'D' AND (b.objid IS NOT NULL OR t.tgqual::text ~ (SELECT all_ FROM pattern))
  UNION ALL
  SELECT r.ev_class, 'w', 'rule ' || r.rulename, CASE WHEN r.ev_qual::text || r.ev_action::text ~ (SELECT hides FROM pattern) THEN 1 ELSE coalesce(b.code, 2) END
  FROM pg_rewrite r LEFT JOIN bad b ON b.classid = 'pg_rewrite'::regclass AND b.objid = r.oid
  WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'D'
  UNION ALL
  SELECT v.oid, 'rw', 'its definition', CASE WHEN v.action::text ~ (SELECT hides FROM pattern) THEN 1 ELSE coalesce(b.code, 2) END
  FROM views v LEFT JOIN bad b ON b.classid = 'pg_rewrite'::regclass AND b.objid = v.rule
  WHERE b.objid IS NOT NULL OR v.action::text ~ (SELECT all_ FROM pattern)
  UNION ALL
  SELECT l.polrelid, 'rw', 'policy ' || l.polname, CASE WHEN concat(l.polqual, l.polwithcheck) ~ (SELECT hides FROM pattern) THEN 1 ELSE coalesce(b.code, 2) END
  FROM pg_policy l LEFT JOIN bad b ON b.classid = 'pg_policy'::regclass AND b.objid = l.oid
  WHERE b.objid IS NOT NULL OR concat(l.polqual, l.polwithcheck) ~ (SELECT all_ FROM pattern)
  UNION ALL
  SELECT f.adrelid, 'w', 'default of column ' || a.attname, CASE WHEN f.adbin::text ~ (SELECT defaults FROM pattern) THEN 1 ELSE coalesce(b.code, 2) END
  FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
  LEFT JOIN bad b ON b.classid = 'pg_attrdef'::regclass AND b.objid = f.oid
  WHERE b.objid IS NOT NULL OR f.adbin::text ~ (SELECT defaults FROM pattern)
  UNION ALL
  SELECT c.conrelid, 'w', 'constraint ' || c.conname, CASE WHEN c.conbin::text ~ (SELECT hides FROM pattern) THEN 1 ELSE coalesce(b.code, 2) END
  FROM pg_constraint c LEFT JOIN bad b ON b.classid = 'pg_constraint'::regclass AND b.objid = c.oid
  WHERE c.conrelid >= 16384 AND (b.objid IS NOT NULL OR c.contype = 'c' AND c.conbin::text ~ (SELECT all_ FROM pattern))
  UNION ALL
  SELECT i.indrelid, 'rw', 'index ' || c.relname, b.code
  FROM bad b JOIN pg_index i ON i.indexrelid = b.objid JOIN pg_class c ON c.oid = b.objid
  WHERE b.classid = 'pg_class'::regclass
  UNION ALL
  SELECT b.objid, 'rw', coalesce('column ' || a.attname, 'partition key'), b.code
  FROM bad b LEFT JOIN pg_attribute a ON a.attrelid = b.objid AND a.attnum = b.objsubid AND b.objsubid > 0
  WHERE b.classid = 'pg_class'::regclass
  UNION ALL
  SELECT c.oid, 'rw', 'access method ' || m.amname, 1
  FROM pg_class c JOIN pg_am m ON m.oid = c.relam JOIN code k ON k.oid = m.amhandler
  UNION ALL
  SELECT f.ftrelid, 'rw', 'foreign-data wrapper ' || w.fdwname, 0
  FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
  WHERE w.fdwhandler <> 0),
placed (relid, mode, what, code) AS (
  SELECT DISTINCT coalesce((SELECT i.inhparent FROM pg_inherits i JOIN chunks k ON k.oid = i.inhrelid WHERE i.inhrelid = t.relid LIMIT 1), t.relid), t.mode, t.what, t.code
  FROM taint t)
SELECT 'function' AS kind, 0::oid AS a, 0::oid AS b, proname::text AS what FROM (SELECT DISTINCT proname FROM code) f
UNION ALL
SELECT 'operator', 0, 0, oprname FROM (SELECT DISTINCT o.oprname FROM pg_operator o JOIN badoperator b ON b.oid = o.oid
  WHERE o.oprleft < 16384 AND o.oprright < 16384 OR NOT EXISTS (SELECT FROM pg_operator n WHERE n.oid < 16384 AND n.oprname = o.oprname)) f
UNION ALL
SELECT 'type', 0, 0, t.typname FROM pg_type t JOIN badtype b ON b.oid = t.oid
UNION ALL
SELECT 'cast', 0, 0, '' WHERE EXISTS (SELECT FROM pg_cast c JOIN code k ON k.oid = c.castfunc WHERE NOT k.native AND c.castsource < 16384 AND c.casttarget < 16384)
                           OR EXISTS (SELECT FROM badclass c WHERE c.opcdefault AND NOT c.native AND c.type < 16384)
UNION ALL
SELECT 'validator', 0, 0, '' WHERE EXISTS (SELECT FROM pg_foreign_data_wrapper w JOIN code k ON k.oid = w.fdwvalidator)
UNION ALL
SELECT CASE evtevent WHEN 'login' THEN 'login' ELSE 'event' END, 0, evtfoid, evtname
FROM pg_event_trigger e WHERE e.evtenabled <> 'D' AND (e.evtevent = 'login' OR e.evtfoid IN (SELECT oid FROM code))
UNION ALL
SELECT 'taint-' || mode, relid, code, what FROM placed
UNION ALL
SELECT 'known-function', 0, bool_or(oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass AND known))::int, proname FROM pg_proc WHERE oid >= 16384 GROUP BY proname HAVING NOT bool_or(oid IN (SELECT oid FROM code))
UNION ALL
SELECT 'known-operator', 0, bool_or(oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_operator'::regclass AND known))::int, oprname FROM pg_operator WHERE oid >= 16384 GROUP BY oprname HAVING NOT bool_or(oid IN (SELECT oid FROM badoperator))
UNION ALL
SELECT 'known-type', 0, bool_or(oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_type'::regclass AND known))::int, typname FROM pg_type t WHERE oid >= 16384
  AND typnamespace <> coalesce((SELECT oid FROM pg_namespace WHERE nspname = '_timescaledb_internal'), 0) AND t.typtype <> 'p'
GROUP BY typname HAVING NOT bool_or(oid IN (SELECT oid FROM badtype))
UNION ALL
SELECT 'tainted', 0, oid, '' FROM pg_proc
WHERE oid >= 16384 AND (oid IN (SELECT objid FROM bad WHERE classid = 'pg_proc'::regclass) OR proargdefaults::text ~ (SELECT all_ FROM pattern))
UNION ALL
SELECT 'bad-function', 0, oid, '' FROM code
UNION ALL
SELECT 'bad-operator', 0, oid, '' FROM badoperator
UNION ALL
SELECT 'bad-class', 0, oid, '' FROM badclass
UNION ALL
SELECT 'bad-type', 0, oid, '' FROM badtype
UNION ALL
SELECT 'trigger', coalesce((SELECT i.inhparent FROM pg_inherits i JOIN chunks k ON k.oid = i.inhrelid WHERE i.inhrelid = t.tgrelid LIMIT 1), t.tgrelid), t.tgfoid, ''
FROM pg_trigger t WHERE t.tgfoid = ANY ({told}) AND t.tgenabled <> 'D'
UNION ALL
SELECT DISTINCT 'reads', l.polrelid, d.refobjid, ''
FROM pg_policy l
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = l.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> l.polrelid
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL
SELECT DISTINCT 'reads', v.oid, d.refobjid, ''
FROM views v
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = v.rule AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL
SELECT DISTINCT 'rules', r.ev_class, d.refobjid, ''
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'D'
UNION ALL
SELECT 'holds', i.inhparent, i.inhrelid, '' FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent WHERE ` + heldSQL + ` AND i.inhrelid NOT IN (SELECT oid FROM chunks)
UNION ALL
SELECT 'cascades', confrelid, conrelid, CASE WHEN 'd' IN (confdeltype, confupdtype) THEN 'default' ELSE '' END
FROM pg_constraint
WHERE contype = 'f' AND conrelid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_class'::regclass AND known)
  AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
  AND conrelid NOT IN (SELECT oid FROM chunks)`
