// Package migrations holds the SQL files that make the platform's schema, each
// step as NNNNNN_title.up.sql and .down.sql, embedded into the program.
//
// It knows no database and no Go code of ours; package schema runs the files.
// Each file is sent as one simple Query and so is one transaction: it happens
// wholly or not at all. A file therefore contains no BEGIN or COMMIT and nothing
// that refuses to run in a transaction. A down file that drops tables names
// them in a first line "-- loses: table table …", so that whoever goes down with
// rows in them is asked first.
package migrations

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
