package metrics

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

func TestADurationIsInTheBucketsThatAreNotBelowIt(t *testing.T) {
	m := New()
	seen := []time.Duration{-1, 0, 1, 3 * time.Hour}
	for _, b := range bounds {
		seen = append(seen, b-1, b, b+1)
	}
	var sum time.Duration
	for _, d := range seen {
		m.PoolWait.Observe(d)
		sum += max(d, 0)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got *dto.Histogram
	for _, f := range families {
		if f.GetName() == "qvpgw_pool_wait_seconds" {
			got = f.Metric[0].Histogram
		}
	}
	if got.GetSampleCount() != uint64(len(seen)) || got.GetSampleSum() != sum.Seconds() || len(got.Bucket) != len(bounds) {
		t.Fatalf("it counts %d, together %v s, in %d buckets", got.GetSampleCount(), got.GetSampleSum(), len(got.Bucket))
	}
	for i, b := range got.Bucket {
		want := uint64(0)
		for _, d := range seen {
			if d <= bounds[i] {
				want++
			}
		}
		if b.GetUpperBound() != bounds[i].Seconds() || b.GetCumulativeCount() != want {
			t.Errorf("up to %v it counts %d, want %d up to %v", b.GetUpperBound(), b.GetCumulativeCount(), want, bounds[i])
		}
	}
}
