package gateway

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// play feeds a conversation and tells what became of each server message. Of ops,
// those behind '>' are messages of the client, those behind '<' types of the
// server's messages; blanks separate nothing. Before a client's message, '-' says
// that it is ours and its reply is dropped, '=' that nobody is asked and '!' that
// the server will fail it in our stead.
//
// The answer has a letter for each reply: p passed, d dropped, e an error passed,
// i an error to be exchanged, n a notification, s a parameter, c a completion with
// effects, z ReadyForQuery, Z one that is dropped, B broken; f is a reply of our
// own. At the end C stands for copying, K for skipping, G for an open group and a
// number for the replies still expected.
func play(v *conversation, ops string) string {
	var told strings.Builder
	fakes := func() {
		for h := v.queue.head(); h != nil && h.mode == fake; h = v.queue.head() {
			told.WriteByte('f')
			v.queue.pop()
		}
	}
	client, m := true, pass
	for _, op := range []byte(ops) {
		switch {
		case op == '>' || op == '<':
			client = op == '>'
			if !client {
				fakes()
			}
		case client && op == '-':
			m = drop
		case client && op == '=':
			m = fake
		case client && op == '!':
			m = instead
		case client && op == 'U': // a SET, by the simple protocol
			v.expect(reply{msg: wire.Query, plan: &router.Plan{Effects: true}})
		case client:
			v.expect(reply{msg: op, mode: m})
			m = pass
		case !client:
			d, ends := v.fromServer(op)
			told.WriteByte(letter(d))
			if ends {
				v.queue.pop()
				fakes()
			}
		}
	}
	fakes()
	return told.String() + state(v)
}

func letter(d verdict) byte {
	switch {
	case d.event == broken:
		return 'B'
	case d.event == failed && d.mode == instead:
		return 'i'
	case d.event == failed:
		return 'e'
	case d.event == notified:
		return 'n'
	case d.event == reported:
		return 's'
	case d.event == ready && d.drop:
		return 'Z'
	case d.event == ready:
		return 'z'
	case d.event == completed:
		return 'c'
	case d.drop:
		return 'd'
	}
	return 'p'
}

func state(v *conversation) string {
	var s string
	if v.copying {
		s += "C"
	}
	if v.skip {
		s += "K"
	}
	if v.group {
		s += "G"
	}
	if v.queue.n > 0 {
		s += fmt.Sprint(v.queue.n)
	}
	if s == "" {
		return ""
	}
	return " " + s
}

func TestAConversationFollowsTheProtocol(t *testing.T) {
	f := func(ops, want string) {
		t.Helper()
		v := conversation{tx: wire.Idle}
		got := play(&v, ops)
		if got != want {
			t.Errorf("%s gives %q, want %q", ops, got, want)
		}
		if v.idle() != !strings.Contains(want, " ") {
			t.Errorf("%s: idle is %v", ops, v.idle())
		}
	}
	// The simple protocol.
	f(">Q<TDDCZ", "ppppz")
	f(">Q<IZ", "pz")
	f(">Q<TDCTDCZ", "ppppppz")
	f(">Q<EZ", "ez")
	f(">Q<TDEZ", "ppez")
	f(">Q<TDC", "ppp 1")
	f(">U<CZ", "cz")
	f(">U<CCZ", "ccz")
	f(">U<SCZ", "scz")
	f(">Q<NTNDNCNZ", "pppppppz")
	f(">Q<SANTDCZ", "snppppz")
	f(">F<VZ", "pz")
	f(">F<EZ", "ez")
	f(">-Q<CZ", "dZ")
	f(">-Q<TDNCZ", "ddddZ")
	f(">-Q<SCZ>Q<TDCZ", "sdZpppz")
	f(">-Q<EZ", "eZ") // an error of ours is the client's to know
	f(">=Q", "f")
	f(">Q=Q", " 2") // behind the server's answer
	f(">Q=Q<CZ", "pzf")

	// The extended protocol, one message or a whole pipeline at a time.
	f(">PBDES<12TDCZ", "pppppz")
	f(">P", " G1")
	f(">P<1>B<2>E<DC>S<Z", "ppppz")
	f(">PBES<12s", "ppp 1") // a portal stands; Sync is to come
	f(">PBES<12sZ", "pppz")
	f(">PDS<1tTZ", "pppz") // Describe of a statement
	f(">PDS<1tnZ", "pppz")
	f(">PBES<12IZ", "pppz")
	f(">CS<3Z", "pz")
	f(">PBESPBESBES<12CZ12DCZ2CZ", "pppzppppzppz")
	f(">S<Z", "z")
	f(">SS<ZZ", "zz")

	// Errors skip to the Sync; what was sent behind it counts.
	f(">PBES<E", "e 1")
	f(">PBES<EZ", "ez")
	f(">PBES<1EZ", "pez")
	f(">PBES<12DEZ", "pppez")
	f(">PBES<12DCEZ", "ppppez") // a deferred constraint fails at the Sync
	f(">PB<E", "e KG")
	f(">PB<E>S<Z", "ez")
	f(">PBESPBES<1EZ12CZ", "pezpppz")
	f(">PBESPBES<EZEZ", "ezez")

	// Shared statements: a Parse of ours before a Bind, or nobody's.
	f(">-PBES<12CZ", "dppz")
	f(">=PBES<2CZ", "fppz")
	f(">=P=B=D=E=S", "fffff")
	f(">PB=C=CS<12Z", "ppffz")
	f(">B=CES<2CZ", "pfpz")
	f(">-PBES<EZ", "ez")
	f(">B=CES<EZ", "ez") // a reply of ours behind an error is the server's to skip
	f(">=P!PBES<EZ", "fiz")
	f(">BE!PBES<2CEZ", "ppiz")
	f(">BE!PBES<EZ", "ez") // the first error ends the group

	// COPY.
	f(">Q<H", "p 1")
	f(">Q<HddcCZ", "pppppz")
	f(">Q<G", "p C1")
	f(">Q<GE", "pe 1")
	f(">Q<GEZ", "pez")
	f(">Q<GCZ", "ppz")
	f(">Q<GCGCTDCZ", "pppppppz")
	f(">PBES<12G", "ppp CG1")
	f(">PBESSS<12G", "ppp CG1") // a server that copies ignores Sync
	f(">PBES<12G>S<CZ", "pppp"+"z")
	f(">PBES<12G>S<EZ", "pppez")
	f(">PBESPBES<12GEZ", "pppez") // what comes instead of data fails the copy
	f(">PBESPBES<12G", "ppp C5")

	// What comes unasked.
	f("<N", "p")
	f("<A", "n")
	f("<S", "s")
	f("<E", "e") // the server ends the session
	f("<Z", "B")
	f("<D", "B")
	f(">Q<x", "B 1")
	f(">PS<Z", "B 2")
}

// A statement whose Parse failed or was skipped is not prepared, one behind the
// Sync is.
func TestAFailedGroupNamesTheParsesThatCameToNothing(t *testing.T) {
	a, b, c, d := &statement{id: 1}, &statement{id: 2}, &statement{id: 3}, &statement{id: 4}
	var v conversation
	for _, r := range []reply{
		{msg: wire.Parse, stmt: a, name: "a"},
		{msg: wire.Parse, stmt: b, name: "b"},
		{msg: wire.Bind},
		{msg: wire.Parse, stmt: c, name: "c", mode: drop},
		{msg: wire.Sync},
		{msg: wire.Parse, stmt: d, name: "d"},
		{msg: wire.Sync},
	} {
		v.expect(r)
	}
	if got := play(&v, "<1EZ1Z"); got != "pezpz" {
		t.Fatalf("the server's answers give %q", got)
	}
	if len(v.dead) != 2 || v.dead[0] != (deadParse{b, "b", false}) || v.dead[1] != (deadParse{c, "c", false}) {
		t.Errorf("dead are %v, want b and c", v.dead)
	}
}

func TestAConversationKeepsManyRepliesInOrder(t *testing.T) {
	var v conversation
	const n = maxReplies + 10
	for i := range n {
		if v.full() != (i >= maxReplies) {
			t.Fatalf("full is %v after %d replies", v.full(), i)
		}
		v.expect(reply{msg: wire.Sync, n: int32(i)})
		if i%3 == 0 { // the ring turns
			h := v.queue.head()
			v.expect(*h)
			v.queue.pop()
		}
	}
	last := map[int32]bool{}
	for v.queue.n > 0 {
		d, ends := v.fromServer(wire.ReadyForQuery)
		if d.event != ready || !ends || last[d.reply.n] {
			t.Fatalf("reply %d: %v, %v", d.reply.n, d.event, ends)
		}
		last[d.reply.n] = true
		v.queue.pop()
	}
	if len(last) != n {
		t.Errorf("%d replies came back, want %d", len(last), n)
	}
	if len(v.queue.ring) != len(v.queue.scratch) {
		t.Errorf("an empty queue holds a ring of %d", len(v.queue.ring))
	}
}

// serverOf says what a server answers to a client's messages. An Execute of a COPY
// FROM STDIN is 'X'. It ends with what the server still waits for, nothing.
func serverOf(r *rand.Rand, messages []byte) (answers [][]byte) {
	skip, copying := false, false
	for _, m := range messages {
		var a string
		switch {
		case copying && m == 'S':
		case copying && m == 'c':
			a, copying = "C", false
		case copying && m == 'd':
		case copying:
			a, copying, skip = "E", false, true
		case m == 'S':
			a, skip = "Z", false
		case skip, m == 'd', m == 'c':
		case r.IntN(7) == 0:
			a, skip = "NE", true
		case m == 'X':
			a, copying = "G", true
		default:
			a = map[byte]string{'P': "1", 'B': "2", 'D': "NT", 'E': "DDC", 'C': "3"}[m]
		}
		answers = append(answers, []byte(a))
	}
	return answers
}

// feed plays a client that hears the server's answers late or early: late[i] is how
// many of the answers it has heard before it sends message i. It behaves as a
// session does: while the conversation skips or copies, messages are not expected.
func feed(messages []byte, modes []mode, answers [][]byte, lag func() int) string {
	v := conversation{tx: wire.Idle}
	var told strings.Builder
	heard := 0
	fakes := func() {
		for h := v.queue.head(); h != nil && h.mode == fake; h = v.queue.head() {
			told.WriteByte('f')
			v.queue.pop()
		}
	}
	hear := func(upTo int) {
		for ; heard < upTo; heard++ {
			for _, typ := range answers[heard] {
				fakes()
				d, ends := v.fromServer(typ)
				told.WriteByte(letter(d))
				if ends {
					v.queue.pop()
				}
			}
		}
	}
	for i, m := range messages {
		hear(max(heard, i-lag()))
		switch {
		case m == 'd', m == 'c':
			hear(i) // a client that copies has heard that it may
			if m == 'c' {
				v.copying = false
			}
		case v.copying, v.skip && m != 'S':
		default:
			if m == 'X' {
				m = 'E'
			}
			v.expect(reply{msg: m, mode: modes[i]})
		}
	}
	hear(len(messages))
	fakes()
	return told.String() + state(&v)
}

// What becomes of a message does not depend on when the client's next ones came.
func TestFeedingAConversationByPiecesEqualsFeedingItAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		var messages []byte
		for range 1 + r.IntN(4) {
			for range r.IntN(6) {
				messages = append(messages, "PBDEC"[r.IntN(5)])
			}
			if r.IntN(6) == 0 {
				messages = append(messages, 'X', 'd', 'd', 'c')
			}
			messages = append(messages, 'S')
		}
		modes := make([]mode, len(messages))
		asked := make([]byte, len(messages)) // what the server sees
		for i, m := range messages {
			asked[i] = m
			if m != 'S' && m != 'X' && m != 'd' && m != 'c' {
				modes[i] = []mode{pass, pass, drop, fake}[r.IntN(4)]
			}
			if modes[i] == fake {
				asked[i] = 'd' // nothing, outside a copy
			}
		}
		answers := serverOf(r, asked)
		want := feed(messages, modes, answers, func() int { return 0 })
		if strings.ContainsAny(want, "B ") {
			t.Fatalf("%s answered by %s gives %q", messages, answers, want)
		}
		for range 3 {
			got := feed(messages, modes, answers, func() int { return r.IntN(len(messages)) })
			if got != want {
				t.Fatalf("%s answered by %s gives %q at once, %q in pieces", messages, answers, want, got)
			}
		}
	}
}

// What run takes in one go is what fromServer takes one by one.
func TestARunOfRepliesIsWhatItsMessagesAreOneByOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	client := []byte{wire.Query, wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Close, wire.Sync}
	server := []byte{
		wire.DataRow, wire.DataRow, wire.RowDescription, wire.NoData, wire.CommandComplete, wire.EmptyQueryResponse, wire.ParseComplete,
		wire.BindComplete, wire.ParameterDescription, wire.CloseComplete, wire.ReadyForQuery, wire.NoticeResponse, wire.ErrorResponse,
	}
	taken, readied := 0, 0
	for range 20000 {
		var one, other conversation
		for range 1 + r.IntN(3) {
			x := reply{msg: client[r.IntN(len(client))], mode: mode(r.IntN(8) / 7)}
			if r.IntN(8) == 0 {
				x.plan = &router.Plan{Effects: true}
			}
			if r.IntN(8) == 0 {
				x.of = new(statement)
			}
			one.expect(x)
			other.expect(x)
		}
		var b []byte
		for range 1 + r.IntN(6) {
			b = wire.AppendHeader(b, server[r.IntN(len(server))], 2)
			b = append(b, 'I', 0)
		}
		b = b[:len(b)-r.IntN(3)] // perhaps the last is not whole
		n := one.run(b)
		taken += n
		if _, ok := one.ready(append([]byte{wire.ReadyForQuery, 0, 0, 0, 5}, b[min(n+5, len(b)):]...)); ok {
			readied++
			one.queue.pop()
			b = append(b[:n:n], wire.ReadyForQuery, 0, 0, 0, 5, 'I', 0)
			n = len(b)
		}
		for len(b[:n]) > 0 {
			head := *other.queue.head()
			v, ends := other.fromServer(b[0])
			if v.drop || v.event != nothing && v.event != ready || head.of != nil && head.msg == wire.Describe && b[0] != wire.DataRow {
				t.Fatalf("a run takes %q, which is %+v, for %+v", b[0], v, head)
			}
			if ends {
				other.queue.pop()
			}
			b, n = b[7:], n-7
		}
		if got, want := fmt.Sprintf("%+v", one), fmt.Sprintf("%+v", other); got != want {
			t.Fatalf("a run ends in\n%s\none by one it is\n%s", got, want)
		}
	}
	if taken == 0 || readied == 0 {
		t.Fatalf("runs of %d bytes and %d ends were taken", taken, readied)
	}
}
