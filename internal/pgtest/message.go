package pgtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgproto3"
)

// null is the word for a NULL value.
const null = "null"

type encoder interface {
	Encode(dst []byte) ([]byte, error)
}

// words takes arguments one after the other; a missing one is "" or 0.
type words struct {
	rest []string
	err  error
}

func (w *words) str() string {
	if len(w.rest) == 0 {
		return ""
	}
	s := w.rest[0]
	w.rest = w.rest[1:]
	return s
}

func (w *words) num() uint32 {
	s := w.str()
	if s == "" || s == "*" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	w.err = errors.Join(w.err, err)
	return uint32(n)
}

func (w *words) byte() byte {
	s := w.str()
	if s == "" {
		return 0
	}
	return s[0]
}

func (w *words) values() [][]byte {
	var out [][]byte
	for len(w.rest) > 0 {
		if s := w.str(); s == null {
			out = append(out, nil)
		} else {
			out = append(out, []byte(s))
		}
	}
	return out
}

func (w *words) pairs() map[string]string {
	out := map[string]string{}
	for len(w.rest) > 0 {
		k, v, _ := strings.Cut(w.str(), "=")
		out[k] = v
	}
	return out
}

// build makes the message that the words of a script name. from tells whose it
// is, as both sides have a Close of some kind.
func build(from byte, args []string) (encoder, error) {
	w := &words{rest: args[1:]}
	var m encoder
	if from == byte(client) {
		m = buildClient(args[0], w)
	} else {
		m = buildServer(args[0], w)
	}
	if m == nil {
		return nil, fmt.Errorf("no message %q from that side", args[0])
	}
	if w.err != nil {
		return nil, fmt.Errorf("cannot read the arguments of %s: %w", args[0], w.err)
	}
	return m, nil
}

func buildClient(name string, w *words) encoder {
	switch name {
	case "StartupMessage": // NAME=VALUE …
		return &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: w.pairs()}
	case "SSLRequest":
		return &pgproto3.SSLRequest{}
	case "GSSEncRequest":
		return &pgproto3.GSSEncRequest{}
	case "CancelRequest": // PID KEY
		return &pgproto3.CancelRequest{ProcessID: w.num(), SecretKey: key(w.num())}
	case "Password":
		return &pgproto3.PasswordMessage{Password: w.str()}
	case "Query":
		return &pgproto3.Query{String: w.str()}
	case "Parse": // NAME SQL TYPE …
		m := &pgproto3.Parse{Name: w.str(), Query: w.str()}
		for len(w.rest) > 0 {
			m.ParameterOIDs = append(m.ParameterOIDs, w.num())
		}
		return m
	case "Bind": // PORTAL STATEMENT VALUE …, all text
		return &pgproto3.Bind{DestinationPortal: w.str(), PreparedStatement: w.str(), Parameters: w.values()}
	case "Describe": // S|P NAME
		return &pgproto3.Describe{ObjectType: w.byte(), Name: w.str()}
	case "Execute": // PORTAL ROWS
		return &pgproto3.Execute{Portal: w.str(), MaxRows: w.num()}
	case "Close": // S|P NAME
		return &pgproto3.Close{ObjectType: w.byte(), Name: w.str()}
	case "Sync":
		return &pgproto3.Sync{}
	case "Flush":
		return &pgproto3.Flush{}
	case "Terminate":
		return &pgproto3.Terminate{}
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(w.str())}
	case "CopyDone":
		return &pgproto3.CopyDone{}
	case "CopyFail":
		return &pgproto3.CopyFail{Message: w.str()}
	}
	return nil
}

func buildServer(name string, w *words) encoder {
	switch name {
	case "AuthenticationOk":
		return &pgproto3.AuthenticationOk{}
	case "AuthenticationCleartextPassword":
		return &pgproto3.AuthenticationCleartextPassword{}
	case "ParameterStatus": // NAME VALUE
		return &pgproto3.ParameterStatus{Name: w.str(), Value: w.str()}
	case "BackendKeyData": // PID KEY
		return &pgproto3.BackendKeyData{ProcessID: w.num(), SecretKey: key(w.num())}
	case "ReadyForQuery": // I|T|E
		return &pgproto3.ReadyForQuery{TxStatus: w.byte()}
	case "RowDescription": // NAME:TYPE …
		m := &pgproto3.RowDescription{}
		for len(w.rest) > 0 {
			name, oid, _ := strings.Cut(w.str(), ":")
			n := (&words{rest: []string{oid}}).num()
			m.Fields = append(m.Fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: n, DataTypeSize: -1, TypeModifier: -1})
		}
		return m
	case "ParameterDescription": // TYPE …
		m := &pgproto3.ParameterDescription{}
		for len(w.rest) > 0 {
			m.ParameterOIDs = append(m.ParameterOIDs, w.num())
		}
		return m
	case "DataRow": // VALUE …
		return &pgproto3.DataRow{Values: w.values()}
	case "CommandComplete":
		return &pgproto3.CommandComplete{CommandTag: []byte(w.str())}
	case "ErrorResponse": // SEVERITY SQLSTATE MESSAGE D=… H=…
		e := pgproto3.ErrorResponse{Severity: w.str(), Code: w.str(), Message: w.str()}
		e.SeverityUnlocalized = e.Severity
		more := w.pairs()
		e.Detail, e.Hint = more["D"], more["H"]
		return &e
	case "NoticeResponse":
		n := pgproto3.NoticeResponse{Severity: w.str(), Code: w.str(), Message: w.str()}
		n.SeverityUnlocalized = n.Severity
		return &n
	case "NotificationResponse": // PID CHANNEL PAYLOAD
		return &pgproto3.NotificationResponse{PID: w.num(), Channel: w.str(), Payload: w.str()}
	case "CopyInResponse": // 0|1
		return &pgproto3.CopyInResponse{OverallFormat: byte(w.num())}
	case "CopyOutResponse":
		return &pgproto3.CopyOutResponse{OverallFormat: byte(w.num())}
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(w.str())}
	case "CopyDone":
		return &pgproto3.CopyDone{}
	case "ParseComplete":
		return &pgproto3.ParseComplete{}
	case "BindComplete":
		return &pgproto3.BindComplete{}
	case "CloseComplete":
		return &pgproto3.CloseComplete{}
	case "NoData":
		return &pgproto3.NoData{}
	case "PortalSuspended":
		return &pgproto3.PortalSuspended{}
	case "EmptyQueryResponse":
		return &pgproto3.EmptyQueryResponse{}
	}
	return nil
}

// render gives the words that build makes the message of.
func render(m any) []string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
	var args []string
	switch m := m.(type) {
	case *pgproto3.StartupMessage:
		for _, k := range slices.Sorted(maps.Keys(m.Parameters)) {
			args = append(args, k+"="+m.Parameters[k])
		}
	case *pgproto3.CancelRequest:
		args = []string{number(m.ProcessID), keyNumber(m.SecretKey)}
	case *pgproto3.PasswordMessage:
		name, args = "Password", []string{m.Password}
	case *pgproto3.Query:
		args = []string{m.String}
	case *pgproto3.Parse:
		args = append([]string{m.Name, m.Query}, numbers(m.ParameterOIDs)...)
	case *pgproto3.Bind:
		args = append([]string{m.DestinationPortal, m.PreparedStatement}, values(m.Parameters)...)
	case *pgproto3.Describe:
		args = []string{string(m.ObjectType), m.Name}
	case *pgproto3.Execute:
		args = []string{m.Portal, number(m.MaxRows)}
	case *pgproto3.Close:
		args = []string{string(m.ObjectType), m.Name}
	case *pgproto3.CopyData:
		args = []string{string(m.Data)}
	case *pgproto3.CopyFail:
		args = []string{m.Message}
	case *pgproto3.ParameterStatus:
		args = []string{m.Name, m.Value}
	case *pgproto3.BackendKeyData:
		args = []string{number(m.ProcessID), keyNumber(m.SecretKey)}
	case *pgproto3.ReadyForQuery:
		args = []string{string(m.TxStatus)}
	case *pgproto3.RowDescription:
		for _, f := range m.Fields {
			args = append(args, string(f.Name)+":"+number(f.DataTypeOID))
		}
	case *pgproto3.ParameterDescription:
		args = numbers(m.ParameterOIDs)
	case *pgproto3.DataRow:
		args = values(m.Values)
	case *pgproto3.CommandComplete:
		args = []string{string(m.CommandTag)}
	case *pgproto3.ErrorResponse:
		args = problem(m)
	case *pgproto3.NoticeResponse:
		args = problem((*pgproto3.ErrorResponse)(m))
	case *pgproto3.NotificationResponse:
		args = []string{number(m.PID), m.Channel, m.Payload}
	case *pgproto3.CopyInResponse:
		args = []string{number(uint32(m.OverallFormat))}
	case *pgproto3.CopyOutResponse:
		args = []string{number(uint32(m.OverallFormat))}
	}
	return append([]string{name}, args...)
}

func problem(m *pgproto3.ErrorResponse) []string {
	out := []string{m.Severity, m.Code, m.Message}
	if m.Detail != "" {
		out = append(out, "D="+m.Detail)
	}
	if m.Hint != "" {
		out = append(out, "H="+m.Hint)
	}
	return out
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func numbers(list []uint32) []string {
	var out []string
	for _, n := range list {
		out = append(out, number(n))
	}
	return out
}

func values(list [][]byte) []string {
	var out []string
	for _, v := range list {
		if v == nil {
			out = append(out, null)
		} else {
			out = append(out, string(v))
		}
	}
	return out
}

// key is a secret key of four bytes, as protocol 3.0 has them.
func key(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

func keyNumber(b []byte) string {
	if len(b) != 4 {
		return fmt.Sprintf("%x", b)
	}
	return number(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
