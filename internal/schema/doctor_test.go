package schema

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

func examine(t *testing.T, dsn string, o DoctorOptions) Report {
	t.Helper()
	conn := connect(t, dsn)
	defer func() { _ = conn.Close(context.Background()) }()
	r, err := Doctor(context.Background(), ConnQuery(conn), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// codes maps the findings' codes to their texts.
func codes(r Report) map[string]string {
	m := map[string]string{}
	for _, f := range r.Findings {
		m[f.Code] = string(f.Level) + " " + f.Text + " " + f.Advice
	}
	return m
}

func TestDoctorSaysWhatTheEditionLeavesOut(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		before := examine(t, dsn, DoctorOptions{})
		if c := codes(before); !strings.Contains(c["schema-pending"], "migrate up") || before.Migrations.Version != -1 {
			t.Errorf("before up it found %v", c)
		}
		if err := Migrate(context.Background(), dsn, Options{}); err != nil {
			t.Fatal(err)
		}
		r := examine(t, dsn, DoctorOptions{})
		if !r.Healthy() || !r.Migrations.Current() || r.Hypertables != 4 || r.InRecovery {
			t.Errorf("it found %+v", r)
		}
		if !r.Capability(CapKNN).On || !r.Capability(CapPooling).On {
			t.Errorf("capabilities are %+v", r.Capabilities)
		}
		c := codes(r)
		switch r.Edition {
		case "Community":
			if !r.Capability(CapAggregates).On || !r.Capability(CapPolicies).On || r.Aggregates != 8 {
				t.Errorf("capabilities are %+v", r.Capabilities)
			}
			if c["aggregate-empty"] != "" || !strings.Contains(c["timescaledb-old"], "2.29.0") {
				t.Errorf("it found %v", c)
			}
			conn := connect(t, dsn)
			exec(t, conn, "INSERT INTO market_data (timestamp, symbol) VALUES ('2024-01-02', 'SPX')")
			_ = conn.Close(context.Background()) // the next session waits for this one
			if c := codes(examine(t, dsn, DoctorOptions{})); !strings.Contains(c["aggregate-empty"], "refresh_continuous_aggregate") {
				t.Errorf("with rows and no refresh it found %v", c)
			}
		case "Apache":
			for _, name := range []string{CapAggregates, CapPolicies} {
				if got := r.Capability(name); got.On || !strings.Contains(got.Why, "Apache edition") {
					t.Errorf("%s is %+v", name, got)
				}
			}
			if !strings.Contains(c["timescaledb-apache"], "Community edition") {
				t.Errorf("it found %v", c)
			}
		default:
			t.Errorf("edition %q", r.Edition)
		}
		text := r.Text()
		for _, want := range []string{r.Server, r.Timescale, r.Edition, r.Vector, fmt.Sprintf("version %d, current", newest), "a primary", CapAggregates} {
			if !strings.Contains(text, want) {
				t.Errorf("the text has no %q:\n%s", want, text)
			}
		}
		b, err := r.JSON()
		var back Report
		if err != nil || json.Unmarshal(b, &back) != nil || back.Timescale != r.Timescale || len(back.Capabilities) != 4 {
			t.Errorf("JSON is %s, %v", b, err)
		}
	})
}

func TestDoctorFindsWhatStandsInTheWay(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	if err := Migrate(ctx, dsn, Options{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, `
		DROP TABLE tick_data; CREATE TABLE tick_data (timestamp timestamptz NOT NULL);
		DROP INDEX feature_embeddings_embedding_idx;
		CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION f();
		UPDATE qvpgw.schema_migrations SET dirty = true`)
	exec(t, conn, fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = serializable", conn.Config().Database))
	exec(t, conn, fmt.Sprintf("ALTER DATABASE %s SET search_path = nowhere", conn.Config().Database))
	r := examine(t, dsn, DoctorOptions{PoolSize: 10000, Now: time.Now().Add(time.Hour)})
	c := codes(r)
	for code, want := range map[string]string{
		"schema-dirty": "fault", "pool-too-large": "max_connections", "search-path": "fault", "serializable": "isolation",
		"clock-skew": "apart", "login-triggers": "login event trigger", "vector-without-index": "feature_embeddings",
	} {
		if !strings.Contains(c[code], want) {
			t.Errorf("%s: %q has no %q", code, c[code], want)
		}
	}
	if r.Healthy() {
		t.Error("all this is healthy")
	}
	if r.Findings[0].Level != Fault {
		t.Errorf("the first finding is %+v", r.Findings[0])
	}
	exec(t, conn, fmt.Sprintf("ALTER DATABASE %s RESET ALL; UPDATE qvpgw.schema_migrations SET dirty = false; DROP EVENT TRIGGER e", conn.Config().Database))
	c = codes(examine(t, dsn, DoctorOptions{PoolSize: 10}))
	if !strings.Contains(c["plain-table"], "create_hypertable('tick_data'") || c["pool-too-large"] != "" || c["schema-dirty"] != "" {
		t.Errorf("it found %v", c)
	}
}

func TestDoctorSaysHowToGetWhatIsMissing(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	exec(t, conn, "DROP EXTENSION timescaledb; DROP EXTENSION vector")
	r := examine(t, dsn, DoctorOptions{})
	c := codes(r)
	if !strings.Contains(c["timescaledb-not-created"], "CREATE EXTENSION timescaledb") || !strings.Contains(c["pgvector-not-created"], "CREATE EXTENSION vector") {
		t.Errorf("it found %v", c)
	}
	if r.Capability(CapAggregates).On || r.Capability(CapKNN).On || r.Edition != "" || !strings.Contains(r.Text(), "missing") {
		t.Errorf("it found %+v", r)
	}
}

func TestWithoutTimescaleDBTheTablesArePlain(t *testing.T) {
	c := pgtest.Native(t, pgtest.Setting("shared_preload_libraries", ""))
	const name = "bare"
	if err := c.Exec(context.Background(), "postgres", "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	dsn := c.DSN(name)
	result, err := NewMigrator(dsn, Options{}).Up(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if result.To != newest || len(result.Notices) != 8 || !strings.Contains(result.Notices[0], "not preloaded") {
		t.Errorf("got %+v", result)
	}
	r := examine(t, dsn, DoctorOptions{})
	if found := codes(r); !strings.Contains(found["timescaledb-not-preloaded"], "shared_preload_libraries") || r.Hypertables != 0 || !r.Capability(CapKNN).On {
		t.Errorf("it found %v in %+v", found, r)
	}
	if _, err := NewMigrator(dsn, Options{}).Goto(context.Background(), 0); err != nil {
		t.Error(err)
	}
}
