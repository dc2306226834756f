package router

import (
	"bytes"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// Spot is a place in the text of a k-NN query where a value stands that may be written
// in several ways: as a literal, as a parameter, and cast or not to the type that it has
// anyway. All texts of one shape have their spots at the same tokens, of which white
// space and comments are none.
type Spot struct {
	First, Last int // tokens that stand for the value, casts included
	Value       int // of these the literal or parameter
	Param       int // its number; 0: a literal
	// Alone says that the parameter stands nowhere else than in spots.
	Alone bool
	// Column is the one from which the value is a distance, and Type its type; "": the
	// value is a LIMIT or OFFSET.
	Column string
	Type   catalog.OID
	// Cast is the name of the type that it is cast to, "" without, and Modifier the token
	// of the type's modifier, -1 without.
	Cast     string
	Modifier int
}

// spots returns the spots of a k-NN query in the order of its text; those that cannot be
// told are left out.
func (t *neighbours) spots(n *pg_query.SelectStmt, text []byte, conforming bool) []Spot {
	list := tokens{at: map[int]int{}, text: text}
	for s := sqltext.NewScanner(text, conforming); ; {
		token := s.Next()
		if token.Kind == sqltext.EOF {
			break
		}
		if token.Kind != sqltext.Space && token.Kind != sqltext.Comment {
			list.at[token.Start] = len(list.all)
			list.all = append(list.all, token)
		}
	}
	found := make([]*Spot, len(list.all))
	note := func(n *pg_query.Node, col catalog.Column) {
		if s := list.spot(n); s != nil {
			s.Column, s.Type = col.Name, col.Type
			found[s.Value] = s
		}
	}
	refs := map[int]int{}
	visitMessage(n.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg_query.ParamRef:
			refs[int(x.Number)]++
		case *pg_query.Node:
			e := distance(x)
			if e == nil {
				return true
			}
			_, op, _ := qualified(e.Name)
			if col, ok := t.column(e.Lexpr); ok && t.hasDistance(e.Lexpr, op) {
				note(e.Rexpr, col)
			} else if col, ok := t.column(e.Rexpr); ok && t.hasDistance(e.Rexpr, op) {
				note(e.Lexpr, col)
			}
		}
		return true
	})
	for _, count := range []*pg_query.Node{n.LimitCount, n.LimitOffset} {
		if count.GetTypeCast() == nil {
			note(count, catalog.Column{})
		}
	}
	var spots []Spot
	for _, s := range found {
		if s != nil {
			spots = append(spots, *s)
			refs[s.Param]--
		}
	}
	for i := range spots {
		spots[i].Alone = spots[i].Param > 0 && refs[spots[i].Param] == 0
	}
	return spots
}

// tokens are those of a text.
type tokens struct {
	text []byte
	all  []sqltext.Token
	at   map[int]int // the number of the token that starts at a byte
}

// is says whether a token is a word or sign, in lower case.
func (l *tokens) is(i int, word string) bool {
	return i >= 0 && i < len(l.all) && bytes.EqualFold(l.all[i].Bytes(l.text), []byte(word))
}

// kind is that of a token, EOF where there is none.
func (l *tokens) kind(i int) sqltext.TokenKind {
	if i < 0 || i >= len(l.all) {
		return sqltext.EOF
	}
	return l.all[i].Kind
}

// spot finds a literal or parameter, bare or cast, in the text; nil: it is something
// else, or written in another way.
func (l *tokens) spot(n *pg_query.Node) *Spot {
	cast := n.GetTypeCast()
	if cast != nil {
		n = cast.Arg
	}
	s := &Spot{Modifier: -1}
	at := int32(-1)
	switch c := n.GetAConst(); {
	case n.GetParamRef() != nil:
		s.Param, at = int(n.GetParamRef().Number), n.GetParamRef().Location
	case c.GetSval() != nil, c.GetIval() != nil:
		at = c.Location
	}
	i, ok := l.at[int(at)]
	if !ok {
		return nil
	}
	s.First, s.Last, s.Value = i, i, i
	if cast == nil {
		return s
	}
	if _, s.Cast, ok = qualified(cast.TypeName.GetNames()); !ok || len(cast.TypeName.ArrayBounds) > 0 {
		return nil
	}
	call := l.is(i-2, "cast") && l.is(i-1, "(") && l.is(i+1, "as")
	if !call && !l.is(i+1, "::") {
		return nil
	}
	i += 2
	if l.is(i+1, ".") {
		i += 2
	}
	if k := l.kind(i); k != sqltext.Word && k != sqltext.Quoted {
		return nil
	}
	if len(cast.TypeName.Typmods) > 0 {
		if s.Modifier = i + 2; !l.is(i+1, "(") || l.kind(i+2) != sqltext.Integer || !l.is(i+3, ")") {
			return nil
		}
		i += 3
	}
	if call {
		s.First -= 2
		if i++; !l.is(i, ")") {
			return nil
		}
	}
	s.Last = i
	return s
}
