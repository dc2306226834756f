// Package cache keeps answers of k-NN queries as opaque wire bytes.
//
//	key (plan, settings, role, parameters) -> Get -> caller judges Entry.Proof -> Reply
//	miss -> caller runs the query, tees its reply -> Put
//
// It is a leaf. It must never know SQL, the protocol or the database, and it never
// calls an answer fresh: whether an Entry may be sent is the caller's proof.
//
// An Entry and its Reply belong to the cache after Put and are immutable; Get hands
// out the same memory, which stays valid after eviction for as long as the caller
// holds it. Keys are compared whole, the hash only finds the bucket; Get does not
// keep the key, Put copies it.
//
// The budget counts keys, replies and the overhead of an entry. In this form the
// bytes lie on Go's heap: between two collections the process may hold evicted
// entries beside the budget.
package cache
