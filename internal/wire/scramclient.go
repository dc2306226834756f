package wire

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ScramKeys is what logs in by SCRAM-SHA-256 in place of a password (RFC 5802,
// section 3): the keys that the password gives with one salt and one iteration
// count. It is as secret as the password where a server has a verifier with that
// salt and count, and useless anywhere else.
type ScramKeys struct {
	iterations int
	salt       string
	clientKey  [keySize]byte
	serverKey  [keySize]byte
}

// NewScramKeys derives keys from a password: iterations times two hashes, which
// is the expensive part of a login. Errors: an empty password, or one with a zero
// byte in it.
func NewScramKeys(password string, salt []byte, iterations int) (ScramKeys, error) {
	if password == "" || strings.IndexByte(password, 0) >= 0 {
		return ScramKeys{}, errors.New("cannot derive keys for SCRAM: the password is empty or has a zero byte in it")
	}
	salted, err := pbkdf2.Key(sha256.New, saslPrep(password), salt, iterations, keySize)
	if err != nil {
		return ScramKeys{}, fmt.Errorf("cannot derive keys for SCRAM: %w", err)
	}
	return ScramKeys{
		iterations: iterations, salt: string(salt),
		clientKey: [keySize]byte(mac(salted, "Client Key")),
		serverKey: [keySize]byte(mac(salted, "Server Key")),
	}, nil
}

// Fit says whether the keys are those of this salt and count.
func (k ScramKeys) Fit(salt []byte, iterations int) bool {
	return k.iterations == iterations && k.salt == string(salt)
}

// String hides the keys.
func (k ScramKeys) String() string { return "ScramKeys" }

// Format hides the keys from every verb.
func (k ScramKeys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// Verifier returns what a server keeps for these keys.
func (k ScramKeys) Verifier() Verifier {
	return Verifier{
		iterations: k.iterations, salt: []byte(k.salt), real: true,
		storedKey: sha256.Sum256(k.clientKey[:]), serverKey: k.serverKey,
	}
}

// Derive derives the keys of a password as this verifier's, and says whether the
// verifier is that password's. It takes as long for one that is not.
func (v Verifier) Derive(password string) (k ScramKeys, fits bool, err error) {
	k, err = NewScramKeys(password, v.salt, v.iterations)
	if err != nil {
		return ScramKeys{}, false, err
	}
	stored := sha256.Sum256(k.clientKey[:])
	if !hmac.Equal(stored[:], v.storedKey[:]) || !v.real {
		return ScramKeys{}, false, nil
	}
	return k, true, nil
}

// ChannelBinding is libpq's channel_binding: whether a login by SCRAM is bound to
// the TLS connection.
type ChannelBinding string

// The bindings: never, where both sides can, or nothing else.
const (
	BindDisable ChannelBinding = "disable"
	BindPrefer  ChannelBinding = "prefer"
	BindRequire ChannelBinding = "require"
)

// ErrNoChannelBinding is a server that cannot do what BindRequire demands.
var ErrNoChannelBinding = errors.New("channel binding is required, but the server did not offer SCRAM-SHA-256-PLUS over TLS")

// KeysFunc returns the keys for a server's salt and iteration count.
type KeysFunc func(salt []byte, iterations int) (ScramKeys, error)

// ScramClient is the client's half of one SCRAM-SHA-256 exchange. Not for reuse,
// nor for concurrent use.
type ScramClient struct {
	keys    KeysFunc
	plus    bool
	header  string // GS2
	binding []byte
	bare    string // client-first-message-bare
	nonce   string
	final   []byte // what the server must sign with
	over    bool
}

// NewScramClient chooses among the mechanisms offered. binding is what
// TLSServerEndPoint returned for the server's certificate, nil without TLS.
// Errors: ErrNoChannelBinding, or none of the mechanisms is known.
func NewScramClient(offered []string, binding []byte, use ChannelBinding, keys KeysFunc) (*ScramClient, error) {
	c := &ScramClient{keys: keys, header: "n,,"}
	offersPlus := slices.Contains(offered, mechanismPlus)
	switch {
	case use == BindRequire && (binding == nil || !offersPlus):
		return nil, ErrNoChannelBinding
	case binding != nil && use != BindDisable && offersPlus:
		c.plus, c.binding, c.header = true, binding, "p="+bindingType+",,"
	case !slices.Contains(offered, mechanism):
		return nil, fmt.Errorf("cannot log in by SASL: the server offers %q, known are %s and, over TLS, %s", offered, mechanism, mechanismPlus)
	case binding != nil && use != BindDisable:
		c.header = "y,,"
	}
	var random [nonceSize]byte
	rand.Read(random[:]) // never fails
	c.nonce = base64.StdEncoding.EncodeToString(random[:])
	c.bare = "n=,r=" + c.nonce
	return c, nil
}

// Mechanism is the one chosen, for AppendSASLInitialResponse.
func (c *ScramClient) Mechanism() string {
	if c.plus {
		return mechanismPlus
	}
	return mechanism
}

// First returns the client-first-message.
func (c *ScramClient) First() []byte { return []byte(c.header + c.bare) }

// Final takes the server-first-message and returns the client-final-message.
func (c *ScramClient) Final(serverFirst []byte) ([]byte, error) {
	nonce, rest, ok := cutAttribute(string(serverFirst), 'r')
	if !ok || len(nonce) <= len(c.nonce) || !strings.HasPrefix(nonce, c.nonce) || c.final != nil {
		return nil, errors.New("cannot log in by SCRAM: the server's nonce does not extend ours")
	}
	salt64, rest, ok := cutAttribute(rest, 's')
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if !ok || err != nil || len(salt) == 0 {
		return nil, errors.New("cannot log in by SCRAM: the server's salt is missing or not base64")
	}
	count, _, ok := cutAttribute(rest, 'i')
	iterations, err := strconv.ParseInt(count, 10, 32)
	if !ok || err != nil || iterations < 1 {
		return nil, errors.New("cannot log in by SCRAM: the server's iteration count is not a positive number")
	}
	keys, err := c.keys(salt, int(iterations))
	if err != nil {
		return nil, err
	}
	without := "c=" + base64.StdEncoding.EncodeToString(append([]byte(c.header), c.binding...)) + ",r=" + nonce
	auth := c.bare + "," + string(serverFirst) + "," + without
	stored := sha256.Sum256(keys.clientKey[:])
	var proof [keySize]byte
	subtle.XORBytes(proof[:], keys.clientKey[:], mac(stored[:], auth))
	c.final = mac(keys.serverKey[:], auth)
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof[:])), nil
}

// Verify takes the server-final-message: a server that does not know the verifier
// cannot have made it.
func (c *ScramClient) Verify(serverFinal []byte) error {
	var signature [keySize]byte
	value, _, ok := cutAttribute(string(serverFinal), 'v')
	if !ok || c.over || c.final == nil || !decodeKey(&signature, value) || !hmac.Equal(signature[:], c.final) {
		return errors.New("cannot log in by SCRAM: the server does not prove that it knows the password")
	}
	c.over = true
	return nil
}

// Bound says whether the exchange is bound to the TLS connection.
func (c *ScramClient) Bound() bool { return c.plus }
