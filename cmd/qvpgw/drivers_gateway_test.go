package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/admin"
	"qvpgw/internal/pgtest"
)

// driversReserve is how many server connections may be opened besides: one for each
// that a pinned client keeps and, after 2 s of waiting, for programs that hold a
// transaction open on each connection while they open another.
const driversReserve = 32

// driversGateway is the gateway that the programs connect to, in transaction mode.
type driversGateway struct{ addr, http string }

func startDriversGateway(t *testing.T, c *pgtest.Cluster, database string) *driversGateway {
	t.Helper()
	g := &driversGateway{http: freeAddr(t)}
	_, g.addr = startGateway(t, fmt.Sprintf(`listen: %%s
http: %s
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {mode: transaction, size: %d, overflow: 0, reserve: %d, reserve_timeout: 2s, query_wait_notify: 0s}
auth: {method: trust}
schema: {migrate: false}
`, g.http, c.Port, database, pgtest.Superuser, driversPool, driversReserve))
	return g
}

// freeAddr is a loopback address that nobody listens on at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get reads a page of the gateway's.
func (g *driversGateway) get(t *testing.T, page string) []byte {
	t.Helper()
	answer, err := http.Get("http://" + g.http + page)
	if err != nil {
		t.Errorf("cannot read the gateway's %s: %v", page, err)
		return nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Errorf("cannot read the gateway's %s: %v", page, err)
		return nil
	}
	return text
}

// stuck is what the gateway and the server are at, for a program that does not come to
// its end.
func (g *driversGateway) stuck(t *testing.T, c *pgtest.Cluster, database string) string {
	t.Helper()
	var b strings.Builder
	table := func(addr, database, sql string) {
		fmt.Fprintf(&b, "== %s\n", sql)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		conn, err := pgconn.Connect(ctx, "postgres://"+pgtest.Superuser+"@"+addr+"/"+database+"?sslmode=disable")
		if err != nil {
			fmt.Fprintln(&b, err)
			return
		}
		defer conn.Close(ctx)
		results, err := conn.Exec(ctx, sql).ReadAll()
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		for _, r := range results {
			for _, f := range r.FieldDescriptions {
				fmt.Fprintf(&b, "%s|", f.Name)
			}
			for _, row := range r.Rows {
				fmt.Fprintf(&b, "\n%s", bytes.Join(row, []byte("|")))
			}
			fmt.Fprintln(&b)
		}
	}
	table(g.addr, "qvpgw", "SHOW POOLS")
	table(g.addr, "qvpgw", "SHOW CLIENTS")
	table(g.addr, "qvpgw", "SHOW SERVERS")
	table(c.Addr(), database, "SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid), now() - state_change AS since, left(query, 150) AS query FROM pg_stat_activity WHERE datname = current_database() ORDER BY pid")
	fmt.Fprintf(&b, "== goroutines\n%s", g.get(t, "/debug/pprof/goroutine?debug=2"))
	return b.String()
}

// driversSeen is what the gateway says after a run.
type driversSeen struct {
	shared, pinned float64 // transactions
	reserve        int     // the most server connections beyond the pool's size at one time
	left           int     // server connections that are still open
	pins           string
}

func (g *driversGateway) read(t *testing.T) driversSeen {
	t.Helper()
	text := string(g.get(t, "/metrics"))
	s := driversSeen{
		shared: metricSum(text, `qvpgw_transactions_total{.*"shared"`),
		pinned: metricSum(text, `qvpgw_transactions_total{.*"pinned"`),
		left:   int(metricSum(text, "qvpgw_server_connections")),
	}
	for _, m := range regexp.MustCompile(`(?m)^qvpgw_pins_total\{.*="([a-z_]+)".*\} ([1-9].*)$`).FindAllStringSubmatch(text, -1) {
		s.pins += " " + m[1] + " " + m[2]
	}
	var status admin.Status
	if err := json.Unmarshal(g.get(t, "/api/status"), &status); err != nil {
		t.Fatal(err)
	}
	for _, p := range status.Pools {
		s.reserve = max(s.reserve, p.ReservePeak)
	}
	return s
}

// unpinned is the share of the transactions whose connection was free afterwards.
func (s driversSeen) unpinned() float64 { return s.shared / max(1, s.shared+s.pinned) }

func (s driversSeen) String() string {
	return fmt.Sprintf("transactions: %.0f, of which %.4f left their connection free; server connections: %d and at most %d of the reserve; pins:%s",
		s.shared+s.pinned, s.unpinned(), driversPool, s.reserve, s.pins)
}

// metricSum adds up the samples whose line begins with pattern.
func metricSum(text, pattern string) float64 {
	var sum float64
	re := regexp.MustCompile(`^` + pattern + `.* (\S+)$`)
	for line := range strings.Lines(text) {
		if m := re.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			v, err := strconv.ParseFloat(m[1], 64)
			if err == nil {
				sum += v
			}
		}
	}
	return sum
}
