package gateway_test

import (
	"fmt"
	"math/rand/v2"
)

// logged runs TimescaleDB's own part of the end of a writer's transaction: it reads the threshold, and logs what it changed below that.
func (b *concurrentBed) logged(d do, low, high int64) error {
	if b.real {
		return nil
	}
	rows, err := d(fmt.Sprintf("SELECT watermark FROM _timescaledb_catalog.continuous_aggs_invalidation_threshold WHERE hypertable_id = %d", b.raw))
	if err != nil {
		_, _ = d("ROLLBACK")
		return err
	}
	var threshold int64
	if _, err := fmt.Sscan(rows[0][0], &threshold); err != nil {
		return err
	}
	if low >= threshold {
		return nil
	}
	return each(d, fmt.Sprintf("INSERT INTO _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log VALUES (%d, %d, %d)", b.raw, low, high))
}

// dropping runs a statement that drops chunks. The native backend's edition
// refuses it for a hypertable with aggregates, so they are away while it runs.
func (b *concurrentBed) dropping(d do, sql string) error {
	if b.real {
		return each(d, sql)
	}
	return each(d,
		"LOCK TABLE _timescaledb_catalog.continuous_agg IN EXCLUSIVE MODE",
		"CREATE TEMP TABLE away ON COMMIT DROP AS SELECT * FROM _timescaledb_catalog.continuous_agg",
		"DELETE FROM _timescaledb_catalog.continuous_agg",
		sql,
		"INSERT INTO _timescaledb_catalog.continuous_agg SELECT * FROM away")
}

// heldByAStandby is the writer whose COMMIT waits for a synchronous standby.
const heldByAStandby = "held by a standby"

// A writer changes the bars near a moment, in one transaction.
type writer struct {
	name  string
	write func(b *concurrentBed, d do, at int64) error
}

func insertBars(at int64) string {
	return fmt.Sprintf("INSERT INTO bars SELECT %s + n * interval '7 minutes', 'A', 5000, 100000 FROM generate_series(0, 2) n", stampOf(at))
}

func within(at int64) string {
	return fmt.Sprintf("timestamp >= %s AND timestamp < %s", stampOf(at), stampOf(at+6*hourMicros))
}

// writers are TimescaleDB's: each ends with what it logs, MERGE with nothing.
var writers = []writer{
	{"insert", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN", insertBars(at)); err != nil {
			return err
		}
		if err := b.logged(d, at, at+hourMicros); err != nil {
			return err
		}
		return each(d, "COMMIT")
	}},
	{"update", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN", "UPDATE bars SET volume = volume + 1000 WHERE "+within(at)); err != nil {
			return err
		}
		if err := b.logged(d, at, at+6*hourMicros); err != nil {
			return err
		}
		return each(d, "COMMIT")
	}},
	{"delete", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN", "DELETE FROM bars WHERE "+within(at)); err != nil {
			return err
		}
		if err := b.logged(d, at, at+6*hourMicros); err != nil {
			return err
		}
		return each(d, "COMMIT")
	}},
	{"merge", func(_ *concurrentBed, d do, at int64) error {
		return each(d, "BEGIN", "MERGE INTO bars USING (VALUES (1)) v ON "+within(at)+" WHEN MATCHED THEN UPDATE SET volume = volume + 333", "COMMIT")
	}},
	{"merge that deletes", func(_ *concurrentBed, d do, at int64) error {
		return each(d, "BEGIN", "MERGE INTO bars USING (VALUES (1)) v ON "+within(at)+" WHEN MATCHED THEN DELETE", "COMMIT")
	}},
	{"rolled back", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN", insertBars(at)); err != nil {
			return err
		}
		if err := b.logged(d, at, at+hourMicros); err != nil {
			return err
		}
		return each(d, "ROLLBACK")
	}},
	{"prepared", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN", insertBars(at)); err != nil {
			return err
		}
		if err := b.logged(d, at, at+hourMicros); err != nil {
			return err
		}
		id := fmt.Sprintf("'held %d'", rand.Uint64())
		return each(d, "PREPARE TRANSACTION "+id, "SELECT 'held'", "SELECT 'still held'", "SELECT 'held long'", "COMMIT PREPARED "+id)
	}},
	{heldByAStandby, func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "SET synchronous_commit = on", "BEGIN", insertBars(at)); err != nil {
			return err
		}
		if err := b.logged(d, at, at+hourMicros); err != nil {
			return err
		}
		return each(d, "COMMIT")
	}},
	{"drop_chunks", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN"); err != nil {
			return err
		}
		if err := b.dropping(d, fmt.Sprintf("SELECT drop_chunks('bars', older_than => %s)", stampOf(barsFrom+7*dayMicros))); err != nil {
			return err
		}
		if err := b.logged(d, barsFrom, barsFrom+7*dayMicros-1); err != nil {
			return err
		}
		return each(d, "COMMIT")
	}},
	{"truncate", func(b *concurrentBed, d do, at int64) error {
		if err := each(d, "BEGIN"); err != nil {
			return err
		}
		if err := b.dropping(d, "TRUNCATE bars"); err != nil {
			return err
		}
		if err := b.logged(d, -1<<63, 1<<63-1); err != nil {
			return err
		}
		if err := each(d, "COMMIT", "BEGIN", fmt.Sprintf("INSERT INTO bars SELECT t, s, 7, 70 FROM unnest(ARRAY['A', 'B']) s, generate_series(%s, %s, '150 min') t", stampOf(barsFrom), stampOf(barsTo))); err != nil {
			return err
		}
		if err := b.logged(d, barsFrom, barsTo); err != nil {
			return err
		}
		return each(d, "COMMIT")
	}},
}
