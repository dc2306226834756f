package router

import (
	"strconv"

	"qvpgw/internal/rollup"
)

// single reports whether each group of the query is one row of the union: the
// query's bucket is the aggregate's own and every column that the aggregate groups
// by is grouped or fixed. Spans end on boundaries of the bucket, so no bucket has
// rows in two arms. Then nothing is put together, and the server saves an
// aggregation over every stored row.
func (d *candidate) single() bool {
	if d.view.Extra {
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
func pick(c rollup.Combine, _ string, parts []int) string {
	switch c {
	case rollup.CombineAvgNumeric:
		return "(" + unionColumn(parts, 0) + "::pg_catalog.numeric OPERATOR(pg_catalog./) NULLIF(" + unionColumn(parts, 1) + ", 0)::pg_catalog.numeric)"
	case rollup.CombineAvgFloat:
		return "(" + unionColumn(parts, 0) + " OPERATOR(pg_catalog./) NULLIF(" + unionColumn(parts, 1) + ", 0)::pg_catalog.float8)"
	}
	return unionColumn(parts, 0)
}

// combine writes how columns of the union become one value.
func combine(c rollup.Combine, function string, parts []int) string {
	a := func(i int) string { return unionColumn(parts, i) }
	switch c {
	case rollup.CombineCount:
		return "COALESCE(pg_catalog.sum(" + a(0) + "), 0)::pg_catalog.int8"
	case rollup.CombineSum:
		return "pg_catalog.sum(" + a(0) + ")"
	case rollup.CombineSumInt:
		return "pg_catalog.sum(" + a(0) + ")::pg_catalog.int8"
	case rollup.CombineMin:
		return "pg_catalog.min(" + a(0) + ")"
	case rollup.CombineMax:
		return "pg_catalog.max(" + a(0) + ")"
	case rollup.CombineAvgNumeric:
		return "(pg_catalog.sum(" + a(0) + ")::pg_catalog.numeric OPERATOR(pg_catalog./) NULLIF(pg_catalog.sum(" + a(1) + "), 0))"
	case rollup.CombineAvgFloat:
		return "(pg_catalog.sum(" + a(0) + ") OPERATOR(pg_catalog./) NULLIF(pg_catalog.sum(" + a(1) + "), 0)::pg_catalog.float8)"
	case rollup.CombineFirst, rollup.CombineLast:
		return function + "(" + a(0) + ", " + a(1) + ")"
	}
	panic("BUG: an unknown way to combine partials")
}
