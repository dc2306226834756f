package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
)

// hourly can be answered from the aggregate of rewriteSnapshot.
const hourly = `SELECT time_bucket('1 hour', timestamp) AS bucket, max(high) AS high, count(*) AS n FROM market_data WHERE timestamp >= '2024-01-10' GROUP BY bucket`

// rewriteSnapshot is a hypertable of three weekly chunks with an hourly aggregate,
// fresh until the middle of the last.
func rewriteSnapshot() *catalog.Snapshot {
	const week = int64(7 * 86400 * 1e6)
	public := func(name string) catalog.Name { return catalog.Name{Schema: "public", Name: name} }
	internal := func(name string) catalog.Name {
		return catalog.Name{Schema: "_timescaledb_internal", Name: name}
	}
	start := time.Date(2024, 1, 4, 0, 0, 0, 0, time.UTC).UnixMicro()
	fresh := start + 2*week + week/2
	columns := []catalog.Column{{Name: "timestamp", Number: 1, Type: 1184, NotNull: true}, {Name: "high", Number: 2, Type: 701}}
	raw := &catalog.Hypertable{ID: 1, Name: public("market_data"), TimeColumn: "timestamp", TimeType: 1184, Threshold: fresh, HasThreshold: true}
	held := &catalog.Hypertable{ID: 2, Name: internal("_materialized_2"), TimeColumn: "bucket", TimeType: 1184}
	for i := range int64(3) {
		raw.Chunks = append(raw.Chunks, catalog.Chunk{ID: int32(i + 1), Name: internal(fmt.Sprintf("_hyper_1_%d_chunk", i+1)), Start: start + i*week, End: start + (i+1)*week})
	}
	held.Chunks = []catalog.Chunk{{ID: 21, Name: internal("_hyper_2_21_chunk"), Start: start - week, End: start + 9*week}}
	return &catalog.Snapshot{
		Fingerprint: "fixture", ServerVersion: 170005, Timescale: "2.23.0", Community: true,
		UserFunctions: map[string]bool{}, UserOperators: map[string]bool{}, UserTypes: map[string]bool{},
		Relations: map[catalog.Name]*catalog.Relation{
			raw.Name:                 {OID: 16500, Name: raw.Name, Kind: 'r', Columns: columns, HypertableID: 1, Clean: true, ReadClean: true, Log: catalog.CorrectionsLogged, Triggers: "{16510,16511}"},
			public("market_data_1h"): {OID: 17100, Name: public("market_data_1h"), Kind: 'v', Clean: true, ReadClean: true},
			held.Name:                {OID: 17200, Name: held.Name, Kind: 'r', HypertableID: 2, Clean: true, ReadClean: true},
		},
		Hypertables: map[int32]*catalog.Hypertable{1: raw, 2: held},
		Aggregates: []*catalog.Aggregate{{
			ID: 2, RawID: 1, View: public("market_data_1h"), Materialization: held.Name, Finalized: true,
			Definition: ` SELECT time_bucket('01:00:00'::interval, "timestamp") AS bucket, max(high) AS high, count(*) AS count
   FROM market_data GROUP BY (time_bucket('01:00:00'::interval, "timestamp"));`,
			BucketWidth: "01:00:00", BucketFixed: true, Watermark: fresh,
			Settled: catalog.Settled{Span: catalog.Span{Start: start - week, End: fresh}, Triggers: "{16510,16511}", Chunks: []int32{21}},
			Columns: []catalog.Column{{Name: "bucket", Type: 1184}, {Name: "high", Type: 701}, {Name: "count", Type: 20}},
		}},
	}
}

var (
	fromAggregate = []string{"row a|1|2", "row b|3|4", "complete SELECT 2", "ready I"}
	fromRaw       = []string{"row raw|1|2", "complete SELECT 1", "ready I"}
	whole         = []string{"describe", "prepare", "lock", "guard", "rewritten", "commit"}
	fellBack      = append(slices.Clone(whole), "original")
	failedLock    = []string{"describe", "prepare", "lock", "rollback"}
	failedGuard   = []string{"describe", "prepare", "lock", "guard", "rollback"}
	failedQuery   = []string{"describe", "prepare", "lock", "guard", "rewritten", "rollback"}
	failedTx      = replies{failure("25P02"), ready('E')}
)

// rewriteCases hold for both protocols. want is what the client gets behind the
// columns, which are the original's.
var rewriteCases = []struct {
	name    string
	answers map[string]replies
	asked   []string
	want    []string
	bare    bool // no columns precede want
	ends    bool // the connection is lost
	route   string
}{
	{name: "proven", asked: whole, want: fromAggregate, route: "rewrite aggregate market_data_1h"},
	{name: "no rows", answers: map[string]replies{"rewritten": {columnsOf(1), complete("SELECT 0")}}, asked: whole, want: []string{"complete SELECT 0", "ready I"}, route: "rewrite aggregate market_data_1h"},
	{name: "the guard says no", answers: map[string]replies{
		"guard":     {row("f"), complete("SELECT 1")},
		"rewritten": {columnsOf(1), row("never", "0", "0"), complete("SELECT 1")},
	}, asked: fellBack, want: fromRaw, route: "pass not_fresh market_data_1h"},
	{name: "the guard says null", answers: map[string]replies{
		"guard":     {&pgproto3.DataRow{Values: [][]byte{nil}}, complete("SELECT 1")},
		"rewritten": {columnsOf(1), complete("SELECT 0")},
	}, asked: fellBack, want: fromRaw, route: "pass not_fresh market_data_1h"},
	{name: "the lock is not had", answers: map[string]replies{
		"lock": {failure("55P03")},
	}, asked: append(slices.Clone(failedLock), "original"), want: fromRaw, route: "pass lock_refused market_data_1h"},
	{name: "a cancel that meets the lock", answers: map[string]replies{
		"lock": {failure("57014")},
	}, asked: failedLock, want: []string{"ERROR 57014 failed", "ready I"}, bare: true},
	{
		name: "a proof that is not taken", answers: map[string]replies{"prepare": {failure("42501"), ready('I')}},
		asked: []string{"describe", "prepare", "original"}, want: fromRaw, route: "pass rewrite_failed market_data_1h",
	},
	{
		name: "a cancel that meets the proof's preparation", answers: map[string]replies{"prepare": {failure("57014"), ready('I')}},
		asked: []string{"describe", "prepare"}, want: []string{"ERROR 57014 failed", "ready I"}, bare: true,
	},
	{name: "an error before the first row", answers: map[string]replies{
		"rewritten": {columnsOf(1), failure("22012")},
	}, asked: append(slices.Clone(failedQuery), "original"), want: fromRaw, route: "pass rewrite_failed market_data_1h"},
	{name: "other columns", answers: map[string]replies{
		"rewritten": {&pgproto3.RowDescription{Fields: columnsOf(1).Fields[:2]}, row("a", "1"), complete("SELECT 1")},
	}, asked: fellBack, want: fromRaw, route: "pass rewrite_failed market_data_1h"},
	{name: "an error after the first row", answers: map[string]replies{
		"rewritten": {columnsOf(1), row("a", "1", "2"), failure("22003")},
	}, asked: failedQuery, want: []string{"row a|1|2", "ERROR 22003 failed", "ready I"}},
	{name: "a cancel that meets the guard", answers: map[string]replies{
		"guard": {failure("57014")},
	}, asked: failedGuard, want: []string{"ERROR 57014 failed", "ready I"}, bare: true},
	{name: "a cancel that meets the rewritten query", answers: map[string]replies{
		"rewritten": {columnsOf(1), failure("57014")},
	}, asked: failedQuery, want: []string{"ERROR 57014 failed", "ready I"}, bare: true},
	{
		name: "a cancel that meets the description", answers: map[string]replies{"describe": {failure("57014"), ready('I')}},
		asked: []string{"describe"}, want: []string{"ERROR 57014 failed", "ready I"}, bare: true,
	},
	{
		name: "an original that cannot be described", answers: map[string]replies{"describe": {failure("42883"), ready('I')}, "original": {failure("42883"), ready('I')}},
		asked: []string{"describe", "original"}, want: []string{"ERROR 42883 failed", "ready I"}, bare: true, route: "pass not_described market_data_1h",
	},
	{name: "notices and parameters are not the client's", answers: map[string]replies{
		"lock":      {&pgproto3.NoticeResponse{Severity: "WARNING", Code: "01000"}, complete("LOCK TABLE")},
		"guard":     {&pgproto3.NoticeResponse{Severity: "WARNING", Code: "01000"}, row("t"), complete("SELECT 1")},
		"rewritten": {&pgproto3.NoticeResponse{Severity: "WARNING", Code: "01000"}, columnsOf(1), row("a", "1", "2"), row("b", "3", "4"), complete("SELECT 2")},
	}, asked: whole, want: fromAggregate},
	{name: "the server ends before the guard's row", answers: map[string]replies{"guard": hangUp}, asked: whole[:4], want: []string{"FATAL 08006", "end of the connection"}, bare: true, ends: true},
	{name: "the server ends after the guard's row", answers: map[string]replies{"rewritten": hangUp}, asked: whole[:5], want: []string{"FATAL 08006", "end of the connection"}, bare: true, ends: true},
	{name: "the server ends among the rows", answers: map[string]replies{"rewritten": {columnsOf(1), row("a", "1", "2"), nil}}, asked: whole[:5], want: []string{"row a|1|2", "FATAL 08006", "end of the connection"}, ends: true},
	{name: "the server ends before the commit", answers: map[string]replies{"commit": hangUp}, asked: whole, want: []string{"row a|1|2", "row b|3|4", "complete SELECT 2", "FATAL 08006", "end of the connection"}, ends: true},
	{name: "the transaction does not end", answers: map[string]replies{"commit": {complete("COMMIT"), ready('T')}}, asked: whole, want: []string{"row a|1|2", "row b|3|4", "complete SELECT 2", "FATAL 08006", "end of the connection"}, ends: true},
	{name: "the server ends while it describes", answers: map[string]replies{"describe": hangUp}, asked: whole[:1], want: []string{"FATAL 08006", "end of the connection"}, bare: true, ends: true},
}

func TestARewrittenStatementKeepsItsOrder(t *testing.T) {
	for _, c := range rewriteCases {
		for _, protocol := range []string{"simple", "extended", "first gear"} {
			asks := c.answers["describe"] != nil || c.answers["prepare"] != nil
			if protocol == "first gear" && asks {
				continue // there nothing of that is asked
			}
			t.Run(c.name+", "+protocol, func(t *testing.T) {
				answers := map[string]replies{}
				asked, want := slices.Clone(c.asked), []string{}
				head, _ := columnsOf(16500).Encode(nil)
				columns := fmt.Sprintf("columns bucket,high,n %x", head)
				for what, r := range c.answers {
					if protocol == "extended" && what == "original" {
						what += ", extended"
						if len(r) > 0 && r[0] != nil {
							if _, failed := r[0].(*pgproto3.ErrorResponse); !failed {
								r = append(replies{&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}}, r...)
							}
						}
					}
					answers[what] = r
				}
				if protocol == "extended" {
					for i, what := range asked {
						if what == "original" {
							asked[i] += ", extended"
						}
					}
				}
				if !c.bare {
					if protocol == "extended" {
						want = append(want, "ParseComplete", "BindComplete")
					}
					want = append(want, columns)
				}
				a := newActor(t, nil)
				g, addr, dsn := a.gateway()
				p := dial(t, addr, dsn)
				if protocol == "first gear" {
					p.send(simple(hourly))
					p.reply(1)
					before := a.turns()
					p.send(simple(hourly))
					p.reply(1)
					nothingHeld(t, g)
					if a.turns() == before {
						t.Error("a known statement was not rewritten in the first gear")
					}
					asked = asked[2:]
				}
				a.expect(answers)
				switch protocol {
				case "extended":
					p.send(group("", hourly)...)
				default:
					p.send(simple(hourly))
				}
				got := p.reply(1)
				for i, l := range got {
					if strings.HasPrefix(l, "FATAL 08006") {
						got[i] = "FATAL 08006"
					}
				}
				want = append(want, c.want...)
				if c.ends { // what came before may be lost with the connection
					got, want = got[max(0, len(got)-2):], want[len(want)-2:]
				}
				if !slices.Equal(got, want) {
					t.Errorf("the client got\n%q, want\n%q", got, want)
				}
				a.mu.Lock()
				if !slices.Equal(a.asked, asked) {
					t.Errorf("the server was asked %q, want %q", a.asked, asked)
				}
				a.mu.Unlock()
				if c.route != "" {
					if route := p.route(); route != c.route {
						t.Errorf("last_route is %q, want %q", route, c.route)
					}
				}
				if !c.ends {
					p.want("SELECT 'after'", "")
				}
				nothingHeld(t, g)
			})
		}
	}
}

// nothingHeld waits until no server connection is held.
func nothingHeld(t *testing.T, g *gateway.Server) {
	t.Helper()
	held := 0
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		held = 0
		for _, p := range g.Pools() {
			held += p.Open - p.Idle + p.Resting + p.Waiting
		}
		if held == 0 {
			return
		}
	}
	t.Errorf("%d server connections are held", held)
}

func TestNothingGoesOutBeforeTheGuardsRow(t *testing.T) {
	a := newActor(t, nil)
	a.gate = make(chan struct{})
	_, addr, dsn := a.gateway()
	p := dial(t, addr, dsn)
	p.send(simple(hourly))
	_ = p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := p.conn.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came before the guard was answered", n)
	}
	close(a.gate)
	if got := rowsOf(p.reply(1)); got != "a|1|2;b|3|4" {
		t.Errorf("got %q", got)
	}
}

// A proof is prepared once for each server connection, and again when it is gone there;
// statements that differ in string literals are described once.
func TestAProofIsPreparedOnce(t *testing.T) {
	a := newActor(t, nil)
	_, addr, dsn := a.gateway()
	p := dial(t, addr, dsn)
	ask := func(sql string, want ...string) {
		t.Helper()
		a.expect(nil)
		p.send(simple(sql))
		p.reply(1)
		a.mu.Lock()
		defer a.mu.Unlock()
		if !slices.Equal(a.asked, want) {
			t.Errorf("the server was asked %q, want %q", a.asked, want)
		}
	}
	ask(hourly, whole...)
	ask(hourly, whole[2:]...)
	ask(strings.Replace(hourly, "01-10", "01-12", 1), "lock", "guard", "rewritten", "commit")
	ask(hourly+" HAVING count(*) > 1", "describe", "lock", "guard", "rewritten", "commit")
	ask(hourly+" HAVING count(*) > 2", "describe", "lock", "guard", "rewritten", "commit")
	a.expect(map[string]replies{"guard": {failure("26000")}})
	ask(hourly, "lock", "guard", "rollback", "original")
	a.expect(usual())
	ask(hourly, whole[1:]...)
}

// What is not alone is passed as it came (trap T4).
func TestOnlyAStatementAloneIsRewritten(t *testing.T) {
	parsed := func(tail ...message) []message { return append([]message{parse("", hourly)}, tail...) }
	for _, c := range []struct {
		name   string
		before string
		group  []message
		server []string
	}{
		{"a row limit", "", parsed(bind("", ""), runPortal("", 5), endGroup), []string{"original, extended"}},
		{"a named portal", "", parsed(bind("p", ""), runPortal("p", 0), endGroup), []string{"original, extended"}},
		{"two executions", "", parsed(bind("", ""), runPortal("", 0), bind("", ""), runPortal("", 0), endGroup), []string{"original, extended"}},
		{"a Describe of the statement", "", parsed(describe('S', ""), bind("", ""), runPortal("", 0), endGroup), []string{"original, extended"}},
		{"a group in an open transaction", "BEGIN", parsed(bind("", ""), runPortal("", 0), bind("", ""), runPortal("", 0), endGroup), []string{"BEGIN", "original, extended"}},
		{"two statements", "", []message{simple(hourly + "; SELECT 1")}, []string{hourly + "; SELECT 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newActor(t, map[string]replies{"BEGIN": {complete("BEGIN"), ready('T')}})
			_, addr, dsn := a.gateway()
			p := dial(t, addr, dsn)
			if c.before != "" {
				p.must(c.before)
			}
			p.extended(c.group...)
			a.mu.Lock()
			defer a.mu.Unlock()
			if !slices.Equal(a.asked, c.server) {
				t.Errorf("the server was asked %q, want %q", a.asked, c.server)
			}
		})
	}
}
