// Package rollup says what can be derived from a continuous aggregate: which
// bucket follows from which (the bucket lemma), which aggregate function follows
// from which stored partials, which part of a time range the aggregate may
// answer, and which of several aggregates is the cheapest.
//
// It is pure arithmetic over facts of package catalog: it must never know SQL
// text, a parser, a connection or a clock. Times are TimescaleDB's internal time,
// microseconds since the Unix epoch; timestamps without time zone count as UTC.
// Everything is a value or read-only after it was made, so it may be shared.
//
//	view definition -> View
//	query -> Needs (buckets, calls) -> View.Derive -> Recipe
//	bounds, watermark, dirty spans -> Split -> what is read from where
//
// The lemma: let f be the aggregate's bucket and g the query's. Rows grouped by g
// are the aggregate's rows grouped by g if and only if g(t) = g(f(t)) for every t
// that is read, that is, if every boundary of g is a boundary of f. Then g of the
// aggregate's bucket column stands in for g of the time column.
package rollup
