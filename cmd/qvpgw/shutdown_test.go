package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
)

// TestTheConsoleShutsTheGatewayDown asks for both ways of PgBouncer's SHUTDOWN that
// there are while a transaction is under way.
func TestTheConsoleShutsTheGatewayDown(t *testing.T) {
	c := pgtest.Native(t, pgtest.Plain())
	for _, how := range []string{"SHUTDOWN", "SHUTDOWN wait_for_servers"} {
		t.Run(how, func(t *testing.T) {
			l := launch(t, fmt.Sprintf(`listen: %%s
http: ""
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: disable}
auth: {method: trust}
schema: {migrate: false}
limits: {shutdown_timeout: 1m}
`, c.Port, pgtest.Superuser))
			client := connectTo(t, l.addr, pgtest.Superuser, "postgres")
			if got := first(t, client, "BEGIN; SELECT 1"); got != "1" {
				t.Fatalf("the client got %q", got)
			}
			console := connectTo(t, l.addr, pgtest.Superuser, "qvpgw")
			if got := first(t, console, "SHUTDOWN WAIT_FOR_CLIENTS"); got != "0A000" {
				t.Errorf("what is not there gave %q", got)
			}
			run(t, console, how)
			if how == "SHUTDOWN" {
				// The console is answered before the gateway begins to end: a statement could
				// be in time. The client that sends none hears of it all the same.
				if got := hears(t, client); got != "57P01" {
					t.Errorf("in the transaction the client heard %q, not \"57P01\"", got)
				}
			} else {
				select {
				case <-l.ended:
					t.Fatal("the gateway did not wait for the transaction")
				case <-time.After(200 * time.Millisecond):
				}
				if got := first(t, client, "SELECT 2"); got != "2" {
					t.Errorf("in the transaction the client got %q, not \"2\"", got)
				}
				run(t, client, "COMMIT")
			}
			l.over = true
			select {
			case err := <-l.ended:
				if err != nil {
					t.Logf("it ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				_ = l.cmd.Process.Kill()
				t.Errorf("the gateway did not end:\n%s", l.said.String())
			}
		})
	}
}

// hears is the code of the error that a client which sends nothing gets.
func hears(t *testing.T, c *pgconn.PgConn) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	m, err := c.ReceiveMessage(ctx)
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Code
	}
	return fmt.Sprintf("%T, %v", m, err)
}
