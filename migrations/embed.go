// Package migrations holds the SQL files that make the platform's schema, each
// step as NNNNNN_title.up.sql and .down.sql, embedded into the program.
//
// It knows no database and no Go code of ours; package schema runs the files.
// Each file is sent as one simple Query and so is one transaction: it happens
// wholly or not at all. A file therefore contains no BEGIN or COMMIT and nothing
// that refuses to run in a transaction, unless it says, before its first
// statement,
//
//	-- qvpgw: no transaction
//
// Then it is run statement by statement (no BEGIN ATOMIC in it), and after a
// failure goes on where it stopped. What can run in a transaction happens exactly
// once; a refresh of an aggregate and CREATE INDEX CONCURRENTLY may be begun again.
// In the comments before a statement of such a file
//
//	-- qvpgw: when CONDITION   skips it unless the SQL condition is true
//	-- qvpgw: repeatable       says that it, too, may be begun again
//
// An extension is there for a file if pg_extension has it and the session's setting
// qvpgw.without, names with blanks between them, does not name it.
//
// A down file names what it loses in a first line "-- loses: name name …": the
// tables, table.column, and aggregates that it drops, so that whoever goes down with
// rows in them is asked first.
package migrations

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
