package gateway_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// Trap T13: connections are registered at any loop, whoever holds them; a pool
// smaller than the number of loops has its one connection used from all of them.
func TestT13APoolSmallerThanTheNumberOfLoopsServesEverybody(t *testing.T) {
	dsn := nativeDatabase(t, "")
	for _, size := range []int{1, 2} {
		t.Run(strconv.Itoa(size)+" server connections", func(t *testing.T) {
			g, addr := serve(t, dsn, gateway.Options{Loops: 5, Pool: pool.Options{Size: size}, QueueTimeout: 60 * time.Second})
			const clients, rounds = 12, 60
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
					defer cancel()
					c, err := pgconn.Connect(ctx, through(addr, dsn))
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close(ctx)
					for j := range rounds {
						want := fmt.Sprintf("%d/%d", i, j)
						r := c.ExecParams(ctx, "SELECT $1::text", [][]byte{[]byte(want)}, nil, nil, nil).Read()
						if r.Err != nil || len(r.Rows) != 1 || string(r.Rows[0][0]) != want {
							t.Errorf("client %d, statement %d: %v, %v", i, j, r.Rows, r.Err)
							return
						}
					}
				})
			}
			wg.Wait()
			for _, p := range g.Pools() {
				if p.Open > size {
					t.Errorf("%d server connections are open, want at most %d", p.Open, size)
				}
				if p.Handovers < clients {
					t.Errorf("%d hand-overs between %d clients", p.Handovers, clients)
				}
			}
		})
	}
}
