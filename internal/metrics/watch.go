package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources give the figures that others keep anyhow. They are called at each
// scrape, from any goroutine; a nil one gives no series.
type Sources struct {
	Clients func() ClientStat
	Servers func() ServerStat // all pools together
	Cache   func() CacheStat
}

// ClientStat is the number of clients in each state.
type ClientStat struct {
	Login, Idle, Active, Waiting int
	Pinned                       [Pins]int // by Pin; a client counts under each of its reasons
}

// ServerStat sums up the pools. Counters are since the start.
type ServerStat struct {
	Idle, Active, Resting int           // connections: free, held, being reset or checked
	Waiting               int           // clients in the queue
	OldestWait            time.Duration // of the one at its head
	Connects, Failures    int64         // logins to the server, failed ones among them
	Checkouts, Handovers  int64         // connections given out; those handed from one client to another waiting
	Timeouts              int64         // clients that waited too long
	Resets, Dead          int64         // connections reset; found dead
	ReserveUsed           int           // connections open beyond size and overflow
	ReserveOpened         int64         // how many of them were opened
}

// CacheStat are the cache's figures.
type CacheStat struct {
	Entries       int
	Bytes, Budget int64
	Evictions     int64              // for want of room
	Stale         [CacheMisses]int64 // by why they did not hold any more
	Rejections    int64              // too large
	Declined      int64              // asked for less often than what they would have driven out
	Rounds        int64              // statements that asked what has changed
	Served        int64              // questions that they answered
}

// Watch registers the sources. Call it once.
func (m *Metrics) Watch(s Sources) {
	m.registry.MustRegister(&watcher{s})
}

type watcher struct{ s Sources }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

var (
	clientsDesc    = desc("clients", "Clients, by state.", "state")
	pinnedDesc     = desc("clients_pinned", "Clients that keep their server connection, by reason.", "reason")
	serversDesc    = desc("server_connections", "Server connections, by state.", "state")
	waitingDesc    = desc("pool_waiting_clients", "Clients in the queue for a server connection.")
	oldestDesc     = desc("pool_oldest_wait_seconds", "How long the first in the queue has waited.")
	connectsDesc   = desc("server_connects_total", "Logins to the server.")
	failuresDesc   = desc("server_connect_failures_total", "Logins to the server that failed.")
	checkoutsDesc  = desc("pool_checkouts_total", "Server connections given to clients.")
	handoversDesc  = desc("pool_handovers_total", "Server connections handed from one client directly to a waiting one.")
	timeoutsDesc   = desc("pool_wait_timeouts_total", "Clients that waited too long for a server connection.")
	resetsDesc     = desc("server_resets_total", "Server connections reset or checked before another client had them.")
	reserveDesc    = desc("pool_reserve_connections", "Server connections open beyond size and overflow, from the reserve.")
	reservedDesc   = desc("pool_reserve_opened_total", "Server connections opened from the reserve.")
	deadDesc       = desc("server_dead_total", "Server connections found dead.")
	entriesDesc    = desc("cache_entries", "Answers in the k-NN cache.")
	bytesDesc      = desc("cache_bytes", "Memory of the k-NN cache, overhead included.")
	budgetDesc     = desc("cache_budget_bytes", "Memory that the k-NN cache may take.")
	evictionsDesc  = desc("cache_evictions_total", "Answers dropped from the k-NN cache, by reason.", "reason")
	roundsDesc     = desc("cache_rounds_total", "Statements that asked the server what has changed, for all k-NN queries that waited.")
	servedDesc     = desc("cache_round_waits_total", "k-NN queries that waited for one of them.")
	rejectionsDesc = desc("cache_rejections_total", "Answers that the k-NN cache did not take, by reason.", "reason")
)

// Describe sends the descriptions of all series.
func (w *watcher) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		clientsDesc, pinnedDesc, serversDesc, waitingDesc, oldestDesc, connectsDesc, failuresDesc, checkoutsDesc,
		handoversDesc, timeoutsDesc, resetsDesc, reserveDesc, reservedDesc, deadDesc, entriesDesc, bytesDesc, budgetDesc, evictionsDesc, rejectionsDesc,
		roundsDesc, servedDesc,
	} {
		ch <- d
	}
}

// Collect asks the sources.
func (w *watcher) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	if w.s.Clients != nil {
		s := w.s.Clients()
		gauge(clientsDesc, float64(s.Login), "login")
		gauge(clientsDesc, float64(s.Idle), "idle")
		gauge(clientsDesc, float64(s.Active), "active")
		gauge(clientsDesc, float64(s.Waiting), "waiting")
		for i, n := range s.Pinned {
			gauge(pinnedDesc, float64(n), pinNames[i])
		}
	}
	if w.s.Servers != nil {
		s := w.s.Servers()
		gauge(serversDesc, float64(s.Idle), "idle")
		gauge(serversDesc, float64(s.Active), "active")
		gauge(serversDesc, float64(s.Resting), "resting")
		gauge(waitingDesc, float64(s.Waiting))
		gauge(oldestDesc, s.OldestWait.Seconds())
		count(connectsDesc, s.Connects)
		count(failuresDesc, s.Failures)
		count(checkoutsDesc, s.Checkouts)
		count(handoversDesc, s.Handovers)
		count(timeoutsDesc, s.Timeouts)
		count(resetsDesc, s.Resets)
		count(deadDesc, s.Dead)
		gauge(reserveDesc, float64(s.ReserveUsed))
		count(reservedDesc, s.ReserveOpened)
	}
	if w.s.Cache != nil {
		s := w.s.Cache()
		gauge(entriesDesc, float64(s.Entries))
		gauge(bytesDesc, float64(s.Bytes))
		gauge(budgetDesc, float64(s.Budget))
		count(evictionsDesc, s.Evictions, "space")
		for i, n := range s.Stale {
			if CacheMiss(i).Evicts() {
				count(evictionsDesc, n, CacheMiss(i).String())
			}
		}
		count(roundsDesc, s.Rounds)
		count(servedDesc, s.Served)
		count(rejectionsDesc, s.Rejections, "size")
		count(rejectionsDesc, s.Declined, "admission")
	}
}
