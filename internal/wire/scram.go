package wire

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxSASLMessage is the largest body of a SASL message from a client that is
	// accepted, in bytes (PG_MAX_SASL_MESSAGE_LENGTH).
	MaxSASLMessage = 1024

	mechanism     = "SCRAM-SHA-256"
	mechanismPlus = "SCRAM-SHA-256-PLUS"
	bindingType   = "tls-server-end-point"
	nonceSize     = 18 // bytes before base64, SCRAM_RAW_NONCE_LEN
)

// ErrProof means that the exchange was in order and the password is not the
// user's, or there is no such user; the client may not learn which. It is told as
// codeInvalidPassword with the user name of the startup message.
var ErrProof = errors.New("password authentication failed")

// ScramServer is the server's half of one SCRAM-SHA-256 exchange (RFC 5802, RFC
// 7677), with channel binding if there is TLS. The user is the one of the startup
// message: the name inside the exchange is ignored, as PostgreSQL does. Its time
// depends on nothing secret. Not for reuse, nor for concurrent use.
type ScramServer struct {
	verifier Verifier
	binding  []byte
	step     scramStep

	plus        bool   // the client chose SCRAM-SHA-256-PLUS
	header      string // its GS2 header
	clientBare  string // client-first-message-bare
	serverFirst string
	nonce       string // client's and ours
	onlyPlus    bool
	clientKey   [keySize]byte // proven
}

type scramStep byte

const (
	awaitMechanism scramStep = iota // SASLInitialResponse
	awaitFirst                      // client-first-message, if it did not come with that
	awaitFinal                      // client-final-message
	scramOver
)

// NewScramServer returns an exchange for a verifier. binding is what
// TLSServerEndPoint returned for the certificate of this connection, nil without
// TLS.
func NewScramServer(v Verifier, binding []byte) *ScramServer {
	return &ScramServer{verifier: v, binding: binding}
}

// RequireBinding has the exchange take SCRAM-SHA-256-PLUS alone. The other one is
// offered all the same: there are clients that begin with nothing else.
func (s *ScramServer) RequireBinding() { s.onlyPlus = true }

// Bound says whether the client chose channel binding.
func (s *ScramServer) Bound() bool { return s.plus }

// Keys returns the keys that the client's proof revealed, once the exchange is
// done: they log in wherever the verifier is the same.
func (s *ScramServer) Keys() ScramKeys {
	return ScramKeys{
		iterations: s.verifier.iterations, salt: string(s.verifier.salt),
		clientKey: s.clientKey, serverKey: s.verifier.serverKey,
	}
}

// Mechanisms returns what AppendAuthenticationSASL is to offer.
func (s *ScramServer) Mechanisms() []string {
	if s.binding != nil {
		return []string{mechanismPlus, mechanism}
	}
	return []string{mechanism}
}

// Step takes the body of the client's next PasswordMessage (at most
// MaxSASLMessage bytes) and returns the data of the answer: of
// AuthenticationSASLContinue, or, when done, of AuthenticationSASLFinal, which
// AuthenticationOk may follow.
//
// Errors: ErrProof, or a *ProtocolError. Either ends the exchange.
func (s *ScramServer) Step(body []byte) (reply []byte, done bool, err error) {
	step := s.step
	s.step = scramOver
	if len(body) > MaxSASLMessage {
		return nil, false, malformed("SASL", "it is too long")
	}
	if step == awaitMechanism {
		var later bool
		if body, later, err = s.choose(body); err != nil {
			return nil, false, err
		}
		step = awaitFirst
		if later {
			s.step = awaitFirst
			return nil, false, nil
		}
	}
	if bytes.IndexByte(body, 0) >= 0 {
		return nil, false, malformedScram("it has a zero byte in it")
	}
	switch step {
	case awaitFirst:
		if err := s.first(string(body)); err != nil {
			return nil, false, err
		}
		s.step = awaitFinal
		return []byte(s.serverFirst), false, nil
	case awaitFinal:
		reply, err := s.final(string(body))
		return reply, err == nil, err
	}
	return nil, false, malformed("SASL", "the exchange is over")
}

// choose decodes a SASLInitialResponse; later says that the client-first-message
// comes in a message of its own.
func (s *ScramServer) choose(body []byte) (data []byte, later bool, err error) {
	name, rest, ok := cutString(body)
	if !ok || len(rest) < 4 {
		return nil, false, malformed("SASLInitialResponse", endsEarly)
	}
	switch {
	case string(name) == mechanism && s.onlyPlus:
		return nil, false, &ProtocolError{
			Code: codeInvalidAuthorizationSpec, Message: "channel binding is required, but the client does not use it",
		}
	case string(name) == mechanism:
	case string(name) == mechanismPlus && s.binding != nil:
		s.plus = true
	default:
		return nil, false, &ProtocolError{
			Code: codeProtocolViolation, Message: "client selected an invalid SASL authentication mechanism",
		}
	}
	size, data := int32(binary.BigEndian.Uint32(rest)), rest[4:]
	if size == -1 && len(data) == 0 {
		return nil, true, nil
	}
	if size < 0 || int(size) != len(data) {
		return nil, false, malformed("SASLInitialResponse", "the length of its data is wrong")
	}
	return data, false, nil
}

// first takes the client-first-message and composes the server-first-message.
func (s *ScramServer) first(message string) error {
	flag, rest, _ := strings.Cut(message, ",")
	if err := s.checkFlag(flag); err != nil {
		return err
	}
	authzid, bare, ok := strings.Cut(rest, ",")
	if !ok {
		return malformedScram("the GS2 header is incomplete")
	}
	if strings.HasPrefix(authzid, "a=") {
		return &ProtocolError{
			Code: codeFeatureNotSupported, Message: "client uses authorization identity, but it is not supported",
		}
	}
	if authzid != "" {
		return malformedScram("the GS2 header has an unknown attribute")
	}
	s.header = flag + ",,"
	s.clientBare = bare
	if strings.HasPrefix(bare, "m=") {
		return &ProtocolError{
			Code: codeFeatureNotSupported, Message: "client requires an unsupported SCRAM extension",
		}
	}
	_, rest, ok = cutAttribute(bare, 'n')
	if !ok {
		return malformedScram("the user name is missing")
	}
	nonce, rest, ok := cutAttribute(rest, 'r')
	if !ok || !isNonce(nonce) {
		return malformedScram("the nonce is missing or not printable")
	}
	if !onlyAttributes(rest) {
		return malformedScram("an extension is not an attribute")
	}
	var random [nonceSize]byte
	rand.Read(random[:]) // never fails
	s.nonce = nonce + base64.StdEncoding.EncodeToString(random[:])
	s.serverFirst = "r=" + s.nonce +
		",s=" + base64.StdEncoding.EncodeToString(s.verifier.salt) +
		",i=" + strconv.Itoa(s.verifier.iterations)
	return nil
}

// checkFlag compares what the client says of channel binding with what it chose
// and what was offered (RFC 5802, section 6).
func (s *ScramServer) checkFlag(flag string) error {
	switch {
	case flag == "n" || flag == "y":
		if s.plus {
			return malformedScram("the mechanism is with channel binding, but the message has no channel binding data")
		}
		if flag == "y" && s.binding != nil {
			return &ProtocolError{
				Code:    codeInvalidAuthorizationSpec,
				Message: "SCRAM channel binding negotiation error",
				Detail: "The client supports SCRAM channel binding but thinks the server does not. " +
					"However, this server does support channel binding.",
			}
		}
	case strings.HasPrefix(flag, "p="):
		if !s.plus {
			return malformedScram("the mechanism is without channel binding, but the message includes channel binding data")
		}
		if flag != "p="+bindingType {
			return &ProtocolError{Code: codeProtocolViolation, Message: "unsupported SCRAM channel-binding type"}
		}
	default:
		return malformedScram("the channel binding flag is unknown")
	}
	return nil
}

// final takes the client-final-message, verifies the proof and composes the
// server-final-message.
func (s *ScramServer) final(message string) ([]byte, error) {
	binding, rest, ok := cutAttribute(message, 'c')
	if !ok {
		return nil, malformedScram("the channel binding is missing")
	}
	if err := s.checkBinding(binding); err != nil {
		return nil, err
	}
	nonce, _, ok := cutAttribute(rest, 'r')
	if !ok || nonce != s.nonce {
		return nil, &ProtocolError{
			Code: codeProtocolViolation, Message: "invalid SCRAM response", Detail: "Nonce does not match.",
		}
	}
	at := strings.LastIndex(message, ",p=")
	var proof [keySize]byte
	if at < 0 || !onlyAttributes(message[:at]) || !decodeKey(&proof, message[at+3:]) {
		return nil, malformedScram("the proof is missing or malformed")
	}
	auth := s.clientBare + "," + s.serverFirst + "," + message[:at]
	clientKey := proof
	subtle.XORBytes(clientKey[:], proof[:], mac(s.verifier.storedKey[:], auth))
	stored := sha256.Sum256(clientKey[:])
	if !hmac.Equal(stored[:], s.verifier.storedKey[:]) || !s.verifier.real {
		return nil, ErrProof
	}
	s.clientKey = clientKey
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(s.verifier.serverKey[:], auth))), nil
}

// checkBinding compares the client's idea of this connection with ours.
func (s *ScramServer) checkBinding(binding string) error {
	want := []byte(s.header)
	if s.plus {
		want = append(want, s.binding...)
	}
	if binding == base64.StdEncoding.EncodeToString(want) {
		return nil
	}
	if !s.plus {
		return malformedScram("the channel binding of the last message is not that of the first")
	}
	return &ProtocolError{
		Code: codeInvalidAuthorizationSpec, Message: "SCRAM channel binding check failed",
	}
}

// TLSServerEndPoint returns the channel binding of a server certificate (RFC
// 5929, section 4): its hash by the hash function of its signature. A signature
// without one, such as Ed25519, has no binding and is an error; serve it without.
func TLSServerEndPoint(cert *x509.Certificate) ([]byte, error) {
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil, fmt.Errorf("cannot bind SCRAM to a certificate signed with %v: its hash function is undefined", cert.SignatureAlgorithm)
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil), nil
}

func malformedScram(detail string) error {
	return &ProtocolError{Code: codeProtocolViolation, Message: "malformed SCRAM message", Detail: detail}
}

// cutAttribute returns the value of the attribute that s begins with, which must
// have the given name, and what follows its comma.
func cutAttribute(s string, name byte) (value, rest string, ok bool) {
	if len(s) < 2 || s[0] != name || s[1] != '=' {
		return "", "", false
	}
	value, rest, _ = strings.Cut(s[2:], ",")
	return value, rest, true
}

// onlyAttributes reports whether s is empty or a list of attributes.
func onlyAttributes(s string) bool {
	for s != "" {
		letter := s[0] | 0x20
		_, rest, ok := cutAttribute(s, s[0])
		if !ok || letter < 'a' || letter > 'z' {
			return false
		}
		s = rest
	}
	return true
}

// isNonce holds RFC 5802, section 7: printable ASCII but the comma, at least one.
func isNonce(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
