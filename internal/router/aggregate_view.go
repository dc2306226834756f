package router

import (
	"sync/atomic"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// viewSet is what the definitions of one snapshot's aggregates say.
type viewSet struct {
	snap  *catalog.Snapshot
	views map[int32]*rollup.View // by Aggregate.ID; without those that are not followed
}

// viewSets remembers the definitions of the last few snapshots, one slot for each
// of several databases: definitions are parsed when a catalog changes, not for
// each query. Slots are overwritten in turn.
var (
	viewSets    [8]atomic.Pointer[viewSet]
	viewSetTurn atomic.Uint32
)

// viewsOf returns the understood aggregates of a snapshot.
func viewsOf(snap *catalog.Snapshot) map[int32]*rollup.View {
	var same *viewSet // of an older snapshot in which nothing but watermarks and chunks differs
	slot := -1
	for i := range viewSets {
		set := viewSets[i].Load()
		if set == nil {
			continue
		}
		if set.snap == snap {
			return set.views
		}
		if snap.Fingerprint != "" && set.snap.Fingerprint == snap.Fingerprint {
			same, slot = set, i
		}
	}
	set := &viewSet{snap: snap, views: map[int32]*rollup.View{}}
	if same == nil {
		for range snap.Aggregates { // those over others come after them
			before := len(set.views)
			for _, a := range snap.Aggregates {
				if set.views[a.ID] != nil {
					continue
				}
				if v := viewOf(snap, set.views, a); v != nil {
					set.views[a.ID] = v
				}
			}
			if len(set.views) == before {
				break
			}
		}
	} else {
		now := map[int32]*catalog.Aggregate{}
		for _, a := range snap.Aggregates {
			now[a.ID] = a
		}
		for id, v := range same.views {
			moved := *v
			moved.Aggregate, moved.Under = now[id], make([]*catalog.Aggregate, len(v.Under))
			for i, u := range v.Under {
				moved.Under[i] = now[u.ID]
			}
			set.views[id] = &moved
		}
	}
	if slot < 0 {
		slot = int(viewSetTurn.Add(1)) % len(viewSets)
	}
	viewSets[slot].Store(set)
	return set.views
}

// viewOf reads the definition of one aggregate, given those that are read.
func viewOf(snap *catalog.Snapshot, views map[int32]*rollup.View, a *catalog.Aggregate) *rollup.View {
	if under := views[a.RawID]; under != nil {
		return parseUpper(snap, under, a)
	}
	for _, other := range snap.Aggregates {
		if other.ID == a.RawID {
			return nil // not read, or not yet
		}
	}
	if hyper := snap.Hypertables[a.RawID]; hyper != nil {
		return parseView(snap, hyper, a)
	}
	return nil
}

// parseView reads the definition of an aggregate over a hypertable; nil when it is
// not of the followed form: time_bucket without time zone and plain columns in GROUP
// BY, one table, no condition. Output columns that are not followed are left out.
func parseView(snap *catalog.Snapshot, hyper *catalog.Hypertable, a *catalog.Aggregate) *rollup.View {
	s := definition(a)
	if s == nil {
		return nil
	}
	rv := s.FromClause[0].GetRangeVar()
	relation := snap.Relations[hyper.Name]
	if rv == nil || relation == nil || rv.Relname != hyper.Name.Name || rv.Schemaname != "" && rv.Schemaname != hyper.Name.Schema {
		return nil
	}
	sc := &scope{snap: snap, hyper: hyper, relation: relation, alias: rv.Relname, timeIsUTC: hyper.TimeType == oidTimestamptz, integer: integerTypes[hyper.TimeType]}
	if rv.Alias != nil {
		sc.alias, sc.aliased = rv.Alias.Aliasname, true
	}
	p := viewParser{scope: sc, view: &rollup.View{Aggregate: a, Root: hyper.ID, Dims: map[string]string{}, Partials: map[rollup.Partial]string{}}}
	for _, n := range s.TargetList {
		p.output(n.GetResTarget())
	}
	for _, n := range s.GroupClause {
		if !p.group(n) {
			return nil
		}
	}
	if !p.bucketed || p.view.Bucket == "" {
		return nil
	}
	if c, ok := storedColumn(a, p.view.Bucket); ok && c.Type != hyper.TimeType {
		return nil
	}
	return p.view
}

type viewParser struct {
	scope    *scope
	view     *rollup.View
	bucketed bool
}

func (p *viewParser) output(t *pg_query.ResTarget) {
	if t == nil || t.Val == nil {
		return
	}
	name := t.Name
	if name == "" {
		name = columnName(t.Val)
	}
	if _, ok := storedColumn(p.view.Aggregate, name); !ok {
		return
	}
	if ref := t.Val.GetColumnRef(); ref != nil {
		if c, ok := p.scope.column(ref); ok {
			p.view.Dims[c.Name] = name // GROUP BY has it, or the definition would not have been taken
		}
		return
	}
	f := t.Val.GetFuncCall()
	if f == nil || f.AggFilter != nil || f.AggDistinct || len(f.AggOrder) > 0 || f.AggWithinGroup || f.Over != nil {
		return
	}
	if functionName(f) == "time_bucket" {
		if _, ok := p.bucket(t.Val); ok {
			p.view.Bucket = name
		}
		return
	}
	p.partial(f, name)
}

func (p *viewParser) partial(f *pg_query.FuncCall, name string) {
	fn, ok := rollup.FuncNamed(functionName(f))
	if !ok || p.scope.snap.UserFunctions[functionName(f)] {
		return
	}
	partial := rollup.Partial{Func: fn}
	switch {
	case f.AggStar:
	case len(f.Args) == 0, len(f.Args) > 2:
		return
	case len(f.Args) == 2 && !p.scope.isTime(f.Args[1]):
		return
	default:
		c, ok := p.scope.value(f.Args[0])
		if !ok {
			return
		}
		partial.Column = c.Name
	}
	p.view.Partials[partial] = name
}

// bucket returns the grid of a time_bucket over the time column.
func (p *viewParser) bucket(n *pg_query.Node) (rollup.Grid, bool) {
	f := n.GetFuncCall()
	if f == nil || functionName(f) != "time_bucket" || p.scope.snap.UserFunctions["time_bucket"] {
		return rollup.Grid{}, false
	}
	read := bucketGrid
	if p.scope.integer {
		read = integerGrid
	}
	grid, arg, ok := read(f.Args)
	return grid, ok && p.scope.isTime(arg)
}

// group reads one expression of the definition's GROUP BY. PostgreSQL prints them
// written out, never as names of output columns or ordinals.
func (p *viewParser) group(n *pg_query.Node) bool {
	if grid, ok := p.bucket(n); ok {
		if p.bucketed {
			return false
		}
		p.bucketed, p.view.Grid = true, grid
		return true
	}
	if ref := n.GetColumnRef(); ref != nil {
		if c, ok := p.scope.column(ref); ok {
			if _, selected := p.view.Dims[c.Name]; !selected {
				p.view.Extra = true
			}
			return c.Name != p.scope.hyper.TimeColumn
		}
		return false
	}
	if n.GetGroupingSet() != nil || n.GetAConst() != nil {
		return false
	}
	p.view.Extra = true
	return true
}
