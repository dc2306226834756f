// Package netloop gives connections that can be waited for in two manners: a
// goroutine blocks on them as on any net.Conn, or nobody waits and a Handler is
// called when the socket becomes ready. A connection without a waiter costs its
// struct and its descriptor: no goroutine, no stack, no buffer.
//
// Each loop is a goroutine around one edge-triggered epoll set (epoll(7)). A
// connection stays with the loop that it was registered at; its handler runs on
// that loop's goroutine, wherever the work that it belongs to ran before, so
// connections never have to move. Reads and writes are raw non-blocking system
// calls; only epoll_wait itself waits, as a system call that the scheduler knows
// of. A handler must not wait: whatever might belongs in a goroutine.
//
// The package knows nothing of what the bytes mean. A Conn belongs to one reader
// and one writer at a time; Close, SetDeadline and Watch may be called by anybody.
// Bytes that a socket does not take at once are copied to the Conn.
//
// Where there is no epoll, New fails with ErrUnsupported and connections are
// those of package net.
package netloop
