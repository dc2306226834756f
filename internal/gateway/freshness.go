package gateway

import "strings"

// Freshness is what a kept answer has to be proven by.
type Freshness uint8

// The modes. FreshConfigured is that of the configuration, and there FreshStrict.
const (
	FreshConfigured Freshness = iota
	FreshStrict               // it holds after the question came
	FreshBounded              // it held at a moment of the last Options.MaxAge
	FreshOff                  // nothing is kept
)

var freshnessNames = [...]string{"auto", "strict", "bounded", "off"}

func (f Freshness) String() string { return freshnessNames[f] }

// freshness reads the value of SET qvpgw.cache or of the configuration;
// FreshConfigured for any other.
func freshness(v string) Freshness {
	for i, name := range freshnessNames {
		if strings.EqualFold(v, name) {
			return Freshness(i)
		}
	}
	return FreshConfigured
}

// ParseFreshness reads a value of the configuration: strict, bounded or off.
func ParseFreshness(v string) Freshness { return freshness(v) }

// freshnessOf is the mode of a table, schema.name, for the session.
func (s *session) freshnessOf(table string) Freshness {
	if s.keeps != FreshConfigured {
		return s.keeps
	}
	return s.srv.freshnessOf(table)
}

// freshnessOf is the mode that the configuration has for a table, schema.name.
func (s *Server) freshnessOf(table string) Freshness {
	opt := s.live.Load()
	if f, ok := opt.FreshTables[table]; ok {
		return f
	}
	if _, name, ok := strings.Cut(table, "."); ok {
		if f, ok := opt.FreshTables[name]; ok {
			return f
		}
	}
	return opt.Freshness
}
