package wire

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestAnErrorOfTheServersComesBackAsItWas(t *testing.T) {
	e := &ErrorFields{
		Severity: "FEHLER", SeverityV: SeverityError, Code: "42601", Message: "m", Detail: "d", Hint: "h",
		Where: "w", Schema: "s", Table: "t", Column: "c", DataType: "dt", Constraint: "n", Position: 7,
		InternalPosition: 8, InternalQuery: "q", File: "f", Line: "12", Routine: "r",
		Other: []OtherField{{'x', "future"}, {'P', "not a number"}},
	}
	msg := AppendErrorResponse(nil, e)
	got, err := ParseErrorFields(body(t, msg, ErrorResponse))
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Fatalf("%+v, %v; want %+v", got, err, e)
	}
	clear(msg)
	if got.Message != "m" || got.Other[0].Value != "future" {
		t.Fatal("the fields must be copies")
	}
}

func TestPgproto3ReadsOurErrorsAndWeItsOwn(t *testing.T) {
	e := &ErrorFields{Severity: SeverityFatal, Code: "57P01", Message: "m", Detail: "d", Hint: "h", Position: 3}
	var theirs pgproto3.ErrorResponse
	if err := theirs.Decode(body(t, AppendErrorResponse(nil, e), ErrorResponse)); err != nil {
		t.Fatal(err)
	}
	if theirs.Severity != "FATAL" || theirs.SeverityUnlocalized != "FATAL" || theirs.Code != "57P01" ||
		theirs.Message != "m" || theirs.Detail != "d" || theirs.Hint != "h" || theirs.Position != 3 {
		t.Fatalf("%+v", theirs)
	}
	got, err := ParseErrorFields(body(t, encoded(t, &theirs), ErrorResponse))
	want := *e
	want.SeverityV = SeverityFatal
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
}

func TestWhatANoticeOrErrorLeavesOutHasADefault(t *testing.T) {
	if got, want := AppendErrorResponse(nil, &ErrorFields{Message: "m"}), "E\x00\x00\x00\x1dSERROR\x00VERROR\x00CXX000\x00Mm\x00\x00"; !bytes.Equal(got, []byte(want)) {
		t.Errorf("error %q, want %q", got, want)
	}
	if got, want := AppendNoticeResponse(nil, &ErrorFields{Message: "m"}), "N\x00\x00\x00\x1fSNOTICE\x00VNOTICE\x00C00000\x00Mm\x00\x00"; !bytes.Equal(got, []byte(want)) {
		t.Errorf("notice %q, want %q", got, want)
	}
	e := &ErrorFields{Message: "m", Other: []OtherField{{0, "would end the message"}}}
	if got := AppendErrorResponse(nil, e); bytes.Contains(got, []byte("would")) {
		t.Errorf("a field of type zero was sent: %q", got)
	}
	if e.Severity != "" || e.Code != "" {
		t.Error("the encoder changed its argument")
	}
}

func TestAProtocolErrorIsFatalForWhoMadeIt(t *testing.T) {
	_, err := ParseQuery([]byte("no end"))
	p := err.(*ProtocolError)
	if got := p.Fields(); got.Severity != SeverityFatal || got.Code != codeProtocolViolation ||
		got.Error() != "FATAL: invalid Query message (SQLSTATE 08P01)" || got.Detail != noTerminator {
		t.Fatalf("%+v", got)
	}
	if p.Error() != "invalid Query message: "+noTerminator {
		t.Fatalf("%q", p.Error())
	}
}
