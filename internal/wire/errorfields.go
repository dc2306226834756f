package wire

import (
	"strconv"
	"strings"
)

// The severities that are sent here; a server's own may be translated.
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityWarning = "WARNING"
	SeverityNotice  = "NOTICE"
)

// SQLSTATEs that are sent here, by their condition names (PostgreSQL 17, appendix A).
const (
	codeSuccessfulCompletion     = "00000"
	codeProtocolViolation        = "08P01"
	codeFeatureNotSupported      = "0A000"
	codeInvalidAuthorizationSpec = "28000"
	codeInvalidPassword          = "28P01"
	codeInternalError            = "XX000"
)

// ErrorFields are the fields of an ErrorResponse or a NoticeResponse; an empty
// one is absent. What a gateway says itself needs Severity, Code and Message, and
// has Detail (the rule or reason) and Hint (what to do instead).
type ErrorFields struct {
	Severity         string // may be translated
	SeverityV        string // never translated; encoders take Severity where it is empty
	Code             string // SQLSTATE
	Message          string
	Detail           string
	Hint             string
	Where            string
	Schema           string
	Table            string
	Column           string
	DataType         string
	Constraint       string
	Position         int // in characters of the statement, from 1; zero: none
	InternalPosition int // the same in InternalQuery
	InternalQuery    string
	File             string
	Line             string
	Routine          string
	Other            []OtherField // kept as they came
}

// OtherField is a field of an error that has no name here.
type OtherField struct {
	Type  byte
	Value string
}

// Error returns severity, message and SQLSTATE in one line.
func (e *ErrorFields) Error() string {
	return e.Severity + ": " + e.Message + " (SQLSTATE " + e.Code + ")"
}

// ParseErrorFields decodes the body of an ErrorResponse or a NoticeResponse. The
// fields are copies; of a field that occurs twice the last one counts.
func ParseErrorFields(body []byte) (*ErrorFields, error) {
	rest := string(body)
	e := &ErrorFields{}
	for {
		if rest == "" {
			return nil, malformed("ErrorResponse", noTerminator)
		}
		typ := rest[0]
		if typ == 0 {
			break
		}
		value, tail, ok := strings.Cut(rest[1:], "\x00")
		if !ok {
			return nil, malformed("ErrorResponse", noTerminator)
		}
		e.set(typ, value)
		rest = tail
	}
	if len(rest) > 1 {
		return nil, malformed("ErrorResponse", bytesLeft)
	}
	return e, nil
}

func (e *ErrorFields) set(typ byte, value string) {
	switch typ {
	case 'P', 'p':
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			e.Other = append(e.Other, OtherField{typ, value})
			return
		}
		if typ == 'P' {
			e.Position = n
		} else {
			e.InternalPosition = n
		}
	default:
		if field := e.text(typ); field != nil {
			*field = value
			return
		}
		e.Other = append(e.Other, OtherField{typ, value})
	}
}

// text returns the field of a type that is a string, nil for any other type.
func (e *ErrorFields) text(typ byte) *string {
	switch typ {
	case 'S':
		return &e.Severity
	case 'V':
		return &e.SeverityV
	case 'C':
		return &e.Code
	case 'M':
		return &e.Message
	case 'D':
		return &e.Detail
	case 'H':
		return &e.Hint
	case 'W':
		return &e.Where
	case 's':
		return &e.Schema
	case 't':
		return &e.Table
	case 'c':
		return &e.Column
	case 'd':
		return &e.DataType
	case 'n':
		return &e.Constraint
	case 'q':
		return &e.InternalQuery
	case 'F':
		return &e.File
	case 'L':
		return &e.Line
	case 'R':
		return &e.Routine
	}
	return nil
}

// AppendErrorResponse appends an ErrorResponse. An empty severity is ERROR, an
// empty code XX000.
func AppendErrorResponse(dst []byte, e *ErrorFields) []byte {
	return appendFields(dst, ErrorResponse, e, SeverityError, codeInternalError)
}

// AppendNoticeResponse appends a NoticeResponse. An empty severity is NOTICE, an
// empty code 00000.
func AppendNoticeResponse(dst []byte, e *ErrorFields) []byte {
	return appendFields(dst, NoticeResponse, e, SeverityNotice, codeSuccessfulCompletion)
}

// fieldOrder is the order in which PostgreSQL sends the fields.
const fieldOrder = "SVCMDHWstcdnPpqFLR"

func appendFields(dst []byte, typ byte, e *ErrorFields, severity, code string) []byte {
	full := *e
	if full.Severity == "" {
		full.Severity = severity
	}
	if full.SeverityV == "" {
		full.SeverityV = full.Severity
	}
	if full.Code == "" {
		full.Code = code
	}
	header := len(dst)
	dst = AppendHeader(dst, typ, 0)
	body := len(dst)
	for _, field := range []byte(fieldOrder) {
		switch field {
		case 'P':
			dst = appendPosition(dst, field, full.Position)
		case 'p':
			dst = appendPosition(dst, field, full.InternalPosition)
		default:
			if value := *full.text(field); value != "" {
				dst = appendText(append(dst, field), value)
			}
		}
	}
	for _, o := range full.Other {
		if o.Type != 0 {
			dst = appendText(append(dst, o.Type), o.Value)
		}
	}
	dst = append(dst, 0)
	AppendHeader(dst[:header], typ, len(dst)-body)
	return dst
}

func appendPosition(dst []byte, typ byte, position int) []byte {
	if position <= 0 {
		return dst
	}
	return append(strconv.AppendInt(append(dst, typ), int64(position), 10), 0)
}
