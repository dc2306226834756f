package gateway_test

import (
	"testing"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestACancelEndsTheWaitForTheCatalog has the catalog be read once and not again
// when somebody changed it.
func TestACancelEndsTheWaitForTheCatalog(t *testing.T) {
	dsn := nativeDatabase(t, "")
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, NewLoader: func() func(gateway.QueryFunc, *catalog.Snapshot) (*catalog.Snapshot, error) {
		reads := 0
		return func(gateway.QueryFunc, *catalog.Snapshot) (*catalog.Snapshot, error) {
			if reads++; reads > 1 {
				<-never
			}
			return &catalog.Snapshot{}, nil
		}
	}})
	p, other := dial(t, addr, dsn), dial(t, addr, dsn)
	p.want("SELECT 1", "1")
	other.must("CREATE TABLE made (x int)")
	p.send(simple("SELECT 1"))
	time.Sleep(50 * time.Millisecond)
	cancel(t, addr, p.pid, p.key)
	if got := rowsOf(p.reply(1)); got != "57014" {
		t.Errorf("got %q", got)
	}
}
