package schema

import (
	"fmt"
	"strings"
	"testing"

	"qvpgw/internal/catalog"

	"github.com/jackc/pgx/v5"
)

// found are the texts and commands of the findings of one code, a line each.
func found(t *testing.T, dsn string, a ailment) string {
	t.Helper()
	var lines []string
	for _, f := range a.findings(t, dsn) {
		lines = append(lines, strings.Join(append([]string{f.Text}, f.Mend...), " -> "))
	}
	return strings.Join(lines, "\n")
}

func TestDoctorKnowsTheChangeLog(t *testing.T) {
	dsn, conn := watchedDatabase(t)
	t.Run("why an aggregate cannot be settled", func(t *testing.T) { whyUnsettled(t, dsn, conn) })
	t.Run("whose changes cannot be logged", func(t *testing.T) { whoseChanges(t, dsn, conn) })
	t.Run("by which metric the functions order", func(t *testing.T) { functionsMetrics(t, conn) })
}

func whyUnsettled(t *testing.T, dsn string, conn *pgx.Conn) {
	exec(t, conn, "DROP ROLE IF EXISTS bucket_keeper; CREATE ROLE bucket_keeper; CREATE VIEW daily AS SELECT 1 AS n")
	defer exec(t, conn, "DROP OWNED BY bucket_keeper; DROP ROLE bucket_keeper")
	for _, step := range []struct{ bring, owned, timeType, force, want string }{
		{"", "t", "timestamptz", "t", ""},
		{"", "f", "timestamptz", "t", "daily cannot be settled (refresh_privilege): only its owner postgres may refresh it, and role postgres is not -> ALTER MATERIALIZED VIEW \"public\".\"daily\" OWNER TO \"postgres\";"},
		{"ALTER VIEW daily OWNER TO bucket_keeper", "f", "timestamptz", "t", "daily cannot be settled (refresh_privilege): only its owner bucket_keeper may refresh it, and role postgres is not -> GRANT \"bucket_keeper\" TO \"postgres\";"},
		{"", "t", "timestamptz", "f", "daily cannot be settled (refresh_version): TimescaleDB " + load(t, conn).Timescale + " cannot refresh by force -> ALTER EXTENSION timescaledb UPDATE;"},
		{"", "t", "bigint", "t", ""},
		{"", "t", "uuid", "t", "daily cannot be settled (refresh_time): its time is neither timestamptz nor timestamp nor date nor an integer"},
	} {
		if step.bring != "" {
			exec(t, conn, step.bring)
		}
		a := ailment{code: "aggregate-unsettled", fake: withUnsettled(step.owned, step.timeType, step.force)}
		if got := found(t, dsn, a); got != step.want {
			t.Errorf("it found %q, not %q", got, step.want)
		}
		a.o.TrustLogs = true
		if got := found(t, dsn, a); got != "" {
			t.Errorf("where TimescaleDB's logs are the truth it found %q", got)
		}
	}
}

func whoseChanges(t *testing.T, dsn string, conn *pgx.Conn) {
	exec(t, conn, `
		CREATE TABLE parts (id int, v vector(3)) PARTITION BY LIST (id);
		CREATE TABLE part PARTITION OF parts FOR VALUES IN (1);
		CREATE TABLE heir () INHERITS (feature_embeddings);
		CREATE TABLE "Odd" (id int PRIMARY KEY, v halfvec(3));
		INSERT INTO pg_subscription_rel VALUES (1, 'volatility_regimes'::regclass, 'r', NULL);`)
	a := ailment{code: "change-log-missing"}
	got := found(t, dsn, a)
	for _, want := range []string{
		`the changes of Odd are not logged: triggers are missing or disabled -> SELECT qvpgw.watch('"public"."Odd"');`,
		"the changes of feature_embeddings cannot be logged: it has partitions",
		"the changes of heir cannot be logged: it has partitions",
		"the changes of parts cannot be logged: it has partitions",
		"volatility_regimes is written by a subscription",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it did not find %q", want)
		}
	}
	if n := strings.Count(got, "\n"); n != 4 {
		t.Errorf("it found %s", got)
	}

	a.o.Unlogged = []string{`"Odd"`, "feature_embeddings", "public.parts", "volatility_regimes", "nowhere"}
	if got := found(t, dsn, a); !strings.Contains(got, "heir") || strings.Contains(got, "\n") {
		t.Errorf("what shall not be logged is missed: %s", got)
	}
}

func functionsMetrics(t *testing.T, conn *pgx.Conn) {
	operators := map[string]string{"'cosine'::text": "vector_cosine_ops", "'l2'::text": "vector_l2_ops", "'inner_product'::text": "vector_ip_ops", "'l1'::text": "vector_l1_ops"}
	for function, column := range map[string][2]string{
		"find_similar_features": {"feature_embeddings", "embedding"},
		"find_similar_regimes":  {"volatility_regimes", "regime_vector"},
	} {
		metric := value(t, conn, fmt.Sprintf(`
SELECT pg_get_function_arg_default(p.oid, i) FROM pg_proc p, generate_series(1, p.pronargs) i
WHERE p.pronamespace = 'qvp'::regnamespace AND p.proname = %s AND p.proargnames[i] = 'metric'`, catalog.Literal(function)))
		if got := operators[metric]; got == "" || got != platformMetric[column] {
			t.Errorf("qvp.%s orders by %s, doctor advises %s", function, metric, platformMetric[column])
		}
	}
	if len(platformMetric) != 2 {
		t.Errorf("doctor knows the metric of %d columns", len(platformMetric))
	}
}
