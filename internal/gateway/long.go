package gateway

import (
	"bytes"

	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
)

// A text longer than limits.max_statement passes as it is, part by part; nothing
// holds the whole of it. What it does to the session is read from its skeleton, which
// is cut from the parts on their way to the server: before the last of them leaves,
// the text has a plan like any other. One without a skeleton that can be planned
// keeps the client on its connection (unparsed).

// maxSkeleton bounds a skeleton, in bytes.
const maxSkeleton = 64 << 10

// long is such a text under way.
type long struct {
	skeleton *sqltext.Skeleton
	skip     int        // bytes before the text
	left     int        // bytes of the message
	stmt     *statement // that a Parse makes, nil for a simple query
}

// follow has the message that is forwarded next read on its way; its text begins
// behind skip bytes.
func (s *session) follow(m *message, skip int, st *statement) error {
	c := s.context()
	if m.mem != nil {
		s.kept |= router.PinUnparsed
		return nil
	}
	if err := s.client.Flush(); err != nil {
		return s.clientError(err)
	}
	s.long = &long{
		skeleton: sqltext.NewSkeleton(c.ConformingStrings || c == blind[0], c == blind[0], maxSkeleton), skip: skip, left: m.Len + 5, stmt: st,
	}
	return nil
}

// passes is told what goes to the server while a long text does.
func (s *session) passes(b []byte) {
	l := s.long
	b = b[:min(len(b), l.left)]
	l.left -= len(b)
	n := min(l.skip, len(b))
	l.skip -= n
	b = b[n:]
	if end := bytes.IndexByte(b, 0); end >= 0 { // types may follow
		l.skeleton.Write(b[:end])
		l.skip = l.left
	} else if len(b) > 0 {
		l.skeleton.Write(b)
	}
	if l.left == 0 {
		s.long = nil
		s.judge(l)
	}
}

// judge gives a long text, of which the last part is about to leave, its plan.
func (s *session) judge(l *long) {
	text, ok := l.skeleton.Text()
	if !ok {
		s.kept |= router.PinUnparsed
		return
	}
	s.generation = s.db.router.Generation()
	plan := longPlan(s.db.router.Plan(s.context(), text))
	if plan == unparsed {
		s.kept |= router.PinUnparsed
		return
	}
	r := s.cv.queue.at(s.cv.queue.n - 1)
	s.noteNotify(plan)
	s.unpin(r.pins & router.PinUnparsed)
	s.cv.pins = r.pins &^ router.PinUnparsed
	if l.stmt != nil {
		l.stmt.skeleton, l.stmt.plan = bytes.Clone(text), plan
		s.pinFor(plan, plan.Pins, text) // planning may run what the text calls
	} else {
		certain := s.certain(plan, text)
		s.pinFor(plan, plan.Pins|unsure(plan, certain), text)
		s.noteEffects(plan, certain)
		r.plan = effects(plan)
	}
	r.pins, s.cv.pins = s.cv.pins, 0
}

// longPlan is a long text's plan, of that of its skeleton: it passes. What names
// prepared statements or channels had to be looked at before it was sent.
func longPlan(p *router.Plan) *router.Plan {
	n := &p.Names
	switch {
	case p.Pins&router.PinUnparsed != 0, p.Action == router.Refused, p.Action == router.Local,
		len(n.Uses) > 0, len(n.Executes) > 0, n.Prepares != "", n.Prepared, n.Listening, n.Channel != nil:
		return unparsed
	case p.Action == router.Pass && len(p.Warnings) == 0:
		return p
	}
	passed := *p
	passed.Action, passed.Warnings = router.Pass, nil
	return &passed
}

// planOfLong is planOf for a text too long to keep.
func (s *session) planOfLong(st *statement) *router.Plan {
	if st.skeleton == nil {
		return st.plan
	}
	return longPlan(s.plan(st.skeleton))
}

// releaseLong ends the pin of long statements when the client has none any more.
func (s *session) releaseLong() {
	if router.Pins(s.pins.Load())&router.PinStatement == 0 || s.fixed || s.unnamed.isLong() {
		return
	}
	for _, st := range s.named {
		if st.isLong() {
			return
		}
	}
	s.unpin(router.PinStatement)
}

// isLong says whether a statement is one that is on the client's connection alone.
func (st *statement) isLong() bool { return st.id != 0 && st.own && st.plan.Action != router.Local }
