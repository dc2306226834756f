package router

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/rollup"
)

// formTexts are bucket expressions over a timestamptz column t.
var formTexts = []string{
	"time_bucket('1 hour', t)", "time_bucket('00:15:00'::interval, t)", "time_bucket('300.000s', t)", "time_bucket('1 day', t)", "time_bucket('2 days', t)", "time_bucket('1 week', t)",
	"time_bucket('10 days', t)", "time_bucket('16 hours', t)", "time_bucket('1 month', t)", "time_bucket('5 months', t)", "time_bucket('1 year', t)",
	"time_bucket('1 day', t, INTERVAL '6 hours')", "time_bucket('1 day', t, \"offset\" => INTERVAL '-90 minutes')", "time_bucket('1 week', t, TIMESTAMPTZ '2024-01-04 00:00:00+00')",
	"time_bucket('36 hours', t, origin => TIMESTAMPTZ '2020-02-02 02:02:02+01:00')", "time_bucket('1 day', t::timestamp)", "time_bucket('1 day', t AT TIME ZONE 'America/New_York')",
	"date_trunc('second', t)", "date_trunc('minute', t)", "date_trunc('hour', t)", "date_trunc('day', t)", "date_trunc('week', t)", "date_trunc('month', t)", "date_trunc('quarter', t)", "date_trunc('year', t)",
	"date_trunc('decade', t)", "date_trunc('century', t)", "date_trunc('millennium', t)", "date_trunc('day', t, 'Australia/Lord_Howe')", "date_trunc('day', t AT TIME ZONE 'Asia/Kolkata')", "date_trunc('hour', t::timestamp)",
	"t::date", "date(t)", "CAST(t AT TIME ZONE 'Europe/Berlin' AS date)",
	"extract(minute FROM t)", "extract(hour FROM t)", "extract(day FROM t)", "extract(dow FROM t)", "extract(isodow FROM t)", "extract(doy FROM t)", "extract(week FROM t)", "extract(month FROM t)", "extract(quarter FROM t)",
	"extract(year FROM t)", "extract(isoyear FROM t)", "extract(decade FROM t)", "extract(century FROM t)", "date_part('hour', t)", "extract(hour FROM t AT TIME ZONE 'Asia/Kathmandu')",
	"date_bin('15 minutes', t, TIMESTAMPTZ '2001-01-01 00:00:00+00')", "date_bin('7 hours', t, TIMESTAMPTZ '2001-01-01 00:07:00+00')",
	"floor(extract(epoch FROM t) / 300)", "floor(extract(epoch FROM t) / 604800)", "floor(extract(epoch FROM t::timestamp) / 3600)",
	"time_bucket('1 day', t, 'Europe/Berlin')", "time_bucket('1 hour', t, 'America/New_York')", "time_bucket('4 hours', t, 'Europe/Berlin')", "time_bucket('1 month', t, 'America/New_York')",
	"time_bucket('30 minutes', t, 'Australia/Lord_Howe')", "time_bucket('7 days', t, 'Asia/Kolkata')",
	"to_char(t, 'YYYY-MM')", "to_char(t, 'YYYY-MM-DD HH24:MI')", "to_char(t, 'IYYY-IW')", "to_char(t, 'YYYY-IW')", "to_char(t, 'YYYY.DDD')", "to_char(t, 'YYYY Q')", "to_char(t, 'HH24')",
}

func TestFormsAreConstantOnTheirGridOnTheServer(t *testing.T) {
	l := newLive(t)
	rnd := rand.New(rand.NewPCG(9, 10))
	from, to := micros(t, "2023-06-01 00:00"), micros(t, "2025-02-01 00:00")
	fine := []rollup.Grid{rollup.Fixed(rollup.Minute, 0), rollup.Fixed(5*rollup.Minute, 0), rollup.Fixed(15*rollup.Minute, 0), rollup.Fixed(rollup.Hour, 0), rollup.Fixed(rollup.Day, 0)}
	week, _ := rollup.Unit("week")
	month, _ := rollup.Unit("month")
	fine = append(fine, week, month)
	checked := 0
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"} {
		l.exec(t, "SET TimeZone = '"+zone+"'")
		var selects []string
		for _, text := range formTexts {
			form, ok := formOf(t, text, zone)
			if !ok {
				t.Fatalf("%s is not recognized", text)
			}
			loc, ok := location(form.zone)
			if !ok {
				t.Fatalf("no zone %q", form.zone)
			}
			for _, f := range fine {
				if !f.RefinesIn(form.grid, loc, from, to) {
					continue
				}
				checked++
				var values []string
				for range 60 {
					m := from + rnd.Int64N(to-from)
					if rnd.IntN(2) == 0 { // near the changes of the clock in 2024
						m = []int64{micros(t, "2024-03-10 07:00"), micros(t, "2024-03-31 01:00"), micros(t, "2024-04-06 15:00"), micros(t, "2024-10-05 15:30"), micros(t, "2024-10-27 01:00"), micros(t, "2024-11-03 06:00")}[rnd.IntN(6)] + rnd.Int64N(6*int64(rollup.Hour)) - 3*int64(rollup.Hour)
					}
					values = append(values, fmt.Sprintf("('%s'::timestamptz, '%s'::timestamptz)", momentText(m, true), momentText(f.Floor(m), true)))
				}
				over := func(column string) string {
					return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "(t", "("+column), " t", " "+column), "t::", column+"::")
				}
				selects = append(selects, fmt.Sprintf("SELECT '%s', (x).*, %s, %s FROM (VALUES %s) x (a, b) WHERE (%s) IS DISTINCT FROM (%s)",
					strings.ReplaceAll(text, "'", "''"), over("a")+"::text", over("b")+"::text", strings.Join(values, ","), over("a"), over("b")))
			}
		}
		for i := 0; i < len(selects); i += 20 {
			a, err := l.query(strings.Join(selects[i:min(i+20, len(selects))], " UNION ALL "), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range a.rows {
				t.Errorf("%s: %s is not constant: at %s, bucket %s: %s and %s", zone, row[0], row[1], row[2], row[3], row[4])
			}
		}
	}
	if checked < 500 {
		t.Errorf("%d pairs of a form and a bucket, want more", checked)
	}
}

// formOf recognizes an expression over a timestamptz column t.
func formOf(t *testing.T, text, zone string) (need, bool) {
	t.Helper()
	tree, err := pg_query.Parse("SELECT " + text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	snap := goldenSnapshot(t)
	hyper := *snap.Hypertables[1]
	hyper.TimeColumn = "t"
	relation := *snap.Relations[hyper.Name]
	relation.Columns = append(relation.Columns[:1:1], relation.Columns[1])
	relation.Columns[1].Name = "t"
	b := &buckets{scope: &scope{snap: snap, hyper: &hyper, relation: &relation, alias: "x", timeIsUTC: true}, zone: zone}
	return b.form(tree.Stmts[0].Stmt.GetSelectStmt().TargetList[0].GetResTarget().Val)
}

func TestFormsThatAreNotFollowed(t *testing.T) {
	for _, text := range []string{
		"time_bucket('1 hour', id)", "time_bucket(300, t)", "time_bucket('1 day', t, '2024-01-01')", "time_bucket('1 day', t, TIMESTAMPTZ '2024-01-01 00:00:00')",
		"time_bucket('1 month', t, TIMESTAMPTZ '2024-01-05 00:00:00+00')", "time_bucket(INTERVAL '1 day' * 2, t)", "date_trunc('fortnight', t)", "date_trunc(symbol, t)", "extract(epoch FROM t)", "extract(second FROM t)", "extract(timezone FROM t)",
		"to_char(t, 'Month')", "to_char(t, 'HH12')", "to_char(t, 'YYYY-MM-DD SS')", "to_char(t, '')", "date_bin('1 month', t, TIMESTAMPTZ '2001-01-01 00:00:00+00')", "date_bin('1 hour', t, '2001-01-01')",
		"floor(extract(epoch FROM t) / 0.5)", "floor(extract(epoch FROM t) * 2)", "t::text", "t::time", "t", "time_bucket_gapfill('1 hour', t)",
	} {
		if form, ok := formOf(t, text, "UTC"); ok {
			t.Errorf("%s is taken as %+v", text, form)
		}
	}
}

func TestTimestampsAreReadAsEveryDateStyleReadsThem(t *testing.T) {
	for text, want := range map[string]struct {
		clock  string
		offset zoneOffset
	}{
		"2024-01-02":                      {"2024-01-02 00:00:00", zoneOffset{}},
		"2024-01-02 03:04":                {"2024-01-02 03:04:00", zoneOffset{}},
		"2024-01-02T03:04:05.678Z":        {"2024-01-02 03:04:05.678", zoneOffset{known: true}},
		" 2024-01-02 03:04:05+05:30 ":     {"2024-01-02 03:04:05", zoneOffset{true, 5*rollup.Hour + 30*rollup.Minute}},
		"2024-01-02 03:04:05-08":          {"2024-01-02 03:04:05", zoneOffset{true, -8 * rollup.Hour}},
		"2024-01-02 03:04:05.000001+0100": {"2024-01-02 03:04:05.000001", zoneOffset{true, rollup.Hour}},
	} {
		if got, offset, ok := parseTimestamp(text); !ok || momentText(got, false) != want.clock || offset != want.offset {
			t.Errorf("%q is %s %v, %v; want %v", text, momentText(got, false), offset, ok, want)
		}
	}
	for _, text := range []string{"", "now", "today", "infinity", "2024-1-2", "01/02/2024", "20240102", "2024-01-02 03:04 PM", "2024-01-02 03:04:05 Europe/Berlin", "2024-13-01", "2024-02-30", "2024-01-02 25:00", "2024-01-02 03:04:05.1234567", "2024-01-02 BC", "0000-01-01"} {
		if got, _, ok := parseTimestamp(text); ok {
			t.Errorf("%q was read as %s", text, momentText(got, false))
		}
	}
}

func TestBoundsAreEstimatedAsTheServerEvaluatesThem(t *testing.T) {
	l := newLive(t)
	for _, zone := range []string{"UTC", "Europe/Berlin", "Asia/Kolkata"} {
		l.exec(t, "SET TimeZone = '"+zone+"'")
		loc, _ := location(zone)
		for _, text := range []string{
			"now()", "current_timestamp", "localtimestamp", "current_date", "now() - interval '1 month 3 days 04:05'", "current_date - 30", "current_date + interval '1 day'", "now()::date", "date_trunc('hour', now()) - '2 hours'::interval",
			"date_trunc('month', current_date)", "date_trunc('week', localtimestamp)", "now() - interval '1 day' * 7", "now() - 3 * interval '1 hour'", "timestamp '2024-03-31 12:00' - interval '1 month'", "'2024-05-06'::date", "'2024-05-06 07:08:09.5'::timestamptz",
			"'2024-05-06T07:08:09+09'::timestamp", "timestamptz '2024-10-27 12:00' - interval '1 day'", "to_timestamp('2024-05-06 07:08:09', 'YYYY-MM-DD HH24:MI:SS')",
		} {
			tree, err := pg_query.Parse("SELECT " + text)
			if err != nil {
				t.Fatal(err)
			}
			a, err := l.query("SELECT extract(epoch FROM now()) * 1000000, extract(epoch FROM ("+text+")::timestamptz) * 1000000", nil)
			if err != nil {
				t.Fatal(err)
			}
			var now, want int64
			if _, err := fmt.Sscanf(a.rows[0][0]+" "+a.rows[0][1], "%d.000000 %d.000000", &now, &want); err != nil {
				t.Fatal(err)
			}
			m, ok := estimator{now: time.UnixMicro(now), zone: loc}.moment(tree.Stmts[0].Stmt.GetSelectStmt().TargetList[0].GetResTarget().Val, kindInstant)
			if got := m.in(true, loc); !ok || got != want {
				t.Errorf("%s: %s is estimated as %s (%v), the server says %s", zone, text, momentText(got, true), ok, momentText(want, true))
			}
		}
	}
}

func TestClocksThatDifferRefuseOrAgree(t *testing.T) {
	l := newLive(t)
	snap := l.snapshot(t)
	c := liveContext()
	for _, sql := range []string{
		"SELECT count(*), sum(volume) FROM market_data WHERE timestamp > now() - interval '30 days'",
		"SELECT count(*), sum(volume) FROM market_data WHERE timestamp BETWEEN now() - interval '30 days' AND now() - interval '7 hours'",
	} {
		for _, skew := range []time.Duration{-26 * time.Hour, -2 * time.Hour, -50 * time.Second, -10 * time.Second, 0, 10 * time.Second, 50 * time.Second, 2 * time.Hour, 26 * time.Hour} {
			plan, reason := planText(t, sql, c, snap, time.Now().Add(skew))
			if plan == nil {
				t.Fatalf("%s: passed with %s", sql, reason)
			}
			bucket := map[string]time.Duration{"market_data_1h": time.Hour, "market_data_1d": 24 * time.Hour, "market_data_1w": 7 * 24 * time.Hour}[plan.View]
			if plan.Expires.IsZero() || plan.Expires.After(time.Now().Add(skew).Add(bucket+aggregateRewriteMargin)) {
				t.Errorf("%s: a plan relative to now() expires at %s", sql, plan.Expires)
			}
			l.exec(t, "BEGIN")
			want, err := l.query(sql, nil)
			l.exec(t, "COMMIT")
			if err != nil {
				t.Fatal(err)
			}
			got, o := l.routed(t, plan, nil, nil, true)
			small := skew.Abs() <= 10*time.Second
			if small && o != answered {
				t.Errorf("%s: refused at a difference of %s", sql, skew)
			}
			if o == answered {
				if d := difference(want, got, true, false); d != "" {
					t.Errorf("%s: at a difference of %s: %s", sql, skew, d)
				}
			}
		}
	}
}

func TestTheGuardSeesNamesPrivilegesZonesAndRowSecurity(t *testing.T) {
	l := newLive(t)
	snap := l.snapshot(t)
	c := liveContext()
	plan, reason := planText(t, "SELECT date_trunc('day', timestamp) AS d, count(*) FROM market_data GROUP BY d", c, snap, time.Now())
	if plan == nil {
		t.Fatal(reason)
	}
	guard := func() string {
		a, err := l.query(plan.Guard(), nil)
		if err != nil {
			return err.Error()
		}
		return a.rows[0][0]
	}
	l.exec(t, "CREATE ROLE qvpgw_reader; GRANT SELECT ON market_data TO qvpgw_reader")
	defer l.exec(t, "DROP OWNED BY qvpgw_reader; DROP ROLE qvpgw_reader")
	for _, step := range []struct{ title, do, undo, want string }{
		{"as planned", "SELECT", "SELECT", "t"},
		{"a temporary table of the name", "CREATE TEMP TABLE market_data (a int)", "DROP TABLE pg_temp.market_data", "f"},
		{"another time zone", "SET TimeZone = 'Asia/Kolkata'", "SET TimeZone = 'UTC'", "f"},
		{"another search path", "SET search_path = pg_catalog", "SET search_path = public", "f"},
		{"a role that may not read the materialization", "SET ROLE qvpgw_reader", "RESET ROLE", "f"},
		{"row security", "GRANT SELECT ON market_data_1d TO qvpgw_reader; ALTER TABLE market_data ENABLE ROW LEVEL SECURITY; SET ROLE qvpgw_reader", "RESET ROLE; ALTER TABLE market_data DISABLE ROW LEVEL SECURITY", "f"},
		{"a role that may read both", "GRANT SELECT ON market_data_1d TO qvpgw_reader; SET ROLE qvpgw_reader", "RESET ROLE", "t"},
		{"as planned again", "SELECT", "SELECT", "t"},
	} {
		l.exec(t, step.do)
		if got := guard(); got != step.want {
			t.Errorf("%s: the guard says %s, want %s", step.title, got, step.want)
		}
		l.exec(t, step.undo)
	}
}
