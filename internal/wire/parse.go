package wire

import (
	"bytes"
	"encoding/binary"
)

// OIDs is a list of type OIDs as it lies in a message, four bytes each. The zero
// OID leaves a type to the server.
type OIDs []byte

// Len returns the number of OIDs.
func (o OIDs) Len() int { return len(o) / 4 }

// At returns OID i; it panics if i is not below Len.
func (o OIDs) At(i int) uint32 { return binary.BigEndian.Uint32(o[4*i:]) }

// Format says how a value is written.
type Format int16

// The formats.
const (
	TextFormat   Format = 0
	BinaryFormat Format = 1
)

// Formats is a list of format codes as it lies in a Bind message, two bytes each:
// none (all text), one (for all) or one for each value.
type Formats []byte

// NewFormats returns the list of the given formats.
func NewFormats(formats ...Format) Formats {
	var f Formats
	for _, format := range formats {
		f = binary.BigEndian.AppendUint16(f, uint16(format))
	}
	return f
}

// Len returns the number of codes.
func (f Formats) Len() int { return len(f) / 2 }

// Of returns the format of value i. A value beyond a list of several codes is
// text; PostgreSQL refuses such a message when it is executed.
func (f Formats) Of(i int) Format {
	if f.Len() == 1 {
		i = 0
	}
	if i >= f.Len() {
		return TextFormat
	}
	return Format(binary.BigEndian.Uint16(f[2*i:]))
}

// ParseQuery returns the text of a Query. It aliases body.
func ParseQuery(body []byte) (sql []byte, err error) { return onlyString("Query", body) }

// ParseParse returns the statement name, the text and the declared parameter
// types of a Parse. All alias body.
func ParseParse(body []byte) (name, sql []byte, oids OIDs, err error) {
	name, rest, ok := cutString(body)
	if !ok {
		return nil, nil, nil, malformed("Parse", noTerminator)
	}
	sql, rest, ok = cutString(rest)
	if !ok {
		return nil, nil, nil, malformed("Parse", noTerminator)
	}
	oids, err = onlyOIDs("Parse", rest)
	if err != nil {
		return nil, nil, nil, err
	}
	return name, sql, oids, nil
}

// ParseParameterDescription returns the parameter types of a statement. They
// alias body.
func ParseParameterDescription(body []byte) (OIDs, error) {
	return onlyOIDs("ParameterDescription", body)
}

// BindNames returns the portal and statement names at the start of a Bind and the
// number of bytes that both take with their terminators. They alias body, which
// may be any prefix of the message's body; ErrShort says that it does not contain
// both names yet.
func BindNames(body []byte) (portal, stmt []byte, n int, err error) {
	portal, rest, ok := cutString(body)
	if !ok {
		return nil, nil, 0, ErrShort
	}
	stmt, _, ok = cutString(rest)
	if !ok {
		return nil, nil, 0, ErrShort
	}
	return portal, stmt, len(portal) + len(stmt) + 2, nil
}

// BindBody is a decoded Bind.
type BindBody struct {
	Portal, Stmt  []byte
	ParamFormats  Formats
	Params        [][]byte // nil: NULL
	ResultFormats Formats
}

// ParseBind decodes a whole Bind. Everything aliases body; Params is appended to
// params[:0], so that the caller may use one slice again and again.
func ParseBind(body []byte, params [][]byte) (BindBody, error) {
	portal, stmt, n, err := BindNames(body)
	if err != nil {
		return BindBody{}, malformed("Bind", noTerminator)
	}
	paramFormats, rest, ok := cutFormats(body[n:])
	if !ok || len(rest) < 2 {
		return BindBody{}, malformed("Bind", endsEarly)
	}
	count := int(binary.BigEndian.Uint16(rest))
	if codes := paramFormats.Len(); codes > 1 && codes != count {
		return BindBody{}, malformed("Bind", "the numbers of parameter formats and parameters differ")
	}
	params, rest, ok = cutValues(params[:0], count, rest[2:])
	if !ok {
		return BindBody{}, malformed("Bind", endsEarly)
	}
	resultFormats, rest, ok := cutFormats(rest)
	if !ok {
		return BindBody{}, malformed("Bind", endsEarly)
	}
	if len(rest) > 0 {
		return BindBody{}, malformed("Bind", bytesLeft)
	}
	return BindBody{portal, stmt, paramFormats, params, resultFormats}, nil
}

// What Describe and Close name.
const (
	Statement = 'S'
	Portal    = 'P'
)

// ParseDescribe returns what a Describe names: Statement or Portal, and its name,
// which aliases body.
func ParseDescribe(body []byte) (kind byte, name []byte, err error) {
	return kindAndName("Describe", body)
}

// ParseClose returns what a Close names: Statement or Portal, and its name, which
// aliases body.
func ParseClose(body []byte) (kind byte, name []byte, err error) {
	return kindAndName("Close", body)
}

// ParseExecute returns the portal of an Execute, which aliases body, and the
// largest number of rows to return; zero and less mean all.
func ParseExecute(body []byte) (portal []byte, maxRows int32, err error) {
	portal, rest, ok := cutString(body)
	if !ok {
		return nil, 0, malformed("Execute", noTerminator)
	}
	if len(rest) != 4 {
		return nil, 0, malformed("Execute", "the row limit is not four bytes")
	}
	return portal, int32(binary.BigEndian.Uint32(rest)), nil
}

// ParseReadyForQuery returns the transaction status.
func ParseReadyForQuery(body []byte) (TxStatus, error) {
	if len(body) != 1 {
		return 0, malformed("ReadyForQuery", "the body is not one byte")
	}
	switch status := TxStatus(body[0]); status {
	case Idle, InTx, FailedTx:
		return status, nil
	}
	return 0, malformed("ReadyForQuery", "unknown transaction status")
}

// ParseParameterStatus returns a reported setting and its value. Both alias body.
func ParseParameterStatus(body []byte) (name, value []byte, err error) {
	name, rest, ok := cutString(body)
	if !ok {
		return nil, nil, malformed("ParameterStatus", noTerminator)
	}
	value, err = onlyString("ParameterStatus", rest)
	if err != nil {
		return nil, nil, err
	}
	return name, value, nil
}

// ParseNotification returns the sender's process ID, the channel and the payload
// of a NotificationResponse. Channel and payload alias body.
func ParseNotification(body []byte) (pid uint32, channel, payload []byte, err error) {
	if len(body) < 4 {
		return 0, nil, nil, malformed("NotificationResponse", endsEarly)
	}
	channel, rest, ok := cutString(body[4:])
	if !ok {
		return 0, nil, nil, malformed("NotificationResponse", noTerminator)
	}
	payload, err = onlyString("NotificationResponse", rest)
	if err != nil {
		return 0, nil, nil, err
	}
	return binary.BigEndian.Uint32(body), channel, payload, nil
}

// Field is one column of a RowDescription.
type Field struct {
	Name     string // a copy
	TableOID uint32 // zero: not a plain column
	AttNum   int16  // zero: not a plain column
	TypeOID  uint32
	TypeSize int16 // bytes; negative: variable
	TypMod   int32 // -1: none
	Format   Format
}

// fieldSize is what a Field takes in a message without its name.
const fieldSize = 18

// ParseRowDescription returns the columns of a result.
func ParseRowDescription(body []byte) ([]Field, error) {
	if len(body) < 2 {
		return nil, malformed("RowDescription", endsEarly)
	}
	count, rest := int(binary.BigEndian.Uint16(body)), body[2:]
	if count > len(rest)/(fieldSize+1) {
		return nil, malformed("RowDescription", endsEarly)
	}
	fields := make([]Field, count)
	for i := range fields {
		name, tail, ok := cutString(rest)
		if !ok {
			return nil, malformed("RowDescription", noTerminator)
		}
		if len(tail) < fieldSize {
			return nil, malformed("RowDescription", endsEarly)
		}
		fields[i] = Field{
			Name:     string(name),
			TableOID: binary.BigEndian.Uint32(tail),
			AttNum:   int16(binary.BigEndian.Uint16(tail[4:])),
			TypeOID:  binary.BigEndian.Uint32(tail[6:]),
			TypeSize: int16(binary.BigEndian.Uint16(tail[10:])),
			TypMod:   int32(binary.BigEndian.Uint32(tail[12:])),
			Format:   Format(binary.BigEndian.Uint16(tail[16:])),
		}
		rest = tail[fieldSize:]
	}
	if len(rest) > 0 {
		return nil, malformed("RowDescription", bytesLeft)
	}
	return fields, nil
}

// ParseDataRow returns the values of a row, nil for NULL. They alias body and are
// appended to dst[:0], so that the caller may use one slice for all rows.
func ParseDataRow(body []byte, dst [][]byte) ([][]byte, error) {
	if len(body) < 2 {
		return nil, malformed("DataRow", endsEarly)
	}
	values, rest, ok := cutValues(dst[:0], int(binary.BigEndian.Uint16(body)), body[2:])
	if !ok {
		return nil, malformed("DataRow", endsEarly)
	}
	if len(rest) > 0 {
		return nil, malformed("DataRow", bytesLeft)
	}
	return values, nil
}

// cutString splits b after its first zero byte, which belongs to neither part.
func cutString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i:i], b[i+1:], true
}

// onlyString returns the string that b consists of, without its terminator.
func onlyString(message string, b []byte) ([]byte, error) {
	s, rest, ok := cutString(b)
	if !ok {
		return nil, malformed(message, noTerminator)
	}
	if len(rest) > 0 {
		return nil, malformed(message, bytesLeft)
	}
	return s, nil
}

// kindAndName decodes what Describe and Close have in common.
func kindAndName(message string, body []byte) (byte, []byte, error) {
	if len(body) == 0 || body[0] != Statement && body[0] != Portal {
		return 0, nil, malformed(message, "the subtype is neither statement nor portal")
	}
	name, err := onlyString(message, body[1:])
	if err != nil {
		return 0, nil, err
	}
	return body[0], name, nil
}

// onlyOIDs returns the counted list of OIDs that b consists of.
func onlyOIDs(message string, b []byte) (OIDs, error) {
	if len(b) < 2 {
		return nil, malformed(message, endsEarly)
	}
	if len(b) != 2+4*int(binary.BigEndian.Uint16(b)) {
		return nil, malformed(message, "the number of types and the length of the message differ")
	}
	return OIDs(b[2:]), nil
}

// cutFormats splits b after its counted list of formats.
func cutFormats(b []byte) (f Formats, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + 2*int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return Formats(b[2:n:n]), b[n:], true
}

// cutValues appends to dst the n values, each with its length before it, that b
// begins with. It appends only what is there, whatever n claims.
func cutValues(dst [][]byte, n int, b []byte) (values [][]byte, rest []byte, ok bool) {
	for range n {
		if len(b) < 4 {
			return nil, nil, false
		}
		size := int(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		if size == -1 {
			dst = append(dst, nil)
			continue
		}
		if size < 0 || size > len(b) {
			return nil, nil, false
		}
		dst = append(dst, b[:size:size])
		b = b[size:]
	}
	return dst, b, true
}
