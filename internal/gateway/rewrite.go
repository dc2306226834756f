package gateway

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"

	"qvpgw/internal/catalog"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// description is what the server says of an original statement: the types of its
// parameters and the columns of its result, as the client must see them.
type description struct {
	fingerprint string // of the catalog that it was asked under
	params      wire.OIDs
	fields      []wire.Field
	head        []byte // RowDescription of them as text
	// seen is the body of a RowDescription of the same columns.
	seen atomic.Pointer[[]byte]
}

// describes reports whether the body of a RowDescription is of the columns of d.
func (d *description) describes(body []byte) bool {
	if seen := d.seen.Load(); seen != nil && bytes.Equal(*seen, body) {
		return true
	}
	fields, err := wire.ParseRowDescription(body)
	if err != nil || !sameColumns(fields, d.fields) {
		return false
	}
	seen := bytes.Clone(body)
	d.seen.Store(&seen)
	return true
}

// rewrite answers g from a continuous aggregate when the guard proves it equal in
// the snapshot that reads. Everything is sent in one pipeline with one Sync, so that
// the server answers at once, and nothing of the reply goes out before the guard's
// row. When the guard says no, or anything of ours fails before the first row,
// the original is to run: false.
func (s *session) rewrite(g *group) (bool, error) {
	if g.plan.Index != nil {
		return s.buildIndex(g)
	}
	s.interrupted = nil
	sql, copied := g.sql, (*router.CopiedQuery)(nil)
	if g.plan.Aggregates != nil {
		copied = g.plan.Aggregates.Copy
	}
	if copied != nil {
		sql = []byte(copied.Original)
	}
	d, err := s.describe(sql, g.oids)
	if copied != nil && d != nil && err == nil {
		var same *description
		if same, err = s.describe([]byte(copied.Rewritten), nil); same == nil || !sameColumns(same.fields, d.fields) {
			d = nil
		}
	}
	if s.interrupted != nil {
		return true, s.injectError(s.interrupted)
	}
	if d == nil || err != nil || copied != nil && g.extended {
		s.routed(metrics.Pass, router.ReasonNotDescribed, g)
		return false, err
	}
	if reason := s.bound(g, d); reason != "" {
		s.routed(metrics.Pass, reason, g)
		return false, nil
	}
	rw := g.plan.Aggregates
	switch {
	case rw.Float && s.srv.opt.ExactFloats:
		s.routed(metrics.Pass, router.ReasonFloatExact, g)
		return false, nil
	case s.cv.tx == wire.InTx && !rw.HasWithin():
		s.routed(metrics.Pass, router.ReasonNotAlone, g)
		return false, nil
	case s.cv.tx == wire.InTx:
		return s.rewriteWithin(g, d)
	}
	proof, err := s.prepareProof(rw)
	switch {
	case err != nil:
		return false, err
	case s.interrupted != nil:
		return true, s.injectError(s.interrupted)
	case proof == 0:
		s.routed(metrics.Pass, router.ReasonRewriteFailed, g)
		return false, nil
	}
	p, err := s.sendPipeline(g, d, proof)
	if err != nil {
		return false, err
	}
	if err := p.read(s); err != nil {
		return false, err
	}
	return p.conclude(s)
}

// appendStatement appends the messages that run a statement of ours, but no Sync.
func appendStatement(b []byte, sql string) []byte {
	b = wire.AppendParse(b, "", sql, nil)
	b = wire.AppendBind(b, "", "", nil, nil, nil)
	return wire.AppendExecute(b, "", 0)
}

// appendRun appends the messages that run a query in the place of g's, but no Sync. What
// came as a simple Query gets the same rows: all values are text.
func (g *group) appendRun(b []byte, sql string, d *description) []byte {
	if g.extended {
		b = wire.AppendParse(b, "", sql, d.params)
		b = append(wire.AppendBindHead(b, "", "", len(g.bind)), g.bind...)
	} else {
		b = wire.AppendParse(b, "", sql, nil)
		b = wire.AppendBind(b, "", "", nil, nil, nil)
	}
	b = wire.AppendDescribe(b, 'P', "")
	return wire.AppendExecute(b, "", 0)
}

// params are the values that g's Bind gives to the parameters; false when it gives
// another number of them, which the server is to say.
func (g *group) params(d *description) ([]router.Param, bool) {
	// The names are behind us; ParseBind reads them too.
	bind, err := wire.ParseBind(append([]byte{0, 0}, g.bind...), nil)
	if err != nil || len(bind.Params) != d.params.Len() {
		return nil, false
	}
	params := make([]router.Param, len(bind.Params))
	for i, v := range bind.Params {
		params[i] = router.Param{Type: catalog.OID(d.params.At(i)), Binary: bind.ParamFormats.Of(i) == wire.BinaryFormat, Value: v}
	}
	return params, true
}

// noteInterrupt keeps an error that is not ours to hide: a cancel, a timeout, the
// end of the server (class 57).
func (s *session) noteInterrupt(f *wire.ErrorFields) {
	if s.interrupted == nil && strings.HasPrefix(f.Code, "57") {
		s.interrupted = f
	}
}

// injectError ends the client's turn with an error.
func (s *session) injectError(f *wire.ErrorFields) error {
	s.srv.m.Error(f.Code)
	if err := s.conn.Stream.Inject(wire.AppendErrorResponse(nil, f)); err != nil {
		return s.serverError(err)
	}
	return s.injectReady(s.cv.tx)
}

// injectReady ends the client's turn.
func (s *session) injectReady(status wire.TxStatus) error {
	if err := s.conn.Stream.Inject(wire.AppendReadyForQuery(nil, status)); err != nil {
		return s.serverError(err)
	}
	return nil
}

// asks sends the server messages of our own whose replies are read by hand. Until all are
// read, which who reads them notes, a client that goes takes the connection with it: what
// is still to come would be somebody else's.
func (s *session) asks(b []byte) error {
	s.asking = true
	if _, err := s.up.Write(b); err != nil {
		return &wire.WriteError{Err: err}
	}
	return nil
}

// readStatus reads a reply to its end and returns the transaction's status then.
func (s *session) readStatus() (wire.TxStatus, error) {
	st := &s.conn.Stream
	for {
		h, err := st.Next()
		if err != nil {
			return 0, s.serverError(err)
		}
		if h.Type != wire.ReadyForQuery {
			st.Drop()
			continue
		}
		body, err := st.Body(1)
		if err != nil {
			return 0, s.serverError(err)
		}
		status, err := wire.ParseReadyForQuery(body)
		st.Drop()
		return status, err
	}
}

// sameColumns says whether the rewritten result has the original's columns in
// number, type and type modifier; names and origins are the original's anyway.
func sameColumns(a, b []wire.Field) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].TypeOID != b[i].TypeOID || a[i].TypMod != b[i].TypMod {
			return false
		}
	}
	return true
}

// replyHead is what precedes the rows in the reply to g. A COPY says it itself.
func (s *session) replyHead(g *group, d *description) []byte {
	b := []byte{}
	if g.parse {
		b = wire.AppendParseComplete(b)
	}
	if g.extended {
		b = wire.AppendBindComplete(b)
	}
	switch {
	case g.formats.Len() == 0 && (!g.extended || g.describe):
		b = append(b, d.head...)
	case g.describe:
		fields := make([]wire.Field, len(d.fields))
		for i, f := range d.fields {
			f.Format = g.formats.Of(i)
			fields[i] = f
		}
		b = wire.AppendRowDescription(b, fields)
	}
	return b
}

// appendTyped appends what of a text its description depends on: all but the values of
// string literals. Those of numbers have a say: in the type of the number, and as the
// length of a type.
func appendTyped(b, sql []byte, conforming bool) []byte {
	for s := sqltext.NewScanner(sql, conforming); ; {
		t := s.Next()
		switch {
		case t.Kind == sqltext.EOF:
			return b
		case t.Kind == sqltext.String && sql[t.Start] == '\'':
			b = append(b, "''"...)
		default:
			b = append(b, sql[t.Start:t.End]...)
		}
	}
}

// columnsOf returns what is known of a statement with the declared types of its
// parameters, nil if nothing is, and the key and the catalog that it is kept under.
func (s *session) columnsOf(sql []byte, oids wire.OIDs) (d *description, key string, snap *catalog.Snapshot) {
	if snap = s.db.catalog.Load(); snap == nil {
		return nil, "", nil
	}
	k := append(s.scratch[:0], s.bucket.Key()...)
	k = append(append(k, 1), oids...)
	k = appendTyped(k, sql, s.context().ConformingStrings)
	s.scratch, key = k[:0], string(k)
	if d, ok := s.db.described(key); ok && d.fingerprint == snap.Fingerprint {
		return d, key, snap
	}
	return nil, key, snap
}

// describe returns the description of a statement with the declared types of its
// parameters, asking the server when it is not known. Nil: the server cannot parse
// it, or it gives no rows.
func (s *session) describe(sql []byte, oids wire.OIDs) (*description, error) {
	known, key, snap := s.columnsOf(sql, oids)
	if known != nil || snap == nil {
		return known, nil
	}
	within := s.cv.tx == wire.InTx
	b := s.scratch[:0]
	if within {
		b = wire.AppendQuery(b, beginWithin)
	}
	b = wire.AppendParse(b, "", sql, oids)
	b = wire.AppendDescribe(b, 'S', "")
	b = wire.AppendSync(b)
	if within {
		b = wire.AppendQuery(b, undoWithin)
	}
	s.scratch = b[:0]
	if err := s.asks(b); err != nil {
		return nil, s.clientError(err)
	}
	s.conn.Unnamed = 0
	if within {
		if status, err := s.readStatus(); err != nil || status != wire.InTx {
			return nil, s.lostWithin(err)
		}
	}
	st := &s.conn.Stream
	d := &description{fingerprint: snap.Fingerprint}
	failed := false
	for {
		h, err := st.Next()
		if err != nil {
			return nil, s.serverError(err)
		}
		switch h.Type {
		case wire.ParameterDescription, wire.RowDescription:
			body, err := st.Body(wire.MaxMessage)
			if err != nil {
				return nil, s.serverError(err)
			}
			if h.Type == wire.RowDescription {
				d.fields, err = wire.ParseRowDescription(body)
			} else {
				var oids wire.OIDs
				oids, err = wire.ParseParameterDescription(body)
				d.params = append(d.params, oids...)
			}
			if err != nil {
				return nil, s.serverGone(err)
			}
		case wire.ErrorResponse:
			body, err := st.Body(wire.MaxMessage)
			if err != nil {
				return nil, s.serverError(err)
			}
			if f, err := wire.ParseErrorFields(body); err == nil {
				s.noteInterrupt(f)
			}
			failed = true
		}
		st.Drop()
		if h.Type == wire.ReadyForQuery {
			break
		}
	}
	if within {
		if status, err := s.readStatus(); err != nil || status != wire.InTx {
			return nil, s.lostWithin(err)
		}
	}
	s.asking = false
	if failed || d.fields == nil {
		return nil, nil
	}
	d.head = wire.AppendRowDescription(nil, d.fields)
	s.db.keepDescription(key, d)
	return d, nil
}

// controlError says what a failed statement of our own means to the client: one
// that was cancelled answers the client's, after another error of the server the
// original is to run, after anything else the connection is lost.
func (s *session) controlError(err error) (bool, error) {
	var se *pool.ServerError
	if !errors.As(err, &se) {
		return false, s.serverGone(err)
	}
	if strings.HasPrefix(se.Fields.Code, "57") {
		return true, s.injectError(se.Fields)
	}
	return false, nil
}
