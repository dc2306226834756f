package gateway

import (
	"sync"
	"time"

	"qvpgw/internal/knn"
	"qvpgw/internal/pool"
)

// memory is what a database's kept answers are judged by.
type memory struct {
	worth
	log *knn.Log

	// mu protects what follows.
	mu      sync.Mutex
	rounds  *knn.Rounds
	link    *roundLink
	flights map[string]*flight
}

// flight is a query on its way whose answer may be kept.
type flight struct{ done chan struct{} }

// flightWait bounds the wait for another client's query.
const flightWait = time.Second

func newMemory(budget int64, coarse bool) memory {
	return memory{log: knn.NewLog(budget, coarse), flights: map[string]*flight{}}
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
