package router

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/figure"
	"qvpgw/internal/rollup"
)

var updateAggregates = flag.Bool("update-aggregates", false, "write testdata/aggregates_*.txt anew")

// goldenNow is the planner's clock in the golden files.
var goldenNow = time.Date(2024, 3, 15, 12, 34, 56, 0, time.UTC)

func micros(t testing.TB, s string) int64 {
	t.Helper()
	v, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return v.UnixMicro()
}

// goldenDefinition is what PostgreSQL prints of the migrations' aggregates.
func goldenDefinition(width string) string {
	return ` SELECT time_bucket('` + width + `'::interval, "timestamp") AS bucket,
    symbol,
    first(open, "timestamp") AS open,
    max(high) AS high,
    min(low) AS low,
    last(close, "timestamp") AS close,
    sum(volume) AS volume,
    min("timestamp") AS first_timestamp,
    max("timestamp") AS last_timestamp,
    count(*) AS count,
    sum(open) AS sum_open, count(open) AS count_open, min(open) AS min_open, max(open) AS max_open,
    sum(high) AS sum_high, count(high) AS count_high, min(high) AS min_high,
    sum(low) AS sum_low, count(low) AS count_low, max(low) AS max_low,
    sum(close) AS sum_close, count(close) AS count_close, min(close) AS min_close, max(close) AS max_close,
    count(volume) AS count_volume, min(volume) AS min_volume, max(volume) AS max_volume
   FROM market_data
  GROUP BY (time_bucket('` + width + `'::interval, "timestamp")), symbol;`
}

var goldenStored = strings.Fields("bucket symbol open high low close volume first_timestamp last_timestamp count " +
	"sum_open count_open min_open max_open sum_high count_high min_high sum_low count_low max_low " +
	"sum_close count_close min_close max_close count_volume min_volume max_volume")

// goldenSnapshot is market_data with its three aggregates, eleven weekly chunks,
// fresh until 2024-03-15 12:00, besides tables that are not routed.
func goldenSnapshot(t testing.TB) *catalog.Snapshot {
	t.Helper()
	public := func(name string) catalog.Name { return catalog.Name{Schema: "public", Name: name} }
	internal := func(name string) catalog.Name { return catalog.Name{Schema: "_timescaledb_internal", Name: name} }
	columns := []catalog.Column{
		{Name: "id", Type: 20, NotNull: true},
		{Name: "timestamp", Type: 1184, NotNull: true},
		{Name: "symbol", Type: 1043, TypMod: 24, NotNull: true},
		{Name: "open", Type: 701},
		{Name: "high", Type: 701},
		{Name: "low", Type: 701},
		{Name: "close", Type: 701},
		{Name: "volume", Type: 20},
	}
	ticks := []catalog.Column{
		{Name: "at", Type: 1114, NotNull: true},
		{Name: "symbol", Type: 25},
		{Name: "price", Type: 1700, TypMod: -1},
		{Name: "size", Type: 23},
		{Name: "ratio", Type: 700},
		{Name: "fee", Type: 1700, TypMod: 655366},
		{Name: "level", Type: 1700, TypMod: -1},
	}
	readings := []catalog.Column{
		{Name: "at", Type: 20, NotNull: true},
		{Name: "sensor", Type: 25},
		{Name: "value", Type: 701},
		{Name: "n", Type: 23},
	}
	tickData := []catalog.Column{
		{Name: "id", Type: 20, NotNull: true},
		{Name: "timestamp", Type: 1184, NotNull: true},
		{Name: "symbol", Type: 1043, TypMod: 24, NotNull: true},
		{Name: "price", Type: 701},
		{Name: "volume", Type: 23},
		{Name: "bid", Type: 701},
		{Name: "ask", Type: 701},
		{Name: "exchange", Type: 1043, TypMod: 14},
	}
	s := &catalog.Snapshot{
		ServerVersion: 170005, Timescale: "2.23.0", Community: true,
		UserFunctions: map[string]bool{"my_round": true, "upper": true}, UserOperators: map[string]bool{}, UserTypes: map[string]bool{},
		Relations: map[catalog.Name]*catalog.Relation{
			public("market_data"):        {OID: 16500, Name: public("market_data"), Kind: 'r', Columns: columns, HypertableID: 1, Log: catalog.CorrectionsLogged, Triggers: "{16510,16511}"},
			public("ticks"):              {OID: 16600, Name: public("ticks"), Kind: 'r', Columns: ticks, HypertableID: 10, Log: catalog.CorrectionsLogged, Triggers: "{16610,16611}"},
			public("readings"):           {OID: 16610, Name: public("readings"), Kind: 'r', Columns: readings, HypertableID: 12, Log: catalog.CorrectionsLogged, Triggers: "{16620,16621}"},
			public("tick_data"):          {OID: 16630, Name: public("tick_data"), Kind: 'r', Columns: tickData, HypertableID: 13, Log: catalog.CorrectionsLogged, Triggers: "{16640,16641}"},
			public("guarded"):            {OID: 16700, Name: public("guarded"), Kind: 'r', Columns: columns, HypertableID: 20, RowSecurity: true},
			public("bare"):               {OID: 16800, Name: public("bare"), Kind: 'r', Columns: columns, HypertableID: 21},
			public("by_number"):          {OID: 16900, Name: public("by_number"), Kind: 'r', Columns: columns, HypertableID: 22},
			public("plain"):              {OID: 17000, Name: public("plain"), Kind: 'r', Columns: columns},
			public("market_data_1h"):     {OID: 17100, Name: public("market_data_1h"), Kind: 'v'},
			internal("_materialized_2"):  {OID: 17200, Name: internal("_materialized_2"), Kind: 'r', HypertableID: 2},
			internal("_materialized_3"):  {OID: 17300, Name: internal("_materialized_3"), Kind: 'r', HypertableID: 3},
			internal("_materialized_4"):  {OID: 17400, Name: internal("_materialized_4"), Kind: 'r', HypertableID: 4},
			internal("_materialized_14"): {OID: 17600, Name: internal("_materialized_14"), Kind: 'r', HypertableID: 14},
			internal("_materialized_15"): {OID: 17700, Name: internal("_materialized_15"), Kind: 'r', HypertableID: 15},
			internal("_materialized_16"): {OID: 17800, Name: internal("_materialized_16"), Kind: 'r', HypertableID: 16},
			internal("_materialized_11"): {OID: 17500, Name: internal("_materialized_11"), Kind: 'r', HypertableID: 11},
		},
		Hypertables: map[int32]*catalog.Hypertable{
			20: {ID: 20, Name: public("guarded"), TimeColumn: "timestamp", TimeType: 1184},
			21: {ID: 21, Name: public("bare"), TimeColumn: "timestamp", TimeType: 1184},
			22: {ID: 22, Name: public("by_number"), TimeColumn: "id", TimeType: 2950},
		},
	}
	week, ten := int64(7*86400*1e6), int64(70*86400*1e6)
	hyper := &catalog.Hypertable{ID: 1, Name: public("market_data"), TimeColumn: "timestamp", TimeType: 1184, Threshold: micros(t, "2024-03-15 12:00"), HasThreshold: true}
	for i := range int64(11) {
		start := micros(t, "2024-01-04 00:00") + i*week
		hyper.Chunks = append(hyper.Chunks, catalog.Chunk{ID: int32(i + 1), Name: internal(fmt.Sprintf("_hyper_1_%d_chunk", i+1)), Start: start, End: start + week})
	}
	s.Hypertables[1] = hyper
	tickTable := &catalog.Hypertable{ID: 10, Name: public("ticks"), TimeColumn: "at", TimeType: 1114, Chunks: hyper.Chunks, Threshold: hyper.Threshold, HasThreshold: true}
	s.Hypertables[10] = tickTable
	byTick := *hyper
	byTick.ID, byTick.Name = 13, public("tick_data")
	s.Hypertables[13] = &byTick
	epoch := &catalog.Hypertable{ID: 12, Name: public("readings"), TimeColumn: "at", TimeType: 20, Threshold: hyper.Threshold / 1e6, HasThreshold: true}
	for _, c := range hyper.Chunks {
		epoch.Chunks = append(epoch.Chunks, catalog.Chunk{ID: c.ID + 1200, Name: internal(fmt.Sprintf("_hyper_12_%d_chunk", c.ID)), Start: c.Start / 1e6, End: c.End / 1e6})
	}
	s.Hypertables[12] = epoch
	aggregate := func(id, raw int32, name, definition, width, watermark string, columns []string) {
		a := &catalog.Aggregate{
			ID: id, RawID: raw, View: public(name), Materialization: internal(fmt.Sprintf("_materialized_%d", id)),
			Definition: definition, Finalized: true, BucketWidth: width, BucketFixed: true, Watermark: micros(t, watermark),
			Settled: catalog.Settled{Span: catalog.Span{Start: rollup.MinTime, End: s.Hypertables[raw].Threshold}, Triggers: s.Relations[s.Hypertables[raw].Name].Triggers},
		}
		for _, c := range columns {
			typ := catalog.OID(701)
			if c == "bucket" {
				typ = s.Hypertables[raw].TimeType
			}
			a.Columns = append(a.Columns, catalog.Column{Name: c, Type: typ})
		}
		held := &catalog.Hypertable{ID: id, Name: a.Materialization, TimeColumn: "bucket", TimeType: 1184}
		for i := range int64(2) {
			start := micros(t, "2023-11-09 00:00") + i*ten
			n := id*10 + int32(i)
			held.Chunks = append(held.Chunks, catalog.Chunk{ID: n, Name: internal(fmt.Sprintf("_hyper_%d_%d_chunk", id, n)), Start: start, End: start + ten})
		}
		s.Hypertables[id] = held
		for _, c := range held.Chunks {
			a.Settled.Chunks = append(a.Settled.Chunks, c.ID)
		}
		s.Aggregates = append(s.Aggregates, a)
	}
	aggregate(2, 1, "market_data_1h", goldenDefinition("01:00:00"), "01:00:00", "2024-03-15 12:00", goldenStored)
	aggregate(3, 1, "market_data_1d", goldenDefinition("1 day"), "1 day", "2024-03-15 00:00", goldenStored)
	aggregate(4, 1, "market_data_1w", goldenDefinition("7 days"), "7 days", "2024-03-11 00:00", goldenStored)
	aggregate(11, 10, "ticks_1h", `SELECT time_bucket('01:00:00'::interval, ticks.at) AS bucket, ticks.symbol, ticks.level, count(*) AS n,
  sum(ticks.price) AS price, count(ticks.price) AS prices, min(ticks.price) AS low, sum(ticks.size) AS size, count(ticks.size) AS sizes,
  sum(ticks.ratio) AS ratio, min(ticks.fee) AS fee
 FROM ticks GROUP BY (time_bucket('01:00:00'::interval, ticks.at)), ticks.symbol, ticks.level`, "01:00:00", "2024-03-15 12:00",
		strings.Fields("bucket symbol level n price prices low size sizes ratio fee"))
	aggregate(14, 12, "readings_1h", `SELECT time_bucket((3600)::bigint, readings.at) AS bucket, readings.sensor, count(*) AS count, sum(readings.n) AS n,
  max(readings.value) AS high, first(readings.value, readings.at) AS open, min(readings.at) AS first_at, max(readings.at) AS last_at
 FROM readings GROUP BY (time_bucket((3600)::bigint, readings.at)), readings.sensor`, "3600", "2024-03-15 12:00",
		strings.Fields("bucket sensor count n high open first_at last_at"))
	whole := s.Aggregates[len(s.Aggregates)-1]
	whole.Watermark, whole.Settled.End = epoch.Threshold, epoch.Threshold
	for i, c := range s.Hypertables[14].Chunks {
		s.Hypertables[14].Chunks[i].Start, s.Hypertables[14].Chunks[i].End = c.Start/1e6, c.End/1e6
	}
	aggregate(15, 13, "tick_data_1m", `SELECT time_bucket('00:01:00'::interval, "timestamp") AS bucket, symbol,
  first(price, "timestamp") AS open, max(price) AS high, min(price) AS low, last(price, "timestamp") AS close, sum(volume) AS volume,
  min("timestamp") AS first_timestamp, max("timestamp") AS last_timestamp, count(*) AS count, sum(price) AS sum_price, count(price) AS count_price,
  count(volume) AS count_volume, sum((ask - bid)) AS sum_spread, count((ask - bid)) AS count_spread, max((ask - bid)) AS max_spread
 FROM tick_data GROUP BY (time_bucket('00:01:00'::interval, "timestamp")), symbol`, "00:01:00", "2024-03-15 12:00",
		strings.Fields("bucket symbol open high low close volume first_timestamp last_timestamp count sum_price count_price count_volume sum_spread count_spread max_spread"))
	aggregate(16, 15, "tick_data_1h", `SELECT time_bucket('01:00:00'::interval, tick_data_1m.bucket) AS bucket, tick_data_1m.symbol,
  first(tick_data_1m.open, tick_data_1m.first_timestamp) AS open, max(tick_data_1m.high) AS high, min(tick_data_1m.low) AS low,
  last(tick_data_1m.close, tick_data_1m.last_timestamp) AS close, sum(tick_data_1m.volume) AS volume,
  min(tick_data_1m.first_timestamp) AS first_timestamp, max(tick_data_1m.last_timestamp) AS last_timestamp, sum(tick_data_1m.count) AS count,
  sum(tick_data_1m.sum_price) AS sum_price, sum(tick_data_1m.count_price) AS count_price, sum(tick_data_1m.count_volume) AS count_volume,
  sum(tick_data_1m.sum_spread) AS sum_spread, sum(tick_data_1m.count_spread) AS count_spread, max(tick_data_1m.max_spread) AS max_spread
 FROM tick_data_1m GROUP BY (time_bucket('01:00:00'::interval, tick_data_1m.bucket)), tick_data_1m.symbol`, "01:00:00", "2024-03-15 12:00",
		strings.Fields("bucket symbol open high low close volume first_timestamp last_timestamp count sum_price count_price count_volume sum_spread count_spread max_spread"))
	number := func(list []catalog.Column) {
		for i := range list {
			list[i].Number = int16(i + 1)
		}
	}
	for _, r := range s.Relations {
		number(r.Columns)
	}
	for _, a := range s.Aggregates {
		number(a.Columns)
	}
	return s
}

func goldenContext() *Context {
	return &Context{Database: "market", User: "app", SearchPath: []string{"app", "public"}, TimeZone: "UTC", SettingsKnown: true, ConformingStrings: true, Route: true}
}

// planText plans a text under c; a leading "SET TimeZone = 'zone';" changes the
// context's, "BIND int8 5, date 2024-01-05;" gives its parameters values.
func planText(t *testing.T, text string, c *Context, snap *catalog.Snapshot, now time.Time) (*AggregateRewrite, Reason) {
	t.Helper()
	b, stmt := blocksOf(t, text, c, snap, now)
	return b.plan(stmt)
}

func blocksOf(t *testing.T, text string, c *Context, snap *catalog.Snapshot, now time.Time) (*blocks, *pg_query.Node) {
	t.Helper()
	if rest, ok := strings.CutPrefix(text, "SET TimeZone = '"); ok {
		zone, sql, _ := strings.Cut(rest, "';")
		changed := *c
		changed.TimeZone, c, text = zone, &changed, strings.TrimSpace(sql)
	}
	text, params := boundText(t, text)
	tree, err := pg_query.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if params != nil {
		bind(tree.Stmts[0].Stmt, countedTime(snap), params)
	}
	if len(tree.Stmts) != 1 {
		t.Fatalf("%s: %d statements", text, len(tree.Stmts))
	}
	return &blocks{c: c, snap: snap, now: now}, tree.Stmts[0].Stmt
}

// boundText cuts off the values of a text's parameters.
func boundText(t *testing.T, text string) (string, []Param) {
	t.Helper()
	rest, ok := strings.CutPrefix(text, "BIND ")
	if !ok {
		return text, nil
	}
	list, rest, _ := strings.Cut(rest, "; ")
	var params []Param
	for _, p := range strings.Split(list, ", ") {
		name, value, _ := strings.Cut(p, " ")
		oid := catalog.OID(0)
		for o, n := range paramTypes {
			if n == name {
				oid = max(oid, o) // varchar for text
			}
		}
		if oid == 0 {
			t.Fatalf("%s: no type %q", text, name)
		}
		params = append(params, Param{Type: oid, Value: []byte(value)})
	}
	return rest, params
}

type goldenCase struct{ title, sql, want string }

// readGolden reads cases: "=== title", the statement, "---", what is expected.
func readGolden(t testing.TB, name string) []goldenCase {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	for _, block := range strings.Split(string(raw), "=== ")[1:] {
		title, rest, _ := strings.Cut(block, "\n")
		sql, want, _ := strings.Cut(rest, "\n---\n")
		cases = append(cases, goldenCase{title, strings.TrimSpace(sql), strings.TrimSpace(want)})
	}
	return cases
}

func writeGolden(t *testing.T, name, head string, cases []goldenCase) {
	t.Helper()
	var b strings.Builder
	b.WriteString(head)
	for _, c := range cases {
		fmt.Fprintf(&b, "\n=== %s\n%s\n---\n%s\n", c.title, c.sql, c.want)
	}
	if err := os.WriteFile(filepath.Join("testdata", name), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// goldenText shows a plan; what of the proof depends on the snapshot alone comes
// after "…".
func goldenText(b *blocks, r *AggregateRewrite) string {
	var out strings.Builder
	fmt.Fprintf(&out, "view: %s\n", r.View)
	if r.Float {
		out.WriteString("float: re-associated\n")
	}
	if !r.Expires.IsZero() {
		fmt.Fprintf(&out, "expires: %s\n", r.Expires.Format(time.RFC3339))
	}
	for _, x := range r.Ranges() {
		fmt.Fprintf(&out, "range: %s [%s, %s)\n", x.Source, x.From, x.To)
	}
	guard := strings.TrimSuffix(strings.TrimPrefix(r.Guard(), "SELECT COALESCE("), ", FALSE)")
	first := plain(b.pieces[0].inner[:1].conditions())
	session, inner, _ := strings.Cut(guard, first)
	inner = first + inner
	guard = strings.ReplaceAll(session, " AND ", "\n  and ") + "… " + strings.ReplaceAll(inner, " AND ", "\n  and ")
	fmt.Fprintf(&out, "lock: %s\nguard: %s\nsql: %s", r.Lock, guard, r.SQL)
	return out.String()
}

const goldenHead = `# Statements over the migrations' market_data and its aggregates, and what the
# planner makes of them at 2024-03-15 12:34:56 UTC. Written by
# go test ./internal/router -run Golden -update-aggregates; read every change.
`

func TestGoldenAggregatesThatAreRouted(t *testing.T) {
	cases := readGolden(t, "aggregates_routed.txt")
	snap := goldenSnapshot(t)
	for i, c := range cases {
		b, stmt := blocksOf(t, c.sql, goldenContext(), snap, goldenNow)
		r, reason := b.plan(stmt)
		if r == nil {
			t.Errorf("%s: passed with %s", c.title, reason)
			continue
		}
		got := goldenText(b, r)
		if got != c.want && !*updateAggregates {
			t.Errorf("%s: planned\n%s\nwant\n%s", c.title, got, c.want)
		}
		cases[i].want = got
	}
	if len(cases) < 120 {
		t.Errorf("%d statements, want at least 120", len(cases))
	}
	if *updateAggregates {
		writeGolden(t, "aggregates_routed.txt", goldenHead, cases)
	}
}

func TestGoldenStatementsThatPassForAReason(t *testing.T) {
	cases := readGolden(t, "aggregates_passed.txt")
	snap := goldenSnapshot(t)
	seen := map[Reason]bool{}
	passes := 0
	for i, c := range cases {
		r, reason := planText(t, c.sql, goldenContext(), snap, goldenNow)
		if r != nil {
			t.Errorf("%s: routed to %s by\n%s", c.title, r.View, r.SQL)
			continue
		}
		if aggregateReasons[reason] == "" {
			t.Errorf("%s: reason %q has no text", c.title, reason)
		}
		seen[reason] = true
		passes++
		if string(reason) != c.want && !*updateAggregates {
			t.Errorf("%s: passed with %s, want %s", c.title, reason, c.want)
		}
		cases[i].want = string(reason)
	}
	figure.Print(t, "aggregates.golden.passed", passes)
	if len(cases) < 80 {
		t.Errorf("%d statements, want at least 80", len(cases))
	}
	if *updateAggregates {
		writeGolden(t, "aggregates_passed.txt", goldenHead, cases)
	}
}
