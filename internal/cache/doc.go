// Package cache keeps answers of k-NN queries as opaque wire bytes.
//
//	key (plan, settings, role, parameters) -> Get -> caller judges Entry.Proof -> AppendReply, Release
//	miss -> caller runs the query, tees its reply -> Put
//
// It is a leaf. It must never know SQL, the protocol or the database, and it never
// calls an answer fresh: whether an Entry may be sent is the caller's proof.
//
// Keys, heads and replies lie in an arena outside of Go's heap, cut into blocks of equal
// size; an Entry, which is on the heap, has the numbers of its blocks. Whoever was given
// an Entry by Get reads it until Release; then, or at eviction if that is later, its
// blocks are free. Keys are compared whole, the hash only finds the bucket; neither Get
// nor Put keeps what it is given.
//
// The budget is that of resident memory: segments of the arena that have memory, and
// three times what entries and proofs take of Go's heap, which the collector lets garbage
// double and which is never used to the last byte.
package cache
