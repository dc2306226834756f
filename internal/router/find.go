package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// visit calls f for every message below a node, outermost first, and does not go
// into those for which f returns false.
func visit(n *pg_query.Node, f func(m any) bool) {
	if n != nil {
		visitMessage(n.ProtoReflect(), f)
	}
}

func visitAll(list []*pg_query.Node, f func(m any) bool) {
	for _, n := range list {
		visit(n, f)
	}
}

func visitMessage(m protoreflect.Message, f func(m any) bool) {
	if !f(m.Interface()) {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() != protoreflect.MessageKind {
			return true
		}
		if !fd.IsList() {
			visitMessage(v.Message(), f)
			return true
		}
		for list, i := v.List(), 0; i < list.Len(); i++ {
			visitMessage(list.Get(i).Message(), f)
		}
		return true
	})
}

// mentions reports whether an expression has a column of that name.
func mentions(n *pg_query.Node, column string) bool {
	found := false
	visit(n, func(m any) bool {
		if ref, ok := m.(*pg_query.ColumnRef); ok && len(ref.Fields) > 0 {
			found = found || ref.Fields[len(ref.Fields)-1].GetString_().GetSval() == column
		}
		return !found
	})
	return found
}

// hasAggregate reports whether a target list calls an aggregate function of those
// that can be told by their name, outside of sub-queries and windows.
func hasAggregate(targets []*pg_query.Node) bool {
	found := false
	for _, t := range targets {
		visit(t, func(m any) bool {
			switch x := m.(type) {
			case *pg_query.SubLink:
				return false
			case *pg_query.FuncCall:
				_, name, _ := qualified(x.Funcname)
				found = found || x.Over == nil && (x.AggStar || aggregateNames[name])
			}
			return !found
		})
	}
	return found
}

// aggregateNames are the aggregate functions of PostgreSQL, TimescaleDB and
// pgvector. A missing one costs a route or a rule's match, no more.
var aggregateNames = words(`
count sum avg min max first last any_value array_agg string_agg json_agg
json_object_agg jsonb_agg jsonb_object_agg xmlagg bool_and bool_or every bit_and
bit_or bit_xor stddev stddev_pop stddev_samp variance var_pop var_samp corr
covar_pop covar_samp regr_avgx regr_avgy regr_count regr_intercept regr_r2
regr_slope regr_sxx regr_sxy regr_syy percentile_cont percentile_disc mode rank
dense_rank percent_rank cume_dist range_agg range_intersect_agg histogram
`)
