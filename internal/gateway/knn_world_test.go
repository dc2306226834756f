package gateway_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// truthRow is one row of a table: its vector is [x/8, 0], or NULL.
type truthRow struct {
	id, ver, kind, x int
	null             bool
	chunk            int // of a hypertable: weeks
}

// truthSchema has the tables of the world, each with a few ways to be written that
// triggers of its root do not see.
const truthSchema = `
CREATE SCHEMA side;
CREATE TABLE points (id int PRIMARY KEY, ver int NOT NULL, kind int NOT NULL, v vector(2), seen timestamptz NOT NULL DEFAULT '2024-06-01 12:00Z', pad text);
CREATE TABLE side.points (LIKE points INCLUDING ALL);
CREATE TABLE logged (LIKE points INCLUDING ALL);
SELECT qvpgw.watch('logged');
CREATE TABLE hyper (LIKE points, at timestamptz NOT NULL);
ALTER TABLE hyper ALTER seen SET DEFAULT '2024-06-01 12:00Z';
SELECT create_hypertable('hyper', by_range('at', INTERVAL '7 days'));
CREATE TABLE parts (LIKE points) PARTITION BY LIST (kind);
ALTER TABLE parts ALTER seen SET DEFAULT '2024-06-01 12:00Z';
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE kin (LIKE points INCLUDING DEFAULTS);
CREATE TABLE kin_child () INHERITS (kin);
CREATE TABLE secret (LIKE points INCLUDING ALL);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd ON secret FOR SELECT TO plain USING (kind = 1);
GRANT USAGE ON SCHEMA side TO plain;
GRANT SELECT ON points, side.points, logged, hyper, parts, kin, secret TO plain;
CREATE FUNCTION touch(which int, version int) RETURNS void LANGUAGE sql AS 'UPDATE public.logged SET ver = version WHERE id = which';`

// truthTable is a table whose writes come one after the other, each under mu.
type truthTable struct {
	name  string // with its schema
	asked string // what readers write for it
	kind  string // "" plain, hyper, parts, kin

	mu   sync.Mutex
	next int // id of the next row, and version
	week int // the oldest chunk that may have rows
	tableHistory
}

// truthQuestion is a question of which the answer in any state is known.
type truthQuestion struct {
	x             int // thirty-seconds, odd: no two rows are equally far
	limit, offset int
	kind          int // of the rows asked for; -1: any
}

var truthQuestions = []truthQuestion{
	{33, 1, 0, -1},
	{33, 3, 0, -1},
	{33, 12, 0, -1},
	{-401, 2, 0, 1},
	{-401, 2, 0, -1},
	{205, 3, 1, -1},
	{777, 5, 0, 0},
	{777, 40, 0, -1},
}

// secretly is added to the number of a question that is asked under the policy of
// table secret.
const secretly = 1000

// expected is the answer to a question in a state.
func expected(question int, rows []truthRow) string {
	q := truthQuestions[question%secretly]
	var in []truthRow
	for _, r := range rows {
		if (q.kind < 0 || r.kind == q.kind) && (question < secretly || r.kind == 1) {
			in = append(in, r)
		}
	}
	slices.SortFunc(in, func(a, b truthRow) int {
		if a.null || b.null {
			return cmp.Compare(bit(a.null), bit(b.null))
		}
		return cmp.Compare(abs(4*a.x-q.x), abs(4*b.x-q.x))
	})
	in = in[min(q.offset, len(in)):]
	var b []byte
	for _, r := range in[:min(q.limit, len(in))] {
		b = append(strconv.AppendInt(append(strconv.AppendInt(b, int64(r.id), 10), '|'), int64(r.ver), 10), ';')
	}
	return string(b)
}

func abs(n int) int { return max(n, -n) }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// world is the tables.
type world struct{ tables []*truthTable }

func newWorld() *world {
	w := &world{}
	for i, t := range []*truthTable{
		{name: "public.points", asked: "points"},
		{name: "side.points", asked: "points"},
		{name: "public.logged", asked: "logged"},
		{name: "public.hyper", asked: "hyper", kind: "hyper"},
		{name: "public.parts", asked: "parts", kind: "parts"},
		{name: "public.kin", asked: "kin", kind: "kin"},
		{name: "public.secret", asked: "secret"},
	} {
		t.next = i*1_000_000 + 1
		t.states = []tableState{{}}
		t.loose = t.kind == "hyper"
		w.tables = append(w.tables, t)
	}
	return w
}

// fill gives every table its first rows.
func (w *world) fill(rng *rand.Rand) (sql string) {
	for _, t := range w.tables {
		c := &change{table: t, rng: rng}
		c.insert(8)
		t.states[0].rows = c.rows
		sql += strings.Join(c.sql, ";") + ";"
	}
	return sql
}

// now is the last state's rows.
func (t *truthTable) now() []truthRow { return t.states[len(t.states)-1].rows }

// change is statements that are about to be sent, and what the table's rows are after
// them.
type change struct {
	table *truthTable
	rng   *rand.Rand
	rows  []truthRow
	gone  []int // what is gone for old snapshots too
	sql   []string
	copy  string // data of the one COPY that sql is, if it is one
}

// begin is a change that has done nothing yet.
func (t *truthTable) begin(rng *rand.Rand) *change {
	return &change{table: t, rng: rng, rows: slices.Clone(t.now())}
}

func (c *change) add(format string, args ...any) { c.sql = append(c.sql, fmt.Sprintf(format, args...)) }

// place is a coordinate that no row has: near a question, or anywhere.
func (c *change) place() int {
	for {
		x := c.rng.IntN(1024) - 512
		if c.rng.IntN(2) == 0 {
			x = truthQuestions[c.rng.IntN(len(truthQuestions))].x/4 + c.rng.IntN(9) - 4
		}
		if !slices.ContainsFunc(c.rows, func(r truthRow) bool { return r.x == x }) {
			return x
		}
	}
}

func (r truthRow) vector() string {
	if r.null {
		return "NULL"
	}
	return fmt.Sprintf("'[%g,0]'", float64(r.x)/8)
}

// week is the begin of a chunk; chunks begin on Thursdays.
func week(n int) string {
	return fmt.Sprintf("(timestamptz '2024-01-04 00:00Z' + %d * INTERVAL '7 days')", n)
}

func (c *change) newRow() truthRow {
	t := c.table
	r := truthRow{id: t.next, ver: t.next, kind: c.rng.IntN(2), x: c.place(), chunk: t.week + c.rng.IntN(3)}
	r.null = c.rng.IntN(12) == 0 && !slices.ContainsFunc(c.rows, func(r truthRow) bool { return r.null })
	t.next++
	return r
}

// columns and values of an INSERT.
func (t *truthTable) columns() string {
	if t.kind == "hyper" {
		return "(id, ver, kind, v, at)"
	}
	return "(id, ver, kind, v)"
}

func (t *truthTable) values(r truthRow) string {
	s := fmt.Sprintf("(%d, %d, %d, %s", r.id, r.ver, r.kind, r.vector())
	if t.kind == "hyper" {
		s += ", " + week(r.chunk) + " + INTERVAL '1 hour'"
	}
	return s + ")"
}

// insert adds n rows by one statement, at times into a child by its own name.
func (c *change) insert(n int) {
	var list []string
	into := c.table.name
	kind := c.rng.IntN(2)
	child := len(c.rows) > 0 && c.rng.IntN(3) == 0
	for range n {
		r := c.newRow()
		if child && c.table.kind == "parts" {
			r.kind = kind
		}
		c.rows = append(c.rows, r)
		list = append(list, c.table.values(r))
	}
	if child && c.table.kind == "parts" {
		into = fmt.Sprintf("public.parts_%d", kind)
	} else if child && c.table.kind == "kin" {
		into = "public.kin_child"
	}
	c.add("INSERT INTO %s %s VALUES %s", into, c.table.columns(), strings.Join(list, ", "))
}

// copyIn adds rows by COPY, which must be the change's only statement.
func (c *change) copyIn() {
	var b strings.Builder
	for range 1 + c.rng.IntN(3) {
		r := c.newRow()
		c.rows = append(c.rows, r)
		fmt.Fprintf(&b, "%d\t%d\t%d\t", r.id, r.ver, r.kind)
		if r.null {
			b.WriteString(`\N`)
		} else {
			b.WriteString(strings.Trim(r.vector(), "'"))
		}
		if c.table.kind == "hyper" {
			fmt.Fprintf(&b, "\t2024-01-0%d 01:00Z", 4) // of chunk 0
			c.rows[len(c.rows)-1].chunk = 0
		}
		b.WriteString("\n")
	}
	c.copy = b.String()
	c.add("COPY %s %s FROM STDIN", c.table.name, c.table.columns())
}

// one is a row that is there; false: there is none.
func (c *change) one() (i int, ok bool) {
	if len(c.rows) == 0 {
		return 0, false
	}
	return c.rng.IntN(len(c.rows)), true
}

// set changes a row, at times addressed in the child where it lies.
func (c *change) set(i int, assign string) {
	r := &c.rows[i]
	r.ver = c.table.next
	c.table.next++
	assign = fmt.Sprintf("ver = %d%s", r.ver, assign)
	if c.table.kind != "" && !strings.Contains(assign, "kind") && c.rng.IntN(2) == 0 {
		c.inChild("UPDATE %s SET "+strings.ReplaceAll(assign, "'", "''")+" WHERE id = "+strconv.Itoa(r.id), r.id)
		return
	}
	c.add("UPDATE %s SET %s WHERE id = %d", c.table.name, assign, r.id)
}

// inChild runs a statement on the table in which a row lies: a chunk, a partition.
func (c *change) inChild(statement string, id int) {
	c.add("DO $do$ BEGIN EXECUTE format('%s', (SELECT tableoid::regclass FROM %s WHERE id = %d)); END $do$", statement, c.table.name, id)
}

func (c *change) remove(i int) {
	r := c.rows[i]
	c.rows = slices.Delete(c.rows, i, i+1)
	if c.table.kind != "" && c.rng.IntN(2) == 0 {
		c.inChild(fmt.Sprintf("DELETE FROM %%s WHERE id = %d", r.id), r.id)
		return
	}
	c.add("DELETE FROM %s WHERE id = %d", c.table.name, r.id)
}

func (c *change) takeAway(which func(truthRow) bool) {
	for _, r := range slices.Concat(c.table.now(), c.rows) { // a row's older versions too
		if which(r) {
			c.gone = append(c.gone, r.id)
		}
	}
	c.rows = slices.DeleteFunc(c.rows, which)
}

// step does one random thing to the table.
func (c *change) step() {
	t := c.table
	n := c.rng.IntN(20)
	if len(c.rows) < 4 {
		n = 0
	} else if len(c.rows) > 24 {
		n = 12
	}
	switch i, _ := c.one(); {
	case n < 5:
		c.insert(1)
	case n < 6:
		c.insert(2 + c.rng.IntN(3))
	case n < 8: // the vector
		x := c.place()
		c.rows[i].x, c.rows[i].null = x, false
		c.set(i, fmt.Sprintf(", v = '[%g,0]'", float64(x)/8))
	case n < 9:
		if !slices.ContainsFunc(c.rows, func(r truthRow) bool { return r.null }) {
			c.rows[i].null = true
			c.set(i, ", v = NULL")
			return
		}
		c.remove(i)
	case n < 11: // what no distance depends on
		c.set(i, "")
	case n < 12: // what a filter depends on; a row moves to another partition
		c.rows[i].kind ^= 1
		c.set(i, fmt.Sprintf(", kind = %d", c.rows[i].kind))
	case n < 15:
		c.remove(i)
	case n < 16:
		c.takeAway(func(truthRow) bool { return true })
		c.add("TRUNCATE %s", t.name)
		c.insert(3)
	case n < 17 && t.kind == "hyper":
		t.week++
		c.takeAway(func(r truthRow) bool { return r.chunk < t.week })
		c.add("SELECT drop_chunks('%s', older_than => %s)", t.name, week(t.week))
	case n < 17 && t.kind == "":
		r := c.newRow()
		r.id = c.rows[i].id
		c.rows[i] = r
		c.add("INSERT INTO %s %s VALUES %s ON CONFLICT (id) DO UPDATE SET ver = EXCLUDED.ver, kind = EXCLUDED.kind, v = EXCLUDED.v", t.name, t.columns(), t.values(r))
	case n < 18 && t.name == "public.logged":
		c.rows[i].ver = t.next
		t.next++
		c.add("SELECT public.touch(%d, %d)", c.rows[i].id, c.rows[i].ver)
	case n < 18: // one statement that deletes and inserts
		gone := c.rows[i].id
		c.rows = slices.Delete(c.rows, i, i+1)
		r := c.newRow()
		c.rows = append(c.rows, r)
		c.add("WITH gone AS (DELETE FROM %s WHERE id = %d) INSERT INTO %s %s VALUES %s", t.name, gone, t.name, t.columns(), t.values(r))
	case n < 19 && len(c.sql) == 0:
		c.copyIn()
	default: // many rows at once: too many for the change log to name each
		c.add("UPDATE %s SET pad = 'x' WHERE kind >= 0", t.name)
	}
}
