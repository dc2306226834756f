package gateway

import (
	"net"
	"os"
	"testing"
	"time"
)

// wokenConn is a client's connection whose read was ended by a wake, and that is woken
// again, for another reason, while its deadline is taken back.
type wokenConn struct {
	net.Conn
	reads int
	woken func()
}

func (c *wokenConn) Read(b []byte) (int, error) {
	if c.reads++; c.reads == 1 {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(b, "next"), nil // the client goes on
}

func (c *wokenConn) SetReadDeadline(time.Time) error {
	c.woken()
	return nil
}

// TestAClientThatIsEndedWhileItIsWokenForSomethingElseHearsIt, although it never rests:
// the listener's connection was lost as it was told of a notification.
func TestAClientThatIsEndedWhileItIsWokenForSomethingElseHearsIt(t *testing.T) {
	s := &session{srv: &Server{}}
	s.net = &wokenConn{woken: func() { s.evicted.Store(fatal("57P01", "ended", "")) }}
	s.raw = s.net
	if n, err := (clientReader{s}).Read(make([]byte, 8)); !timedOut(err) {
		t.Errorf("it reads on: %d bytes, %v", n, err)
	}
}
