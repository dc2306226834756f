package schema

import (
	"context"
	"fmt"
	"time"
)

// pruneLock is the advisory lock of the gateway that prunes: "qvpgp" in ASCII.
const pruneLock = 0x7176706770

// Pruner keeps the change log short: rows of vector tables go when they are older
// than Age or more than Rows. Whoever judges an answer by the log reads qvpgw.horizon
// in the same snapshot: an answer whose snapshot begins before it cannot be judged.
// So nobody has to be asked what he still needs. Corrections of hypertables are not
// its business: Settler removes them when they are healed.
//
// Not safe for concurrent use; of several in several programs one works at a time.
type Pruner struct {
	Age  time.Duration    // what is younger stays, but for Rows
	Rows int              // at most so many stay, about
	Now  func() time.Time // nil: time.Now

	known bool
	marks []mark
}

// mark is a transaction id that was new at a moment.
type mark struct {
	at  time.Time
	xid string // xid8
}

// pruneBatch is how many rows one statement removes: it locks no more, and writers
// wait for none of them.
const pruneBatch = 1000

// Round removes at most one batch. more says that there are further ones.
func (p *Pruner) Round(ctx context.Context, q Query) (more bool, err error) {
	if !p.known {
		rows, err := read(ctx, q, "whether there is a change log", "SELECT to_regclass('qvpgw.horizon') IS NOT NULL AND NOT pg_is_in_recovery()", 1)
		if err != nil || rows[0][0] != "t" {
			return false, err
		}
		// What is newer than any transaction was written in another cluster and restored.
		if _, err := q(ctx, "DELETE FROM qvpgw.changes WHERE kind <> 'c' AND xid > pg_current_xact_id()"); err != nil {
			return false, fmt.Errorf("cannot remove another cluster's rows from the change log: %w", err)
		}
		if _, err := q(ctx, "UPDATE qvpgw.horizon SET xid = pg_current_xact_id() WHERE xid > pg_current_xact_id()"); err != nil {
			return false, fmt.Errorf("cannot set the change log's horizon: %w", err)
		}
		p.known = true
	}
	now := time.Now()
	if p.Now != nil {
		now = p.Now()
	}
	horizon, err := p.horizon(ctx, q, now)
	if err != nil || horizon == "" {
		return false, err
	}
	// The horizon is moved with the first row that goes.
	rows, err := read(ctx, q, "pruned rows", fmt.Sprintf(`
WITH one AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(%[3]d) AS mine),
old AS MATERIALIZED (
  SELECT ctid FROM qvpgw.changes WHERE xid < '%[1]s'::xid8 AND kind <> 'c' AND (SELECT mine FROM one) LIMIT %[2]d),
moved AS (
  INSERT INTO qvpgw.horizon AS h (xid) SELECT '%[1]s'::xid8 WHERE EXISTS (SELECT FROM old)
  ON CONFLICT (one) DO UPDATE SET xid = excluded.xid WHERE h.xid < excluded.xid),
gone AS (DELETE FROM qvpgw.changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING 1)
SELECT count(*) FROM gone`, horizon, pruneBatch, pruneLock), 1)
	if err != nil {
		p.known = false
		return false, err
	}
	return rows[0][0] == fmt.Sprint(pruneBatch), nil
}

// horizon is the transaction id below which rows may go, "" when none may.
func (p *Pruner) horizon(ctx context.Context, q Query, now time.Time) (string, error) {
	// Nothing that may still be written has a lower id than the oldest transaction.
	rows, err := read(ctx, q, "the change log's length", fmt.Sprintf(`
SELECT pg_snapshot_xmin(pg_current_snapshot()),
       coalesce((SELECT least(xid, pg_snapshot_xmin(pg_current_snapshot())) FROM qvpgw.changes WHERE kind <> 'c' ORDER BY xid DESC OFFSET %d LIMIT 1)::text, '')`, p.Rows), 2)
	if err != nil {
		p.known = false
		return "", err
	}
	row := rows[0]
	if n := len(p.marks); n == 0 || now.Sub(p.marks[n-1].at) >= p.Age/10 {
		p.marks = append(p.marks, mark{now, row[0]})
	}
	if row[1] != "" {
		return row[1], nil
	}
	old := ""
	for len(p.marks) > 0 && now.Sub(p.marks[0].at) >= p.Age {
		old = p.marks[0].xid
		if len(p.marks) == 1 || now.Sub(p.marks[1].at) < p.Age {
			break
		}
		p.marks = p.marks[1:]
	}
	return old, nil
}
