package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// scramListener is a server that knows one user, alice, and lets clients in and
// out again.
type scramListener struct {
	t        *testing.T
	verifier Verifier
	mock     *Mock
	tls      *tls.Config
	binding  []byte
	outcome  chan error // of each login
	plus     chan bool  // whether each login had channel binding
}

const alicePassword = "sen\u0303or" // n with a combining tilde

// listen starts the server and returns the connection string to it.
func (l *scramListener) listen() string {
	l.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	if l.verifier, err = NewVerifier(alicePassword, 4096); err != nil {
		l.t.Fatal(err)
	}
	l.mock = NewMock(nil)
	l.outcome, l.plus = make(chan error, 10), make(chan bool, 10)
	l.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			l.login(conn)
			conn.Close()
		}
	}()
	return fmt.Sprintf("host=127.0.0.1 port=%d dbname=d", ln.Addr().(*net.TCPAddr).Port)
}

func (l *scramListener) login(conn net.Conn) {
	startup, err := ReadStartup(conn, MaxStartup)
	if err == nil && startup.Kind == SSLRequest {
		conn.Write([]byte{'S'})
		conn = tls.Server(conn, l.tls)
		startup, err = ReadStartup(conn, MaxStartup)
	}
	if err != nil {
		l.outcome <- err
		return
	}
	user, _ := startup.Param("user")
	verifier := l.mock.Verifier(user, 0)
	if user == "alice" {
		verifier = l.verifier
	}
	s := NewScramServer(verifier, l.binding)
	err = l.exchange(conn, s)
	l.plus <- s.plus
	l.outcome <- err
	if err == nil {
		out := AppendParameterStatus(AppendAuthenticationOk(nil), "server_version", "17.0")
		conn.Write(AppendReadyForQuery(AppendBackendKeyData(out, 1, make([]byte, 4)), Idle))
		io.Copy(io.Discard, conn)
		return
	}
	var p *ProtocolError
	if errors.As(err, &p) {
		conn.Write(AppendErrorResponse(nil, p.Fields()))
	} else {
		conn.Write(AppendErrorResponse(nil, &ErrorFields{
			Severity: SeverityFatal, Code: codeInvalidPassword, Message: "password authentication failed for user " + user,
		}))
	}
	io.Copy(io.Discard, conn)
}

func (l *scramListener) exchange(conn net.Conn, s *ScramServer) error {
	conn.Write(AppendAuthenticationSASL(nil, s.Mechanisms()))
	for {
		var head [5]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		msg := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(conn, msg); err != nil {
			return err
		}
		reply, done, err := s.Step(msg)
		switch {
		case err != nil:
			return err
		case done:
			conn.Write(AppendAuthenticationSASLFinal(nil, reply))
			return nil
		}
		conn.Write(AppendAuthenticationSASLContinue(nil, reply))
	}
}

// newTLS returns a server configuration with a fresh certificate, and its binding.
func newTLS(t *testing.T) (*tls.Config, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	binding, err := TLSServerEndPoint(cert)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, binding
}

// connect logs pgconn in and out again.
func connect(t *testing.T, dsn, user, password string) error {
	t.Helper()
	config, err := pgconn.ParseConfig(dsn + " user=" + user)
	if err != nil {
		t.Fatal(err)
	}
	config.Password = password
	conn, err := pgconn.ConnectConfig(context.Background(), config)
	if err != nil {
		return err
	}
	return conn.Close(context.Background())
}

func TestPgconnLogsInWithoutTLS(t *testing.T) {
	l := &scramListener{t: t}
	dsn := l.listen()
	if err := connect(t, dsn+" sslmode=disable", "alice", alicePassword); err != nil {
		t.Fatal(err)
	}
	if err := <-l.outcome; err != nil || <-l.plus {
		t.Fatalf("the server's outcome: %v", err)
	}
	if err := connect(t, dsn+" sslmode=disable", "alice", "se\u00f1or"); err != nil {
		t.Fatalf("the password in another normal form: %v", err)
	}
}

func TestPgconnLogsInOverTLSWithAndWithoutChannelBinding(t *testing.T) {
	l := &scramListener{t: t}
	l.tls, l.binding = newTLS(t)
	dsn := l.listen()
	f := func(params string, plus bool) {
		t.Helper()
		if err := connect(t, dsn+params, "alice", alicePassword); err != nil {
			t.Errorf("%s: %v", params, err)
		}
		if got := <-l.plus; got != plus {
			t.Errorf("%s: channel binding %v, want %v", params, got, plus)
		}
	}
	f(" sslmode=require channel_binding=require", true)
	f(" sslmode=require channel_binding=prefer", true)
	f(" sslmode=require channel_binding=disable", false)

	bare := &scramListener{t: t}
	bare.tls, _ = newTLS(t)
	if err := connect(t, bare.listen()+" sslmode=require", "alice", alicePassword); err != nil {
		t.Errorf("TLS without channel binding offered: %v", err)
	}
	if <-bare.plus {
		t.Error("channel binding was used though not offered")
	}
}

func TestALoginThroughAnotherCertificateFails(t *testing.T) {
	l := &scramListener{t: t}
	l.tls, _ = newTLS(t)
	_, l.binding = newTLS(t) // the client of a man in the middle sees his certificate
	err := connect(t, l.listen()+" sslmode=require channel_binding=require", "alice", alicePassword)
	if err == nil {
		t.Fatal("the client was let in")
	}
	mustBeProtocolError(t, <-l.outcome, codeInvalidAuthorizationSpec)
}

func TestAWrongPasswordAndAnUnknownUserFailAlike(t *testing.T) {
	l := &scramListener{t: t}
	dsn := l.listen() + " sslmode=disable"
	for _, user := range []string{"alice", "nobody"} {
		err := connect(t, dsn, user, "wrong")
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != codeInvalidPassword {
			t.Errorf("%s: %v, want %s", user, err, codeInvalidPassword)
		}
		if err := <-l.outcome; !errors.Is(err, ErrProof) {
			t.Errorf("%s: the server's outcome %v, want ErrProof", user, err)
		}
	}
}

// client is the other half of the exchange, with every part open to change.
type client struct {
	password, header, bare string
	binding                []byte
}

func newClient() *client {
	return &client{password: alicePassword, header: "n,,", bare: "n=ignored=2C,r=clientnonce"}
}

func initial(mechanism, data string) []byte {
	b := append([]byte(mechanism), 0)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}

// final answers a server-first-message; edit changes the message before its proof.
func (c *client) final(t *testing.T, serverFirst string, edit func(withoutProof string) string) string {
	t.Helper()
	nonce, rest, ok1 := cutAttribute(serverFirst, 'r')
	saltText, rest, ok2 := cutAttribute(rest, 's')
	count, _, ok3 := cutAttribute(rest, 'i')
	salt, err := base64.StdEncoding.DecodeString(saltText)
	if !ok1 || !ok2 || !ok3 || err != nil || !strings.HasPrefix(nonce, "clientnonce") {
		t.Fatalf("server-first-message %q", serverFirst)
	}
	var iterations int
	fmt.Sscan(count, &iterations)
	b64 := base64.StdEncoding.EncodeToString
	withoutProof := "c=" + b64(append([]byte(c.header), c.binding...)) + ",r=" + nonce
	if edit != nil {
		withoutProof = edit(withoutProof)
	}
	salted, err := pbkdf2.Key(sha256.New, saslPrep(c.password), salt, iterations, keySize)
	if err != nil {
		t.Fatal(err)
	}
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], c.bare+","+serverFirst+","+withoutProof)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	return withoutProof + ",p=" + b64(proof)
}

func TestExtensionsAndASeparateFirstMessageAreAccepted(t *testing.T) {
	v, err := NewVerifier(alicePassword, 100)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScramServer(v, nil)
	c := newClient()
	c.bare = "n=,r=clientnonce,x=1,Y=,z=="
	reply, done, err := s.Step([]byte("SCRAM-SHA-256\x00\xff\xff\xff\xff"))
	if len(reply) != 0 || done || err != nil {
		t.Fatalf("no initial response: %q %v %v, want an empty challenge", reply, done, err)
	}
	reply, done, err = s.Step([]byte("n,," + c.bare))
	if done || err != nil {
		t.Fatal(done, err)
	}
	final := c.final(t, string(reply), func(s string) string { return s + ",x=1" })
	reply, done, err = s.Step([]byte(final))
	if !done || err != nil || !bytes.HasPrefix(reply, []byte("v=")) {
		t.Fatalf("%q %v %v", reply, done, err)
	}
	if _, done, err := s.Step([]byte(final)); done || err == nil {
		t.Fatal("the exchange went on after its end")
	}
}

func TestABadFirstMessageEndsTheExchange(t *testing.T) {
	v, err := NewVerifier(alicePassword, 1)
	if err != nil {
		t.Fatal(err)
	}
	binding := []byte("hash of the certificate")
	f := func(binding []byte, msg []byte, code string) {
		t.Helper()
		s := NewScramServer(v, binding)
		reply, done, err := s.Step(msg)
		if done || reply != nil {
			t.Fatalf("%q: reply %q, done %v", msg, reply, done)
		}
		mustBeProtocolError(t, err, code)
		if _, done, err := s.Step(initial(mechanism, "n,,n=,r=abc")); done || err == nil {
			t.Fatalf("%q: the exchange went on", msg)
		}
	}
	bad := func(data, code string) {
		t.Helper()
		f(nil, initial(mechanism, data), code)
	}
	f(nil, nil, codeProtocolViolation)
	f(nil, []byte("SCRAM-SHA-256"), codeProtocolViolation)
	f(nil, []byte("SCRAM-SHA-256\x00\x00\x00"), codeProtocolViolation)
	f(nil, []byte("SCRAM-SHA-256\x00\x00\x00\x00\x09n,,n=,r=a+more"), codeProtocolViolation)
	f(nil, []byte("SCRAM-SHA-256\x00\xff\xff\xff\xffdata"), codeProtocolViolation)
	f(nil, []byte("SCRAM-SHA-256\x00\xff\xff\xff\xfe"), codeProtocolViolation)
	f(nil, initial("SCRAM-SHA-1", "n,,n=,r=abc"), codeProtocolViolation)
	f(nil, initial(mechanismPlus, "p=tls-server-end-point,,n=,r=abc"), codeProtocolViolation)
	f(nil, initial(mechanism, "n,,n=,r="+strings.Repeat("a", 2000)), codeProtocolViolation)
	bad("", codeProtocolViolation)
	bad("n", codeProtocolViolation)
	bad("n,", codeProtocolViolation)
	bad("n,,", codeProtocolViolation)
	bad("x,,n=,r=abc", codeProtocolViolation)
	bad("n,a=bob,n=,r=abc", codeFeatureNotSupported)
	bad("n,b,n=,r=abc", codeProtocolViolation)
	bad("n,,m=1,n=,r=abc", codeFeatureNotSupported)
	bad("n,,r=abc", codeProtocolViolation)
	bad("n,,n=,r=", codeProtocolViolation)
	bad("n,,n=,r=a b", codeProtocolViolation)
	bad("n,,n=,r=\xe9", codeProtocolViolation)
	bad("n,,n=,r=abc,garbage", codeProtocolViolation)
	bad("n,,n=,r=abc,1=x", codeProtocolViolation)
	bad("n,,n=\x00,r=abc", codeProtocolViolation)
	const bound = "p=tls-server-end-point,,n=,r=abc"
	bad(bound, codeProtocolViolation)
	f(binding, initial(mechanism, bound), codeProtocolViolation)
	f(binding, initial("SCRAM-SHA-256-plus", bound), codeProtocolViolation)
	f(binding, append(initial(mechanismPlus, bound), 0), codeProtocolViolation)
	f(binding, initial(mechanismPlus, "p=tls-server-end-point,a=x,n=,r=abc"), codeFeatureNotSupported)
	f(binding, initial(mechanismPlus, "p=tls-unique,,n=,r=abc"), codeProtocolViolation)
	f(binding, initial(mechanismPlus, "n,,n=,r=abc"), codeProtocolViolation)
	f(binding, initial(mechanismPlus, "y,,n=,r=abc"), codeProtocolViolation)
	f(binding, initial(mechanism, "y,,n=,r=abc"), codeInvalidAuthorizationSpec) // somebody hid the offer of PLUS
}

func TestABadFinalMessageEndsTheExchange(t *testing.T) {
	v, err := NewVerifier(alicePassword, 1)
	if err != nil {
		t.Fatal(err)
	}
	binding := []byte("hash of the certificate")
	f := func(c *client, edit func(string) string, editAll func(string) string, code string) {
		t.Helper()
		s, name := NewScramServer(v, nil), mechanism
		if c.binding != nil {
			s, name = NewScramServer(v, binding), mechanismPlus
		}
		reply, done, err := s.Step(initial(name, c.header+c.bare))
		if done || err != nil {
			t.Fatal(done, err)
		}
		final := c.final(t, string(reply), edit)
		if editAll != nil {
			final = editAll(final)
		}
		reply, done, err = s.Step([]byte(final))
		if code == "" {
			if !done || err != nil || !bytes.HasPrefix(reply, []byte("v=")) {
				t.Fatalf("%q: %q %v %v", final, reply, done, err)
			}
			return
		}
		if done || reply != nil {
			t.Fatalf("%q: reply %q, done %v", final, reply, done)
		}
		if code == codeInvalidPassword {
			if !errors.Is(err, ErrProof) {
				t.Fatalf("%q: %v, want ErrProof", final, err)
			}
			return
		}
		mustBeProtocolError(t, err, code)
	}
	replace := func(old, now string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, now, 1) }
	}
	plus := newClient()
	plus.header, plus.binding = "p=tls-server-end-point,,", binding
	other := newClient()
	other.header, other.binding = plus.header, []byte("another certificate")
	wrong := newClient()
	wrong.password = "wrong"
	yes := newClient()
	yes.header = "y,,"

	f(newClient(), nil, nil, "")
	f(yes, nil, nil, "")
	f(plus, nil, nil, "")
	f(other, nil, nil, codeInvalidAuthorizationSpec)
	f(wrong, nil, nil, codeInvalidPassword)
	f(newClient(), replace("c=biws", "c=eSws"), nil, codeProtocolViolation)
	f(newClient(), replace("c=biws", "c="), nil, codeProtocolViolation)
	f(newClient(), replace("c=biws,", ""), nil, codeProtocolViolation)
	f(newClient(), replace("r=clientnonce", "r=clientNonce"), nil, codeProtocolViolation)
	f(newClient(), func(s string) string { return s + "x" }, nil, codeProtocolViolation)
	f(newClient(), func(s string) string { return s + ",garbage" }, nil, codeProtocolViolation)
	f(newClient(), func(s string) string { return s[:len("c=biws,r=clientnonce")] }, nil, codeProtocolViolation)
	f(newClient(), nil, func(s string) string { return s[:strings.Index(s, ",p=")] }, codeProtocolViolation)
	f(newClient(), nil, func(s string) string { return s + "," }, codeProtocolViolation)
	f(newClient(), nil, func(s string) string { return s[:len(s)-4] }, codeProtocolViolation)
	f(newClient(), nil, func(s string) string { return s + "\x00" }, codeProtocolViolation)
	f(newClient(), nil, func(string) string { return "" }, codeProtocolViolation)
	f(newClient(), nil, func(s string) string { return s + strings.Repeat("A", 2000) }, codeProtocolViolation)
	f(newClient(), nil, func(s string) string {
		return s[:strings.Index(s, ",p=")] + ",p=" + strings.Repeat("A", 43) + "="
	}, codeInvalidPassword)
}

func TestNobodyGetsInByAMockOrAnEmptyVerifier(t *testing.T) {
	mocked := NewMock(nil).Verifier("alice", 1)
	// Even a client that knows the keys of the mock is refused.
	known, err := newVerifier(alicePassword, mocked.salt, 1)
	if err != nil {
		t.Fatal(err)
	}
	mocked.storedKey, mocked.serverKey = known.storedKey, known.serverKey
	for _, v := range []Verifier{mocked, {}} {
		s, c := NewScramServer(v, nil), newClient()
		reply, _, err := s.Step(initial(mechanism, c.header+c.bare))
		if err != nil {
			t.Fatal(err)
		}
		first := strings.Replace(string(reply), ",i=0", ",i=1", 1)
		if _, done, err := s.Step([]byte(c.final(t, first, nil))); done || !errors.Is(err, ErrProof) {
			t.Fatalf("done %v, %v; want ErrProof", done, err)
		}
	}
}

func TestTheBindingIsTheHashThatTheSignatureUses(t *testing.T) {
	for algorithm, size := range map[x509.SignatureAlgorithm]int{
		x509.SHA1WithRSA: 32, x509.MD5WithRSA: 32, x509.ECDSAWithSHA256: 32, x509.SHA256WithRSAPSS: 32,
		x509.SHA384WithRSA: 48, x509.ECDSAWithSHA384: 48, x509.SHA512WithRSA: 64, x509.ECDSAWithSHA512: 64,
	} {
		got, err := TLSServerEndPoint(&x509.Certificate{Raw: []byte("der"), SignatureAlgorithm: algorithm})
		if err != nil || len(got) != size {
			t.Errorf("%v: %d bytes, %v; want %d", algorithm, len(got), err, size)
		}
	}
	if _, err := TLSServerEndPoint(&x509.Certificate{SignatureAlgorithm: x509.PureEd25519}); err == nil {
		t.Error("Ed25519 has no hash, and yet a binding")
	}
}
