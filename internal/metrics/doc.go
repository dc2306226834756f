// Package metrics holds every Prometheus instrument of the gateway in one place.
//
//	Metrics.Queries[action].Inc()   on the data path: an atomic addition
//	Metrics.Watch(Sources{…})       figures that others keep, asked for at each scrape
//	Metrics.Registry() -> admin's /metrics
//
// All labelled children are resolved by New, into arrays indexed by the enums of
// labels.go; labels come from these closed lists only, never from statements,
// tables or clients, so that the number of series has a bound. It is a leaf: it
// knows no other package of the gateway. Where an enum mirrors another package's
// (Action the router's, Pin its pins) a test of the gateway compares them.
//
// All methods and fields may be used by any goroutine. Nothing on the data path
// allocates.
package metrics
