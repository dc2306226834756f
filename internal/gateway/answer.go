package gateway

import (
	"bytes"
	"time"

	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// group is one statement alone, by either protocol: what may be answered from an
// aggregate or from memory.
type group struct {
	plan  *router.Plan
	sql   []byte
	oids  wire.OIDs // declared parameter types
	began time.Time

	extended bool
	parse    bool   // the group has a Parse, under name
	name     []byte // of the statement
	bind     []byte // body of the Bind behind its two names
	bound    wire.BindBody
	describe bool // the group has a Describe of the portal
	formats  wire.Formats
}

// loneGroup recognises Parse? Bind Describe? Execute Sync of one statement, with
// the unnamed portal and no row limit.
func (s *session) loneGroup(b []byte) (g *group, ok bool) {
	g = &group{extended: true, began: time.Now()}
	step := wire.Parse
	for len(b) > 0 {
		m, rest := cutMessage(b)
		b = rest
		body := m.mem[5:]
		switch {
		case m.Type == wire.Parse && step == wire.Parse:
			var err error
			if g.name, g.sql, g.oids, err = wire.ParseParse(body); err != nil {
				return g, false
			}
			g.parse, g.plan = true, s.plan(g.sql)
			if len(g.name) > 0 && s.named[string(told(g.name))] != nil {
				return g, false
			}
			step = wire.Bind
		case m.Type == wire.Bind && (step == wire.Bind || step == wire.Parse):
			portal, name, n, err := wire.BindNames(body)
			if err != nil || len(portal) > 0 || g.parse && !bytes.Equal(name, g.name) {
				return g, false
			}
			if !g.parse {
				st := s.lookup(name)
				if st == nil || st.own || st.bySQL || !pool.Same(st.bucket, s.bucket) {
					return g, false
				}
				// The plan is looked up anew: the aggregate's state moved on.
				g.name, g.sql, g.oids, g.plan = name, st.sql, st.oids, s.plan(st.sql)
			}
			bb, err := wire.ParseBind(body, nil)
			if err != nil {
				return g, false
			}
			g.bind, g.bound, g.formats = body[n:], bb, bb.ResultFormats
			step = wire.Describe
		case m.Type == wire.Describe && step == wire.Describe:
			kind, name, err := wire.ParseDescribe(body)
			if err != nil || kind != 'P' || len(name) > 0 {
				return g, false
			}
			g.describe = true
			step = wire.Execute
		case m.Type == wire.Execute && (step == wire.Describe || step == wire.Execute):
			portal, limit, err := wire.ParseExecute(body)
			if err != nil || len(portal) > 0 || limit != 0 {
				return g, false
			}
			step = wire.Sync
		case m.Type == wire.Sync && step == wire.Sync && len(b) == 0:
			return g, g.plan.Action == router.Rewrite || g.plan.Action == router.Cached
		default:
			return g, false
		}
	}
	return g, false
}

// answerQuery answers a simple query from an aggregate or from memory, or passes
// it.
func (s *session) answerQuery(m *message, plan *router.Plan, sql []byte) error {
	if plan.Cursor != nil {
		return s.declareQuery(m, plan, sql)
	}
	// The text outlives the message: it is looked at after the answer is decided.
	s.scratch2 = append(s.scratch2[:0], sql...)
	g := &group{plan: plan, sql: s.scratch2, began: time.Now()}
	if s.first {
		return s.rewriteFirst(m, g)
	}
	done, err := s.answerGroup(g)
	if err != nil {
		return err
	}
	if done {
		s.leave(m)
		return nil
	}
	return s.passQuery(m, plan, g.sql)
}

// answerGroup answers g; false: it is to be passed to the server.
func (s *session) answerGroup(g *group) (bool, error) {
	var done bool
	var err error
	switch g.plan.Action {
	case router.Rewrite:
		if err := s.attach(); err != nil {
			return false, nil // passing it meets the same error and reports it
		}
		if g.plan.Cursor != nil {
			done, err = s.declareGroup(g)
		} else {
			done, err = s.rewrite(g)
		}
	case router.Cached:
		done, err = s.remembered(g)
	}
	if done && err == nil {
		if g.extended {
			s.srv.m.Queries[metrics.Action(g.plan.Action)].Inc()
		}
		if g.parse {
			st := s.srv.stmts.get(s.pool, s.bucket, g.plan, g.sql, g.oids, true)
			if len(g.name) == 0 {
				// Kept as the unnamed statement, prepared when it is next bound.
				s.srv.stmts.put(st)
				s.keepUnnamed(g.plan, g.sql, g.oids)
			} else {
				s.remember(g.name, st)
			}
		}
		if !g.extended {
			s.unnamed.id = 0
		}
	}
	return done, err
}
