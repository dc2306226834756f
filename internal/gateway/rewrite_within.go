package gateway

import (
	"errors"

	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// The savepoint around a rewritten query in a client's transaction: an error of ours
// must not be the end of it.
const (
	beginWithin = "SAVEPOINT qvpgw_rewritten"
	endWithin   = "RELEASE SAVEPOINT qvpgw_rewritten"
	undoWithin  = "ROLLBACK TO SAVEPOINT qvpgw_rewritten; " + endWithin
)

// within says whether a statement may be answered from an aggregate in the
// transaction that is open: nothing is under way in it and nothing pins the client.
func (s *session) within() bool {
	return s.cv.idle() && s.cv.tx == wire.InTx && s.conn != nil && s.pins.Load() == 0 && len(s.pending) == 0 && s.mode != Session
}

// rewriteWithin answers g from a continuous aggregate inside the client's
// transaction. There is no snapshot to share with a guard at READ COMMITTED, so the
// query carries the whole proof and gives no row without it; a reply without rows
// says nothing, and the original runs.
func (s *session) rewriteWithin(g *group, d *description) (bool, error) {
	rw := g.plan.Aggregates
	b := wire.AppendQuery(s.scratch[:0], beginWithin)
	b = wire.AppendSync(g.appendRun(b, rw.Within(), d))
	b = wire.AppendQuery(b, endWithin)
	s.scratch = b[:0]
	s.conn.Unnamed = 0
	if err := s.asks(b); err != nil {
		return false, s.clientError(err)
	}
	if status, err := s.readStatus(); err != nil || status != wire.InTx {
		return false, s.lostWithin(err)
	}
	r := rewritten{send: sendRows}
	if _, err := r.read(s, g, d); err != nil {
		return false, err
	}
	started := r.started
	status, err := s.readStatus()
	if err != nil {
		return false, s.lostWithin(err)
	}
	s.asking = false
	if started {
		s.srv.m.Rewrites[metrics.Routed].Inc()
		if rw.Float {
			s.srv.m.Reassociated.Inc()
		}
		s.routed(metrics.Rewrite, g.plan.Reason, g)
	}
	switch {
	case status == wire.InTx && started, status == wire.FailedTx && started:
		s.cv.tx = status
		return true, s.injectReady(status)
	case status == wire.InTx:
		s.srv.m.Rewrites[metrics.GuardRefused].Inc()
		s.routed(metrics.Pass, router.ReasonNotFresh, g)
		s.db.refused()
		return false, nil
	case status != wire.FailedTx:
		return false, s.lostWithin(nil)
	case s.interrupted != nil:
		// As after a statement of the client's that was interrupted.
		s.cv.tx = wire.FailedTx
		return true, s.injectError(s.interrupted)
	}
	if err := s.asks(wire.AppendQuery(nil, undoWithin)); err != nil {
		return false, s.clientError(err)
	}
	if status, err = s.readStatus(); err != nil || status != wire.InTx {
		return false, s.lostWithin(err)
	}
	s.asking = false
	s.srv.m.Rewrites[metrics.FellBack].Inc()
	s.routed(metrics.Pass, router.ReasonRewriteFailed, g)
	s.db.refused()
	return false, nil
}

// lostWithin ends a server connection whose transaction is not where it must be.
func (s *session) lostWithin(err error) error {
	if err != nil {
		return err
	}
	return s.serverGone(errors.New("the transaction of a rewritten statement is not open any more"))
}
