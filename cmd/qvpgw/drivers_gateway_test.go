package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
)

// driversReserve is how many server connections more may be opened, for clients
// that keep theirs.
const driversReserve = 40

// driversGateway is the gateway that the programs connect to, in transaction mode,
// and the most server connections that it was seen with.
type driversGateway struct {
	addr, http string
	most       atomic.Int64
}

func startDriversGateway(t *testing.T, c *pgtest.Cluster, database string) *driversGateway {
	t.Helper()
	g := &driversGateway{http: freeAddr(t)}
	_, g.addr = startGateway(t, fmt.Sprintf(`listen: %%s
http: %s
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {mode: transaction, size: %d, overflow: %d}
auth: {method: trust}
schema: {migrate: false}
`, g.http, c.Port, database, pgtest.Superuser, driversPool, driversReserve))
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
			}
			if text, err := g.metrics(); err == nil {
				g.most.Store(max(g.most.Load(), int64(metricSum(text, "qvpgw_server_connections"))))
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		watching.Wait()
	})
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

func (g *driversGateway) metrics() (string, error) {
	answer, err := http.Get("http://" + g.http + "/metrics")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// driversSeen is what the gateway's metrics say after a run.
type driversSeen struct {
	shared, pinned float64 // transactions
	most           int64   // server connections at one time
	pins           string
}

func (g *driversGateway) read(t *testing.T) driversSeen {
	t.Helper()
	text, err := g.metrics()
	if err != nil {
		t.Fatalf("cannot read the gateway's metrics: %v", err)
	}
	s := driversSeen{
		shared: metricSum(text, `qvpgw_transactions_total{.*"shared"`),
		pinned: metricSum(text, `qvpgw_transactions_total{.*"pinned"`),
		most:   g.most.Load(),
	}
	for _, m := range regexp.MustCompile(`(?m)^qvpgw_pins_total\{.*="([a-z_]+)".*\} ([1-9].*)$`).FindAllStringSubmatch(text, -1) {
		s.pins += " " + m[1] + " " + m[2]
	}
	return s
}

// unpinned is the share of the transactions whose connection was free afterwards.
func (s driversSeen) unpinned() float64 { return s.shared / max(1, s.shared+s.pinned) }

func (s driversSeen) String() string {
	return fmt.Sprintf("transactions: %.0f, of which %.4f left their connection free; server connections: %d, of which %d from the reserve; pins:%s",
		s.shared+s.pinned, s.unpinned(), s.most, max(0, s.most-driversPool), s.pins)
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
