package gateway_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
	"qvpgw/internal/schema"
)

// TestAVectorIndexIsBuiltConcurrentlyThroughTheGateway also has it fail half-way.
func TestAVectorIndexIsBuiltConcurrentlyThroughTheGateway(t *testing.T) {
	dsn := nativeDatabase(t, "")
	if err := schema.Migrate(context.Background(), dsn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, dsn, `INSERT INTO feature_embeddings (timestamp, symbol, feature_type, embedding)
SELECT now(), 'SPY', 'f', (SELECT array_agg(sin(i * j)) FROM generate_series(1, 128) j)::vector FROM generate_series(1, 4000) i`)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	p, beside := dial(t, addr, dsn), direct(t, dsn)
	valid := func(name string) string {
		return beside.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('" + name + "')")
	}
	const name = "public.feature_embeddings_embedding_ivfflat_l2_idx"
	call := "SELECT qvp.create_vector_index('feature_embeddings', 'embedding', 'ivfflat', metric => 'l2')"

	got := p.query(call)
	if rowsOf(got) != name || !strings.Contains(strings.Join(got, "\n"), "building "+name+" over 4000 rows") {
		t.Errorf("got %q", got)
	}
	if route := p.route(); !strings.HasPrefix(route, "local index_build") {
		t.Errorf("route %q", route)
	}
	if got := valid(name); got != "t" {
		t.Errorf("valid: %q", got)
	}
	if got := beside.rows("SELECT reloptions FROM pg_class WHERE oid = to_regclass('" + name + "')"); got != "{lists=4}" {
		t.Errorf("options %q", got)
	}
	if got := p.query(call); !strings.Contains(strings.Join(got, "\n"), "42P07") || valid(name) != "t" {
		t.Errorf("again: %q, valid %q", got, valid(name))
	}
	p.must("DROP INDEX " + name)

	// A transaction that is open keeps it waiting until its time is over.
	writer := direct(t, dsn)
	writer.must("BEGIN; INSERT INTO feature_embeddings (timestamp) VALUES (now())")
	p.must("SET statement_timeout = '300ms'")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		time.Sleep(time.Second)
		writer.must("ROLLBACK")
	}()
	if got := p.query(call); !strings.Contains(strings.Join(got, "\n"), "57014") {
		t.Errorf("got %q", got)
	}
	<-ended
	if got := valid(name); got != "" {
		t.Errorf("an index is left: valid %q", got)
	}
	p.must("RESET statement_timeout")

	// By the extended protocol too; in a transaction the function builds it itself.
	p.send(group("", call)...)
	if got := rowsOf(p.reply(1)); got != name || valid(name) != "t" {
		t.Errorf("extended: %q, valid %q", got, valid(name))
	}
	p.must("DROP INDEX " + name)
	p.must("BEGIN")
	if got := rowsOf(p.query(call)); got != name {
		t.Errorf("in a transaction: %q", got)
	}
	p.must("ROLLBACK")
	if got := p.query(strings.Replace(call, "'l2'", "'manhattan'", 1)); !strings.Contains(strings.Join(got, "\n"), "22023") {
		t.Errorf("got %q", got)
	}
}
