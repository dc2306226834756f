package gateway

import "qvpgw/internal/pool"

// params are the reported parameters of a session: those that all sessions with the
// same startup settings begin with, and what came to differ.
type params struct {
	shared []pool.Param
	own    map[string]string
}

// get returns a parameter's value and whether there is one of that name.
func (p *params) get(name string) (string, bool) {
	if v, ok := p.own[name]; ok {
		return v, true
	}
	for i := range p.shared {
		if p.shared[i].Name == name {
			return p.shared[i].Value, true
		}
	}
	return "", false
}

// set changes a parameter, or adds one.
func (p *params) set(name, value string) {
	if have, ok := p.get(name); ok && have == value {
		return
	}
	if p.own == nil {
		p.own = map[string]string{}
	}
	p.own[name] = value
}

// value is get for a parameter that may be missing.
func (p *params) value(name string) string {
	v, _ := p.get(name)
	return v
}
