package gateway

import (
	"bytes"
	"errors"
	"time"

	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// A cursor has one snapshot for all of its rows, and nobody can ask a proof in it but
// the cursor: it reads the query that carries the whole proof (rewriteWithin), and a
// row of it says that the proof held. So the row is fetched at once, and the cursor
// set back before it. Locks come first: unlike a statement's own, a cursor's snapshot
// is older than its plan (trap T3).

// cursor is one of the open transaction that reads an aggregate.
type cursor struct {
	read     []wire.Field // its columns, as the server describes them
	original []wire.Field // as it would describe the original's
}

// declared is what became of a DECLARE.
type declared struct {
	began bool // the BEGIN before it was sent
	done  bool // the cursor reads an aggregate
	// failed ends the turn in its place: a cancel, a timeout.
	failed *wire.ErrorFields
}

// declare opens the cursor of g over an aggregate, in the client's transaction or in
// the one that its text begins, if the proof holds in the cursor's snapshot.
func (s *session) declare(g *group) (out declared, err error) {
	c := g.plan.Cursor
	s.interrupted = nil
	if (s.cv.tx == wire.Idle) != (c.Begin != "") {
		s.routed(metrics.Pass, router.ReasonNotAlone, g)
		return out, nil
	}
	d, err := s.describe([]byte(c.Query), g.oids)
	if err != nil || d == nil {
		return s.undeclared(g, router.ReasonNotDescribed, err)
	}
	if reason := s.bound(g, d); reason != "" {
		return s.undeclared(g, reason, nil)
	}
	rw := g.plan.Aggregates
	if rw.Float && s.srv.opt.ExactFloats {
		return s.undeclared(g, router.ReasonFloatExact, nil)
	}
	read, err := s.describe([]byte(rw.Cursor.Read), d.params)
	if err != nil || read == nil || !sameColumns(read.fields, d.fields) {
		return s.undeclared(g, router.ReasonNotDescribed, err)
	}
	if c.Begin != "" {
		if err := s.asks(wire.AppendQuery(s.scratch[:0], string(g.sql[:c.Declare]))); err != nil {
			return out, s.clientError(err)
		}
		if status, err := s.readStatus(); err != nil || status != wire.InTx {
			return out, s.lostWithin(err)
		}
		s.cv.tx, out.began, s.asking = wire.InTx, true, false
	}
	proven, err := s.probe(g, d)
	if err != nil {
		return out, err
	}
	if s.interrupted != nil {
		s.cv.tx, out.failed = wire.FailedTx, s.interrupted
		return out, nil
	}
	end := undoWithin
	if proven == guardYes {
		end = endWithin
	}
	if err := s.asks(wire.AppendQuery(s.scratch[:0], end)); err != nil {
		return out, s.clientError(err)
	}
	if status, err := s.readStatus(); err != nil || status != wire.InTx {
		return out, s.lostWithin(err)
	}
	s.asking = false
	switch proven {
	case guardYes:
		out.done = true
		if s.cursors == nil {
			s.cursors = map[string]cursor{}
		}
		s.cursors[c.Name] = cursor{read: read.fields, original: d.fields}
		s.srv.m.Rewrites[metrics.Routed].Inc()
		if rw.Float {
			s.srv.m.Reassociated.Inc()
		}
		s.routed(metrics.Rewrite, g.plan.Reason, g)
	case guardNo:
		s.srv.m.Rewrites[metrics.GuardRefused].Inc()
		s.routed(metrics.Pass, router.ReasonNotFresh, g)
		s.db.refused()
	default:
		s.srv.m.Rewrites[metrics.FellBack].Inc()
		s.routed(metrics.Pass, router.ReasonRewriteFailed, g)
		s.db.refused()
	}
	return out, nil
}

// undeclared is the end of declare before anything of the client's was sent.
func (s *session) undeclared(g *group, reason router.Reason, err error) (declared, error) {
	if err == nil && s.interrupted == nil {
		s.routed(metrics.Pass, reason, g)
	}
	return declared{failed: s.interrupted}, err
}

// bound plans g for the values of its parameters where that was left to Bind; it
// returns why no aggregate answers, "" when one does.
func (s *session) bound(g *group, d *description) router.Reason {
	if !g.plan.AtBind {
		return ""
	}
	params, ok := g.params(d)
	if !ok {
		return router.ReasonAggTimeParameter
	}
	bound := s.db.router.Bound(s.context(), g.sql, params)
	if bound.Aggregates == nil {
		return bound.Reason
	}
	g.plan = bound
	return ""
}

// probe opens the cursor inside a savepoint and says whether the proof held in it.
func (s *session) probe(g *group, d *description) (guardAnswer, error) {
	rw := g.plan.Aggregates
	s.conn.Unnamed = 0
	b := wire.AppendQuery(s.scratch[:0], beginWithin+"; "+rw.Lock)
	b = wire.AppendSync(g.appendRun(b, rw.SQL, d))
	b = wire.AppendQuery(b, rw.Cursor.Probe)
	s.scratch = b[:0]
	if err := s.asks(b); err != nil {
		return guardError, s.clientError(err)
	}
	answer := guardYes
	var rows [][]*string
	for range 3 {
		var err error
		rows, err = s.conn.Collect()
		var se *pool.ServerError
		switch {
		case errors.As(err, &se):
			s.noteInterrupt(se.Fields)
			s.conn.Failed()
			answer = guardError
		case err != nil:
			return guardError, s.serverError(err)
		}
	}
	s.asking = false
	if answer == guardYes && len(rows) == 0 {
		answer = guardNo
	}
	return answer, nil
}

// declareGroup answers a DECLARE that came by the extended protocol.
func (s *session) declareGroup(g *group) (bool, error) {
	out, err := s.declare(g)
	switch {
	case err != nil:
		return false, err
	case out.failed != nil:
		return true, s.injectError(out.failed)
	case !out.done:
		return false, nil
	}
	b := []byte{}
	if g.parse {
		b = wire.AppendParseComplete(b)
	}
	b = wire.AppendBindComplete(b)
	if g.describe {
		b = wire.AppendNoData(b)
	}
	return true, s.injectEnd(wire.AppendCommandComplete(b, "DECLARE CURSOR"))
}

// injectEnd sends the client the rest of the answer to its turn in a transaction.
func (s *session) injectEnd(b []byte) error {
	if err := s.conn.Stream.Inject(b); err != nil {
		return s.serverError(err)
	}
	return s.injectReady(s.cv.tx)
}

// declareQuery answers a simple query that declares a cursor: BEGIN, DECLARE, FETCH.
// What was not answered is sent as the same text with blanks in the place of what was,
// so that errors tell the same positions.
func (s *session) declareQuery(m *message, plan *router.Plan, sql []byte) error {
	// The text outlives the message: it is looked at after the answer is decided.
	s.scratch2 = append(s.scratch2[:0], sql...)
	g := &group{plan: plan, sql: s.scratch2, began: time.Now()}
	if err := s.attach(); err != nil {
		return s.passQuery(m, plan, g.sql) // it meets the same error and reports it
	}
	out, err := s.declare(g)
	if err != nil {
		return err
	}
	if !out.began && !out.done && out.failed == nil {
		return s.passQuery(m, plan, g.sql)
	}
	var b []byte
	did, rest := int32(0), 0
	if out.began {
		b, did, rest = wire.AppendCommandComplete(b, plan.Cursor.Begin), 1, plan.Cursor.Declare
	}
	if out.done {
		b, did, rest = wire.AppendCommandComplete(b, "DECLARE CURSOR"), did+1, plan.Cursor.Rest
	}
	s.unnamed.id = 0
	switch {
	case out.failed != nil:
		s.leave(m)
		s.srv.m.Error(out.failed.Code)
		return s.injectEnd(wire.AppendErrorResponse(b, out.failed))
	case rest == 0:
		s.leave(m)
		return s.injectEnd(b)
	}
	if err := s.conn.Stream.Inject(b); err != nil {
		return s.serverError(err)
	}
	if err := s.mark(plan, g.sql); err != nil {
		return err
	}
	s.conn.Unnamed = 0
	s.cv.expect(reply{msg: wire.Query, plan: effects(plan), n: did, began: did > 0})
	text := append(bytes.Repeat([]byte{' '}, rest), g.sql[rest:]...)
	s.replaceAll(m, wire.AppendQuery(nil, string(text)))
	return nil
}

// fetches says whether a plan is of a FETCH from a cursor that reads an aggregate.
func (s *session) fetches(plan *router.Plan) bool {
	if len(s.cursors) == 0 || plan == nil || len(plan.Statements) != 1 {
		return false
	}
	_, ok := s.cursors[plan.Statements[0].Name]
	return ok && plan.Statements[0].Kind == sqltext.Fetch
}

// passDeclared passes the RowDescription in the reply to r under the description of
// the original cursor; false when it is not of a cursor that reads an aggregate.
func (s *session) passDeclared(r *reply, body []byte) (bool, error) {
	if r.plan == nil || int(r.n) >= len(r.plan.Statements) {
		return false, nil
	}
	by := &r.plan.Statements[r.n]
	c, ok := s.cursors[by.Name]
	if !ok || by.Kind != sqltext.Fetch {
		return false, nil
	}
	fields, err := wire.ParseRowDescription(body)
	if err != nil {
		return false, s.serverGone(err)
	}
	if len(fields) != len(c.read) {
		return false, nil // another cursor has the name by now
	}
	for i := range fields {
		format := fields[i].Format
		if fields[i].Format = wire.TextFormat; fields[i] != c.read[i] {
			return false, nil // likewise
		}
		fields[i] = c.original[i]
		fields[i].Format = format
	}
	st := &s.conn.Stream
	if err := st.Inject(wire.AppendRowDescription(nil, fields)); err != nil {
		return false, s.serverError(err)
	}
	st.Drop()
	if _, ends := s.cv.fromServer(wire.RowDescription); ends {
		s.cv.queue.pop()
		s.emitFakes()
	}
	return true, nil
}
