// Package gateway is one client's life: startup, turns, the end. It is the only
// place on the data path that knows wire, pool, router and cache together.
//
//	Serve -> session.serve -> startup, TLS, authentication -> turns -> close
//	a turn: client half (read messages, decide, send) -> server half (pass the
//	replies) -> settle (track, release the server connection)
//
// A turn is half-duplex. It runs in one of two gears (gear.go, easy.go): on an event loop,
// where nothing may block, or in a goroutine. Between turns a client is parked:
// nobody runs it, and it keeps no more than it must (work.go). Whoever runs a
// session has it, and the server connection that it holds, alone. Two things step
// out of that: a write that the server does not take lets the replies flow
// meanwhile, and a sweeper looks at clients whose turn takes long and cancels for
// those that have hung up.
//
// It knows no SQL beyond the plan that package router made, no TimescaleDB and
// no pgvector. Bytes of a message belong to the Stream that read them; what a
// session keeps it copies.
package gateway
