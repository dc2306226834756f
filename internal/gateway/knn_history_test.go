package gateway_test

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"testing"
)

// A tableHistory is what clients saw of one table whose writes come one after the other:
// the states that the table had, in their order, and the reads of any number of
// clients, in no order. Each write and each read has the moment before it was sent
// and the moment after it was answered. It knows nothing of the gateway: it says of
// every read whether there is an order of reads and writes that a single copy of the
// table could have gone through.
//
// State n is current from some moment between the sending and the answer of its write
// up to some moment between those of the next one. A read may have seen state n if n
// can have been current between its own two moments. It must not have seen an older
// one than a read that was answered before it was sent. Each read is given the lowest
// state that is possible: a higher one would only forbid more to those after it.
//
// A server may itself answer less strictly about a hypertable: a query that waits for a
// lock on a chunk knows the chunks from before, and misses rows in new ones. Such a
// table is loose: what is read while it is written may be anything, and binds nobody.
type tableHistory struct {
	loose  bool
	states []tableState
	reads  []tableRead
}

// tableState is one state of a table, with the moments of the write that made it. The
// first one has none: it was there.
type tableState struct {
	invoked, answered int64
	rows              []truthRow
	gone              []int  // ids of rows that TRUNCATE or a dropped chunk took
	how               string // the write's statements
}

// tableRead is one answer. expected says what the answer would be in a state.
type tableRead struct {
	invoked, answered int64
	question          int
	answer            string
	client            int

	// later is the answer's moment in a transaction with one snapshot, which may be
	// older than the lock on the table; invoked and answered are those of its first
	// question. Else it is 0.
	later int64
}

// verdict is what is wrong with a read.
type verdict int

const (
	fine         verdict = iota
	stale                // of a state that was over before the read was sent
	reverse              // of an older state than a read had seen that ended before
	early                // of a state that no one had asked for yet
	foreignState         // of no state that the table ever had
	verdicts
)

func (v verdict) String() string {
	return [...]string{"fine", "stale", "older than a read before", "before its time", "of no state"}[v]
}

// finding is a read that cannot be.
type finding struct {
	verdict
	read tableRead
	want string // in the last state that is possible
	seen int    // the state that the answer is of, if any
	from int    // the first state that is possible
	to   int    // the last

	around string // the states in question
}

func (f finding) String() string {
	return fmt.Sprintf("%s: client %d asked question %d between %d and %d ns (%d) and got %q, of state %d; possible are %d to %d, the last is %q; the states around:%s",
		f.verdict, f.read.client, f.read.question, f.read.invoked, f.read.answered, f.read.later, f.read.answer, f.seen, f.from, f.to, f.want, f.around)
}

// check returns the reads that cannot be. expected gives the answer to a question in a
// state's rows.
func (h *tableHistory) check(expected func(question int, rows []truthRow) string) (found []finding) {
	type known struct{ question, state int }
	answers := map[known]string{}
	answer := func(question, n int) string {
		k := known{question, n}
		a, ok := answers[k]
		if !ok {
			a = expected(question, h.states[n].rows)
			answers[k] = a
		}
		return a
	}
	reads := slices.Clone(h.reads)
	slices.SortStableFunc(reads, func(a, b tableRead) int { return cmp.Compare(a.invoked, b.invoked) })
	// A read binds those that begin after it: to the state that its snapshot was given, and
	// once it was really run, to the one that emptied its table.
	type end struct {
		at    int64
		given *int
	}
	ends := make([]end, 0, 2*len(reads))
	given, emptied := make([]int, len(reads)), make([]int, len(reads))
	for i, r := range reads {
		ends = append(ends, end{r.answered, &given[i]}, end{max(r.answered, r.later), &emptied[i]})
	}
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.at, b.at) })
	ended, least := 0, 0
	for i, r := range reads {
		for ended < len(ends) && ends[ended].at < r.invoked {
			least = max(least, *ends[ended].given)
			ended++
		}
		// State n may be current as long as n+1 may still be unseen.
		from := sort.Search(len(h.states)-1, func(n int) bool { return h.states[n+1].answered >= r.invoked })
		to := sort.Search(len(h.states)-1, func(n int) bool { return h.states[n+1].invoked > r.answered })
		n := max(from, least)
		for n <= to && answer(r.question, n) != r.answer {
			n++
		}
		if h.loose && from < to {
			continue
		}
		if n <= to {
			if given[i] = n; n > from && r.later > 0 && h.behind(r, from, n-1, expected) {
				given[i], emptied[i] = from, n // what the later state looks like, an emptied earlier one does too
			}
			continue
		}
		if h.behind(r, from, to, expected) {
			continue
		}
		f := finding{verdict: foreignState, read: r, want: answer(r.question, to), seen: -1, from: max(from, least), to: to}
		for n := to; n >= 0 && f.seen < 0; n-- {
			if answer(r.question, n) == r.answer {
				if f.seen, f.verdict = n, stale; n >= from {
					f.verdict = reverse
				}
			}
		}
		for n := to + 1; n < len(h.states) && f.seen < 0; n++ {
			if answer(r.question, n) == r.answer {
				f.seen, f.verdict = n, early
			}
		}
		for n := max(f.from-1, 0); n < min(f.to+2, len(h.states)); n++ {
			s := h.states[n]
			f.around += fmt.Sprintf("\n%d: %d to %d, %s, then %q", n, s.invoked, s.answered, s.how, answer(r.question, n))
		}
		found = append(found, f)
	}
	return found
}

// behind says whether an old snapshot can have given an answer after all: what TRUNCATE
// and the end of a chunk take is gone for old snapshots too.
func (h *tableHistory) behind(r tableRead, from, to int, expected func(question int, rows []truthRow) string) bool {
	for n := from; n <= to; n++ {
		rows := slices.Clone(h.states[n].rows)
		for m := n + 1; m < len(h.states) && h.states[m].invoked <= r.later; m++ {
			if len(h.states[m].gone) == 0 {
				continue
			}
			rows = slices.DeleteFunc(rows, func(r truthRow) bool { return slices.Contains(h.states[m].gone, r.id) })
			if expected(r.question, rows) == r.answer {
				return true
			}
		}
	}
	return false
}

func TestTheHistoryCheckerKnowsWhatASingleCopyCanAnswer(t *testing.T) {
	// One row whose value is the number of the state; the write of state n is sent at
	// 100n and answered at 100n+50.
	value := func(_ int, rows []truthRow) string { return fmt.Sprint(rows[0].ver) }
	states := func(n int) (s []tableState) {
		for i := range n {
			s = append(s, tableState{invoked: int64(100 * i), answered: int64(100*i + 50), rows: []truthRow{{ver: i}}})
		}
		s[0].invoked, s[0].answered = 0, 0
		return s
	}
	read := func(invoked, answered int64, answer string) tableRead {
		return tableRead{invoked: invoked, answered: answered, answer: answer}
	}
	for name, c := range map[string]struct {
		reads []tableRead
		want  []verdict
	}{
		"reads of what is current":        {[]tableRead{read(10, 20, "0"), read(160, 170, "1"), read(260, 270, "2")}, nil},
		"either while a write is sent":    {[]tableRead{read(110, 120, "0"), read(111, 140, "1")}, nil},
		"a read that lasts sees any":      {[]tableRead{read(10, 290, "0"), read(11, 290, "1"), read(12, 290, "2")}, nil},
		"the write was answered":          {[]tableRead{read(151, 160, "0")}, []verdict{stale}},
		"long ago":                        {[]tableRead{read(460, 470, "1")}, []verdict{stale}},
		"new and then old":                {[]tableRead{read(110, 120, "1"), read(121, 130, "0")}, []verdict{reverse}},
		"new and old at one time":         {[]tableRead{read(110, 120, "1"), read(119, 130, "0")}, nil},
		"old, by another, after a chain":  {[]tableRead{read(105, 210, "2"), read(211, 220, "1")}, []verdict{reverse}},
		"before it was sent":              {[]tableRead{read(10, 20, "1")}, []verdict{early}},
		"never there":                     {[]tableRead{read(10, 20, "7")}, []verdict{foreignState}},
		"one that is wrong binds nobody":  {[]tableRead{read(10, 20, "1"), read(30, 40, "0")}, []verdict{early}},
		"the last state stays":            {[]tableRead{read(9000, 9001, "4"), read(9002, 9003, "3")}, []verdict{stale}},
		"each is given the lowest":        {[]tableRead{read(90, 260, "1"), read(110, 120, "0"), read(255, 270, "1")}, []verdict{stale}},
		"the lowest may be forced higher": {[]tableRead{read(205, 210, "2"), read(211, 240, "1")}, []verdict{reverse}},
	} {
		h := tableHistory{states: states(5), reads: c.reads}
		var got []verdict
		for _, f := range h.check(value) {
			got = append(got, f.verdict)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	// A state that comes back is not a stale one.
	back := states(4)
	back[3].rows = []truthRow{{ver: 1}}
	h := tableHistory{states: back, reads: []tableRead{read(360, 370, "1"), read(260, 270, "1")}}
	if found := h.check(value); len(found) != 1 || found[0].verdict != stale || found[0].read.invoked != 260 {
		t.Errorf("a state that comes back: %v", found)
	}
	// One whose snapshot is of before a TRUNCATE, and which was run after it, shows that it
	// has happened by then, and not that it had when the snapshot was taken.
	ids := func(_ int, rows []truthRow) string {
		var list []int
		for _, r := range rows {
			list = append(list, r.id)
		}
		return fmt.Sprint(list)
	}
	h = tableHistory{
		states: []tableState{{rows: []truthRow{{id: 1}}}, {invoked: 200, answered: 290, gone: []int{1}}},
		reads: []tableRead{
			{invoked: 160, answered: 210, later: 280, answer: "[]"},
			{invoked: 220, answered: 230, answer: "[1]"},
			{invoked: 285, answered: 288, answer: "[1]"},
		},
	}
	if found := h.check(ids); len(found) != 1 || found[0].verdict != reverse || found[0].read.invoked != 285 {
		t.Errorf("a snapshot of before a TRUNCATE: %v", found)
	}
}
