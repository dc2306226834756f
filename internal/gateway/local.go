package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// lastRoute is what became of the client's last statement; other goroutines may
// read it.
type lastRoute struct {
	plan  atomic.Pointer[router.Plan]
	found atomic.Pointer[Route] // what the execution found out, nil when that is the plan
}

// action is what was done at last.
func (r *lastRoute) action() metrics.Action {
	if f := r.found.Load(); f != nil {
		return f.did
	}
	if p := r.plan.Load(); p != nil {
		return metrics.Action(p.Action)
	}
	return metrics.Local
}

func (r *lastRoute) String() string {
	if f := r.found.Load(); f != nil {
		return strings.TrimRight(f.Action+" "+f.Reason+" "+f.What, " ")
	}
	if p := r.plan.Load(); p != nil {
		return actionName(p.Action) + " " + string(p.Reason)
	}
	return ""
}

// note takes note of a plan that is about to be carried out.
func (s *session) note(plan *router.Plan) {
	s.srv.m.Queries[metrics.Action(plan.Action)].Inc()
	if s.began = s.attempt.now; s.began.IsZero() {
		s.began = time.Now()
	}
	s.attempt.now = time.Time{}
	if s.opened.IsZero() {
		s.opened = s.began
	}
	s.tally().queries.Add(1)
	if plan.Reason == router.ReasonPlain {
		s.srv.plain.Inc()
	} else if c := s.srv.reasons[plan.Reason]; c != nil {
		c.Inc()
	}
	if plan.Action == router.Refused || len(plan.Warnings) > 0 {
		s.srv.countRules(plan)
	}
	if plan.Local == nil || plan.Local.Kind == router.LocalExplain {
		s.decided = false
		s.route.plan.Store(plan)
		s.route.found.Store(nil)
	}
}

func actionName(a router.Action) string { return metrics.Action(a).String() }

// routed corrects the route by what the execution found out.
func (s *session) routed(did metrics.Action, reason router.Reason, g *group) {
	if c := s.srv.reasons[reason]; c != nil {
		c.Inc()
	}
	what := ""
	switch {
	case g.plan.Aggregates != nil:
		what = g.plan.Aggregates.View
	case g.plan.KNN != nil:
		what = g.plan.KNN.Table
	}
	r := &Route{
		At: time.Now(), PID: s.pid, Database: s.database, User: s.user, Took: time.Since(g.began),
		Text: string(g.sql[:min(len(g.sql), routeText+1)]), Action: did.String(), Reason: string(reason), What: what, did: did,
	}
	s.decided = true
	s.route.found.Store(r)
	s.srv.routes.add(*r)
}

// notAlone records that a statement which could be answered otherwise is passed, since
// it shares a transaction or a group with others, or since passable said so.
func (s *session) notAlone(plan *router.Plan, sql []byte) {
	reason := router.ReasonNotAlone
	if plan.Action == router.Cached {
		s.missed(plan, metrics.MissBypass)
		switch alone := s.first && s.cv.tx == wire.Idle && s.pins.Load() == 0 && s.mode != Session; {
		case alone && s.freshnessOf(plan.KNN.Table) == FreshOff:
			reason = router.ReasonKNNOff
		case alone:
			reason = router.ReasonNeverAgain
		}
	}
	s.routed(metrics.Pass, reason, &group{plan: plan, sql: sql, began: time.Now()})
}

// Route is one routed or cached statement, for the operators' page.
type Route struct {
	At                   time.Time
	PID                  uint32
	Database, User       string
	Text                 string // its beginning
	Took                 time.Duration
	Action, Reason, What string
	did                  metrics.Action
}

// routeText is how much of a statement the page shows, in bytes.
const routeText = 200

// routeLog keeps the last routes.
type routeLog struct {
	mu   sync.Mutex
	ring [64]Route
	n    int
}

func (l *routeLog) add(r Route) {
	l.mu.Lock()
	l.ring[l.n%len(l.ring)] = r
	l.n++
	l.mu.Unlock()
}

// Routes returns the last routed statements, newest first.
func (s *Server) Routes() []Route {
	l := &s.routes
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Route
	for i := l.n - 1; i >= 0 && i >= l.n-len(l.ring); i-- {
		x := l.ring[i%len(l.ring)]
		if len(x.Text) > routeText {
			x.Text = strings.ToValidUTF8(x.Text[:routeText], "") + "…"
		}
		list = append(list, x)
	}
	return list
}

// localQuery answers a statement of our own by the simple protocol.
func (s *session) localQuery(plan *router.Plan) error {
	s.note(plan)
	if s.cv.tx == wire.FailedTx {
		return s.refuse(errAborted(), true)
	}
	b := s.describeLocal(plan.Local, false)
	if plan.Local.Kind == router.LocalSet {
		b = b[:0] // a simple query without rows has no NoData
	}
	b = append(b, s.executeLocal(plan.Local)...)
	b = wire.AppendReadyForQuery(b, s.cv.tx)
	s.cv.expect(reply{msg: wire.Query, mode: fake, local: plan.Local, bytes: b})
	return nil
}

// describeLocal is the reply to a Describe of it.
func (s *session) describeLocal(l *router.LocalAnswer, statement bool) []byte {
	var b []byte
	if statement {
		b = wire.AppendParameterDescription(b, nil)
	}
	switch l.Kind {
	case router.LocalShow:
		return wire.AppendRowDescription(b, textFields("qvpgw."+l.Name))
	case router.LocalExplain:
		return wire.AppendRowDescription(b, textFields("QUERY PLAN"))
	}
	return wire.AppendNoData(b)
}

// executeLocal is the reply to an Execute of it.
func (s *session) executeLocal(l *router.LocalAnswer) []byte {
	var b []byte
	switch l.Kind {
	case router.LocalChannel:
		return wire.AppendCommandComplete(b, channelTag(l.Channel))
	case router.LocalShow:
		v, ok := s.showLocal(l.Name)
		if !ok {
			e := Error{Code: "42704", Message: fmt.Sprintf("unrecognized configuration parameter %q", "qvpgw."+l.Name), Hint: "There are qvpgw.route, qvpgw.cache, qvpgw.last_route, qvpgw.login, qvpgw.pins and qvpgw.version."}
			return wire.AppendErrorResponse(b, e.fields())
		}
		b = wire.AppendTextRow(b, v)
		return wire.AppendCommandComplete(b, "SHOW")
	case router.LocalExplain:
		for _, line := range s.explain(l.SQL) {
			for _, part := range folded(line) {
				b = wire.AppendTextRow(b, part)
			}
		}
		return wire.AppendCommandComplete(b, "EXPLAIN")
	}
	if !slices.Contains([]string{"route", "cache"}, l.Name) {
		e := Error{Code: "42704", Message: fmt.Sprintf("parameter %q cannot be set", "qvpgw."+l.Name), Hint: "There are qvpgw.route and qvpgw.cache."}
		return wire.AppendErrorResponse(b, e.fields())
	}
	if _, ok := switchValue(l.Value); !ok && !(l.Name == "cache" && freshness(l.Value) != FreshConfigured) {
		e := Error{Code: "22023", Message: fmt.Sprintf("invalid value for parameter %q: %q", "qvpgw."+l.Name, l.Value), Hint: "Available values: auto, off."}
		if l.Name == "cache" {
			e.Hint = "Available values: auto, strict, bounded, off."
		}
		return wire.AppendErrorResponse(b, e.fields())
	}
	return wire.AppendCommandComplete(b, "SET")
}

// switchValue reads a switch; on and default mean auto.
func switchValue(v string) (auto, ok bool) {
	switch strings.ToLower(v) {
	case "auto", "on", "default", "":
		return true, true
	case "off":
		return false, true
	}
	return false, false
}

// applyLocal carries a SET qvpgw.… out.
func (s *session) applyLocal(l *router.LocalAnswer) {
	if l.Kind == router.LocalChannel {
		s.channelStep(l.Channel)
		return
	}
	auto, ok := switchValue(l.Value)
	fresh := freshness(l.Value)
	if l.Kind != router.LocalSet || !ok && (l.Name != "cache" || fresh == FreshConfigured) {
		return
	}
	if s.cv.tx == wire.InTx && s.before == nil {
		before := s.switches
		s.before = &before
	}
	switch l.Name {
	case "route":
		s.noRoute = !auto
	case "cache":
		s.noCache, s.keeps = fresh == FreshOff, fresh
	}
}

// switches are the gateway's own settings of a session.
type switches struct {
	noRoute bool // SET qvpgw.route = off
	noCache bool
	keeps   Freshness // SET qvpgw.cache
}

func (s *session) showLocal(name string) (string, bool) {
	onOff := func(off bool) string {
		if off {
			return "off"
		}
		return "auto"
	}
	switch name {
	case "route":
		return onOff(s.noRoute), true
	case "cache":
		if s.keeps != FreshConfigured {
			return s.keeps.String(), true
		}
		return onOff(s.noCache), true
	case "last_route":
		return s.route.String(), true
	case "login":
		return s.loginText(), true
	case "pins":
		return strings.Join(router.Pins(s.pins.Load()).Names(), ","), true
	case "version":
		return s.srv.opt.Version, true
	}
	return "", false
}

// Type oids of our own answers.
const oidText = 25

func textFields(names ...string) []wire.Field {
	f := make([]wire.Field, len(names))
	for i, n := range names {
		f[i] = wire.Field{Name: n, TypeOID: oidText, TypeSize: -1, TypMod: -1}
	}
	return f
}
