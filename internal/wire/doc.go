// Package wire is the PostgreSQL protocol as bytes: framing (Stream), the first
// packet of a connection (ReadStartup), the encoders Append…, the decoders
// Parse…, the fields of errors and notices with their SQLSTATEs, and both
// sides of SCRAM-SHA-256. Protocol versions 3.0 and 3.2.
//
// It must never know what a message means for anybody: no SQL, no pool, no
// session, no user list, no logging, no clock. It imports nothing of ours.
//
// # The life of a connection, in bytes
//
//	ReadStartup -> SSLRequest, GSSENCRequest: one byte 'S', 'G' or 'N', and again
//	            -> CancelRequest: nothing is answered
//	            -> StartupMessage: Negotiate, AppendAuthenticationSASL, ScramServer.Step,
//	               AppendAuthenticationOk, AppendParameterStatus, AppendBackendKeyData,
//	               AppendReadyForQuery
//	Stream.Next -> Forward | Drop | Body + Parse… + Append…, until Terminate
//
// # Who owns memory
//
// Encoders append to dst and return it; they keep nothing. Decoders return slices
// of the body they were given: such a slice is valid as long as the body is, for
// a Stream until its next Next. What is a string (Startup, Field.Name,
// ErrorFields) is a copy and may be kept.
//
// # Hostile input
//
// A decoder returns a *ProtocolError, never panics, and allocates at most in
// proportion to the bytes that really arrived, whatever the counts inside them
// claim. A string with a NUL in it cannot be expressed in the protocol: decoders
// cannot return one, encoders of texts for people (errors, parameters, column
// names, tags) write a space for each NUL, and encoders of statements and their
// names panic, because a statement cut or altered is another statement.
package wire
