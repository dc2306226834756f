package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
)

// extensions says which extension is missing, old or out of sight.
func (e *exam) extensions() error {
	if !slices.Contains(e.o.Without, "timescaledb") {
		e.timescale()
	}
	if e.s.Vector == "" && !slices.Contains(e.o.Without, "vector") {
		if e.v.vectorReady == "" {
			e.find("pgvector-missing", "pgvector is not installed on the server: no vector tables, no k-NN queries").Advice = "install pgvector (Debian: postgresql-NN-pgvector; image: timescale/timescaledb-ha or pgvector/pgvector), then `qvpgw migrate up`"
		} else {
			e.find("pgvector-not-created", fmt.Sprintf("pgvector %s is installed, but not created in this database", e.v.vectorReady), "CREATE EXTENSION vector;").Advice = as("a superuser")
		}
	}
	for _, name := range e.o.Demanded {
		if name == "timescaledb" && e.s.Timescale == "" || name == "vector" && e.s.Vector == "" {
			key := extensionKeys[name]
			e.find("extension-demanded", fmt.Sprintf("%s is on, and the database lacks extension %s", key, name)).Advice = fmt.Sprintf("create the extension, or set %s to auto", key)
		}
	}
	for _, x := range []struct{ name, schema string }{{"vector", e.v.vectorSchema}, {"timescaledb", e.v.timescaleSchema}} {
		if x.schema == "" || len(e.v.searchPath) == 0 || slices.Contains(e.v.searchPath, x.schema) {
			continue
		}
		mend := fmt.Sprintf("ALTER EXTENSION vector SET SCHEMA %s;", catalog.Quote(e.v.searchPath[len(e.v.searchPath)-1]))
		if x.name == "timescaledb" { // it cannot be moved
			path := append(slices.Clone(e.v.searchPath), x.schema)
			for i, s := range path {
				path[i] = catalog.Quote(s)
			}
			mend = fmt.Sprintf("ALTER DATABASE %s SET search_path = %s;", catalog.Quote(e.v.database), commas(path))
		}
		e.find("extension-hidden", fmt.Sprintf("extension %s is in schema %s, which the search path (%s) does not name", x.name, x.schema, commas(e.v.searchPath)), mend)
	}
	return nil
}

func (e *exam) timescale() {
	switch v := parseVersion(e.s.Timescale); {
	case e.s.Timescale == "" && e.v.timescaleReady == "":
		e.find("timescaledb-missing", "TimescaleDB is not installed on the server: no hypertables, no continuous aggregates").Advice = "install TimescaleDB, Community edition (packages.timescale.com; image: timescale/timescaledb-ha, which has pgvector too), preload it, then `qvpgw migrate up`"
	case e.s.Timescale == "" && !e.v.preloaded:
		libraries := append(strings.FieldsFunc(e.v.libraries, func(r rune) bool { return r == ',' || r == ' ' || r == '"' }), "timescaledb")
		for i, l := range libraries {
			libraries[i] = catalog.Literal(l)
		}
		e.find("timescaledb-not-preloaded", "TimescaleDB "+e.v.timescaleReady+" is installed, but not preloaded",
			fmt.Sprintf("ALTER SYSTEM SET shared_preload_libraries = %s;", commas(libraries))).Advice = as("a superuser") + ", restart the server, then `CREATE EXTENSION timescaledb;`"
	case e.s.Timescale == "":
		e.find("timescaledb-not-created", "TimescaleDB "+e.v.timescaleReady+" is ready, but not created in this database", "CREATE EXTENSION timescaledb;").Advice = as("a superuser or the database's owner")
	case !e.s.Community:
		e.find("timescaledb-apache", "the Apache edition has hypertables, but no continuous aggregates, compression or policies").Advice = "install the Community edition (packages without oss in their name, and timescaledb.license = timescale)"
	case !v.less(unproven):
		e.find("timescaledb-new", fmt.Sprintf("TimescaleDB %s: the proof of freshness is known before %d.%d", e.s.Timescale, unproven[0], unproven[1])).Advice = "a newer gateway"
	case v.less(oldest):
		e.find("timescaledb-old", fmt.Sprintf("TimescaleDB %s is older than %d.%d.%d: its catalog is not read", e.s.Timescale, oldest[0], oldest[1], oldest[2]),
			"ALTER EXTENSION timescaledb UPDATE;").Advice = "with 2.29.0 or newer installed, as the first statement of a session"
	case v.less(healed) && len(e.s.Aggregates) > 0:
		f := e.find("timescaledb-old", "TimescaleDB "+e.s.Timescale+" has known cases, mended up to 2.29.0, in which a change is lost from the logs of what is not materialized",
			"ALTER EXTENSION timescaledb UPDATE;")
		f.Off, f.Advice = "", "with 2.29.0 or newer installed, as the first statement of a session"
	}
	if e.v.restoring {
		e.find("timescaledb-restoring", "timescaledb.restoring is on: TimescaleDB does nothing", "SELECT timescaledb_post_restore();").Advice = as("a superuser")
	}
}

// inBackticks are the commands that an advice names.
var inBackticks = regexp.MustCompile("`(qvpgw [^`A-Z]+)`")

func commandsIn(advice string) (commands []string) {
	for _, found := range inBackticks.FindAllStringSubmatch(advice, -1) {
		commands = append(commands, found[1])
	}
	return commands
}

// migrations says what state the schema is in.
func (e *exam) migrations() error {
	m := e.r.Migrations
	found := len(e.r.Findings)
	switch {
	case m.Dirty:
		e.find("schema-dirty", fmt.Sprintf("a migration to version %s did not finish", versionText(m.Version)), commandsIn(m.Advice)...)
	case m.Version > m.Newest:
		e.find("schema-newer", fmt.Sprintf("the schema is at version %d, this program's newest is %s", m.Version, versionText(m.Newest)))
	case !m.Current():
		e.find("schema-pending", fmt.Sprintf("the schema is at version %s, this program has %s", versionText(m.Version), versionText(m.Newest)), commandsIn(m.Advice)...)
	}
	if len(e.r.Findings) > found {
		e.r.Findings[found].Advice = m.Advice
	}
	return nil
}

// platform compares the platform's own tables with what the edition allows now.
func (e *exam) platform() error {
	if e.r.Migrations.Version < 1 || e.r.Migrations.Dirty {
		return nil
	}
	if err := e.searchPath(); err != nil {
		return err
	}
	if !slices.Contains(e.o.Without, "timescaledb") && e.s.Timescale != "" {
		for _, name := range hypertables {
			if t := e.relation(name); t != nil && t.HypertableID == 0 && t.Kind == 'r' {
				e.find("plain-table", name+" is a plain table, not a hypertable",
					fmt.Sprintf("SELECT create_hypertable('%s', by_range('timestamp', interval '7 days'), create_default_indexes => false, migrate_data => true);", t.Name)).Advice = as("the table's owner") + "; it locks the table while it moves the rows"
			}
		}
	}
	files, err := readFiles(e.o.Migrations)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		code, title string
		there       bool
		names       []string
		text        string
	}{
		{"aggregates-missing", "market_aggregates", e.s.Community && !slices.Contains(e.o.Without, "timescaledb"), aggregates, "the edition was another one when the schema was made"},
		{"vectors-missing", "vector_tables", e.s.Vector != "" && !slices.Contains(e.o.Without, "vector"), vectorTables, "pgvector was missing when the schema was made"},
	} {
		var missing []string
		for _, name := range p.names {
			if p.there && e.relation(name) == nil {
				missing = append(missing, name)
			}
		}
		i := slices.IndexFunc(files, func(f file) bool { return f.title == p.title })
		if len(missing) == 0 || i < 0 || e.r.Migrations.Version < files[i].version {
			continue
		}
		before := 0
		if i > 0 {
			before = files[i-1].version
		}
		e.find(p.code, commas(missing)+": not there, "+p.text, fmt.Sprintf("qvpgw migrate goto %d", before), "qvpgw migrate up").Advice = "the continuous aggregates are made anew, without rows: refresh them; what would be lost is said before and wants --yes"
	}
	return nil
}
