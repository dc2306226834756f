package gateway_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
	"qvpgw/internal/schema"
)

// A holder is a way for a transaction to have read the threshold and to become visible only
// later: hold begins it, after which release makes it visible.
type holder struct {
	name string
	hold func(t *testing.T, b *concurrentBed, d do) (release func())
}

var held = []holder{
	{"by PREPARE TRANSACTION (trap T1)", func(t *testing.T, _ *concurrentBed, d do) func() {
		if err := each(d, "PREPARE TRANSACTION 'held'"); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := each(d, "COMMIT PREPARED 'held'"); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"by the wait for a synchronous standby (trap T1)", func(t *testing.T, b *concurrentBed, d do) func() {
		committed := make(chan error, 1)
		go func() { committed <- each(d, "SET LOCAL synchronous_commit = on", "COMMIT") }()
		other := doing(b.connect(t))
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			rows, err := other("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()")
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) == 1 {
				return func() {
					if err := each(other, "SELECT pg_cancel_backend("+rows[0][0]+")"); err != nil {
						t.Error(err)
					}
					if err := <-committed; err != nil {
						t.Error(err)
					}
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("the commit does not wait for a standby")
			}
		}
	}},
	{"by nothing but its length", func(t *testing.T, _ *concurrentBed, d do) func() {
		return func() {
			if err := each(d, "COMMIT"); err != nil {
				t.Fatal(err)
			}
		}
	}},
}

// TestWritersThatAreHeldAreNotMissed: a writer reads the threshold and logs nothing, a
// refresh moves the threshold beyond its rows, and then the writer commits. The gateway
// that goes by the settled points gives the server's answers all the time; the one that
// goes by TimescaleDB's logs alone does not until the keeper has been there (trap T17).
func TestWritersThatAreHeldAreNotMissed(t *testing.T) {
	bed := newConcurrentBed(t, true)
	for _, h := range held {
		if bed.real && strings.Contains(h.name, "standby") {
			continue // a given server is not told to wait for one
		}
		t.Run(h.name, func(t *testing.T) {
			b := bed.copy(t)
			gateways := map[bool]*peer{}
			begin := func(trust bool, every time.Duration) {
				_, addr := serve(t, b.dsn, gateway.Options{Pool: pool.Options{Size: 2}, NewLoader: b.loader, AlwaysRoute: true, CatalogEvery: every, TrustLogs: trust})
				gateways[trust] = dial(t, addr, b.dsn)
			}
			begin(false, 50*time.Millisecond)
			begin(true, 50*time.Millisecond)
			off := direct(t, b.dsn)
			// equal waits until the gateway answers from an aggregate, as the server or not.
			equal := func(trust bool, sql string) bool {
				t.Helper()
				for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					got, route := askedOf(gateways[trust], sql, "simple")
					if !strings.HasPrefix(route, "rewrite") && time.Now().Before(deadline) {
						continue
					}
					if !strings.HasPrefix(route, "rewrite") {
						t.Errorf("trust %t: not routed: %s", trust, route)
					}
					return got[0] == answerOf(off.query(sql))
				}
			}
			both := func(when string, logs bool) {
				t.Helper()
				for _, sql := range barQuestions[1:3] {
					if !equal(false, sql) {
						t.Errorf("%s: the answer is not the server's: %s", when, sql)
					}
					// Wrong it is once the gateway has read the new threshold.
					right := equal(true, sql)
					for deadline := time.Now().Add(10 * time.Second); right && !logs && time.Now().Before(deadline); right = equal(true, sql) {
						time.Sleep(20 * time.Millisecond)
					}
					if right != logs {
						t.Errorf("%s: by the logs alone the answer is right: %t: %s", when, !logs, sql)
					}
				}
			}
			both("before", true)
			d := doing(b.connect(t))
			at := barsTo - dayMicros
			if err := each(d, "BEGIN", insertBars(at)); err != nil {
				t.Fatal(err)
			}
			if err := b.logged(d, at, at+hourMicros); err != nil {
				t.Fatal(err)
			}
			release := h.hold(t, b, d)
			control := b.connect(t)
			b.refreshAll(t, control, barsTo)
			high := func() int64 { return number(t, b.dsn, "SELECT min(high) FROM qvpgw.settled") }
			before := high()
			// The keeper sees the new threshold, and that somebody is under way.
			var keeper schema.Settler
			round := func() (more bool) {
				t.Helper()
				more, err := keeper.Round(context.Background(), b.refreshing(doing(control)))
				if err != nil {
					t.Fatal(err)
				}
				return more
			}
			for round() {
			}
			if n := high(); n != before {
				t.Errorf("settled up to %d while a writer was held, before it was %d", n, before)
			}
			both("held", true)
			release()
			if n := number(t, b.dsn, fmt.Sprintf("SELECT count(*) FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log WHERE hypertable_id = %d", b.raw)); n != 0 {
				t.Fatalf("the writer has logged %d ranges", n)
			}
			both("released", false)
			for round() {
			}
			if n := high(); n < barsTo {
				t.Errorf("settled up to %d, not %d", n, barsTo)
			}
			both("settled", true)

			// What is in the change log is known to whoever reads the catalog after it.
			begin(true, time.Hour)
			both("with another gateway", true)
			if err := each(d, "MERGE INTO bars USING (VALUES (1)) v ON "+within(barsTo-20*hourMicros)+" WHEN MATCHED THEN UPDATE SET volume = volume + 77"); err != nil {
				t.Fatal(err)
			}
			both("after MERGE (trap T2)", false)
			for round() {
			}
			if n := number(t, b.dsn, "SELECT count(*) FROM qvpgw.changes"); n != 0 {
				t.Errorf("%d changes were not healed", n)
			}
			both("healed", true)
		})
	}
}
