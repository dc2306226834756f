package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"qvpgw/internal/bench"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

// knnBudget asks a million queries that never come again, for one row to five
// thousand, and now and then one of a small set. The gateway's memory may grow by little
// more than its budget, and the set must stay in it.
func knnBudget(t *testing.T, b *knnBed) {
	k := b.gateway(t, "budget", fmt.Sprintf("mode: strict, bytes: %d", b.budget))
	f := b.fleet(t, k, b.clients)
	sizes := knnSizeRequests()
	// What a connection and the biggest answer need without being kept.
	b.run(t, f, bench.Run{Count: 30, Requests: sizes.unkept()})
	base := knnResident(t, k)
	peak, held := base, 0.0
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-over:
				return
			case <-time.After(100 * time.Millisecond):
				peak = max(peak, knnResident(t, k))
				held = max(held, k.counts(t, "qvpgw_cache_bytes")[""])
			}
		}
	}()
	b.run(t, f, bench.Run{Count: max(4*b.hot/b.clients, 1), Requests: sizes.only(b.hot)})
	before := k.counts(t, "qvpgw_cache_hits_total")
	began := time.Now()
	r := b.run(t, f, bench.Run{Count: knnHotEvery * b.distinct / (knnHotEvery - 1) / b.clients, Requests: sizes.mixed(b.hot)})
	hits := k.counts(t, "qvpgw_cache_hits_total")
	close(over)
	<-watched
	held = max(held, k.counts(t, "qvpgw_cache_bytes")[""])
	// Only those of the set are ever asked twice.
	rate := (hits[`{reason="same"}`] - before[`{reason="same"}`]) / (float64(r.Transactions) / knnHotEvery)
	growth := float64(peak-base) / float64(b.budget)
	fmt.Printf("budget   %d queries in %.0f s, all but one of %d new: resident memory grew by %.1f MB, %.3f of the budget, of which %.3f was used; of those of the %d that come again %.4f were answered from memory\n",
		r.Transactions, time.Since(began).Seconds(), knnHotEvery, float64(peak-base)/(1<<20), growth, held/float64(b.budget), b.hot, rate)
	fmt.Printf("budget   hits %v, misses %v, not kept %v, evicted %v\n",
		hits, k.counts(t, "qvpgw_cache_misses_total"), k.counts(t, "qvpgw_cache_rejections_total"), k.counts(t, "qvpgw_cache_evictions_total"))
	b.figure(t, "knn.budget.over", growth)
	b.figure(t, "knn.budget.hot_hit_rate", rate)
	if held > float64(b.budget) || held < 0.8*float64(b.budget) {
		t.Errorf("%.0f bytes were kept, the budget is %d", held, b.budget)
	}
	if b.full && growth > 1.25 { // of a small budget the rest of the program is too much
		t.Errorf("resident memory grew by %.3f of the budget", growth)
	}
	if rate < 0.9 || rate > 1 {
		t.Errorf("the hit rate of the hot set is %.3f", rate)
	}
}

// knnShares are how many of a thousand queries ask for the whole of each table of
// knnSizes, the smallest first.
var knnShares = []int{700, 250, 47, 2, 1}

// One of knnHotEvery queries is of those that come again. One of knnNearEvery new ones
// has a text whose answers may follow from a kept list of the same table; the others ask
// for the distance too, so that each needs an answer, and place, of its own.
const (
	knnHotEvery  = 5
	knnNearEvery = 16
)

// knnSized makes queries for the whole of a table, ordered by distance.
type knnSized struct{ prepare []byte }

func knnSizeRequests() *knnSized {
	s := &knnSized{}
	for i, n := range knnSizes {
		s.prepare = wire.AppendParse(s.prepare, fmt.Sprintf("size%d", i), fmt.Sprintf("SELECT id, v, v <-> $1 FROM sized_%d ORDER BY v <-> $1 LIMIT %d", n, n), nil)
		s.prepare = wire.AppendParse(s.prepare, fmt.Sprintf("near%d", i), fmt.Sprintf("SELECT id, v FROM sized_%d ORDER BY v <-> $1 LIMIT %d", n, n), nil)
		s.prepare = wire.AppendParse(s.prepare, fmt.Sprintf("plain%d", i), fmt.Sprintf("SELECT id, v FROM sized_%d", n), nil)
	}
	s.prepare = wire.AppendSync(s.prepare)
	return s
}

// query is the n-th query of a form: its number decides its vector and how long its
// answer is.
func (s *knnSized) query(dst []byte, form string, n uint64) []byte {
	v := make([]float32, 8)
	for i := range v {
		v[i] = float32(n >> (8 * i) & 0xff)
	}
	size, in := 0, int(n*0x9e3779b97f4a7c15>>40%1000)
	for in >= knnShares[size] {
		in -= knnShares[size]
		size++
	}
	return knnBind(dst, fmt.Sprintf("%s%d", form, size), knnBinary(v))
}

func (s *knnSized) requests(next func(client int) func([]byte) []byte) *bench.Requests {
	return &bench.Requests{Prepare: s.prepare, Next: next}
}

// unkept reads whole tables by statements that no memory keeps.
func (s *knnSized) unkept() *bench.Requests {
	return s.requests(func(int) func([]byte) []byte {
		n := 0
		return func(dst []byte) []byte {
			n++
			dst = wire.AppendBind(dst, "", fmt.Sprintf("plain%d", n%len(knnSizes)), nil, nil, nil)
			return wire.AppendSync(wire.AppendExecute(dst, "", 0))
		}
	})
}

// hot is one of the queries that come again.
func (s *knnSized) hot(dst []byte, rng *rand.Rand, n int) []byte {
	return s.query(dst, "size", 1<<60+rng.Uint64N(uint64(n)))
}

// only asks for those that come again.
func (s *knnSized) only(n int) *bench.Requests {
	return s.requests(func(client int) func([]byte) []byte {
		rng := rand.New(rand.NewPCG(uint64(client), 8))
		return func(dst []byte) []byte { return s.hot(dst, rng, n) }
	})
}

// mixed asks one of n, and new ones between.
func (s *knnSized) mixed(n int) *bench.Requests {
	return s.requests(func(client int) func([]byte) []byte {
		rng, i := rand.New(rand.NewPCG(uint64(client), 7)), uint64(0)
		return func(dst []byte) []byte {
			form := "size"
			switch i++; {
			case i%knnHotEvery == 0:
				return s.hot(dst, rng, n)
			case i%knnNearEvery == 1:
				form = "near"
			}
			return s.query(dst, form, uint64(client)<<32+i)
		}
	})
}

// knnResident is the gateway's resident memory, in bytes.
func knnResident(t *testing.T, k *knnTarget) int64 {
	n, err := pgtest.RSS(k.pid)
	if err != nil {
		t.Error(err)
	}
	return n
}
