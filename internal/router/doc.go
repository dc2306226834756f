// Package router decides what happens to a text of SQL: forwarded as it is,
// answered from a continuous aggregate, from memory, by the gateway itself, or
// refused by a rule; and what the text does to the session that sends it.
//
// Two invariants. What is not understood passes: every doubt ends in Pass with a
// reason, never in an error. And a statement counts as clean, so that its server
// connection may serve another client next, only when each function, operator,
// type, cast and relation it names resolves to code that is known.
//
// The parser (libpg_query) lives here and nowhere else, behind a guard on length
// and depth. The package knows no connection, no protocol and no client; it must
// never ask the database anything. Plans and everything they point to are
// immutable, shared, and owned by the garbage collector; the text given to Plan
// is copied before it is kept.
//
//	text -> Plan: raw bytes -> shape -> guard -> parse -> classify -> rules -> k-NN | aggregate | pass
package router
