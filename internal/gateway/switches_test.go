package gateway_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

func TestRoutesAreSwitchedOffForAClientADatabaseOrATable(t *testing.T) {
	for _, c := range []struct {
		name              string
		databases, tables []string
		set               bool
		routed            bool
	}{
		{name: "nothing is off", routed: true},
		{name: "others are off", databases: []string{"other"}, tables: []string{"other", "side.market_data"}, routed: true},
		{name: "a client", set: true},
		{name: "a database", databases: []string{"market"}},
		{name: "a table", tables: []string{"market_data"}},
		{name: "a table of a schema", tables: []string{"public.market_data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newActor(t, nil)
			dsn := "postgres://app@" + a.address + "/market?sslmode=disable"
			opt := gateway.Options{
				Pool: pool.Options{Size: 1}, CatalogEvery: time.Hour, AlwaysRoute: true, NoRouteDatabases: map[string]bool{}, NoRouteTables: map[string]bool{},
				Backend: func(string, string) (*pgconn.Config, error) { return pgconn.ParseConfig(dsn) },
				NewLoader: func() gateway.LoadFunc {
					return func(gateway.QueryFunc, *catalog.Snapshot, *catalog.Touched) (*catalog.Snapshot, error) {
						return rewriteSnapshot(), nil
					}
				},
			}
			for _, name := range c.databases {
				opt.NoRouteDatabases[name] = true
			}
			for _, name := range c.tables {
				opt.NoRouteTables[name] = true
			}
			_, addr := serve(t, dsn, opt)
			switched, other := dial(t, addr, dsn), dial(t, addr, dsn)
			if c.set {
				switched.must("SET qvpgw.route = off")
				other.query(hourly)
				if got := other.route(); !strings.HasPrefix(got, "rewrite") {
					t.Errorf("another client's statement: %s", got)
				}
			}
			before := len(a.order())
			switched.query(hourly)
			got, asked := switched.route(), a.order()[before:]
			if c.routed != strings.HasPrefix(got, "rewrite") || !c.routed && (!strings.HasPrefix(got, "pass route_off") || !slices.Equal(asked, []string{"original"})) {
				t.Errorf("%s, by %q", got, asked)
			}
			if c.set {
				switched.must("SET qvpgw.route = auto")
				switched.query(hourly)
				if got := switched.route(); !strings.HasPrefix(got, "rewrite") {
					t.Errorf("switched on again: %s", got)
				}
			}
		})
	}
}

// order is what was asked, in this order.
func (a *actor) order() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}
