package metrics

import (
	"math/bits"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
)

const namespace = "qvpgw"

// Metrics are the instruments. Counters count since the start of the process.
type Metrics struct {
	registry *prometheus.Registry

	// Clients.
	connections   prometheus.Counter
	connected     prometheus.Gauge
	LoginFailures [loginFailures]prometheus.Counter // by LoginFailure
	Cancels       [cancelOutcomes]prometheus.Counter
	SlowReaders   prometheus.Counter          // ended since they did not read while others waited
	errors        [36 * 36]prometheus.Counter // by SQLSTATE class, see Error

	reloads [2]prometheus.Counter // of the configuration: refused, applied

	// Statements.
	Received     Count          // bytes from clients
	Sent         Count          // bytes to clients
	Queries      [actions]Count // by Action
	Transactions [txModes]Count // by TxMode
	Turns        [gears]Count   // by Gear
	Duration     [actions]*Histogram
	Pins         [Pins]prometheus.Counter // pins taken, by Pin
	pinned       *prometheus.CounterVec   // see PinnedBy
	PoolWait     *Histogram               // in the queue for a server connection

	// Rewrites.
	Rewrites      [rewriteOutcomes]prometheus.Counter // by RewriteOutcome
	Reassociated  prometheus.Counter                  // routed with a float sum, average or variance
	ruleHits      *prometheus.CounterVec
	catalogReads  prometheus.Counter
	catalogErrors prometheus.Counter

	// k-NN cache.
	CacheHits   [CacheHits]prometheus.Counter   // by CacheHit
	CacheMisses [CacheMisses]prometheus.Counter // by CacheMiss
}

// New returns instruments at zero, registered in a registry of their own beside
// Go's and the process's.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)

	m.connections = m.counter("client_connections_total", "Clients that logged in.")
	m.connected = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "clients_connected", Help: "Clients that are logged in.",
	})
	m.registry.MustRegister(m.connected)
	vec := m.vec("client_login_failures_total", "Clients that were not let in, by kind.", "kind")
	for i := range m.LoginFailures {
		m.LoginFailures[i] = vec.WithLabelValues(loginFailureNames[i])
	}
	m.collect(&m.Received, "client_received_bytes_total", "Bytes received from clients.")
	m.collect(&m.Sent, "client_sent_bytes_total", "Bytes sent to clients.")
	vec = m.vec("cancels_total", "Cancel requests, by outcome.", "outcome")
	for i := range m.Cancels {
		m.Cancels[i] = vec.WithLabelValues(cancelOutcomeNames[i])
	}
	m.SlowReaders = m.counter("slow_readers_total", "Clients that were ended because they did not read while others waited for their server connection.")
	vec = m.vec("errors_total", "Errors sent to clients, by SQLSTATE class.", "class")
	other := vec.WithLabelValues("other")
	for i := range m.errors {
		m.errors[i] = other
	}
	for _, class := range sqlstateClasses {
		m.errors[classIndex(class)] = vec.WithLabelValues(class)
	}

	vec = m.vec("config_reloads_total", "Times the configuration was read again, by outcome.", "outcome")
	m.reloads = [...]prometheus.Counter{vec.WithLabelValues("refused"), vec.WithLabelValues("applied")}

	m.collectBy(m.Queries[:], "queries_total", "Statements, by what was done with them.", "action", actionNames[:]...)
	copy(m.Duration[:], m.histogram("query_duration_seconds", "Time from a statement's arrival to the end of its answer, by what was done with it.", "action", actionNames[:]...))
	m.collectBy(m.Turns[:], "turns_total", "Turns of clients, by the gear in which they ended.", "gear", gearNames[:]...)
	m.collectBy(m.Transactions[:], "transactions_total", "Transactions, by whether their server connection was free for others afterwards.", "mode", txModeNames[:]...)
	vec = m.vec("pins_total", "Clients that began to keep their server connection, by reason.", "reason")
	for i := range m.Pins {
		m.Pins[i] = vec.WithLabelValues(pinNames[i])
	}
	m.pinned = m.vec("pinned_transactions_total", "Transactions whose client kept its server connection, by reason and by the kind of the statement that began it.", "reason", "statement")
	m.PoolWait = m.histogram("pool_wait_seconds", "Time in the queue for a server connection, of those that had to wait.", "")[0]
	m.ruleHits = m.vec("rule_hits_total", "Statements that a rule spoke about, by rule and what it did.", "rule", "mode")

	vec = m.vec("rewrites_total", "Statements that had a rewrite to a continuous aggregate, by outcome.", "outcome")
	for i := range m.Rewrites {
		m.Rewrites[i] = vec.WithLabelValues(rewriteOutcomeNames[i])
	}
	m.Reassociated = m.counter("rewrites_reassociated_total", "Routed statements in which floats were added in another order.")
	m.catalogReads = m.counter("catalog_reads_total", "Times the catalog was read.")
	m.catalogErrors = m.counter("catalog_read_failures_total", "Times the catalog could not be read.")

	vec = m.vec("cache_hits_total", "k-NN queries answered from memory, by how.", "reason")
	for i := range m.CacheHits {
		m.CacheHits[i] = vec.WithLabelValues(cacheHitNames[i])
	}
	vec = m.vec("cache_misses_total", "k-NN queries not answered from memory, by reason.", "reason")
	for i := range m.CacheMisses {
		m.CacheMisses[i] = vec.WithLabelValues(cacheMissNames[i])
	}
	return m
}

// Registry is where /metrics is gathered from.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Build makes the program's version a label of qvpgw_build_info. Call it once.
func (m *Metrics) Build(version string) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the version as label.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	g.Set(1)
	m.registry.MustRegister(g)
}

// Generation says how many processes have served on the same sockets before this
// one. Call it once.
func (m *Metrics) Generation(n int) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "generation", Help: "Restarts since the first process, whose sockets this one has.",
	})
	g.Set(float64(n))
	m.registry.MustRegister(g)
}

// ClientConnected counts a client that logged in.
func (m *Metrics) ClientConnected() {
	m.connections.Inc()
	m.connected.Inc()
}

// ClientGone counts one of them down when it is gone.
func (m *Metrics) ClientGone() { m.connected.Dec() }

// Pinned counts pins that a client has taken: bit i stands for Pin i, as in
// router.Pins.
func (m *Metrics) Pinned(pins uint32) {
	for ; pins != 0; pins &= pins - 1 {
		if i := bits.TrailingZeros32(pins); i < int(Pins) {
			m.Pins[i].Inc()
		}
	}
}

// PinnedBy counts a transaction that left its client pinned: reason is a Pin's name,
// statement a kind of statement, "unparsed" or "none".
func (m *Metrics) PinnedBy(reason, statement string) {
	m.pinned.WithLabelValues(reason, statement).Inc()
}

// Error counts an error that a client was sent, by the class (the first two
// characters) of its SQLSTATE.
func (m *Metrics) Error(sqlstate string) { m.errors[classIndex(sqlstate)].Inc() }

// classIndex maps the first two characters, base 36, to an index; what is not two
// of 0-9 and A-Z to that of "00", which is no error's class.
func classIndex(sqlstate string) int {
	if len(sqlstate) < 2 {
		return 0
	}
	n := 0
	for _, c := range []byte(sqlstate[:2]) {
		switch {
		case '0' <= c && c <= '9':
			n = n*36 + int(c-'0')
		case 'A' <= c && c <= 'Z':
			n = n*36 + int(c-'A') + 10
		default:
			return 0
		}
	}
	return n
}

// Reloaded counts a reading of the configuration, which was applied or refused.
func (m *Metrics) Reloaded(applied bool) {
	if applied {
		m.reloads[1].Inc()
		return
	}
	m.reloads[0].Inc()
}

// CatalogRead counts a reading of the catalog.
func (m *Metrics) CatalogRead() { m.catalogReads.Inc() }

// CatalogFailed counts a reading of the catalog that failed.
func (m *Metrics) CatalogFailed() { m.catalogErrors.Inc() }

// Reasons returns the counters of the reason codes, in the order of names, the
// router's closed list. Call it once at the start and keep the slice.
func (m *Metrics) Reasons(names []string) []Count {
	of := make([]Count, len(names))
	m.collectBy(of, "query_reasons_total", "Statements, by the reason for what was done with them.", "reason", names...)
	return of
}

// RuleHits are the counters of one rule.
type RuleHits struct{ Warned, Refused prometheus.Counter }

// Rules resolves the counters of the rules, in the order of names, the rule set's
// closed list. Call it once at the start and keep the slice.
func (m *Metrics) Rules(names []string) []RuleHits {
	hits := make([]RuleHits, len(names))
	for i, name := range names {
		hits[i] = RuleHits{m.ruleHits.WithLabelValues(name, "warn"), m.ruleHits.WithLabelValues(name, "refuse")}
	}
	return hits
}

// Value reads a counter, for the console and the page.
func Value(c prometheus.Counter) float64 {
	var d dto.Metric
	if err := c.Write(&d); err != nil {
		panic("BUG: a counter cannot be read: " + err.Error())
	}
	return d.GetCounter().GetValue()
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) vec(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}
