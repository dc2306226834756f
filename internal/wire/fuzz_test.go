package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// reencode decodes a body and encodes what came out; for every message but
// ErrorResponse that must be the same bytes again.
var reencode = map[string]func(body []byte) ([]byte, error){
	"Query": func(b []byte) ([]byte, error) {
		sql, err := ParseQuery(b)
		if err != nil {
			return nil, err
		}
		return AppendQuery(nil, sql)[5:], nil
	},
	"Parse": func(b []byte) ([]byte, error) {
		name, sql, oids, err := ParseParse(b)
		if err != nil {
			return nil, err
		}
		return AppendParse(nil, name, sql, oids)[5:], nil
	},
	"Bind": func(b []byte) ([]byte, error) {
		bind, err := ParseBind(b, nil)
		if err != nil {
			return nil, err
		}
		return AppendBind(nil, bind.Portal, bind.Stmt, bind.ParamFormats, bind.Params, bind.ResultFormats)[5:], nil
	},
	"Describe": func(b []byte) ([]byte, error) {
		kind, name, err := ParseDescribe(b)
		if err != nil {
			return nil, err
		}
		return AppendDescribe(nil, kind, name)[5:], nil
	},
	"Close": func(b []byte) ([]byte, error) {
		kind, name, err := ParseClose(b)
		if err != nil {
			return nil, err
		}
		return AppendClose(nil, kind, name)[5:], nil
	},
	"Execute": func(b []byte) ([]byte, error) {
		portal, limit, err := ParseExecute(b)
		if err != nil {
			return nil, err
		}
		return AppendExecute(nil, portal, limit)[5:], nil
	},
	"ReadyForQuery": func(b []byte) ([]byte, error) {
		status, err := ParseReadyForQuery(b)
		if err != nil {
			return nil, err
		}
		return AppendReadyForQuery(nil, status)[5:], nil
	},
	"Status": func(b []byte) ([]byte, error) {
		name, value, err := ParseParameterStatus(b)
		if err != nil {
			return nil, err
		}
		return AppendParameterStatus(nil, string(name), string(value))[5:], nil
	},
	"Notification": func(b []byte) ([]byte, error) {
		pid, channel, payload, err := ParseNotification(b)
		if err != nil {
			return nil, err
		}
		return AppendNotificationResponse(nil, pid, channel, payload)[5:], nil
	},
	"Types": func(b []byte) ([]byte, error) {
		oids, err := ParseParameterDescription(b)
		if err != nil {
			return nil, err
		}
		return AppendParameterDescription(nil, oids)[5:], nil
	},
	"RowDescription": func(b []byte) ([]byte, error) {
		fields, err := ParseRowDescription(b)
		if err != nil {
			return nil, err
		}
		return AppendRowDescription(nil, fields)[5:], nil
	},
	"DataRow": func(b []byte) ([]byte, error) {
		values, err := ParseDataRow(b, nil)
		if err != nil {
			return nil, err
		}
		return AppendDataRow(nil, values)[5:], nil
	},
}

// theirs are pgproto3's decoders, which must accept whatever ours accept.
var theirs = map[string]pgproto3.Message{
	"Query": &pgproto3.Query{}, "Parse": &pgproto3.Parse{}, "Bind": &pgproto3.Bind{},
	"Describe": &pgproto3.Describe{}, "Close": &pgproto3.Close{}, "Execute": &pgproto3.Execute{},
	"Status":       &pgproto3.ParameterStatus{},
	"Notification": &pgproto3.NotificationResponse{},
	"Types":        &pgproto3.ParameterDescription{}, "RowDescription": &pgproto3.RowDescription{},
	"DataRow": &pgproto3.DataRow{}, "ReadyForQuery": &pgproto3.ReadyForQuery{},
}

func FuzzDecoders(f *testing.F) {
	for _, sample := range samples() {
		f.Add(sample)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kept := bytes.Clone(b)
		for name, again := range reencode {
			got, err := again(b)
			if err != nil {
				mustBeProtocolError(t, err, codeProtocolViolation)
				continue
			}
			if !bytes.Equal(got, b) {
				t.Errorf("%s: %q became %q", name, b, got)
			}
			if err := theirs[name].Decode(b); err != nil {
				t.Errorf("%s: %q is accepted; pgproto3 says %v", name, b, err)
			}
		}
		if !bytes.Equal(b, kept) {
			t.Errorf("a decoder changed its input %q to %q", kept, b)
		}
	})
}

func FuzzBindNames(f *testing.F) {
	f.Add(samples()["Bind"], 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		portal, stmt, n, err := BindNames(b)
		if err == nil && string(b[:n]) != string(portal)+"\x00"+string(stmt)+"\x00" {
			t.Fatalf("%q: names %q %q, %d bytes", b, portal, stmt, n)
		}
		if err != nil && !errors.Is(err, ErrShort) {
			t.Fatalf("%q: %v, want ErrShort", b, err)
		}
		if cut < 0 || cut > len(b) {
			return
		}
		p, s, m, errCut := BindNames(b[:cut])
		switch {
		case errCut == nil && (err != nil || m != n || !bytes.Equal(p, portal) || !bytes.Equal(s, stmt)):
			t.Fatalf("%q: the first %d bytes say %q %q", b, cut, p, s)
		case errCut != nil && err == nil && cut >= n:
			t.Fatalf("%q: the first %d bytes contain both names and say %v", b, cut, errCut)
		}
	})
}

func FuzzErrorFields(f *testing.F) {
	f.Add(samples()["ErrorFields"])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseErrorFields(b)
		if err != nil {
			mustBeProtocolError(t, err, codeProtocolViolation)
			return
		}
		once := AppendErrorResponse(nil, e)
		again, err := ParseErrorFields(once[5:])
		if err != nil {
			t.Fatalf("%q became %q: %v", b, once, err)
		}
		if twice := AppendErrorResponse(nil, again); !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q and then %q", b, once, twice)
		}
		if e.Message != again.Message || e.Position != again.Position || !reflect.DeepEqual(e.Other, again.Other) {
			t.Fatalf("%q lost fields: %+v, %+v", b, e, again)
		}
	})
}

func FuzzStartup(f *testing.F) {
	f.Add(AppendSSLRequest(nil))
	f.Add(AppendGSSENCRequest(nil))
	f.Add(AppendCancelRequest(nil, 1, []byte{1, 2, 3, 4}))
	f.Add(AppendStartup(nil, Version32, []Param{{"user", "u"}, {"_pq_.a", ""}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		s, err := ReadStartup(r, MaxStartup)
		read := len(b) - r.Len()
		if err != nil {
			var p *ProtocolError
			if !errors.As(err, &p) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q: %v", b, err)
			}
			if read > MaxStartup+4 {
				t.Fatalf("%d bytes were read", read)
			}
			return
		}
		var again []byte
		switch s.Kind {
		case SSLRequest:
			again = AppendSSLRequest(nil)
		case GSSENCRequest:
			again = AppendGSSENCRequest(nil)
		case CancelRequest:
			again = AppendCancelRequest(nil, s.PID, s.Key)
		case DirectTLS:
			again = s.Head
		case StartupMessage:
			again = AppendStartup(nil, s.Version, s.Params)
			if version, _, _ := s.Negotiate(); version > s.Version || version > LatestVersion || version < Version30 {
				t.Fatalf("%q: version %x was negotiated", b, version)
			}
		}
		if !bytes.Equal(again, b[:read]) {
			t.Fatalf("%q became %q", b[:read], again)
		}
	})
}

func FuzzScram(f *testing.F) {
	v, err := NewVerifier(alicePassword, 1)
	if err != nil {
		f.Fatal(err)
	}
	binding := []byte("hash of the certificate")
	bound := base64.StdEncoding.EncodeToString(append([]byte("p=tls-server-end-point,,"), binding...))
	proof := ",p=" + strings.Repeat("A", 43) + "="
	f.Add(initial(mechanism, "n,,n=,r=abc"), "c=biws,r=", proof, false)
	f.Add(initial(mechanismPlus, "p=tls-server-end-point,,n=,r=abc"), "c="+bound+",r=", proof, true)
	f.Add([]byte("SCRAM-SHA-256\x00\xff\xff\xff\xff"), "n,,n=,r=abc", "", false)
	f.Fuzz(func(t *testing.T, first []byte, before, after string, withBinding bool) {
		s := NewScramServer(v, nil)
		if withBinding {
			s = NewScramServer(v, binding)
		}
		// The second message has the server's nonce between two hostile parts, so
		// that the fuzzer gets behind the check of it; the third has no excuse.
		msg := first
		for range 3 {
			reply, done, err := s.Step(msg)
			if done {
				t.Fatalf("%q let somebody in who has no password", msg)
			}
			if err != nil {
				var p *ProtocolError
				if reply != nil || !errors.As(err, &p) && !errors.Is(err, ErrProof) {
					t.Fatalf("%q: reply %q, %v", msg, reply, err)
				}
				return
			}
			msg = []byte(before + s.nonce + after)
		}
	})
}

func FuzzVerifier(f *testing.F) {
	f.Add("SCRAM-SHA-256$4096:s8mkNETuSF43SHMsVnwE1Q==$OXt3WHCSd0ORiWSDX/eyMgxeNf4It3SCiM7bNWgByFs=:ZZQmDMi200mc6TaNJJTfuLPIi3h0STJGh1eYJZpNrZg=")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVerifier(s)
		if err != nil {
			return
		}
		if again, err := ParseVerifier(v.Encode()); err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%q became %q, %v", s, v.Encode(), err)
		}
	})
}

func FuzzPassword(f *testing.F) {
	f.Add(alicePassword)
	f.Add("\ufb01\u200b\u00ad")
	f.Add("\u0627\ufefb\u0628")
	f.Fuzz(func(t *testing.T, password string) {
		got := saslPrep(password)
		ascii := strings.IndexFunc(password, func(r rune) bool { return r > '~' }) < 0
		if ascii && got != password {
			t.Fatalf("%q became %q", password, got)
		}
		if password != "" && got == "" {
			t.Fatalf("%q became empty", password)
		}
	})
}
