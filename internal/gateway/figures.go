package gateway

import (
	"strings"

	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
	"qvpgw/internal/rules"
	"qvpgw/internal/wire"
)

// resolveMetrics finds the counters whose labels other packages define.
func (s *Server) resolveMetrics() {
	all := router.Reasons()
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = string(r)
	}
	s.reasons = make(map[router.Reason]*metrics.Count, len(all))
	counts := s.m.Reasons(names)
	for i := range counts {
		s.reasons[all[i]] = &counts[i]
	}
	s.plain = s.reasons[router.ReasonPlain]
	s.rules = map[string]metrics.RuleHits{}
	for i, h := range s.m.Rules(rules.Names()) {
		s.rules[rules.Names()[i]] = h
	}
}

// countRules counts what the rules said about a statement.
func (s *Server) countRules(p *router.Plan) {
	if p.Action == router.Refused {
		if h, ok := s.rules[strings.TrimPrefix(string(p.Reason), "rule_")]; ok {
			h.Refused.Inc()
		}
	}
	for i := range p.Warnings {
		if h, ok := s.rules[p.Warnings[i].Rule]; ok {
			h.Warned.Inc()
		}
	}
}

// warn tells the client what the rules say about a statement that runs.
func (s *session) warn(p *router.Plan) error {
	for i := range p.Warnings {
		w := &p.Warnings[i]
		b := wire.AppendNoticeResponse(nil, &wire.ErrorFields{
			Severity: wire.SeverityWarning, SeverityV: wire.SeverityWarning, Code: w.SQLState,
			Message: w.Message, Detail: w.Detail, Hint: w.Hint,
		})
		if err := s.conn.Stream.Inject(b); err != nil {
			return s.serverError(err)
		}
	}
	return nil
}
