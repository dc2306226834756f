package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// windowFunctions are the built-in functions that are followed before OVER.
var windowFunctions = setOf("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead",
	"first_value", "last_value", "nth_value", "count", "sum", "avg", "min", "max")

// window writes a window function: its arguments and its window are expressions
// over groups.
func (r *renderer) window(f *pg_query.FuncCall) {
	names, ok := stringsOf(f.Funcname)
	if !ok || len(names) == 0 || len(names) > 2 {
		r.fail(ReasonAggFunction)
		return
	}
	name := names[len(names)-1]
	switch {
	case r.snap.UserFunctions[name]:
		r.fail(ReasonAggUserCode)
	case !windowFunctions[name], f.AggDistinct, f.FuncVariadic, len(f.AggOrder) > 0, f.AggWithinGroup:
		r.fail(ReasonAggWindow)
	}
	r.write(dottedText(names))
	if f.AggStar {
		r.write("(*)")
	} else {
		r.list("(", f.Args, ")")
	}
	if f.AggFilter != nil {
		r.write(" FILTER (WHERE ")
		r.expr(f.AggFilter)
		r.write(")")
	}
	r.write(" OVER ")
	if f.Over.Name != "" {
		r.write(ident(f.Over.Name))
	} else {
		r.windowDefinition(f.Over)
	}
}

// Bits of a window's frame (FRAMEOPTION_* in parsenodes.h).
const (
	frameNonDefault = 0x00001
	frameRows       = 0x00004
	frameGroups     = 0x00008
	frameBetween    = 0x00010
)

// frameBounds are the bits of a frame's start and of its end, and how they are
// written; those with an offset have it before the word.
var (
	frameStarts = []frameBound{{0x20, "UNBOUNDED PRECEDING", false}, {0x200, "CURRENT ROW", false}, {0x800, " PRECEDING", true}, {0x2000, " FOLLOWING", true}}
	frameEnds   = []frameBound{{0x100, "UNBOUNDED FOLLOWING", false}, {0x400, "CURRENT ROW", false}, {0x1000, " PRECEDING", true}, {0x4000, " FOLLOWING", true}}
	exclusions  = []frameBound{{0x8000, " EXCLUDE CURRENT ROW", false}, {0x10000, " EXCLUDE GROUP", false}, {0x20000, " EXCLUDE TIES", false}}
)

type frameBound struct {
	bit    int32
	text   string
	offset bool
}

// windowDefinition writes a window's definition in parentheses.
func (r *renderer) windowDefinition(w *pg_query.WindowDef) {
	r.write("(")
	if w.Refname != "" {
		r.write(ident(w.Refname))
	}
	if len(w.PartitionClause) > 0 {
		r.list(" PARTITION BY ", w.PartitionClause, "")
	}
	for i, n := range w.OrderClause {
		s := n.GetSortBy()
		suffix, ok := sortSuffix(s)
		if !ok {
			r.fail(ReasonAggWindow)
			return
		}
		if i == 0 {
			r.write(" ORDER BY ")
		} else {
			r.write(", ")
		}
		r.expr(s.Node)
		r.write(suffix)
	}
	if w.FrameOptions&frameNonDefault != 0 {
		r.frame(w)
	}
	r.write(")")
}

func (r *renderer) frame(w *pg_query.WindowDef) {
	switch {
	case w.FrameOptions&frameRows != 0:
		r.write(" ROWS ")
	case w.FrameOptions&frameGroups != 0:
		r.write(" GROUPS ")
	default:
		r.write(" RANGE ")
	}
	between := w.FrameOptions&frameBetween != 0
	if between {
		r.write("BETWEEN ")
	}
	r.bound(frameStarts, w.FrameOptions, w.StartOffset)
	if between {
		r.write(" AND ")
		r.bound(frameEnds, w.FrameOptions, w.EndOffset)
	}
	for _, x := range exclusions {
		if w.FrameOptions&x.bit != 0 {
			r.write(x.text)
		}
	}
}

func (r *renderer) bound(bounds []frameBound, options int32, offset *pg_query.Node) {
	for _, b := range bounds {
		if options&b.bit == 0 {
			continue
		}
		if b.offset {
			r.expr(offset)
		}
		r.write(b.text)
		return
	}
	r.fail(ReasonAggWindow)
}

// sortSuffix writes the direction of an element of ORDER BY; false when it uses an
// operator.
func sortSuffix(s *pg_query.SortBy) (string, bool) {
	if s == nil || len(s.UseOp) > 0 || s.SortbyDir == pg_query.SortByDir_SORTBY_USING {
		return "", false
	}
	suffix := ""
	if s.SortbyDir == pg_query.SortByDir_SORTBY_DESC {
		suffix = " DESC"
	}
	switch s.SortbyNulls {
	case pg_query.SortByNulls_SORTBY_NULLS_FIRST:
		suffix += " NULLS FIRST"
	case pg_query.SortByNulls_SORTBY_NULLS_LAST:
		suffix += " NULLS LAST"
	}
	return suffix, true
}

// windowClause writes the named windows of a statement, "" without any.
func windowClause(list []*pg_query.Node, write func(*pg_query.WindowDef) (string, Reason)) (string, Reason) {
	out := ""
	for i, n := range list {
		w := n.GetWindowDef()
		text, reason := write(w)
		if reason != "" {
			return "", reason
		}
		if i == 0 {
			out += " WINDOW "
		} else {
			out += ", "
		}
		out += ident(w.Name) + " AS " + text
	}
	return out, ""
}
