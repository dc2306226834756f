package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxStartup is the largest first packet that PostgreSQL takes, without its
// length field, in bytes (MAX_STARTUP_PACKET_LENGTH).
const MaxStartup = 10000

// The protocol versions spoken, major<<16 | minor.
const (
	Version30     = 3 << 16
	Version32     = 3<<16 | 2
	LatestVersion = Version32
)

// The codes in place of a version (PostgreSQL 17, chapter 53.7).
const (
	cancelCode = 1234<<16 | 5678
	sslCode    = 1234<<16 | 5679
	gssencCode = 1234<<16 | 5680
)

// Length of a cancel key in bytes (protocol 3.2; 3.0 has exactly 4).
const (
	minCancelKey = 4
	maxCancelKey = 256
)

// StartupKind says what a first packet asks for.
type StartupKind byte

// The kinds of first packets.
const (
	SSLRequest     StartupKind = iota + 1 // answer 'S' and begin TLS, or 'N'
	GSSENCRequest                         // answer 'N'
	CancelRequest                         // PID and Key; nothing is answered
	StartupMessage                        // Version and Params
	DirectTLS                             // not a packet: a TLS handshake, of which Head was read
)

// Param is a startup parameter.
type Param struct{ Name, Value string }

// Startup is the first packet of a connection. It owns its memory.
type Startup struct {
	Kind    StartupKind
	Version uint32  // StartupMessage: major<<16 | minor, the major is 3
	Params  []Param // StartupMessage: in the order sent, protocol options (_pq_.…) too
	PID     uint32  // CancelRequest
	Key     []byte  // CancelRequest: 4 to 256 bytes
	Head    []byte  // DirectTLS: the bytes already read, for whoever does the handshake
}

// Param returns the value of a startup parameter, the last one where it was sent
// more than once, as PostgreSQL does.
func (s *Startup) Param(name string) (value string, ok bool) {
	for i := len(s.Params) - 1; i >= 0; i-- {
		if s.Params[i].Name == name {
			return s.Params[i].Value, true
		}
	}
	return "", false
}

// Negotiate returns the version to speak and the protocol options that are not
// known, and whether AppendNegotiateProtocolVersion must tell the client so,
// before anything else of the answer. No protocol option is known.
func (s *Startup) Negotiate() (version uint32, options []string, tell bool) {
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, "_pq_.") {
			options = append(options, p.Name)
		}
	}
	version = min(s.Version, LatestVersion)
	return version, options, version != s.Version || len(options) > 0
}

// ReadStartup reads the first packet of a connection, or the next one after a
// refused SSLRequest or GSSENCRequest, and not a byte beyond it. limit is the
// largest packet without its length field, normally MaxStartup.
//
// Errors: io.EOF when the client closed before it sent anything,
// io.ErrUnexpectedEOF when it closed within the packet, another error of r, or a
// *ProtocolError.
func ReadStartup(r io.Reader, limit int) (Startup, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return Startup{}, err
	}
	if head[0] == 0x16 { // a TLS handshake record: as a length it would be 352 MiB
		return Startup{Kind: DirectTLS, Head: head}, nil
	}
	size := binary.BigEndian.Uint32(head)
	if size < 8 || size-4 > uint32(limit) {
		return Startup{}, &ProtocolError{
			Code:    codeProtocolViolation,
			Message: "invalid length of startup packet",
			Detail:  fmt.Sprintf("%d bytes; 8 to %d are allowed", size, limit+4),
		}
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Startup{}, err
	}
	return ParseStartup(body)
}

// ParseStartup decodes a first packet without its length field. The result is a
// copy. Errors are *ProtocolError.
func ParseStartup(body []byte) (Startup, error) {
	if len(body) < 4 {
		return Startup{}, malformed("startup", endsEarly)
	}
	version, rest := binary.BigEndian.Uint32(body), body[4:]
	switch version {
	case sslCode:
		return requestOnly("SSLRequest", SSLRequest, rest)
	case gssencCode:
		return requestOnly("GSSENCRequest", GSSENCRequest, rest)
	case cancelCode:
		if len(rest) < 4+minCancelKey || len(rest) > 4+maxCancelKey {
			return Startup{}, malformed("CancelRequest", "the key is not 4 to 256 bytes")
		}
		return Startup{
			Kind: CancelRequest,
			PID:  binary.BigEndian.Uint32(rest),
			Key:  append([]byte(nil), rest[4:]...),
		}, nil
	}
	if version>>16 != 3 {
		return Startup{}, &ProtocolError{
			Code: codeFeatureNotSupported,
			Message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to %d.%d",
				version>>16, version&0xffff, LatestVersion>>16, LatestVersion&0xffff),
		}
	}
	params, err := startupParams(string(rest))
	if err != nil {
		return Startup{}, err
	}
	return Startup{Kind: StartupMessage, Version: version, Params: params}, nil
}

func requestOnly(message string, kind StartupKind, rest []byte) (Startup, error) {
	if len(rest) > 0 {
		return Startup{}, malformed(message, bytesLeft)
	}
	return Startup{Kind: kind}, nil
}

// startupParams decodes pairs of strings up to an empty name, which must be the
// last byte.
func startupParams(rest string) ([]Param, error) {
	var params []Param
	for {
		name, tail, ok := strings.Cut(rest, "\x00")
		if !ok {
			return nil, malformed("startup", "the terminator is missing")
		}
		if name == "" {
			if tail != "" {
				return nil, malformed("startup", bytesLeft)
			}
			return params, nil
		}
		value, tail, ok := strings.Cut(tail, "\x00")
		if !ok {
			return nil, malformed("startup", "a parameter has no value")
		}
		params = append(params, Param{name, value})
		rest = tail
	}
}

// AppendSSLRequest appends the question whether TLS may begin.
func AppendSSLRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 8), sslCode)
}

// AppendGSSENCRequest appends the question whether GSSAPI encryption may begin.
func AppendGSSENCRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 8), gssencCode)
}

// AppendCancelRequest appends the request to cancel what the session pid runs. A
// key of other than 4 to 256 bytes panics.
func AppendCancelRequest(dst []byte, pid uint32, key []byte) []byte {
	mustBeKey(key)
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, cancelCode)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, key...)
}

// AppendStartup appends a StartupMessage. An empty name, or a zero byte in a name
// or a value, panics: it would shift what follows.
func AppendStartup(dst []byte, version uint32, params []Param) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 0), version)
	for _, p := range params {
		if p.Name == "" {
			panic("BUG: startup parameter without a name")
		}
		dst = appendExact(appendExact(dst, p.Name), p.Value)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

func mustBeKey(key []byte) {
	if len(key) < minCancelKey || len(key) > maxCancelKey {
		panic(fmt.Sprintf("BUG: cancel key of %d bytes", len(key)))
	}
}
