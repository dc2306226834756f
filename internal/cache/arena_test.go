package cache

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestBlocksAreGivenOnceUntilTheyAreFree compares an arena with a model: who has which
// block, and what is in it.
func TestBlocksAreGivenOnceUntilTheyAreFree(t *testing.T) {
	for name, reserve := range map[string]func(int) ([]byte, func(), error){"heap": heapReserve, "system": reserve} {
		t.Run(name, func(t *testing.T) {
			const most = 20
			a, err := newArena(int64(most*segmentSize+17), reserve)
			if err != nil {
				t.Fatal(err)
			}
			a.poisoned = true
			r, random := rand.New(rand.NewPCG(3, 4)), rand.NewChaCha8([32]byte{5})
			type owner struct {
				blocks []uint32
				bytes  []byte
			}
			var owners []owner
			taken := map[uint32]bool{}
			for step := range 1500 {
				switch n := r.IntN(3 * blocksOfSegment); {
				case r.IntN(2) == 0 && a.busy()+a.wants(n) <= most:
					o := owner{make([]uint32, n), make([]byte, max(0, n*blockSize-r.IntN(blockSize)))}
					_, _ = random.Read(o.bytes)
					want := max(a.resident, a.busy()+a.wants(n))
					a.take(o.blocks)
					if a.resident != want {
						t.Fatalf("step %d: %d segments have memory, foretold were %d", step, a.resident, want)
					}
					for _, b := range o.blocks {
						if taken[b] {
							t.Fatalf("step %d: block %d is given twice", step, b)
						}
						taken[b] = true
					}
					cut := r.IntN(len(o.bytes) + 1)
					a.write(o.blocks, o.bytes[:cut], nil, o.bytes[cut:])
					owners = append(owners, o)
				case len(owners) > 0:
					at := r.IntN(len(owners))
					o := owners[at]
					owners = slices.Delete(owners, at, at+1)
					from := r.IntN(len(o.bytes) + 1)
					to := from + r.IntN(len(o.bytes)-from+1)
					if got := a.append([]byte("x"), o.blocks, from, to-from); string(got) != "x"+string(o.bytes[from:to]) {
						t.Fatalf("step %d: bytes %d to %d of %d are others", step, from, to, len(o.bytes))
					}
					if !a.begins(o.blocks, o.bytes[:to]) || to > 0 && a.begins(o.blocks, append(slices.Clone(o.bytes[:to-1]), o.bytes[to-1]+1)) {
						t.Fatalf("step %d: the beginning is compared wrongly", step)
					}
					a.put(o.blocks)
					for _, b := range o.blocks {
						delete(taken, b)
					}
				}
				if r.IntN(50) == 0 && a.empts > 0 {
					a.giveBack()
				}
				if a.used != len(taken) || a.resident > most {
					t.Fatalf("step %d: %d blocks are in use, counted %d, %d segments have memory", step, len(taken), a.used, a.resident)
				}
			}
			for _, o := range owners {
				if string(a.append(nil, o.blocks, 0, len(o.bytes))) != string(o.bytes) {
					t.Fatal("blocks have other bytes in the end")
				}
				a.put(o.blocks)
			}
			for a.empts > 0 {
				a.giveBack()
			}
			if a.used != 0 || a.resident != 0 {
				t.Errorf("%d blocks and %d segments are left", a.used, a.resident)
			}
		})
	}
}

func TestABlockThatIsFreedTwiceIsABug(t *testing.T) {
	a, err := newArena(int64(segmentSize), heapReserve)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]uint32, 2)
	a.take(b)
	a.put(b[:1])
	defer func() {
		if recover() == nil {
			t.Error("nothing happens")
		}
	}()
	a.put(b)
}
