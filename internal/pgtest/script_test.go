package pgtest

import (
	"strings"
	"testing"
)

func TestBothSidesOfAScriptPlayItTogether(t *testing.T) {
	const text = `
startup user=u database="my db"
> Query "select \"n\", null # no comment"   # a comment
< RowDescription n:23 t:25
< DataRow 1 null
< CommandComplete "SELECT 1"
< ReadyForQuery I
> Parse s1 "select $1" 23 0
> Bind "" s1 "a b" null
> Describe S s1
> Execute "" 5
> Close P ""
> Flush
> Sync
< ParseComplete
< BindComplete
< ParameterDescription 23 25
< NoData
< PortalSuspended
< CloseComplete
< EmptyQueryResponse
< ErrorResponse ERROR 42601 "syntax error" D=why H="do this"
< NoticeResponse WARNING 01000 careful
< NotificationResponse 7 channel payload
< ReadyForQuery E
sleep 1ms
> raw 51 00000006 3100
< raw 5a 00000005 54
> Query copy
< CopyInResponse 1
> CopyData "a\tb\n"
> CopyFail no
> CopyDone
< CopyOutResponse 0
< CopyData x
< CopyDone
> Password "p w"
> Terminate
> close
`
	// The reading side of "raw" sees bytes: its script has the message.
	theirs := strings.Replace(text, "> raw 51 00000006 3100", "> Query 1", 1)
	ours := strings.Replace(text, "< raw 5a 00000005 54", "< ReadyForQuery T", 1)
	for _, segment := range []int{0, 1} {
		served, run := MustScript(t, theirs), MustScript(t, ours)
		served.Segment, run.Segment = segment, segment
		run.Run(t, served.Serve(t))
	}
}

func TestTheGreetingMayAskForEncryptionFirst(t *testing.T) {
	const text = "> SSLRequest\n< raw 4e\n> GSSEncRequest\n< raw 4e\nstartup\n> Query 1\n< close\n"
	addr := MustScript(t, text).Serve(t)
	MustScript(t, text).Run(t, addr)
	MustScript(t, "> CancelRequest 3 4294967295\n> close\n").Run(t, MustScript(t, "> CancelRequest 3 4294967295\n> close\n").Serve(t))
}

func TestAnExpectationMayBeLoose(t *testing.T) {
	addr := MustScript(t, "startup\n> Query 1\n< DataRow 1 2 3\n< DataRow 2\n< ReadyForQuery I\n> close").Serve(t)
	MustScript(t, "startup\n> Query 1\n< DataRow * 2\n< *\n< ReadyForQuery\n> close").Run(t, addr)
	MustScript(t, "startup\n> Query 1\n< ... ReadyForQuery I\n> close").Run(t, addr)
	out, err := MustScript(t, "startup\n> Query 1\n< ReadyForQuery\n> close").Transcript(t.Context(), addr)
	if err != nil || !strings.HasSuffix(out, "ReadyForQuery I\nDataRow 1 2 3\nDataRow 2\nReadyForQuery I\n") {
		t.Errorf("transcript %q, %v", out, err)
	}
}

func TestADifferenceIsReportedWithItsLine(t *testing.T) {
	addr := MustScript(t, "startup\n> Query *\n< DataRow 1\n> close").Serve(t)
	for script, want := range map[string]string{
		"startup\n> Query 1\n< DataRow 2\n":      "line 3: expected [DataRow 2], got [DataRow 1]",
		"startup\n> Query 1\n< DataRow 1 2\n":    "line 3: expected [DataRow 1 2], got [DataRow 1]",
		"startup\n> Query 1\n< ReadyForQuery\n":  "line 3: expected [ReadyForQuery], got [DataRow 1]",
		"startup\n> Query 1\n< close\n":          "line 3: expected the other side to close, got [DataRow 1]",
		"startup\n> Query 1\n< raw 44 00000000b": "line 3: encoding/hex: odd length hex string",
	} {
		if have := clientError(t, script, addr); !strings.Contains(have, want) {
			t.Errorf("%q gave %q, want %q", script, have, want)
		}
	}
}

func TestAScriptThatCannotBeReadIsRefused(t *testing.T) {
	for script, want := range map[string]string{
		"\n> Quarry x":         `line 2: no message "Quarry" from that side`,
		"> DataRow 1":          `line 1: no message "DataRow" from that side`,
		"Query x":              `line 1: "Query" is not a step`,
		"> Execute \"\" many":  "line 1: cannot read the arguments of Execute",
		"> Query \"open":       "line 1: cannot read",
		"<":                    "line 1: a step without a message",
		"sleep long":           "line 1: time: invalid duration",
		"> raw 5x":             "line 1: encoding/hex",
		"> Query \"bad \\q\" ": "line 1: cannot read the string",
	} {
		if _, err := ParseScript(script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %s", script, err, want)
		}
	}
}

// clientError plays the client's side and returns what went wrong.
func clientError(t *testing.T, text, addr string) string {
	t.Helper()
	s, err := ParseScript(text)
	if err != nil {
		return err.Error()
	}
	conn := dial(t, addr)
	if err := s.play(conn, client); err != nil {
		return err.Error()
	}
	return ""
}
