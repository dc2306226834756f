package schema

// Kind is what all findings of one code have in common.
type Kind struct {
	Code  string // stable
	Level Level
	Means string // what was found
	Off   string // what does not work for it; "" when everything does
	Mend  string // how it is mended, in general; a Finding has the commands
}

const (
	offAggregates = "hypertables, answers from continuous aggregates, compression, retention"
	offKNN        = "vector tables, k-NN queries and their cache"
)

// kinds are all findings that Doctor can have, in the order of docs/doctor.md, whose
// table is written from it.
var kinds = []Kind{
	// Extensions.
	{"extension-demanded", Fault, "`schema.timescaledb` or `schema.pgvector` is on, and the database lacks it: `serve` and `migrate up` refuse to start", "the gateway", "what the other finding about the extension says, or `auto` in the configuration"},
	{"timescaledb-missing", Warning, "TimescaleDB is not installed on the server", offAggregates, "install the package or image, then `qvpgw migrate up`"},
	{"timescaledb-not-preloaded", Warning, "it is installed, but its library is not preloaded", offAggregates, "`ALTER SYSTEM SET shared_preload_libraries = …;` and a restart of the server"},
	{"timescaledb-not-created", Warning, "it is ready on the server, but not created in this database", offAggregates, "`CREATE EXTENSION timescaledb;`"},
	{"timescaledb-apache", Note, "the Apache edition: hypertables, but no continuous aggregates, compression or policies", "answers from continuous aggregates, compression, retention", "install the Community edition"},
	{"timescaledb-old", Warning, "a version with known cases (mended up to 2.29.0) in which a change is lost from TimescaleDB's logs; before 2.15.1 its catalog is not read at all", "answers from continuous aggregates before 2.15.1; after that nothing, under an assumption", "install a newer version, `ALTER EXTENSION timescaledb UPDATE;` as the first statement of a session"},
	{"timescaledb-new", Warning, "a version whose logs the proof of freshness does not know: 2.30 or newer", "answers from continuous aggregates", "a newer gateway"},
	{"timescaledb-restoring", Fault, "`timescaledb.restoring` is on, as in the middle of a restore: TimescaleDB does nothing", "TimescaleDB", "`SELECT timescaledb_post_restore();`"},
	{"pgvector-missing", Warning, "pgvector is not installed on the server", offKNN, "install the package or image, then `qvpgw migrate up`"},
	{"pgvector-not-created", Warning, "it is installed, but not created in this database", offKNN, "`CREATE EXTENSION vector;`"},
	{"extension-hidden", Warning, "an extension's schema is not in the search path: its functions, types and operators are not found by their names", "statements that use them", "`ALTER EXTENSION vector SET SCHEMA …;` or `ALTER DATABASE … SET search_path = …;`"},

	// The schema.
	{"schema-dirty", Fault, "a migration did not come to its end", "the gateway: it does not serve a schema that is half made", "what `qvpgw migrate status` says: `qvpgw migrate up`, or `migrate force` after a look"},
	{"schema-newer", Fault, "a newer gateway migrated the database", "this gateway: it does not know what it would serve", "run the newer gateway"},
	{"schema-pending", Warning, "migrations of this gateway are not applied yet", "what they make", "`qvpgw migrate up`"},
	{"schema-privilege", Fault, "migrations are pending, and the gateway's role may not make what they make", "migrations", "`GRANT CREATE ON DATABASE …;`, `GRANT CREATE ON SCHEMA …;`"},
	{"plain-table", Warning, "a table that should be a hypertable is a plain one, as when TimescaleDB came after the schema", "its continuous aggregates, compression, retention", "`SELECT create_hypertable(…);`"},
	{"aggregates-missing", Warning, "the edition allows continuous aggregates now, but did not when the schema was made", "answers from them", "`qvpgw migrate goto N`, then `qvpgw migrate up`: only the aggregates are made anew"},
	{"vectors-missing", Warning, "pgvector is there now, but was not when the schema was made", offKNN, "`qvpgw migrate goto N`, then `qvpgw migrate up`"},

	// Privileges of the gateway's role.
	{"privilege-owner", Warning, "tables, aggregates or objects of schema `qvpgw` belong to another role", "migrations that change them, policies, refreshes", "`GRANT owner TO role;` or `ALTER … OWNER TO role;`"},
	{"privilege-login", Warning, "`auth.query` is on, and the role may not read pg_authid: users that `auth.users` does not list cannot log in", "logins of users that are not listed", "`GRANT SELECT ON pg_catalog.pg_authid TO role;`, or a function as in [authentication.md](authentication.md)"},
	{"privilege-monitor", Note, "the role does not see what other sessions do", "the findings about long transactions and the background worker", "`GRANT pg_read_all_stats TO role;`"},

	// Settings.
	{"cagg-rewrites", Warning, "`timescaledb.enable_cagg_rewrites` is on: TimescaleDB itself rewrites the statements by which freshness is proven", "the proof that an answer is fresh", "`ALTER … RESET` or `ALTER DATABASE … SET timescaledb.enable_cagg_rewrites = off;`"},
	{"triggers-off", Fault, "`session_replication_role` is replica: the triggers of sessions with it do not fire, the gateway's neither", "freshness: what such sessions write is not logged", "`ALTER … RESET session_replication_role;`"},
	{"search-path", Fault, "the platform's tables are not found by their names: the search path leads elsewhere or nowhere", "every statement that names a table without its schema", "`ALTER … RESET search_path;` or `ALTER DATABASE … SET search_path = …;`"},
	{"session-timeout", Warning, "a timeout for statements, locks, transactions or idle sessions is set for the gateway's role or the database", "migrations, refreshes and index builds that take longer; pooled connections that wait longer", "`ALTER … RESET …;` or `ALTER ROLE … IN DATABASE … SET … = 0;`"},
	{"read-only", Warning, "`default_transaction_read_only` is on", "everything that writes: migrations, refreshes, INSERT", "`ALTER … RESET default_transaction_read_only;`"},
	{"serializable", Warning, "`default_transaction_isolation` is serializable: a statement that is rewritten would not take part in the detection of conflicts", "answers from continuous aggregates", "`ALTER … RESET default_transaction_isolation;`"},
	{"asynchronous-commit", Note, "`synchronous_commit` is off: a crash of the server may lose the last transactions that clients were told of", "durability of the last moments", "`ALTER … RESET synchronous_commit;`"},
	{"jit", Note, "`jit` is on: statements over many chunks are compiled for longer than they run", "", "`ALTER DATABASE … SET jit = off;`"},
	{"pool-too-large", Fault, "the pool may open more connections than the server has", "clients: some get the server's 53300", "lower `pool.size` and `pool.overflow`, or `ALTER SYSTEM SET max_connections = …;` and a restart"},
	{"pool-tight", Warning, "the pool may take more than nine tenths of the server's connections", "", "as `pool-too-large`"},
	{"connection-limit", Fault, "the CONNECTION LIMIT of the role or the database is lower than what the pool may open", "clients: some get the server's 53300", "`ALTER ROLE … CONNECTION LIMIT -1;`, `ALTER DATABASE … CONNECTION LIMIT -1;`"},
	{"background-workers", Warning, "TimescaleDB's scheduler does not run for this database", "policies: compression, retention, refresh", "`SELECT _timescaledb_functions.start_background_workers();`"},
	{"user-casts", Note, "a cast between built-in types, or the default operator class of one, runs a user's function, so any expression may", "sharing connections between statements: every statement keeps its client's connection", "drop the cast, if it is not needed"},
	{"login-triggers", Note, "a login event trigger exists", "sharing connections: each client needs one of its own", "drop the trigger, if it is not needed"},
	{"clock-skew", Warning, "this machine's clock and the server's differ by more than 5 s", "times in logs and on the operators' page", "an NTP client on both"},
	{"standby", Note, "the server is a standby", "writes, migrations, k-NN answers from memory", "connect to the primary"},

	// Continuous aggregates and jobs.
	{"aggregate-old-format", Warning, "an aggregate has the format before TimescaleDB 2.7", "answers from it", "`CALL cagg_migrate(…);`"},
	{"aggregate-empty", Warning, "an aggregate was never refreshed", "answers from it: queries read the raw rows", "`CALL refresh_continuous_aggregate(…, NULL, NULL);`"},
	{"aggregate-stale", Warning, "the table has rows more than four buckets after the end of what its aggregate holds", "answers from it for the newest rows", "`CALL refresh_continuous_aggregate(…);`, or a policy that works"},
	{"aggregate-invalid", Note, "rows that the aggregate holds have changed and it was not refreshed since", "answers from it for those ranges: they are read from the raw rows", "`CALL refresh_continuous_aggregate(…);`"},
	{"aggregate-row-security", Warning, "the table of an aggregate has row security, which an aggregate knows nothing of", "answers from it", "`ALTER TABLE … DISABLE ROW LEVEL SECURITY;`, if everybody may read all rows"},
	{"aggregate-unsettled", Warning, "an aggregate cannot be settled, so that nobody knows whether it has all changes; the reason is no_change_log, refresh_privilege, refresh_version or refresh_time", "answers from it", "`SELECT qvpgw.watch(…);`; `GRANT owner TO role;` or `ALTER MATERIALIZED VIEW … OWNER TO role;`; TimescaleDB 2.18 or newer; another type of time"},
	{"settling-held", Warning, "a transaction that has written is open for longer than five minutes, in any database: what was refreshed since is not used", "answers from aggregates for what was refreshed since", "`SELECT pg_terminate_backend(…);`, `ROLLBACK PREPARED …;`"},
	{"change-log-missing", Warning, "a hypertable with aggregates, or a table with vectors, lacks the triggers of the [change log](changes.md), or a subscription writes it", "answers from its aggregates; k-NN answers from memory", "`SELECT qvpgw.watch(…);`"},
	{"assume-merge-chunk", Note, "assumed: nobody runs MERGE on a chunk by its own name, or under `session_replication_role = replica` on a hypertable", "", "a refresh by force, if it was done"},
	{"assume-skip-invalidation", Note, "assumed: nobody sets `timescaledb.skip_cagg_invalidation`", "", "a refresh by force, if it was done"},
	{"assume-attach-chunk", Note, "assumed: `attach_chunk` is followed by a refresh", "", "a refresh by force, if it was not"},
	{"assume-alter-type", Note, "assumed: ALTER TABLE … ALTER TYPE … USING is followed by a refresh of the aggregates", "", "a refresh by force, if it was not"},
	{"policy-differs", Warning, "a policy is not as the configuration wants it: somebody changed it in the database, or the schema is not migrated by this gateway", "what the policy does, partly", "`qvpgw migrate up`, or RELOAD"},
	{"policy-held", Warning, "a policy is not made as the configuration wants it, because it would lose rows or buckets at once", "what the policy does", "`qvpgw migrate up --yes`, or another value in the configuration"},
	{"chunks-uncompressed", Warning, "chunks are older than the compression policy allows, and not compressed", "the space that compression saves", "`CALL run_job(…);`"},
	{"job-failed", Warning, "the last run of a policy failed", "what the policy does", "the cause of its error, then `SELECT alter_job(…, next_start => now());` or the next run; `CALL run_job(…);` shows the error and does not count as a run"},
	{"job-paused", Warning, "a policy is paused", "what the policy does", "`SELECT alter_job(…, scheduled => true);`"},

	// Indexes.
	{"vector-without-index", Note, "no hnsw, ivfflat or diskann index on a vector column: its k-NN queries read every row", "fast k-NN queries", "`CREATE INDEX CONCURRENTLY … USING hnsw …;`"},
	{"vector-index-metric", Warning, "a vector column has an index, but not for the metric that the platform's functions order by", "fast k-NN queries", "`CREATE INDEX CONCURRENTLY … USING hnsw …;`"},
	{"index-invalid", Warning, "an index is invalid, as after CREATE INDEX CONCURRENTLY that failed: it costs every write and answers nothing (or it is being built right now)", "queries that need it", "`REINDEX INDEX CONCURRENTLY …;`, `DROP INDEX CONCURRENTLY …;`"},

	// What holds things up.
	{"locked", Warning, "a session locks a table so that nobody reads it, and doctor waited for it in vain", "the table; a part of the examination", "`SELECT pg_terminate_backend(…);`, unless it is a migration at work"},
	{"long-transaction", Warning, "a transaction is open for longer than five minutes", "refreshes that wait for it, VACUUM, index builds", "`SELECT pg_terminate_backend(…);`"},
	{"prepared-transactions", Warning, "a prepared transaction was neither committed nor rolled back: it holds its locks, and what it wrote is logged too late when a refresh passes it", "refreshes, VACUUM, DDL on its tables", "`COMMIT PREPARED …;` or `ROLLBACK PREPARED …;`"},
	{"two-phase-commit", Note, "`max_prepared_transactions` is not 0: a transaction prepared while an aggregate is refreshed may be missing from it", "", "`ALTER SYSTEM SET max_prepared_transactions = 0;` and a restart, if nobody prepares transactions"},
	{"synchronous-replication", Note, "`synchronous_standby_names` is set: a transaction that waits for a standby while an aggregate is refreshed may be missing from it", "", ""},
}

// kindOf returns the kind of a code.
func kindOf(code string) Kind {
	for _, k := range kinds {
		if k.Code == code {
			return k
		}
	}
	panic("BUG: there is no finding " + code)
}
