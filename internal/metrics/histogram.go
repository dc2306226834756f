package metrics

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Histogram counts durations by the buckets that they fall into. It is Prometheus's
// histogram for who observes at every statement: that one searches its bounds one by
// one and counts each observation twice.
type Histogram struct {
	counts [len(bounds) + 1]atomic.Uint64
	sum    atomic.Int64 // ns
}

// bounds of the buckets, each included in the one below it, run from a statement that
// the server answers from its buffers (some 50 µs) to one that somebody waits for.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// from is the first bucket that a duration of so many bits may fall into.
var from = func() (f [65]uint8) {
	for n := range f {
		for int(f[n]) < len(bounds) && n > bits.Len64(uint64(bounds[f[n]])) {
			f[n]++
		}
	}
	return f
}()

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	i := int(from[bits.Len64(uint64(d))])
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// histograms are the Histograms of one name, which they are collected under.
type histograms struct {
	desc   *prometheus.Desc
	of     []*Histogram
	labels []string // the value of the one label for each; nil: there is none
}

func (m *Metrics) histogram(name, help, label string, values ...string) []*Histogram {
	x := &histograms{labels: values}
	var labels []string
	if label == "" {
		x.of = []*Histogram{new(Histogram)}
	} else {
		labels = []string{label}
		for range values {
			x.of = append(x.of, new(Histogram))
		}
	}
	x.desc = prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	m.registry.MustRegister(x)
	return x.of
}

// Describe is a prometheus.Collector's.
func (x *histograms) Describe(to chan<- *prometheus.Desc) { to <- x.desc }

// Collect is a prometheus.Collector's.
func (x *histograms) Collect(to chan<- prometheus.Metric) {
	for i, h := range x.of {
		var labels []string
		if x.labels != nil {
			labels = x.labels[i : i+1]
		}
		sum, count, below := time.Duration(h.sum.Load()), uint64(0), make(map[float64]uint64, len(bounds))
		for j := range bounds {
			count += h.counts[j].Load()
			below[bounds[j].Seconds()] = count
		}
		count += h.counts[len(bounds)].Load()
		to <- prometheus.MustNewConstHistogram(x.desc, count, sum.Seconds(), below, labels...)
	}
}
