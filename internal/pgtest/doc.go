// Package pgtest gives tests real backends and scripted peers. Nothing outside
// tests and benchmarks may import it.
//
// Three kinds of backend, one line each:
//
//	c := pgtest.Native(t)        // PostgreSQL 17, TimescaleDB (Apache), pgvector, pgbouncer; concurrent
//	s := pgtest.Embedded(t)      // TimescaleDB Community and pgvector as wasm; one session at a time
//	dsn, ok := pgtest.Given()    // whatever QVPGW_TEST_DSN names
//
// Native and Embedded are shared by the tests of one process and started by the
// first that asks; options give a test a cluster of its own. A test gets an
// empty database with both extensions from Database. The programs of the native
// backend (psql, pgbench, pg_dump, pgbouncer) run in its root by methods of
// Root, without testing.TB where a benchmark needs them.
//
// The native root is built once with debootstrap below Cache(): it takes root
// rights, a Debian mirror and a minute. Without them a test skips, and under
// CI=true it fails. Processes die with the test process; what a killed one left
// on disk the next one removes.
//
// A Script plays one side of a conversation, message by message, as a fake
// server or a fake client.
//
// The package knows nothing of the gateway: it imports embedded alone.
package pgtest
