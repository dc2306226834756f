package gateway

import (
	"qvpgw/internal/router"
)

// For who wants to know why connections are not shared: each transaction that leaves
// its client pinned is counted with one reason, the one that ends last, and with the
// kind of the statement that began it.

// blame takes note of a plan that is about to keep the server connection, if no other
// does already, or none for good.
func (s *session) blame(plan *router.Plan) {
	switch {
	case s.culprit == nil && plan.Pins|router.Pins(s.pins.Load()) != 0, s.kept != 0 && !s.lastly:
		s.culprit, s.lastly = plan, s.kept != 0
	}
}

// byDuration has the pins in the order of how long they stay, as a rule.
var byDuration = [...]router.Pins{
	router.PinProcess, router.PinLoad, router.PinSeed, router.PinSequence, router.PinStatement,
	router.PinTemp, router.PinListen, router.PinAdvisory, router.PinCursor, router.PinPrepare, router.PinSetting,
	router.PinUnparsed, router.PinFunction, router.PinRelation, router.PinDo, router.PinCatalog,
}

// reason is why the client keeps its connection now.
func (s *session) reason() string {
	pins := router.Pins(s.pins.Load())
	if s.kept != 0 && pins&router.PinTemp == 0 {
		pins = s.kept
	}
	for _, p := range byDuration {
		if pins&p != 0 {
			return p.Names()[0]
		}
	}
	return "none"
}

// culpritKind is the kind of the statement that began it.
func (s *session) culpritKind() string {
	switch {
	case s.culprit == nil:
		return "none"
	case len(s.culprit.Statements) == 0:
		return "unparsed"
	}
	return s.culprit.Statements[0].Kind.String()
}
