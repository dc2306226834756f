// Package catalog is an immutable picture of the database behind the gateway:
// relations, which functions and triggers run user code, hypertables, chunks
// and continuous aggregates.
//
// It is a leaf: it knows no SQL, no connection and no protocol. Package schema
// fills a Snapshot; router, rules and rollup read it. A Snapshot is never
// changed after it was published, so it may be shared without a lock:
//
//	schema.Load -> *Snapshot -> Holder.Store -> Holder.Load -> router
package catalog
