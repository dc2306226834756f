package router

import (
	"bytes"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"qvpgw/internal/rules"
	"qvpgw/internal/sqltext"
)

// Options make a Router. The zero Options plan everything as Pass with
// PinCatalog wherever a name is used.
type Options struct {
	Catalog Catalog
	Rules   *rules.Set
	Now     func() time.Time // time.Now when nil
	// Size is how many texts the cache of plans keeps, 10,000 when 0. It holds at
	// most 1 KiB for each of them on average.
	Size int
	// NoAggregates: continuous aggregates are never read in place of a
	// hypertable, whatever a session sets.
	NoAggregates bool
	// AlwaysRoute: an aggregate answers wherever it can, even where the rows of the
	// hypertable are so few that reading them is cheaper.
	AlwaysRoute bool
}

// Router plans texts. It is safe for concurrent use.
type Router struct {
	opt   Options
	raw   *planCache // by the text's bytes
	shape *planCache // by its shape: plans that no literal has a say in
	// templates has parsed texts by their shape: plans in which literals have a say.
	templates *planCache
	state     atomic.Pointer[state]

	patterns patterns // by texts that differ in integers alone

	// follow makes one goroutine at a time follow the catalog.
	follow sync.Mutex

	// once has hashes of texts that a shape or a sketch answered once: at their second
	// time they are kept by their bytes.
	once [1 << 12]atomic.Uint64
	seed maphash.Seed

	parsed atomic.Uint64
	buffer sync.Pool // *[]byte for shapes
}

// state is the catalog as the router last saw it. Plans made under states of
// equal epoch are valid under each other.
type state struct {
	view     *view
	rules    *rules.Set
	epoch    uint64
	snapshot uint64 // counts snapshots, from 1
	// sketches has *sketches by *template: of this snapshot, with which they go.
	sketches sync.Map
}

// defaultSize is Options.Size when it is 0.
const defaultSize = 10_000

// New returns a Router.
func New(o Options) *Router {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Size <= 0 {
		o.Size = defaultSize
	}
	r := &Router{
		opt:   o,
		raw:   newPlanCache(o.Size, o.Size<<10),
		shape: newPlanCache(o.Size/4, o.Size<<8),

		patterns:  patterns{seed: maphash.MakeSeed()},
		templates: newPlanCache(max(shards, o.Size/16), o.Size<<7),
		seed:      maphash.MakeSeed(),
	}
	r.buffer.New = func() any { return new([]byte) }
	r.state.Store(&state{view: newView(nil), rules: o.Rules, snapshot: 1})
	return r
}

// Plan returns the plan of a text of SQL under c. text may hold several
// statements; it is not kept. The plan is immutable, shared, and never nil. c
// must be interned: equal facts, same pointer, never changed.
//
// A plan is for this moment: it may change with the catalog and with the
// context, so a prepared statement is planned anew, from its text, for each
// execution. A Rewrite or Cached plan holds only on a connection without
// temporary objects.
func (r *Router) Plan(c *Context, text []byte) *Plan { return r.find(c, text, true, nil) }

// Known is Plan without the parser: nil when the text's plan is not at hand.
func (r *Router) Known(c *Context, text []byte) *Plan { return r.find(c, text, false, nil) }

// KnownLike is Known for a text that h may help to find; it sets h.
func (r *Router) KnownLike(h *Hint, c *Context, text []byte) *Plan {
	if p := h.plan(c, text, r.current().epoch); p != nil {
		return p
	}
	return r.find(c, text, false, h)
}

func (r *Router) find(c *Context, text []byte, parse bool, h *Hint) *Plan {
	st := r.current()
	slot := r.patterns.slot(c, text)
	if t := slot.get(c, text, st.epoch); t != nil {
		if h != nil {
			h.last = t
		}
		return t.plan
	}
	if p := r.raw.get(c, text, st, r.opt.Now); p != nil {
		return p
	}
	if len(text) > maxText {
		return planTooLong
	}
	buf := r.buffer.Get().(*[]byte)
	defer r.buffer.Put(buf)
	var info sqltext.Info
	*buf, info = sqltext.AppendShape((*buf)[:0], text, c.ConformingStrings)
	if p := unfit(c, info); p != nil {
		return p
	}
	shared := !info.Moving
	if shared {
		if p := r.shape.get(c, *buf, st, r.opt.Now); p != nil {
			slot.put(c, text, p, st.epoch)
			r.remember(c, text, p, st)
			return p
		}
	}
	if shared {
		if t := r.templates.template(c, *buf, st, r.opt.Now); t != nil {
			if m, ok := r.fill(t, c, st, text, nil, parse); ok {
				if !m.sketched || r.twice(text) {
					r.keep(c, st, m, bytes.Clone(text))
				}
				return m.plan
			}
		}
	}
	if !parse {
		return nil
	}
	r.parsed.Add(1)
	made := r.plan(c, st, text, info)
	if shared && made.template != nil {
		r.templates.put(c, &planEntry{text: bytes.Clone(*buf), plan: made.plan, template: made.template, epoch: st.epoch})
	}
	if shared && !made.literal && !made.moment {
		r.shape.put(c, &planEntry{text: bytes.Clone(*buf), plan: made.plan, epoch: st.epoch, expires: made.expires})
	} else {
		r.keep(c, st, made, bytes.Clone(text))
	}
	return made.plan
}

// keep keeps a plan by key, which it may hold on to.
func (r *Router) keep(c *Context, st *state, m made, key []byte) {
	e := &planEntry{text: key, plan: m.plan, epoch: st.epoch, expires: m.expires}
	if m.moment {
		e.snapshot = st.snapshot
	}
	r.raw.put(c, e)
}

// Bound returns the plan of a text whose plan said AtBind, for the values of its
// parameters. Like Plan it never returns nil.
func (r *Router) Bound(c *Context, text []byte, params []Param) *Plan {
	st := r.current()
	buf := r.buffer.Get().(*[]byte)
	defer r.buffer.Put(buf)
	*buf, _ = sqltext.AppendShape((*buf)[:0], text, c.ConformingStrings)
	t := r.templates.template(c, *buf, st, r.opt.Now)
	if t == nil { // evicted, or of an older catalog
		if p := r.Plan(c, text); !p.AtBind {
			return p
		}
		*buf, _ = sqltext.AppendShape((*buf)[:0], text, c.ConformingStrings)
		if t = r.templates.template(c, *buf, st, r.opt.Now); t == nil {
			return planUnbound
		}
	}
	key := t.appendBound(append(bytes.Clone(text), 0), params)
	if p := r.raw.get(c, key, st, r.opt.Now); p != nil {
		return p
	}
	m, ok := r.fill(t, c, st, text, params, true)
	if !ok {
		return planUnbound
	}
	r.keep(c, st, m, key)
	return m.plan
}

// planUnbound is the plan of a statement whose parameters cannot be looked at.
var planUnbound = &Plan{Action: Pass, Reason: ReasonAggTimeParameter}

// remember keeps a text that its shape answered for the second time.
func (r *Router) remember(c *Context, text []byte, p *Plan, st *state) {
	if r.twice(text) {
		r.raw.put(c, &planEntry{text: bytes.Clone(text), plan: p, epoch: st.epoch})
	}
}

// twice reports whether a text was found without being kept before, of late.
func (r *Router) twice(text []byte) bool {
	h := maphash.Bytes(r.seed, text) | 1
	return r.once[h>>1%uint64(len(r.once))].Swap(h) == h
}

// current follows the catalog: a snapshot with another fingerprint voids all
// plans, a newer one of the same fingerprint only those that look at its chunks
// and watermarks. A plan made under an older state than the cache's is put with
// its own epoch, so that nobody gets it.
func (r *Router) current() *state {
	st := r.state.Load()
	if r.opt.Catalog == nil || r.opt.Catalog.Load() == st.view.snap {
		return st
	}
	r.follow.Lock()
	defer r.follow.Unlock()
	st = r.state.Load()
	snap := r.opt.Catalog.Load()
	old := st.view.snap
	if snap == old {
		return st
	}
	next := &state{view: newView(snap), rules: st.rules, epoch: st.epoch, snapshot: st.snapshot + 1}
	if snap == nil || old == nil || snap.Fingerprint != old.Fingerprint || snap.InRecovery != old.InRecovery {
		next.epoch++
		r.raw.clear()
		r.shape.clear()
	}
	r.state.Store(next)
	return next
}

// SetRules has texts judged by other rules from now on.
func (r *Router) SetRules(set *rules.Set) {
	r.follow.Lock()
	defer r.follow.Unlock()
	st := r.state.Load()
	r.state.Store(&state{view: st.view, rules: set, epoch: st.epoch + 1, snapshot: st.snapshot + 1})
	r.raw.clear()
	r.shape.clear()
}

// Generation changes whenever a plan may: with every snapshot of the catalog, and
// with the rules.
func (r *Router) Generation() uint64 { return r.current().snapshot }

// Stat is a moment's figures of a Router.
type Stat struct {
	Texts, TextBytes   int    // plans kept by text, and their bytes
	Shapes, ShapeBytes int    // plans kept by shape, and their bytes
	Parsed             uint64 // texts that were not found by either, since the start
}

// Stat returns the router's figures.
func (r *Router) Stat() Stat {
	var s Stat
	s.Texts, s.TextBytes = r.raw.stat()
	s.Shapes, s.ShapeBytes = r.shape.stat()
	s.Parsed = r.parsed.Load()
	return s
}
