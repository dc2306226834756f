package gateway

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"qvpgw/internal/wire"
)

// readReplication takes the startup parameter replication, whose values are those
// of a boolean and "database".
func (s *session) readReplication() error {
	v, _ := s.startup.Param("replication")
	switch strings.ToLower(v) {
	case "database", "true", "on", "yes", "1", "t", "y":
		s.replication = true
	case "", "off", "false", "no", "0", "f", "n":
	default:
		return fatal("22023", fmt.Sprintf("invalid value for parameter \"replication\": %q", v), "Valid values are: \"false\", 0, \"true\", 1, \"database\".")
	}
	if s.physical() {
		// Physical replication is of no database; the server ignores the name.
		if s.database = s.srv.opt.LoginDatabase; s.database == "" {
			s.database = "postgres"
		}
	}
	return nil
}

// physical says whether it asked for physical replication.
func (s *session) physical() bool {
	v, _ := s.startup.Param("replication")
	return s.replication && !strings.EqualFold(v, "database")
}

// beginReplication gives the client a server connection of its own, opened with
// the parameters of its startup packet, and tells it what the server told us.
func (s *session) beginReplication() error {
	if err := s.findPool(); err != nil {
		return err
	}
	params := map[string]string{}
	for _, p := range s.startup.Params {
		if p.Name != "user" && p.Name != "database" && !strings.HasPrefix(p.Name, "_pq_.") {
			params[p.Name] = p.Value
		}
	}
	c, err := s.pool.DialOwn(s.owner, params)
	if err != nil {
		e := noServer(err)
		e.Fatal = true
		return e
	}
	if err := s.srv.register(s); err != nil {
		c.CloseOwn()
		return err
	}
	app := c.Params["application_name"]
	s.app.Store(&app)
	b := wire.AppendAuthenticationOk(nil)
	for name, value := range c.Params {
		b = wire.AppendParameterStatus(b, name, value)
	}
	b = wire.AppendBackendKeyData(b, s.pid, s.key)
	if _, err := s.net.Write(append(b, readyIdle...)); err != nil {
		s.srv.unregister(s)
		c.CloseOwn()
		return errHungUp
	}
	_ = s.raw.SetDeadline(time.Time{})
	s.busy.Store(1)
	s.held.Store(c)
	return nil
}

// replicate passes bytes both ways until either side ends: those of the client as
// they come, those of the server message by message, so that a shutdown can tell
// the client between two of them.
func (s *session) replicate() error {
	s.srv.m.ClientConnected()
	defer s.srv.m.ClientGone()
	defer s.srv.unregister(s)
	c := s.held.Load()
	defer c.CloseOwn()
	defer s.held.Store(nil)
	left := make(chan error, 1)
	go func() {
		n, err := io.Copy(c.Net, onlyReader{s.net})
		s.srv.m.Received.Add(n)
		if timedOut(err) { // wake, for a shutdown
			left <- errDrain
		} else {
			left <- errHungUp
		}
		_ = c.Net.SetReadDeadline(time.Unix(1, 0))
	}()
	st := &c.Stream
	st.SetDst(s.net)
	err := relay(st)
	_, sent := st.Counts()
	s.srv.m.Sent.Add(sent)
	var we *wire.WriteError
	var gone error
	select {
	case gone = <-left:
	default:
	}
	switch {
	case gone != nil && st.Midway(), errors.As(err, &we):
		return errHungUp
	case gone != nil:
		return gone
	}
	// The server has said what it had to say.
	_ = c.Net.Close()
	_ = s.raw.SetReadDeadline(time.Unix(1, 0))
	<-left
	return errBye
}

// relay passes messages until one side fails.
func relay(st *wire.Stream) error {
	for {
		if _, err := st.Next(); err != nil {
			return err
		}
		st.Forward()
	}
}

// onlyReader hides that a connection can write itself to another, so that a read
// deadline ends the copy.
type onlyReader struct{ io.Reader }
