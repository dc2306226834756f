package router

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// provable reports whether the proof of freshness is known for that version of
// TimescaleDB: from 2.11, which keeps the watermark in a table, to 2.29; 2.30
// changes what a log row means (granular refresh).
func provable(version string) bool {
	minor, ok := timescaleMinor(version)
	return ok && minor >= 11 && minor <= 29
}

// timescaleMinor returns n of version 2.n.
func timescaleMinor(version string) (int, bool) {
	rest, ok := strings.CutPrefix(version, "2.")
	if !ok {
		return 0, false
	}
	minor, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	return n, err == nil
}

// snapshotProof is the part of the guard that depends on the snapshot and the
// transaction's start alone.
func (d *candidate) snapshotProof() proof {
	var p proof
	d.proveBounds(&p)
	d.proveColumns(&p)
	d.proveFresh(&p)
	d.proveChunks(&p)
	return p
}

// proveColumns proves that the columns' names mean what they meant when the catalog was
// read. An aggregate follows its columns by their numbers, so one that took another's
// name, as where a column is replaced by a better one, would be answered with the other's
// values; and the description of the original is of the types of then.
func (d *candidate) proveColumns(p *proof) {
	raw, stored := map[string]bool{d.raw.TimeColumn: true}, map[string]bool{d.view.Bucket: true}
	for name, in := range d.view.Dims {
		raw[name], stored[in] = true, true
	}
	visit(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: d.query.stmt}}, func(m any) bool {
		if ref, ok := m.(*pg_query.ColumnRef); ok {
			raw[lastName(ref.Fields)] = true
		}
		return true
	})
	for _, r := range d.recipes {
		for _, part := range r.Parts {
			stored[part.Stored] = true
		}
	}
	relation, a := d.query.scope.relation, d.view.Aggregate
	p.columns(relation.OID, relation.Columns, raw)
	p.columns(d.query.scope.snap.Relations[a.Materialization].OID, a.Columns, stored)
}

// columns adds that a relation's columns of these names are as listed.
func (p *proof) columns(relation catalog.OID, list []catalog.Column, names map[string]bool) {
	var each []string
	for _, c := range list {
		if names[c.Name] {
			each = append(each, fmt.Sprintf("(%d, %s, %d, %d)", c.Number, literal(c.Name), c.Type, c.TypMod))
		}
	}
	p.addf("(SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute WHERE attrelid = %d AND (attnum, attname, atttypid, atttypmod) IN (%s)) = %d", relation, strings.Join(each, ", "), len(each))
}

// proveBounds proves every estimate that the ranges rest on.
func (d *candidate) proveBounds(p *proof) {
	for i, b := range d.span.all {
		switch {
		case b.lower && b.strict:
			p.addf("%s > (%s)", d.moment(d.first()), d.proven(i))
		case b.lower:
			p.addf("%s >= (%s)", d.moment(d.first()), d.proven(i))
		case b.strict:
			p.addf("%s <= (%s)", d.moment(d.last()), d.proven(i))
		default:
			p.addf("%s <= (%s)", d.moment(place{spanLast, d.last().i}), d.proven(i))
		}
	}
	if d.span.low != nil {
		p.addf("%s <= (%s)", d.moment(place{at: lowest}), d.proven(d.span.lowAt))
	}
	if d.span.high != nil {
		p.addf("%s >= (%s)", d.moment(place{at: highest}), d.proven(d.span.highAt))
	}
}

// proveFresh proves that the spans are materialized and that no log of TimescaleDB
// marks any of them. Every step of a refresh is one transaction, so in one snapshot
// a changed range is in the hypertable's log, in the aggregate's log, in the
// pending ranges, or in the materialization as it should be.
func (d *candidate) proveFresh(p *proof) {
	minor, _ := timescaleMinor(d.query.scope.snap.Timescale)
	unchanged := ""
	if minor >= 28 {
		unchanged = " AND schema_change_timestamp IS NULL"
	}
	for _, a := range d.levels() {
		p.addf("EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg WHERE mat_hypertable_id = %d AND raw_hypertable_id = %d%s)", a.ID, a.RawID, unchanged)
		p.addf("EXISTS (SELECT FROM _timescaledb_catalog.continuous_aggs_watermark WHERE mat_hypertable_id = %d AND watermark >= %s)", a.ID, d.number(d.last()))
		p.addf("EXISTS (SELECT FROM _timescaledb_catalog.continuous_aggs_invalidation_threshold WHERE hypertable_id = %d AND watermark >= %s)", a.RawID, d.number(d.last()))
	}
	for _, r := range d.recipes {
		if r.NotNull != "" && r.NotNull != d.raw.TimeColumn { // a hypertable's time column is NOT NULL for ever
			p.addf("EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = %d AND attname = %s AND attnotnull)", d.query.scope.relation.OID, literal(r.NotNull))
		}
	}
	clean := func(table, column string, id int32) {
		overlaps := make([]string, len(d.spans))
		for i := range d.spans {
			overlaps[i] = fmt.Sprintf("lowest_modified_value < %s AND greatest_modified_value >= %s", d.number(place{spanEnd, i}), d.number(place{spanStart, i}))
		}
		p.addf("NOT EXISTS (SELECT FROM _timescaledb_catalog.%s WHERE %s = %d AND (%s))", table, column, id, strings.Join(overlaps, " OR "))
	}
	for _, a := range d.levels() {
		clean("continuous_aggs_hypertable_invalidation_log", "hypertable_id", a.RawID)
		clean("continuous_aggs_materialization_invalidation_log", "materialization_id", a.ID)
		if minor >= 22 {
			clean("continuous_aggs_materialization_ranges", "materialization_id", a.ID)
		}
	}
	if !d.query.scope.trustLogs {
		d.proveSettled(p)
	}
}

// proveSettled proves what TimescaleDB's logs do not tell: that nobody who read an old
// threshold was under way when the spans were refreshed (trap T1), and that no MERGE
// touched them since, by the triggers that have been there since then (trap T2).
func (d *candidate) proveSettled(p *proof) {
	relation := d.query.scope.relation
	triggers := literal(relation.Triggers) + "::pg_catalog.oid[]"
	held := append([]*catalog.Hypertable{d.held}, d.under...)
	for i, a := range d.levels() {
		ids, _ := d.idsInSpans(held[i].Chunks)
		p.addf("EXISTS (SELECT FROM qvpgw.settled WHERE aggregate = %d AND low <= %s AND high >= %s AND triggers = %s AND chunks OPERATOR(pg_catalog.@>) %s)",
			a.ID, d.number(d.first()), d.number(d.last()), triggers, markedInts(ids))
	}
	p.addf("(SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = %d AND oid = ANY (%s) AND tgenabled IN ('O', 'A')) = pg_catalog.cardinality(%s)", relation.OID, triggers, triggers)
	overlaps := make([]string, len(d.spans))
	for i := range d.spans {
		overlaps[i] = fmt.Sprintf("COALESCE(low, %[1]s) < %[2]s AND COALESCE(high, %[1]s) >= %[1]s", d.number(place{spanStart, i}), d.number(place{spanEnd, i}))
	}
	p.addf("NOT EXISTS (SELECT FROM qvpgw.changes WHERE relation = '%d'::pg_catalog.oid AND kind = 'c' AND (%s))", relation.OID, strings.Join(overlaps, " OR "))
}

// proveChunks proves that the hypertable has the chunks that the plan knows and no
// other (then every chunk that the raw arms can touch is locked), and that the
// materializations still have their own in the spans. A chunk may
// come and go without a trace in the logs: by drop_chunks on an aggregate, a
// retention policy of it too, and by attach_chunk and detach_chunk. What they did to the
// aggregate before the snapshot of the catalog is seen by the chunks that are settled.
func (d *candidate) proveChunks(p *proof) {
	alive := ""
	if minor, _ := timescaleMinor(d.query.scope.snap.Timescale); minor < 26 {
		alive = " AND NOT dropped"
	}
	all := make([]int32, len(d.raw.Chunks))
	for i := range d.raw.Chunks {
		all[i] = d.raw.Chunks[i].ID
	}
	p.addf("(SELECT pg_catalog.array_agg(id ORDER BY id) = %s AND NOT pg_catalog.bool_or(osm_chunk) FROM _timescaledb_catalog.chunk WHERE hypertable_id = %d%s)",
		markedInts(idList(all)), d.raw.ID, alive)
	for _, h := range append([]*catalog.Hypertable{d.held}, d.under...) {
		ids, n := d.idsInSpans(h.Chunks)
		p.addf("(SELECT pg_catalog.count(*) FROM _timescaledb_catalog.chunk WHERE hypertable_id = %d%s AND NOT osm_chunk AND id = ANY (%s)) = %s",
			h.ID, alive, markedInts(ids), markedInt(int64(n)))
	}
}

// inSpans gives the chunks in the spans.
func (d *candidate) inSpans(chunks []catalog.Chunk) iter.Seq[*catalog.Chunk] {
	return func(yield func(*catalog.Chunk) bool) {
		for i := range chunks {
			c := &chunks[i]
			for _, s := range d.spans {
				if c.Start < s.End && c.End > s.Start {
					if !yield(c) {
						return
					}
					break
				}
			}
		}
	}
}

// idsInSpans lists the ids of the chunks in the spans, and says how many there are.
func (d *candidate) idsInSpans(chunks []catalog.Chunk) (text string, n int) {
	var ids []int32
	for c := range d.inSpans(chunks) {
		ids = append(ids, c.ID)
	}
	return idList(ids), len(ids)
}

// idList writes ids in their order.
func idList(ids []int32) string {
	slices.Sort(ids)
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(id)))
	}
	return b.String()
}

// sessionProof is the part of the guard that depends on the session and on what
// names and privileges are now: PostgreSQL reads them outside the snapshot, so
// they stand in the guard only, never in the filter of the rewritten query, which
// must not change its mind after the guard was true.
func (d *candidate) sessionProof(c *Context) proof {
	var p proof
	sc := d.query.scope
	name := literal(relationText(sc.relation.Name))
	stored := literal(relationText(d.view.Aggregate.Materialization))
	if sc.schema == "" {
		// A temporary table or another schema's may have taken the name.
		p.addf("pg_catalog.to_regclass(%s) = pg_catalog.to_regclass(%s)", literal(ident(sc.written)), name)
	}
	if oid := sc.relation.OID; oid != 0 {
		p.addf("pg_catalog.to_regclass(%s)::pg_catalog.oid = %d", name, oid)
	}
	p.addf("pg_catalog.has_table_privilege(%s, 'SELECT')", name)
	p.addf("pg_catalog.has_table_privilege(%s, 'SELECT')", stored)
	p.addf("NOT pg_catalog.row_security_active(%s)", name)
	if d.query.clock.session {
		p.addf("pg_catalog.current_setting('TimeZone') = %s", literal(c.TimeZone))
	}
	if minor, _ := timescaleMinor(sc.snap.Timescale); minor >= 22 && minor <= 24 {
		// Changes collected from the WAL reach the logs only when a refresh reads the
		// replication slot.
		p.addf("NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name LIKE 'ts\\_%%\\_cagg' AND database = pg_catalog.current_database())")
	}
	return p
}

// timeType is the type of moments of the time column, the widest for integers.
func (s *scope) timeType() string {
	switch {
	case s.integer:
		return "pg_catalog.int8"
	case s.timeIsUTC:
		return "pg_catalog.timestamptz"
	}
	return "pg_catalog.timestamp"
}

// appendMoment spells a moment of the time column.
func (s *scope) appendMoment(b []byte, micros int64) []byte {
	if s.integer {
		return strconv.AppendInt(b, micros, 10)
	}
	return appendMoment(b, micros, s.timeIsUTC)
}
