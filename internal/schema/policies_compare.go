package schema

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"qvpgw/internal/catalog"
)

// change is what brings one policy to what is wanted. Its statements are those of
// a block of plpgsql.
type change struct {
	policy     int // index in the comparison
	sql        string
	first      bool // it loosens: made before what others need it for
	tightening bool // a retention: made last, when it is known what looks for its rows
}

// comparison sets wanted beside actual.
type comparison struct {
	wanted   Policies
	actual   *actual
	yes      bool // a retention that is made may drop rows at once
	asIs     bool // refreshes are taken as they are, not as they are wanted
	policies []Policy
	changes  []change
}

func compare(w Policies, a *actual, yes, asIs bool) *comparison {
	c := &comparison{wanted: w, actual: a, yes: yes, asIs: asIs}
	for _, t := range w.Tables {
		c.table(t)
	}
	for _, r := range w.Aggregates {
		c.aggregate(r)
	}
	return c
}

// add puts a policy into the comparison; a change that is held back has no sql.
func (c *comparison) add(p Policy, off bool, impossible, held string, ch change) {
	switch {
	case c.wanted.Off != "":
		p.Wanted, p.State, p.Why = "", PolicyOff, c.wanted.Off
	case impossible != "":
		p.State, p.Why = PolicyImpossible, impossible
	case off:
		p.Wanted, p.State = "", PolicyOff
	case p.Wanted == p.Actual:
		p.State = PolicyKept
	case held != "":
		p.State, p.Why = PolicyHeld, held
	default:
		p.State = PolicyDiffers
		ch.policy = len(c.policies)
		c.changes = append(c.changes, ch)
	}
	c.policies = append(c.policies, p)
}

// object returns what there is of an object, and why it can have no policies.
func (c *comparison) object(name string) (h *held, impossible string) {
	h = c.actual.objects[name]
	switch {
	case c.actual.timescale == "":
		impossible = "TimescaleDB is missing"
	case h == nil || !h.relation:
		impossible = "there is no " + name
	case !h.hyper:
		impossible = name + " is a plain table"
	}
	if h == nil {
		h = &held{}
	}
	return h, impossible
}

// edition says why the edition has no policies.
func (c *comparison) edition() string {
	if c.actual.timescale != "" && !c.actual.community {
		return "TimescaleDB " + c.actual.timescale + " is the Apache edition, which has none"
	}
	return ""
}

func (c *comparison) table(t TablePolicy) {
	h, impossible := c.object(t.Table)
	chunk := Policy{Object: t.Table, Kind: ChunkInterval, Wanted: period(t.ChunkInterval)}
	if h.chunk > 0 {
		chunk.Actual = period(h.chunk)
	}
	name := catalog.Literal(t.Table)
	c.add(chunk, t.Off, impossible, "", change{sql: fmt.Sprintf("PERFORM set_chunk_time_interval(%s, %s);", name, intervalSQL(t.ChunkInterval))})
	if impossible == "" {
		impossible = c.edition()
	}

	compress := Policy{Object: t.Table, Kind: Compression, Wanted: compression(t.CompressAfter, t.SegmentBy, t.OrderBy)}
	retain := Policy{Object: t.Table, Kind: Retention, Wanted: period(t.Retain)}
	if impossible == "" {
		j, there := h.jobs[Compression]
		compress.Actual = "none"
		if there {
			compress.Actual = compression(j.after, h.segment, h.order)
		}
		retain.Actual = period(h.jobs[Retention].after)
	}
	c.add(compress, t.Off, impossible, "", change{sql: compressSQL(t, h)})
	c.note(h.jobs[Compression])
	c.retention(t, h, retain, impossible)
	c.note(h.jobs[Retention])
}

// note says of the last policy what its job has besides.
func (c *comparison) note(j job) {
	p := &c.policies[len(c.policies)-1]
	var notes []string
	if j.paused {
		notes = append(notes, fmt.Sprintf("job %d is paused", j.id))
	}
	if j.others {
		notes = append(notes, fmt.Sprintf("there are others besides job %d", j.id))
	}
	if p.Why == "" {
		p.Why = strings.Join(notes, ", ")
	}
}

func compressSQL(t TablePolicy, h *held) string {
	name := catalog.Literal(t.Table)
	if t.CompressAfter == 0 {
		return fmt.Sprintf("PERFORM remove_compression_policy(%s, if_exists => true);", name)
	}
	var sql string
	if h.segment != t.SegmentBy || h.order != t.OrderBy {
		sql = fmt.Sprintf("ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = %s, timescaledb.compress_orderby = %s); ",
			catalog.Quote(t.Table), catalog.Literal(t.SegmentBy), catalog.Literal(t.OrderBy))
	}
	j, there := h.jobs[Compression]
	switch {
	case !there:
		sql += fmt.Sprintf("PERFORM add_compression_policy(%s, compress_after => %s, if_not_exists => true);", name, intervalSQL(t.CompressAfter))
	case j.after != t.CompressAfter:
		sql += alterSQL(j.id, "compress_after", intervalSQL(t.CompressAfter), "")
	}
	return sql
}

// alterSQL changes the age in a job's configuration, and more of its arguments.
func alterSQL(id int, key, interval, more string) string {
	return fmt.Sprintf("PERFORM alter_job(%d, config => (SELECT config || jsonb_build_object(%s, (%s)::text) FROM timescaledb_information.jobs WHERE job_id = %[1]d)%[4]s);",
		id, catalog.Literal(key), interval, more)
}

func (c *comparison) retention(t TablePolicy, h *held, p Policy, impossible string) {
	j, there := h.jobs[Retention]
	name := catalog.Literal(t.Table)
	ch := change{tightening: t.Retain > 0 && (!there || t.Retain < j.after), first: there && (t.Retain == 0 || t.Retain > j.after)}
	switch {
	case t.Retain == 0:
		ch.sql = fmt.Sprintf("PERFORM remove_retention_policy(%s, if_exists => true);", name)
	case there:
		ch.sql = alterSQL(j.id, "drop_after", intervalSQL(t.Retain), "")
	default:
		ch.sql = fmt.Sprintf("PERFORM add_retention_policy(%s, drop_after => %s, if_not_exists => true);", name, intervalSQL(t.Retain))
	}
	held := ""
	switch {
	case !ch.tightening:
	case !there && h.due > 0 && !c.yes:
		held = fmt.Sprintf("it would drop %d chunks at once, with the rows before %s: `qvpgw migrate up --yes` makes it so", h.due, h.dueTo)
	default:
		held = c.sought(t)
	}
	c.add(p, t.Off, impossible, held, ch)
}

// sought says which aggregate's refresh would look for rows that the retention of
// a table drops.
func (c *comparison) sought(t TablePolicy) string {
	for _, r := range c.actual.reaches {
		from := r.from
		for _, w := range c.wanted.Aggregates {
			if w.Aggregate == r.aggregate && !w.Off && !c.asIs {
				from = w.From
			}
		}
		if r.table == t.Table && !within(from, t.Retain) {
			return fmt.Sprintf("%s is refreshed from %s: it would lose the buckets of the rows that are dropped. Have it refreshed from at most %s",
				r.aggregate, fromText(from), period(t.Retain-day))
		}
	}
	return ""
}

// within says whether a refresh from an age stays within what a retention keeps,
// with a day between them for a refresh that runs for long.
func within(from, retain time.Duration) bool { return from > 0 && from <= retain-day }

func fromText(from time.Duration) string {
	if from == 0 {
		return "the beginning"
	}
	return period(from)
}

func (c *comparison) aggregate(w RefreshPolicy) {
	h, impossible := c.object(w.Aggregate)
	// An edition without policies has no aggregates either.
	if e := c.edition(); e != "" {
		impossible = e
	}
	p := Policy{Object: w.Aggregate, Kind: Refreshing, Wanted: refreshing(w)}
	j, there := h.jobs[Refreshing]
	var ch change
	if there {
		p.Actual = refreshing(RefreshPolicy{From: j.after, Until: j.until, Every: j.every})
		ch.sql = alterSQL(j.id, "start_offset", intervalSQL(w.From), fmt.Sprintf(" || jsonb_build_object('end_offset', (%s)::text), schedule_interval => %s", intervalSQL(w.Until), intervalSQL(w.Every)))
	} else {
		if impossible == "" {
			p.Actual = "none"
		}
		ch.sql = fmt.Sprintf("id := add_continuous_aggregate_policy(%s, start_offset => %s, end_offset => %s, schedule_interval => %s, if_not_exists => true); %s",
			catalog.Literal(w.Aggregate), intervalSQL(w.From), intervalSQL(w.Until), intervalSQL(w.Every), batchSQL(w))
	}
	c.add(p, w.Off, impossible, c.dropped(w, h), ch)
	c.note(j)
}

// batchSQL has each transaction of a refresh bring some thirty days up to date. By
// itself TimescaleDB, where it has batches, takes ten buckets, which makes ten
// thousands of transactions of a year's minutes.
func batchSQL(w RefreshPolicy) string {
	if w.Bucket == 0 {
		return ""
	}
	return fmt.Sprintf(`IF EXISTS (SELECT FROM pg_proc WHERE proname = 'add_continuous_aggregate_policy' AND 'buckets_per_batch' = ANY (proargnames)) THEN
  PERFORM alter_job(id, config => config || '{"buckets_per_batch": %d}') FROM timescaledb_information.jobs WHERE job_id = id;
END IF;`, max(10, 30*day/w.Bucket))
}

// dropped says that a refresh would look for rows that the retention of its
// hypertable drops.
func (c *comparison) dropped(w RefreshPolicy, h *held) string {
	source := c.actual.objects[h.source]
	if source == nil {
		return ""
	}
	retain := source.jobs[Retention].after
	if i := slices.IndexFunc(c.wanted.Tables, func(t TablePolicy) bool { return t.Table == h.source && !t.Off }); i >= 0 {
		retain = c.wanted.Tables[i].Retain
	}
	if retain > 0 && !within(w.From, retain) {
		return fmt.Sprintf("the retention of %s drops rows after %s: it would lose their buckets. Have it refreshed from at most %s", h.source, period(retain), period(retain-day))
	}
	return ""
}
