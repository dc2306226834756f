package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// client is one of the clients: it knows what it may get next and reports
// everything else.
type client struct {
	r   *torture
	n   int
	rng *rand.Rand

	conn  net.Conn
	front *counted
	pid   uint32
	key   []byte
	tx    byte // of the last ReadyForQuery
	seq   int64
	named map[string]*shared

	settings map[string]string // what SHOW must say; nothing: not known
	pending  map[string]string // of the open transaction
	params   map[string]string // as reported
	rows     map[int64]bool    // what torture_rows must have or must not

	own       map[string]string // what current_setting says of the custom settings; "": not known
	sequence  map[string]string // newest value of each sequence, as this client got it
	listening bool              // to its own channel
	listened  bool              // some time on this connection
	heard     string            // payload of the newest notification

	answered   int64        // groups whose ReadyForQuery was read, on this connection
	cancelling atomic.Int64 // cancels under way
	cancelEnd  atomic.Int64 // groups that had been sent at the end of the last one
}

// counted is a connection's sending side. It counts the groups of messages that
// end in one ReadyForQuery, and writes them byte by byte when it is told to.
type counted struct {
	*pgproto3.Frontend
	sent    atomic.Int64 // groups that were begun
	flushed bool         // the last one was, by a Flush
}

func (f *counted) Send(m pgproto3.FrontendMessage) {
	switch m.(type) {
	case *pgproto3.Query:
		f.sent.Add(1)
	case *pgproto3.Flush:
		if !f.flushed {
			f.sent.Add(1)
		}
		f.flushed = true
	case *pgproto3.Sync:
		if !f.flushed {
			f.sent.Add(1)
		}
		f.flushed = false
	}
	f.Frontend.Send(m)
}

// byteWriter writes one byte at a time while it is slow.
type byteWriter struct {
	net.Conn
	slow bool
}

func (w *byteWriter) Write(b []byte) (n int, err error) {
	if !w.slow || len(b) > 1000 {
		return w.Conn.Write(b)
	}
	for n < len(b) && err == nil {
		_, err = w.Conn.Write(b[n : n+1])
		n++
	}
	return n, err
}

// shared is a named prepared statement; many clients prepare the same texts.
type shared struct {
	text   string
	number int    // among texts
	suffix string // of its row, when it was prepared
}

// want is what its execution must answer. PostgreSQL itself reads a statement again,
// with the settings of that moment, when the meaning of its search path changes (with
// the first temporary table of a session, whosever): either reading is right.
func (s *shared) want(c *client, tag string) want {
	w := one(tag + "-" + s.suffix)
	w.also = tag + "-" + c.suffix(s.number)
	return w
}

// Errors that end a connection. The client then makes another.
var (
	errLost   = errors.New("the connection is lost")
	errAstray = errors.New("the conversation went astray")
)

func newClient(r *torture, n int) *client {
	return &client{r: r, n: n, rng: newRand(n), rows: map[int64]bool{}}
}

// tag is new for each use and names the client.
func (c *client) tag() string {
	c.seq++
	return fmt.Sprintf("q%dx%dz", c.n, c.seq)
}

// mine says whether a text carries one of this client's tags and nobody else's.
func (c *client) mine(text string) bool { return strings.Contains(text, fmt.Sprintf("q%dx", c.n)) }

// connect logs in. Half of the clients bring a setting of their own.
func (c *client) connect() error {
	conn, err := net.Dial("tcp", c.r.addr)
	if err != nil {
		return err
	}
	c.conn, c.front = conn, &counted{Frontend: pgproto3.NewFrontend(conn, &byteWriter{conn, c.rng.IntN(20) == 0})}
	c.params, c.tx, c.answered = map[string]string{}, 'I', 0
	c.cancelEnd.Store(0)
	c.fresh()
	start := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": "postgres", "database": databaseOf(c.r.direct),
	}}
	if name := c.settings["application_name"]; name != "" {
		start.Parameters["application_name"] = name
	}
	c.front.Send(start)
	if err := c.flush(); err != nil {
		return err
	}
	for {
		m, err := c.next()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.AuthenticationOk:
		case *pgproto3.BackendKeyData:
			c.pid, c.key = m.ProcessID, slices.Clone(m.SecretKey)
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("login refused: %s %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			c.answered = 0 // the login's does not count
			c.listened = false
			return nil
		default:
			return fmt.Errorf("unexpected %T at login", m)
		}
	}
}

// fresh makes the client know its session for a new one.
func (c *client) fresh() {
	c.named, c.own, c.sequence, c.listening = map[string]*shared{}, map[string]string{}, map[string]string{}, false
	c.settings = map[string]string{"application_name": "", "statement_timeout": "0", "DateStyle": "ISO, MDY"}
	c.pending = nil
	if c.n%2 == 0 {
		c.settings["application_name"] = fmt.Sprintf("q%dxapp", c.n)
	}
}

func databaseOf(dsn string) string {
	_, path, _ := strings.Cut(strings.TrimPrefix(dsn, "postgres://"), "/")
	name, _, _ := strings.Cut(path, "?")
	return name
}

// reconnect makes a connection, for as long as it takes.
func (c *client) reconnect() bool {
	for attempt := range 50 {
		err := c.connect()
		if err == nil {
			return true
		}
		c.conn.Close()
		if c.r.broken && c.r.finished() {
			return false
		}
		if attempt > 3 && !c.r.broken {
			c.r.Errorf("client %d cannot connect: %v", c.n, err)
		}
		time.Sleep(time.Duration(attempt) * 5 * time.Millisecond)
	}
	c.r.Errorf("client %d cannot connect", c.n)
	return false
}

func (c *client) flush() error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.r.patience))
	if err := c.front.Flush(); err != nil {
		return c.gone(err)
	}
	return nil
}

// gone handles the end of the connection that this client did not bring about.
func (c *client) gone(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.r.stuck.Add(1)
		if !c.r.broken {
			c.r.Errorf("client %d: no answer within %v", c.n, c.r.patience)
		}
		return errLost
	}
	c.lose("%v", err)
	return errLost
}

// deafen counts a connection that was lost because the one on which the gateway
// listens for all clients was: one kill ends all that listen, and nobody else.
func (c *client) deafen() {
	c.r.deaf.Add(1)
	c.r.losses.add("client %d listened", c.n)
	if !c.listened {
		c.r.foreigner("client %d is told that nobody listens for it, and never listened", c.n)
	}
}

// lose counts a connection that this client lost.
func (c *client) lose(format string, args ...any) {
	c.r.lost.Add(1)
	c.r.losses.add("client %d, %s: %s", c.n, c.conn.LocalAddr(), fmt.Sprintf(format, args...))
}

// next returns the next message that answers something; what comes beside it is
// looked at here.
func (c *client) next() (pgproto3.BackendMessage, error) {
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.r.patience))
		m, err := c.front.Receive()
		if err != nil {
			var ne net.Error
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &ne) {
				c.r.foreigner("client %d: %v", c.n, err)
				return nil, errAstray
			}
			return nil, c.gone(err)
		}
		switch m := m.(type) {
		case *pgproto3.NoticeResponse:
			if c.tx == 'I' && m.Code == "25P01" {
				continue // ROLLBACK without a transaction
			}
			if !c.mine(m.Message) && m.Message != "you don't own a lock of type ExclusiveLock" {
				c.r.foreigner("client %d: notice %s %s", c.n, m.Code, m.Message)
			}
		case *pgproto3.ParameterStatus:
			if m.Name == "application_name" && m.Value != "" && !c.mine(m.Value) {
				c.r.leak("client %d: application_name %s", c.n, m.Value)
			}
			c.params[m.Name] = m.Value
		case *pgproto3.NotificationResponse:
			if !c.listening || m.Channel != c.channel() || !c.mine(m.Payload) {
				c.r.foreigner("client %d: notification %s %s, listening is %v", c.n, m.Channel, m.Payload, c.listening)
			}
			c.heard = m.Payload
		case *pgproto3.ReadyForQuery:
			c.answered++
			return m, nil
		case *pgproto3.ErrorResponse:
			if m.Severity != "FATAL" {
				return m, nil
			}
			if m.Message == "terminating connection because the server connection that listens was lost" {
				c.deafen()
				return nil, errLost
			}
			c.lose("%s %s", m.Code, m.Message)
			if m.Code != "57P01" && m.Code != "08006" {
				c.r.foreigner("client %d: FATAL %s %s", c.n, m.Code, m.Message)
			}
			return nil, errLost
		default:
			return m, nil
		}
	}
}

// want is what one statement must answer.
type want struct {
	rows   int
	row    func(i int, v [][]byte) bool // nil: one column with exactly tag
	tag    string
	also   string // or this, if not empty
	code   string // SQLSTATE of the error that it gives instead
	text   string // what the error's message has
	may    string // SQLSTATE of an error that it may give as well
	first  bool   // it opens a COPY IN, which is left to the caller
	silent int    // messages beside rows and completion: ParseComplete and the like
	empty  bool   // no statement, only what silent counts
}

func one(tag string) want { return want{rows: 1, tag: tag} }

// command is a statement without rows.
func command() want { return want{} }

func failing(code, text string) want { return want{code: code, text: text} }

// outcome is what became of a group of statements.
type outcome struct {
	failed    bool // one of them gave an error
	cancelled bool // that nobody but a cancel of this client's explains
}

// read reads the answers to one simple query, or to one extended group up to its
// Sync.
func (c *client) read(wants ...want) (o outcome, err error) {
	i, rows, silent := 0, 0, 0
	astray := func(format string, args ...any) error {
		c.r.foreigner("client %d, statement %d of %d: "+format, append([]any{c.n, i, len(wants)}, args...)...)
		return errAstray
	}
	for {
		m, err := c.next()
		if err != nil {
			return o, err
		}
		var w want
		if i < len(wants) {
			w = wants[i]
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			ok := i < len(wants) && !o.failed && rows < w.rows
			switch {
			case !ok:
			case w.row != nil:
				ok = w.row(rows, m.Values)
			default:
				ok = len(m.Values) == 1 && (string(m.Values[0]) == w.tag || w.also != "" && string(m.Values[0]) == w.also)
			}
			if !ok {
				return o, astray("row %d is %.60q, wanted the tag %q", rows, m.Values, w.tag)
			}
			rows++
		case *pgproto3.PortalSuspended:
			if o.failed || rows != w.rows || rows == 0 {
				return o, astray("suspended after %d rows, wanted %d", rows, w.rows)
			}
			i++
			rows = 0
		case *pgproto3.CommandComplete:
			if i >= len(wants) || o.failed || w.code != "" || rows != w.rows {
				return o, astray("%s after %d rows, wanted %d, error %q", m.CommandTag, rows, w.rows, w.code)
			}
			c.r.queries.Add(1)
			i++
			rows = 0
		case *pgproto3.ErrorResponse:
			c.r.queries.Add(1)
			switch {
			case !o.failed && w.may != "" && m.Code == w.may:
			case !o.failed && w.code != "" && m.Code == w.code && strings.Contains(m.Message, w.text):
			case m.Code == "57014" && !strings.HasPrefix(m.Message, "COPY") && c.mayBeCancelled():
				o.cancelled = true
			case m.Code == "57014" && !strings.HasPrefix(m.Message, "COPY"):
				c.r.cancelledForeign("client %d, group %d of %d, cancelled up to %d: %s %s", c.n, c.answered, c.front.sent.Load(), c.cancelEnd.Load(), m.Message, m.Detail)
				o.cancelled = true
			default:
				return o, astray("error %s %s, wanted %q %q", m.Code, m.Message, w.code, w.text)
			}
			o.failed = true
			if w.first && w.silent > 0 {
				return o, nil // the Sync is to come
			}
		case *pgproto3.ParseComplete, *pgproto3.BindComplete, *pgproto3.CloseComplete, *pgproto3.NoData, *pgproto3.ParameterDescription:
			silent++
		case *pgproto3.RowDescription:
		case *pgproto3.CopyInResponse:
			if !w.first {
				return o, astray("unexpected CopyInResponse")
			}
			return o, nil
		case *pgproto3.CopyOutResponse, *pgproto3.CopyDone:
			if w.row == nil {
				return o, astray("unexpected %T", m)
			}
		case *pgproto3.CopyData:
			if i >= len(wants) || o.failed || w.row == nil || rows >= w.rows || !w.row(rows, [][]byte{m.Data}) {
				return o, astray("unexpected CopyData %.60q", m.Data)
			}
			rows++
		case *pgproto3.ReadyForQuery:
			expected := 0
			for i < len(wants) && wants[i].empty {
				i++
			}
			for _, w := range wants {
				expected += w.silent
			}
			if w.code != "" && !o.failed {
				return o, astray("ready without the error %s", w.code)
			}
			if !o.failed && (i != len(wants) || silent != expected) {
				return o, astray("ready after %d statements and %d of %d messages beside them", i, silent, expected)
			}
			c.tx = m.TxStatus
			return o, nil
		default:
			return o, astray("unexpected %T", m)
		}
	}
}

// mayBeCancelled says whether a cancel of this client's may reach what it runs: it
// is under way, or the group had been sent when it was done.
func (c *client) mayBeCancelled() bool {
	return c.cancelling.Load() > 0 || c.answered < c.cancelEnd.Load()
}

// query sends a simple query and reads its answers.
func (c *client) query(sql string, wants ...want) (outcome, error) {
	c.front.Send(&pgproto3.Query{String: sql})
	if err := c.flush(); err != nil {
		return outcome{}, err
	}
	return c.read(wants...)
}

// rollback ends whatever transaction is open; a cancel may hit it too.
func (c *client) rollback() error {
	c.pending = nil
	for range 10 {
		if c.tx == 'I' {
			return nil
		}
		if _, err := c.query("ROLLBACK", command()); err != nil {
			return err
		}
	}
	return fmt.Errorf("client %d cannot roll back", c.n)
}

// cancel sends a cancel request after a while, in the background.
func (c *client) cancel(after time.Duration) {
	pid, key, front := c.pid, c.key, c.front
	c.cancelling.Add(1)
	c.r.cancels.Go(func() {
		defer func() {
			c.cancelEnd.Store(front.sent.Load()) // of a connection that is gone, at worst too many
			c.cancelling.Add(-1)
		}()
		time.Sleep(after)
		conn, err := net.Dial("tcp", c.r.addr)
		if err != nil {
			c.r.Errorf("cannot connect for a cancel: %v", err)
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		b := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
		b = binary.BigEndian.AppendUint32(b, 80877102)
		b = binary.BigEndian.AppendUint32(b, pid)
		if _, err := conn.Write(append(b, key...)); err != nil {
			c.r.Errorf("cannot send a cancel: %v", err)
			return
		}
		_, _ = io.Copy(io.Discard, conn) // closed when the cancel is on its way
	})
}

// hangUp closes the connection, by half of the chances with a reset.
func (c *client) hangUp() error {
	if c.rng.IntN(2) == 0 {
		_ = c.conn.(*net.TCPConn).SetLinger(0)
	}
	c.conn.Close()
	return errLost
}

// settled makes the transaction's settings count.
func (c *client) settled() {
	maps.Copy(c.settings, c.pending)
	c.pending = nil
}

// work runs turns until the torture is over.
func (c *client) work() {
	if !c.reconnect() {
		return
	}
	for !c.r.finished() {
		if err := c.turn(); err != nil {
			if !errors.Is(err, errLost) && !errors.Is(err, errAstray) {
				c.r.Errorf("client %d: %v", c.n, err)
			}
			c.conn.Close()
			if !c.reconnect() {
				return
			}
		}
	}
	c.front.Send(&pgproto3.Terminate{})
	_ = c.front.Flush() // the torture is over
	c.conn.Close()
}
