// Package schema is the owner of the database behind the gateway: it runs the
// embedded migrations, reads the system catalogs into a catalog.Snapshot,
// refreshes continuous aggregates and says, as doctor, what the database can do
// and what stands in the way.
//
// It must never know clients, plans or the gateway's pool: whatever it reads, it
// reads through a Query that the caller gives it, one statement at a time, so
// that a backend with a single connection is enough. Only Migrator opens a
// connection of its own, and closes it after each command.
//
//	migrations.Files -> Migrator -> the database -> Loader -> catalog.Snapshot
//
// Rows that a Query returns belong to this package until the call returns;
// nothing keeps them. Snapshots are immutable once they are returned.
package schema
