package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Count is a counter of the data path, read at each scrape. Those that every statement
// adds to lie side by side in Metrics: two cache lines for all of them, where Prometheus's
// counters are an allocation each.
type Count struct{ n atomic.Int64 }

// Inc adds one.
func (c *Count) Inc() { c.n.Add(1) }

// Add adds n, which is not negative.
func (c *Count) Add(n int64) { c.n.Add(n) }

// Load returns the count.
func (c *Count) Load() int64 { return c.n.Load() }

// counts are the Counts of one name, which they are collected under.
type counts struct {
	desc   *prometheus.Desc
	of     []*Count
	labels []string // the value of the one label for each; nil: there is none
}

// collect has a Count without labels collected.
func (m *Metrics) collect(c *Count, name, help string) {
	m.registry.MustRegister(&counts{desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, nil, nil), of: []*Count{c}})
}

// collectBy has Counts collected that differ in the value of one label.
func (m *Metrics) collectBy(of []Count, name, help, label string, values ...string) {
	x := &counts{labels: values, desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{label}, nil)}
	for i := range of {
		x.of = append(x.of, &of[i])
	}
	m.registry.MustRegister(x)
}

// Describe is a prometheus.Collector's.
func (x *counts) Describe(to chan<- *prometheus.Desc) { to <- x.desc }

// Collect is a prometheus.Collector's.
func (x *counts) Collect(to chan<- prometheus.Metric) {
	for i, c := range x.of {
		var labels []string
		if x.labels != nil {
			labels = x.labels[i : i+1]
		}
		to <- prometheus.MustNewConstMetric(x.desc, prometheus.CounterValue, float64(c.Load()), labels...)
	}
}
