package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fuzzWorld is one random hypertable with its aggregates, a dimension table, and
// what writes and queries need to know of them.
type fuzzWorld struct {
	*rand.Rand
	table  string
	moment string    // type of the time column
	zoned  bool      // it is timestamptz
	whole  bool      // it is seconds since 1970
	early  bool      // and some are before
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
	// trusting: as with route.mode watermark, nothing is watched or settled, and no
	// MERGE is written, nor are chunks of aggregates dropped: TimescaleDB's logs lack both.
	trusting bool
	watched  bool
	aggs     []fuzzAggregate
	past     []fuzzQuery // some that were asked
}

// fuzzAggregate is one continuous aggregate of a world.
type fuzzAggregate struct {
	name   string
	width  string
	dims   []string
	stored []string // calls
	names  []string // of the columns that hold them
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
	w.moment = w.one("timestamptz", "timestamptz", "timestamptz", "timestamptz", "timestamp", w.one("bigint", "bigint", "integer"))
	w.zoned, w.whole = w.moment == "timestamptz", !strings.HasPrefix(w.moment, "timestamp")
	w.early = w.whole && w.chance(1, 3)
	w.unique, w.exact, w.specials, w.days = w.chance(1, 2), w.chance(2, 3), w.chance(1, 2), 21+w.IntN(20)
	w.trusting = w.chance(1, 7)
	if w.chance(1, 5) {
		w.from, w.recent = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -w.days), true
	} else {
		w.from, _ = time.Parse(time.DateOnly, fuzzStarts[w.IntN(len(fuzzStarts))])
	}
	length := "INTERVAL '" + w.one("7 days", "7 days", "5 days", "13 days") + "'"
	if w.whole {
		length = w.one("604800", "432000")
	}
	l.exec(t, fmt.Sprintf("CREATE TABLE %s (t %s NOT NULL, %s); SELECT create_hypertable('%[1]s', by_range('t', %[4]s)); CREATE TABLE %[1]s_d (k text, class int, label text); INSERT INTO %[1]s_d VALUES ('a', 1, 'x'), ('b', 1, 'y'), ('b', 2, NULL), ('d', 3, 'z'), (NULL, 4, 'n')",
		w.table, w.moment, fuzzColumns, length))
	if w.whole {
		l.exec(t, "SELECT set_integer_now_func('"+w.table+"', 'fuzz_now_"+w.moment+"')")
	}
	if w.compressed = w.chance(1, 3); w.compressed {
		l.exec(t, fmt.Sprintf("ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = '%s', timescaledb.compress_orderby = 't')", w.table, w.one("g1", "g2", "g1, g2")))
	}
	for range 1 + w.IntN(3) {
		w.addAggregate(t, l)
	}
	for w.chance(1, 2) && w.addUpper(t, l) { // up to three levels
	}
	l.exec(t, fmt.Sprintf("GRANT SELECT ON %s, %[1]s_d TO fuzz_reader", w.table))
	if !w.compressed {
		l.exec(t, fmt.Sprintf("GRANT SELECT (t, g1, i4, nf) ON %s TO fuzz_columns; GRANT SELECT ON %[1]s_d TO fuzz_columns", w.table))
	}
	for _, a := range w.aggs {
		if w.chance(2, 3) {
			l.exec(t, "GRANT SELECT ON "+a.name+" TO fuzz_reader")
		}
	}
	l.exec(t, w.insert(200+w.IntN(250)))
	if w.trusting {
		for _, a := range w.aggs {
			l.exec(t, refreshAll(a.name))
		}
	} else if w.chance(14, 15) {
		w.watch(t, l)
	}
	return w
}

func refreshAll(name string) string {
	return "CALL refresh_continuous_aggregate('" + name + "', NULL, NULL)"
}

// watch has the gateway's triggers follow the hypertable, and settles its aggregates.
func (w *fuzzWorld) watch(t *testing.T, l *live) {
	t.Helper()
	w.watched = true
	l.exec(t, "SELECT qvpgw.watch('"+w.table+"')")
	for _, a := range w.aggs {
		if w.chance(11, 12) {
			l.exec(t, refreshAll(a.name))
		}
	}
	l.settle(t)
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
	a.width = w.one("1 minute", "5 minutes", "15 minutes", "30 minutes", "30 minutes", "1 hour", "1 hour", "01:00:00", "2 hours", "6 hours", "1 day", "1 day", w.one("1 week", "1 month"), "90 minutes")
	if w.whole && a.width == "1 month" {
		a.width = "1 day"
	}
	bucket := "time_bucket(" + w.width(a.width) + ", t"
	switch {
	case a.width == "1 month":
	case w.whole && w.chance(1, 12):
		bucket += ", " + w.one("900", "3600", "-1800")
	case w.whole:
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
		if w.chance(6, 7) {
			a.stored = append(a.stored, c)
		}
	}
	outputs := append([]string{bucket + " AS bucket"}, a.dims...)
	for i, c := range a.stored {
		a.names = append(a.names, "c"+strconv.Itoa(i))
		outputs = append(outputs, c+" AS "+a.names[i])
	}
	group := append([]string{"1"}, a.dims...)
	where := ""
	if w.chance(1, 50) {
		where = " WHERE i4 > 0"
	}
	l.exec(t, fmt.Sprintf("CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous, timescaledb.materialized_only = %t) AS SELECT %s FROM %s%s GROUP BY %s WITH NO DATA",
		a.name, w.chance(1, 2), strings.Join(outputs, ", "), w.table, where, strings.Join(group, ", ")))
	w.aggs = append(w.aggs, a)
	if w.chance(1, 5) {
		l.exec(t, "ALTER MATERIALIZED VIEW "+a.name+" SET (timescaledb.compress)")
	}
}

// width spells the width of a bucket.
func (w *fuzzWorld) width(text string) string {
	if !w.whole {
		return "'" + text + "'"
	}
	return map[string]string{"1 minute": "60", "5 minutes": "300", "15 minutes": "900", "30 minutes": "1800", "1 hour": "3600", "01:00:00": "3600", "90 minutes": "5400", "2 hours": "7200", "6 hours": "21600", "1 day": "86400", "1 week": "604800"}[text]
}

// addUpper makes an aggregate over the last one, of what can be put together again;
// false when TimescaleDB does not want it.
func (w *fuzzWorld) addUpper(t *testing.T, l *live) bool {
	t.Helper()
	below := w.aggs[len(w.aggs)-1]
	wider := map[string]string{"1 minute": "1 hour", "5 minutes": "1 hour", "15 minutes": "1 hour", "30 minutes": "1 day", "1 hour": "1 day", "01:00:00": "6 hours", "2 hours": "1 day", "6 hours": "1 week", "1 day": "1 week"}[below.width]
	if wider == "" {
		return false
	}
	a := fuzzAggregate{name: below.name + "_up", width: wider, upper: true}
	for _, d := range below.dims {
		if w.chance(3, 4) {
			a.dims = append(a.dims, d)
		}
	}
	outputs := append([]string{"time_bucket(" + w.width(wider) + ", bucket) AS bucket"}, a.dims...)
	for i, c := range below.stored {
		fn, arg, _ := strings.Cut(c, "(")
		column := below.names[i]
		switch fn {
		case "count", "sum":
			fn = "sum"
		case "first", "last":
			outputs = append(outputs, fmt.Sprintf("%s(%s, bucket) AS %[2]s", fn, column))
			continue
		case "avg", "stddev":
			continue
		}
		if arg == "f4)" && fn == "sum" {
			continue
		}
		outputs = append(outputs, fmt.Sprintf("%s(%s) AS %[2]s", fn, column))
		a.stored, a.names = append(a.stored, c), append(a.names, column)
	}
	reply := l.conn.PgConn().Exec(context.Background(), fmt.Sprintf("CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous) AS SELECT %s FROM %s GROUP BY %s WITH NO DATA",
		a.name, strings.Join(outputs, ", "), below.name, strings.Join(append([]string{"1"}, a.dims...), ", ")))
	if _, err := reply.ReadAll(); err != nil { // a bucket with an offset may not be one of another's
		return false
	}
	w.aggs = append(w.aggs, a)
	return true
}
