package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/wire"
)

// Login is how a server connection logged in.
type Login struct {
	TLS    string // the version of TLS, "" without
	Direct bool   // TLS began at once (sslnegotiation=direct)
	Method string // of authentication: trust, password, md5, scram-sha-256, scram-sha-256-plus
}

// ErrNoPassword is a server that asks for a password where there is none to give.
var ErrNoPassword = errors.New("the server asks for a password, and there is none for this user: " +
	"give server_password, let its clients log in by SCRAM with the server's own verifier, or have an entry in .pgpass")

// logIn has the connection that pgconn makes log in by SCRAM with keys in place of
// the password, and with channel binding; it returns cfg. Every other method stays
// pgconn's.
func (p *Pool) logIn(cfg *pgconn.Config, keys func() (wire.ScramKeys, bool)) *pgconn.Config {
	l := login{
		use: wire.ChannelBinding(cfg.ChannelBinding), direct: cfg.SSLNegotiation == "direct",
		password: cfg.Password, derived: &p.derived, keys: keys,
	}
	cfg.ChannelBinding = "disable" // what pgconn sees has no SASL in it
	cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, n net.Conn) (net.Conn, error) {
		own := l
		own.Conn, own.remote = n, n.RemoteAddr()
		return &own, nil
	}
	return cfg
}

// loggedIn returns the connection below a login, and how it went.
func loggedIn(n net.Conn) (net.Conn, Login) {
	l, ok := n.(*login)
	if !ok {
		return n, Login{}
	}
	how := Login{Method: l.method}
	if t, ok := l.Conn.(*tls.Conn); ok {
		how.TLS = tls.VersionName(t.ConnectionState().Version)
		how.Direct = l.direct
	}
	return l.Conn, how
}

// login is a connection whose reader sees the server's messages without the SASL
// exchange, which is carried out here, up to AuthenticationOk; from there on it
// sees everything.
type login struct {
	net.Conn
	use      wire.ChannelBinding
	direct   bool
	password string
	keys     func() (wire.ScramKeys, bool)
	derived  *derivedKeys

	remote  net.Addr
	method  string
	over    bool
	pending []byte // of the message that is being read
}

// maxLoginMessage bounds a message before AuthenticationOk, in bytes.
const maxLoginMessage = 64 << 10

func (l *login) Read(b []byte) (int, error) {
	if l.over && len(l.pending) == 0 {
		return l.Conn.Read(b)
	}
	for len(l.pending) == 0 {
		m, err := l.message()
		if err != nil {
			return 0, err
		}
		if l.pending, err = l.pass(m); err != nil {
			return 0, err
		}
	}
	n := copy(b, l.pending)
	l.pending = l.pending[n:]
	return n, nil
}

// RemoteAddr is known after the end of the connection too, when pgconn may ask.
func (l *login) RemoteAddr() net.Addr { return l.remote }

// message reads exactly one message, its header included.
func (l *login) message() ([]byte, error) {
	m := make([]byte, 5, 128)
	if _, err := io.ReadFull(l.Conn, m); err != nil {
		return nil, err
	}
	size := int(m[1])<<24 | int(m[2])<<16 | int(m[3])<<8 | int(m[4])
	if size < 4 || size > maxLoginMessage {
		return nil, fmt.Errorf("cannot log in: the server sent a message of %d bytes", size)
	}
	m = append(m, make([]byte, size-4)...)
	if _, err := io.ReadFull(l.Conn, m[5:]); err != nil {
		return nil, err
	}
	return m, nil
}

// pass returns what pgconn is shown of a message.
func (l *login) pass(m []byte) ([]byte, error) {
	if m[0] != wire.Authentication {
		return m, nil
	}
	kind, data, err := wire.ParseAuthentication(m[5:])
	if err != nil {
		return nil, err
	}
	switch kind {
	case wire.AuthOk:
		if l.use == wire.BindRequire && l.method != methodPlus {
			return nil, wire.ErrNoChannelBinding
		}
		if l.over = true; l.method == "" {
			l.method = "trust" // or a certificate, which is TLS's affair
		}
		return m, nil
	case wire.AuthSASL:
		return l.scram(data)
	case wire.AuthCleartext:
		l.method = "password"
	case wire.AuthMD5:
		l.method = "md5"
	default:
		return m, nil
	}
	if l.use == wire.BindRequire {
		return nil, wire.ErrNoChannelBinding
	}
	if l.password == "" {
		return nil, ErrNoPassword
	}
	return m, nil
}

const methodPlus = "scram-sha-256-plus"

// scram runs the exchange and returns the server's error, if it sends one.
func (l *login) scram(offered []byte) ([]byte, error) {
	mechanisms, err := wire.ParseMechanisms(offered)
	if err != nil {
		return nil, err
	}
	var binding []byte
	if t, ok := l.Conn.(*tls.Conn); ok {
		if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 {
			binding, _ = wire.TLSServerEndPoint(certs[0]) // nil: it has none
		}
	}
	x, err := wire.NewScramClient(mechanisms, binding, l.use, l.scramKeys)
	if err != nil {
		return nil, err
	}
	answer := wire.AppendSASLInitialResponse(nil, x.Mechanism(), x.First())
	for _, step := range []struct {
		kind uint32
		take func([]byte) ([]byte, error)
	}{
		{wire.AuthSASLContinue, x.Final},
		{wire.AuthSASLFinal, func(data []byte) ([]byte, error) { return nil, x.Verify(data) }},
	} {
		if _, err := l.Conn.Write(answer); err != nil {
			return nil, err
		}
		m, err := l.message()
		if err != nil {
			return nil, err
		}
		if m[0] == wire.ErrorResponse {
			return m, nil
		}
		kind, data, err := wire.ParseAuthentication(m[5:])
		if err != nil || m[0] != wire.Authentication || kind != step.kind {
			return nil, fmt.Errorf("cannot log in by SCRAM: the server sent message %q in the middle of it", m[0])
		}
		if answer, err = step.take(data); err != nil {
			return nil, err
		}
		if answer != nil {
			answer = wire.AppendSASLResponse(nil, answer)
		}
	}
	l.method = "scram-sha-256"
	if x.Bound() {
		l.method = methodPlus
	}
	return nil, nil
}

// scramKeys returns the keys for a server's salt and count: of the password, or
// those that a client proved.
func (l *login) scramKeys(salt []byte, iterations int) (wire.ScramKeys, error) {
	if l.password != "" {
		return l.derived.of(l.password, salt, iterations)
	}
	if l.keys == nil {
		return wire.ScramKeys{}, ErrNoPassword
	}
	k, ok := l.keys()
	switch {
	case !ok:
		return wire.ScramKeys{}, ErrNoPassword
	case !k.Fit(salt, iterations):
		return wire.ScramKeys{}, fmt.Errorf("the user's verifier here is not the server's (another salt or iteration count): %w", ErrNoPassword)
	}
	return k, nil
}

// derivedKeys keeps what a pool's password gives, so that many logins at one time
// derive it once.
type derivedKeys struct {
	mu       sync.Mutex
	password string // "": there are none
	keys     wire.ScramKeys
}

func (d *derivedKeys) of(password string, salt []byte, iterations int) (wire.ScramKeys, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.password == password && d.keys.Fit(salt, iterations) {
		return d.keys, nil
	}
	k, err := wire.NewScramKeys(password, salt, iterations)
	if err == nil {
		d.keys, d.password = k, password
	}
	return k, err
}
