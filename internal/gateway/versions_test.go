package gateway_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// TestVersionsAndProtocolOptionsAreNegotiated has clients ask for each version,
// among them the grease of a newer libpq: a version and an option that no server
// knows.
func TestVersionsAndProtocolOptionsAreNegotiated(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		version uint32
		options []string
		told    []string // nil: nothing
		spoken  uint32
		key     int
	}{
		{"3.0", 3 << 16, nil, nil, 0, 4},
		{"3.1", 3<<16 | 1, nil, nil, 0, 4},
		{"3.2", 3<<16 | 2, nil, nil, 0, 32},
		{"3.3", 3<<16 | 3, nil, []string{}, 3<<16 | 2, 32},
		{"3.0 with an option", 3 << 16, []string{"_pq_.command_tag"}, []string{"_pq_.command_tag"}, 3 << 16, 4},
		{"grease", 3<<16 | 9999, []string{"_pq_.test_protocol_negotiation"}, []string{"_pq_.test_protocol_negotiation"}, 3<<16 | 2, 32},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			params := []wire.Param{{Name: "user", Value: u.User.Username()}, {Name: "database", Value: u.Path[1:]}}
			for _, o := range c.options {
				params = append(params, wire.Param{Name: o, Value: ""})
			}
			if _, err := conn.Write(wire.AppendStartup(nil, c.version, params)); err != nil {
				t.Fatal(err)
			}
			var told []string
			var spoken, pid uint32
			key := -1
			for typ := byte(0); typ != 'Z'; {
				var body []byte
				typ, body = readMessage(t, conn)
				switch typ {
				case 'v':
					if told != nil {
						t.Error("told twice")
					}
					spoken, told = binary.BigEndian.Uint32(body), []string{}
					for rest := body[8:]; len(rest) > 0; {
						i := slices.Index(rest, 0)
						told, rest = append(told, string(rest[:i])), rest[i+1:]
					}
				case 'K':
					pid, key = binary.BigEndian.Uint32(body), len(body)-4
				case 'E':
					t.Fatalf("refused: %q", body)
				}
			}
			if !slices.Equal(told, c.told) || (told == nil) != (c.told == nil) || spoken != c.spoken {
				t.Errorf("told %q and version %#x, want %q and %#x", told, spoken, c.told, c.spoken)
			}
			if key != c.key {
				t.Errorf("a cancel key of %d bytes, want %d", key, c.key)
			}
			if int32(pid) <= 0 {
				t.Errorf("process id %d", int32(pid))
			}
		})
	}
}

// readMessage reads one message as bytes.
func readMessage(t *testing.T, r io.Reader) (typ byte, body []byte) {
	t.Helper()
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return head[0], body
}

// TestEncryptionByGSSIsRefusedAndTheLoginGoesOn: a server without GSSAPI answers so,
// too.
func TestEncryptionByGSSIsRefusedAndTheLoginGoesOn(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	for _, request := range [][]byte{wire.AppendGSSENCRequest(nil), wire.AppendSSLRequest(nil)} {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'N' {
			t.Fatalf("answered %q, %v", answer, err)
		}
	}
	if _, err := conn.Write(wire.AppendStartup(nil, wire.Version30, []wire.Param{
		{Name: "user", Value: u.User.Username()}, {Name: "database", Value: u.Path[1:]},
	})); err != nil {
		t.Fatal(err)
	}
	if typ, body := readMessage(t, conn); typ != 'R' {
		t.Errorf("answered %q %q", typ, body)
	}
}

// TestAGoodbyeOnACancelConnectionIsBorne: Go's clients have sent one.
func TestAGoodbyeOnACancelConnectionIsBorne(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	p := dial(t, addr, dsn)
	p.want("SELECT 1", "1")
	p.send(simple("SELECT pg_sleep(60)"))
	watch := direct(t, dsn)
	for end := time.Now().Add(patience); watch.rows("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(60)'") != "1" && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(wire.AppendTerminate(wire.AppendCancelRequest(nil, p.pid, p.key))); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("a cancel was answered: %v", err)
	}
	if got := rowsOf(p.reply(1)); got != "57014" {
		t.Errorf("got %q", got)
	}
	p.want("SELECT 1", "1")
}
