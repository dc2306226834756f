package gateway

import (
	"encoding/binary"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// mode says what becomes of the server's reply to one message.
type mode uint8

const (
	pass    mode = iota // goes to the client
	drop                // answers a message of ours; an error in it still goes to the client
	fake                // no server answers it: bytes are the reply
	instead             // the server will fail it; bytes are the error that the client gets
)

// reply is what is expected for one message. The queue of replies is the one
// mechanism behind shared prepared statements, statements that we inject and
// answers of our own.
type reply struct {
	msg  byte // type of the message that is answered
	mode mode
	n    int32        // statements of a simple query that are complete
	plan *router.Plan // whose statements' completions change what we track; or nil
	stmt *statement   // for Parse: what it prepares, for the client under name
	name string
	of   *statement // that a Bind binds, or whose columns a Describe of ours asks for
	// placed: name is the client's, and the statement is prepared under it besides.
	placed bool
	local  *router.LocalAnswer // takes effect when the reply leaves
	bytes  []byte
	pins   router.Pins // taken for this message
	doubts int32       // kept for this message
	began  bool        // of a simple query: a part of it was answered

	ahead    bool // settings sent ahead of a statement
	quiet    bool // nobody is told should it fail: a simple query of ours
	restored bool // a RESET, behind which the startup packet's settings were set again
}

// event is what a server message means to the session beyond being passed on.
type event uint8

const (
	nothing   event = iota
	completed       // CommandComplete or EmptyQueryResponse of a statement with effects
	failed          // ErrorResponse
	reported        // ParameterStatus
	notified        // NotificationResponse
	ready           // ReadyForQuery: the body has the status
	broken          // a message that cannot come here
)

// verdict is what to do with one server message.
type verdict struct {
	drop  bool
	event event
	mode  mode   // of the reply it belongs to
	bytes []byte // likewise
	// pins and doubts are likewise, of a simple query that failed before anything of it ran.
	pins   router.Pins
	doubts int32
	ahead  bool       // likewise
	of     *statement // likewise
	quiet  bool       // likewise
	reply  *reply     // likewise, valid until the next expect or pop; nil after failed
}

// conversation is the protocol state between a client and its server connection
// (PostgreSQL 17, chapter 53.2). It is a pure value fed with the types of
// messages, without I/O, so that a goroutine and an event loop can drive it alike
// (trap T12).
type conversation struct {
	queue   queue
	tx      wire.TxStatus
	copying bool // the server takes CopyData from the client
	skip    bool // an extended message failed: nothing counts until Sync
	group   bool // extended messages were sent since the last Sync

	pins   router.Pins // taken for the next message that passes
	doubts int32       // kept for it
	// undone are the pins of what failed before it ran or was skipped; the session
	// takes them back.
	undone router.Pins
	// lost says that a statement of ours in the group did not run.
	lost bool
	// mute: the error of a statement of ours was passed instead of that which the
	// client's next statement will have.
	mute bool
	// dead are the statements whose Parse failed or was skipped; the session
	// forgets them.
	dead []deadParse
}

// deadParse is a Parse that came to nothing.
type deadParse struct {
	stmt   *statement
	name   string
	placed bool
}

// maxReplies bounds the queue: a client that pipelines more is not read until
// the server has answered.
const maxReplies = 4096

// expect notes that r's message goes to the server (or, with fake, to nobody).
func (v *conversation) expect(r reply) {
	if r.mode == pass {
		r.pins, v.pins = v.pins, 0
		r.doubts, v.doubts = v.doubts, 0
	}
	v.queue.push(r)
	switch r.msg {
	case wire.Query, wire.FunctionCall:
	case wire.Sync:
		v.group, v.skip = false, false
	default:
		v.group = true
	}
}

// full says that the client must not be read for now.
func (v *conversation) full() bool { return v.queue.n >= maxReplies }

// idle says that nothing is expected and nothing is half sent.
func (v *conversation) idle() bool {
	return v.queue.n == 0 && !v.copying && !v.group && !v.skip
}

// fromServer takes the type of the server's next message and says what becomes
// of it. For the message that ends a reply the caller then calls pop.
func (v *conversation) fromServer(typ byte) (d verdict, ends bool) {
	switch typ {
	case wire.NoticeResponse:
		h := v.queue.head()
		return verdict{drop: h != nil && h.mode == drop}, false
	case wire.ParameterStatus:
		d = verdict{event: reported, reply: v.queue.head()}
		if d.reply != nil {
			d.mode = d.reply.mode
		}
		return d, false
	case wire.NotificationResponse:
		return verdict{event: notified}, false
	}
	h := v.queue.head()
	if h == nil {
		if typ == wire.ErrorResponse {
			return verdict{event: failed}, false // the server ends the session
		}
		return verdict{event: broken}, false
	}
	d = verdict{drop: h.mode == drop, mode: h.mode, bytes: h.bytes, ahead: h.ahead, of: h.of, reply: h}
	whole := h.msg == wire.Query || h.msg == wire.FunctionCall // up to ReadyForQuery
	switch typ {
	case wire.ReadyForQuery:
		if !whole && h.msg != wire.Sync {
			d.event = broken
			return d, false
		}
		d.event = ready
		if h.mode == pass {
			v.mute = false
		}
		v.copying = false
		return d, true
	case wire.ErrorResponse:
		d.event = failed
		d.drop = false
		v.copying = false
		d.reply = nil
		if !whole {
			d.quiet = h.quiet
			v.fail()
			return d, false
		}
		if h.quiet {
			d.quiet = true
			if h.placed {
				v.dead = append(v.dead, deadParse{h.stmt, h.name, true})
			}
			return d, false
		}
		if !h.began {
			d.pins, d.doubts = h.pins, h.doubts
		}
		switch {
		case h.placed:
			// What the client sent next fails for want of this; one error is enough.
			v.dead = append(v.dead, deadParse{h.stmt, h.name, true})
			v.mute = true
		case v.mute && h.mode == pass:
			v.mute, d.drop = false, true
		}
		return d, false
	case wire.CommandComplete, wire.EmptyQueryResponse:
		h.began = true
		if h.plan != nil && h.plan.Effects {
			d.event = completed
		}
		v.copying = false
		return d, h.msg == wire.Execute
	case wire.PortalSuspended:
		return d, h.msg == wire.Execute
	case wire.ParseComplete:
		return d, h.msg == wire.Parse
	case wire.BindComplete:
		return d, h.msg == wire.Bind
	case wire.CloseComplete:
		return d, h.msg == wire.Close
	case wire.RowDescription, wire.NoData:
		h.began = true
		return d, h.msg == wire.Describe
	case wire.CopyInResponse, wire.CopyBothResponse:
		v.copying, h.began = true, true
		v.dropSyncs()
		return d, false
	case wire.DataRow, wire.CopyData, wire.CopyDone, wire.CopyOutResponse,
		wire.ParameterDescription, wire.FunctionCallResponse:
		return d, false
	}
	d.event = broken
	return d, false
}

// plain says that the reply to r is passed on and means nothing to the session until it
// ends. A long text's plan, and a reply that is dropped after all, are known only after
// expect.
func (r *reply) plain() bool {
	return r.mode == pass && r.plan == nil && (r.of == nil || r.msg != wire.Describe)
}

// run takes the whole messages at the beginning of b that are passed on and mean
// nothing to the session, and returns their length. It is what fromServer and pop do
// for them one by one, up to the first that either the session has to look at or
// begins no plain reply.
func (v *conversation) run(b []byte) int {
	n := 0
	for h := v.queue.head(); h != nil && h.plain() && len(b)-n >= 5; {
		size := int(binary.BigEndian.Uint32(b[n+1:])) + 1
		if size < 5 || size > len(b)-n {
			break
		}
		ends := false
		switch b[n] {
		case wire.DataRow, wire.ParameterDescription:
		case wire.RowDescription, wire.NoData:
			h.began = true
			ends = h.msg == wire.Describe
		case wire.CommandComplete, wire.EmptyQueryResponse:
			h.began = true
			v.copying = false
			ends = h.msg == wire.Execute
		case wire.ParseComplete:
			ends = h.msg == wire.Parse
		case wire.BindComplete:
			ends = h.msg == wire.Bind
		default:
			return n
		}
		n += size
		if ends {
			v.queue.pop()
			h = v.queue.head()
		}
	}
	return n
}

// ready takes a ReadyForQuery at the beginning of b that ends a plain reply; the caller
// then calls pop. It is what fromServer does for it.
func (v *conversation) ready(b []byte) (tx wire.TxStatus, ok bool) {
	h := v.queue.head()
	if h == nil || !h.plain() || len(b) < readyLen || b[0] != wire.ReadyForQuery || binary.BigEndian.Uint32(b[1:]) != readyLen-1 {
		return 0, false
	}
	if h.msg != wire.Query && h.msg != wire.Sync && h.msg != wire.FunctionCall {
		return 0, false
	}
	tx, err := wire.ParseReadyForQuery(b[5:readyLen])
	if err != nil {
		return 0, false
	}
	v.mute, v.copying = false, false
	return tx, true
}

// readyLen is the length of a ReadyForQuery in bytes.
const readyLen = 6

// fail discards what the server will not answer after an error in an extended
// group: everything up to the Sync that ends it.
func (v *conversation) fail() {
	ran := true // at least in part: the first, unless it only prepared something
	for h := v.queue.head(); h != nil; h = v.queue.head() {
		if h.msg == wire.Sync {
			return
		}
		if !ran || h.msg == wire.Parse {
			v.undone |= h.pins
		}
		ran = false
		v.lost = v.lost || h.mode == drop && h.msg == wire.Execute
		if h.stmt != nil {
			v.dead = append(v.dead, deadParse{h.stmt, h.name, h.placed})
		}
		v.queue.pop()
	}
	v.skip = true
}

// dropSyncs forgets the Syncs that were sent behind an Execute which turned out
// to be COPY FROM STDIN: the server ignores Flush and Sync while it copies.
func (v *conversation) dropSyncs() {
	if v.queue.head().msg != wire.Execute {
		return
	}
	for v.queue.n > 1 && v.queue.at(1).msg == wire.Sync {
		head := *v.queue.head()
		v.queue.pop()
		*v.queue.head() = head
	}
	for i := range v.queue.n {
		if v.queue.at(i).msg == wire.Sync {
			return
		}
	}
	v.group = true
}

// queue is a ring of replies that grows up to maxReplies and a little.
type queue struct {
	ring    []reply
	first   int
	n       int
	scratch [4]reply // most turns need no more
}

func (q *queue) push(r reply) {
	if q.ring == nil {
		q.ring = q.scratch[:]
	}
	if q.n == len(q.ring) {
		ring := make([]reply, 2*len(q.ring))
		for i := range q.n {
			ring[i] = *q.at(i)
		}
		q.ring, q.first = ring, 0
	}
	q.ring[(q.first+q.n)&(len(q.ring)-1)] = r
	q.n++
}

func (q *queue) at(i int) *reply { return &q.ring[(q.first+i)&(len(q.ring)-1)] }

// head returns the oldest reply, or nil.
func (q *queue) head() *reply {
	if q.n == 0 {
		return nil
	}
	return q.at(0)
}

func (q *queue) pop() {
	*q.at(0) = reply{}
	q.first = (q.first + 1) & (len(q.ring) - 1)
	q.n--
	if q.n == 0 && len(q.ring) > 64 {
		q.ring, q.first = q.scratch[:], 0
	}
}
