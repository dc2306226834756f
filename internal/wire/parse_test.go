package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestDecodersReadWhatPgproto3Writes(t *testing.T) {
	sql, err := ParseQuery(body(t, encoded(t, &pgproto3.Query{String: "select 1"}), Query))
	if err != nil || string(sql) != "select 1" {
		t.Errorf("Query %q, %v", sql, err)
	}
	name, sql, oids, err := ParseParse(body(t, encoded(t, &pgproto3.Parse{
		Name: "s", Query: "select $1", ParameterOIDs: []uint32{23, 4294967295},
	}), Parse))
	if err != nil || string(name) != "s" || string(sql) != "select $1" ||
		oids.Len() != 2 || oids.At(0) != 23 || oids.At(1) != 4294967295 {
		t.Errorf("Parse %q %q %x, %v", name, sql, oids, err)
	}
	kind, name, err := ParseDescribe(body(t, encoded(t, &pgproto3.Describe{ObjectType: 'P', Name: "p"}), Describe))
	if err != nil || kind != Portal || string(name) != "p" {
		t.Errorf("Describe %q %q, %v", kind, name, err)
	}
	kind, name, err = ParseClose(body(t, encoded(t, &pgproto3.Close{ObjectType: 'S'}), Close))
	if err != nil || kind != Statement || len(name) != 0 {
		t.Errorf("Close %q %q, %v", kind, name, err)
	}
	portal, limit, err := ParseExecute(body(t, encoded(t, &pgproto3.Execute{Portal: "p", MaxRows: 5}), Execute))
	if err != nil || string(portal) != "p" || limit != 5 {
		t.Errorf("Execute %q %d, %v", portal, limit, err)
	}
	for _, want := range []TxStatus{Idle, InTx, FailedTx} {
		status, err := ParseReadyForQuery(body(t, encoded(t, &pgproto3.ReadyForQuery{TxStatus: byte(want)}), ReadyForQuery))
		if err != nil || status != want {
			t.Errorf("ReadyForQuery %q, %v", status, err)
		}
	}
	name, value, err := ParseParameterStatus(body(t, encoded(t, &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}), ParameterStatus))
	if err != nil || string(name) != "TimeZone" || string(value) != "UTC" {
		t.Errorf("ParameterStatus %q %q, %v", name, value, err)
	}
	pid, channel, payload, err := ParseNotification(body(t, encoded(t, &pgproto3.NotificationResponse{PID: 9, Channel: "c", Payload: "p"}), NotificationResponse))
	if err != nil || pid != 9 || string(channel) != "c" || string(payload) != "p" {
		t.Errorf("NotificationResponse %d %q %q, %v", pid, channel, payload, err)
	}
	oids, err = ParseParameterDescription(body(t, encoded(t, &pgproto3.ParameterDescription{ParameterOIDs: []uint32{25}}), ParameterDescription))
	if err != nil || oids.Len() != 1 || oids.At(0) != 25 {
		t.Errorf("ParameterDescription %x, %v", oids, err)
	}
}

func TestABindIsDecodedWhole(t *testing.T) {
	msg := encoded(t, &pgproto3.Bind{
		DestinationPortal: "p", PreparedStatement: "s",
		ParameterFormatCodes: []int16{0, 1, 0}, Parameters: [][]byte{[]byte("v"), nil, {}},
		ResultFormatCodes: []int16{1},
	})
	b, err := ParseBind(body(t, msg, Bind), nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(b.Portal) != "p" || string(b.Stmt) != "s" || len(b.Params) != 3 {
		t.Fatalf("portal %q, statement %q, %d parameters", b.Portal, b.Stmt, len(b.Params))
	}
	if string(b.Params[0]) != "v" || b.Params[1] != nil || b.Params[2] == nil || len(b.Params[2]) != 0 {
		t.Fatalf("parameters %q; NULL and the empty string must differ", b.Params)
	}
	if b.ParamFormats.Of(0) != TextFormat || b.ParamFormats.Of(1) != BinaryFormat || b.ParamFormats.Of(9) != TextFormat {
		t.Fatalf("parameter formats %x", b.ParamFormats)
	}
	if b.ResultFormats.Of(0) != BinaryFormat || b.ResultFormats.Of(41) != BinaryFormat {
		t.Fatal("one result format is for all columns")
	}
	if Formats(nil).Of(3) != TextFormat {
		t.Fatal("no format is text")
	}
	if got := AppendBind(nil, b.Portal, b.Stmt, b.ParamFormats, b.Params, b.ResultFormats); !bytes.Equal(got, msg) {
		t.Fatalf("encoded again %q, want %q", got, msg)
	}
}

func TestBindNamesNeedOnlyTheStartOfAMessage(t *testing.T) {
	msg := body(t, AppendBind(nil, "portal", "stmt", nil, [][]byte{make([]byte, 100)}, nil), Bind)
	names := len("portal") + len("stmt") + 2
	for i := range msg {
		portal, stmt, n, err := BindNames(msg[:i])
		if i < names {
			if !errors.Is(err, ErrShort) {
				t.Fatalf("%d bytes: %v, want ErrShort", i, err)
			}
			continue
		}
		if err != nil || string(portal) != "portal" || string(stmt) != "stmt" || n != names {
			t.Fatalf("%d bytes: %q %q %d, %v", i, portal, stmt, n, err)
		}
	}
}

func TestRowsAndTheirDescriptionComeBackAsTheyWere(t *testing.T) {
	fields := []Field{
		{Name: "price", TableOID: 16384, AttNum: 3, TypeOID: 701, TypeSize: 8, TypMod: -1, Format: BinaryFormat},
		{Name: "", TypeOID: 25, TypeSize: -1, TypMod: -1},
		{Name: "?column?", AttNum: -7, TypMod: 1 << 20},
	}
	msg := AppendRowDescription(nil, fields)
	got, err := ParseRowDescription(body(t, msg, RowDescription))
	if err != nil || !reflect.DeepEqual(got, fields) {
		t.Fatalf("%v, %v; want %v", got, err, fields)
	}
	clear(msg)
	if got[0].Name != "price" {
		t.Fatal("a column name must be a copy")
	}
	row := AppendDataRow(nil, [][]byte{[]byte("1.5"), nil, {}})
	values, err := ParseDataRow(body(t, row, DataRow), make([][]byte, 5))
	if err != nil || len(values) != 3 || string(values[0]) != "1.5" || values[1] != nil || values[2] == nil {
		t.Fatalf("%q, %v", values, err)
	}
	if empty, err := ParseDataRow([]byte{0, 0}, nil); err != nil || len(empty) != 0 {
		t.Fatalf("row without columns: %q, %v", empty, err)
	}
}

// decoders are all decoders of message bodies, for the tests that hold for each.
var decoders = map[string]func(body []byte) error{
	"Query":          func(b []byte) error { _, err := ParseQuery(b); return err },
	"Parse":          func(b []byte) error { _, _, _, err := ParseParse(b); return err },
	"Bind":           func(b []byte) error { _, err := ParseBind(b, nil); return err },
	"Describe":       func(b []byte) error { _, _, err := ParseDescribe(b); return err },
	"Close":          func(b []byte) error { _, _, err := ParseClose(b); return err },
	"Execute":        func(b []byte) error { _, _, err := ParseExecute(b); return err },
	"ReadyForQuery":  func(b []byte) error { _, err := ParseReadyForQuery(b); return err },
	"Status":         func(b []byte) error { _, _, err := ParseParameterStatus(b); return err },
	"Notification":   func(b []byte) error { _, _, _, err := ParseNotification(b); return err },
	"Types":          func(b []byte) error { _, err := ParseParameterDescription(b); return err },
	"RowDescription": func(b []byte) error { _, err := ParseRowDescription(b); return err },
	"DataRow":        func(b []byte) error { _, err := ParseDataRow(b, nil); return err },
	"ErrorFields":    func(b []byte) error { _, err := ParseErrorFields(b); return err },
	"Startup":        func(b []byte) error { _, err := ParseStartup(b); return err },
}

// samples are one well-formed body for each decoder.
func samples() map[string][]byte {
	return map[string][]byte{
		"Query":          AppendQuery(nil, "select 1")[5:],
		"Parse":          AppendParse(nil, "s", "select $1", newOIDs(23, 25))[5:],
		"Bind":           AppendBind(nil, "p", "s", NewFormats(0, 1), [][]byte{[]byte("v"), nil}, NewFormats(1))[5:],
		"Describe":       AppendDescribe(nil, Statement, "s")[5:],
		"Close":          AppendClose(nil, Portal, "p")[5:],
		"Execute":        AppendExecute(nil, "p", 10)[5:],
		"ReadyForQuery":  AppendReadyForQuery(nil, Idle)[5:],
		"Status":         AppendParameterStatus(nil, "TimeZone", "UTC")[5:],
		"Notification":   AppendNotificationResponse(nil, 1, "channel", "payload")[5:],
		"Types":          AppendParameterDescription(nil, newOIDs(23, 25))[5:],
		"RowDescription": AppendRowDescription(nil, []Field{{Name: "a", TypeOID: 23}, {Name: "b"}})[5:],
		"DataRow":        AppendDataRow(nil, [][]byte{[]byte("v"), nil, []byte("w")})[5:],
		"ErrorFields":    AppendErrorResponse(nil, &ErrorFields{Message: "m", Position: 3})[5:],
		"Startup":        AppendStartup(nil, Version30, []Param{{"user", "u"}, {"database", "d"}})[4:],
	}
}

func TestAMessageCutShortOrTooLongIsAnError(t *testing.T) {
	for name, sample := range samples() {
		decode := decoders[name]
		if err := decode(sample); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i := range sample {
			if err := decode(sample[:i]); err == nil {
				t.Errorf("%s cut to %d of %d bytes was accepted", name, i, len(sample))
			} else {
				mustBeProtocolError(t, err, codeProtocolViolation)
			}
		}
		if err := decode(append(bytes.Clone(sample), 'x')); err == nil {
			t.Errorf("%s with a byte too many was accepted", name)
		}
	}
}

func TestAZeroByteInsideAStringIsAnError(t *testing.T) {
	f := func(name, hostile string) {
		t.Helper()
		if err := decoders[name]([]byte(hostile)); err == nil {
			t.Errorf("%s %q was accepted", name, hostile)
		}
	}
	f("Query", "select 1\x00; drop table t\x00")
	f("Parse", "s\x00select\x001\x00\x00\x00")
	f("Describe", "Sa\x00b\x00")
	f("Close", "Pa\x00b\x00")
	f("Execute", "a\x00b\x00\x00\x00\x00\x00")
	f("Status", "a\x00b\x00c\x00")
	f("Notification", "\x00\x00\x00\x01a\x00b\x00c\x00")
}

func TestWhatAMessageCannotMeanIsAnError(t *testing.T) {
	f := func(name, hostile string) {
		t.Helper()
		mustBeProtocolError(t, decoders[name]([]byte(hostile)), codeProtocolViolation)
	}
	f("Describe", "Xname\x00")
	f("Close", "\x00\x00")
	f("ReadyForQuery", "X")
	f("ReadyForQuery", "II")
	f("DataRow", "\x00\x01\x80\x00\x00\x00")
	f("RowDescription", "\x00\x01name without its terminator, long enough to pass the first look")
	f("ErrorFields", "Mno terminator\x00")
	const noNames, noFormats, oneParam = "\x00\x00", "\x00\x00", "\x00\x01"
	f("Bind", noNames+noFormats+oneParam+"\xff\xff\xff\xfe"+noFormats)
	f("Bind", noNames+noFormats+oneParam+"\x7f\xff\xff\xff"+noFormats)
	twoFormats := "\x00\x02\x00\x00\x00\x00"
	f("Bind", noNames+twoFormats+oneParam+"\x00\x00\x00\x00"+noFormats)
}

func TestClaimsOfManyValuesAllocateNothingMuch(t *testing.T) {
	many := "\xff\xff"
	hostile := map[string]string{
		"Parse":          "\x00\x00" + many,
		"Bind":           "\x00\x00\x00\x00" + many,
		"Types":          many,
		"RowDescription": many + "\x00",
		"DataRow":        many + "\xff\xff\xff\xff",
	}
	for name, h := range hostile {
		b := []byte(h)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decoders[name](b)
		runtime.ReadMemStats(&after)
		mustBeProtocolError(t, err, codeProtocolViolation)
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<10 {
			t.Errorf("%s of %d bytes allocated %d", name, len(b), n)
		}
	}
}

func TestDecodersOnTheHotPathAllocateNothing(t *testing.T) {
	s := samples()
	params := make([][]byte, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		_, err1 := ParseQuery(s["Query"])
		_, _, oids, err2 := ParseParse(s["Parse"])
		_, _, _, err3 := BindNames(s["Bind"])
		_, _, err4 := ParseExecute(s["Execute"])
		_, err6 := ParseReadyForQuery(s["ReadyForQuery"])
		_, err7 := ParseBind(s["Bind"], params)
		_, err8 := ParseDataRow(s["DataRow"], params)
		_, _, err9 := ParseDescribe(s["Describe"])
		_, _, _, err10 := BindNames(s["Bind"][:1])
		if errors.Join(err1, err2, err3, err4, err6, err7, err8, err9) != nil || err10 == nil || oids.At(1) != 25 {
			t.Fatal("a sample was refused")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestDecodedStringsCannotGrowIntoTheirNeighbours(t *testing.T) {
	b := bytes.Clone(samples()["Bind"])
	got, err := ParseBind(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got.Portal, "overwritten"...)
	_ = append(got.Params[0], "overwritten"...)
	_ = append(got.ParamFormats, "overwritten"...)
	if !bytes.Equal(b, samples()["Bind"]) {
		t.Fatal("an append to a decoded part changed the message")
	}
}

// newOIDs returns the list of the given OIDs.
func newOIDs(oids ...uint32) (list OIDs) {
	for _, oid := range oids {
		list = binary.BigEndian.AppendUint32(list, oid)
	}
	return list
}
