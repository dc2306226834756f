package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fuzzWorld is one random hypertable with its aggregates, a dimension table, and
// what writes and queries need to know of them.
type fuzzWorld struct {
	*rand.Rand
	table  string
	zoned  bool      // the time column is timestamptz, not timestamp
	from   time.Time // the rows' range
	days   int
	recent bool // the range ends now
	// unique: no two rows have one moment, so that first and last have one answer.
	unique bool
	used   map[int64]bool
	// exact: sums of floats are the same in every order.
	exact      bool
	specials   bool // NaN and infinities
	compressed bool
	aggs       []fuzzAggregate
}

// fuzzAggregate is one continuous aggregate of a world.
type fuzzAggregate struct {
	name   string
	width  string
	dims   []string
	stored []string // calls
	upper  bool     // it is over another aggregate
}

const fuzzColumns = "g1 text, g2 int, g3 bool, gn numeric, i2 smallint, i4 int, i8 bigint, nu numeric, nf numeric(12, 3), f4 real, f8 float8, tx text, vc varchar(24), b bool"

// fuzzStarts are days before changes of the clock in the zones of fuzzZones.
var fuzzStarts = []string{"2024-03-04", "2024-03-20", "2024-09-28", "2024-10-20", "2023-12-20"}

func (w *fuzzWorld) one(of ...string) string { return of[w.IntN(len(of))] }

func (w *fuzzWorld) chance(n, of int) bool { return w.IntN(of) < n }

// newFuzzWorld makes a world in the database; the same seed makes the same.
func newFuzzWorld(t *testing.T, l *live, seed uint64) *fuzzWorld {
	t.Helper()
	w := &fuzzWorld{Rand: rand.New(rand.NewPCG(seed, 5)), table: fmt.Sprintf("fuzz_%d", seed), used: map[int64]bool{}}
	w.zoned, w.unique, w.exact, w.specials, w.days = w.chance(4, 5), w.chance(1, 2), w.chance(2, 3), w.chance(1, 2), 18+w.IntN(20)
	if w.chance(1, 5) {
		w.from, w.recent = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -w.days), true
	} else {
		w.from, _ = time.Parse(time.DateOnly, fuzzStarts[w.IntN(len(fuzzStarts))])
	}
	moment := "timestamp"
	if w.zoned {
		moment = "timestamptz"
	}
	l.exec(t, fmt.Sprintf("CREATE TABLE %s (t %s NOT NULL, %s); SELECT create_hypertable('%[1]s', by_range('t', INTERVAL '%[4]s')); CREATE TABLE %[1]s_d (k text, class int, label text); INSERT INTO %[1]s_d VALUES ('a', 1, 'x'), ('b', 1, 'y'), ('b', 2, NULL), ('d', 3, 'z'), (NULL, 4, 'n')",
		w.table, moment, fuzzColumns, w.one("7 days", "7 days", "5 days", "13 days")))
	if w.compressed = w.chance(1, 3); w.compressed {
		l.exec(t, fmt.Sprintf("ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = '%s', timescaledb.compress_orderby = 't')", w.table, w.one("g1", "g2", "g1, g2")))
	}
	for range 1 + w.IntN(3) {
		w.addAggregate(t, l)
	}
	if w.chance(1, 3) {
		w.addUpper(t, l)
	}
	l.exec(t, w.insert(200+w.IntN(250)))
	if w.chance(14, 15) {
		l.exec(t, "SELECT qvpgw.watch('"+w.table+"')")
	}
	for _, a := range w.aggs {
		if w.chance(9, 10) {
			l.exec(t, "CALL refresh_continuous_aggregate('"+a.name+"', NULL, NULL)")
		}
	}
	l.settle(t)
	return w
}

func (w *fuzzWorld) drop(t *testing.T, l *live) {
	t.Helper()
	l.exec(t, "RESET TimeZone")
	for _, a := range slices.Backward(w.aggs) {
		l.exec(t, "DROP MATERIALIZED VIEW IF EXISTS "+a.name)
	}
	l.exec(t, fmt.Sprintf("DROP TABLE %s; DROP TABLE %[1]s_d", w.table))
}

// fuzzCalls are what an aggregate may store.
var fuzzCalls = strings.Split("count(i2) count(i4) count(i8) count(nu) count(nf) count(f8) count(tx) count(g1) "+
	"sum(i2) sum(i4) sum(i8) sum(nu) sum(nf) sum(f4) sum(f8) min(i2) min(i4) max(i4) min(i8) max(i8) min(nu) max(nf) min(nf) min(f4) max(f4) min(f8) max(f8) "+
	"min(tx) max(tx) min(vc) max(vc) min(t) max(t) first(i4,t) last(i4,t) first(f8,t) last(f8,t) last(tx,t) first(nu,t) last(g1,t) "+
	"bool_and(b) bool_or(b) every(b) bit_and(i4) bit_or(i4) bit_xor(i4) bit_xor(i8) avg(i4) stddev(f8)", " ")

func (w *fuzzWorld) addAggregate(t *testing.T, l *live) {
	t.Helper()
	a := fuzzAggregate{name: fmt.Sprintf("%s_a%d", w.table, len(w.aggs))}
	a.width = w.one("15 minutes", "30 minutes", "30 minutes", "1 hour", "1 hour", "01:00:00", "2 hours", "6 hours", "1 day", "1 week", "1 month", "90 minutes")
	bucket := "time_bucket('" + a.width + "', t"
	switch {
	case a.width == "1 month":
	case w.chance(1, 20):
		bucket += ", INTERVAL '" + w.one("15 minutes", "1 hour", "-30 minutes") + "'"
	case w.chance(1, 30) && w.zoned:
		bucket += ", '" + w.one("Europe/Berlin", "Asia/Kolkata") + "'"
	}
	bucket += ")"
	for _, d := range []string{"g1", "g1", "g2", "g3"} {
		if w.chance(1, 2) && !slices.Contains(a.dims, d) {
			a.dims = append(a.dims, d)
		}
	}
	if w.chance(1, 40) {
		a.dims = append(a.dims, "gn")
	}
	if w.chance(19, 20) {
		a.stored = append(a.stored, "count(*)")
	}
	for _, c := range fuzzCalls {
		if w.chance(2, 3) {
			a.stored = append(a.stored, c)
		}
	}
	outputs := append([]string{bucket + " AS bucket"}, a.dims...)
	for i, c := range a.stored {
		outputs = append(outputs, fmt.Sprintf("%s AS c%d", c, i))
	}
	group := append([]string{"1"}, a.dims...)
	where := ""
	if w.chance(1, 50) {
		where = " WHERE i4 > 0"
	}
	l.exec(t, fmt.Sprintf("CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous, timescaledb.materialized_only = %t) AS SELECT %s FROM %s%s GROUP BY %s WITH NO DATA",
		a.name, w.chance(1, 2), strings.Join(outputs, ", "), w.table, where, strings.Join(group, ", ")))
	w.aggs = append(w.aggs, a)
}

// addUpper makes an aggregate over the last one, of what can be put together again.
func (w *fuzzWorld) addUpper(t *testing.T, l *live) {
	t.Helper()
	below := w.aggs[len(w.aggs)-1]
	wider := map[string]string{"15 minutes": "1 hour", "30 minutes": "1 day", "1 hour": "1 day", "01:00:00": "6 hours", "2 hours": "1 day", "6 hours": "1 week", "1 day": "1 week"}[below.width]
	if wider == "" {
		return
	}
	a := fuzzAggregate{name: below.name + "_up", width: wider, upper: true}
	for _, d := range below.dims {
		if w.chance(2, 3) {
			a.dims = append(a.dims, d)
		}
	}
	outputs := append([]string{"time_bucket('" + wider + "', bucket) AS bucket"}, a.dims...)
	for i, c := range below.stored {
		fn, arg, _ := strings.Cut(c, "(")
		switch fn {
		case "count", "sum":
			fn = "sum"
		case "first", "last":
			outputs = append(outputs, fmt.Sprintf("%s(c%d, bucket) AS c%d", fn, i, i))
			continue
		case "avg", "stddev":
			continue
		}
		if arg == "f4)" && fn == "sum" {
			continue
		}
		outputs = append(outputs, fmt.Sprintf("%s(c%d) AS c%d", fn, i, i))
		a.stored = append(a.stored, c)
	}
	reply := l.conn.PgConn().Exec(context.Background(), fmt.Sprintf("CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous) AS SELECT %s FROM %s GROUP BY %s WITH NO DATA",
		a.name, strings.Join(outputs, ", "), below.name, strings.Join(append([]string{"1"}, a.dims...), ", ")))
	if _, err := reply.ReadAll(); err == nil { // a bucket with an offset may not be one of another's
		w.aggs = append(w.aggs, a)
	}
}

// moment gives a time in the range, often at an edge or where a clock changes.
func (w *fuzzWorld) moment() time.Time {
	at := w.from.Add(time.Duration(w.Int64N(int64(w.days) * 24 * int64(time.Hour)))).Truncate(time.Microsecond)
	switch w.IntN(8) {
	case 0:
		return at.Truncate(24 * time.Hour)
	case 1:
		return at.Truncate(15 * time.Minute)
	case 2:
		return at.Truncate(time.Hour).Add(-time.Microsecond)
	case 3:
		return at.Truncate(time.Hour)
	case 4:
		return at.Truncate(24 * time.Hour).Add(time.Duration(w.IntN(4*60)-120) * time.Minute)
	}
	return at
}

func fuzzText(at time.Time) string { return at.Format("2006-01-02 15:04:05.999999") }

// stamp is a moment of a row as a literal of the time column's type.
func (w *fuzzWorld) stamp(at time.Time) string {
	if w.zoned {
		return "timestamptz '" + fuzzText(at) + "+00'"
	}
	return "timestamp '" + fuzzText(at) + "'"
}

// rowMoment is the moment of a new row.
func (w *fuzzWorld) rowMoment() time.Time {
	for {
		at := w.moment()
		if w.unique && w.used[at.UnixMicro()] {
			continue
		}
		w.used[at.UnixMicro()] = true
		return at
	}
}

func (w *fuzzWorld) value(column string) string {
	if w.chance(1, 7) {
		return "NULL"
	}
	special := w.specials && w.chance(1, 40)
	switch column {
	case "g1":
		return w.one("'a'", "'a'", "'b'", "'c'", "'ä'", "''")
	case "g2":
		return w.one("1", "2", "3", "-7")
	case "g3", "b":
		return w.one("true", "false", "true")
	case "gn":
		return w.one("1", "1.0", "2.50", "2.5")
	case "i2":
		return fmt.Sprint(w.IntN(600) - 300)
	case "i4":
		if w.chance(1, 30) {
			return w.one("2147483647", "-2147483648")
		}
		return fmt.Sprint(w.IntN(2000) - 1000)
	case "i8":
		if w.chance(1, 30) {
			return w.one("9223372036854775807", "-9223372036854775807")
		}
		return fmt.Sprint(w.IntN(2_000_000) - 1_000_000)
	case "nu":
		if special {
			return w.one("'NaN'", "'Infinity'", "'-Infinity'")
		}
		return fmt.Sprintf("%.*f", w.IntN(6), float64(w.IntN(200_000)-100_000)/320)
	case "nf":
		if special {
			return "'NaN'"
		}
		return fmt.Sprintf("%.3f", float64(w.IntN(2_000_000)-1_000_000)/1000)
	case "f4", "f8":
		switch {
		case special:
			return w.one("'NaN'", "'Infinity'", "'-Infinity'")
		case w.exact:
			return fmt.Sprintf("%.2f", float64(w.IntN(4000)-2000)/4)
		}
		return fmt.Sprintf("%.17g", 1+w.Float64()*100)
	}
	return w.one("'a'", "'B'", "'ä'", "''", "'zz top'", "'Z'")
}

var fuzzNames = func() []string {
	var names []string
	for _, c := range strings.Split(fuzzColumns, ", ") {
		if name, _, ok := strings.Cut(c, " "); ok && name != "3)" {
			names = append(names, name)
		}
	}
	return names
}()

func (w *fuzzWorld) insert(n int) string {
	rows := make([]string, n)
	var last time.Time
	for i := range rows {
		if last.IsZero() || w.unique || !w.chance(1, 6) {
			last = w.rowMoment()
		}
		values := []string{w.stamp(last)}
		for _, c := range fuzzNames {
			values = append(values, w.value(c))
		}
		rows[i] = "(" + strings.Join(values, ", ") + ")"
	}
	return "INSERT INTO " + w.table + " (t, " + strings.Join(fuzzNames, ", ") + ") VALUES " + strings.Join(rows, ", ")
}

// some is a range of moments, mostly short.
func (w *fuzzWorld) some() (from, to time.Time) {
	from = w.moment()
	return from, from.Add(time.Duration(1+w.IntN(w.one2(60, 48*60))) * time.Minute)
}

func (w *fuzzWorld) one2(a, b int) int {
	if w.chance(1, 2) {
		return a
	}
	return b
}

func (w *fuzzWorld) within(alias string) string {
	from, to := w.some()
	return fmt.Sprintf("%st >= %s AND %[1]st < %s", alias, w.stamp(from), w.stamp(to))
}

// write gives a statement that changes rows, chunks or aggregates; it may fail.
func (w *fuzzWorld) write() string {
	a := w.aggs[w.IntN(len(w.aggs))].name
	set := w.one("i4 = i4 / 2 + 1", "i4 = 5, f8 = 0.25", "g1 = 'b'", "nf = nf + 1.5", "tx = 'new', g2 = 2", "f8 = NULL, i8 = NULL", "b = NOT b")
	switch w.IntN(27) {
	case 0, 1, 2, 3, 4:
		return w.insert(1 + w.IntN(4))
	case 5, 6, 7:
		return "UPDATE " + w.table + " SET " + set + " WHERE " + w.within("")
	case 8, 9:
		return "DELETE FROM " + w.table + " WHERE " + w.within("") + w.one("", " AND g1 = 'a'")
	case 10:
		return "MERGE INTO " + w.table + " h USING (VALUES (1)) s (x) ON " + w.within("h.") + " WHEN MATCHED THEN " + w.one("DELETE", "UPDATE SET i4 = 77, f8 = 1.25", "UPDATE SET g1 = 'c'")
	case 11:
		return fmt.Sprintf("MERGE INTO %s h USING (VALUES (%s, 'a', 5)) s (t, g1, i4) ON h.t = s.t WHEN MATCHED THEN UPDATE SET i4 = s.i4 WHEN NOT MATCHED THEN INSERT (t, g1, i4) VALUES (s.t, s.g1, s.i4)", w.table, w.stamp(w.rowMoment()))
	case 12:
		return fmt.Sprintf("SELECT drop_chunks('%s', older_than => %s)", w.one(w.table, w.table, a), w.stamp(w.from.AddDate(0, 0, w.IntN(w.days/2))))
	case 13:
		if w.chance(1, 4) {
			return "TRUNCATE " + w.table
		}
		return w.insert(30 + w.IntN(60))
	case 14, 15, 16:
		from, to := w.some()
		return fmt.Sprintf("CALL refresh_continuous_aggregate('%s', %s, %s)", a, w.stamp(from.AddDate(0, 0, -3)), w.stamp(to.AddDate(0, 0, 5)))
	case 17:
		return fmt.Sprintf("CALL refresh_continuous_aggregate('%s', %s, NULL)", a, w.stamp(w.from.AddDate(0, 0, w.days/2)))
	case 18:
		return fmt.Sprintf("policy SELECT add_continuous_aggregate_policy('%s', NULL, NULL, INTERVAL '1 day', buckets_per_batch => 5, max_batches_per_execution => %d, refresh_newest_first => %t)", a, 1+w.IntN(3), w.chance(3, 4))
	case 19, 20:
		return fmt.Sprintf("CALL refresh_continuous_aggregate('%s', NULL, NULL)", a)
	case 21:
		return fmt.Sprintf("SELECT compress_chunk(c) FROM show_chunks('%s', older_than => %s) c", w.table, w.stamp(w.moment()))
	case 22:
		return fmt.Sprintf("SELECT decompress_chunk(c) FROM show_chunks('%s') c", w.table)
	case 23:
		return "BEGIN; " + w.insert(2) + "; UPDATE " + w.table + " SET " + set + " WHERE " + w.within("") + w.one("; COMMIT", "; ROLLBACK", "; SAVEPOINT s; DELETE FROM "+w.table+"; ROLLBACK TO s; COMMIT")
	case 24:
		return fmt.Sprintf("ALTER TABLE %s ALTER %s %s NOT NULL", w.table, w.one("i2", "i4"), w.one("SET", "DROP"))
	case 25:
		return fmt.Sprintf("DELETE FROM %s_d WHERE class = 2", w.table)
	}
	return "settle"
}
