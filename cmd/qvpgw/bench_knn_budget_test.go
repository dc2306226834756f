package main

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"qvpgw/internal/bench"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

// knnShares are how many of a thousand queries ask for the whole of each table of
// knnSizes, the smallest first.
var knnShares = []int{700, 250, 47, 2, 1}

// knnSized makes queries for the whole of a table, ordered by distance.
type knnSized struct{ prepare []byte }

func knnSizeRequests() *knnSized {
	s := &knnSized{}
	for i, n := range knnSizes {
		s.prepare = wire.AppendParse(s.prepare, fmt.Sprintf("size%d", i), fmt.Sprintf("SELECT id, v FROM sized_%d ORDER BY v <-> $1 LIMIT %d", n, n), nil)
		s.prepare = wire.AppendParse(s.prepare, fmt.Sprintf("plain%d", i), fmt.Sprintf("SELECT id, v FROM sized_%d", n), nil)
	}
	s.prepare = wire.AppendSync(s.prepare)
	return s
}

// query is the n-th query: its number decides its vector and how long its answer is.
func (s *knnSized) query(dst []byte, n uint64) []byte {
	v := make([]float32, 8)
	for i := range v {
		v[i] = float32(n >> (8 * i) & 0xff)
	}
	size, in := 0, int(n*0x9e3779b97f4a7c15>>40%1000)
	for in >= knnShares[size] {
		in -= knnShares[size]
		size++
	}
	return knnBind(dst, fmt.Sprintf("size%d", size), knnBinary(v))
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
func hot(rng *rand.Rand, n int) uint64 { return 1<<60 + rng.Uint64N(uint64(n)) }

// only asks for those that come again.
func (s *knnSized) only(n int) *bench.Requests {
	return s.requests(func(client int) func([]byte) []byte {
		rng := rand.New(rand.NewPCG(uint64(client), 8))
		return func(dst []byte) []byte { return s.query(dst, hot(rng, n)) }
	})
}

// mixed asks a new one and one of n by turns.
func (s *knnSized) mixed(n int) *bench.Requests {
	return s.requests(func(client int) func([]byte) []byte {
		rng, i := rand.New(rand.NewPCG(uint64(client), 7)), uint64(0)
		return func(dst []byte) []byte {
			if i++; i%2 == 0 {
				return s.query(dst, hot(rng, n))
			}
			return s.query(dst, uint64(client)<<32+i)
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
