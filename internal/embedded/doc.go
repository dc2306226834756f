// Package embedded runs TimescaleDB (Community) and pgvector without a server
// to install: PostgreSQL compiled to wasm, from an npm package, in a Node.js
// process behind our own socket front (node/server.mjs). It is for the demo and
// for tests, never for production: a small community build, one session at a
// time, whole answers held in memory, no background workers.
//
// Install puts the packages below a cache folder, once for each lock file, with
// a template of an initialised data directory beside them. Start copies that
// template, or resumes a data directory, and starts the process; it ends when
// Close is called or this process is gone.
//
// What differs from a server, and tests must know: the database is template1
// whatever name is asked for; any user and password pass and all are the
// superuser; pg_backend_pid() is 0; no two-phase commit, no CREATE INDEX
// CONCURRENTLY, no statement_timeout. Other connections wait until the one
// before them ends. A cancel ends the engine under the statement: its client
// gets 57014 and is disconnected, the engine is back within a second with all
// that was committed.
//
// The package knows nothing of the gateway and imports nothing of it.
package embedded
