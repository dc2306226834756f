package wire

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// The kinds of Authentication messages (PostgreSQL 17, chapter 53.7).
const (
	AuthOk           = 0
	AuthCleartext    = 3
	AuthMD5          = 5
	AuthSASL         = 10
	AuthSASLContinue = 11
	AuthSASLFinal    = 12
)

// MD5SaltSize is the length of the salt of an AuthenticationMD5Password, in bytes.
const MD5SaltSize = 4

const md5Prefix = "md5"

// IsMD5 says whether s has the form of pg_authid.rolpassword for the method md5.
func IsMD5(s string) bool {
	digest, ok := strings.CutPrefix(s, md5Prefix)
	return ok && len(digest) == 2*md5.Size && strings.Trim(digest, "0123456789abcdef") == ""
}

// MD5Secret returns what pg_authid.rolpassword has for the method md5.
func MD5Secret(user, password string) string {
	return md5Prefix + hexMD5(password+user)
}

// MD5Response returns the answer that a client with this secret gives to a salt.
func MD5Response(secret string, salt []byte) string {
	return md5Prefix + hexMD5(strings.TrimPrefix(secret, md5Prefix)+string(salt))
}

// SameSecret compares in a time that depends on the lengths alone.
func SameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// ParsePassword decodes the PasswordMessage of the methods password and md5.
func ParsePassword(body []byte) (string, error) {
	s, err := onlyString("password", body)
	return string(s), err
}

// ParseAuthentication decodes an Authentication message. data is a part of body.
func ParseAuthentication(body []byte) (kind uint32, data []byte, err error) {
	if len(body) < 4 {
		return 0, nil, malformed("Authentication", endsEarly)
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

// ParseMechanisms decodes the data of an AuthenticationSASL.
func ParseMechanisms(data []byte) ([]string, error) {
	var list []string
	for {
		name, rest, ok := cutString(data)
		if !ok {
			return nil, malformed("AuthenticationSASL", noTerminator)
		}
		if len(name) == 0 {
			return list, nil
		}
		list, data = append(list, string(name)), rest
	}
}

// AppendAuthenticationCleartext appends the demand for the password as it is.
func AppendAuthenticationCleartext(dst []byte) []byte {
	return appendAuthentication(dst, AuthCleartext, nil)
}

// AppendAuthenticationMD5 appends the demand for MD5Response. salt has MD5SaltSize
// bytes.
func AppendAuthenticationMD5(dst, salt []byte) []byte {
	return appendAuthentication(dst, AuthMD5, salt)
}

// AppendSASLInitialResponse appends the choice of a mechanism with its first data.
func AppendSASLInitialResponse(dst []byte, mechanism string, data []byte) []byte {
	dst = appendExact(AppendHeader(dst, PasswordMessage, len(mechanism)+5+len(data)), mechanism)
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(data))), data...)
}

// AppendSASLResponse appends an answer within a SASL exchange.
func AppendSASLResponse(dst, data []byte) []byte {
	return append(AppendHeader(dst, PasswordMessage, len(data)), data...)
}
