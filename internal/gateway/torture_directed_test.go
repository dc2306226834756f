package gateway_test

import (
	"testing"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestTortureSeesEachLeakOfABrokenHandOver leaves nothing to chance (trap T17): on one
// server connection a client makes state and hangs up, and the next one looks, as the
// torture's clients do. With the hand-over broken every leak must be found, and without
// none.
func TestTortureSeesEachLeakOfABrokenHandOver(t *testing.T) {
	for _, broken := range []bool{true, false} {
		for name, i := range map[string]int{"a temporary table": 1, "an advisory lock": 5} {
			r := &torture{TB: t, broken: broken, patience: patience, direct: nativeDatabase(t, tortureSchema)}
			g, addr := serve(t, r.direct, gateway.Options{Pool: pool.Options{Size: 1, BrokenHandOver: broken}})
			r.addr = addr
			made, looks := newClient(r, 0), newClient(r, 1)
			for _, c := range []*client{made, looks} {
				if err := c.connect(); err != nil {
					t.Fatal(err)
				}
			}
			if ok, err := states[i].make(made); err != nil || !ok {
				t.Fatalf("%s is not made: %v", name, err)
			}
			_ = made.hangUp()
			settled(t, g)
			if err := looks.nothingLeft(); err != nil {
				t.Error(err)
			}
			if found := r.leakedSettings.Load(); (found == 1) != broken {
				t.Errorf("%s, broken hand-over %t: %d leaks found", name, broken, found)
			}
			looks.conn.Close()
		}
	}
}
