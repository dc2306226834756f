package gateway

import (
	"net"
	"testing"

	"qvpgw/internal/pool"
)

// ahead is a session in the first gear that was granted a connection on which its
// settings are sent ahead of its statement.
func ahead(t *testing.T) (*session, *pool.Conn) {
	t.Helper()
	p := pool.New(pool.Options{})
	t.Cleanup(p.Close)
	end, other := net.Pipe()
	t.Cleanup(func() { other.Close() })
	go func() { _, _ = other.Read(make([]byte, 5)) }() // the farewell
	s := &session{work: new(work), first: true, pool: p}
	s.up.s = s
	s.ahead = []byte("SET …")
	s.busy.Store(1)
	return s, &pool.Conn{Net: end, Bucket: p.Empty()}
}

func TestACancelThatComesBeforeTheConnectionIsAnsweredThoughSettingsGoAhead(t *testing.T) {
	s, c := ahead(t)
	s.cancelled.Store(1)
	if p := s.takeFirst(c); p != mustBlock || s.conn != nil || s.pool.Stat().Idle != 1 {
		t.Errorf("the statement runs: %d, with %d connections idle", p, s.pool.Stat().Idle)
	}
}

func TestNoCancelReachesTheSettingsThatGoAheadOfAStatement(t *testing.T) {
	s, c := ahead(t)
	s.take(c)
	if s.held.Load() != nil || s.awaiting.Load() != awaitsSettings {
		t.Error("a cancel would end the session with its settings")
	}
}
