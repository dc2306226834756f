package pool

import "time"

var epoch = time.Now()

// Now is time.Now at half its price: it reads the monotonic clock alone, so that its
// wall clock does not follow one that is set.
func Now() time.Time { return epoch.Add(time.Since(epoch)) }
