package metrics

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func full() *Metrics {
	m := New()
	m.Build("1.2.3")
	m.Reasons([]string{"ROUTE_OK", "NO_AGGREGATE"})
	m.Rules([]string{"delete_without_where"})
	m.Watch(Sources{
		Clients: func() ClientStat { return ClientStat{Idle: 3, Pinned: [Pins]int{PinListen: 2}} },
		Servers: func() ServerStat {
			return ServerStat{Active: 4, OldestWait: 1500 * time.Millisecond, Handovers: 9, ReserveUsed: 6, ReserveOpened: 7}
		},
		Cache: func() CacheStat { return CacheStat{Entries: 5, Bytes: 1000} },
	})
	return m
}

func TestNamesAndHelpPassTheLinter(t *testing.T) {
	problems, err := testutil.GatherAndLint(full().Registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, namespace) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestEveryChildExistsAtZeroFromTheStart(t *testing.T) {
	families, err := full().Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	total := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), namespace) {
			got[f.GetName()] = len(f.GetMetric())
			total += len(f.GetMetric())
		}
	}
	for name, want := range map[string]int{
		"qvpgw_queries_total":          int(actions),
		"qvpgw_query_duration_seconds": int(actions),
		"qvpgw_pins_total":             int(Pins),
		"qvpgw_clients_pinned":         int(Pins),
		"qvpgw_errors_total":           len(sqlstateClasses) + 1,
		"qvpgw_rewrites_total":         int(rewriteOutcomes),
		"qvpgw_query_reasons_total":    2,
		"qvpgw_rule_hits_total":        2,
		"qvpgw_clients":                4,
		"qvpgw_cache_bytes":            1,
	} {
		if got[name] != want {
			t.Errorf("%s has %d series, want %d", name, got[name], want)
		}
	}
	if total > 250 {
		t.Errorf("%d series: labels are not from closed lists", total)
	}
}

func TestEveryEnumValueHasAName(t *testing.T) {
	for _, names := range [][]string{
		actionNames[:], loginFailureNames[:], txModeNames[:], pinNames[:],
		cancelOutcomeNames[:], cacheMissNames[:], rewriteOutcomeNames[:],
	} {
		seen := map[string]bool{}
		for i, n := range names {
			if n == "" || seen[n] {
				t.Errorf("value %d of %v has no name of its own", i, names)
			}
			seen[n] = true
		}
	}
	if Local.String() != "local" || LoginBackend.String() != "backend" || Pinned.String() != "pinned" || PinStatement.String() != "statement" ||
		CancelFailed.String() != "failed" || MissBypass.String() != "bypass" || FellBack.String() != "fell_back" {
		t.Error("names are out of step with the values")
	}
}

func TestErrorsAreCountedByClass(t *testing.T) {
	m := New()
	for _, s := range []string{"42601", "42P01", "57014", "XX000", "99999", "x", "", "é1", "00000"} {
		m.Error(s)
	}
	f := func(class string, want float64) {
		t.Helper()
		if got := Value(m.errors[classIndex(class)]); got != want {
			t.Errorf("class %s: %v, want %v", class, got, want)
		}
	}
	f("42", 2)
	f("57", 1)
	f("XX", 1)
	f("00", 5) // other
	f("23", 0)
}

func TestPinsAreCountedByTheirBits(t *testing.T) {
	m := New()
	m.Pinned(1<<PinListen | 1<<PinStatement | 1<<31)
	m.Pinned(1 << PinListen)
	m.Pinned(0)
	f := func(p Pin, want float64) {
		t.Helper()
		if got := Value(m.Pins[p]); got != want {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
	f(PinListen, 2)
	f(PinStatement, 1)
	f(PinUnparsed, 0)
}

func TestClientsAreCountedUpAndDown(t *testing.T) {
	m := New()
	m.ClientConnected()
	m.ClientConnected()
	m.ClientGone()
	if got, now := Value(m.connections), testutil.ToFloat64(m.connected); got != 2 || now != 1 {
		t.Errorf("%v connected, %v now", got, now)
	}
}

func TestSourcesAreAskedAtEachScrape(t *testing.T) {
	m := New()
	n := 0
	m.Watch(Sources{Cache: func() CacheStat { n++; return CacheStat{Entries: n} }})
	for want := range 3 {
		if err := testutil.GatherAndCompare(m.Registry(), strings.NewReader(
			"# HELP qvpgw_cache_entries Answers in the k-NN cache.\n# TYPE qvpgw_cache_entries gauge\nqvpgw_cache_entries "+
				string(rune('1'+want))+"\n"), "qvpgw_cache_entries"); err != nil {
			t.Error(err)
		}
	}
}

func TestTheDataPathDoesNotAllocate(t *testing.T) {
	m := New()
	if n := testing.AllocsPerRun(100, func() {
		m.Queries[Pass].Inc()
		m.Duration[Pass].Observe(time.Millisecond)
		m.Received.Add(8192)
		m.Transactions[Shared].Inc()
		m.Error("42601")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrentCountsAndScrapesAgree(t *testing.T) {
	m := full()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				m.Queries[Rewrite].Inc()
				m.Error("40001")
				m.PoolWait.Observe(100 * time.Millisecond)
			}
			if _, err := m.Registry().Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := m.Queries[Rewrite].Load(); got != 8000 {
		t.Errorf("%v queries", got)
	}
	if n, err := testutil.GatherAndCount(m.Registry(), "qvpgw_errors_total"); err != nil || n != len(sqlstateClasses)+1 {
		t.Errorf("%d classes, %v", n, err)
	}
}

func BenchmarkAStatementsFigures(b *testing.B) {
	m := New()
	c := &m.Queries[Pass]
	b.ReportAllocs()
	for b.Loop() {
		c.Inc()
		m.Duration[Pass].Observe(200 * time.Microsecond)
		m.Received.Add(100)
		m.Sent.Add(8192)
	}
}
