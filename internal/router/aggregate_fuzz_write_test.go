package router

import (
	"fmt"
	"time"
)

// some is a range of moments, mostly short.
func (w *fuzzWorld) some() (from, to time.Time) {
	from = w.at()
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
	n := w.IntN(27)
	if w.trusting && (n == 10 || n == 11) {
		n = 0
	}
	switch n {
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
		if w.trusting { // no log has what an aggregate lost, and settled points are not asked
			a = w.table
		}
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
		return refreshAll(a)
	case 21:
		return fmt.Sprintf("SELECT compress_chunk(c) FROM show_chunks('%s', older_than => %s) c", w.one(w.table, w.table, a), w.stamp(w.at()))
	case 22:
		return fmt.Sprintf("SELECT decompress_chunk(c) FROM show_chunks('%s') c", w.one(w.table, a))
	case 23:
		return "BEGIN; " + w.insert(2) + "; UPDATE " + w.table + " SET " + set + " WHERE " + w.within("") + w.one("; COMMIT", "; ROLLBACK", "; SAVEPOINT s; DELETE FROM "+w.table+"; ROLLBACK TO s; COMMIT")
	case 24:
		return fmt.Sprintf("ALTER TABLE %s ALTER %s %s NOT NULL", w.table, w.one("i2", "i4"), w.one("SET", "DROP"))
	case 25:
		return fmt.Sprintf("DELETE FROM %s_d WHERE class = 2", w.table)
	}
	return "settle"
}
