package gateway

import (
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"

	"qvpgw/internal/wire"
)

// errCancelled ends the wait for a server connection of a client that cancels.
var errCancelled = errors.New("canceled while waiting for a server connection")

// mockIterations is PostgreSQL's default scram_iterations.
const mockIterations = 4096

// authenticate lets the client in or not.
func (s *session) authenticate() error {
	if s.srv.opt.Trust && s.loopback() {
		return nil
	}
	if s.srv.opt.Verifier == nil {
		return fatal("28000", fmt.Sprintf("no way to log in for user %q from %s", s.user, s.raw.RemoteAddr()), "auth.method trust is for loopback addresses; list the user under auth.users for others.")
	}
	v, known, err := s.srv.opt.Verifier(s.user)
	if err != nil {
		return &Error{Code: "08006", Message: "cannot look up the user's password", Fatal: true, Err: err}
	}
	if !known {
		// Goes on to the end like a known one, so that nobody can tell.
		v = s.srv.mock.Verifier(s.user, mockIterations)
	}
	var binding []byte
	if _, ok := s.net.(*tls.Conn); ok {
		binding = s.srv.opt.Binding
	}
	if err := s.scram(v, binding); err != nil || !known {
		var e *Error
		var pe *wire.ProtocolError
		switch {
		case err != nil && (gone(err) || timedOut(err)):
			return err
		case errors.As(err, &e):
			return e
		case errors.As(err, &pe):
			return &Error{Code: pe.Code, Message: pe.Message, Detail: pe.Detail, Fatal: true}
		}
		return fatal("28P01", fmt.Sprintf("password authentication failed for user %q", s.user), "")
	}
	return nil
}

// scram runs the SASL exchange (PostgreSQL 17, chapter 53.3; RFC 5802, 7677).
func (s *session) scram(v wire.Verifier, binding []byte) error {
	x := wire.NewScramServer(v, binding)
	if _, err := s.net.Write(wire.AppendAuthenticationSASL(nil, x.Mechanisms())); err != nil {
		return err
	}
	var in wire.Stream
	in.Reset(s.net, nil)
	for {
		body, err := s.password(&in)
		if err != nil {
			return err
		}
		reply, done, err := x.Step(body)
		if err != nil {
			return err
		}
		var b []byte
		if done {
			b = wire.AppendAuthenticationSASLFinal(nil, reply)
		} else {
			b = wire.AppendAuthenticationSASLContinue(nil, reply)
		}
		if _, err := s.net.Write(b); err != nil || done {
			return err
		}
	}
}

// password reads one authentication message.
func (s *session) password(in *wire.Stream) ([]byte, error) {
	h, err := in.Next()
	if err != nil {
		return nil, err
	}
	if h.Type != wire.PasswordMessage {
		return nil, violation("expected a password, got message type %q", h.Type)
	}
	body, err := in.Body(wire.MaxSASLMessage)
	if err != nil {
		return nil, violation("%v", err)
	}
	body = bytes.Clone(body)
	in.Drop()
	if in.Buffered() > 0 {
		return nil, violation("data after the password")
	}
	return body, nil
}

// sameKey compares cancel keys in constant time.
func sameKey(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
