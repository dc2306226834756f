package gateway

import (
	"strconv"
	"strings"

	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// A prepared statement's result columns are fixed when it is prepared: a client that
// was told them sends Bind and Execute alone and reads the rows by them. The server
// refuses to run a statement whose columns have changed since (0A000). Here a
// statement is prepared again on other connections, later; so its columns are asked
// for with each preparation, and one whose columns differ is refused likewise, and
// no longer shared: a client that prepares its text anew gets a new one.

// errShape is the server's error for such a statement. pgjdbc knows it by the routine.
func errShape() *Error {
	return &Error{
		Code: "0A000", Message: "cached plan must not change result type",
		File: "plancache.c", Routine: "RevalidateCachedQuery",
	}
}

// shapeOf writes the columns of a RowDescription, or of NoData, as the server
// compares them.
func shapeOf(typ byte, body []byte) (string, error) {
	if typ == wire.NoData {
		return "none", nil
	}
	fields, err := wire.ParseRowDescription(body)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(strconv.Quote(f.Name))
		b.WriteString(strconv.FormatUint(uint64(f.TypeOID), 10))
		b.WriteByte(' ')
		b.WriteString(strconv.FormatInt(int64(f.TypMod), 10))
		b.WriteByte(',')
	}
	return b.String(), nil
}

// learnShape compares the columns that a preparation of st gave with those of its
// first. name is that of the client's statement when its own Parse prepared it.
func (s *session) learnShape(st *statement, name string, typ byte, body []byte) error {
	shape, err := shapeOf(typ, body)
	if err != nil {
		return s.serverGone(err)
	}
	if st.shape.CompareAndSwap(nil, &shape) || *st.shape.Load() == shape {
		return nil
	}
	s.srv.stmts.retire(st)
	if name == "" || s.named[name] != st {
		return nil
	}
	// The client has prepared it with the new columns.
	next := s.srv.stmts.get(s.pool, st.bucket, st.plan, st.sql, st.oids, st.key != "")
	next.shape.CompareAndSwap(nil, &shape)
	s.srv.stmts.put(st)
	s.named[name] = next
	return nil
}

// retire ends the sharing of a statement whose columns have changed.
func (t *statements) retire(st *statement) {
	st.retired.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[st.key] == st {
		delete(t.known, st.key)
	}
}

// describeShape has the server describe st, which was just prepared, for learnShape.
func (s *session) describeShape(st *statement, name string) error {
	b := wire.AppendDescribe(s.scratch[:0], 'S', st.name)
	s.scratch = b[:0]
	s.cv.expect(reply{msg: wire.Describe, mode: drop, of: st, name: name})
	if err := s.client.Inject(b); err != nil {
		return s.clientError(err)
	}
	return nil
}

// sameShape waits until it is known that st, which was prepared again, has the
// columns that its clients know.
func (s *session) sameShape(st *statement) error {
	if s.first || st.shape.Load() == nil {
		return nil // nobody was told any (readyOn)
	}
	if err := s.drain(); err != nil {
		return err
	}
	if st.retired.Load() && !s.cv.skip {
		return errShape()
	}
	return nil
}

// readyOn says whether the statements that the client's turn binds need nothing of c
// but to run.
func (s *session) readyOn(c *pool.Conn) bool {
	for _, st := range s.binds {
		if st.retired.Load() || st.shape.Load() != nil && !c.Has(st.id) {
			return false
		}
	}
	return true
}
