package wire

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// body cuts the header off a single encoded message and checks it.
func body(t *testing.T, msg []byte, typ byte) []byte {
	t.Helper()
	if len(msg) < 5 || msg[0] != typ {
		t.Fatalf("message %q does not begin with %q", msg, typ)
	}
	if n := int(msg[1])<<24 | int(msg[2])<<16 | int(msg[3])<<8 | int(msg[4]); n != len(msg)-1 {
		t.Fatalf("length field %d of a message with %d bytes after its type", n, len(msg)-1)
	}
	return msg[5:]
}

// encoded is what pgproto3 makes of a message.
func encoded(t *testing.T, m pgproto3.Message) []byte {
	t.Helper()
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustBeProtocolError checks that err is one, with the given SQLSTATE.
func mustBeProtocolError(t *testing.T, err error, code string) {
	t.Helper()
	var p *ProtocolError
	if !errors.As(err, &p) {
		t.Fatalf("error %v is not a *ProtocolError", err)
	}
	if p.Code != code {
		t.Fatalf("SQLSTATE %s (%v), want %s", p.Code, err, code)
	}
}

// mustPanic checks that f panics with a BUG.
func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if s, ok := recover().(string); !ok || len(s) < 4 || s[:4] != "BUG:" {
			t.Fatalf("panic %q, want BUG: …", s)
		}
	}()
	f()
}
