package wire

import "errors"

// ErrShort means that the bytes given end before the part asked for does: more of
// the message is needed, or, if that was all of it, the message is malformed.
var ErrShort = errors.New("message ends too early")

// ProtocolError is what a peer did wrong, in the words that it may be told. It
// never repeats bytes of the peer's.
type ProtocolError struct {
	Code    string // SQLSTATE
	Message string
	Detail  string
}

// Error returns message and detail.
func (e *ProtocolError) Error() string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + ": " + e.Detail
}

// Fields returns the error as it is told to the peer, with severity FATAL.
func (e *ProtocolError) Fields() *ErrorFields {
	return &ErrorFields{Severity: SeverityFatal, Code: e.Code, Message: e.Message, Detail: e.Detail}
}

// malformed returns the error for a message whose inside contradicts its length
// or the protocol.
func malformed(message, detail string) error {
	return &ProtocolError{
		Code:    codeProtocolViolation,
		Message: "invalid " + message + " message",
		Detail:  detail,
	}
}

// The details that several messages share.
const (
	noTerminator = "a string has no terminating zero byte"
	endsEarly    = "the message ends before its fields do"
	bytesLeft    = "bytes follow the last field"
)
