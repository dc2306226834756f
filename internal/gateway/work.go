package gateway

import (
	"sync"
	"time"

	"qvpgw/internal/knn"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/vector"
	"qvpgw/internal/wire"
)

// work is what a session needs while it has something to do. A parked one without
// a server connection mostly has nothing in it and gives it back: what an idle
// client costs is the session without it.
type work struct {
	client  wire.Stream // reads from the client, writes to the server held
	out     []byte      // answers of our own while no server connection is held
	cv      conversation
	up      serverWriter
	ahead   []byte // settings to send before the turn's first message
	attempt attempt
	quiet   bool // what is injected may fail
	reads   bool // the turn that easy found has statements that read alone
	hint    router.Hint
	light   bool // the turn is one that sendPlain sent, and nothing happened in it but its answer

	doubts  []doubt       // texts sent with PinCatalog
	due     sqltext.State // may have been left behind since the last check
	names   []string      // the settings among it
	pending []change      // settings of the open transaction
	marks   []savepoint   // of the open transaction

	unnamed     statement
	portal      *statement            // of the unnamed portal
	portals     map[string]*statement // of the named ones
	cursors     map[string]cursor     // of the transaction: those that read an aggregate
	gathered    []byte                // an extended group that may be answered otherwise
	keptKey     []byte                // that the answer of the statement under way may be kept under
	vector      vector.Value          // of its text, while its key is made
	round       knn.Waiter            // for its proof
	long        *long                 // a text on its way to the server
	interrupted *wire.ErrorFields     // a cancel that met a statement of ours
	rewrites    *rewritable           // the text that easy looked at
	pipeline    *pipeline             // whose reply step reads
	asking      bool                  // what asks sent is not answered to its end

	began      time.Time // of the turn's first statement
	opened     time.Time // when the transaction's first statement came
	sentBefore int64     // the Streams' counts at the last account
	readBefore int64
	scratch    []byte // for messages of our own, used up at once
	scratch2   []byte // a statement that is being decided on
}

var works = sync.Pool{New: func() any {
	w := new(work)
	w.client.Rest()
	return w
}}

// takeUp gives the session what it works with.
func (s *session) takeUp() {
	if s.work != nil {
		return
	}
	s.work = works.Get().(*work)
	s.up.s = s
	s.cv.tx = wire.Idle
	s.client.SetSrc(clientReader{s})
	s.sentBefore, s.readBefore = 0, 0
}

// layDown gives it back if there is nothing in it that the session needs again.
func (s *session) layDown() {
	w := s.work
	if s.conn != nil || !w.client.Clean() || !w.cv.idle() || len(w.doubts) > 0 || w.due != 0 || len(w.pending) > 0 ||
		w.unnamed.id != 0 || len(w.portals) > 0 || len(w.gathered) > 0 || len(w.out) > 0 || w.interrupted != nil {
		if s.phase == atClient {
			w.client.Release()
		}
		return
	}
	w.client.Rest()
	w.up.s, w.portal, w.long, w.cursors = nil, nil, nil, nil
	w.unnamed.plan, w.unnamed.bucket, w.unnamed.skeleton = nil, nil, nil
	w.unnamed.now.Store(nil)
	s.foreseen, s.foreseenFor = nil, nil
	w.light, w.rewrites = false, nil
	s.work = nil
	works.Put(w)
}
