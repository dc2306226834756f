package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// finest is the number of buckets in which a power of two of nanoseconds is counted:
// a percentile is at most 1/128 above the true one.
const finest = 7

// Latencies counts durations; any number of goroutines may add.
type Latencies struct {
	counts [(64 - finest + 1) << finest]atomic.Int64
}

// add counts one duration.
func (l *Latencies) add(d time.Duration) { l.counts[bucket(d)].Add(1) }

// bucket numbers durations: those below 128 ns one by one, then the 128 parts of each
// power of two.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	shift := max(bits.Len64(n)-finest-1, 0)
	return shift<<finest + int(n>>shift)
}

// upper is the largest duration of a bucket.
func upper(b int) time.Duration {
	if b < 2<<finest {
		return time.Duration(b)
	}
	shift := b>>finest - 1
	return time.Duration(((b&(1<<finest-1)+1<<finest)+1)<<shift - 1)
}

// Count is the number of durations.
func (l *Latencies) Count() (n int64) {
	for i := range l.counts {
		n += l.counts[i].Load()
	}
	return n
}

// Percentile is the smallest duration that a share p (0 to 1) of all does not exceed;
// 0 if there are none.
func (l *Latencies) Percentile(p float64) time.Duration {
	rank := max(int64(math.Ceil(p*float64(l.Count()))), 1)
	for i := range l.counts {
		if rank -= l.counts[i].Load(); rank <= 0 {
			return upper(i)
		}
	}
	return 0
}
