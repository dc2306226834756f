package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// exchange runs a whole exchange between the two halves.
func exchange(server *ScramServer, client *ScramClient) error {
	first, _, err := server.Step(AppendSASLInitialResponse(nil, client.Mechanism(), client.First())[5:])
	if err != nil {
		return err
	}
	final, err := client.Final(first)
	if err != nil {
		return err
	}
	outcome, done, err := server.Step(final)
	if err != nil {
		return err
	}
	if !done {
		return errors.New("the server is not done")
	}
	return client.Verify(outcome)
}

func TestTheTwoHalvesOfScramAgree(t *testing.T) {
	v, err := NewVerifier("geheim", 10)
	if err != nil {
		t.Fatal(err)
	}
	password := func(p string) KeysFunc {
		return func(salt []byte, iterations int) (ScramKeys, error) { return NewScramKeys(p, salt, iterations) }
	}
	here, there := []byte("certificate"), []byte("another")
	for _, c := range []struct {
		server, client []byte
		onlyPlus       bool
		use            ChannelBinding
		password       string
		bound          bool
		fails          string // part of the error; "": none
	}{
		{use: BindPrefer, password: "geheim"},
		{use: BindDisable, password: "geheim"},
		{use: BindRequire, password: "geheim", fails: "channel binding is required"},
		{server: here, client: here, use: BindPrefer, password: "geheim", bound: true},
		{server: here, client: here, use: BindRequire, password: "geheim", bound: true},
		{server: here, client: here, use: BindDisable, password: "geheim"},
		{server: here, client: here, onlyPlus: true, use: BindDisable, password: "geheim", fails: "the client does not use it"},
		{server: here, client: here, onlyPlus: true, use: BindPrefer, password: "geheim", bound: true},
		{client: here, use: BindPrefer, password: "geheim"},
		{client: here, use: BindRequire, password: "geheim", fails: "channel binding is required"},
		{server: here, client: there, use: BindPrefer, password: "geheim", fails: "channel binding check failed"},
		{use: BindPrefer, password: "falsch", fails: ErrProof.Error()},
		{server: here, client: here, use: BindPrefer, password: "falsch", fails: ErrProof.Error()},
	} {
		t.Run(fmt.Sprintf("%s %s %s %v %s", c.server, c.client, c.use, c.onlyPlus, c.password), func(t *testing.T) {
			server := NewScramServer(v, c.server)
			if c.onlyPlus {
				server.RequireBinding()
			}
			client, err := NewScramClient(server.Mechanisms(), c.client, c.use, password(c.password))
			if err == nil {
				err = exchange(server, client)
			}
			switch {
			case c.fails == "" && err != nil:
				t.Errorf("got %v", err)
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("got %v, want %s", err, c.fails)
			case server.Bound() != c.bound && c.fails == "":
				t.Errorf("bound is %v", server.Bound())
			}
		})
	}
}

// TestAProofLogsInToAnotherServerWithTheSameVerifier is pass-through: the keys
// that a client's proof reveals to one server satisfy another that has the same
// verifier, and no other.
func TestAProofLogsInToAnotherServerWithTheSameVerifier(t *testing.T) {
	v, err := NewVerifier("geheim", 10)
	if err != nil {
		t.Fatal(err)
	}
	here := NewScramServer(v, nil)
	client, err := NewScramClient(here.Mechanisms(), nil, BindPrefer, func(salt []byte, n int) (ScramKeys, error) { return NewScramKeys("geheim", salt, n) })
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(here, client); err != nil {
		t.Fatal(err)
	}
	keys := here.Keys()
	stored, err := ParseVerifier(v.Encode())
	if err != nil {
		t.Fatal(err)
	}
	give := func(salt []byte, n int) (ScramKeys, error) {
		if !keys.Fit(salt, n) {
			return ScramKeys{}, errors.New("other keys")
		}
		return keys, nil
	}
	there := NewScramServer(stored, nil)
	if client, err = NewScramClient(there.Mechanisms(), nil, BindPrefer, give); err != nil {
		t.Fatal(err)
	}
	if err := exchange(there, client); err != nil {
		t.Errorf("the same verifier: %v", err)
	}
	other, err := NewVerifier("geheim", 10)
	if err != nil {
		t.Fatal(err)
	}
	if client, err = NewScramClient(there.Mechanisms(), nil, BindPrefer, give); err != nil {
		t.Fatal(err)
	}
	if err := exchange(NewScramServer(other, nil), client); err == nil || err.Error() != "other keys" {
		t.Errorf("another salt: %v", err)
	}
	for _, text := range []string{fmt.Sprint(keys), fmt.Sprintf("%+v", keys), fmt.Sprintf("%#v", keys), fmt.Sprintf("%v", &keys)} {
		if strings.Contains(text, string(keys.clientKey[:])) || text != "ScramKeys" {
			t.Errorf("keys print as %q", text)
		}
	}
}

func TestAServerThatDoesNotKnowTheVerifierIsFoundOut(t *testing.T) {
	salt := []byte("0123456789abcdef")
	keys, err := NewScramKeys("geheim", salt, 10)
	if err != nil {
		t.Fatal(err)
	}
	give := func([]byte, int) (ScramKeys, error) { return keys, nil }
	start := func() *ScramClient {
		c, err := NewScramClient([]string{mechanism}, nil, BindPrefer, give)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, first := range []string{"", "r=", "r=x,s=MDEyMw==,i=10", "r=%s,s=MDEyMw==,i=10", "r=%sx,s=,i=10", "r=%sx,s=!,i=10", "r=%sx,s=MDEyMw==,i=0", "r=%sx,s=MDEyMw==,i=99999999999", "r=%sx,s=MDEyMw=="} {
		c := start()
		if strings.Contains(first, "%s") {
			first = fmt.Sprintf(first, c.nonce)
		}
		if _, err := c.Final([]byte(first)); err == nil {
			t.Errorf("%q was taken", first)
		}
	}
	for _, final := range []string{"", "v=", "e=invalid-proof", "v=MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="} {
		c := start()
		if err := c.Verify([]byte(final)); err == nil {
			t.Errorf("%q was taken before the exchange", final)
		}
		if _, err := c.Final([]byte("r=" + c.nonce + "x,s=MDEyMw==,i=10")); err != nil {
			t.Fatal(err)
		}
		if err := c.Verify([]byte(final)); err == nil {
			t.Errorf("%q was taken", final)
		}
	}
}

func TestMD5AsPostgreSQLHasIt(t *testing.T) {
	// SELECT 'md5' || md5('secret' || 'app')
	secret := MD5Secret("app", "secret")
	if secret != "md5"+hexMD5("secretapp") || !IsMD5(secret) {
		t.Errorf("got %s", secret)
	}
	for _, s := range []string{"", "md5", "md5xyz", secret + "0", strings.ToUpper(secret), "SCRAM-SHA-256$1:a$b:c"} {
		if IsMD5(s) {
			t.Errorf("%q is taken for md5", s)
		}
	}
	salt := []byte{1, 2, 3, 4}
	if MD5Response(secret, salt) != "md5"+hexMD5(secret[3:]+"\x01\x02\x03\x04") {
		t.Error("the response is another")
	}
	if !SameSecret("a", "a") || SameSecret("a", "b") || SameSecret("a", "ab") {
		t.Error("SameSecret")
	}
}

func TestAuthenticationMessagesAreReadAsWritten(t *testing.T) {
	kind, data, err := ParseAuthentication(AppendAuthenticationSASL(nil, []string{mechanismPlus, mechanism})[5:])
	if err != nil || kind != AuthSASL {
		t.Fatal(kind, err)
	}
	if list, err := ParseMechanisms(data); err != nil || fmt.Sprint(list) != "[SCRAM-SHA-256-PLUS SCRAM-SHA-256]" {
		t.Error(list, err)
	}
	if _, err := ParseMechanisms([]byte("SCRAM")); err == nil {
		t.Error("mechanisms without an end are taken")
	}
	if _, _, err := ParseAuthentication([]byte{1, 2}); err == nil {
		t.Error("two bytes are taken")
	}
	kind, data, err = ParseAuthentication(AppendAuthenticationMD5(nil, []byte("salt"))[5:])
	if err != nil || kind != AuthMD5 || !bytes.Equal(data, []byte("salt")) {
		t.Error(kind, data, err)
	}
	if kind, _, err = ParseAuthentication(AppendAuthenticationCleartext(nil)[5:]); err != nil || kind != AuthCleartext {
		t.Error(kind, err)
	}
	if p, err := ParsePassword([]byte("x y\x00")); err != nil || p != "x y" {
		t.Error(p, err)
	}
	if _, err := ParsePassword([]byte("no end")); err == nil {
		t.Error("a password without an end is taken")
	}
}

// FuzzScramClient is a server that sends anything.
func FuzzScramClient(f *testing.F) {
	f.Add([]byte("SCRAM-SHA-256\x00\x00"), "x,s=MDEyMw==,i=10", "v=MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=")
	f.Add([]byte("SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"), "", "e=other-error")
	keys, err := NewScramKeys("geheim", []byte("0123"), 10)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, offered []byte, first, final string) {
		list, err := ParseMechanisms(offered)
		if err != nil {
			return
		}
		for _, binding := range [][]byte{nil, []byte("certificate")} {
			c, err := NewScramClient(list, binding, BindPrefer, func([]byte, int) (ScramKeys, error) { return keys, nil })
			if err != nil {
				continue
			}
			if _, err := c.Final([]byte("r=" + c.nonce + first)); err != nil {
				continue
			}
			if c.Verify([]byte(final)) == nil {
				t.Error("a server that knows nothing was believed")
			}
		}
	})
}
