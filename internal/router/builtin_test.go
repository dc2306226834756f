package router

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/pgtest"
)

// callable is the condition that SQL can call a function p of pg_proc at all; one that
// takes a cstring and nothing else is the input function of one type, which a cast of a
// literal calls, too, and one that returns it the output function of one.
const callable = `(NOT EXISTS (SELECT FROM unnest(p.proargtypes) a WHERE a IN
	('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype, 'event_trigger'::regtype))
	OR p.proargtypes = ARRAY['cstring'::regtype]::oidvector)
	AND (p.prorettype <> 'cstring'::regtype OR p.pronargs = 1 AND EXISTS (SELECT FROM pg_type t WHERE t.oid = p.proargtypes[0] AND t.typtype = 'b'))
	AND p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype,
	'language_handler'::regtype, 'fdw_handler'::regtype, 'table_am_handler'::regtype, 'index_am_handler'::regtype,
	'tsm_handler'::regtype)`

// extensionFunctions are the callable functions of an extension, but those of
// its internal schema that do something.
const extensionFunctions = `SELECT DISTINCT proname FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid
	WHERE e.extname = $1 AND p.prokind <> 'p' AND ` + callable + ` AND (pronamespace::regnamespace::text IN
	('public', 'timescaledb_experimental') OR pronamespace::regnamespace::text = '_timescaledb_functions' AND provolatile <> 'v')`

func TestTheBuiltInNamesAreThoseOfAFreshDatabase(t *testing.T) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, c := range []struct {
		file, query, extension string
	}{
		{"functions", "SELECT DISTINCT proname FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND " + callable, ""},
		{"operators", "SELECT DISTINCT oprname FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace", ""},
		{"types", "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace", ""},
		{"relations", "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')", ""},
		{"timescaledb", extensionFunctions, "timescaledb"},
		{"vector", extensionFunctions, "vector"},
	} {
		var args []any
		if c.extension != "" {
			args = []any{c.extension}
		}
		rows, err := conn.Query(ctx, c.query, args...)
		if err != nil {
			t.Fatal(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(c.file, "functions") || c.extension != "" {
			names = slices.DeleteFunc(names, func(n string) bool {
				_, isSpecial := special[n]
				return isSpecial || timescaleDDL[n] || strings.HasPrefix(n, binaryUpgrade)
			})
		}
		slices.Sort(names)
		file := "builtin/" + c.file + ".txt"
		if *update {
			if err := os.WriteFile(file, []byte(wrap(names)), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		known := words(string(have))
		for _, n := range names {
			if !known[n] {
				t.Errorf("%s lacks %s: is it safe? Then write it anew with -update; else it belongs in special", file, n)
			}
			delete(known, n)
		}
		for n := range known {
			t.Errorf("%s has %s, which the server has not", file, n)
		}
	}
}

// wrap joins names with blanks into lines of at most 100 bytes.
func wrap(names []string) string {
	var b strings.Builder
	width := 0
	for i, n := range names {
		switch {
		case i == 0:
		case width+1+len(n) > 100:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(n)
		width += len(n)
	}
	b.WriteByte('\n')
	return b.String()
}

func TestNoVolatileBuiltInWasOverlooked(t *testing.T) {
	// Every volatile function of PostgreSQL 17 that SQL can call was read for
	// this list: each either leaves nothing in its session and runs no SQL of
	// others, or is in special. A function that is new here fails the test above.
	for name := range special {
		if builtinFunctions[name] || timescaleFunctions[name] || vectorFunctions[name] {
			t.Errorf("%s is in special and in a list of clean functions", name)
		}
	}
	for _, name := range []string{"nextval", "set_config", "setseed", "pg_advisory_lock", "query_to_xml", "ts_stat", "domain_in", "array_in", "record_in", "binary_upgrade_set_next_pg_type_oid"} {
		if builtinFunctions[name] {
			t.Errorf("%s counts as clean", name)
		}
	}
}
