// Package pool keeps the server connections of one database and user.
//
// A connection is dialled by pgconn (authentication, TLS), hijacked, and from
// then on spoken to as bytes through its wire.Stream. It belongs to exactly one
// holder between Acquire and Release; a released one goes straight to the client
// that has waited longest.
//
//	Acquire -> (idle | dial | wait) -> holder -> Release -> (reset?) -> next waiter | idle
//
// What a connection's session holds is known by three things: its Bucket (the
// settings in force), its ledger (prepared statements) and whether it is clean.
// The pool never looks at SQL and knows no client protocol.
//
// Memory: Conn and its Stream belong to the holder; rows returned by Query are
// copies.
package pool
