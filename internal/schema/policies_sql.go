package schema

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"qvpgw/internal/catalog"
)

// held is what the database has of one object.
type held struct {
	relation bool   // there is a relation of that name
	hyper    bool   // it is a hypertable or a continuous aggregate
	source   string // of an aggregate: the object among ours whose rows it aggregates
	chunk    time.Duration

	segment, order string // compression's settings, both "" without any
	jobs           map[PolicyKind]job
	due            int    // chunks that the wanted retention would drop now
	dueTo          string // the end of the newest of them
}

// job is a policy's job: the lowest of several of a kind.
type job struct {
	id             int
	after          time.Duration // compress_after, drop_after, start_offset; 0: none
	until, every   time.Duration
	others, paused bool // there are more of its kind; it does not run
}

// reach is a refresh job of an aggregate that stands on a hypertable of ours.
type reach struct {
	table, aggregate string
	from             time.Duration // 0: from the beginning
}

// actual is what the database has.
type actual struct {
	timescale string // version, "" without it
	community bool
	objects   map[string]*held
	reaches   []reach
}

// jobKinds maps TimescaleDB's procedures to kinds.
var jobKinds = map[string]PolicyKind{
	"policy_compression": Compression, "policy_retention": Retention, "policy_refresh_continuous_aggregate": Refreshing,
}

const editionSQL = `
SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), ''),
       coalesce(current_setting('timescaledb.license', true), '')`

// actualSQL gives a row of kind, object, text, and three numbers, with times in
// microseconds and -1 for NULL, for each
//
//	object    relation: 1 if it is a hypertable or aggregate
//	chunk     of a hypertable: the interval of its chunks
//	settings  column: position in segment by, position in order by, 1 if ascending
//	job       procedure and whether it is paused: id, its age, until; and
//	schedule  procedure: id, interval
//	due       end of the newest chunk that the wanted retention would drop: how many
//	source    of an aggregate: the object that it aggregates
//	reach     the aggregate on a hypertable that has a refresh job: start
func actualSQL(w Policies) string {
	var names []string
	for _, t := range w.Tables {
		names = append(names, fmt.Sprintf("(%s, %s)", catalog.Literal(t.Table), intervalSQL(t.Retain)))
	}
	for _, a := range w.Aggregates {
		names = append(names, fmt.Sprintf("(%s, NULL)", catalog.Literal(a.Aggregate)))
	}
	return `
WITH wanted (name, retain) AS (VALUES ` + strings.Join(names, ", ") + `),
object AS (
  SELECT w.name, w.retain::interval AS retain, n.nspname, c.relname
  FROM wanted w JOIN pg_class c ON c.oid = to_regclass(w.name) JOIN pg_namespace n ON n.oid = c.relnamespace),
hyper AS (
  SELECT o.*, h.id FROM object o JOIN _timescaledb_catalog.hypertable h ON h.schema_name = o.nspname AND h.table_name = o.relname
  UNION ALL
  SELECT o.*, a.mat_hypertable_id FROM object o JOIN _timescaledb_catalog.continuous_agg a ON a.user_view_schema = o.nspname AND a.user_view_name = o.relname),
job AS (
  SELECT j.job_id, j.proc_name, j.scheduled, j.schedule_interval, h.name,
         coalesce(j.config->>'compress_after', j.config->>'drop_after', j.config->>'start_offset')::interval AS age,
         (j.config->>'end_offset')::interval AS until
  FROM timescaledb_information.jobs j
  JOIN hyper h ON h.id = coalesce(j.config->>'hypertable_id', j.config->>'mat_hypertable_id')::int
  WHERE j.proc_name IN ('policy_compression', 'policy_retention', 'policy_refresh_continuous_aggregate')
    AND NOT j.config ? 'compress_created_before' AND NOT j.config ? 'drop_created_before')
SELECT 'object', o.name, '', (h.id IS NOT NULL)::int::bigint, 0::bigint, 0::bigint FROM object o LEFT JOIN hyper h USING (name)
UNION ALL
SELECT 'chunk', h.name, '', d.interval_length, 0, 0
FROM hyper h JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id WHERE d.interval_length IS NOT NULL
UNION ALL
SELECT 'settings', h.name, s.attname::text, coalesce(s.segmentby_column_index, -1), coalesce(s.orderby_column_index, -1), coalesce(s.orderby_asc::int, -1)
FROM hyper h JOIN timescaledb_information.compression_settings s ON s.hypertable_schema = h.nspname AND s.hypertable_name = h.relname
UNION ALL
SELECT 'job', name, proc_name || CASE WHEN scheduled THEN '' ELSE ' paused' END, job_id, ` + micros("age") + `, ` + micros("until") + ` FROM job
UNION ALL
SELECT 'schedule', name, proc_name, job_id, ` + micros("schedule_interval") + `, 0 FROM job
UNION ALL
SELECT 'due', h.name, max(c.range_end)::text, count(*), 0, 0
FROM hyper h JOIN timescaledb_information.chunks c ON c.hypertable_schema = h.nspname AND c.hypertable_name = h.relname
WHERE c.range_end <= now() - h.retain GROUP BY h.name
UNION ALL
SELECT 'source', h.name, r.name, 0, 0, 0
FROM hyper h JOIN _timescaledb_catalog.continuous_agg a ON a.mat_hypertable_id = h.id JOIN hyper r ON r.id = a.raw_hypertable_id
UNION ALL
SELECT 'reach', h.name, coalesce(v.name, format('%I.%I', a.user_view_schema, a.user_view_name)), ` + micros("(j.config->>'start_offset')::interval") + `, 0, 0
FROM hyper h
JOIN _timescaledb_catalog.continuous_agg a ON a.raw_hypertable_id = h.id
LEFT JOIN hyper v ON v.id = a.mat_hypertable_id
JOIN timescaledb_information.jobs j ON (j.config->>'mat_hypertable_id')::int = a.mat_hypertable_id
WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
ORDER BY 1, 2, 4, 5`
}

func micros(interval string) string {
	return "coalesce((extract(epoch FROM " + interval + ") * 1000000)::bigint, -1)"
}

// readActual reads what the database has of the wanted objects.
func readActual(ctx context.Context, q Query, w Policies) (*actual, error) {
	rows, err := read(ctx, q, "TimescaleDB's edition", editionSQL, 2)
	if err != nil {
		return nil, err
	}
	a := &actual{timescale: rows[0][0], community: rows[0][1] == "timescale", objects: map[string]*held{}}
	if a.timescale == "" || len(w.Tables)+len(w.Aggregates) == 0 {
		return a, nil
	}
	rows, err = read(ctx, q, "the policies", actualSQL(w), 6)
	if err != nil {
		return nil, err
	}
	var n numbers
	for _, row := range rows {
		h := a.objects[row[1]]
		if h == nil {
			h = &held{jobs: map[PolicyKind]job{}}
			a.objects[row[1]] = h
		}
		a.add(h, row, n.int64(row[3]), n.int64(row[4]), n.int64(row[5]))
	}
	if n.err != nil {
		return nil, fmt.Errorf("cannot understand the policies: %w", n.err)
	}
	return a, nil
}

// add takes down one row of actualSQL.
func (a *actual) add(h *held, row []string, x, y, z int64) {
	switch row[0] {
	case "object":
		h.relation, h.hyper = true, x == 1
	case "chunk":
		h.chunk = age(x)
	case "settings":
		if x >= 0 {
			h.segment = list(h.segment, row[2])
		} else if y >= 0 {
			h.order = list(h.order, row[2]+map[bool]string{true: "", false: " DESC"}[z == 1])
		}
	case "job":
		proc, paused := strings.CutSuffix(row[2], " paused")
		j, there := h.jobs[jobKinds[proc]]
		if there {
			j.others = true
		} else {
			j = job{id: int(x), after: age(y), until: age(z), paused: paused}
		}
		h.jobs[jobKinds[proc]] = j
	case "schedule":
		if j := h.jobs[jobKinds[row[2]]]; j.id == int(x) {
			j.every = age(y)
			h.jobs[jobKinds[row[2]]] = j
		}
	case "due":
		h.due, h.dueTo = int(x), row[2]
	case "source":
		h.source = row[2]
	case "reach":
		a.reaches = append(a.reaches, reach{row[1], row[2], age(x)})
	}
}

func list(names, name string) string {
	if names == "" {
		return name
	}
	return names + ", " + name
}

// age is a length of time of actualSQL; NULL is 0, no limit.
func age(micros int64) time.Duration {
	if micros <= 0 {
		return 0
	}
	if micros > math.MaxInt64/int64(time.Microsecond) {
		return math.MaxInt64
	}
	return time.Duration(micros) * time.Microsecond
}

// intervalSQL spells a length of time; NULL for 0.
func intervalSQL(d time.Duration) string {
	switch {
	case d == 0:
		return "NULL::interval"
	case d%day == 0:
		return fmt.Sprintf("INTERVAL '%d days'", d/day)
	}
	return fmt.Sprintf("INTERVAL '%d seconds'", d/time.Second)
}
