package knn

import (
	"hash/maphash"
	"slices"
)

// Keys are the keys of an answer's rows, as 32 bits of a hash each: an answer of thousands
// of rows has nothing for the collector to follow. Two keys of equal hash are taken for
// one another, which ends an answer for nothing at worst. The zero Keys is empty.
type Keys struct{ hashes []uint32 }

var keySeed = maphash.MakeSeed()

func keyHash(key string) uint32 { return uint32(maphash.String(keySeed, key)) }

// Add adds a key, as the change log has it.
func (k *Keys) Add(key string) { k.hashes = append(k.hashes, keyHash(key)) }

// Forget drops all keys.
func (k *Keys) Forget() { k.hashes = nil }

// finish makes k ready for mayHave, in no more memory than it needs.
func (k *Keys) finish() {
	slices.Sort(k.hashes)
	k.hashes = slices.Compact(k.hashes)
	k.hashes = append(make([]uint32, 0, len(k.hashes)), k.hashes...)
}

// mayHave is false only if key was not added.
func (k *Keys) mayHave(key string) bool {
	_, found := slices.BinarySearch(k.hashes, keyHash(key))
	return found
}

// size is the memory that k holds, in bytes.
func (k *Keys) size() int64 { return 4 * int64(cap(k.hashes)) * 9 / 8 }
