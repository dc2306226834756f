package router

import (
	_ "embed"
	"strings"
)

// What PostgreSQL 17, TimescaleDB and pgvector bring along, by name. The lists
// are taken from the catalogs of a fresh database (see builtin_test.go, which
// compares them with one); a name that is not in them counts as unknown code.
// Functions that no SQL can call (internal, cstring, trigger arguments) and those
// in special are left out.
var (
	//go:embed builtin/functions.txt
	functionsText string
	//go:embed builtin/operators.txt
	operatorsText string
	//go:embed builtin/types.txt
	typesText string
	//go:embed builtin/relations.txt
	relationsText string
	//go:embed builtin/timescaledb.txt
	timescaleText string
	//go:embed builtin/vector.txt
	vectorText string

	builtinFunctions   = words(functionsText)
	builtinOperators   = words(operatorsText)
	builtinTypes       = words(typesText)
	systemRelations    = words(relationsText)
	timescaleFunctions = words(timescaleText)
	vectorFunctions    = words(vectorText)
	vectorOperators    = words("<-> <#> <=> <+> <~> <%>")
	vectorTypes        = words("vector halfvec sparsevec")
)

// words makes a set of the blank-separated words of a text.
func words(text string) map[string]bool {
	set := make(map[string]bool)
	for w := range strings.FieldsSeq(text) {
		set[w] = true
	}
	return set
}

// timescaleSchemas hold TimescaleDB's own views and tables, which run no user
// code when they are read.
var timescaleSchemas = words("timescaledb_information timescaledb_experimental _timescaledb_catalog _timescaledb_config _timescaledb_cache")
