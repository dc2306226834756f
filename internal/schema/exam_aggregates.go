package schema

import (
	"fmt"
	"math"
	"time"

	"qvpgw/internal/catalog"
)

// What the types of time columns are called in pg_type.
const (
	typeTimestamptz = 1184
	typeTimestamp   = 1114
	typeDate        = 1082
)

// aggregates says which of them do not serve, and why.
func (e *exam) aggregates() error {
	for _, a := range e.s.Aggregates {
		if err := e.aggregate(a); err != nil {
			return err
		}
	}
	if len(e.s.Aggregates) == 0 {
		return nil
	}
	if e.v.prepared == 0 && e.v.maxPrepared > 0 {
		e.find("two-phase-commit", fmt.Sprintf("max_prepared_transactions is %d: a transaction prepared while an aggregate is refreshed may be missing from it", e.v.maxPrepared),
			"ALTER SYSTEM SET max_prepared_transactions = 0;").Advice = as("a superuser") + ", then restart the server, if nobody prepares transactions"
	}
	if e.v.synchronous != "" {
		e.find("synchronous-replication", "synchronous_standby_names is set: a transaction that waits for a standby while an aggregate is refreshed may be missing from it")
	}
	return nil
}

func (e *exam) aggregate(a *catalog.Aggregate) error {
	view := a.View.String()
	if !a.Finalized {
		e.find("aggregate-old-format", a.View.Name+" is in the format before TimescaleDB 2.7 and is not used", fmt.Sprintf("CALL cagg_migrate(%s);", catalog.Literal(view)))
		return nil
	}
	raw, rows := e.s.Hypertables[a.RawID], e.s.Hypertables[a.ID]
	if raw == nil || rows == nil {
		return nil
	}
	source := e.sourceName(raw)
	if t := e.s.Relations[raw.Name]; t != nil && t.RowSecurity {
		e.find("aggregate-row-security", fmt.Sprintf("%s is not used: %s has row security", a.View.Name, source),
			fmt.Sprintf("ALTER TABLE %s DISABLE ROW LEVEL SECURITY;", raw.Name), fmt.Sprintf("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;", raw.Name)).Advice = "if everybody who may read the table may read all of it"
	}
	if len(raw.Chunks) == 0 {
		return nil
	}
	if len(rows.Chunks) == 0 {
		e.find("aggregate-empty", a.View.Name+" was never refreshed: queries read the raw rows", fmt.Sprintf("CALL refresh_continuous_aggregate(%s, NULL, NULL);", catalog.Literal(view)))
		return nil
	}
	if raw.TimeType != typeTimestamptz && raw.TimeType != typeTimestamp && raw.TimeType != typeDate || a.Watermark == math.MinInt64 {
		return nil
	}
	if err := e.stale(a, raw, source); err != nil {
		return err
	}
	return e.invalid(a, raw, source)
}

// sourceName is what people call a hypertable: by the view, if it is an aggregate's.
func (e *exam) sourceName(h *catalog.Hypertable) string {
	for _, a := range e.s.Aggregates {
		if a.ID == h.ID {
			return a.View.Name
		}
	}
	return h.Name.Name
}

// stale looks for rows more than four buckets beyond what is materialized.
func (e *exam) stale(a *catalog.Aggregate, raw *catalog.Hypertable, source string) error {
	newest := raw.Chunks[len(raw.Chunks)-1]
	if newest.End <= a.Watermark {
		return nil
	}
	allowed, err := e.ask("privileges", fmt.Sprintf("SELECT has_table_privilege(%s, 'SELECT')", catalog.Literal(raw.Name.String())), 1)
	if err != nil || allowed[0][0] != "t" {
		return err
	}
	// Internal time counts wall clock microseconds for columns without a time zone.
	end := fmt.Sprintf("to_timestamp(%d / 1000000.0)", a.Watermark)
	if raw.TimeType != typeTimestamptz {
		end += " AT TIME ZONE 'UTC'"
	}
	column := catalog.Quote(raw.TimeColumn)
	found, err := e.ask("the newest row of "+raw.Name.String(), fmt.Sprintf(
		"SELECT n::text, (%s)::text FROM (SELECT max(%s) AS n FROM %s WHERE %s >= %s) x WHERE n >= %s + 4 * interval %s",
		end, column, raw.Name, column, end, end, catalog.Literal(a.BucketWidth)), 2)
	if err != nil || len(found) == 0 {
		return err
	}
	e.find("aggregate-stale", fmt.Sprintf("%s has rows up to %s, %s holds them up to %s", source, found[0][0], a.View.Name, found[0][1]),
		e.refresh(a, a.Watermark))
	return nil
}

// invalid looks for ranges below the watermark that changed and were not refreshed.
// Those before the oldest chunk are none: retention dropped their rows.
func (e *exam) invalid(a *catalog.Aggregate, raw *catalog.Hypertable, source string) error {
	oldest := raw.Chunks[0].Start
	from, to, n := int64(math.MaxInt64), int64(math.MinInt64), 0
	for _, s := range a.Invalid {
		s.Start, s.End = max(s.Start, oldest), min(s.End, a.Watermark)
		if s.Start < s.End {
			from, to, n = min(from, s.Start), max(to, s.End), n+1
		}
	}
	if n == 0 {
		return nil
	}
	// A refresh takes whole buckets: it begins before the one that from lies in.
	begin, err := e.ask("buckets", fmt.Sprintf("SELECT (extract(epoch FROM to_timestamp(%d / 1000000.0) - interval %s) * 1000000)::bigint", from, catalog.Literal(a.BucketWidth)), 1)
	if err != nil {
		return err
	}
	var start numbers
	begun := start.int64(begin[0][0])
	if start.err != nil {
		return fmt.Errorf("cannot read the beginning of a bucket: %w", start.err)
	}
	e.find("aggregate-invalid", fmt.Sprintf("%s has changed since %s was refreshed: %d ranges between %s and %s are read from the raw rows", source, a.View.Name, n, moment(from), moment(to)),
		e.refresh(a, begun))
	return nil
}

// refresh is the statement that refreshes an aggregate from a moment on; what lies
// before may hold buckets whose rows retention dropped.
func (e *exam) refresh(a *catalog.Aggregate, from int64) string {
	return fmt.Sprintf("CALL refresh_continuous_aggregate(%s, %s, NULL);", catalog.Literal(a.View.String()), catalog.Literal(moment(from)))
}

// moment is internal time as SQL reads it.
func moment(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05.999999+00") }
