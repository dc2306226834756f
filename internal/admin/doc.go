// Package admin shows operators what the gateway does: the tables of the console
// (the virtual database that psql and PgBouncer's exporters ask) and HTTP with
// metrics, health, profiles and the page.
//
//	SHOW POOLS -> ParseCommand -> Console.Answer -> Table -> the gateway's wire rows
//	GET /      -> web's files; GET /api/status -> Options.Status -> JSON
//
// It gets plain rows from functions that it is given, and hands the commands that
// change something (PAUSE, KILL, …) on to one. It must never know the protocol, the pool or the router. Secrets never
// come here: config masks them before.
//
// Rows and Status values belong to the caller of a function after it returned; a
// source must not keep or change what it has handed out.
package admin
