package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// conformancePool is the number of server connections in transaction mode, and
// conformanceReserve how many more there may be while clients keep theirs. The suite
// runs up to 20 files at once.
const (
	conformancePool    = 8
	conformanceReserve = 22
)

// conformanceFew are files whose subject a pooler can get wrong, with what they need:
// the reduced run that is part of the tests.
var conformanceFew = []string{
	"test_setup", "transactions", "prepared_xacts", "async", "guc", "advisory_lock", "temp", "prepare", "sequence",
}

// conformanceMode is one way to the server and what came of it.
type conformanceMode struct {
	name    string
	results []pgtest.RegressResult
	took    time.Duration
	metrics map[string]float64
	servers int // connections to the server at most
}

// TestConformance runs PostgreSQL's own regression suite, each time on a fresh server:
// directly, through the gateway in session mode, and through the gateway in transaction
// mode with 8 server connections for up to 20 files at once. What a file answers through
// the gateway must be what it answers without.
//
// QVPGW_CONFORMANCE=full runs all files and gives the figures; a list of names,
// separated by commas, runs those. QVPGW_CONFORMANCE_MODES names the modes to run, and
// results and differences are kept in the folder that QVPGW_CONFORMANCE_DIR names.
func TestConformance(t *testing.T) {
	suite := pgtest.RegressSuite(t)
	what := os.Getenv("QVPGW_CONFORMANCE")
	switch what {
	case "full":
	case "":
		suite = suite.Only(conformanceFew...)
	default:
		suite = suite.Only(strings.Split(what, ",")...)
	}
	chosen := os.Getenv("QVPGW_CONFORMANCE_MODES")
	var modes []*conformanceMode
	for _, name := range []string{"direct", "session", "transaction"} {
		if chosen != "" && !slices.Contains(strings.Split(chosen, ","), name) {
			continue
		}
		m := &conformanceMode{name: name}
		m.run(t, suite)
		modes = append(modes, m)
	}
	differs := map[string]bool{}
	for _, m := range modes {
		failed := 0
		for i := range m.results {
			r := &m.results[i]
			if !r.Passed {
				failed++
			}
			if diff := m.difference(t, modes[0], i); diff != "" {
				differs[r.Name] = true
				t.Errorf("%s differs in %s mode:\n%s", r.Name, m.name, beginning(diff, 4<<10))
			}
		}
		t.Logf("%s: %d of %d files as expected, %.0f s", m.name, len(m.results)-failed, len(m.results), m.took.Seconds())
		m.report(t)
		figure.Print(t, "conformance."+m.name+".failed", failed)
	}
	if what == "" {
		return
	}
	figure.Print(t, "conformance.files", suite.Files())
	figure.Print(t, "conformance.differs", len(differs))
}

// run runs the suite on a cluster of its own.
func (m *conformanceMode) run(t *testing.T, suite *pgtest.Regress) {
	t.Helper()
	c := pgtest.Native(t, pgtest.Plain(), pgtest.Setting("max_prepared_transactions", "2"))
	addr, stop := c.Addr(), func() {}
	if m.name != "direct" {
		addr, stop = m.gateway(t, c)
	}
	start := time.Now()
	results, err := suite.Run(t.Context(), c, addr)
	if err != nil {
		t.Fatal(err)
	}
	m.took, m.results = time.Since(start), results
	stop()
	dir := os.Getenv("QVPGW_CONFORMANCE_DIR")
	if dir == "" {
		return
	}
	dir = filepath.Join(dir, m.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range results {
		r := &results[i]
		if err := os.WriteFile(filepath.Join(dir, r.Name+".out"), r.Output, 0o644); err != nil {
			t.Fatal(err)
		}
		diff := filepath.Join(dir, r.Name+".diff")
		_ = os.Remove(diff)
		if r.Diff != "" {
			if err := os.WriteFile(diff, []byte(r.Diff), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// gateway starts the gateway before c; stop takes its figures.
func (m *conformanceMode) gateway(t *testing.T, c *pgtest.Cluster) (addr string, stop func()) {
	t.Helper()
	size, reserve := conformancePool, conformanceReserve
	if m.name == "session" {
		size, reserve = 30, 0
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	_ = l.Close()
	_, addr = startGateway(t, fmt.Sprintf(`listen: %%s
http: %s
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: disable}
pool: {mode: %s, size: %d, overflow: %d}
auth: {method: trust}
schema: {migrate: false}
`, admin, c.Port, pgtest.Superuser, m.name, size, reserve))
	ctx, cancel := context.WithCancel(t.Context())
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		for ctx.Err() == nil {
			if have, err := scrape(ctx, admin); err == nil {
				n := 0.0
				for _, state := range []string{"idle", "active", "resting"} {
					n += have[`qvpgw_server_connections{state="`+state+`"}`]
				}
				m.servers = max(m.servers, int(n))
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return addr, func() {
		if m.metrics, err = scrape(t.Context(), admin); err != nil {
			t.Error(err)
		}
		cancel()
		<-sampled
	}
}

// scrape reads the metrics of a gateway.
func scrape(ctx context.Context, addr string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot read the gateway's metrics: %w", err)
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if i := strings.LastIndexByte(lines.Text(), ' '); i > 0 {
			if v, err := strconv.ParseFloat(lines.Text()[i+1:], 64); err == nil {
				all[lines.Text()[:i]] = v
			}
		}
	}
	return all, nil
}

// difference is how file i differs from what it was directly; "" when it does not. A
// file that is as expected in both has not differed, although the expected outputs may
// be two.
func (m *conformanceMode) difference(t *testing.T, direct *conformanceMode, i int) string {
	t.Helper()
	have, want := &m.results[i], &direct.results[i]
	if m == direct || have.Passed && want.Passed || bytes.Equal(have.Output, want.Output) {
		return ""
	}
	diff, err := pgtest.Diff(t.Context(), want.Output, have.Output)
	if err != nil {
		t.Fatal(err)
	}
	return diff
}

// report prints what a run through the gateway cost in connections.
func (m *conformanceMode) report(t *testing.T) {
	if m.metrics == nil {
		return
	}
	t.Logf("%s: at most %d server connections at once", m.name, m.servers)
	if m.name != "transaction" {
		return
	}
	t.Logf("%s: of them %d from the reserve", m.name, max(0, m.servers-conformancePool))
	const pins = `qvpgw_pins_total{reason="`
	for _, name := range slices.Sorted(maps.Keys(m.metrics)) {
		if reason, ok := strings.CutPrefix(name, pins); ok && m.metrics[name] > 0 {
			t.Logf("%s: pins for %s: %.0f", m.name, strings.TrimSuffix(reason, `"}`), m.metrics[name])
		}
	}
	var kept []pinnedTransactions
	for name, n := range m.metrics {
		if labels, ok := strings.CutPrefix(name, `qvpgw_pinned_transactions_total{reason="`); ok {
			reason, statement, _ := strings.Cut(strings.TrimSuffix(labels, `"}`), `",statement="`)
			kept = append(kept, pinnedTransactions{reason, statement, n})
		}
	}
	slices.SortFunc(kept, func(a, b pinnedTransactions) int { return cmp.Compare(b.n, a.n) })
	shared, pinned := m.metrics[`qvpgw_transactions_total{mode="shared"}`], m.metrics[`qvpgw_transactions_total{mode="pinned"}`]
	t.Logf("%s: %.0f transactions; %.0f left their client pinned, of which", m.name, shared+pinned, pinned)
	by := map[string]float64{}
	for _, k := range kept {
		by[k.reason] += k.n
		t.Logf("%s: %6.0f %5.2f %% %-9s since %s", m.name, k.n, 100*k.n/max(1, shared+pinned), k.reason, k.statement)
	}
	for _, reason := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Compare(by[b], by[a]) }) {
		t.Logf("%s: %6.0f %5.2f %% %s in all", m.name, by[reason], 100*by[reason]/max(1, shared+pinned), reason)
	}
	figure.Print(t, "conformance.reserve_used", max(0, m.servers-conformancePool))
	forced := 0.0
	for reason := range forcedPins {
		forced += by[reason]
	}
	figure.Print(t, "conformance.forced_share", forced/max(1, shared+pinned))
	figure.Print(t, "conformance.unpinned_share", shared/max(1, shared+pinned))
}

// forcedPins are the reasons for which a check finds, after the transaction, that the
// session has something which no other connection can have: no gateway could have let go
// of it.
var forcedPins = map[string]bool{"temp": true, "cursor": true, "advisory": true, "listen": true}

// pinnedTransactions are those that left their client pinned for a reason, and by what
// kind of statement that began.
type pinnedTransactions struct {
	reason, statement string
	n                 float64
}

// beginning is the first n bytes of a text.
func beginning(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + "\n…"
}
