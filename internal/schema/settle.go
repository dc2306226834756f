package schema

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Settler keeps the settled points of continuous aggregates (qvpgw.settled): up to
// where TimescaleDB's logs and the change log name every change that an aggregate
// lacks. They alone do not: a writer that read the old invalidation threshold and
// becomes visible after a refresh has moved it is in no log (trap T1), and MERGE is
// in the change log only (T2). So, after each rise of the threshold, it waits until
// every transaction that ran then has ended, refreshes the newly covered range by
// force, and records it; and it refreshes what was corrected before it removes the
// corrections from the change log.
//
// All that it needs is in the database: it may be ended between any two statements.
// Not safe for concurrent use; of several in several programs one works at a time.
// The zero value is ready.
type Settler struct {
	// Log is told what happens; nil: nobody.
	Log func(text string)

	loader Loader
	rises  map[int32]rise  // by aggregate
	slices map[int32]int64 // internal time that one refresh covers
}

// rise is a threshold, and a transaction id that is higher than those of all
// transactions that can have read a lower one.
type rise struct {
	threshold int64
	before    string // xid8
}

// settling is one aggregate as a round found it.
type settling struct {
	id, raw  int32
	view     string // oid
	owned    bool
	timeType string
	overlap  int64 // two buckets
	interval int64 // of a chunk

	threshold    int64
	hasThreshold bool

	low, high int64
	known     bool // low and high hold: they were recorded under the triggers of now
	triggers  string
	reason    string

	recorded  string // what qvpgw.settled says, as text
	relation  string // oid of the hypertable at the root
	oldest    int64
	hasChunks bool
	force     bool

	parent *settling

	held []heldChunk // of the materialization
}

// heldChunk is a chunk of a materialization, in internal time. One that is not settled
// was made after the aggregate was settled: perhaps anew, after it was dropped, with what
// a refresh put there since and nothing of the rest.
type heldChunk struct {
	id         int32
	start, end int64
	settled    bool
}

const (
	firstSlices = 4               // chunk intervals that the first refresh covers
	shortSlice  = time.Second     // a refresh that took less may cover twice as much next time,
	longSlice   = 5 * time.Second // one that took more half as much
)

// Round does what is to be done next: at most one refresh by force, or the healing
// of what was corrected. more says that something is left that need not wait. All
// statements must run on one connection.
func (s *Settler) Round(ctx context.Context, q Query) (more bool, err error) {
	if !s.loader.known {
		if _, _, err := s.loader.facts(ctx, q); err != nil {
			return false, err
		}
	}
	if !s.loader.layout.present || !s.loader.layout.settled {
		s.loader.known = false // it may come
		return false, nil
	}
	locked, err := read(ctx, q, "the settling lock", fmt.Sprintf("SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_try_advisory_lock(%d) END", settleLock), 1)
	if err != nil || locked[0][0] != "t" {
		return false, err
	}
	defer func() {
		if _, e := q(context.WithoutCancel(ctx), fmt.Sprintf("SELECT pg_advisory_unlock(%d)", settleLock)); e != nil && err == nil {
			err = fmt.Errorf("cannot give back the settling lock: %w", e)
		}
	}()
	list, err := s.state(ctx, q)
	if err != nil {
		return false, err
	}
	if _, err := q(ctx, strayedSQL); err != nil {
		return false, fmt.Errorf("cannot remove what was settled of aggregates that are gone: %w", err)
	}
	if s.slices == nil {
		s.slices, s.rises = map[int32]int64{}, map[int32]rise{}
	}
	for _, a := range list {
		if a.reason != "" && a.recorded != fmt.Sprintf("0 0 %s %s", a.triggers, a.reason) {
			s.say("aggregate %s cannot be settled: %s", a.view, a.reason)
			return true, s.record(ctx, q, a)
		}
	}
	if healed, err := s.heal(ctx, q, list); healed || err != nil {
		return healed, err
	}
	for _, a := range list {
		worked, err := s.settle(ctx, q, a)
		if worked || err != nil {
			return worked, err
		}
	}
	return false, nil
}

// state reads the aggregates.
func (s *Settler) state(ctx context.Context, q Query) ([]*settling, error) {
	rows, err := read(ctx, q, "settled points", s.loader.layout.aggregatesStateSQL(), 19)
	if err != nil {
		s.loader.known = false // TimescaleDB may be another version now
		return nil, err
	}
	var n numbers
	var list []*settling
	byID := map[int32]*settling{}
	for _, r := range rows {
		a := &settling{
			id: n.int32(r[0]), raw: n.int32(r[1]), view: r[3], owned: r[4] == "t", timeType: r[5],
			overlap: n.int64(r[6]), interval: n.int64(r[7]), relation: r[13], triggers: r[14], force: r[16] == "t",
			recorded: strings.Join(r[9:13], " "),
		}
		if r[8] != "" {
			a.threshold, a.hasThreshold = n.int64(r[8]), true
		}
		if r[15] != "" {
			a.oldest, a.hasChunks = n.int64(r[15]), true
		}
		settled := n.list32(r[18])
		for _, text := range strings.FieldsFunc(r[17], func(c rune) bool { return c == ',' }) {
			part := append(strings.Split(text, ":"), "", "")
			id := n.int32(part[0])
			a.held = append(a.held, heldChunk{id, n.int64(part[1]), n.int64(part[2]), slices.Contains(settled, id)})
		}
		if r[9] != "" && r[12] == "" && r[11] == a.triggers {
			a.low, a.high, a.known = n.int64(r[9]), n.int64(r[10]), true
		}
		switch {
		case a.triggers == "":
			a.reason, a.triggers = UnsettledNoLog, "{}"
		case !a.owned:
			a.reason = UnsettledPrivilege
		case !a.force:
			a.reason = UnsettledVersion
		case !strings.HasPrefix(a.timeType, "timestamp") && a.timeType != "date" && integerRanges[a.timeType] == (integerRange{}):
			a.reason = UnsettledTime
		}
		if a.reason != "" {
			a.low, a.high, a.known = 0, 0, false
		}
		a.parent = byID[a.raw]
		byID[a.id] = a
		list = append(list, a)
	}
	if n.err != nil {
		return nil, fmt.Errorf("cannot understand the settled points: %w", n.err)
	}
	return list, nil
}

// settle takes one aggregate a step further, and says whether it did something.
func (s *Settler) settle(ctx context.Context, q Query, a *settling) (bool, error) {
	top, bottom, due := a.due()
	if !due {
		return false, nil
	}
	if !a.known || top > a.high {
		return s.raise(ctx, q, a, top)
	}
	if floor := max(a.oldest, bottom); a.low > floor {
		from := max(floor, a.low-s.slice(a))
		if err := s.refresh(ctx, q, a, max(from, a.oldest), min(a.low+a.overlap, a.high)); err != nil {
			return false, err
		}
		a.low = from
		return true, s.record(ctx, q, a)
	}
	return s.adopt(ctx, q, a)
}

// adopt settles a chunk that was made since the aggregate was settled: by a refresh, or,
// where that would be long, by unsettling all up to its end.
func (s *Settler) adopt(ctx context.Context, q Query, a *settling) (bool, error) {
	for i, c := range a.held {
		if c.settled {
			continue
		}
		if from, to := max(c.start-a.overlap, a.low-a.overlap, a.oldest), min(c.end+a.overlap, a.high); from < to && c.end > a.low {
			if to-from > s.slice(a) {
				a.low = min(c.end, a.high)
				for j, below := range a.held {
					a.held[j].settled = below.settled || below.end <= a.low
				}
				return true, s.record(ctx, q, a)
			}
			if err := s.refresh(ctx, q, a, from, to); err != nil {
				return false, err
			}
		}
		a.held[i].settled = true
		return true, s.record(ctx, q, a)
	}
	return false, nil
}

// chunks are the ids of the settled ones, with commas.
func (a *settling) chunks() string {
	var ids []string
	for _, c := range a.held {
		if c.settled {
			ids = append(ids, fmt.Sprint(c.id))
		}
	}
	return strings.Join(ids, ",")
}

// due says between what a can be settled now; false when there is nothing to settle, or
// what it is made of must be settled first.
func (a *settling) due() (top, bottom int64, ok bool) {
	top, bottom = a.threshold, math.MinInt64
	if p := a.parent; p != nil {
		if !p.known {
			return 0, 0, false
		}
		top, bottom = min(top, p.high), p.low
	}
	// Without a threshold it was never refreshed.
	return top, bottom, a.reason == "" && a.hasThreshold && a.hasChunks && a.overlap > 0 && top > minTime
}

// minTime is the least timestamp of PostgreSQL.
const minTime int64 = -210_866_803_200_000_000

// raise settles what the threshold has newly covered, once nobody runs who can have
// read a lower one.
func (s *Settler) raise(ctx context.Context, q Query, a *settling, top int64) (bool, error) {
	r, waits := s.rises[a.id]
	if !waits || r.threshold > top {
		// The id is assigned after the threshold was read.
		rows, err := read(ctx, q, "a transaction's id", "SELECT pg_current_xact_id()", 1)
		if err != nil {
			return false, err
		}
		r = rise{threshold: top, before: rows[0][0]}
		s.rises[a.id] = r
	}
	rows, err := read(ctx, q, "the oldest transaction", fmt.Sprintf("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= '%s'::xid8", r.before), 1)
	if err != nil {
		return false, err
	}
	if rows[0][0] != "t" {
		return false, nil // somebody runs on: next time
	}
	delete(s.rises, a.id)
	if !a.known {
		// The range below is settled from its new end to its old one: all chunks that
		// are there now will be refreshed.
		for i := range a.held {
			a.held[i].settled = true
		}
		a.low, a.high = r.threshold, r.threshold
		return true, s.record(ctx, q, a)
	}
	from := max(a.high-a.overlap, a.oldest)
	if err := s.refresh(ctx, q, a, from, r.threshold); err != nil {
		return false, err
	}
	for i, c := range a.held { // the newest
		a.held[i].settled = c.settled || c.start >= from
	}
	a.high = r.threshold
	return true, s.record(ctx, q, a)
}

// heal refreshes what was corrected in what is settled, and takes the corrections
// out of the change log. What is long is left unsettled instead.
func (s *Settler) heal(ctx context.Context, q Query, list []*settling) (bool, error) {
	rows, err := read(ctx, q, "corrections", correctionsSQL, 4)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	var n numbers
	for _, r := range rows {
		low, high := int64(math.MinInt64), int64(math.MaxInt64)
		if r[1] != "" && r[2] != "" {
			low, high = n.int64(r[1]), n.int64(r[2])
		}
		if n.err != nil {
			return false, fmt.Errorf("cannot understand the corrections: %w", n.err)
		}
		var unsettled []string
		for _, a := range list {
			if a.relation != r[0] || !a.known || a.low >= a.high || high < a.low || low >= a.high {
				continue
			}
			from, to := max(low, a.low), min(high, a.high-1)
			if to-from > s.slice(a) {
				unsettled = append(unsettled, fmt.Sprint(a.id))
				continue
			}
			if err := s.refresh(ctx, q, a, max(from-a.overlap, a.oldest), min(to+a.overlap, a.threshold)); err != nil {
				return false, err
			}
		}
		sql := fmt.Sprintf("DELETE FROM qvpgw.changes WHERE kind = 'c' AND relation = %s AND xid = ANY ('%s')", r[0], r[3])
		if len(unsettled) > 0 {
			above := high
			if above < math.MaxInt64 {
				above++
			}
			sql = fmt.Sprintf("WITH healed AS (%s) UPDATE qvpgw.settled SET low = greatest(low, least(high, %d)), at = now() WHERE aggregate IN (%s)",
				sql, above, strings.Join(unsettled, ", "))
		}
		if _, err := q(ctx, sql); err != nil {
			return false, fmt.Errorf("cannot take corrections out of the change log: %w", err)
		}
	}
	return true, nil
}

// refresh refreshes the whole buckets in [from, to) by force. Force looks at no log: it
// leaves what is logged of the range, and a mark of its own at the range's end. A plain
// refresh over both takes them away.
func (s *Settler) refresh(ctx context.Context, q Query, a *settling, from, to int64) error {
	began := time.Now()
	for _, call := range []struct {
		to    int64
		force string
	}{{to, ", force => true"}, {min(to+a.overlap, a.threshold), ""}} {
		if from >= call.to {
			continue
		}
		_, err := q(ctx, fmt.Sprintf("CALL refresh_continuous_aggregate(%s::regclass, %s, %s%s)", a.view, timeOf(from, a.timeType), timeOf(call.to, a.timeType), call.force))
		var pg interface{ SQLState() string }
		if errors.As(err, &pg) && pg.SQLState() == "22023" {
			continue // no whole bucket
		}
		if err != nil {
			return fmt.Errorf("cannot refresh continuous aggregate %s: %w", a.view, err)
		}
	}
	switch took := time.Since(began); {
	case took < shortSlice:
		s.slices[a.id] = min(2*s.slice(a), math.MaxInt64/8)
	case took > longSlice:
		s.slices[a.id] = max(s.slice(a)/2, a.interval, 2*a.overlap)
	}
	return nil
}

// slice is how much internal time one refresh of a covers.
func (s *Settler) slice(a *settling) int64 {
	if s.slices[a.id] == 0 {
		s.slices[a.id] = max(firstSlices*a.interval, 2*a.overlap)
	}
	return s.slices[a.id]
}

// integerRange is what an integer type holds.
type integerRange struct{ least, greatest int64 }

var integerRanges = map[string]integerRange{
	"smallint": {math.MinInt16, math.MaxInt16}, "integer": {math.MinInt32, math.MaxInt32}, "bigint": {math.MinInt64, math.MaxInt64},
}

// timeOf spells internal time as a value of the time column's type.
func timeOf(micros int64, typ string) string {
	if i, ok := integerRanges[typ]; ok {
		return fmt.Sprintf("'%d'::%s", min(max(micros, i.least), i.greatest), typ)
	}
	const first, last = -62_135_596_800_000_000, 253_402_300_799_999_999 // years 1 to 9999
	t := time.UnixMicro(min(max(micros, first), last)).UTC()
	if typ == "timestamp with time zone" {
		return "'" + t.Format("2006-01-02 15:04:05.999999") + "+00'::timestamptz"
	}
	return "'" + t.Format("2006-01-02 15:04:05.999999") + "'::" + typ
}

func (s *Settler) record(ctx context.Context, q Query, a *settling) error {
	a.known = a.reason == ""
	if _, err := q(ctx, recordSQL(a)); err != nil {
		return fmt.Errorf("cannot record what is settled of aggregate %s: %w", a.view, err)
	}
	return nil
}

func (s *Settler) say(format string, args ...any) {
	if s.Log != nil {
		s.Log(fmt.Sprintf(format, args...))
	}
}

// Settle does all that can be done now, on one connection: for programs that refresh
// aggregates themselves and want them used at once. It waits for nobody.
func Settle(ctx context.Context, conn *pgconn.PgConn) error {
	var s Settler
	for {
		more, err := s.Round(ctx, PgConnQuery(conn))
		if err != nil || !more {
			return err
		}
	}
}
