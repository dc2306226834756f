package router

import (
	"strconv"
	"strings"
	"sync"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// template is a parsed SELECT over a hypertable from which other texts of its
// shape are planned without the parser: their trees differ in the values of
// literals alone.
type template struct {
	plan    *Plan // what does not depend on literals
	spots   []spot
	counted map[string]bool // names of time columns that are integers

	mu   sync.Mutex     // protects what follows
	stmt *pg_query.Node // with the literals of whoever was planned last
	seen bool           // a rewrite of this shape was proven to parse back to what was meant
	// free says which literals a sketch of the shape fills in; nil when no sketch can be.
	free []bool
	once [4]uint64 // hashes of the other literals of those planned last
	next int       // of once, and of a state's sketches of the template
}

// spot is where the value of a literal of the text stands in the tree.
type spot struct {
	value    *pg_query.A_Const
	negative bool // the tree has the sign in the value
}

// newTemplate returns the template of a text, of which stmt is the tree; nil when a
// literal of it cannot be found in the tree.
func newTemplate(plan *Plan, snap *catalog.Snapshot, stmt *pg_query.Node, text []byte, conforming bool) *template {
	values := map[int32]*pg_query.A_Const{}
	n := 0
	visit(stmt, func(m any) bool {
		if c, ok := m.(*pg_query.A_Const); ok && !c.Isnull && c.GetBoolval() == nil {
			values[c.Location] = c
			n++
		}
		return true
	})
	t := &template{plan: plan, stmt: stmt, counted: countedTime(snap)}
	sign := int32(-1) // where a minus stands before the token
	for s := sqltext.NewScanner(text, conforming); ; {
		token := s.Next()
		switch token.Kind {
		case sqltext.EOF:
			if n != len(t.spots) {
				return nil
			}
			return t
		case sqltext.Space, sqltext.Comment:
			continue
		case sqltext.String, sqltext.Integer, sqltext.Decimal:
			at := spot{value: values[int32(token.Start)]}
			if at.value == nil && sign >= 0 {
				at = spot{value: values[sign], negative: true}
			}
			if at.value == nil {
				return nil
			}
			t.spots = append(t.spots, at)
		case sqltext.UString, sqltext.BitString, sqltext.HexString:
			return nil
		default:
			if c := values[int32(token.Start)]; c.GetSval() != nil {
				n-- // a word, as in extract(hour FROM …), is the shape's
			}
		}
		sign = -1
		if token.End-token.Start == 1 && text[token.Start] == '-' {
			sign = int32(token.Start)
		}
	}
}

// fill puts the literals of a text of the same shape into the tree; false when one
// is of a kind that is left to the parser. mu is held.
func (t *template) fill(text []byte, conforming bool) bool {
	i := 0
	for s := sqltext.NewScanner(text, conforming); ; {
		token := s.Next()
		switch token.Kind {
		case sqltext.EOF:
			return i == len(t.spots)
		case sqltext.String, sqltext.Integer, sqltext.Decimal:
			if i == len(t.spots) || !t.spots[i].put(text, token) {
				return false
			}
			i++
		}
	}
}

// put writes the value of one token. Strings with a prefix, and numbers in other
// than decimal digits, are left to the parser.
func (p spot) put(text []byte, token sqltext.Token) bool {
	src := text[token.Start:token.End]
	switch token.Kind {
	case sqltext.String:
		if src[0] != '\'' || token.Escapes {
			return false
		}
		value := string(src[1 : len(src)-1])
		if strings.Contains(value, "''") {
			value = strings.ReplaceAll(value, "''", "'")
		}
		if s, ok := p.value.Val.(*pg_query.A_Const_Sval); ok {
			s.Sval.Sval = value
		} else {
			p.value.Val = &pg_query.A_Const_Sval{Sval: &pg_query.String{Sval: value}}
		}
		return true
	case sqltext.Integer:
		if n, err := strconv.ParseInt(string(src), 10, 32); err == nil {
			if p.negative {
				n = -n
			}
			p.value.Val = &pg_query.A_Const_Ival{Ival: &pg_query.Integer{Ival: int32(n)}}
			return true
		}
	}
	for _, c := range src {
		if c != '.' && (c < '0' || c > '9') {
			return false
		}
	}
	value := string(src)
	if p.negative {
		value = "-" + value
	}
	p.value.Val = &pg_query.A_Const_Fval{Fval: &pg_query.Float{Fval: value}}
	return true
}

// fill plans a text from the template of its shape; false when it cannot be. Without
// trees it can be by a sketch alone, and not while another text is being planned.
func (r *Router) fill(t *template, c *Context, st *state, text []byte, params []Param, trees bool) (made, bool) {
	if trees {
		t.mu.Lock()
	} else if !t.mu.TryLock() {
		return made{}, false
	}
	defer t.mu.Unlock()
	if !t.fill(text, c.ConformingStrings) {
		return made{}, false
	}
	p := *t.plan
	m := made{plan: &p}
	if params == nil && r.sketched(&m, t, c, st) {
		m.sketched = true
		return m, true
	}
	if !trees {
		return made{}, false
	}
	stmt := t.stmt
	if params != nil {
		stmt = proto.Clone(stmt).(*pg_query.Node)
		bind(stmt, t.counted, params)
	}
	if f, call := calledFunction(stmt.GetSelectStmt(), st.view); f != nil {
		r.called(&m, c, st.view, stmt, f, call, t.seen, params != nil)
	} else if b := r.aggregate(&m, c, st.view.snap, stmt, t.seen, params != nil); params == nil {
		t.sketch(b, st)
	}
	t.seen = t.seen || p.Aggregates != nil
	if p.Action != Pass {
		p.mentioned = nil
	}
	return m, true
}
