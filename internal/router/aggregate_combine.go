package router

import (
	"strconv"

	"qvpgw/internal/rollup"
)

// single reports whether each group of the query is one row of the union: the
// query's bucket is the aggregate's own and every column that the aggregate groups
// by is grouped or fixed. Spans end on boundaries of the bucket, so no bucket has
// rows in two arms. Then nothing is put together, and the server saves an
// aggregation over every stored row. Not where a call has FILTER or DISTINCT
// inside, whatever it looks at: that is left to the server's aggregation.
func (d *candidate) single() bool {
	if d.view.Extra || d.query.groups != nil || d.query.gathers || len(d.query.scope.dims) > 0 {
		return false
	}
	for name := range d.view.Dims {
		if !d.query.pinned[name] {
			return false
		}
	}
	for _, k := range d.query.keys {
		form, ok := d.query.clock.form(k.node)
		if !ok || !form.start || !utcZones[form.zone] && form.zone != "" {
			continue
		}
		if d.view.Grid.Refines(form.grid) && form.grid.Refines(d.view.Grid) {
			return true
		}
	}
	return false
}

// unionColumn names a column of the union that holds the i-th part of a recipe.
func unionColumn(parts []int, i int) string { return unionAlias + ".a" + strconv.Itoa(parts[i]+1) }

// pick writes the value of a call where a group is one row of the union.
func pick(c rollup.Combine, _, _ string, parts []int) string {
	switch c {
	case rollup.CombineAvgNumeric:
		return "(" + unionColumn(parts, 0) + "::pg_catalog.numeric OPERATOR(pg_catalog./) NULLIF(" + unionColumn(parts, 1) + ", 0)::pg_catalog.numeric)"
	case rollup.CombineAvgFloat:
		return "(" + unionColumn(parts, 0) + " OPERATOR(pg_catalog./) NULLIF(" + unionColumn(parts, 1) + ", 0)::pg_catalog.float8)"
	}
	return unionColumn(parts, 0)
}

// combine writes how columns of the union become one value. filter is a FILTER
// clause, with a blank before it, or empty.
func combine(c rollup.Combine, function, filter string, parts []int) string {
	over := func(name string, i int) string {
		return "pg_catalog." + name + "(" + unionColumn(parts, i) + ")" + filter
	}
	switch c {
	case rollup.CombineCount:
		return "COALESCE(" + over("sum", 0) + ", 0)::pg_catalog.int8"
	case rollup.CombineSum:
		return over("sum", 0)
	case rollup.CombineSumInt:
		return over("sum", 0) + "::pg_catalog.int8"
	case rollup.CombineSame:
		return function + "(" + unionColumn(parts, 0) + ")" + filter
	case rollup.CombineMin:
		return over("min", 0)
	case rollup.CombineMax:
		return over("max", 0)
	case rollup.CombineAvgNumeric:
		return "(" + over("sum", 0) + "::pg_catalog.numeric OPERATOR(pg_catalog./) NULLIF(" + over("sum", 1) + ", 0))"
	case rollup.CombineAvgFloat:
		return "(" + over("sum", 0) + " OPERATOR(pg_catalog./) NULLIF(" + over("sum", 1) + ", 0)::pg_catalog.float8)"
	case rollup.CombineFirst, rollup.CombineLast:
		return function + "(" + unionColumn(parts, 0) + ", " + unionColumn(parts, 1) + ")" + filter
	}
	panic("BUG: an unknown way to combine partials")
}
