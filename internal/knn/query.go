package knn

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxChanges bounds the changes that one round reads.
const maxChanges = 4096

// names are the functions by name that kept answers may have been computed with: one of
// that name anywhere may come to stand before them. Operators, types and casts are looked
// at whatever their names.
const names = `'abs', 'round', 'ceil', 'ceiling', 'floor', 'trunc', 'sqrt', 'power', 'exp', 'ln', 'char_length', 'l2_distance', 'cosine_distance',
  'inner_product', 'l1_distance', 'vector_dims', 'vector_norm', 'l2_norm', 'hamming_distance', 'jaccard_distance', 'l2_normalize', 'subvector', 'binary_quantize'`

// types are those that values in kept answers' statements may be cast to, by name.
const types = `'vector', 'halfvec', 'sparsevec', 'bit', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar', 'uuid'`

// Server is an expression that names a database of one run of one server. Of two runs of
// PostgreSQL's processes under one postmaster, with a crash between, the statistics tell: they
// begin anew. Transactions that were not on disk yet are lost then, and their ids given again.
const Server = "pg_catalog.concat_ws('/', EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()), " +
	"EXTRACT(epoch FROM pg_catalog.pg_stat_get_bgwriter_stat_reset_time()), (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"

// state is how a round's first row begins: the snapshot, whether it is of a standby, when
// the server's process read its files of settings, and of which server it is.
const state = "SELECT 's', pg_current_snapshot()::text, pg_is_in_recovery()::text, concat_ws(' ', EXTRACT(epoch FROM pg_conf_load_time()), " + Server + ")"

// statement is what a round asks: $1 the snapshot of the round before, $2 the tables, $3
// whether definitions are read although nothing has happened since. Its rows are told
// apart by their first column. Names are those of pg_catalog where it is prepared.
//
// Definitions are told by the transactions that wrote their rows (xmin): VACUUM and
// ANALYZE write over rows of pg_class in place and leave it. A table with a column whose
// text has names of other objects in it, as that of regclass has, counts as not logged.
const statement = `
WITH common (print) AS MATERIALIZED (
  SELECT concat_ws('|',
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_operator WHERE oid >= 16384),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_proc WHERE proname IN (` + names + `) OR proacl IS NOT NULL
      OR pronamespace IN (to_regnamespace('qvp'), to_regnamespace('qvpgw')) OR oid IN (SELECT oprcode FROM pg_operator WHERE oid >= 16384)),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_type WHERE typname IN (` + types + `)),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_enum),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_cast WHERE oid >= 16384),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_extension),
    (SELECT string_agg(concat(roleid, ':', member, ':', xmin), ',' ORDER BY roleid, member, grantor) FROM pg_auth_members),
    (SELECT string_agg(concat(oid, rolsuper, rolinherit, rolbypassrls), ',' ORDER BY oid) FROM pg_roles))
)
` + state + `, {horizon}, NULL::real[]
UNION ALL
SELECT 't', r.oid::text, md5(concat_ws('|', c.print,
    (SELECT string_agg(concat(o.oid, ':', o.xmin), ',' ORDER BY o.oid) FROM pg_class o WHERE o.relname = k.relname AND o.relpersistence <> 't'),
    (SELECT string_agg(concat(a.attnum, ':', a.xmin), ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.oid),
    (SELECT string_agg(concat(a.attnum, ':', y.xmin, ':', z.xmin), ',' ORDER BY a.attnum, z.attnum) FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
     LEFT JOIN pg_attribute z ON z.attrelid = y.typrelid AND y.typrelid <> 0 WHERE a.attrelid = r.oid AND a.atttypid >= 16384),
    (SELECT string_agg(concat(t.oid, ':', t.xmin), ',' ORDER BY t.oid) FROM pg_trigger t WHERE t.tgrelid = r.oid),
    (SELECT string_agg(concat(i.indexrelid, ':', i.xmin), ',' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indrelid = r.oid),
    (SELECT string_agg(concat(i.inhrelid, ':', i.inhparent), ',') FROM pg_inherits i WHERE i.inhparent = r.oid OR i.inhrelid = r.oid))),
  concat_ws(chr(1), concat(coalesce(k.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = r.oid OR i.inhrelid = r.oid) AND NOT EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = r.oid)
      AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_type z ON z.oid = CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.typelem END
        WHERE a.attrelid = r.oid AND a.attnum > 0 AND (y.typname ~ '^_?(reg[a-z]+|aclitem)$' OR z.typname ~ '^_?(reg[a-z]+|aclitem)$'
          OR y.oid >= 16384 AND (y.typtype NOT IN ('b', 'e', 'd') OR z.oid >= 16384 AND z.typtype NOT IN ('b', 'e'))))
      AND (SELECT bit_or(t.tgtype) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
           WHERE t.tgrelid = r.oid AND t.tgenabled = 'A' AND t.tgtype & 3 = 0 AND t.tgqual IS NULL
             AND p.pronamespace = to_regnamespace('qvpgw') AND p.proname LIKE 'log\_rows\_of\_%') & 60 = 60, false),
      k.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = r.oid OR i.inhrelid = r.oid)
      AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
                      WHERE i.indrelid = r.oid AND m.amname NOT IN ('btree', 'hash', 'gin', 'gist', 'spgist', 'brin'))),
    v.attname, v.typname, p.attname, p.atttypid),
  NULL, NULL
FROM unnest($2::oid[]) r (oid) CROSS JOIN common c LEFT JOIN pg_class k ON k.oid = r.oid
LEFT JOIN LATERAL (SELECT coalesce(min(a.attname::text), '') AS attname, coalesce(min(t.typname::text), '') AS typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec', 'sparsevec', 'bit') HAVING count(*) = 1) v ON true
LEFT JOIN LATERAL (SELECT a.attname, a.atttypid FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = r.oid AND i.indisprimary AND i.indnkeyatts = 1) p ON v.attname IS NOT NULL
WHERE $3::boolean OR pg_current_snapshot()::text <> $1`

// changed adds the changes that the round before did not see: of transactions that had
// not begun then, and of those that were open.
const changed = `
UNION ALL
(SELECT 'c', xid::text, relation::oid::text, kind::text, key, vector FROM qvpgw.row_changes
 WHERE xid >= pg_snapshot_xmax($1::pg_snapshot) AND relation = ANY ($2::oid[]) LIMIT {most})
UNION ALL
(SELECT 'c', xid::text, relation::oid::text, kind::text, key, vector FROM qvpgw.row_changes
 WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))) AND relation = ANY ($2::oid[]) LIMIT {most})
UNION ALL
(SELECT 'c', xid::text, relation::oid::text, 'x', NULL, NULL FROM qvpgw.changes
 WHERE xid >= pg_snapshot_xmin($1::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $1::pg_snapshot)
   AND relation = ANY ($2::oid[]) AND kind <> 'c' AND has_table_privilege(relation, 'SELECT') IS NOT TRUE LIMIT {most})`

// Glance is the text of a statement that says whether anything has happened at all: what
// it gives are the first columns of a round's.
const Glance = state + ", '0', NULL::real[]"

// Quiet says whether the rows of Glance are the whole answer: the snapshot is that of the
// round before, and nothing else is asked.
func (q *Question) Quiet(rows [][][]byte) bool {
	return !q.All && q.Since != "" && len(rows) == 1 && len(rows[0]) == 6 && string(rows[0][1]) == q.Since
}

// Statement is the text of a round's statement for a database with, or without, the
// gateway's own schema. The last of its columns is to be asked for in binary.
func Statement(log bool) string {
	text, horizon := statement, "'0'"
	if log {
		text, horizon = statement+changed, "coalesce((SELECT xid::text FROM qvpgw.horizon), '0')"
	}
	return strings.NewReplacer("{horizon}", horizon, "{most}", strconv.Itoa(maxChanges+1)).Replace(text)
}

// First is the snapshot to ask with when there was no round before: no transaction is
// unseen by it.
const First = "9223372036854775807:9223372036854775807:"

// Params are the statement's parameters.
func (q *Question) Params() [3]string {
	since, all := q.Since, "false"
	if since == "" {
		since = First
	}
	if q.All {
		all = "true"
	}
	oids := make([]string, len(q.Tables))
	for i, oid := range q.Tables {
		oids[i] = strconv.FormatUint(uint64(oid), 10)
	}
	return [3]string{since, "{" + strings.Join(oids, ",") + "}", all}
}

// Reading reads the rows of a round's statement.
func (q *Question) Reading(sent time.Time, rows [][][]byte) (*Reading, error) {
	r := &Reading{Sent: sent}
	changes := 0
	for _, row := range rows {
		if len(row) != 6 {
			return nil, fmt.Errorf("cannot read a round: %d columns instead of 6", len(row))
		}
		var err error
		switch string(row[0]) {
		case "s":
			r.Snapshot, err = ParseSnapshot(string(row[1]))
			r.Recovery = string(row[2]) != "false"
			loaded, server, _ := strings.Cut(string(row[3]), " ")
			r.Server = server
			if err == nil {
				r.Loaded, err = strconv.ParseFloat(loaded, 64)
			}
			if err == nil {
				r.Horizon, err = strconv.ParseUint(string(row[4]), 10, 64)
			}
		case "t":
			err = r.table(row)
		case "c":
			changes++
			err = r.change(row)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read a round: %w", err)
		}
	}
	if r.Snapshot.Text == "" {
		return nil, fmt.Errorf("cannot read a round: it has no snapshot")
	}
	r.Cut = changes > maxChanges
	return r, nil
}

func (r *Reading) table(row [][]byte) error {
	oid, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return err
	}
	t := Table{OID: uint32(oid), Fingerprint: string(row[2])}
	facts := strings.Split(string(row[3]), "\x01")
	t.Facts.Logged, t.Facts.Exact = strings.HasPrefix(facts[0], "t"), strings.HasSuffix(facts[0], "t")
	if len(facts) >= 3 {
		t.Facts.Vector, t.Facts.VectorType = facts[1], facts[2]
	}
	if len(facts) == 5 {
		typ, err := strconv.ParseUint(facts[4], 10, 32)
		if err != nil {
			return err
		}
		t.Facts.Key, t.Facts.KeyType = facts[3], uint32(typ)
	}
	r.Tables = append(r.Tables, t)
	return nil
}

func (r *Reading) change(row [][]byte) error {
	xid, err := strconv.ParseUint(string(row[1]), 10, 64)
	if err != nil {
		return err
	}
	oid, err := strconv.ParseUint(string(row[2]), 10, 32)
	if err != nil {
		return err
	}
	c := Change{XID: xid, Table: uint32(oid), Kind: AnyRow}
	if len(row[3]) == 1 {
		c.Kind = Kind(row[3][0])
	}
	if row[4] == nil {
		if c.Kind == Removed {
			c.Kind = AnyRow
		}
	} else {
		c.Key = string(row[4])
	}
	if row[5] != nil {
		if c.Vector, err = reals(row[5]); err != nil {
			return err
		}
	}
	r.Changes = append(r.Changes, c)
	return nil
}

// reals reads a real[] in binary: dimensions, flags, type, then each dimension's length
// and lower bound, then each element's length and value (array_send).
func reals(b []byte) ([]float32, error) {
	if len(b) < 20 || binary.BigEndian.Uint32(b) != 1 || binary.BigEndian.Uint32(b[4:]) != 0 {
		return nil, fmt.Errorf("a vector of the change log is no plain array")
	}
	n := int(binary.BigEndian.Uint32(b[12:]))
	b = b[20:]
	if len(b) != 8*n {
		return nil, fmt.Errorf("a vector of the change log has %d bytes for %d numbers", len(b), n)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(binary.BigEndian.Uint32(b[8*i+4:]))
	}
	return v, nil
}
