package gateway

import (
	"time"

	"qvpgw/internal/cache"
	"qvpgw/internal/knn"
	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
)

// remembered answers a k-NN query from memory if that is what the database would
// answer now; else it has the server answer and may keep that. It waits for a round,
// or for another client's query, without a server connection (trap T16).
func (s *session) remembered(g *group) (bool, error) {
	m := &s.db.memory
	fresh := s.freshnessOf(g.plan.KNN.Table)
	if fresh == FreshOff {
		return s.unkept(g, metrics.MissBypass, router.ReasonKNNOff)
	}
	var near *nearQuery
	for waited := false; ; waited = true {
		form := s.formOf(g, fresh)
		s.keptKey = s.appendKey(s.keptKey[:0], g, form)
		hit, miss := s.same(g, fresh, form)
		if hit {
			s.found(g, metrics.HitSame, router.ReasonHit)
			return true, s.sendKept()
		}
		worth := m.of(g.plan.KNN.Table).worthwhile()
		if worth && near == nil {
			if near = s.nearQuery(g); near != nil {
				if done, err := s.answerNear(g, near, fresh); done || err != nil {
					return done, err
				}
			}
		}
		s.missed(g.plan, miss)
		if !worth {
			return s.unkept(g, metrics.MissBypass, router.ReasonNeverAgain)
		}
		land, mine := m.takeOff(s.keptKey)
		if !mine && !waited {
			continue // what it brought is judged like anything else (condition C6)
		}
		if mine {
			defer land()
		}
		mark, reason := s.marked(g.plan.KNN.Tables)
		if reason != "" {
			return s.unkept(g, metrics.MissUnproven, reason)
		}
		if now := s.formOf(g, fresh); now != form { // the first round over the table
			s.keptKey = s.appendKey(s.keptKey[:0], g, now)
		}
		if err := s.attach(); err != nil {
			return false, nil // passing it meets the same error and reports it
		}
		s.routed(metrics.Cached, router.ReasonMiss, g)
		done, err := s.fill(g, mark)
		if done && err == nil && near != nil && near.promising {
			err = s.fillNear(g, near)
		}
		return done, err
	}
}

// same puts into s.out what is kept of the very question, under the key of a form; miss
// says why nothing is.
func (s *session) same(g *group, fresh Freshness, form keyForm) (hit bool, miss metrics.CacheMiss) {
	e, ok := s.srv.opt.Cache.Get(s.keptKey)
	if !ok {
		return false, metrics.MissAbsent
	}
	defer e.Release()
	v := s.prove(e, fresh)
	if v == knn.Valid && s.formOf(g, fresh) != form {
		return false, metrics.MissDefined // the key may tell too little
	}
	if v == knn.Valid {
		s.out = e.AppendReply(g.appendKeptHead(s.out, e))
		return true, 0
	}
	if v != knn.Unreadable {
		s.srv.opt.Cache.Remove(e)
	}
	return false, missOf[v]
}

// unkept has a k-NN query answered by the server alone.
func (s *session) unkept(g *group, miss metrics.CacheMiss, reason router.Reason) (bool, error) {
	s.missed(g.plan, miss)
	s.routed(metrics.Pass, reason, g)
	return false, nil
}

// missed counts a k-NN query that is not answered from memory.
func (s *session) missed(p *router.Plan, miss metrics.CacheMiss) {
	s.srv.m.CacheMisses[miss].Inc()
	s.db.memory.of(p.KNN.Table).misses[miss].Add(1)
}

// prove says whether a kept answer is the database's: by a round that is asked for now,
// or by one that is not too old. A client's own writes are seen by a newer one alone.
func (s *session) prove(e *cache.Entry, fresh Freshness) knn.Verdict {
	if s.srv.unproven.Load() {
		return knn.Valid
	}
	m := &s.db.memory
	if fresh != FreshBounded || s.wrote || time.Since(m.log.Sent()) > s.srv.live.Load().MaxAge {
		if !m.roundsOn(s.srv, s.pool).Wait(&s.round) {
			return knn.Unreadable
		}
		s.wrote = false
	}
	return m.log.Judge(e.Proof.(*knn.Proof))
}

// missOf says what a verdict is counted as.
var missOf = [knn.Verdicts]metrics.CacheMiss{
	knn.Changed: metrics.MissChanged, knn.Entered: metrics.MissEntered, knn.Touched: metrics.MissTouched,
	knn.Unknown: metrics.MissUnknown, knn.Defined: metrics.MissDefined, knn.Forgotten: metrics.MissForgotten,
	knn.Restarted: metrics.MissRestarted, knn.Unreadable: metrics.MissUnproven,
}

// marked notes the state that an answer is judged from, before its query is sent; or
// says why there is none.
func (s *session) marked(tables []uint32) (knn.Mark, router.Reason) {
	m := &s.db.memory
	mark, ok := m.log.Mark(tables)
	if ok {
		return mark, ""
	}
	m.log.Register(tables)
	if !m.roundsOn(s.srv, s.pool).Wait(&s.round) {
		return mark, router.ReasonKNNNoRound
	}
	if mark, ok = m.log.Mark(tables); !ok {
		return mark, router.ReasonKNNInRecovery
	}
	return mark, ""
}

// sendKept sends the answer that s.out has from memory.
func (s *session) sendKept() error {
	s.out = append(s.out, readyIdle...)
	err := s.flushOwn()
	if cap(s.out) > maxScratch {
		s.out = nil
	}
	return err
}

// found counts a k-NN query that is answered from memory.
func (s *session) found(g *group, how metrics.CacheHit, reason router.Reason) {
	s.srv.m.CacheHits[how].Inc()
	t := s.db.memory.of(g.plan.KNN.Table)
	t.hits[how].Add(1)
	t.hit()
	s.routed(metrics.Cached, reason, g)
}

// maxScratch bounds what a client keeps of a buffer that an answer grew, in bytes.
const maxScratch = 64 << 10
