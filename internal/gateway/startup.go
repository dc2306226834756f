package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"qvpgw/internal/auth"
	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// begin takes a client from its first byte to its first ReadyForQuery.
func (s *session) begin() error {
	if t := s.srv.live.Load().LoginTimeout; t > 0 && !s.srv.isRefusing() {
		_ = s.raw.SetDeadline(time.Now().Add(t))
	}
	if err := s.readStartup(); err != nil {
		return s.refused(err)
	}
	if version, unknown, tell := s.startup.Negotiate(); tell {
		if _, err := s.net.Write(wire.AppendNegotiateProtocolVersion(nil, version, unknown)); err != nil {
			return s.refused(err)
		}
		s.startup.Version = version
	}
	if err := s.authenticate(); err != nil {
		return s.refused(err)
	}
	s.srv.gate.leave(s.guest)
	s.guest, s.binding = nil, nil // of the login alone
	if s.bounded != nil {
		s.bounded.left = -1
	}
	if isConsole(s.database) {
		return s.beginConsole()
	}
	if s.replication {
		if err := s.beginReplication(); err != nil {
			return s.refused(err)
		}
		return s.replicate()
	}
	if err := s.welcome(); err != nil {
		return s.refused(err)
	}
	_ = s.raw.SetDeadline(time.Time{})
	s.client.Reset(clientReader{s}, nil)
	if s.conn != nil {
		s.client.SetDst(&s.up)
	}
	s.startup = nil
	return nil
}

// refused counts a client that was not let in.
func (s *session) refused(err error) error {
	kind := metrics.LoginBackend
	var e *Error
	var pe *wire.ProtocolError
	switch {
	case timedOut(err) && s.srv.isRefusing():
		kind, err = metrics.LoginShutdown, errDrain
	case timedOut(err):
		kind, err = metrics.LoginTimeout, fatal("57014", "the login took too long", "")
	case gone(err):
		kind = metrics.LoginTimeout
	case errors.As(err, &e):
		switch e.Code {
		case "28P01", "28000":
			kind = metrics.LoginPassword
		case "08P01", "0A000":
			kind = metrics.LoginProtocol
		case "53300":
			kind = metrics.LoginLimit
		case "57P01":
			kind = metrics.LoginShutdown
		}
	case errors.As(err, &pe):
		kind, err = metrics.LoginProtocol, &Error{Code: pe.Code, Message: pe.Message, Detail: pe.Detail, Fatal: true, Err: err}
	default:
		kind, err = metrics.LoginProtocol, &Error{Code: "08P01", Message: "cannot read the startup packet", Detail: err.Error(), Fatal: true, Err: err}
	}
	if !errors.Is(err, errBye) {
		s.srv.m.LoginFailures[kind].Inc()
	}
	return err
}

// readStartup reads requests until the startup message. A cancel request is
// carried out, and ends the connection.
func (s *session) readStartup() error {
	for range 4 {
		p, err := wire.ReadStartup(s.net, wire.MaxStartup)
		if err != nil {
			return err
		}
		switch p.Kind {
		case wire.SSLRequest:
			if err := s.startTLS(); err != nil {
				return err
			}
		case wire.DirectTLS:
			offered := s.guard().TLS
			if offered == nil || s.net != s.raw {
				return violation("TLS is not offered here")
			}
			if err := s.handshake(offered.Current(), p.Head); err != nil {
				return err
			}
			s.direct = true
			if s.net.(*tls.Conn).ConnectionState().NegotiatedProtocol != alpn {
				return violation("received direct SSL connection request without ALPN protocol negotiation extension")
			}
		case wire.GSSENCRequest:
			if _, err := s.net.Write([]byte{'N'}); err != nil {
				return err
			}
		case wire.CancelRequest:
			s.srv.Cancel(p.PID, p.Key)
			return errBye
		case wire.StartupMessage:
			s.startup = &p
			return s.readParams()
		}
	}
	return violation("too many requests before the startup message")
}

// startTLS answers an SSLRequest.
func (s *session) startTLS() error {
	offered := s.guard().TLS
	if offered == nil || s.net != s.raw {
		_, err := s.net.Write([]byte{'N'})
		return err
	}
	if _, err := s.net.Write([]byte{'S'}); err != nil {
		return err
	}
	return s.handshake(offered.Current(), nil)
}

// alpn is the protocol that a direct TLS handshake must name (PostgreSQL 17,
// chapter 53.2.11).
const alpn = "postgresql"

// maxHandshake is how much a client may send under TLS before it is logged in, in
// bytes: certificates, startup packet and proof.
const maxHandshake = 128 << 10

// handshake makes the connection one with TLS. head was read from it already.
func (s *session) handshake(now *auth.Generation, head []byte) error {
	s.bounded = &boundedConn{Conn: s.raw, head: head, left: maxHandshake}
	t := tls.Server(s.bounded, now.Config)
	if err := t.Handshake(); err != nil {
		s.srv.m.LoginFailures[metrics.LoginTLS].Inc()
		return fmt.Errorf("%w: %w", errBye, err)
	}
	s.net, s.binding = t, now.Binding
	return nil
}

// boundedConn is a socket of which the first bytes were read already, and of which
// no more than left are read; less than 0 is any number.
type boundedConn struct {
	net.Conn
	head []byte
	left int
}

func (c *boundedConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.left < 0 {
		return c.Conn.Read(b)
	}
	if c.left == 0 {
		return 0, violation("more than %d bytes before the login", maxHandshake)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// readParams takes what the startup message asks for.
func (s *session) readParams() error {
	if s.startup.Version>>16 != 3 {
		return fatal("0A000", fmt.Sprintf("unsupported frontend protocol %d.%d: the gateway supports 3.0 to 3.2", s.startup.Version>>16, s.startup.Version&0xffff), "")
	}
	if s.net == s.raw && s.guard().RequireTLS && !s.guest.local {
		s.srv.m.LoginFailures[metrics.LoginTLS].Inc()
		return fatal("28000", "this gateway takes connections with TLS only", "Connect with sslmode=require.")
	}
	s.user, _ = s.startup.Param("user")
	if s.user == "" {
		return fatal("28000", "no PostgreSQL user name specified in startup packet", "")
	}
	if s.database, _ = s.startup.Param("database"); s.database == "" {
		s.database = s.user
	}
	return s.readReplication()
}

// welcome tells an authenticated client what a server would: its parameters, its
// backend key, and that it is ready.
func (s *session) welcome() error {
	if err := s.findPool(); err != nil {
		return err
	}
	list, fixed, err := requested(s.startup)
	if err != nil {
		return err
	}
	s.base = s.pool.Intern(list)
	s.bucket = s.base
	if fixed != nil {
		s.mode = Session // the settings are of one server connection, and of no other
	}
	own := s.mode == Session || s.loginTriggers()
	learned := s.base.Learned()
	if learned != nil && learned.Era == s.pool.Era() {
		s.era = learned.Era
	} else {
		s.era = unborn
		learned = nil
	}
	if own || learned == nil {
		err := s.attachFirst(own, fixed)
		switch {
		case s.conn == nil:
		case own && err == nil:
			s.pin(router.PinProcess)
		default:
			s.detach()
		}
		s.busy.Store(0) // none of the client's turns has begun
		if err != nil {
			return err
		}
		if learned = s.learned(); learned == nil {
			return &Error{Code: "08006", Message: "the server does not tell its settings", Fatal: true}
		}
	}
	if err := s.srv.register(s); err != nil {
		return err
	}
	b := wire.AppendAuthenticationOk(nil)
	s.params.shared = learned.Params
	s.noteIdle()
	if s.srv.opt.LoginUser != "" {
		s.params.set("session_authorization", s.user)
	}
	for _, p := range s.params.shared {
		value, _ := s.params.get(p.Name)
		b = wire.AppendParameterStatus(b, p.Name, value)
	}
	if app, _ := s.params.get("application_name"); app != "" {
		s.app.Store(&app)
	}
	s.waiter.Long = s.tellWaiting
	b = wire.AppendBackendKeyData(b, s.pid, s.key)
	if own {
		b = appendNotices(b, s.conn.Notices)
	}
	b = append(b, readyIdle...)
	if _, err := s.net.Write(b); err != nil {
		s.srv.unregister(s)
		return errHungUp
	}
	return nil
}

// findPool finds where the client's server connections come from.
func (s *session) findPool() error {
	if s.srv.opt.LoginUser != "" && s.srv.opt.LoginDatabase != "" && s.database != s.srv.opt.LoginDatabase {
		return fatal("3D000", fmt.Sprintf("database %q does not exist", s.database), fmt.Sprintf("This gateway serves the database %q.", s.srv.opt.LoginDatabase))
	}
	s.login = s.user
	if s.srv.opt.LoginUser != "" {
		s.login = s.srv.opt.LoginUser
	}
	policy, err := s.srv.policy(s.database, s.user)
	if err != nil {
		return noServer(err)
	}
	s.mode = policy.Mode
	s.db = s.srv.database(s.database)
	if err := s.srv.admitted(s, &policy); err != nil {
		return err
	}
	if s.db.disabled.Load() {
		return fatal("57P03", fmt.Sprintf("database %q is disabled", s.database), "An administrator has disabled it; ENABLE in the console admits clients again.")
	}
	p, err := s.db.pool(s.login)
	if err != nil {
		return noServer(err)
	}
	s.db.mu.Lock()
	s.db.readLocked(p, s.mode) // the pool may be older than the mode
	s.db.mu.Unlock()
	s.pool = p
	return nil
}

// Cancel carries out a CancelRequest: it reaches the query that the session with
// that key runs at this moment, or nothing. One for a client of another generation
// is passed on.
func (s *Server) Cancel(pid uint32, key []byte) {
	if g := generationOf(pid); g != s.opt.Generation&0x7f {
		if s.opt.Elsewhere == nil {
			s.m.Cancels[metrics.CancelUnknown].Inc()
			return
		}
		s.m.Cancels[metrics.CancelElsewhere].Inc()
		s.opt.Elsewhere(g, pid, key)
		return
	}
	s.mu.Lock()
	c := s.sessions[pid]
	s.mu.Unlock()
	if c == nil || !sameKey(c.key, key) {
		s.m.Cancels[metrics.CancelUnknown].Inc()
		return
	}
	conn := c.held.Load()
	if conn == nil {
		// Its turn may be on the way to one: it looks when it has it.
		if busy := c.busy.Load(); busy&1 == 1 {
			c.cancelled.Store(busy)
			if conn = c.held.Load(); conn != nil && !c.cancelled.CompareAndSwap(busy, 0) {
				conn = nil // it has looked
			}
		}
	}
	if conn == nil || !conn.BeginCancel(c.owner) {
		s.abortWait(c)
		c.awaiting.CompareAndSwap(awaitsSettings, awaitCancelled)
		if c.awaiting.CompareAndSwap(awaitsCatalog, awaitCancelled) {
			c.db.poke()
		}
		s.m.Cancels[metrics.CancelNoQuery].Inc()
		return
	}
	if err := conn.Cancel(c.cancelContext()); err != nil {
		s.log.Warn("cannot cancel", "pid", pid, "error", err)
		s.m.Cancels[metrics.CancelFailed].Inc()
		return
	}
	s.m.Cancels[metrics.CancelSent].Inc()
}

// abortWait ends a cancelled client's wait for a server connection.
func (s *Server) abortWait(c *session) {
	if c.pool != nil {
		c.pool.Abort(&c.waiter, errCancelled)
	}
}

// cancelContext bounds one cancel.
func (s *session) cancelContext() context.Context {
	t := s.srv.live.Load().CancelTimeout
	if t <= 0 {
		t = 10 * time.Second
	}
	ctx, stop := context.WithTimeout(context.Background(), t)
	time.AfterFunc(t, stop)
	return ctx
}
