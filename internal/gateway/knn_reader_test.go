package gateway_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/wire"
)

// asker is a client that asks questions and does little else: it reads ids and
// versions out of an answer, whatever its format.
type asker struct {
	*peer
	r        *bufio.Reader
	out      []byte
	answer   []byte
	prepared map[string]bool
}

func newAsker(p *peer) *asker {
	return &asker{peer: p, r: bufio.NewReaderSize(p.conn, 16<<10), prepared: map[string]bool{}}
}

// form is how a question is put.
type form int

const (
	literal       form = iota // simple protocol
	unnamed                   // Parse, Bind, Describe, Execute, with literals
	preparedText              // a named statement with parameters
	preparedBytes             // the same with binary results
	forms
)

// sql is the text of a question to a table, with its arguments if it has parameters.
func (q truthQuestion) sql(table string, f form) (text string, args [][]byte) {
	vector, limit := fmt.Sprintf("[%g,0]", float64(q.x)/32), strconv.Itoa(q.limit)
	where, offset := "", ""
	if q.kind >= 0 {
		where = fmt.Sprintf(" WHERE kind = %d", q.kind)
	}
	if q.offset > 0 {
		offset = fmt.Sprintf(" OFFSET %d", q.offset)
	}
	if f == literal || f == unnamed {
		return "SELECT id, ver, seen FROM " + table + where + " ORDER BY v <-> '" + vector + "' LIMIT " + limit + offset, nil
	}
	args = [][]byte{[]byte(vector), []byte(limit)}
	if q.kind >= 0 {
		where = " WHERE kind = $3"
		args = append(args, strconv.AppendInt(nil, int64(q.kind), 10))
	}
	return "SELECT id, ver, seen FROM " + table + where + " ORDER BY v <-> $1 LIMIT $2" + offset, args
}

// ask returns the ids and versions as expected writes them, and the texts of column
// seen; what is no answer comes as an error.
func (a *asker) ask(q truthQuestion, table string, f form) (answer, seen string, err error) {
	text, args := q.sql(table, f)
	a.out = a.out[:0]
	switch f {
	case literal:
		a.out = wire.AppendQuery(a.out, text)
	default:
		name, formats := "", wire.Formats(nil)
		if f != unnamed {
			name = "k" + strconv.Itoa(len(args)) + table + strconv.Itoa(q.offset)
		}
		if f == preparedBytes {
			formats = wire.Formats{0, 1} // one format for all columns
		}
		if name == "" || !a.prepared[name] {
			a.out = wire.AppendParse(a.out, name, text, nil)
			a.prepared[name] = name != ""
		}
		a.out = wire.AppendBind(a.out, "", name, nil, args, formats)
		if f != preparedBytes {
			a.out = wire.AppendDescribe(a.out, wire.Portal, "")
		}
		a.out = wire.AppendSync(wire.AppendExecute(a.out, "", 0))
	}
	return a.exchange(f == preparedBytes)
}

// exchange sends what is in out and reads one answer.
func (a *asker) exchange(bytesWanted bool) (answer, seen string, err error) {
	if _, err := a.conn.Write(a.out); err != nil {
		return "", "", err
	}
	_ = a.conn.SetReadDeadline(time.Now().Add(3 * patience))
	a.answer = a.answer[:0]
	for {
		var head [5]byte
		if _, err := io.ReadFull(a.r, head[:]); err != nil {
			return "", "", err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(a.r, body); err != nil {
			return "", "", err
		}
		switch head[0] {
		case wire.DataRow:
			var values [3][]byte
			at := body[2:]
			for i := range values {
				n := int(int32(binary.BigEndian.Uint32(at)))
				values[i], at = at[4:4+n], at[4+n:]
			}
			for i, v := range values[:2] {
				if bytesWanted {
					a.answer = strconv.AppendInt(a.answer, int64(int32(binary.BigEndian.Uint32(v))), 10)
				} else {
					a.answer = append(a.answer, v...)
				}
				a.answer = append(a.answer, "|;"[i])
			}
			if !bytesWanted && seen == "" {
				seen = string(values[2])
			} else if !bytesWanted && seen != string(values[2]) {
				seen = "several"
			}
		case wire.ErrorResponse:
			fields, _ := wire.ParseErrorFields(body)
			err = fields
		case wire.ReadyForQuery:
			a.tx = body[0]
			return string(a.answer), seen, err
		}
	}
}

// do runs a statement of which no rows are wanted.
func (a *asker) do(sql string) error {
	a.out = wire.AppendQuery(a.out[:0], sql)
	_, _, err := a.exchange(false)
	return err
}

// readerKind is what a reader's answers depend on besides the tables.
type readerKind struct {
	name     string
	params   []string // of its login
	set      string   // sent once
	user     string   // of its login; "": the superuser
	side     bool     // points is side.points
	secretly bool     // table secret shows what its policy lets through
	seen     string   // how it sees the one moment that is in column seen
	direct   bool     // not through the gateway
}

var readerKinds = []readerKind{
	{name: "plain", seen: "2024-06-01 12:00:00+00"},
	{name: "in another time zone", params: []string{"TimeZone=Asia/Tokyo"}, seen: "2024-06-01 21:00:00+09"},
	{name: "with another search_path", set: "SET search_path = side, public", side: true, seen: "2024-06-01 12:00:00+00"},
	{name: "of another role", user: "plain", secretly: true, seen: "2024-06-01 12:00:00+00"},
	{name: "after SET ROLE", set: "SET ROLE plain; SET DateStyle = 'German'", secretly: true, seen: "01.06.2024 12:00:00 UTC"},
	{name: "direct", seen: "2024-06-01 12:00:00+00", direct: true},
}

// reader is one client that reads until the run is over.
type reader struct {
	*asker
	readerKind
	n   int
	rng *rand.Rand
	run *truthRun
}

// reads reads once, or a few times in a transaction.
func (r *reader) reads() error {
	style := r.rng.IntN(40)
	if style > 1 {
		if err := r.read(nil); !deadlocked(err) {
			return err
		}
		return nil
	}
	begin, own := "BEGIN", []int64(nil)
	if style == 1 {
		begin, own = "BEGIN ISOLATION LEVEL REPEATABLE READ", []int64{0, 0}
	}
	if err := r.do(begin); err != nil {
		return err
	}
	for range 2 {
		err := r.read(own)
		if deadlocked(err) {
			return r.do("ROLLBACK")
		}
		if err != nil {
			return err
		}
	}
	return r.do("COMMIT")
}

// deadlocked says whether a TRUNCATE of several tables, or of one and its chunks, and the
// reader waited for each other, as they may directly.
func deadlocked(err error) bool {
	return err != nil && strings.Contains(err.Error(), "SQLSTATE 40P01")
}

// read asks one question. In a transaction with one snapshot, snapshot has the moments
// of its first question, between which it was taken.
func (r *reader) read(snapshot []int64) error {
	w := r.run.world
	t, n, f := r.run.choose(r.rng)
	table := w.tables[t]
	if table.asked == "points" {
		t = bit(r.side)
		table = w.tables[t]
	}
	question := n
	if table.asked == "secret" && r.secretly {
		question += secretly
	}
	invoked := r.run.clock()
	answer, seen, err := r.ask(truthQuestions[n], table.asked, f)
	answered := r.run.clock()
	if err != nil {
		return fmt.Errorf("question %d to %s: %w", n, table.name, err)
	}
	later := int64(0)
	if snapshot != nil {
		if snapshot[1] == 0 {
			snapshot[0], snapshot[1] = invoked, answered
		}
		invoked, answered, later = snapshot[0], snapshot[1], answered
	}
	if answer != "" && f != preparedBytes && seen != r.seen {
		r.run.foreign.Add(1)
		r.run.Errorf("reader %d, %s, sees %q in column seen of %s, not %q", r.n, r.name, seen, table.name, r.seen)
	}
	r.run.log[r.n] = append(r.run.log[r.n], loggedRead{table: t, tableRead: tableRead{
		invoked: invoked, answered: answered, question: question, answer: r.run.intern(answer), client: r.n, later: later,
	}})
	if !r.direct {
		r.run.reads.Add(1)
	}
	return nil
}

// newReader logs a reader in.
func newReader(run *truthRun, k readerKind, n int) *reader {
	run.Helper()
	dsn := run.dsn
	if k.user != "" {
		dsn = strings.Replace(dsn, "postgres@", k.user+"@", 1)
	}
	var p *peer
	if k.direct {
		p = direct(run, dsn, k.params...)
	} else {
		p = dial(run, run.addr, dsn, k.params...)
	}
	if k.set != "" {
		p.must(k.set)
	}
	return &reader{asker: newAsker(p), readerKind: k, n: n, rng: newRand(n), run: run}
}

var _ testing.TB = (*truthRun)(nil)
