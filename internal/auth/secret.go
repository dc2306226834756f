package auth

import (
	"errors"
	"fmt"

	"qvpgw/internal/wire"
)

// Secret is what is known of a user's password. It prints itself never.
type Secret struct {
	plain    string
	md5      string
	verifier wire.Verifier
	scram    bool // there is a verifier
}

// PlainSecret is the secret of a user whose password is known. Errors: it is empty,
// or has a zero byte in it.
func PlainSecret(user, password string) (Secret, error) {
	v, err := wire.NewVerifier(password, wire.DefaultIterations)
	if err != nil {
		return Secret{}, err
	}
	return Secret{plain: password, md5: wire.MD5Secret(user, password), verifier: v, scram: true}, nil
}

// StoredSecret is the secret of a user of whom the server's form is known: a
// verifier of SCRAM-SHA-256 or an md5 hash, as in pg_authid.rolpassword. The
// error does not repeat any of it.
func StoredSecret(text string) (Secret, error) {
	if wire.IsMD5(text) {
		return Secret{md5: text}, nil
	}
	v, err := wire.ParseVerifier(text)
	if err != nil {
		return Secret{}, errors.New("it is neither a verifier (SCRAM-SHA-256$…) nor an md5 hash")
	}
	return Secret{verifier: v, scram: true}, nil
}

// Verifier is the secret as SCRAM needs it; false for an md5 hash.
func (s Secret) Verifier() (wire.Verifier, bool) { return s.verifier, s.scram }

// MD5 is the secret as the method md5 needs it; false for a verifier.
func (s Secret) MD5() (string, bool) { return s.md5, s.md5 != "" }

// String hides the secret.
func (s Secret) String() string { return "Secret" }

// Format hides the secret from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MockSecret is the secret of a user that does not exist: no password fits it, and
// that is found out in the time that a wrong one takes.
func MockSecret(v wire.Verifier) Secret { return Secret{verifier: v, scram: true} }
