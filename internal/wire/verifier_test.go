package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// The verifiers are what PostgreSQL 15.18 made of these passwords.
func TestPasswordsAreNormalisedAsPostgreSQLDoesIt(t *testing.T) {
	f := func(password, verifier string) {
		t.Helper()
		v, err := ParseVerifier(verifier)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newVerifier(password, v.salt, v.iterations)
		if err != nil {
			t.Fatal(err)
		}
		if got.Encode() != verifier {
			t.Errorf("%+q: %s, want %s", password, got.Encode(), verifier)
		}
	}
	f("pencil", "SCRAM-SHA-256$4096:BoPB0htkLTIDrxEHdzg4tA==$oW1GLHPOH0W/M0IS0XLJcNDIo8phSW3ZOsIpUW5POVM=:mbR4T5MIWqRqotuMVrecnjSbZEpmRrXfr3yNpXe45dw=")
	f("a\tb\x01", "SCRAM-SHA-256$4096:PEVk5QLkMNvVIUPBcmKmBw==$sxF9dUBaiNhLAoOpJ2Ld+gXOSvH2Y+iT0E1bTnJfppM=:/8ljpegXAm6RW+TCrQVAw7XxIfxfoWJuKvRj6HopR0M=")
	f("\ufb01ne", "SCRAM-SHA-256$4096:zY/pvSQJ5SlMRv8VB1D04Q==$W+lvKtOXu8SJhxEq7VZ8JLWLYwiXuRw+AOY/8GnHKXA=:u1eL8BrrkWZyD4Y9c6/rifg7S6qp5tIWxwY/I27cC7Y=")
	f("n\u00a0b", "SCRAM-SHA-256$4096:5RommJbrWcU+9rJp15cPXQ==$EIxf8/vmHRGigFspIZBXbI3/DQg0Y+jRvMoX+ICqtt4=:he1oJ16JAMHYBKc5mMjxZDKKpkjLa1LDHW5R1IKL/nM=")
	f("so\u00adft\u00e9", "SCRAM-SHA-256$4096:4fxT4hkJcaOe+uPsTv7lKA==$GRV1HqVJVBYXzVuR+YzUFJ1YVlyqu2EwlJYaSCrCQ2Y=:XF8dRrf7HpoO62ceikdQ6jZlPeoqbsvBHeOfuB/iBxc=")
	f("\u00ad", "SCRAM-SHA-256$4096:wM9N+ziHGL1IiPOV7yBWXQ==$l1G4NjKkxWzPKMcqIwZ9caTxcFvBhmSAiuexaqh9MRo=:bbx3dR3fPEyS9mzYMBx68DOyLL2FEa0G2oTJKoOndgQ=")
	f("z\u200bw\u00e9", "SCRAM-SHA-256$4096:QL+P89Z7+hHY97+TIcCYqg==$m2WbcYFQUeIrzbKH8OIMXw7SQakA3XJGDigKPcZI2Tg=:xW2shtb843eJkbYj/TMqVKHvsqazzNBsB85lGWfj1Y8=")
	f("\ufb01\a", "SCRAM-SHA-256$4096:SUfvXbIknIB03pXP3LlxEQ==$fo9meHlg1nWk2w7/RO+Y4ILmcmQFHRdD3GyvOt3trTM=:mZ0AHS8lAEGFiDxNEK3LztMGG2lplbXUUxUaFZTcar0=")
	f("\ufb01\u0221", "SCRAM-SHA-256$4096:16UR5oG7P1eGcFYk1/w4Bg==$Q3F5q3Ev0F1qd44E6voE3jFH/7e5hB72GUJ3WxRNnfk=:AWyeucIWlVYtDKxUcxUxy7GgWOc0P7lZ2ZglRt/rm44=")
	f("\ufb01\ue000", "SCRAM-SHA-256$4096:fK7jwy6g8Lgjd48dZSXY+w==$ZWLUkAQpOZOHvIbd/Tk59beqNnBofbh5Bc4l1pvWl9s=:psHy/jmgpVX88/3boPu5IyE/ropR8bhgddo8v7fRzWQ=")
	f("\u0627\ufefb\u0628", "SCRAM-SHA-256$4096:YAGNp5fMB8klmtxjYZVK/Q==$Cn/2HI8fI837pG8+rBxEk6GoBGo/gYUQPQgrAQxj/PA=:YgbFEo+XOqPLuMHUDn1fZCLuDq9/V/HCCTxK/SqT+po=")
	f("\ufefb1", "SCRAM-SHA-256$4096:nmt9y9P+nbtSCM8OhOWRZA==$Xub0sOh+7CETaKiF2bdzUoUaD4boJM1RcQdq5on2rt8=:+AEXSxOTDo/JMU/j/6HqMTr4U4LssLD8TZ5ds77AXwQ=")
	f("\u212b\u2168", "SCRAM-SHA-256$4096:LFdY3ccyu3a5G4GTmoqojA==$myXklv7/1h1eqdI1Iw3fbD75PYvXigdZNkrgvenOimE=:3MYMqb2TtciM+pGhS4OTopVmdMyaIs66xOEymmuE6nA=")
	f("\ufb01\u0627", "SCRAM-SHA-256$4096:IWWKaJwUo/vNRKu7asKnIw==$D+rrlx7csxxTl2QL98qHezmcdE/lw2oHl+tNSGAknDE=:VqtzHH5jcJP7N+50q4qMbULiVBDVLKDtCoHL51HDNsY=")
	f("caf\xe9", "SCRAM-SHA-256$4096:s8mkNETuSF43SHMsVnwE1Q==$OXt3WHCSd0ORiWSDX/eyMgxeNf4It3SCiM7bNWgByFs=:ZZQmDMi200mc6TaNJJTfuLPIi3h0STJGh1eYJZpNrZg=")
}

func TestAVerifierComesBackAsItWas(t *testing.T) {
	v, err := NewVerifier("secret", 1000)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseVerifier(v.Encode())
	if err != nil || got.Encode() != v.Encode() || !strings.HasPrefix(v.Encode(), "SCRAM-SHA-256$1000:") {
		t.Fatalf("%s, %v; want %s", got.Encode(), err, v.Encode())
	}
	other, err := NewVerifier("secret", 1000)
	if err != nil || bytes.Equal(other.salt, v.salt) || len(v.salt) != 16 {
		t.Fatalf("salts %x and %x, %v", v.salt, other.salt, err)
	}
	if d, err := NewVerifier("secret", 0); err != nil || d.iterations != 4096 {
		t.Fatalf("%d iterations, %v", d.iterations, err)
	}
}

func TestAPrintedVerifierHidesItsKeys(t *testing.T) {
	v, err := NewVerifier("secret", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{v.String(), fmt.Sprint(v), fmt.Sprintf("%v %+v", v, v)} {
		if strings.Contains(printed, v.Encode()[30:40]) || !strings.Contains(printed, "SCRAM-SHA-256$1:…") {
			t.Errorf("printed as %s", printed)
		}
	}
}

func TestAMalformedVerifierIsAnErrorThatRepeatsNothingOfIt(t *testing.T) {
	const key = "oW1GLHPOH0W/M0IS0XLJcNDIo8phSW3ZOsIpUW5POVM="
	f := func(s string) {
		t.Helper()
		v, err := ParseVerifier(s)
		if err == nil {
			t.Errorf("%q was accepted", s)
			return
		}
		if v.real || strings.Contains(err.Error(), "oW1G") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", s, err)
		}
	}
	f("")
	f("secret")
	f("md5a3556571e93b0d20722ba62be61e8c2d")
	f("SCRAM-SHA-256$")
	f("SCRAM-SHA-256$4096:c2FsdA==")
	f("SCRAM-SHA-256$4096$" + key + ":" + key)
	f("SCRAM-SHA-256$4096:c2FsdA==$" + key)
	f("SCRAM-SHA-256$0:c2FsdA==$" + key + ":" + key)
	f("SCRAM-SHA-256$-1:c2FsdA==$" + key + ":" + key)
	f("SCRAM-SHA-256$99999999999:c2FsdA==$" + key + ":" + key)
	f("SCRAM-SHA-256$4096:$" + key + ":" + key)
	f("SCRAM-SHA-256$4096:!!!!$" + key + ":" + key)
	f("SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key[:40])
	f("SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key + "\n")
	f("SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key + ":" + key)
}

func TestAPasswordThatNobodyCanSendIsAnError(t *testing.T) {
	for _, password := range []string{"", "a\x00b"} {
		if _, err := NewVerifier(password, 1); err == nil {
			t.Errorf("%q was accepted", password)
		}
	}
}

func TestMockVerifiersAreSteadyAndDifferByUserAndSecret(t *testing.T) {
	m := NewMock([]byte("a secret of the installation"))
	a, b := m.Verifier("a", 0), m.Verifier("b", 0)
	if a.iterations != 4096 || len(a.salt) != 16 {
		t.Fatalf("%d iterations, salt of %d bytes: not as for a real user", a.iterations, len(a.salt))
	}
	if again := NewMock([]byte("a secret of the installation")).Verifier("a", 0); again.Encode() != a.Encode() {
		t.Fatal("the salt of one user changes")
	}
	if bytes.Equal(a.salt, b.salt) || bytes.Equal(a.salt, NewMock(nil).Verifier("a", 0).salt) ||
		bytes.Equal(NewMock(nil).Verifier("a", 0).salt, NewMock(nil).Verifier("a", 0).salt) {
		t.Fatal("different users or secrets have one salt")
	}
}
