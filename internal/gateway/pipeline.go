package gateway

import (
	"errors"

	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// pipeline is a rewritten statement that was sent, with all that is around it, and its
// reply as far as it was read. In the first gear it waits for the server as any turn
// does; the second goes on with it wherever it stands.
type pipeline struct {
	g     *group
	d     *description
	proof uint64  // id of its prepared statement
	asked message // what the client sent, in the first gear

	ended  int // of BEGIN, LOCK and the proof, which are answered first
	proven guardAnswer
	reply  rewritten // to the query
	over   bool      // all was read
	status wire.TxStatus
}

// beginRewrite opens the one snapshot that guard and query read. The lock comes
// before the snapshot, so that no chunk can go between guard and query (trap T3).
const beginRewrite = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// sendPipeline sends what answers g in one snapshot, with one Sync, so that the server
// answers at once.
func (s *session) sendPipeline(g *group, d *description, proof uint64) (*pipeline, error) {
	rw := g.plan.Aggregates
	b := appendStatement(s.scratch[:0], beginRewrite)
	b = appendStatement(b, rw.Lock)
	b = appendProof(b, proof, rw.ProofArgs)
	b = g.appendRun(b, rw.SQL, d)
	b = appendStatement(b, "COMMIT")
	b = wire.AppendSync(b)
	s.scratch = b[:0]
	s.conn.Unnamed = 0
	// Should the client go meanwhile, the reply is read to its end all the same.
	s.cv.expect(reply{msg: wire.Query, mode: drop, quiet: true})
	if _, err := s.up.Write(b); err != nil {
		return nil, s.clientError(&wire.WriteError{Err: err})
	}
	return &pipeline{g: g, d: d, proof: proof}, nil
}

// read reads the reply to its end. After netloop.ErrWouldBlock it may be called again.
func (p *pipeline) read(s *session) error {
	for p.ended < 3 {
		if err := p.readOwn(s); err != nil {
			return err
		}
	}
	if p.over {
		return nil
	}
	status, err := p.reply.read(s, p.g, p.d)
	if err != nil {
		return err
	}
	p.status, p.over = status, true
	return nil
}

// readOwn reads one message of the replies to BEGIN, LOCK and the proof.
func (p *pipeline) readOwn(s *session) error {
	st := &s.conn.Stream
	h, err := st.Next()
	if err != nil {
		return s.serverError(err)
	}
	switch h.Type {
	case wire.DataRow, wire.ErrorResponse, wire.ParameterStatus:
		body, err := st.Body(wire.MaxMessage)
		if err != nil {
			return s.serverError(err)
		}
		switch h.Type {
		case wire.DataRow:
			if string(body) == provenRow {
				p.proven = guardYes
			}
		case wire.ErrorResponse:
			f, err := wire.ParseErrorFields(body)
			if err != nil {
				return s.serverGone(err)
			}
			if f.Code == noSuchStatement {
				s.conn.Forget(p.proof)
			}
			s.noteInterrupt(f)
			p.proven, p.ended = guardError, 3 // the server passes over the rest
		default:
			if err := s.conn.NoteParam(body); err != nil {
				return s.serverGone(err)
			}
		}
	case wire.CommandComplete:
		if p.ended++; p.ended == 3 {
			if p.proven != guardYes && !s.srv.unproven.Load() {
				p.proven = guardNo
			} else {
				p.proven, p.reply.send = guardYes, sendAlways
			}
		}
	case wire.ReadyForQuery:
		return s.serverGone(errors.New("the server is ready before it has answered a whole pipeline"))
	}
	st.Drop()
	return nil
}

// provenRow is the body of the proof's row: one column, t.
const provenRow = "\x00\x01\x00\x00\x00\x01t"

// conclude ends the transaction if it stands open, and says whether the client has its
// answer. If not, the original is to run.
func (p *pipeline) conclude(s *session) (bool, error) {
	g, status := p.g, p.status
	s.cv.queue.pop()
	if status == wire.FailedTx {
		err := s.asks(wire.AppendQuery(nil, "ROLLBACK"))
		if err != nil {
			return false, s.clientError(err)
		}
		if status, err = s.readStatus(); err != nil {
			return false, err
		}
		s.asking = false
	}
	if status != wire.Idle {
		return false, s.serverGone(errors.New("the transaction of a rewritten statement did not end"))
	}
	switch {
	case s.interrupted != nil && !p.reply.started:
		return true, s.injectError(s.interrupted)
	case p.reply.started:
		s.srv.m.Rewrites[metrics.Routed].Inc()
		if g.plan.Aggregates.Float {
			s.srv.m.Reassociated.Inc()
		}
		s.routed(metrics.Rewrite, g.plan.Reason, g)
		return true, s.injectReady(wire.Idle)
	case p.proven == guardYes:
		s.srv.m.Rewrites[metrics.FellBack].Inc()
		s.routed(metrics.Pass, router.ReasonRewriteFailed, g)
	case p.proven == guardNo:
		s.srv.m.Rewrites[metrics.GuardRefused].Inc()
		s.routed(metrics.Pass, router.ReasonNotFresh, g)
	default:
		s.srv.m.Rewrites[metrics.LockRefused].Inc()
		s.routed(metrics.Pass, router.ReasonLockRefused, g)
	}
	s.db.refresh()
	return false, nil
}

// rewritable is what has to be known of a statement to be rewritten in the first gear:
// then nothing has to be asked for it.
type rewritable struct {
	d      *description
	proof  uint64 // id of its prepared statement
	bucket *pool.Bucket
}

// rewritable returns that of a text's plan; nil: it is not known, or another gear's.
func (s *session) rewritable(p *router.Plan, sql []byte) *rewritable {
	rw := p.Aggregates
	if rw == nil || rw.Copy != nil || p.AtBind || p.Cursor != nil || !s.lone() || rw.Float && s.srv.opt.ExactFloats {
		return nil
	}
	if r, _ := rw.Memo.Load().(*rewritable); r != nil {
		if snap := s.db.catalog.Load(); snap != nil && r.d.fingerprint == snap.Fingerprint && pool.Same(r.bucket, s.bucket) {
			return r
		}
	}
	d, _, _ := s.columnsOf(sql, nil)
	if d == nil {
		return nil
	}
	r := &rewritable{d: d, proof: s.db.proofID(proofKey{s.bucket.Key(), rw.Proof}), bucket: s.bucket}
	rw.Memo.Store(r)
	return r
}

// unprovable says that the proof of the text that easy found is not prepared on the
// connection.
func (s *session) unprovable() bool {
	if s.rewrites == nil || s.conn.Has(s.rewrites.proof) {
		return false
	}
	s.foreseen.Aggregates.Memo.Store((*rewritable)(nil)) // the proof may have another id by now
	return true
}

// rewriteFirst is rewrite for what easy has found rewritable: step reads the reply.
func (s *session) rewriteFirst(m *message, g *group) error {
	s.interrupted = nil
	p, err := s.sendPipeline(g, s.rewrites.d, s.rewrites.proof)
	if err != nil {
		return err
	}
	p.asked = *m
	s.pipeline, s.rewrites = p, nil
	return nil
}

// errShift is what a step in the first gear returns when it must block.
var errShift = errors.New("the turn goes on in the second gear")

// stepPipeline is step while the reply to a rewritten statement is awaited. The second
// gear alone does what else has to be asked of the server: the original, if it must run.
func (s *session) stepPipeline() error {
	p := s.pipeline
	if err := p.read(s); err != nil {
		return err
	}
	if s.first && !(p.reply.started && p.status == wire.Idle) {
		return errShift
	}
	s.pipeline = nil
	done, err := p.conclude(s)
	if err != nil {
		return err
	}
	if done {
		s.unnamed.id = 0
		s.leave(&p.asked)
		return nil
	}
	if err := s.passQuery(&p.asked, p.g.plan, p.g.sql); err != nil {
		return err
	}
	if err := s.client.Flush(); err != nil {
		return s.clientError(err)
	}
	return nil
}

// sending says from where on the reply to a rewritten query goes to the client.
type sending uint8

const (
	sendNever  sending = iota
	sendRows           // from the first row on: without any, nothing was said
	sendAlways         // from the first row or the end on
)

// rewritten is the reply to a rewritten query as far as it was read.
type rewritten struct {
	send    sending
	started bool // something of it went to the client
	failed  bool // an error came, or the columns are not the original's
	done    bool // the query's reply has ended
}

// read reads the reply to the rewritten query and passes it to the client under the
// original's description. What follows of our own up to ReadyForQuery, whose status it
// returns, is not the client's. After netloop.ErrWouldBlock it may be called again.
func (r *rewritten) read(s *session, g *group, d *description) (wire.TxStatus, error) {
	st := &s.conn.Stream
	for {
		if s.first && st.Buffered() == 0 && s.muchSent() {
			return 0, errShift
		}
		h, err := st.Next()
		if err != nil {
			return 0, s.serverError(err)
		}
		if h.Type == wire.CopyOutResponse && r.send == sendAlways && !r.failed {
			r.started = true
		}
		if (h.Type == wire.DataRow && r.send >= sendRows || h.Type == wire.CommandComplete && r.send == sendAlways) && !r.failed && !r.started && !r.done {
			r.started = true
			if err := st.Inject(s.replyHead(g, d)); err != nil {
				return 0, s.serverError(err)
			}
		}
		switch h.Type {
		case wire.DataRow, wire.CopyOutResponse, wire.CopyData, wire.CopyDone, wire.CommandComplete, wire.ErrorResponse:
			if h.Type == wire.ErrorResponse {
				body, err := st.Body(wire.MaxMessage)
				if err != nil {
					return 0, s.serverError(err)
				}
				if f, err := wire.ParseErrorFields(body); err == nil {
					s.noteInterrupt(f)
				}
				r.failed = true
				s.conn.Failed()
			}
			forward := r.started && !r.done
			r.done = r.done || h.Type == wire.CommandComplete
			if forward {
				st.Forward()
			} else {
				st.Drop()
			}
		case wire.RowDescription:
			body, err := st.Body(wire.MaxMessage)
			if err != nil {
				return 0, s.serverError(err)
			}
			r.failed = r.failed || !d.describes(body)
			st.Drop()
		case wire.ParameterStatus:
			body, err := st.Body(wire.MaxMessage)
			if err == nil {
				err = s.conn.NoteParam(body)
			}
			if err != nil {
				return 0, s.serverError(err)
			}
			st.Drop()
		case wire.ReadyForQuery:
			body, err := st.Body(1)
			if err != nil {
				return 0, s.serverError(err)
			}
			status, err := wire.ParseReadyForQuery(body)
			st.Drop()
			return status, err
		default:
			st.Drop()
		}
	}
}
