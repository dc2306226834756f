package gateway

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qvpgw/internal/cache"
	"qvpgw/internal/knn"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
)

// memory is what a database's kept answers are judged by.
type memory struct {
	log  *knn.Log
	near nearby

	// mu protects what follows.
	mu      sync.Mutex
	rounds  *knn.Rounds
	link    *roundLink
	flights map[string]*flight
	tables  map[string]*tableMemory
}

// tableMemory are the figures of one table's kept answers, and what they are worth.
type tableMemory struct {
	cache.Tally
	worth
	hits   [metrics.CacheHits]atomic.Int64
	misses [metrics.CacheMisses]atomic.Int64
}

// maxTallies bounds the tables that have figures of their own; the others share those of
// otherTables.
const (
	maxTallies  = 256
	otherTables = "(others)"
)

// of returns what is noted of a table.
func (m *memory) of(table string) *tableMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tables[table]
	if t == nil {
		if len(m.tables) >= maxTallies {
			table = otherTables
		}
		if t = m.tables[table]; t == nil {
			t = new(tableMemory)
			m.tables[table] = t
		}
	}
	return t
}

// flight is a query on its way whose answer may be kept.
type flight struct{ done chan struct{} }

// flightWait bounds the wait for another client's query.
const flightWait = time.Second

func newMemory(opt *Options) memory {
	return memory{log: knn.NewLog(opt.Changes, opt.CoarseCache), near: nearby{cache: opt.Cache}, flights: map[string]*flight{}, tables: map[string]*tableMemory{}}
}

// roundsOn returns the database's rounds. They take their connections from the pool of
// whoever asked last: one of a user that is gone by now gives none.
func (m *memory) roundsOn(s *Server, p *pool.Pool) *knn.Rounds {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rounds == nil {
		m.link = &roundLink{owner: s.nextOwner.Add(1)}
		m.link.waiter.Init(nil)
		m.rounds = knn.NewRounds(m.log, m.link)
	}
	m.link.offered.Store(p)
	return m.rounds
}

// takeOff makes the caller the one who runs the query of a key, whose land is to be
// called; or returns when the one who runs it is done: false.
func (m *memory) takeOff(key []byte) (land func(), mine bool) {
	m.mu.Lock()
	if f := m.flights[string(key)]; f != nil {
		m.mu.Unlock()
		t := time.NewTimer(flightWait)
		defer t.Stop()
		select {
		case <-f.done:
		case <-t.C:
		}
		return nil, false
	}
	f := &flight{make(chan struct{})}
	k := string(key)
	m.flights[k] = f
	m.mu.Unlock()
	return func() {
		m.mu.Lock()
		delete(m.flights, k)
		m.mu.Unlock()
		close(f.done)
	}, true
}

// MemoryStat are the figures of the answers kept of one table, or, where Table is "", of
// a database's rounds.
type MemoryStat struct {
	Database, Table         string
	Mode                    Freshness
	Entries, Bytes, Evicted int64 // Evicted: for want of room
	Hits                    [metrics.CacheHits]int64
	Misses                  [metrics.CacheMisses]int64
	Rounds                  knn.RoundStat
}

// Memory returns the figures of all databases, by database and table.
func (s *Server) Memory() []MemoryStat {
	var list []MemoryStat
	for _, d := range s.allDatabases() {
		m := &d.memory
		m.mu.Lock()
		if m.rounds != nil {
			list = append(list, MemoryStat{Database: d.name, Rounds: m.rounds.Stat()})
		}
		for name, t := range m.tables {
			x := MemoryStat{
				Database: d.name, Table: name, Mode: s.freshnessOf(name),
				Entries: t.Entries.Load(), Bytes: t.Bytes.Load(), Evicted: t.Evicted.Load(),
			}
			for i := range t.hits {
				x.Hits[i] = t.hits[i].Load()
			}
			for i := range t.misses {
				x.Misses[i] = t.misses[i].Load()
			}
			list = append(list, x)
		}
		m.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b MemoryStat) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Table, b.Table))
	})
	return list
}
