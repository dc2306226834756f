package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Text is what encoders take where a caller may hold either form.
type Text interface{ ~string | ~[]byte }

// AppendHeader appends the header of a message whose body of bodyLen bytes the
// caller appends or forwards itself. Like every encoder here it panics beyond
// MaxMessage, which callers keep by not accepting longer input.
func AppendHeader(dst []byte, typ byte, bodyLen int) []byte {
	if bodyLen < 0 || bodyLen > MaxMessage-4 {
		panic(fmt.Sprintf("BUG: message %q with a body of %d bytes", typ, bodyLen))
	}
	return binary.BigEndian.AppendUint32(append(dst, typ), uint32(bodyLen)+4)
}

// AppendQuery appends a Query. A zero byte in sql panics.
func AppendQuery[S Text](dst []byte, sql S) []byte {
	return appendExact(AppendHeader(dst, Query, len(sql)+1), sql)
}

// AppendParse appends a Parse. A zero byte in name or sql panics.
func AppendParse[N, S Text](dst []byte, name N, sql S, oids OIDs) []byte {
	dst = AppendHeader(dst, Parse, len(name)+len(sql)+4+len(oids))
	dst = appendExact(dst, name)
	dst = appendExact(dst, sql)
	dst = appendCount(dst, oids.Len())
	return append(dst, oids...)
}

// AppendBind appends a Bind; a nil parameter is NULL. A zero byte in a name
// panics.
func AppendBind[P, S Text](dst []byte, portal P, stmt S, paramFormats Formats, params [][]byte, resultFormats Formats) []byte {
	rest := 6 + len(paramFormats) + valuesSize(params) + len(resultFormats)
	dst = AppendBindHead(dst, portal, stmt, rest)
	dst = append(appendCount(dst, paramFormats.Len()), paramFormats...)
	dst = appendValues(dst, params)
	return append(appendCount(dst, resultFormats.Len()), resultFormats...)
}

// AppendBindHead appends the header and the two names of a Bind whose other rest
// bytes the caller forwards from another one (from what BindNames counted on). A
// zero byte in a name panics.
func AppendBindHead[P, S Text](dst []byte, portal P, stmt S, rest int) []byte {
	dst = AppendHeader(dst, Bind, len(portal)+len(stmt)+2+rest)
	return appendExact(appendExact(dst, portal), stmt)
}

// AppendDescribe appends a Describe of kind Statement or Portal. A zero byte in
// name panics.
func AppendDescribe[S Text](dst []byte, kind byte, name S) []byte {
	return appendKindAndName(dst, Describe, kind, name)
}

// AppendClose appends a Close of kind Statement or Portal. A zero byte in name
// panics.
func AppendClose[S Text](dst []byte, kind byte, name S) []byte {
	return appendKindAndName(dst, Close, kind, name)
}

// AppendExecute appends an Execute for at most maxRows rows, zero for all. A zero
// byte in portal panics.
func AppendExecute[S Text](dst []byte, portal S, maxRows int32) []byte {
	dst = appendExact(AppendHeader(dst, Execute, len(portal)+5), portal)
	return binary.BigEndian.AppendUint32(dst, uint32(maxRows))
}

// AppendSync appends a Sync.
func AppendSync(dst []byte) []byte { return AppendHeader(dst, Sync, 0) }

// AppendFlush appends a Flush.
func AppendFlush(dst []byte) []byte { return AppendHeader(dst, Flush, 0) }

// AppendTerminate appends a Terminate.
func AppendTerminate(dst []byte) []byte { return AppendHeader(dst, Terminate, 0) }

// AppendCopyData appends a CopyData, in either direction.
func AppendCopyData(dst, data []byte) []byte {
	return append(AppendHeader(dst, CopyData, len(data)), data...)
}

// AppendCopyDone appends a CopyDone, in either direction.
func AppendCopyDone(dst []byte) []byte { return AppendHeader(dst, CopyDone, 0) }

// AppendCopyFail appends a CopyFail with the reason that the server will report.
func AppendCopyFail(dst []byte, reason string) []byte {
	return appendText(AppendHeader(dst, CopyFail, len(reason)+1), reason)
}

// AppendAuthenticationOk appends the end of authentication.
func AppendAuthenticationOk(dst []byte) []byte { return appendAuthentication(dst, AuthOk, nil) }

// AppendAuthenticationSASL appends the offer of SASL mechanisms, best first.
func AppendAuthenticationSASL(dst []byte, mechanisms []string) []byte {
	size := 5
	for _, m := range mechanisms {
		size += len(m) + 1
	}
	dst = binary.BigEndian.AppendUint32(AppendHeader(dst, Authentication, size), AuthSASL)
	for _, m := range mechanisms {
		dst = appendExact(dst, m)
	}
	return append(dst, 0)
}

// AppendAuthenticationSASLContinue appends a SASL challenge.
func AppendAuthenticationSASLContinue(dst, data []byte) []byte {
	return appendAuthentication(dst, AuthSASLContinue, data)
}

// AppendAuthenticationSASLFinal appends the outcome data of SASL; AuthenticationOk
// follows it.
func AppendAuthenticationSASLFinal(dst, data []byte) []byte {
	return appendAuthentication(dst, AuthSASLFinal, data)
}

// AppendNegotiateProtocolVersion appends the answer to a client that asked for
// more than is supported: the version that will be spoken (major<<16 | minor, as
// PostgreSQL sends it), and the names of the protocol options not known.
func AppendNegotiateProtocolVersion(dst []byte, version uint32, options []string) []byte {
	size := 8
	for _, o := range options {
		size += len(o) + 1
	}
	dst = AppendHeader(dst, NegotiateProtocolVersion, size)
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(options)))
	for _, o := range options {
		dst = appendText(dst, o)
	}
	return dst
}

// AppendParameterStatus appends the report of a setting.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst = AppendHeader(dst, ParameterStatus, len(name)+len(value)+2)
	return appendText(appendText(dst, name), value)
}

// AppendBackendKeyData appends what the client needs for a cancel request: 4
// bytes of key for protocol 3.0, 4 to 256 for 3.2. Another length panics.
func AppendBackendKeyData(dst []byte, pid uint32, key []byte) []byte {
	mustBeKey(key)
	dst = binary.BigEndian.AppendUint32(AppendHeader(dst, BackendKeyData, 4+len(key)), pid)
	return append(dst, key...)
}

// AppendReadyForQuery appends a ReadyForQuery.
func AppendReadyForQuery(dst []byte, status TxStatus) []byte {
	return append(AppendHeader(dst, ReadyForQuery, 1), byte(status))
}

// AppendCommandComplete appends a CommandComplete.
func AppendCommandComplete[S Text](dst []byte, tag S) []byte {
	return appendText(AppendHeader(dst, CommandComplete, len(tag)+1), tag)
}

// AppendParseComplete appends a ParseComplete.
func AppendParseComplete(dst []byte) []byte { return AppendHeader(dst, ParseComplete, 0) }

// AppendBindComplete appends a BindComplete.
func AppendBindComplete(dst []byte) []byte { return AppendHeader(dst, BindComplete, 0) }

// AppendCloseComplete appends a CloseComplete.
func AppendCloseComplete(dst []byte) []byte { return AppendHeader(dst, CloseComplete, 0) }

// AppendNoData appends a NoData.
func AppendNoData(dst []byte) []byte { return AppendHeader(dst, NoData, 0) }

// AppendParameterDescription appends the parameter types of a statement.
func AppendParameterDescription(dst []byte, oids OIDs) []byte {
	dst = AppendHeader(dst, ParameterDescription, 2+len(oids))
	return append(appendCount(dst, oids.Len()), oids...)
}

// AppendRowDescription appends the columns of a result.
func AppendRowDescription(dst []byte, fields []Field) []byte {
	size := 2
	for i := range fields {
		size += len(fields[i].Name) + 1 + fieldSize
	}
	dst = appendCount(AppendHeader(dst, RowDescription, size), len(fields))
	for i := range fields {
		f := &fields[i]
		dst = appendText(dst, f.Name)
		dst = binary.BigEndian.AppendUint32(dst, f.TableOID)
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.AttNum))
		dst = binary.BigEndian.AppendUint32(dst, f.TypeOID)
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.TypeSize))
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.TypMod))
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.Format))
	}
	return dst
}

// AppendDataRow appends a row; a nil value is NULL.
func AppendDataRow(dst []byte, values [][]byte) []byte {
	return appendValues(AppendHeader(dst, DataRow, 2+valuesSize(values)), values)
}

// AppendTextRow appends a row of texts, none of them NULL.
func AppendTextRow(dst []byte, values ...string) []byte {
	size := 2 + 4*len(values)
	for _, v := range values {
		size += len(v)
	}
	dst = appendCount(AppendHeader(dst, DataRow, size), len(values))
	for _, v := range values {
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	}
	return dst
}

// AppendNotificationResponse appends a notification from the session pid.
func AppendNotificationResponse[C, P Text](dst []byte, pid uint32, channel C, payload P) []byte {
	dst = AppendHeader(dst, NotificationResponse, 4+len(channel)+len(payload)+2)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return appendText(appendText(dst, channel), payload)
}

func appendAuthentication(dst []byte, kind uint32, data []byte) []byte {
	dst = binary.BigEndian.AppendUint32(AppendHeader(dst, Authentication, 4+len(data)), kind)
	return append(dst, data...)
}

func appendKindAndName[S Text](dst []byte, typ, kind byte, name S) []byte {
	if kind != Statement && kind != Portal {
		panic(fmt.Sprintf("BUG: message %q of kind %q", typ, kind))
	}
	return appendExact(append(AppendHeader(dst, typ, len(name)+2), kind), name)
}

// appendExact appends a string that means something to the server and its
// terminator; a zero byte inside would end it early and shift what follows.
func appendExact[S Text](dst []byte, s S) []byte {
	start := len(dst)
	dst = append(dst, s...)
	if bytes.IndexByte(dst[start:], 0) >= 0 {
		panic("BUG: zero byte in a statement or a name")
	}
	return append(dst, 0)
}

// appendText appends a string for people and its terminator, with a space for
// each zero byte inside.
func appendText[S Text](dst []byte, s S) []byte {
	start := len(dst)
	dst = append(dst, s...)
	for text := dst[start:]; ; {
		i := bytes.IndexByte(text, 0)
		if i < 0 {
			return append(dst, 0)
		}
		text[i] = ' '
		text = text[i+1:]
	}
}

func appendCount(dst []byte, n int) []byte {
	if n > 0xffff {
		panic(fmt.Sprintf("BUG: %d values in one message", n))
	}
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}

// valuesSize returns what appendValues appends beside the count, in bytes.
func valuesSize(values [][]byte) int {
	size := 4 * len(values)
	for _, v := range values {
		size += len(v)
	}
	return size
}

func appendValues(dst []byte, values [][]byte) []byte {
	dst = appendCount(dst, len(values))
	for _, v := range values {
		if v == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	}
	return dst
}
