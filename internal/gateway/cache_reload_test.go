package gateway_test

import (
	"strings"
	"testing"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestTheMemoryOfAnswersIsChangedUnderItsClients changes modes and sizes; the client that
// asks all the time is not told.
func TestTheMemoryOfAnswersIsChangedUnderItsClients(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema)
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p := dial(t, addr, dsn)
	routes := func(want string) {
		t.Helper()
		p.want(nearest, "1|p1;2|p2")
		if got := p.route(); !strings.HasPrefix(got, want) {
			t.Errorf("last_route is %q, want %q", got, want)
		}
	}
	// Whatever writes anywhere in the cluster ends the answer, so that another is needed.
	hits := func() {
		t.Helper()
		for range 50 {
			p.want(nearest, "1|p1;2|p2")
			if strings.HasPrefix(p.route(), "cached hit") {
				return
			}
		}
		t.Error("nothing is answered from memory")
	}
	const miss, off = "cached miss", "pass knn_cache_off"
	routes(miss)
	hits()
	gateway.ReloadWith(g, func(o *gateway.Options) { o.FreshTables = map[string]gateway.Freshness{"points": gateway.FreshOff} })
	routes(off)
	gateway.ReloadWith(g, func(o *gateway.Options) { o.Freshness, o.FreshTables = gateway.FreshOff, nil })
	routes(off)
	gateway.ReloadWith(g, func(o *gateway.Options) { o.Freshness = gateway.FreshStrict })
	hits()
	if err := g.ResizeCache(1 << 20); err != nil {
		t.Fatal(err)
	}
	routes(miss)
	hits()
	gateway.ReloadWith(g, func(o *gateway.Options) { o.MaxEntry = 1 })
	if err := g.ResizeCache(2 << 20); err != nil {
		t.Fatal(err)
	}
	routes(miss)
	routes(miss)
}
