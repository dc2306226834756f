package gateway

import (
	"bytes"
	"strconv"
	"time"

	"qvpgw/internal/cache"
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
	describe bool   // the group has a Describe of the portal
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
			if len(g.name) > 0 && s.named[string(g.name)] != nil {
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
			g.bind, g.formats = body[n:], bb.ResultFormats
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
	// The text outlives the message: it is looked at after the answer is decided.
	s.scratch2 = append(s.scratch2[:0], sql...)
	g := &group{plan: plan, sql: s.scratch2, began: time.Now()}
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
	if err := s.attach(); err != nil {
		return false, nil // passing it meets the same error and reports it
	}
	var done bool
	var err error
	switch g.plan.Action {
	case router.Rewrite:
		done, err = s.rewrite(g)
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

// snapshotQuery is the validation of a cached answer: equal snapshots on a
// primary mean that no transaction ended in between (trap T6: on a standby they
// do not).
const snapshotQuery = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, pg_catalog.pg_is_in_recovery()"

// remembered answers a k-NN query from memory if the database has not changed
// since the answer was given; else it has the reply of the server kept.
func (s *session) remembered(g *group) (bool, error) {
	if !s.db.memory.worthwhile() {
		s.srv.m.CacheMisses[metrics.MissBypass].Inc()
		s.routed(metrics.Pass, router.ReasonNeverAgain, g)
		return false, nil
	}
	rows, err := s.conn.Query(snapshotQuery, s.srv.live.Load().QueueTimeout)
	s.conn.Stream.SetDst(s.net)
	if err != nil {
		s.srv.m.CacheMisses[metrics.MissUnproven].Inc()
		return s.controlError(err)
	}
	if len(rows) != 1 || len(rows[0]) != 2 || rows[0][0] == nil || rows[0][1] == nil || *rows[0][1] != "f" {
		s.srv.m.CacheMisses[metrics.MissUnproven].Inc()
		s.routed(metrics.Pass, router.ReasonKNNInRecovery, g)
		return false, nil
	}
	// A server that was restarted, or another one, may have lost commits and give
	// their transaction ids again.
	snapshot := strconv.FormatInt(s.pool.Incarnation(), 10) + " " + s.conn.Host() + " " + *rows[0][0]
	key := s.cacheKey(g)
	if e, ok := s.srv.opt.Cache.Get(key); ok {
		if e.Snapshot == snapshot || s.srv.unproven.Load() {
			s.srv.m.CacheHits.Inc()
			s.db.memory.hit()
			s.routed(metrics.Cached, router.ReasonHit, g)
			return true, s.conn.Stream.Inject(e.Reply)
		}
		s.srv.m.CacheMisses[metrics.MissChanged].Inc()
	} else {
		s.srv.m.CacheMisses[metrics.MissAbsent].Inc()
	}
	s.routed(metrics.Cached, router.ReasonMiss, g)
	s.fill.begin(s, key, snapshot)
	return false, nil
}

// cacheKey holds every fact that the answer depends on besides the database's
// state, each with its length.
func (s *session) cacheKey(g *group) []byte {
	key := make([]byte, 0, len(g.sql)+len(g.bind)+len(s.bucket.Key())+128)
	field := func(b []byte) {
		key = strconv.AppendInt(key, int64(len(b)), 10)
		key = append(append(key, ':'), b...)
	}
	key = strconv.AppendUint(key, s.pool.ID, 10) // database and login
	key = append(key, ' ', byte('0'+bit(g.extended)), byte('0'+bit(g.parse)), byte('0'+bit(g.describe)))
	field([]byte(s.bucket.Key()))
	field(g.sql)
	field(g.oids)
	field(g.bind)
	return key
}

// fill keeps a reply on its way to the client.
type fill struct {
	s        *session
	active   bool
	over     bool // longer than an entry may be
	key      []byte
	snapshot string // taken before the statement was sent
	buf      []byte
}

func (f *fill) begin(s *session, key []byte, snapshot string) {
	*f = fill{s: s, active: true, key: key, snapshot: snapshot, buf: f.buf[:0]}
	s.conn.Stream.SetDst(f)
}

// Write passes b to the client and keeps it.
func (f *fill) Write(b []byte) (int, error) {
	if !f.over {
		if f.over = len(f.buf)+len(b) > f.s.srv.opt.MaxEntry; f.over {
			f.buf = nil
		} else {
			f.buf = append(f.buf, b...)
		}
	}
	return f.s.net.Write(b)
}

// end stores the reply if it is whole and nothing but an answer.
func (f *fill) end() {
	f.active = false
	f.s.conn.Stream.SetDst(f.s.net)
	if f.over {
		return
	}
	rows, status := 0, wire.TxStatus(0)
	for b := f.buf; len(b) > 0; {
		m, rest := cutMessage(b)
		b = rest
		switch m.Type {
		case wire.DataRow:
			rows++
		case wire.ReadyForQuery:
			status = wire.TxStatus(m.mem[5])
		case wire.ErrorResponse, wire.NoticeResponse, wire.NotificationResponse, wire.ParameterStatus, wire.PortalSuspended:
			return
		}
	}
	if status == wire.Idle {
		f.s.srv.opt.Cache.Put(f.key, &cache.Entry{
			Snapshot: f.snapshot, Reply: bytes.Clone(f.buf), Rows: rows, Filled: time.Now(),
		})
	}
	if cap(f.buf) > 64<<10 {
		f.buf = nil
	}
}
