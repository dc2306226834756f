package gateway

import (
	"strconv"
	"sync"

	"qvpgw/internal/cache"
	"qvpgw/internal/knn"
	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
	"qvpgw/internal/vector"
	"qvpgw/internal/wire"
)

// A list is what was kept of an exact answer beyond its own: more rows, with their
// vectors. It answers other limits and offsets of the same vector, and vectors close to
// it where the triangle inequality proves the rows and their order (package vector).

// nearQuery is a query that may follow from a list.
type nearQuery struct {
	*router.Near
	op            vector.Op
	query         vector.Value
	limit, offset int
	family        []byte // what it shares with those that differ in vector, limit and offset
	facts         knn.Facts
	promising     bool // the like was asked before: a list would be used
}

// Lists have rowsOfList times the rows that were asked for, within bounds: the distance
// of the last then leaves room for vectors nearby.
const (
	rowsOfList = 5
	leastRows  = 50
	mostRows   = 1000
)

// nearQuery reads g as a near query; nil: it is none, or its table is not one that the
// server answers exactly from.
func (s *session) nearQuery(g *group) *nearQuery {
	m := &s.db.memory
	facts, ok := m.log.Facts(g.plan.KNN.Tables[0])
	if !ok || !facts.Exact || !g.plan.KNN.Once {
		return nil
	}
	if !facts.Logged || !plainKey(facts.KeyType) {
		facts.Key = ""
	}
	p := m.near.plan(g, func() *router.Near {
		p, ok := s.db.router.Near(s.context(), g.sql, facts.Key)
		if !ok {
			return nil
		}
		return p
	})
	if p == nil || p.Column != facts.Vector {
		return nil
	}
	n := &nearQuery{Near: p, facts: facts}
	if n.query, n.op, ok = (&filling{g: g, probe: &p.Probe, facts: facts}).query(); !ok {
		return nil
	}
	limit, ok := g.number(p.Limit, p.LimitParam)
	offset, also := g.number(p.Offset, p.OffsetParam)
	if !ok || !also || limit < 1 || offset < 0 || limit+offset > mostRows/2 {
		return nil
	}
	n.limit, n.offset = int(limit), int(offset)
	n.family = s.appendFamily(nil, g, p)
	return n
}

// number is a count that is a literal or the value of a parameter.
func (g *group) number(literal int64, param int) (int64, bool) {
	if param == 0 {
		return literal, true
	}
	return g.count(param)
}

// appendFamily is appendKey without the limit, the offset and, where the answer does not
// tell it, the vector.
func (s *session) appendFamily(b []byte, g *group, p *router.Near) []byte {
	var without paramSet
	for _, n := range []int{p.LimitParam, p.OffsetParam, p.Param} {
		if n > 0 && (n != p.Param || !p.Same) {
			without.add(n)
		}
	}
	return s.appendFacts(appendField(append(b, "near"...), p.Family), g, without)
}

// nearArea is a list with its rows: the Area of its Proof.
type nearArea struct {
	list *vector.List
	kind vector.Kind
	ends []int32 // where each row ends in the entry's reply
}

func (a *nearArea) MayEnter(v []float32) bool {
	if v == nil || a.kind != vector.Vector && a.kind != vector.Halfvec {
		return true
	}
	w := vector.Dense(a.kind, v)
	return a.list.Admits(&w)
}

// rows appends the rows with the given numbers.
func (a *nearArea) rows(b []byte, e *cache.Entry, numbers []int) []byte {
	for _, i := range numbers {
		from := int32(0)
		if i > 0 {
			from = a.ends[i-1]
		}
		b = e.AppendPart(b, int(from), int(a.ends[i]))
	}
	return b
}

// answerNear answers n from a list, if one proves the answer and is itself the
// database's still.
func (s *session) answerNear(g *group, n *nearQuery, fresh Freshness) (bool, error) {
	at := s.db.memory.near.find(n)
	if at == nil {
		return false, nil
	}
	e, ok := s.srv.opt.Cache.Get(at)
	if !ok {
		s.db.memory.near.gone(n, at)
		n.promising = true
		return false, nil
	}
	if !s.nearRows(g, n, at, e, fresh) {
		return false, nil
	}
	how := metrics.HitNear
	if string(at) == string(n.listKey()) {
		how = metrics.HitLarger
	}
	s.found(g, how, router.ReasonHitNear)
	return true, s.sendKept()
}

// nearRows puts the answer to n into s.out, if the list e proves it.
func (s *session) nearRows(g *group, n *nearQuery, at []byte, e *cache.Entry, fresh Freshness) bool {
	defer e.Release()
	area := e.Proof.(*knn.Proof).Area.(*nearArea)
	var ranked vector.Ranked
	if !area.list.Near(&n.query, n.limit+n.offset, &ranked) {
		// Another list only where this one is too short, not where distances are equal.
		n.promising = !area.list.Whole() && area.list.Len() < rowsOfList*(n.limit+n.offset)
		return false
	}
	if s.prove(e, fresh) != knn.Valid {
		s.srv.opt.Cache.Remove(e)
		s.db.memory.near.gone(n, at)
		n.promising = true
		return false
	}
	rows := ranked.Rows[min(n.offset, len(ranked.Rows)):]
	b := area.rows(g.appendKeptHead(s.out, e), e, rows)
	s.out = wire.AppendCommandComplete(b, "SELECT "+strconv.Itoa(len(rows)))
	return true
}

// nearby knows which vectors were asked for in each family, and which of them have
// lists. Its memory is of the cache's budget. The zero nearby, with a cache, is empty.
type nearby struct {
	cache *cache.Cache

	// mu protects what follows.
	mu       sync.Mutex
	plans    map[nearText]*router.Near
	families map[string][]spot
	bytes    int // of the spots
	reserved int // of the cache's budget
}

// nearText is a text with its plan, which others of the same shape share, and which is
// another one when definitions changed.
type nearText struct {
	plan *router.Plan
	sql  string
}

// spot is a vector that was asked for.
type spot struct {
	at   vector.Value
	list []byte // the key of its list, nil without
}

// spotOverhead is what a spot takes in its family beside what it refers to, in bytes: the
// slice of them may be twice as large as it is long.
const spotOverhead = 256

// forget drops all vectors, and gives their place back.
func (m *nearby) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cache.Reserve(-int64(m.reserved))
	m.families, m.bytes, m.reserved = nil, 0, 0
}

// mostNearby bounds the vectors that a nearby holds, in bytes; then it begins anew. So it
// does when the cache has no place for nearbyStep bytes more. maxNearPlans and maxNearText,
// in bytes, bound the plans.
const (
	mostNearby   = 1 << 20
	nearbyStep   = 64 << 10
	maxNearPlans = 128
	maxNearText  = 1 << 10
)

// plan returns the Near of a group's text, by read where it is not known. Texts with the
// vector in them are not noted: they seldom come again.
func (m *nearby) plan(g *group, read func() *router.Near) *router.Near {
	m.mu.Lock()
	p, ok := m.plans[nearText{g.plan, string(g.sql)}]
	m.mu.Unlock()
	if ok {
		return p
	}
	p = read()
	if p != nil && p.Param == 0 || len(g.sql) > maxNearText {
		return p
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plans == nil || len(m.plans) >= maxNearPlans {
		m.plans = map[nearText]*router.Near{}
	}
	m.plans[nearText{g.plan, string(g.sql)}] = p
	return p
}

// find returns the key of the nearest list within reach, nil without one; and notes in n
// whether the like was asked before, and that n is asked now.
func (m *nearby) find(n *nearQuery) []byte {
	limit := n.query.Similar()
	m.mu.Lock()
	defer m.mu.Unlock()
	spots := m.families[string(n.family)]
	best, known := limit, false
	var list []byte
	for i := range spots {
		switch gap := vector.Gap(&n.query, &spots[i].at, best); {
		case gap > best:
		case spots[i].list != nil:
			best, list = gap, spots[i].list
			n.promising = true
		default:
			n.promising = true
			known = known || gap == 0
		}
	}
	if list == nil && !known {
		m.addLocked(n, nil)
	}
	return list
}

func (m *nearby) addLocked(n *nearQuery, list []byte) {
	size := len(n.family) + len(list) + n.query.Bytes() + spotOverhead
	for m.bytes+size > m.reserved {
		if m.reserved < mostNearby && m.cache.Reserve(nearbyStep) {
			m.reserved += nearbyStep
			continue
		}
		if m.bytes == 0 {
			return
		}
		m.families, m.bytes = nil, 0
	}
	if m.families == nil {
		m.families = map[string][]spot{}
	}
	m.bytes += size
	m.families[string(n.family)] = append(m.families[string(n.family)], spot{n.query.Clone(), list})
}

// add notes that n has a list.
func (m *nearby) add(n *nearQuery, list []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	spots := m.families[string(n.family)]
	for i := range spots {
		if vector.Gap(&n.query, &spots[i].at, 0) == 0 {
			spots[i].list = list
			return
		}
	}
	m.addLocked(n, list)
}

// gone notes that a list is not there any more.
func (m *nearby) gone(n *nearQuery, list []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, sp := range m.families[string(n.family)] {
		if string(sp.list) == string(list) {
			m.families[string(n.family)][i].list = nil
		}
	}
}

// listKey is the key of the list whose centre is the query's vector.
func (n *nearQuery) listKey() []byte {
	return n.query.AppendKey(n.family[:len(n.family):len(n.family)])
}

// keepNear puts a list into memory.
func (s *session) keepNear(table string, n *nearQuery, p *knn.Proof, a *nearArea, head, reply []byte) {
	p.Area = a
	p.Finish()
	key := n.listKey()
	s.srv.opt.Cache.Put(key, &cache.Answer{
		Head: head, Reply: reply, Rows: len(a.ends),
		Proof: p, Weight: p.Size() + int64(a.list.Bytes()+4*cap(a.ends)+64), Tally: &s.db.memory.of(table).Tally,
	})
	s.db.memory.near.add(n, key)
}
