package gateway_test

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

const killedServer = `< ErrorResponse FATAL 57P01 "terminating connection due to administrator command"
		< close`

// TestAReadWhoseServerConnectionDiesBeforeItAnswersIsRunAgain has the first server
// connection end at the statement, in both gears.
func TestAReadWhoseServerConnectionDiesBeforeItAnswersIsRunAgain(t *testing.T) {
	for _, gear := range []gateway.Gear{gateway.GearAuto, gateway.GearSecond} {
		for _, c := range []struct{ sql, end, want string }{
			{"SELECT 1", "< close", "answered"},
			{"SELECT 1", killedServer, "answered"},
			{"SELECT 1", "< RowDescription n:23\n< DataRow 1\nsleep 50ms\n< close", "08006"},
			{"INSERT INTO t VALUES (1)", "< close", "08006"},
			{"INSERT INTO t VALUES (1)", killedServer, "57P01"},
			{"SELECT nextval('s')", "< close", "08006"},
		} {
			first := pgtest.MustScript(t, answered+"> Query\n"+c.end).Serve(t)
			second := pgtest.MustScript(t, `
				startup
				> Query "`+c.sql+`"
				< CommandComplete "SELECT 0"
				< ReadyForQuery I
			`).Serve(t)
			dials := 0
			_, addr := startGateway(t, "", gateway.Options{
				Pool: pool.Options{Size: 1}, NewLoader: noCatalog, Gear: gear, Loops: -1,
				Backend: func(string, string) (*pgconn.Config, error) {
					conf, err := pgconn.ParseConfig("postgres://postgres@" + first + "/x?sslmode=disable")
					conf.RuntimeParams = map[string]string{}
					conf.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
						if dials++; dials > 1 {
							addr = second
						}
						return (&net.Dialer{}).DialContext(ctx, network, addr)
					}
					return conf, err
				},
			})
			p := dial(t, addr, "postgres://postgres@h/x")
			got := p.query(c.sql)
			if again := slices.ContainsFunc(got, func(l string) bool { return l == "complete SELECT 0" }); again != (c.want == "answered") {
				t.Errorf("gear %v, %s, %s: %q", gear, c.sql, c.end, got)
			}
		}
	}
}
