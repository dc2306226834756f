package wire

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	keySize  = sha256.Size
	saltSize = 16 // bytes, SCRAM_DEFAULT_SALT_LEN

	// DefaultIterations is PostgreSQL's scram_iterations.
	DefaultIterations = 4096

	verifierPrefix = "SCRAM-SHA-256$"
)

// Verifier is what a server keeps of a password for SCRAM-SHA-256 (RFC 5803). The
// zero Verifier admits nobody.
type Verifier struct {
	iterations int
	salt       []byte
	storedKey  [keySize]byte
	serverKey  [keySize]byte
	real       bool // false: no password fits, whatever the proof says
}

// ParseVerifier decodes pg_authid.rolpassword,
// SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. The error does not
// repeat any of it.
func ParseVerifier(s string) (Verifier, error) {
	rest, ok := strings.CutPrefix(s, verifierPrefix)
	if !ok {
		return Verifier{}, errors.New("cannot parse password verifier: it does not begin with " + verifierPrefix)
	}
	head, keys, ok1 := strings.Cut(rest, "$")
	count, salt, ok2 := strings.Cut(head, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 {
		return Verifier{}, errors.New("cannot parse password verifier: want " + verifierPrefix + "<iterations>:<salt>$<StoredKey>:<ServerKey>")
	}
	v := Verifier{real: true}
	iterations, err := strconv.ParseInt(count, 10, 32)
	if err != nil || iterations < 1 {
		return Verifier{}, errors.New("cannot parse password verifier: the iteration count is not a positive number")
	}
	v.iterations = int(iterations)
	if v.salt, err = base64.StdEncoding.DecodeString(salt); err != nil || len(v.salt) == 0 {
		return Verifier{}, errors.New("cannot parse password verifier: the salt is not base64")
	}
	if !decodeKey(&v.storedKey, stored) || !decodeKey(&v.serverKey, server) {
		return Verifier{}, fmt.Errorf("cannot parse password verifier: a key is not %d bytes in base64", keySize)
	}
	return v, nil
}

// NewVerifier derives a verifier with a random salt, as CREATE ROLE does: the
// password is normalised as PostgreSQL does it. No iterations means
// DefaultIterations; deriving 4096 takes about a millisecond. An empty password
// and one with a zero byte are errors.
func NewVerifier(password string, iterations int) (Verifier, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	return newVerifier(password, salt, iterations)
}

func newVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	if iterations <= 0 {
		iterations = DefaultIterations
	}
	k, err := NewScramKeys(password, salt, iterations)
	if err != nil {
		return Verifier{}, fmt.Errorf("cannot derive password verifier: %w", err)
	}
	return k.Verifier(), nil
}

// Encode returns the verifier as pg_authid.rolpassword has it: a secret.
func (v Verifier) Encode() string {
	b64 := base64.StdEncoding.EncodeToString
	return verifierPrefix + strconv.Itoa(v.iterations) + ":" + b64(v.salt) + "$" + b64(v.storedKey[:]) + ":" + b64(v.serverKey[:])
}

// String hides the keys, so that a verifier in a log says nothing.
func (v Verifier) String() string {
	return verifierPrefix + strconv.Itoa(v.iterations) + ":…"
}

// Format hides the keys from every verb.
func (v Verifier) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// Mock makes verifiers for users that do not exist, so that a stranger sees the
// same exchange as for a wrong password, and for one name always the same salt.
type Mock struct{ secret []byte }

// NewMock returns a Mock over a secret of 32 bytes, random if it is nil. A secret
// that lasts no longer than the process lets a stranger who sees it restart tell
// users that exist by the salt that stays.
func NewMock(secret []byte) *Mock {
	if secret == nil {
		secret = make([]byte, keySize)
		rand.Read(secret) // never fails
	}
	return &Mock{secret}
}

// Verifier returns the verifier of a user that does not exist: no proof satisfies
// it. iterations is that of the verifiers that do exist, zero for
// DefaultIterations.
func (m *Mock) Verifier(user string, iterations int) Verifier {
	if iterations <= 0 {
		iterations = DefaultIterations
	}
	return Verifier{
		iterations: iterations,
		salt:       mac(m.secret, "salt:"+user)[:saltSize],
		storedKey:  [keySize]byte(mac(m.secret, "stored:"+user)),
		serverKey:  [keySize]byte(mac(m.secret, "server:"+user)),
	}
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// decodeKey reports whether s is a key in base64, and stores it. The length is
// compared first, because the decoder skips line breaks.
func decodeKey(dst *[keySize]byte, s string) bool {
	if len(s) != base64.StdEncoding.EncodedLen(keySize) {
		return false
	}
	key, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && copy(dst[:], key) == keySize
}
