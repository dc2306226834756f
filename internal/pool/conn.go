package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/netloop"
	"qvpgw/internal/wire"
)

// maxStatements bounds the prepared statements kept on one server connection;
// the least recently used is closed when one more is prepared.
const maxStatements = 256

// Conn is one server connection. All fields but state belong to the holder.
type Conn struct {
	Stream wire.Stream // reads from the server; its destination is the holder's
	Net    net.Conn
	Loop   *netloop.Conn // the socket, nil when it is not one of the loops'

	PID    uint32
	Params map[string]string // reported parameters as last seen
	Login  Login             // how it logged in
	Era    uint32            // Pool.Era of the defaults that it began with

	Bucket *Bucket // settings in force; nil: unknown, the connection must be reset
	Dirty  bool    // session state that is not followed: reset before anybody else
	// Once: it serves one holder and is closed when that releases it.
	Once bool
	// Notices are what the server said during the login, as a login trigger's do.
	Notices []*pgconn.Notice

	// Own are the statements that are prepared here under the names by which the
	// holder OwnOf knows them, with their ids.
	Own   map[string]uint64
	OwnOf uint64

	// Unnamed is the id of what was parsed last as the unnamed statement; 0: none.
	Unnamed uint64
	// Client is the number by which clients know its last holder, 0 before the first.
	// Any goroutine may read it.
	Client atomic.Uint32

	// Heard are the notifications, as messages, that came while Collect read.
	Heard []byte

	// SequenceOwner is the holder whose values of sequences the session has; 0: nobody's.
	SequenceOwner uint64

	pool       *Pool
	server     *pgconn.Config // that it was dialled with
	host       string         // of Options.Server, host:port
	address    string         // of the server, "" over a Unix socket
	standby    bool           // what the server was at the login
	temp       string         // oid of its temporary schema as the last reset found it
	doubtful   bool           // see Doubt
	kept       bool           // see Hold; under the pool's mu
	retired    bool           // to be closed when it is free; under the pool's mu
	share      float64        // of Options.Lifetime that it lives
	key        []byte
	statements *simplelru.LRU[uint64, struct{}]
	evicted    []uint64
	created    time.Time
	idleSince  time.Time
	grants     int       // how often it was given to a holder
	failed     bool      // answered an error since it was acquired: look whether it lives
	where      int       // index in the pool's idle list, -1 when not idle; under the pool's mu
	seen       uint64    // its holder when the janitor looked last, 0: it was free; under the pool's mu
	seenSince  time.Time // since which look that is its holder; likewise

	// state is owner<<16 | cancelSeen<<15 | cancels in flight: who holds the
	// connection and whether a cancel was sent for it meanwhile (trap T10).
	state atomic.Uint64
}

const cancelSeen = 1 << 15

// Has says whether the statement of that id is prepared here, and makes it the
// most recently used.
func (c *Conn) Has(id uint64) bool {
	_, ok := c.statements.Get(id)
	return ok
}

// Shared is how many statements are prepared here that Has knows.
func (c *Conn) Shared() int { return c.statements.Len() }

// Prepared records that the statement of that id was sent for preparation. It
// returns the id of a statement that must be closed for it, if any.
func (c *Conn) Prepared(id uint64) (evict uint64, ok bool) {
	c.statements.Add(id, struct{}{})
	if n := len(c.evicted); n > 0 {
		evict, c.evicted = c.evicted[n-1], c.evicted[:n-1]
		return evict, true
	}
	return 0, false
}

// Forget records that the statement of that id is not prepared here.
func (c *Conn) Forget(id uint64) {
	c.statements.Remove(id)
	c.evicted = c.evicted[:0]
}

// ForgetAll records that the server dropped all prepared statements.
func (c *Conn) ForgetAll() {
	clear(c.Own)
	c.ForgetShared()
	c.Unnamed = 0
}

// ForgetShared records that the server dropped the prepared statements that Has knows.
func (c *Conn) ForgetShared() {
	c.statements.Purge()
	c.evicted = c.evicted[:0]
}

// Watch has h told when the server says something, and says whether whoever reads
// and writes from now on blocks. The connection must be one of the loops' or
// blocking must be true.
func (c *Conn) Watch(h *netloop.Handler, blocking bool) {
	if c.Loop != nil {
		c.Loop.SetBlocking(blocking)
		c.Loop.Watch(h)
	}
}

// Failed notes that the server answered an error; the connection is looked at
// before it is used again, since a server that ends a session says so first.
func (c *Conn) Failed() { c.failed = true }

// Cancelled says whether a cancel was sent for the connection's holder.
func (c *Conn) Cancelled() bool { return c.state.Load()&cancelSeen != 0 }

// BeginCancel marks the connection for a cancel on behalf of owner. It says
// false, and does nothing, when owner no longer holds it.
func (c *Conn) BeginCancel(owner uint64) bool {
	for {
		st := c.state.Load()
		if st>>16 != owner || st&(cancelSeen-1) == cancelSeen-1 {
			return false
		}
		if c.state.CompareAndSwap(st, (st|cancelSeen)+1) {
			return true
		}
	}
}

// Cancel sends the cancel that BeginCancel announced and waits until the server
// has closed its socket, so that the signal is on its way.
func (c *Conn) Cancel(ctx context.Context) error {
	defer c.state.Add(^uint64(0))
	addr := c.Net.RemoteAddr()
	if addr == nil {
		return errors.New("cannot cancel: the server connection is closed")
	}
	n, err := dialCancel(ctx, c.server, addr)
	if err != nil {
		return fmt.Errorf("cannot cancel on %s: %w", addr, err)
	}
	defer n.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = n.SetDeadline(d)
	}
	if _, err := n.Write(wire.AppendCancelRequest(nil, c.PID, c.key)); err != nil {
		return fmt.Errorf("cannot cancel on %s: %w", addr, err)
	}
	_, _ = io.Copy(io.Discard, n)
	return nil
}

// maxHeard bounds Conn.Heard, in bytes.
const maxHeard = 1 << 20

// ServerError is an ErrorResponse that answered a statement of our own.
type ServerError struct{ Fields *wire.ErrorFields }

func (e *ServerError) Error() string {
	return fmt.Sprintf("%s (SQLSTATE %s)", e.Fields.Message, e.Fields.Code)
}

// SQLState is the error's code.
func (e *ServerError) SQLState() string { return e.Fields.Code }

// Query runs sql by the simple protocol and returns the rows of all its results
// as text, NULL as nil. The connection must be between two turns. After a
// ServerError it is usable; after any other error it is not.
func (c *Conn) Query(sql string, timeout time.Duration) ([][]*string, error) {
	if timeout > 0 {
		_ = c.Net.SetDeadline(time.Now().Add(timeout))
		defer c.Net.SetDeadline(time.Time{})
	}
	c.Unnamed = 0 // a simple query drops the unnamed statement
	c.Stream.SetDst(io.Discard)
	if _, err := c.Net.Write(wire.AppendQuery(nil, sql)); err != nil {
		return nil, err
	}
	return c.Collect()
}

// Collect reads a reply up to ReadyForQuery and returns its rows; a *ServerError if the
// server sent one.
func (c *Conn) Collect() (rows [][]*string, err error) {
	err = c.Take(func(msg byte, body []byte) error {
		if msg != wire.DataRow {
			return nil
		}
		row, err := textRow(body)
		rows = append(rows, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// Take reads a reply up to ReadyForQuery and hands over the bodies of its DataRows and
// ParameterStatuses, which are valid during the call; a *ServerError if the server sent
// one.
func (c *Conn) Take(part func(msg byte, body []byte) error) error {
	var failed error
	for {
		h, err := c.Stream.Next()
		if err != nil {
			return err
		}
		switch h.Type {
		case wire.DataRow, wire.ErrorResponse, wire.ParameterStatus, wire.NotificationResponse:
			body, err := c.Stream.Body(wire.MaxMessage)
			if err != nil {
				return err
			}
			switch h.Type {
			case wire.NotificationResponse:
				if len(c.Heard) < maxHeard {
					c.Heard = append(c.Heard, c.Stream.Message()...)
				}
			case wire.ErrorResponse:
				f, err := wire.ParseErrorFields(body)
				if err != nil {
					return err
				}
				failed = &ServerError{f}
			case wire.ParameterStatus:
				err = c.NoteParam(body)
				fallthrough
			default:
				if err == nil {
					err = part(h.Type, body)
				}
				if err != nil {
					return err
				}
			}
		}
		c.Stream.Drop()
		if h.Type == wire.ReadyForQuery {
			return failed
		}
	}
}

// NoteParam keeps a ParameterStatus.
func (c *Conn) NoteParam(body []byte) error {
	name, value, err := wire.ParseParameterStatus(body)
	if err != nil {
		return err
	}
	c.Params[string(name)] = string(value)
	return nil
}

func textRow(body []byte) ([]*string, error) {
	vals, err := wire.ParseDataRow(body, nil)
	if err != nil {
		return nil, err
	}
	row := make([]*string, len(vals))
	for i, v := range vals {
		if v != nil {
			s := string(v)
			row[i] = &s
		}
	}
	return row, nil
}

// Switch brings the settings of to into force. A ServerError means that the
// server refused one of them; none was changed then.
func (c *Conn) Switch(to *Bucket, timeout time.Duration) error {
	if Same(c.Bucket, to) {
		c.Bucket = to
		return nil
	}
	if sql := Switch(c.Bucket, to); len(sql) > 0 {
		// One simple query is one implicit transaction: all or none.
		if _, err := c.Query(strings.Join(sql, ";"), timeout); err != nil {
			return err
		}
	}
	c.Bucket = to
	return nil
}

// Adopt is Switch for who was given the connection a moment ago. Where the server
// refuses, that may be for what the holder before left, so that goes first, with all
// else of its session: a ServerError is about the settings of to.
func (c *Conn) Adopt(to *Bucket, timeout time.Duration) error {
	err := c.Switch(to, timeout)
	if err == nil {
		return nil
	}
	var se *ServerError
	if !errors.As(err, &se) || Same(c.Bucket, c.pool.buckets.empty) {
		return err
	}
	if err := c.reset(timeout); err != nil {
		return fmt.Errorf("cannot undo the settings of another session: %v", err)
	}
	return c.Switch(to, timeout)
}
