package router

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// sketch plans texts of one shape that differ in bounds of time and in values that
// columns are compared with: what was found of one of them holds for the others, and
// their texts differ in a few places. It is of one snapshot, and the template's lock is
// held where it is used, since its trees are the template's.
type sketch struct {
	fixed string // the values of the literals that are not free
	query *aggQuery
	last  *outline  // nil at first
	spare candidate // of the text that was planned last
	text  []byte
}

// sketches are those of one template.
type sketches [len(template{}.once)]*sketch

// outline is a rewrite and what differs in another one of the same key.
type outline struct {
	key  string
	rw   *AggregateRewrite
	head []segment // of rw.alone.head
	rest string    // of rw.SQL behind it
	args []segment // rw.ProofArgs
}

// segment is a text, or a code where that is set.
type segment struct {
	text string
	code code
}

var sketchSeed = maphash.MakeSeed()

// sketch keeps what b found of the template's statement, when it was planned with the
// same fixed literals before.
func (t *template) sketch(b *blocks, st *state) {
	if len(b.pieces) != 1 || b.called != nil {
		return
	}
	q := b.pieces[0].query
	if q.stmt != t.stmt.GetSelectStmt() || len(q.scope.dims) > 0 {
		return
	}
	if t.free == nil {
		free := q.free()
		t.free = make([]bool, len(t.spots))
		for i, s := range t.spots {
			t.free[i] = free[s.value]
		}
	}
	fixed := t.fixed()
	hash := maphash.String(sketchSeed, fixed)
	if !slices.Contains(t.once[:], hash) {
		t.once[t.next] = hash
		t.next = (t.next + 1) % len(t.once)
		return
	}
	q.conditions = make([]condition, len(q.conds))
	for i, n := range q.conds {
		literals := literalsIn(n)
		q.conditions[i] = condition{literals: literals, values: make([]string, len(literals))}
	}
	all, _ := st.sketches.LoadOrStore(t, new(sketches))
	all.(*sketches)[slices.Index(t.once[:], hash)] = &sketch{fixed: fixed, query: q}
}

// fixed are the values of the literals that are not free.
func (t *template) fixed() string {
	b := make([]byte, 0, 64)
	for i, s := range t.spots {
		if t.free[i] {
			continue
		}
		switch v := s.value.Val.(type) {
		case *pg_query.A_Const_Sval:
			b = append(binary.AppendUvarint(append(b, 's'), uint64(len(v.Sval.Sval))), v.Sval.Sval...)
		case *pg_query.A_Const_Ival:
			b = binary.AppendVarint(append(b, 'i'), int64(v.Ival.Ival))
		case *pg_query.A_Const_Fval:
			b = append(binary.AppendUvarint(append(b, 'f'), uint64(len(v.Fval.Fval))), v.Fval.Fval...)
		}
	}
	return string(b)
}

// free are the literals that have a say in bounds and in the texts of conditions alone:
// in bounds all of whose literals are parameters of the proof, and in conditions without
// functions, types and the time column, in which no bucket hides.
func (q *aggQuery) free() map[*pg_query.A_Const]bool {
	free := map[*pg_query.A_Const]bool{}
	for _, b := range q.bounds {
		if list := literalsIn(b.value); b.plain || len(list) == strings.Count(b.proven, mark)/3 {
			for _, c := range list {
				free[c] = true
			}
		}
	}
	for _, n := range q.conds {
		plain := true
		visit(n, func(m any) bool {
			switch x := m.(type) {
			case *pg_query.FuncCall, *pg_query.TypeName:
				plain = false
			case *pg_query.Node:
				plain = plain && !q.scope.isTime(x)
			}
			return plain
		})
		for _, c := range literalsIn(n) {
			free[c] = plain
		}
	}
	return free
}

func literalsIn(n *pg_query.Node) (list []*pg_query.A_Const) {
	visit(n, func(m any) bool {
		if c, ok := m.(*pg_query.A_Const); ok {
			list = append(list, c)
		}
		return true
	})
	return list
}

// sketched plans the template's statement by a sketch of the state; false without one.
func (r *Router) sketched(m *made, t *template, c *Context, st *state) bool {
	all, ok := st.sketches.Load(t)
	if !ok {
		return false
	}
	list, fixed := all.(*sketches), t.fixed()
	i := slices.IndexFunc(list[:], func(s *sketch) bool { return s != nil && s.fixed == fixed })
	if i < 0 {
		return false
	}
	rw, reason, ok := list[i].plan(r.blocks(c, st.view.snap, true))
	if !ok {
		return false
	}
	m.literal, m.moment = true, true
	p := m.plan
	p.Aggregates, p.Reason = rw, reason
	m.decided(t.stmt, false)
	if p.Action != Pass {
		p.mentioned = nil
	}
	return true
}

// plan plans the statement with the literals that are in its tree now; false: it is to
// be planned from the tree, which has a reason where it passes.
func (s *sketch) plan(b *blocks) (*AggregateRewrite, Reason, bool) {
	q := s.query
	zone, ok := location(b.c.TimeZone)
	if !ok {
		return nil, "", false
	}
	e := estimator{now: b.now, zone: zone}
	for i := range q.bounds {
		if q.evaluate(&q.bounds[i], e) != "" {
			return nil, "", false
		}
	}
	span := rangeOf(q.bounds)
	best := &s.spare
	best.query = nil
	for _, offer := range q.offers {
		d := *offer
		d.span = span
		if d.place() == "" && (best.query == nil || d.cheaper(best)) {
			*best = d
		}
	}
	if best.query == nil {
		return nil, "", false
	}
	best.arms = best.rawArms()
	if !best.writable(best.arms) {
		return nil, "", false
	}
	if b.byCost && best.estimate(best.arms).cheaperRaw() {
		return nil, ReasonAggCheaperRaw, true
	}
	key := best.key()
	if s.last != nil && s.last.key == key {
		return s.fill(best, b), "", true
	}
	p, reason := best.emit(b)
	if reason != "" {
		return nil, "", false
	}
	b.pieces = []*piece{p}
	rw, reason := b.rewrite(nil)
	if reason != "" {
		return nil, reason, true
	}
	s.last = best.outline(key, rw)
	return rw, "", true
}

// key tells candidates apart whose texts differ in more than in what codes stand for.
func (d *candidate) key() string {
	b := make([]byte, 0, 128)
	number := func(n int) { b = strconv.AppendInt(append(b, ' '), int64(n), 36) }
	number(int(d.view.Aggregate.ID))
	number(len(d.spans))
	end := func(at int, x *bound) {
		if x == nil {
			at = -1
		}
		number(at)
		if x != nil && (x.moving || !x.until.IsZero()) {
			b = append(b, '~')
		}
	}
	end(d.span.lowAt, d.span.low)
	end(d.span.highAt, d.span.high)
	for _, a := range d.arms.arms {
		b = append(b, 'a')
		if a.openLeft {
			b = append(b, '<')
		}
		if a.openRight {
			b = append(b, '>')
		}
	}
	b = append(b, 'c')
	for i := range d.arms.chunks {
		number(int(d.arms.chunks[i].ID))
	}
	stored := func(list []catalog.Chunk) {
		b = append(b, 'c')
		for c := range d.inSpans(list) {
			number(int(c.ID))
		}
	}
	stored(d.held.Chunks)
	for _, u := range d.under {
		stored(u.Chunks)
	}
	return string(b)
}

// outline finds out where texts like rw's differ; nil when they are not put together
// again to rw's.
func (d *candidate) outline(key string, rw *AggregateRewrite) *outline {
	d.coded = true
	texts, reason := d.texts()
	_, args := d.snapshotProof().conditions()
	d.coded = false
	if reason != "" || rw.alone == nil || len(args) != len(rw.ProofArgs) || strings.Contains(rw.SQL, codeMark) {
		return nil
	}
	rest, ok := strings.CutPrefix(rw.SQL, rw.alone.head)
	if !ok {
		return nil
	}
	o := &outline{key: key, rw: rw, head: segmentsOf(texts.head), rest: rest}
	for i, a := range args {
		parts := segmentsOf(a)
		if len(parts) != 1 || string(d.fill(nil, parts)) != rw.ProofArgs[i] {
			return nil
		}
		o.args = append(o.args, parts[0])
	}
	if string(d.fill(nil, o.head)) != rw.alone.head {
		return nil
	}
	return o
}

// segmentsOf splits a text at its codes.
func segmentsOf(text string) []segment {
	var out []segment
	for i, s := range strings.Split(text, codeMark) {
		if i%2 == 0 {
			if s != "" || text == "" {
				out = append(out, segment{text: s})
			}
			continue
		}
		var n [4]int
		for j, f := range strings.Fields(s) {
			n[j], _ = strconv.Atoi(f)
		}
		out = append(out, segment{code: code{form: codeForm(n[0]), place: place{placeKind(n[1]), n[2]}, n: n[3]}})
	}
	return out
}

// fill appends parts one behind the other.
func (d *candidate) fill(b []byte, parts []segment) []byte {
	for i := range parts {
		if p := &parts[i]; p.code.form == 0 {
			b = append(b, p.text...)
		} else {
			b = d.append(b, p.code)
		}
	}
	return b
}

// fill gives the rewrite for a candidate of the last one's key.
func (s *sketch) fill(d *candidate, b *blocks) *AggregateRewrite {
	o := s.last
	n := len(o.args)
	made := &struct {
		rw    AggregateRewrite
		alone queryParts
	}{*o.rw, *o.rw.alone}
	rw := &made.rw
	text := d.fill(s.text[:0], o.head)
	head := len(text)
	text = append(text, o.rest...)
	sql := len(text)
	for i := range o.args {
		text = append(d.fill(text, o.args[i:i+1]), 0)
	}
	s.text = text
	all := string(text)
	made.alone.head, rw.SQL, rw.alone = all[:head], all[:sql], &made.alone
	rw.ProofArgs = make([]string, n)
	all = all[sql:]
	for i := range n {
		rw.ProofArgs[i], all, _ = strings.Cut(all, "\x00")
	}
	rw.ranges, rw.Expires = d.ranges(d.arms), d.expires(b.now)
	return rw
}
