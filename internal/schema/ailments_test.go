package schema

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/pgtest"
)

// ailment is something that Doctor must find, and that what it says must mend.
type ailment struct {
	code    string
	bring   []string                                     // SQL that brings it about, each a Query of its own
	hold    string                                       // SQL of a session that stays until it is mended
	o       DoctorOptions                                // what the examination is done with
	role    bool                                         // it is the gateway's role gateway_role that is examined
	before  []string                                     // SQL that takes its cause away, which the mending command expects
	after   func(t *testing.T, dsn string)               // looks whether more is as it should be
	says    string                                       // in the text
	cured   string                                       // SQL that does what a command has the server do later
	fake    func(sql string, rows [][]string) [][]string // changes what the database answers
	restart func(t *testing.T)                           // restarts the server
	ask     string                                       // is asked in place of vectorsSQL
}

// unmended are the codes of findings that no command of ours mends, with the reason;
// everything else in Kinds has an ailment whose commands are executed.
var unmended = map[string]string{
	"timescaledb-missing":     "a package of the server's machine",
	"timescaledb-apache":      "a package of the server's machine",
	"timescaledb-new":         "a newer gateway",
	"pgvector-missing":        "a package of the server's machine",
	"extension-demanded":      "the configuration",
	"schema-newer":            "a newer gateway",
	"timescaledb-old":         "a package of the server's machine, before ALTER EXTENSION",
	"aggregate-old-format":    "no version that this runs with can make one",
	"standby":                 "another server",
	"clock-skew":              "a service of both machines",
	"synchronous-replication": "nothing is wrong",

	"assume-merge-chunk":       "an assumption about clients",
	"assume-skip-invalidation": "an assumption about clients",
	"assume-attach-chunk":      "an assumption about clients",
	"assume-alter-type":        "an assumption about clients",
}

var nativeAilments = []ailment{
	{code: "cagg-rewrites", bring: []string{"ALTER DATABASE {db} SET timescaledb.enable_cagg_rewrites = on", "ALTER ROLE gateway_role SET timescaledb.enable_cagg_rewrites = on"}},
	{code: "triggers-off", bring: []string{"ALTER ROLE gateway_role IN DATABASE {db} SET session_replication_role = replica"}},
	{code: "triggers-off", bring: []string{"ALTER DATABASE {db} SET session_replication_role = replica"}},
	{code: "search-path", bring: []string{"ALTER DATABASE {db} SET search_path = nowhere"}, says: "()"},
	{code: "search-path", bring: []string{"CREATE SCHEMA elsewhere", "ALTER ROLE postgres IN DATABASE {db} SET search_path = elsewhere"}, says: "schema public"},
	{code: "session-timeout", bring: []string{"ALTER DATABASE {db} SET statement_timeout = '5min'"}, says: "statement_timeout is 5min"},
	{code: "session-timeout", bring: []string{"ALTER ROLE ALL IN DATABASE {db} SET lock_timeout = 1000"}, says: "lock_timeout"},
	{code: "session-timeout", bring: []string{"ALTER ROLE postgres IN DATABASE {db} SET idle_in_transaction_session_timeout = '10s'"}},
	{code: "session-timeout", bring: []string{"ALTER ROLE gateway_role SET idle_session_timeout = '1h'"}, role: true},
	{code: "session-timeout", bring: []string{"ALTER ROLE ALL SET transaction_timeout = '1h'"}},
	{code: "read-only", bring: []string{"ALTER DATABASE {db} SET default_transaction_read_only = on"}},
	{code: "serializable", bring: []string{"ALTER ROLE gateway_role SET default_transaction_isolation = serializable"}},
	{code: "asynchronous-commit", bring: []string{"ALTER DATABASE {db} SET synchronous_commit = off"}},
	{code: "jit", bring: []string{"ALTER DATABASE {db} RESET jit"}},
	{code: "connection-limit", bring: []string{"ALTER ROLE gateway_role CONNECTION LIMIT 5", "ALTER DATABASE {db} CONNECTION LIMIT 9"}, role: true, o: DoctorOptions{PoolSize: 10}, says: "database"},
	{code: "user-casts", bring: []string{
		"CREATE FUNCTION spot(int) RETURNS point LANGUAGE sql AS 'SELECT NULL::point FROM setseed(0)'", "CREATE CAST (int AS point) WITH FUNCTION spot(int)",
	}, says: "between built-in types"},
	{code: "login-triggers", bring: []string{"CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION greet()"}},
	{code: "extension-hidden", bring: []string{"CREATE SCHEMA attic", "ALTER EXTENSION vector SET SCHEMA attic"}},
	{code: "plain-table", bring: []string{
		"CREATE TABLE plain (LIKE tick_data INCLUDING ALL)", "DROP TABLE tick_data", "ALTER TABLE plain RENAME TO tick_data",
		"INSERT INTO tick_data (id, timestamp, symbol) SELECT i, timestamptz '2024-01-01 00:00:00+00' + i * interval '1 day', 'SPX' FROM generate_series(1, 100) i",
	}, after: func(t *testing.T, dsn string) {
		if got := value(t, connect(t, dsn), "SELECT count(*) || ' ' || (SELECT count(*) FROM show_chunks('tick_data')) FROM tick_data"); got != "100 15" {
			t.Errorf("rows and chunks are %s", got)
		}
	}},
	{code: "vector-without-index", bring: []string{"DROP INDEX feature_embeddings_embedding_idx"}},
	{code: "vector-without-index", bring: []string{"CREATE TABLE notes (v halfvec(3000))"}, says: "notes.v"},
	{code: "vector-index-metric", bring: []string{"DROP INDEX volatility_regimes_regime_vector_idx", "CREATE INDEX ON volatility_regimes USING ivfflat (regime_vector vector_cosine_ops)"}, says: "vector_l2_ops"},
	{code: "index-invalid", bring: []string{
		"INSERT INTO trades (timestamp, symbol, action) VALUES (now(), 'A', 'buy'), (now(), 'A', 'buy')",
		"fails: CREATE UNIQUE INDEX CONCURRENTLY trades_unique ON trades (symbol)",
	}, before: []string{"TRUNCATE trades"}},
	{code: "index-invalid", bring: []string{
		"DROP INDEX trades_unique", "INSERT INTO trades (timestamp, symbol, action) VALUES (now(), 'A', 'buy'), (now(), 'A', 'buy')",
		"fails: CREATE UNIQUE INDEX CONCURRENTLY trades_unique_ccnew ON trades (symbol)", "TRUNCATE trades, tick_data",
	}, says: "trades_unique_ccnew"},
	{code: "long-transaction", hold: "BEGIN; SELECT 1", o: DoctorOptions{LongAfter: time.Millisecond}, says: "idle in transaction"},
	{code: "settling-held", hold: "BEGIN; SELECT pg_current_xact_id()", o: DoctorOptions{LongAfter: time.Millisecond}, fake: withUnsettled("t", "timestamptz", "t"), says: "refreshed since in daily"},
	{code: "settling-held", bring: []string{"BEGIN; INSERT INTO trades (timestamp, symbol, action) VALUES (now(), 'A', 'buy'); PREPARE TRANSACTION 'half'"}, o: DoctorOptions{LongAfter: time.Millisecond}, fake: withUnsettled("t", "timestamptz", "t"), says: `transaction "half"`},
	{code: "change-log-missing", bring: []string{"ALTER TABLE volatility_regimes DISABLE TRIGGER qvpgw_delete"}, says: "are not logged"},
	{code: "change-log-missing", bring: []string{"CREATE TABLE memos (id int PRIMARY KEY, v vector(3))"}, says: "memos"},
	{code: "locked", hold: "BEGIN; LOCK TABLE market_data", ask: "SELECT count(*) FROM market_data", says: "market_data"},
	{code: "prepared-transactions", bring: []string{"BEGIN; INSERT INTO trades (timestamp, symbol, action) VALUES (now(), 'A', 'buy'); PREPARE TRANSACTION 'it''s mine'"}, says: "it's mine"},
	{code: "timescaledb-restoring", bring: []string{"SELECT timescaledb_pre_restore()"}},
	{code: "schema-pending", bring: []string{"qvpgw migrate goto 1"}},
	{code: "schema-dirty", bring: []string{"UPDATE qvpgw.schema_migrations SET dirty = true"}},
	{code: "schema-privilege", bring: []string{"qvpgw migrate goto 1", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"}, role: true, says: "schema public"},
	{code: "privilege-owner", bring: []string{"qvpgw migrate up", "ALTER TABLE market_data OWNER TO postgres", "ALTER SCHEMA qvpgw OWNER TO postgres"}, role: true},
	{code: "privilege-owner", bring: []string{"CREATE ROLE keeper", "ALTER TABLE market_data OWNER TO keeper"}, role: true, says: "keeper"},
	{code: "privilege-login", role: true, o: DoctorOptions{AuthQuery: true}},
	{code: "privilege-monitor", role: true},
	{code: "vectors-missing", bring: []string{"DROP TABLE IF EXISTS feature_embeddings, volatility_regimes"}},
}

var embeddedAilments = []ailment{
	{code: "aggregates-missing", bring: []string{"{drop}"}},
	{code: "aggregate-empty", bring: []string{
		"INSERT INTO market_data (timestamp, symbol, close) SELECT timestamptz '2024-01-01 00:00:00+00' + i * interval '1 hour', 'SPX', i FROM generate_series(1, 1500) i",
	}},
	{code: "aggregate-stale", bring: []string{"INSERT INTO market_data (timestamp, symbol, close) VALUES ('2024-06-01', 'SPX', 1)"}, says: "market_data has rows up to 2024-06-01"},
	{code: "aggregate-invalid", bring: []string{"UPDATE market_data SET close = 0 WHERE timestamp = '2024-02-03 04:00:00+00'"}, says: "1 ranges between"},
	{code: "change-log-missing", bring: []string{"SELECT qvpgw.unwatch('market_data')"}, says: "market_data"},
	{code: "aggregate-unsettled", bring: []string{"SELECT qvpgw.unwatch('tick_data')"}, says: "no_change_log"},
	{code: "aggregate-row-security", bring: []string{"ALTER TABLE market_data ENABLE ROW LEVEL SECURITY"}},
	{code: "chunks-uncompressed", bring: []string{
		"ALTER TABLE market_data SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'timestamp DESC')",
		"SELECT add_compression_policy('market_data', interval '30 days')",
	}, says: "chunks of market_data are older than 30 days"},
	{code: "job-paused", bring: []string{"SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'"}, says: "compression of market_data"},
	{code: "policy-differs", bring: []string{"SELECT set_chunk_time_interval('tick_data', interval '3 days')"}, o: DoctorOptions{Policies: &Policies{
		Tables: []TablePolicy{{Table: "tick_data", ChunkInterval: 7 * day}},
	}}, says: "chunk interval of tick_data is 3d, the configuration wants 7d"},
	{code: "policy-held", o: DoctorOptions{Policies: &Policies{
		Tables: []TablePolicy{{Table: "market_data", ChunkInterval: 7 * day, CompressAfter: 30 * day, SegmentBy: "symbol", OrderBy: "timestamp DESC", Retain: 800 * day}},
	}}, says: "it would drop"},
	{code: "job-failed", bring: []string{
		`INSERT INTO _timescaledb_internal.bgw_job_stat
		 SELECT job_id, now(), now(), 'infinity', '-infinity', false, 1, '1s', '1s', 0, 1, 0, 1, 0, 0 FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'`,
	}, cured: `UPDATE _timescaledb_internal.bgw_job_stat SET last_run_success = true WHERE next_start <= now()`},
}

func TestWhatDoctorSaysMendsWhatItFindsInTheCommunityEdition(t *testing.T) {
	onEmbedded(t, func(t *testing.T, dsn string) {
		if err := Migrate(t.Context(), dsn, Options{}); err != nil {
			t.Fatal(err)
		}
		for _, a := range embeddedAilments {
			t.Run(a.code, func(t *testing.T) { a.test(t, dsn) })
		}
		if r := examine(t, dsn, DoctorOptions{}); !strings.Contains(codes(r)["background-workers"], "run_job") {
			t.Errorf("with a policy it found %v", codes(r))
		}
	})
}

// gatewayRole logs in without a password and owns nothing.
const gatewayRole = "gateway_role"

func TestWhatDoctorSaysMendsWhatItFinds(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	if err := Migrate(ctx, dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, "CREATE ROLE "+gatewayRole+" LOGIN")
	exec(t, conn, "ALTER DATABASE "+conn.Config().Database+" SET jit = off")
	t.Cleanup(func() {
		admin := connect(t, pgtest.Native(t).DSN("postgres"))
		exec(t, admin, "DROP DATABASE "+conn.Config().Database+" WITH (FORCE)")
		exec(t, admin, "DROP ROLE "+gatewayRole+"; DROP ROLE IF EXISTS keeper")
	})
	for _, a := range nativeAilments {
		t.Run(a.code, func(t *testing.T) { a.test(t, dsn) })
	}
}

// test brings an ailment about, sees it found, does what doctor says, and sees it gone.
func (a ailment) test(t *testing.T, dsn string) {
	for _, sql := range a.bring {
		sql = strings.NewReplacer("{db}", databaseOf(t, dsn), "{drop}", dropAggregates()).Replace(sql)
		if bad, ok := strings.CutPrefix(sql, "fails: "); ok {
			conn := connect(t, dsn)
			if _, err := conn.Exec(t.Context(), bad); err == nil {
				t.Fatalf("%s succeeded", bad)
			}
			_ = conn.Close(t.Context())
			continue
		}
		a.do(t, dsn, sql)
	}
	if a.hold != "" {
		exec(t, connect(t, dsn), a.hold)
	}
	before := a.findings(t, dsn)
	if len(before) == 0 {
		t.Fatal("it was not found")
	}
	f := before[0]
	if f.Level != kindOf(a.code).Level || f.Off != kindOf(a.code).Off && a.code != "timescaledb-old" || !strings.Contains(f.Text, a.says) {
		t.Errorf("it is found as %+v", f)
	}
	if len(f.Mend) == 0 {
		t.Fatalf("no command mends it: %+v", f)
	}
	for _, sql := range a.before {
		a.do(t, dsn, sql)
	}
	for _, f := range before {
		for _, command := range f.Mend {
			t.Logf("%s: %s -> %s", f.Code, f.Text, command)
		}
		a.cure(t, dsn, f.Mend)
	}
	if a.restart != nil && strings.HasPrefix(f.Mend[0], "ALTER SYSTEM") {
		a.restart(t)
	}
	if a.cured != "" {
		a.do(t, dsn, a.cured)
	}
	if after := a.findings(t, dsn); len(after) > 0 {
		t.Errorf("it is still found: %+v", after)
	}
	if a.after != nil {
		a.after(t, dsn)
	}
}

// dropAggregates drops the newest first: they stand on those before.
func dropAggregates() (sql string) {
	for _, name := range slices.Backward(aggregates) {
		sql += "DROP MATERIALIZED VIEW " + name + "; "
	}
	return sql
}

func databaseOf(t *testing.T, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return config.Database
}

// findings are those of the ailment's code.
func (a ailment) findings(t *testing.T, dsn string) (found []Finding) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if a.role {
		config.User = gatewayRole
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	q := ConnQuery(conn)
	r, err := Doctor(t.Context(), func(ctx context.Context, sql string) ([][]string, error) {
		if a.ask != "" && sql == vectorsSQL {
			sql = a.ask
		}
		rows, err := q(ctx, sql)
		if a.ask != "" && sql == a.ask {
			return nil, err
		}
		if a.fake != nil {
			rows = a.fake(sql, rows)
		}
		return rows, err
	}, a.o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Code == a.code {
			found = append(found, f)
		}
	}
	return found
}

// cure runs a finding's commands as an administrator does: one session for those in
// SQL.
func (a ailment) cure(t *testing.T, dsn string, commands []string) {
	t.Helper()
	var conn *pgx.Conn
	for _, command := range commands {
		if !strings.HasSuffix(command, ";") {
			a.do(t, dsn, command)
			continue
		}
		if conn == nil {
			conn = connect(t, dsn)
			defer func() { _ = conn.Close(context.Background()) }()
		}
		if _, err := conn.Exec(t.Context(), command, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

// do runs SQL on a session of its own, or one of the program's commands.
func (a ailment) do(t *testing.T, dsn, command string) {
	t.Helper()
	words := strings.Fields(command)
	if words[0] != "qvpgw" {
		conn := connect(t, dsn)
		exec(t, conn, command)
		_ = conn.Close(t.Context())
		return
	}
	yes := words[len(words)-1] == "--yes"
	if yes {
		words = words[:len(words)-1]
	}
	m := NewMigrator(dsn, Options{Policies: a.o.Policies, Yes: yes})
	var err error
	switch {
	case slices.Equal(words[1:], []string{"migrate", "up"}):
		_, err = m.Up(t.Context())
	case len(words) == 4 && words[2] == "goto":
		version, bad := strconv.Atoi(words[3])
		if bad != nil {
			t.Fatal(bad)
		}
		_, err = m.Goto(t.Context(), version)
	default:
		err = fmt.Errorf("the test does not know the command %q", command)
	}
	if err != nil {
		t.Fatal(err)
	}
}
