package schema

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

// someWanted are policies of some of the platform's tables.
func someWanted() *Policies {
	return &Policies{
		Tables: []TablePolicy{
			{Table: "market_data", ChunkInterval: 7 * day, CompressAfter: 30 * day, SegmentBy: "symbol", OrderBy: "timestamp DESC", Retain: 365 * day},
			{Table: "portfolio_values", ChunkInterval: 14 * day, CompressAfter: 30 * day, OrderBy: "timestamp DESC"},
		},
		Aggregates: []RefreshPolicy{
			{Aggregate: "market_data_1h", From: 360 * day, Until: time.Hour, Every: 30 * time.Minute},
			{Aggregate: "portfolio_values_1d", Until: day, Every: time.Hour},
		},
	}
}

// bringTo applies policies on a connection of its own.
func bringTo(t *testing.T, dsn string, w *Policies, yes bool) PolicyReport {
	t.Helper()
	conn := connect(t, dsn)
	defer func() { _ = conn.Close(context.Background()) }()
	r, err := w.Apply(context.Background(), ConnQuery(conn), yes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// policy is the line of a report about an object's policy.
func (r PolicyReport) policy(object string, kind PolicyKind) Policy {
	for _, p := range r.Policies {
		if p.Object == object && p.Kind == kind {
			return p
		}
	}
	return Policy{}
}

func TestPoliciesAreBroughtToWhatIsWanted(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		w := someWanted()
		up, err := NewMigrator(dsn, Options{Policies: w}).Up(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(up.Policies.Unsettled()) > 0 {
			t.Errorf("up leaves\n%s", up.Policies.Text())
		}
		community := up.Policies.policy("market_data", Retention).State == PolicyKept
		made := []string{"portfolio_values chunk interval: 7d -> 14d"}
		if community {
			made = append(made,
				"market_data compression: none -> after 30d, segmented by symbol, ordered by timestamp DESC",
				"portfolio_values compression: none -> after 30d, ordered by timestamp DESC",
				"market_data_1h refresh: none -> from 360d until 1h, every 30m",
				"portfolio_values_1d refresh: none -> from the beginning until 1d, every 1h",
				"market_data retention: none -> 365d")
		}
		slices.Sort(made)
		if got := slices.Sorted(slices.Values(up.Policies.Changes)); !slices.Equal(got, made) {
			t.Errorf("up changed %q, not %q", got, made)
		}
		if r := bringTo(t, dsn, w, false); len(r.Changes) > 0 || len(r.Policies) != 8 {
			t.Errorf("a second time changes\n%s", r.Text())
		}

		w.Tables[0].ChunkInterval, w.Tables[0].CompressAfter, w.Tables[0].Retain = day, 10*day, 100*day
		w.Tables[1].Off = true
		w.Tables[1].ChunkInterval = day
		w.Aggregates[0].From, w.Aggregates[0].Every = 50*day, time.Minute
		conn := connect(t, dsn)
		r, err := w.Compare(ctx, ConnQuery(conn))
		_ = conn.Close(ctx)
		if err != nil || r.policy("market_data", ChunkInterval) != (Policy{"market_data", ChunkInterval, "1d", "7d", PolicyDiffers, ""}) ||
			r.policy("portfolio_values", ChunkInterval) != (Policy{"portfolio_values", ChunkInterval, "", "14d", PolicyOff, ""}) {
			t.Errorf("compared: %v\n%s", err, r.Text())
		}
		r = bringTo(t, dsn, w, false)
		want := []string{"market_data chunk interval: 7d -> 1d"}
		if community {
			want = append(want, "market_data compression: after 30d, segmented by symbol, ordered by timestamp DESC -> after 10d, segmented by symbol, ordered by timestamp DESC",
				"market_data_1h refresh: from 360d until 1h, every 30m -> from 50d until 1h, every 1m",
				"market_data retention: 365d -> 100d")
		}
		if !slices.Equal(r.Changes, want) {
			t.Errorf("changed %q", r.Changes)
		}

		w.Tables[0].CompressAfter, w.Tables[0].Retain = 0, 0
		r = bringTo(t, dsn, w, false)
		if !community {
			for _, kind := range []PolicyKind{Compression, Retention} {
				if p := r.policy("market_data", kind); p.State != PolicyImpossible || !strings.Contains(p.Why, "Apache edition") {
					t.Errorf("%s is %+v", kind, p)
				}
			}
			if p := r.policy("market_data_1h", Refreshing); p.State != PolicyImpossible || !strings.Contains(p.Why, "Apache edition") {
				t.Errorf("%+v", p)
			}
			return
		}
		if r.policy("market_data", Retention).Actual != "none" || r.policy("market_data", Compression).Actual != "none" || len(r.Changes) != 2 {
			t.Errorf("changed %q\n%s", r.Changes, r.Text())
		}
		status, err := NewMigrator(dsn, Options{Policies: w}).Status(ctx)
		if err != nil || len(status.Policies) != 8 || !strings.Contains(status.Text(), "market_data_1h       refresh        as wanted    from 50d until 1h, every 1m") {
			t.Errorf("status is %v\n%s", err, status.Text())
		}
		if off := bringTo(t, dsn, &Policies{Tables: someWanted().Tables, Off: "not asked for"}, false); len(off.Changes) != 0 || off.Policies[1].State != PolicyOff || off.Policies[1].Why != "not asked for" {
			t.Errorf("switched off:\n%s", off.Text())
		}
	})
}

func TestWithoutHypertablesPoliciesAreListedAsNotPossible(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE market_data (timestamp timestamptz NOT NULL, symbol text)")
	r := bringTo(t, dsn, someWanted(), false)
	for object, why := range map[string]string{"market_data": "market_data is a plain table", "portfolio_values": "there is no portfolio_values"} {
		if p := r.policy(object, ChunkInterval); p.State != PolicyImpossible || p.Why != why {
			t.Errorf("%+v", p)
		}
	}
	exec(t, conn, "DROP EXTENSION timescaledb")
	if p := bringTo(t, dsn, someWanted(), false).policy("market_data", Retention); p.State != PolicyImpossible || p.Why != "TimescaleDB is missing" {
		t.Errorf("%+v", p)
	}
}

func TestARoleThatMayNotChangePoliciesSeesThemFail(t *testing.T) {
	dsn := pgtest.Database(t)
	if err := Migrate(context.Background(), dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, "CREATE ROLE plain_policies LOGIN; SET SESSION AUTHORIZATION plain_policies")
	r, err := someWanted().Apply(context.Background(), ConnQuery(conn), false)
	exec(t, conn, "RESET SESSION AUTHORIZATION; DROP ROLE plain_policies")
	if err != nil {
		t.Fatal(err)
	}
	if p := r.policy("portfolio_values", ChunkInterval); p.State != PolicyFailed || !strings.Contains(p.Why, "must be owner") || p.Actual != "7d" {
		t.Errorf("%+v", p)
	}
	if got := r.Unsettled(); len(got) != 1 || len(r.Changes) != 0 {
		t.Errorf("unsettled %+v", got)
	}
}
