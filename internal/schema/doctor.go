package schema

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"qvpgw/internal/catalog"
)

// Names of capabilities in a Report.
const (
	CapPooling    = "pooling"
	CapAggregates = "aggregates" // answering from continuous aggregates
	CapKNN        = "knn-cache"  // answering repeated k-NN queries from memory
	CapPolicies   = "policies"   // compression, retention and refresh by TimescaleDB's jobs
)

// healed is the first version of TimescaleDB without known cases in which a
// changed range is lost from the invalidation logs.
var healed = version{2, 29, 0}

// DoctorOptions is what doctor compares the database with.
type DoctorOptions struct {
	PoolSize   int       // server connections that the gateway may open; 0: not compared
	Migrations fs.FS     // nil: those built into the program
	Now        time.Time // this machine's clock; zero: time.Now
}

// vitals is what vitalsSQL reads, in its order.
type vitals struct {
	version, database, role             string
	prepared, maxPrepared               int
	maxConnections, reserved            int
	rewrites, restoring                 bool
	timescaleAvailable, vectorAvailable string
	preloaded                           bool
	searchPath, isolation               string
	readOnly                            bool
	synchronous                         string
	clockMicros                         int64
	mayCreate                           bool
}

const vitalsSQL = `
SELECT current_setting('server_version'), current_database(), current_user,
       (SELECT count(*) FROM pg_prepared_xacts), current_setting('max_prepared_transactions'),
       current_setting('max_connections'),
       current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
       coalesce(current_setting('timescaledb.enable_cagg_rewrites', true), '') = 'on',
       coalesce(current_setting('timescaledb.restoring', true), '') = 'on',
       coalesce((SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'), ''),
       coalesce((SELECT default_version FROM pg_available_extensions WHERE name = 'vector'), ''),
       current_setting('timescaledb.disable_load', true) IS NOT NULL,
       array_to_string(current_schemas(false), ', '), current_setting('default_transaction_isolation'),
       current_setting('default_transaction_read_only') = 'on',
       current_setting('synchronous_standby_names'),
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       has_database_privilege(current_database(), 'CREATE')`

// vectorsSQL lists vector columns without an index that answers k-NN queries.
const vectorsSQL = `
SELECT n.nspname, c.relname, a.attname
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid AND t.typname = 'vector'
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm')
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't' AND n.nspname <> '_timescaledb_internal'
  AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    WHERE i.indrelid = c.oid AND i.indisvalid AND a.attnum = ANY (i.indkey::int2[]) AND m.amname IN ('hnsw', 'ivfflat', 'diskann'))
ORDER BY 1, 2, 3`

// Doctor examines a database: what it is, what the gateway can therefore do, and
// what stands in the way. It changes nothing and needs no privilege.
func Doctor(ctx context.Context, q Query, o DoctorOptions) (Report, error) {
	v, err := readVitals(ctx, q)
	if err != nil {
		return Report{}, err
	}
	s, err := Load(ctx, q)
	if err != nil {
		return Report{}, err
	}
	status, err := NewMigrator("", Options{Files: o.Migrations}).StatusBy(ctx, q)
	if err != nil {
		return Report{}, err
	}
	bare, err := read(ctx, q, "vector columns", vectorsSQL, 3)
	if err != nil {
		return Report{}, err
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	r := Report{
		Server: "PostgreSQL " + v.version, ServerVersion: s.ServerVersion,
		Timescale: s.Timescale, Vector: s.Vector,
		Database: v.database, Role: v.role, InRecovery: s.InRecovery, Prepared: v.prepared, MaxConnections: v.maxConnections,
		Migrations: status, Hypertables: userHypertables(s), Aggregates: len(s.Aggregates), Findings: []Finding{},
	}
	if s.Timescale != "" {
		r.Edition = map[bool]string{true: "Community", false: "Apache"}[s.Community]
	}
	r.Capabilities = capabilities(s)
	r.extensions(s, v)
	r.migrations(v)
	r.platform(s, v)
	r.aggregates(s, v)
	r.settings(s, v, o)
	for _, row := range bare {
		name := catalog.Name{Schema: row[0], Name: row[1]}
		r.find(Note, "vector-without-index", fmt.Sprintf("%s.%s has no hnsw or ivfflat index: its k-NN queries read every row", name, row[2]),
			fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s USING hnsw (%s vector_cosine_ops)", name, catalog.Quote(row[2])))
	}
	order := []Level{Fault, Warning, Note}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	return r, nil
}

func readVitals(ctx context.Context, q Query) (vitals, error) {
	rows, err := read(ctx, q, "the server's settings", vitalsSQL, 18)
	if err != nil {
		return vitals{}, err
	}
	if len(rows) != 1 {
		return vitals{}, fmt.Errorf("cannot read the server's settings: %d rows, not one", len(rows))
	}
	row := rows[0]
	var n numbers
	v := vitals{
		version: row[0], database: row[1], role: row[2],
		prepared: n.int(row[3]), maxPrepared: n.int(row[4]), maxConnections: n.int(row[5]), reserved: n.int(row[6]),
		rewrites: row[7] == "t", restoring: row[8] == "t", timescaleAvailable: row[9], vectorAvailable: row[10],
		preloaded: row[11] == "t", searchPath: row[12], isolation: row[13], readOnly: row[14] == "t",
		synchronous: row[15], clockMicros: n.int64(row[16]), mayCreate: row[17] == "t",
	}
	if n.err != nil {
		return vitals{}, fmt.Errorf("cannot read the server's settings: %w", n.err)
	}
	return v, nil
}

func userHypertables(s *catalog.Snapshot) int {
	n := len(s.Hypertables)
	for _, a := range s.Aggregates {
		if s.Hypertables[a.ID] != nil {
			n--
		}
	}
	return n
}

// capabilities says what the gateway can do with this database.
func capabilities(s *catalog.Snapshot) []Capability {
	community := "TimescaleDB " + s.Timescale + ", Community edition"
	lacking := ""
	switch {
	case s.Timescale == "":
		lacking = "TimescaleDB is missing"
	case !s.Community:
		lacking = "TimescaleDB " + s.Timescale + " is the Apache edition, which has none"
	}
	aggregates := Capability{Name: CapAggregates, Why: lacking}
	if lacking == "" {
		switch {
		case parseVersion(s.Timescale).less(oldest):
			aggregates.Why = fmt.Sprintf("TimescaleDB %s is too old: its catalog is understood from %d.%d.%d on", s.Timescale, oldest[0], oldest[1], oldest[2])
		case !slices.ContainsFunc(s.Aggregates, func(a *catalog.Aggregate) bool { return a.Finalized }):
			aggregates.Why = "the database has no continuous aggregate in the present format"
		default:
			aggregates.On, aggregates.Why = true, community
		}
	}
	knn := Capability{Name: CapKNN, On: true, Why: "pgvector " + s.Vector}
	switch {
	case s.Vector == "":
		knn.On, knn.Why = false, "pgvector is missing"
	case s.InRecovery:
		knn.On, knn.Why = false, "a standby: what a snapshot sees there cannot be told from its number"
	}
	policies := Capability{Name: CapPolicies, On: lacking == "", Why: cmp.Or(lacking, community)}
	return []Capability{{Name: CapPooling, On: true, Why: "needs nothing"}, aggregates, knn, policies}
}

func (r *Report) find(level Level, code, text, advice string) {
	r.Findings = append(r.Findings, Finding{Level: level, Code: code, Text: text, Advice: advice})
}

// extensions says which extension is missing or old, and how to get it.
func (r *Report) extensions(s *catalog.Snapshot, v vitals) {
	switch {
	case s.Timescale == "" && v.timescaleAvailable == "":
		r.find(Warning, "timescaledb-missing", "TimescaleDB is not installed on the server: no hypertables, no continuous aggregates",
			"install TimescaleDB (the image timescale/timescaledb-ha has it with pgvector), then `qvpgw migrate up`")
	case s.Timescale == "" && !v.preloaded:
		r.find(Warning, "timescaledb-not-preloaded", "TimescaleDB "+v.timescaleAvailable+" is installed but not preloaded",
			"ALTER SYSTEM SET shared_preload_libraries = 'timescaledb', restart PostgreSQL, then CREATE EXTENSION timescaledb")
	case s.Timescale == "":
		r.find(Warning, "timescaledb-not-created", "TimescaleDB "+v.timescaleAvailable+" is not created in this database", "CREATE EXTENSION timescaledb")
	case !s.Community:
		r.find(Note, "timescaledb-apache", "the Apache edition has hypertables, but no continuous aggregates, compression or policies",
			"install the Community edition (packages without oss in their name, and timescaledb.license = timescale)")
	case parseVersion(s.Timescale).less(healed) && len(s.Aggregates) > 0:
		r.find(Warning, "timescaledb-old", "TimescaleDB "+s.Timescale+" has known cases, mended up to 2.29.0, in which a change is lost from the logs of what is not materialized",
			"ALTER EXTENSION timescaledb UPDATE, with 2.29.0 or newer installed")
	}
	switch {
	case s.Vector != "":
	case v.vectorAvailable == "":
		r.find(Warning, "pgvector-missing", "pgvector is not installed on the server: no k-NN queries", "install pgvector (package postgresql-NN-pgvector), then CREATE EXTENSION vector")
	default:
		r.find(Warning, "pgvector-not-created", "pgvector "+v.vectorAvailable+" is not created in this database", "CREATE EXTENSION vector")
	}
	if v.restoring {
		r.find(Fault, "timescaledb-restoring", "timescaledb.restoring is on: TimescaleDB does nothing", "SELECT timescaledb_post_restore()")
	}
}

// migrations says what state the schema is in.
func (r *Report) migrations(v vitals) {
	m := r.Migrations
	switch {
	case m.Dirty:
		r.find(Fault, "schema-dirty", fmt.Sprintf("a migration to version %s did not finish", versionText(m.Version)), m.Advice)
	case m.Version > m.Newest:
		r.find(Fault, "schema-newer", m.Advice, "")
	case !m.Current():
		r.find(Warning, "schema-pending", fmt.Sprintf("the schema is at version %s, this program has %s", versionText(m.Version), versionText(m.Newest)), m.Advice)
		if !v.mayCreate && m.Version < 0 {
			r.find(Fault, "schema-privilege", fmt.Sprintf("role %s may not create schemas in %s", v.role, v.database),
				fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s, or migrate as the owner", catalog.Quote(v.database), catalog.Quote(v.role)))
		}
	}
}

// platform compares the platform's own tables with what the edition allows.
func (r *Report) platform(s *catalog.Snapshot, v vitals) {
	relation := func(name string) *catalog.Relation {
		for schema := range strings.SplitSeq(v.searchPath, ", ") {
			if found := s.Relations[catalog.Name{Schema: schema, Name: name}]; found != nil {
				return found
			}
		}
		return nil
	}
	if r.Migrations.Version < 1 {
		return
	}
	for _, name := range []string{"market_data", "tick_data", "portfolio_values", "risk_metrics"} {
		if t := relation(name); t != nil && t.HypertableID == 0 && s.Timescale != "" {
			r.find(Warning, "plain-table", name+" is a plain table, not a hypertable",
				fmt.Sprintf("SELECT create_hypertable('%s', by_range('timestamp', interval '7 days'), migrate_data => true)", name))
		}
	}
	var missing []string
	for _, name := range []string{"market_data_1h", "market_data_1d", "market_data_1w", "tick_data_1m", "tick_data_1h", "tick_data_1d", "tick_data_1w", "portfolio_values_1d"} {
		if s.Community && relation(name) == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 && r.Migrations.Current() {
		r.find(Warning, "aggregates-missing", strings.Join(missing, ", ")+": not there, the edition was another one when the schema was made",
			"`qvpgw migrate goto 4`, then `qvpgw migrate up`: no table is touched, only the aggregates are made anew")
	}
	if s.Vector != "" && relation("feature_embeddings") == nil && r.Migrations.Current() {
		r.find(Warning, "vectors-missing", "feature_embeddings and volatility_regimes are not there, pgvector was missing when the schema was made",
			"`qvpgw migrate goto 3`, then `qvpgw migrate up`")
	}
}

// aggregates says which of them do not serve, and why.
func (r *Report) aggregates(s *catalog.Snapshot, v vitals) {
	for _, a := range s.Aggregates {
		name := a.View.String()
		if !a.Finalized {
			r.find(Warning, "aggregate-old-format", name+" is in the format before TimescaleDB 2.7 and is not used", fmt.Sprintf("CALL cagg_migrate(%s)", literal(name)))
			continue
		}
		raw := s.Hypertables[a.RawID]
		if h := s.Hypertables[a.ID]; h != nil && len(h.Chunks) == 0 && raw != nil && len(raw.Chunks) > 0 {
			r.find(Warning, "aggregate-empty", name+" was never refreshed: queries read the raw rows", fmt.Sprintf("CALL refresh_continuous_aggregate(%s, NULL, NULL)", literal(name)))
		}
		if raw != nil {
			if t := s.Relations[raw.Name]; t != nil && t.RowSecurity {
				r.find(Warning, "aggregate-row-security", name+" is not used: its table has row security", "")
			}
		}
	}
	if len(s.Aggregates) == 0 {
		return
	}
	if v.rewrites {
		r.find(Warning, "cagg-rewrites", "timescaledb.enable_cagg_rewrites is on: TimescaleDB itself rewrites the statements by which freshness is proven",
			fmt.Sprintf("ALTER DATABASE %s SET timescaledb.enable_cagg_rewrites = off", catalog.Quote(v.database)))
	}
	if v.prepared > 0 {
		r.find(Warning, "prepared-transactions", fmt.Sprintf("%d prepared transactions: what they wrote is logged too late when a refresh passes them", v.prepared),
			"COMMIT PREPARED or ROLLBACK PREPARED what pg_prepared_xacts lists")
	} else if v.maxPrepared > 0 {
		r.find(Note, "two-phase-commit", fmt.Sprintf("max_prepared_transactions is %d: a transaction prepared while an aggregate is refreshed may be missing from it", v.maxPrepared), "")
	}
	if v.synchronous != "" {
		r.find(Note, "synchronous-replication", "synchronous_standby_names is set: a transaction that waits for a standby while an aggregate is refreshed may be missing from it", "")
	}
}

// settings says which settings hurt.
func (r *Report) settings(s *catalog.Snapshot, v vitals, o DoctorOptions) {
	if free := v.maxConnections - v.reserved; o.PoolSize > free {
		r.find(Fault, "pool-too-large", fmt.Sprintf("the pool may open %d connections, the server has %d (max_connections %d, %d of them reserved)", o.PoolSize, free, v.maxConnections, v.reserved),
			"lower pool size and overflow, or raise max_connections")
	} else if o.PoolSize > 0 && o.PoolSize*10 > free*9 {
		r.find(Warning, "pool-tight", fmt.Sprintf("the pool may take %d of the server's %d connections: little is left for others", o.PoolSize, free), "")
	}
	if v.searchPath == "" {
		r.find(Fault, "search-path", "search_path names no schema that exists: tables cannot be found by their names", "ALTER ROLE … SET search_path = public")
	}
	if strings.HasPrefix(v.isolation, "serializable") {
		r.find(Warning, "serializable", "default_transaction_isolation is serializable: no statement is answered from an aggregate", "")
	}
	if v.readOnly && !s.InRecovery {
		r.find(Note, "read-only", "default_transaction_read_only is on: nothing can be written", "")
	}
	if s.InRecovery {
		r.find(Note, "standby", "the server is a standby: it takes no writes, and no k-NN answers are kept", "")
	}
	if s.UserCasts {
		r.find(Note, "user-casts", "a cast or default operator class runs a user's function: every statement keeps its client's connection", "")
	}
	if s.LoginTriggers {
		r.find(Note, "login-triggers", "a login event trigger exists: each client needs a server connection of its own", "")
	}
	if skew := o.Now.Sub(time.UnixMicro(v.clockMicros)); skew.Abs() > 5*time.Second {
		r.find(Warning, "clock-skew", fmt.Sprintf("this machine's clock and the server's are %s apart", skew.Abs().Round(time.Millisecond)), "run an NTP client on both")
	}
}
