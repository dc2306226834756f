package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// truthWriter is one client that writes: its odd ones beside the gateway.
type truthWriter struct {
	*peer
	run     *truthRun
	n       int
	rng     *rand.Rand
	control *peer // cancels what waits
	named   int   // transactions prepared so far
}

func newTruthWriter(run *truthRun, n int) *truthWriter {
	run.Helper()
	w := &truthWriter{run: run, n: n, rng: newRand(1000 + n), control: direct(run, run.dsn)}
	w.connect()
	return w
}

// connect logs in; every third one fires no ordinary trigger. Of a writer and a reader that
// wait for each other the reader is to end.
func (w *truthWriter) connect() {
	if w.n%2 == 1 {
		w.peer = direct(w.run, w.run.dsn)
	} else {
		w.peer = dial(w.run, w.run.addr, w.run.dsn)
	}
	w.must("SET deadlock_timeout = '1min'")
	if w.n%3 == 1 {
		w.must("SET session_replication_role = replica")
	}
}

// write does one transaction on one table, or on two, in one of many ways.
func (w *truthWriter) write() {
	tables := w.run.world.tables
	chosen := []int{w.rng.IntN(len(tables))}
	if other := w.rng.IntN(len(tables)); other != chosen[0] && w.rng.IntN(6) == 0 {
		chosen = append(chosen, other)
		slices.Sort(chosen)
	}
	var list []*change
	for _, i := range chosen {
		t := tables[i]
		t.mu.Lock()
		defer t.mu.Unlock()
		list = append(list, w.changeOf(t))
	}
	style := w.rng.IntN(16)
	if len(list) == 1 && len(list[0].sql) == 1 && style < 6 {
		w.settle(list, func() commitOutcome { return w.send(list[0]) })
		return
	}
	switch {
	case style < 8 && list[0].copy == "" && list[len(list)-1].copy == "":
		var all []string
		for _, c := range list {
			all = append(all, c.sql...)
		}
		w.settle(list, func() commitOutcome { return w.ended(w.query(strings.Join(all, "; "))) })
	case style == 8:
		w.inTransaction(list)
		w.ends("ROLLBACK")
		w.run.aborted.Add(1)
	case style == 9:
		w.inTransaction(list)
		if got := w.rows("SELECT 1/0"); got != "22012" {
			w.run.Errorf("writer %d: %q instead of an error", w.n, got)
		}
		w.ends("COMMIT")
		w.run.aborted.Add(1)
	case style == 10:
		w.must("BEGIN; SAVEPOINT s")
		other := list[0].table.begin(w.rng)
		other.step()
		w.all([]*change{other})
		w.must("ROLLBACK TO s")
		w.all(list)
		w.look(list)
		w.settle(list, func() commitOutcome { return w.ended(w.query("COMMIT")) })
	case style == 11:
		w.inTransaction(list)
		w.named++
		name := fmt.Sprintf("'truth %d %d'", w.n, w.named)
		w.must("PREPARE TRANSACTION " + name)
		w.pause()
		if w.rng.IntN(4) == 0 {
			w.must("ROLLBACK PREPARED " + name)
			w.run.aborted.Add(1)
			return
		}
		w.settle(list, func() commitOutcome { return w.ended(w.query("COMMIT PREPARED " + name)) })
	case style < 14:
		w.late(list)
	default:
		w.inTransaction(list)
		w.pause()
		w.settle(list, func() commitOutcome { return w.ended(w.query("COMMIT")) })
	}
}

// changeOf is one to three statements on a table.
func (w *truthWriter) changeOf(t *truthTable) *change {
	c := t.begin(w.rng)
	for n := 1 + w.rng.IntN(3); n > 0 && c.copy == ""; n-- {
		c.step()
	}
	return c
}

// commitOutcome is what is known of a write.
type commitOutcome int

const (
	committed commitOutcome = iota
	failed
	hungUp // committed, but the connection is gone
)

// settle sends what makes changes visible and takes down when that can have been.
func (w *truthWriter) settle(list []*change, commit func() commitOutcome) {
	invoked := w.run.clock()
	how := commit()
	if how == failed {
		w.run.aborted.Add(1)
		return
	}
	s := tableState{invoked: invoked, answered: w.run.clock()}
	for _, c := range list {
		s.rows, s.gone, s.how = c.rows, c.gone, strings.Join(c.sql, "; ")
		c.table.states = append(c.table.states, s)
	}
}

// ended judges the reply to what should have committed.
func (w *truthWriter) ended(lines []string) commitOutcome {
	for _, l := range lines {
		if strings.HasPrefix(l, "ERROR XX000 could not open relation") {
			return failed // TimescaleDB's, of a chunk that goes meanwhile
		}
		if strings.HasPrefix(l, "ERROR") || strings.HasPrefix(l, "FATAL") || strings.HasPrefix(l, "end of") || l == "complete ROLLBACK" {
			w.run.Errorf("writer %d: %s", w.n, l)
			return failed
		}
	}
	return committed
}

// send runs the one statement of a change.
func (w *truthWriter) send(c *change) commitOutcome {
	if c.copy == "" {
		return w.ended(w.query(c.sql[0]))
	}
	w.peer.send(&pgproto3.Query{String: c.sql[0]}, &pgproto3.CopyData{Data: []byte(c.copy)}, &pgproto3.CopyDone{})
	return w.ended(w.reply(1))
}

// all sends the statements of changes one by one.
func (w *truthWriter) all(list []*change) {
	for _, c := range list {
		for _, sql := range c.sql {
			w.send(&change{sql: []string{sql}, copy: c.copy})
		}
	}
}

// inTransaction begins one and makes the changes in it. What it writes it must see,
// and nobody else.
func (w *truthWriter) inTransaction(list []*change) {
	w.must("BEGIN")
	w.all(list)
	w.look(list)
}

// look asks, in the transaction that wrote, for what it wrote.
func (w *truthWriter) look(list []*change) {
	if w.rng.IntN(2) == 0 {
		return
	}
	for _, c := range list {
		n := w.rng.IntN(len(truthQuestions))
		text, _ := truthQuestions[n].sql(c.table.name, literal)
		var got []byte
		for _, l := range w.query(strings.Replace(text, ", seen", "", 1)) {
			if r, ok := strings.CutPrefix(l, "row "); ok {
				got = append(append(got, r...), ';')
			}
		}
		if want := expected(n, c.rows); string(got) != want {
			w.run.foreign.Add(1)
			w.run.Errorf("writer %d does not see its own: question %d to %s: got %q, want %q", w.n, n, c.table.name, got, want)
		}
	}
}

// ends ends a transaction that comes to nothing.
func (w *truthWriter) ends(sql string) {
	w.pause()
	for _, l := range w.query(sql) {
		if strings.HasPrefix(l, "ERROR") || strings.HasPrefix(l, "end of") {
			w.run.Errorf("writer %d: %s: %s", w.n, sql, l)
		}
	}
}

func (w *truthWriter) pause() {
	if w.rng.IntN(3) > 0 {
		time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Microsecond)
	}
}

// late commits where the commit is in the log and not yet seen, for some milliseconds;
// at times its client does not wait for the answer.
func (w *truthWriter) late(list []*change) {
	w.inTransaction(list)
	pid, xid := w.rows("SELECT pg_backend_pid()"), w.rows("SELECT pg_current_xact_id()")
	w.must("SET LOCAL synchronous_commit = on")
	hangUp := w.rng.IntN(4) == 0
	w.settle(list, func() commitOutcome {
		w.peer.send(&pgproto3.Query{String: "COMMIT"})
		cancelled := make(chan struct{})
		w.wakes(pid, time.Duration(1+w.rng.IntN(8))*time.Millisecond, cancelled)
		if !hangUp {
			how := w.ended(w.reply(1))
			<-cancelled
			w.run.late.Add(1)
			return how
		}
		_ = w.conn.Close()
		<-cancelled
		how := w.fate(xid)
		w.connect()
		w.run.hungUp.Add(1)
		return how
	})
}

// wakes ends the wait of a commit after a while, as a cancel request would.
func (w *truthWriter) wakes(pid string, after time.Duration, done chan struct{}) {
	go func() {
		defer close(done)
		time.Sleep(after)
		for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(200 * time.Microsecond) {
			// Cancelled while it waits for another thing, it would be no commit. Who has
			// ended the transaction waits no more.
			got := w.control.rows("SELECT CASE WHEN wait_event = 'SyncRep' THEN pg_cancel_backend(pid)::text ELSE coalesce(backend_xid::text, 'over') END FROM pg_stat_activity WHERE pid = " + pid)
			if got == "true" || got == "over" || got == "" {
				return
			}
		}
		w.run.Errorf("writer %d: its commit was never over", w.n)
	}()
}

// fate waits until a transaction is over and says how it ended.
func (w *truthWriter) fate(xid string) commitOutcome {
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(200 * time.Microsecond) {
		switch got := w.control.rows("SELECT pg_xact_status('" + xid + "')"); got {
		case "committed":
			return hungUp
		case "aborted":
			return failed
		}
	}
	w.run.Errorf("writer %d: transaction %s was never over", w.n, xid)
	return failed
}
