package wire

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestEncodersWriteWhatPgproto3Writes(t *testing.T) {
	f := func(name string, ours []byte, theirs pgproto3.Message) {
		t.Helper()
		if want := encoded(t, theirs); !bytes.Equal(ours, want) {
			t.Errorf("%s: %q, want %q", name, ours, want)
		}
	}
	oids := []uint32{23, 0, 4294967295}
	values := [][]byte{[]byte("one"), nil, {}, {0, 255}}
	f("Query", AppendQuery(nil, "select 1"), &pgproto3.Query{String: "select 1"})
	f("Query of bytes", AppendQuery(nil, []byte("select 1")), &pgproto3.Query{String: "select 1"})
	f("Parse", AppendParse(nil, []byte("s"), "select $1", newOIDs(oids...)),
		&pgproto3.Parse{Name: "s", Query: "select $1", ParameterOIDs: oids})
	f("Parse without types", AppendParse(nil, "", "select 1", nil), &pgproto3.Parse{Query: "select 1"})
	f("Bind", AppendBind(nil, "p", "s", NewFormats(0, 1, 0, 1), values, NewFormats(1)), &pgproto3.Bind{
		DestinationPortal: "p", PreparedStatement: "s",
		ParameterFormatCodes: []int16{0, 1, 0, 1}, Parameters: values, ResultFormatCodes: []int16{1},
	})
	f("Bind of nothing", AppendBind(nil, "", "", nil, nil, nil), &pgproto3.Bind{})
	f("Describe", AppendDescribe(nil, Statement, "s"), &pgproto3.Describe{ObjectType: 'S', Name: "s"})
	f("Close", AppendClose(nil, Portal, []byte("p")), &pgproto3.Close{ObjectType: 'P', Name: "p"})
	f("Execute", AppendExecute(nil, "p", 100), &pgproto3.Execute{Portal: "p", MaxRows: 100})
	f("Sync", AppendSync(nil), &pgproto3.Sync{})
	f("Flush", AppendFlush(nil), &pgproto3.Flush{})
	f("Terminate", AppendTerminate(nil), &pgproto3.Terminate{})
	f("CopyData", AppendCopyData(nil, []byte("a\tb\n")), &pgproto3.CopyData{Data: []byte("a\tb\n")})
	f("CopyDone", AppendCopyDone(nil), &pgproto3.CopyDone{})
	f("CopyFail", AppendCopyFail(nil, "no"), &pgproto3.CopyFail{Message: "no"})
	f("AuthenticationOk", AppendAuthenticationOk(nil), &pgproto3.AuthenticationOk{})
	f("AuthenticationSASL", AppendAuthenticationSASL(nil, []string{"A", "B"}),
		&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"A", "B"}})
	f("AuthenticationSASLContinue", AppendAuthenticationSASLContinue(nil, []byte("x")),
		&pgproto3.AuthenticationSASLContinue{Data: []byte("x")})
	f("AuthenticationSASLFinal", AppendAuthenticationSASLFinal(nil, []byte("x")),
		&pgproto3.AuthenticationSASLFinal{Data: []byte("x")})
	f("NegotiateProtocolVersion", AppendNegotiateProtocolVersion(nil, Version32, []string{"_pq_.a"}),
		&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 196610, UnrecognizedOptions: []string{"_pq_.a"}})
	f("ParameterStatus", AppendParameterStatus(nil, "a", "b"), &pgproto3.ParameterStatus{Name: "a", Value: "b"})
	f("BackendKeyData", AppendBackendKeyData(nil, 7, []byte{1, 2, 3, 4}),
		&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{1, 2, 3, 4}})
	f("ReadyForQuery", AppendReadyForQuery(nil, FailedTx), &pgproto3.ReadyForQuery{TxStatus: 'E'})
	f("CommandComplete", AppendCommandComplete(nil, "SELECT 1"),
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	f("ParseComplete", AppendParseComplete(nil), &pgproto3.ParseComplete{})
	f("BindComplete", AppendBindComplete(nil), &pgproto3.BindComplete{})
	f("CloseComplete", AppendCloseComplete(nil), &pgproto3.CloseComplete{})
	f("NoData", AppendNoData(nil), &pgproto3.NoData{})
	f("ParameterDescription", AppendParameterDescription(nil, newOIDs(oids...)),
		&pgproto3.ParameterDescription{ParameterOIDs: oids})
	f("RowDescription", AppendRowDescription(nil, []Field{
		{Name: "a", TableOID: 1, AttNum: 2, TypeOID: 3, TypeSize: -1, TypMod: -1, Format: BinaryFormat},
		{Name: "b"},
	}), &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
		{
			Name: []byte("a"), TableOID: 1, TableAttributeNumber: 2, DataTypeOID: 3,
			DataTypeSize: -1, TypeModifier: -1, Format: 1,
		},
		{Name: []byte("b")},
	}})
	f("DataRow", AppendDataRow(nil, values), &pgproto3.DataRow{Values: values})
	f("text row", AppendTextRow(nil, "a", ""), &pgproto3.DataRow{Values: [][]byte{[]byte("a"), {}}})
	f("NotificationResponse", AppendNotificationResponse(nil, 9, "c", []byte("p")),
		&pgproto3.NotificationResponse{PID: 9, Channel: "c", Payload: "p"})
}

func TestEncodersAppendAndKeepWhatIsThere(t *testing.T) {
	dst := AppendSync([]byte("before"))
	dst = AppendErrorResponse(dst, &ErrorFields{Message: "m"})
	dst = AppendFlush(dst)
	want := append([]byte("beforeS\x00\x00\x00\x04"), AppendErrorResponse(nil, &ErrorFields{Message: "m"})...)
	want = append(want, "H\x00\x00\x00\x04"...)
	if !bytes.Equal(dst, want) {
		t.Fatalf("%q, want %q", dst, want)
	}
}

func TestABindHeadWithTheRestOfAnotherBindIsABind(t *testing.T) {
	old := body(t, AppendBind(nil, "p1", "name of the client", nil, [][]byte{[]byte("v")}, NewFormats(1)), Bind)
	_, _, n, err := BindNames(old)
	if err != nil {
		t.Fatal(err)
	}
	got := append(AppendBindHead(nil, "p2", "q7", len(old)-n), old[n:]...)
	if want := AppendBind(nil, "p2", "q7", nil, [][]byte{[]byte("v")}, NewFormats(1)); !bytes.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

func TestAZeroByteInATextForPeopleBecomesASpace(t *testing.T) {
	f := func(msg []byte, want string) {
		t.Helper()
		if !bytes.Contains(msg, []byte(want)) {
			t.Errorf("%q does not contain %q", msg, want)
		}
		if got := body(t, msg, msg[0]); len(got) == 0 || got[len(got)-1] != 0 && msg[0] != RowDescription {
			t.Errorf("%q does not end in a terminator", msg)
		}
	}
	f(AppendErrorResponse(nil, &ErrorFields{Message: "a\x00Cb\x00"}), "Ma Cb \x00")
	f(AppendNoticeResponse(nil, &ErrorFields{Message: "a", Other: []OtherField{{'x', "\x00"}}}), "x \x00")
	f(AppendParameterStatus(nil, "n\x00", "\x00v"), "n \x00 v\x00")
	f(AppendCommandComplete(nil, "SELECT\x001"), "SELECT 1\x00")
	f(AppendCopyFail(nil, "\x00\x00"), "  \x00")
	f(AppendNotificationResponse(nil, 1, "c\x00c", "p\x00p"), "c c\x00p p\x00")
	f(AppendRowDescription(nil, []Field{{Name: "a\x00b"}}), "a b\x00")
	f(AppendNegotiateProtocolVersion(nil, Version30, []string{"_pq_.\x00"}), "_pq_. \x00")
}

func TestAZeroByteInAStatementOrANamePanics(t *testing.T) {
	const evil = "a\x00b"
	for _, f := range []func(){
		func() { AppendQuery(nil, evil) },
		func() { AppendParse(nil, evil, "", nil) },
		func() { AppendParse(nil, "", []byte(evil), nil) },
		func() { AppendBind(nil, evil, "", nil, nil, nil) },
		func() { AppendBindHead(nil, "", evil, 4) },
		func() { AppendDescribe(nil, Portal, evil) },
		func() { AppendClose(nil, Statement, evil) },
		func() { AppendExecute(nil, evil, 0) },
		func() { AppendAuthenticationSASL(nil, []string{evil}) },
		func() { AppendStartup(nil, Version30, []Param{{evil, ""}}) },
		func() { AppendStartup(nil, Version30, []Param{{"a", evil}}) },
		func() { AppendStartup(nil, Version30, []Param{{"", "a"}}) },
	} {
		mustPanic(t, f)
	}
}

func TestWhatCannotBeSaidInAMessagePanics(t *testing.T) {
	for _, f := range []func(){
		func() { AppendHeader(nil, 'D', MaxMessage-3) },
		func() { AppendHeader(nil, 'D', -1) },
		func() { AppendDataRow(nil, make([][]byte, 65536)) },
		func() { AppendBackendKeyData(nil, 1, make([]byte, 3)) },
		func() { AppendBackendKeyData(nil, 1, make([]byte, 257)) },
		func() { AppendCancelRequest(nil, 1, nil) },
		func() { AppendDescribe(nil, 'X', "a") },
	} {
		mustPanic(t, f)
	}
	if got := AppendHeader(nil, 'D', MaxMessage-4); !bytes.Equal(got, []byte{'D', 0x3f, 0xff, 0xff, 0xff}) {
		t.Fatalf("largest header %x", got)
	}
}

func TestEncodersIntoEnoughRoomAllocateNothing(t *testing.T) {
	dst := make([]byte, 0, 4096)
	name, sql, oids, values := []byte("s"), []byte("select 1"), newOIDs(23), [][]byte{[]byte("v")}
	e := &ErrorFields{Severity: SeverityError, Code: "42601", Message: "m", Position: 12345}
	if n := testing.AllocsPerRun(100, func() {
		b := AppendParse(dst[:0], name, sql, oids)
		b = AppendBind(b, "", name, nil, values, nil)
		b = AppendExecute(b, "", 0)
		b = AppendErrorResponse(b, e)
		AppendReadyForQuery(AppendCommandComplete(b, "SELECT 1"), Idle)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
