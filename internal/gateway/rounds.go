package gateway

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"qvpgw/internal/knn"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// roundLink runs rounds on a server connection of a pool, which it holds while rounds
// follow each other. It waits for one as a client does, since who waits for a round
// holds none: with one connection in all the two take turns (trap T16).
type roundLink struct {
	offered atomic.Pointer[pool.Pool] // whose connection is taken next
	waiter  pool.Waiter
	owner   uint64

	pool   *pool.Pool // that conn is of
	barred time.Time  // when it was last found to have no use of the gateway's schema

	conn     *pool.Conn
	round    uint64 // the statement that is prepared on it for rounds
	taken    time.Time
	deadline time.Time
	buf      []byte
	told     bool // the server reported a setting
}

// A round's statements stay prepared on a connection, as those that clients share do:
// the server takes longer to read and plan them than to run them. glanceID is that of
// the one ahead of the round's, which mostly is enough; roundIDs are those of a round
// without and with the gateway's schema.
var (
	glanceID = nextStatement.Add(1)
	roundIDs = [2]uint64{nextStatement.Add(1), nextStatement.Add(1)}
	roundSQL = [2]string{knn.Statement(false), knn.Statement(true)}
)

// glance are the messages that run glanceID's statement.
var glance = wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", statementName(glanceID), nil, nil, nil), "", 0))

// Bounds of a round: how long a connection is waited for, how long the server may take,
// and how long a connection is held before whoever waits gets it.
const (
	roundWait  = 5 * time.Second
	roundLimit = 10 * time.Second
	roundTurn  = 10 * time.Millisecond
	roundHeld  = time.Second
)

// roundPins hold for the statements' analysis, whatever the role's search_path says, and
// for their runs, which would analyse them anew under another one. pg_temp is named, since
// it would be first otherwise.
const roundPins = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false), pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false), " +
	"pg_catalog.set_config('jit', 'off', false)"

// roundLeave undoes them.
const roundLeave = "RESET search_path; RESET plan_cache_mode; RESET jit"

func (l *roundLink) Read(q knn.Question) (*knn.Reading, error) {
	if l.conn != nil {
		if held := time.Since(l.taken); held > roundHeld || held > roundTurn && l.pool.Stat().Waiting > 0 {
			l.Rest()
		}
	}
	if l.conn == nil {
		if err := l.take(); err != nil {
			return nil, err
		}
	}
	c := l.conn
	sent := time.Now()
	if l.deadline.Sub(sent) < roundLimit {
		l.deadline = sent.Add(2 * roundLimit)
		_ = c.Net.SetDeadline(l.deadline)
	}
	l.told = false
	rows, err := l.ask(glance)
	if err == nil && !q.Quiet(rows) {
		p := q.Params()
		b := wire.AppendBind(l.buf[:0], "", statementName(l.round), nil, [][]byte{[]byte(p[0]), []byte(p[1]), []byte(p[2])}, roundFormats)
		b = wire.AppendExecute(b, "", 0)
		l.buf = wire.AppendSync(b)
		rows, err = l.ask(l.buf)
	}
	if err != nil {
		l.drop(err)
		return nil, err
	}
	r, err := q.Reading(sent, rows)
	if err != nil {
		l.drop(err)
		return nil, err
	}
	r.Settings = l.told
	return r, nil
}

var roundFormats = wire.NewFormats(wire.TextFormat, wire.TextFormat, wire.TextFormat, wire.TextFormat, wire.TextFormat, wire.BinaryFormat)

// take gets a connection and has the statements prepared on it. Where the gateway's own
// schema is missing, or the right to use it, it is looked for again after roundHeld.
func (l *roundLink) take() error {
	if p := l.offered.Load(); p != l.pool {
		l.pool, l.barred = p, time.Time{}
	}
	c, err := l.pool.Acquire(&l.waiter, l.owner, nil, l.pool.Empty(), roundWait)
	if err != nil {
		return fmt.Errorf("cannot get a server connection for a round: %w", err)
	}
	l.conn, l.taken, l.deadline = c, time.Now(), time.Time{}
	_ = c.Net.SetDeadline(l.taken.Add(roundLimit))
	if err := c.Adopt(l.pool.Empty(), roundLimit); err != nil {
		l.drop(err)
		return err
	}
	c.Unnamed = 0
	c.Stream.SetDst(io.Discard)
	barred := l.taken.Sub(l.barred) <= roundHeld
	if !barred {
		var se *pool.ServerError
		if err = l.prepare(1); errors.As(err, &se) {
			l.barred, barred = l.taken, true
		}
	}
	if barred {
		err = l.prepare(0)
	}
	if err != nil {
		l.drop(err)
		return fmt.Errorf("cannot prepare a round: %w", err)
	}
	return nil
}

// prepare pins the settings of a round and prepares what is not prepared yet of glanceID
// and roundIDs[log].
func (l *roundLink) prepare(log int) error {
	c := l.conn
	l.round = roundIDs[log]
	b := wire.AppendParse(nil, "", roundPins, nil)
	b = wire.AppendBind(b, "", "", nil, nil, nil)
	b = wire.AppendExecute(b, "", 0)
	ids, texts := [...]uint64{l.round, glanceID}, [...]string{roundSQL[log], knn.Glance}
	had := [len(ids)]bool{}
	for i, id := range ids {
		if had[i] = c.Has(id); had[i] {
			continue
		}
		if evict, ok := c.Prepared(id); ok {
			b = wire.AppendClose(b, 'S', statementName(evict))
		}
		b = wire.AppendClose(b, 'S', statementName(id)) // of an earlier attempt
		b = wire.AppendParse(b, statementName(id), texts[i], nil)
	}
	_, err := l.ask(wire.AppendSync(b))
	for i, id := range ids {
		if err != nil && !had[i] {
			c.Forget(id)
		}
	}
	return err
}

// ask sends messages and returns the rows of the reply, which are copies.
func (l *roundLink) ask(b []byte) (rows [][][]byte, err error) {
	if _, err := l.conn.Net.Write(b); err != nil {
		return nil, err
	}
	err = l.conn.Take(func(msg byte, body []byte) error {
		if msg == wire.ParameterStatus {
			l.told = true
			return nil
		}
		row, err := wire.ParseDataRow(append([]byte(nil), body...), nil)
		rows = append(rows, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// drop ends the use of the connection after an error.
func (l *roundLink) drop(err error) {
	c := l.conn
	l.conn = nil
	var se *pool.ServerError
	if errors.As(err, &se) {
		c.Once = true // whatever is left on it
		l.pool.Release(c)
		return
	}
	l.pool.Lost(c)
}

// Rest gives the connection back.
func (l *roundLink) Rest() {
	if l.conn == nil {
		return
	}
	_ = l.conn.Net.SetDeadline(time.Now().Add(roundLimit))
	if _, err := l.ask(wire.AppendQuery(nil, roundLeave)); err != nil {
		l.drop(err)
		return
	}
	c := l.conn
	l.conn = nil
	_ = c.Net.SetDeadline(time.Time{})
	l.pool.Release(c)
}
