package wire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestEveryFirstPacketIsRead(t *testing.T) {
	f := func(packet []byte, want Startup) {
		t.Helper()
		got, err := ReadStartup(bytes.NewReader(packet), MaxStartup)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", packet, got, err, want)
		}
	}
	f(encoded(t, &pgproto3.SSLRequest{}), Startup{Kind: SSLRequest})
	f(AppendSSLRequest(nil), Startup{Kind: SSLRequest})
	f(encoded(t, &pgproto3.GSSEncRequest{}), Startup{Kind: GSSENCRequest})
	f(AppendGSSENCRequest(nil), Startup{Kind: GSSENCRequest})
	f(encoded(t, &pgproto3.CancelRequest{ProcessID: 4294967295, SecretKey: []byte{1, 2, 3, 4}}),
		Startup{Kind: CancelRequest, PID: 4294967295, Key: []byte{1, 2, 3, 4}})
	long := bytes.Repeat([]byte{7}, 256)
	f(AppendCancelRequest(nil, 5, long), Startup{Kind: CancelRequest, PID: 5, Key: long})
	f(encoded(t, &pgproto3.StartupMessage{ProtocolVersion: Version30, Parameters: map[string]string{"user": "u"}}),
		Startup{Kind: StartupMessage, Version: Version30, Params: []Param{{"user", "u"}}})
	params := []Param{{"user", "u"}, {"database", ""}, {"options", "-c a=b"}, {"_pq_.x", "1"}}
	f(AppendStartup(nil, Version32, params), Startup{Kind: StartupMessage, Version: Version32, Params: params})
	f(AppendStartup(nil, Version30, nil), Startup{Kind: StartupMessage, Version: Version30})
	f([]byte("\x16\x03\x01\x02\x00\x01"), Startup{Kind: DirectTLS, Head: []byte("\x16\x03\x01\x02")})
}

func TestNotAByteBeyondTheFirstPacketIsRead(t *testing.T) {
	packet := AppendStartup(nil, Version30, []Param{{"user", "u"}})
	for _, p := range [][]byte{AppendSSLRequest(nil), AppendCancelRequest(nil, 1, []byte{1, 2, 3, 4}), packet} {
		r := bytes.NewReader(append(bytes.Clone(p), "next"...))
		if _, err := ReadStartup(r, MaxStartup); err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "next" {
			t.Fatalf("%q is left, want %q", rest, "next")
		}
	}
	s, err := ReadStartup(iotest.OneByteReader(bytes.NewReader(packet)), MaxStartup)
	if user, ok := s.Param("user"); err != nil || !ok || user != "u" {
		t.Fatalf("byte by byte: %+v, %v", s, err)
	}
}

func TestAFirstPacketOfAWrongLengthIsRefusedBeforeItIsRead(t *testing.T) {
	f := func(head string) {
		t.Helper()
		r := strings.NewReader(head + strings.Repeat("x", 100))
		_, err := ReadStartup(r, MaxStartup)
		mustBeProtocolError(t, err, codeProtocolViolation)
		if r.Len() != 100 {
			t.Errorf("%q: %d bytes of the body were read", head, 100-r.Len())
		}
	}
	f("\x00\x00\x00\x00")
	f("\x00\x00\x00\x07")
	f("\x00\x00\x27\x15") // 10005
	f("\xff\xff\xff\xff")
	f("GET ")
	largest := []Param{{"user", strings.Repeat("u", MaxStartup-len("user")-7)}}
	packet := AppendStartup(nil, Version30, largest)
	if len(packet) != MaxStartup+4 {
		t.Fatalf("packet of %d bytes", len(packet))
	}
	if _, err := ReadStartup(bytes.NewReader(packet), MaxStartup); err != nil {
		t.Fatalf("the largest packet: %v", err)
	}
}

func TestAClientThatLeavesDuringStartupIsToldApart(t *testing.T) {
	packet := AppendStartup(nil, Version30, []Param{{"user", "u"}})
	for i := range packet {
		want := io.ErrUnexpectedEOF
		if i == 0 {
			want = io.EOF
		}
		if _, err := ReadStartup(bytes.NewReader(packet[:i]), MaxStartup); !errors.Is(err, want) {
			t.Fatalf("after %d bytes: %v, want %v", i, err, want)
		}
	}
	broken := errors.New("broken")
	if _, err := ReadStartup(iotest.ErrReader(broken), MaxStartup); !errors.Is(err, broken) {
		t.Fatalf("%v, want %v", err, broken)
	}
}

func TestAMalformedFirstPacketIsAProtocolError(t *testing.T) {
	f := func(body, code string) {
		t.Helper()
		_, err := ParseStartup([]byte(body))
		mustBeProtocolError(t, err, code)
	}
	f("", codeProtocolViolation)
	f("\x00\x03\x00", codeProtocolViolation)
	f("\x00\x03\x00\x00", codeProtocolViolation)
	f("\x00\x03\x00\x00user\x00u\x00", codeProtocolViolation)
	f("\x00\x03\x00\x00user\x00\x00", codeProtocolViolation)
	f("\x00\x03\x00\x00user\x00u", codeProtocolViolation)
	f("\x00\x03\x00\x00user\x00u\x00\x00x", codeProtocolViolation)
	f("\x00\x03\x00\x00\x00\x00", codeProtocolViolation)
	f("\x00\x02\x00\x00user\x00u\x00\x00", codeFeatureNotSupported)
	f("\x00\x04\x00\x00user\x00u\x00\x00", codeFeatureNotSupported)
	f("\x04\xd2\x16\x31", codeFeatureNotSupported) // 1234.5681
	f("\x04\xd2\x16\x2fx", codeProtocolViolation)
	f("\x04\xd2\x16\x30x", codeProtocolViolation)
	f("\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00", codeProtocolViolation)
	f("\x04\xd2\x16\x2e\x00\x00\x00\x01"+strings.Repeat("k", 257), codeProtocolViolation)
}

func TestAStartupOwnsItsMemory(t *testing.T) {
	for _, packet := range [][]byte{
		AppendStartup(nil, Version30, []Param{{"user", "u"}})[4:],
		AppendCancelRequest(nil, 1, []byte{1, 2, 3, 4})[4:],
	} {
		s, err := ParseStartup(packet)
		if err != nil {
			t.Fatal(err)
		}
		clear(packet)
		if user, _ := s.Param("user"); s.Kind == StartupMessage && user != "u" || s.Kind == CancelRequest && s.Key[3] != 4 {
			t.Fatalf("%+v changed with the packet", s)
		}
	}
}

func TestTheLastOfEqualStartupParametersCounts(t *testing.T) {
	s := Startup{Params: []Param{{"user", "a"}, {"database", "d"}, {"user", "b"}}}
	if got, ok := s.Param("user"); !ok || got != "b" {
		t.Fatalf("user %q %v, want b", got, ok)
	}
	if got, ok := s.Param("options"); ok || got != "" {
		t.Fatalf("options %q %v, want none", got, ok)
	}
}

func TestVersionAndOptionsBeyondOursAreNegotiated(t *testing.T) {
	f := func(version uint32, params []Param, want uint32, wantOptions []string, wantTell bool) {
		t.Helper()
		s := Startup{Kind: StartupMessage, Version: version, Params: params}
		got, options, tell := s.Negotiate()
		if got != want || !reflect.DeepEqual(options, wantOptions) || tell != wantTell {
			t.Errorf("%d.%d: %x %q %v", version>>16, version&0xffff, got, options, tell)
		}
	}
	user := Param{"user", "u"}
	f(Version30, []Param{user}, Version30, nil, false)
	f(Version32, []Param{user}, Version32, nil, false)
	f(3<<16|3, []Param{user}, Version32, nil, true)
	grease := Param{"_pq_.test_protocol_negotiation", ""}
	f(3<<16|9999, []Param{user, grease}, Version32, []string{grease.Name}, true)
	f(Version30, []Param{grease, user, {"_pq_.other", "1"}}, Version30, []string{grease.Name, "_pq_.other"}, true)
}

func TestAStartupThatPgproto3ReadsIsOurs(t *testing.T) {
	params := []Param{{"user", "u"}, {"database", "d"}}
	var theirs pgproto3.StartupMessage
	if err := theirs.Decode(AppendStartup(nil, Version32, params)[4:]); err != nil {
		t.Fatal(err)
	}
	if theirs.ProtocolVersion != Version32 || theirs.Parameters["user"] != "u" || theirs.Parameters["database"] != "d" {
		t.Fatalf("%+v", theirs)
	}
	var cancel pgproto3.CancelRequest
	if err := cancel.Decode(AppendCancelRequest(nil, 3, []byte{1, 2, 3, 4})[4:]); err != nil || cancel.ProcessID != 3 {
		t.Fatalf("%+v, %v", cancel, err)
	}
}
