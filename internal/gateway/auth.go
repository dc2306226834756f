package gateway

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"qvpgw/internal/auth"
	"qvpgw/internal/wire"
)

// errCancelled ends the wait for a server connection of a client that cancels.
var errCancelled = errors.New("canceled while waiting for a server connection")

// maxPassword is the longest password that is taken as it is, in bytes.
const maxPassword = 1024

// guard says who may come in now.
func (s *session) guard() *auth.Guard { return s.srv.Guard() }

// authenticate lets the client in or not, by the first rule that matches it.
func (s *session) authenticate() error {
	g := s.guard()
	_, secure := s.net.(*tls.Conn)
	rule := g.Rules.Match(auth.Peer{
		Local: s.guest.local, Addr: s.guest.addr, TLS: secure, User: s.user, Database: s.database, Replication: s.physical(),
	})
	if rule == nil {
		return fatal("28000", fmt.Sprintf("no rule lets in user %q from %s to database %q with %s", s.user, s.host(), s.database, encryption(secure)),
			"The rules are auth.hba, or what auth.method stands for.")
	}
	if err := s.certificate(g, rule); err != nil {
		return err
	}
	s.method = rule.Method
	switch rule.Method {
	case auth.Trust:
		s.trusted = rule.TrustsAnybody()
		return nil
	case auth.Cert:
		return nil
	case auth.OSUser:
		name, err := peerUser(s.raw)
		if err != nil {
			s.srv.log.Warn("cannot say whose process a client is", "error", err)
		}
		if err != nil || !g.Maps.Permit(rule.Map, name, s.user) {
			return fatal("28000", fmt.Sprintf("peer authentication failed for user %q", s.user), "")
		}
		return nil
	case auth.Reject:
		return fatal("28000", fmt.Sprintf("a rule rejects user %q from %s to database %q with %s", s.user, s.host(), s.database, encryption(secure)), "")
	case auth.Password:
		if !secure && !s.guest.local && !rule.Cleartext {
			return fatal("28000", "a password is taken as it is over TLS only", "Connect with sslmode=require.")
		}
	}
	secret, known, err := g.Secret(s.user, s.host())
	if err != nil {
		return &Error{Code: "08006", Message: "cannot look up the user's password", Fatal: true, Err: err}
	}
	ok := false
	if rule.Method == auth.Password {
		ok, err = s.cleartext(g, secret, known)
	} else if hash, has := secret.MD5(); has && rule.Method == auth.MD5 {
		s.method = auth.MD5
		ok, err = s.md5(hash)
	} else {
		v, has := secret.Verifier()
		if !known || !has {
			// Goes on to the end like a known one, so that nobody can tell.
			v, known = s.srv.mock.Verifier(s.user, wire.DefaultIterations), false
		}
		ok, err = s.scram(v, rule.Method == auth.ScramPlus)
	}
	if err != nil && (gone(err) || timedOut(err)) {
		return err
	}
	var e *Error
	var pe *wire.ProtocolError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &pe):
		return &Error{Code: pe.Code, Message: pe.Message, Detail: pe.Detail, Fatal: true}
	case err != nil || !ok || !known:
		g.Doubt(s.user)
		return fatal("28P01", fmt.Sprintf("password authentication failed for user %q", s.user), "")
	}
	return nil
}

// certificate compares the client's certificate with what a rule asks of it.
func (s *session) certificate(g *auth.Guard, rule *auth.Rule) error {
	if rule.Method != auth.Cert && rule.ClientCert == "" {
		return nil
	}
	var cert *x509.Certificate
	if t, ok := s.net.(*tls.Conn); ok {
		if chains := t.ConnectionState().VerifiedChains; len(chains) > 0 {
			cert = chains[0][0]
		}
	}
	if cert == nil {
		return fatal("28000", "connection requires a valid client certificate", "Connect with sslcert and sslkey.")
	}
	if (rule.Method == auth.Cert || rule.ClientCert == "verify-full") && !g.PermitCert(rule, cert, s.user) {
		return fatal("28000", fmt.Sprintf("certificate authentication failed for user %q", s.user), "")
	}
	return nil
}

// scram runs the SASL exchange (PostgreSQL 17, chapter 53.3; RFC 5802, 7677). The
// keys that the client proves are kept for its server connections.
func (s *session) scram(v wire.Verifier, onlyPlus bool) (ok bool, err error) {
	x := wire.NewScramServer(v, s.binding)
	if onlyPlus {
		if s.binding == nil {
			return false, fatal("28000", "the gateway's certificate has no channel binding", "Use a certificate signed with RSA or ECDSA.")
		}
		x.RequireBinding()
	}
	if _, err := s.net.Write(wire.AppendAuthenticationSASL(nil, x.Mechanisms())); err != nil {
		return false, err
	}
	var in wire.Stream
	in.Reset(s.net, nil)
	for {
		body, err := s.passwordMessage(&in, wire.MaxSASLMessage)
		if err != nil {
			return false, err
		}
		reply, done, err := x.Step(body)
		if err != nil {
			if errors.Is(err, wire.ErrProof) {
				err = nil
			}
			return false, err
		}
		if done {
			s.method = auth.Scram
			if x.Bound() {
				s.method = auth.ScramPlus
			}
			s.srv.proved(s.user, x.Keys())
			_, err := s.net.Write(wire.AppendAuthenticationSASLFinal(nil, reply))
			return err == nil, err
		}
		if _, err := s.net.Write(wire.AppendAuthenticationSASLContinue(nil, reply)); err != nil {
			return false, err
		}
	}
}

// proved keeps what a user's login proved. Servers that refused the user before are
// asked again where that changes the answer.
func (s *Server) proved(user string, keys wire.ScramKeys) {
	if !s.keys.Put(user, keys) {
		return
	}
	for _, d := range s.allDatabases() {
		d.mu.Lock()
		p := d.pools[user]
		d.mu.Unlock()
		if p != nil {
			p.Retry()
		}
	}
}

// md5 asks for the hash of a hash and a salt.
func (s *session) md5(secret string) (ok bool, err error) {
	salt := make([]byte, wire.MD5SaltSize)
	rand.Read(salt) // never fails
	answer, err := s.ask(wire.AppendAuthenticationMD5(nil, salt))
	return err == nil && wire.SameSecret(answer, wire.MD5Response(secret, salt)), err
}

// cleartext asks for the password as it is.
func (s *session) cleartext(g *auth.Guard, secret auth.Secret, known bool) (ok bool, err error) {
	password, err := s.ask(wire.AppendAuthenticationCleartext(nil))
	if err != nil {
		return false, err
	}
	if password == "" {
		return false, fatal("28P01", "empty password returned by client", "")
	}
	if !known {
		secret = auth.MockSecret(s.srv.mock.Verifier(s.user, wire.DefaultIterations))
	}
	keys, derived, ok := g.Check(s.user, secret, password, s.host())
	if derived && known {
		s.srv.proved(s.user, keys)
	}
	return ok, nil
}

// ask sends a demand and returns the one answer to it.
func (s *session) ask(demand []byte) (string, error) {
	if _, err := s.net.Write(demand); err != nil {
		return "", err
	}
	var in wire.Stream
	in.Reset(s.net, nil)
	body, err := s.passwordMessage(&in, maxPassword)
	if err != nil {
		return "", err
	}
	return wire.ParsePassword(body)
}

// passwordMessage reads one authentication message of at most limit bytes.
func (s *session) passwordMessage(in *wire.Stream, limit int) ([]byte, error) {
	h, err := in.Next()
	if err != nil {
		return nil, err
	}
	if h.Type != wire.PasswordMessage {
		return nil, violation("expected a password, got message type %q", h.Type)
	}
	body, err := in.Body(limit)
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

// loginText says how the client came in: method and encryption.
func (s *session) loginText() string {
	text := string(s.method)
	if t, ok := s.net.(*tls.Conn); ok {
		text += " " + tls.VersionName(t.ConnectionState().Version)
		if s.direct {
			text += " direct"
		}
	}
	return text
}

// host is the client's address as text: what its work is counted by.
func (s *session) host() string {
	if s.guest.local {
		return "[local]"
	}
	return s.guest.addr.String()
}

func encryption(secure bool) string {
	if secure {
		return "TLS"
	}
	return "no encryption"
}

// sameKey compares cancel keys in constant time.
func sameKey(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
