package gateway

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/vector"
	"qvpgw/internal/wire"
)

// keyForm is what a key was made by: of which kind the vectors are. A key under which
// two forms of one vector are the same tells no more than that when the column has
// another kind by now, so it holds only while the kind does.
type keyForm struct {
	kind   vector.Kind // 0: values are as they are written
	column string
}

// formOf returns what a key of g is to be made by now.
func (s *session) formOf(g *group, fresh Freshness) (f keyForm) {
	facts, ok := s.db.memory.log.Facts(g.plan.KNN.Tables[0])
	if !ok || len(g.plan.KNN.Spots) == 0 {
		return f
	}
	kind, ok := vector.ParseKind(facts.VectorType)
	if !ok || kind == vector.Halfvec && fresh == FreshBounded {
		return f // what is rounded alike may not be under a definition that is newer than the round
	}
	return keyForm{kind, facts.Vector}
}

// paramSet is a set of parameters by their numbers, of which those up to 63 can be in it.
type paramSet uint64

func (p paramSet) has(n int) bool { return n < 64 && p>>n&1 == 1 }

func (p *paramSet) add(n int) bool {
	*p |= 1 << n
	return n > 0 && n < 64
}

// appendKey appends every fact that the answer depends on besides the database's state
// and what the rounds look at, each with its length. How the messages are grouped is
// not among them: kept answers are put together for each. Nor is how a vector or a limit
// is written, where that is known to say nothing.
func (s *session) appendKey(b []byte, g *group, f keyForm) []byte {
	at := len(b)
	if f.kind != 0 {
		var without paramSet
		var ok bool
		if b, without, ok = s.appendText(append(b, 'c'), g, f); ok {
			return s.appendFacts(b, g, without)
		}
	}
	return s.appendFacts(appendField(append(b[:at], 'r'), g.sql), g, 0)
}

// appendText appends the text of g with the values in the place of its spots; false: one
// of them is not understood. without are the parameters that this tells.
func (s *session) appendText(b []byte, g *group, f keyForm) (_ []byte, without paramSet, ok bool) {
	spots := g.plan.KNN.Spots
	var first []byte // vector of the key
	from := 0        // of the text that is not in the key yet
	number := -1     // of the token
	dims := -1       // the modifier of the cast
	var value sqltext.Token
	scan := sqltext.NewScanner(g.sql, s.context().ConformingStrings)
	for len(spots) > 0 {
		t := scan.Next()
		switch t.Kind {
		case sqltext.EOF:
			return b, 0, false
		case sqltext.Space, sqltext.Comment:
			continue
		}
		number++
		spot := &spots[0]
		if number == spot.First {
			b = appendField(b, g.sql[from:t.Start])
			dims = -1
		}
		if number == spot.Value {
			value = t
		}
		if number == spot.Modifier {
			if dims, ok = digits(t.Bytes(g.sql)); !ok {
				return b, 0, false
			}
		}
		if number != spot.Last {
			continue
		}
		from = t.End
		spots = spots[1:]
		if spot.Alone && !without.add(spot.Param) {
			return b, 0, false
		}
		if spot.Column == "" {
			n, ok := g.spotCount(spot, value)
			if !ok {
				return b, 0, false
			}
			b = append(strconv.AppendInt(append(b, 'n'), n, 10), ' ')
			continue
		}
		if spot.Column != f.column || !s.spotVector(g, spot, value, f.kind) || spot.Modifier >= 0 && dims != s.vector.Dims() {
			return b, 0, false
		}
		at := len(b)
		b = s.vector.AppendKey(append(b, 'v'))
		if first == nil {
			first = b[at:]
		} else if bytes.Equal(first, b[at:]) {
			b = append(b[:at], 'w')
		}
	}
	return appendField(b, g.sql[from:]), without, true
}

// digits reads a count that is written in decimal digits alone, of nine at most.
func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, len(b) > 0 && len(b) <= 9
}

// spotCount reads a LIMIT or OFFSET.
func (g *group) spotCount(spot *router.Spot, value sqltext.Token) (int64, bool) {
	if spot.Param == 0 {
		n, ok := digits(value.Bytes(g.sql))
		return int64(n), ok
	}
	return g.count(spot.Param)
}

// spotVector reads a vector into s.vector as the server reads it.
func (s *session) spotVector(g *group, spot *router.Spot, value sqltext.Token, kind vector.Kind) bool {
	if spot.Cast != "" && spot.Cast != kind.String() {
		return false
	}
	if spot.Param == 0 {
		if value.Kind != sqltext.String || value.Escapes || g.sql[value.Start] != '\'' {
			return false
		}
		return s.vector.Set(kind, int16(wire.TextFormat), g.sql[value.Body:value.End-1]) == nil
	}
	v, format, ok := g.param(spot.Param)
	if !ok {
		return false
	}
	switch oid := g.oid(spot.Param); {
	case oid == 0, oid == uint32(spot.Type):
	case (oid == oidText || oid == oidVarchar) && spot.Cast != "":
		format = wire.TextFormat // both forms of a text are its bytes
	default:
		return false
	}
	return s.vector.Set(kind, int16(format), v) == nil
}

// oid is the declared type of a parameter, 0 for none.
func (g *group) oid(n int) uint32 {
	if n > g.oids.Len() {
		return 0
	}
	return g.oids.At(n - 1)
}

// param returns the value of a parameter that is not NULL.
func (g *group) param(n int) ([]byte, wire.Format, bool) {
	if n > len(g.bound.Params) || g.bound.Params[n-1] == nil {
		return nil, 0, false
	}
	return g.bound.Params[n-1], g.bound.ParamFormats.Of(n - 1), true
}

// count reads a parameter that is a LIMIT or OFFSET.
func (g *group) count(n int) (int64, bool) {
	v, format, ok := g.param(n)
	oid := g.oid(n)
	if oid == 0 {
		oid = oidInt8
	}
	if !ok {
		return 0, false
	}
	return integer(oid, format, v)
}

// integer reads a value of a type of integers; false for another type, or a text that is
// not plain digits of its range.
func integer(oid uint32, format wire.Format, v []byte) (n int64, ok bool) {
	size := 0
	switch oid {
	case oidInt2:
		size = 2
	case oidInt4:
		size = 4
	case oidInt8:
		size = 8
	default:
		return 0, false
	}
	switch {
	case format == wire.TextFormat:
		d, ok := digits(v)
		return int64(d), ok && (size > 2 || d < 1<<15)
	case len(v) != size:
		return 0, false
	case size == 2:
		return int64(int16(binary.BigEndian.Uint16(v))), true
	case size == 4:
		return int64(int32(binary.BigEndian.Uint32(v))), true
	}
	return int64(binary.BigEndian.Uint64(v)), true
}

// appendFacts appends what a key has behind the text, without some of the parameters.
func (s *session) appendFacts(b []byte, g *group, without paramSet) []byte {
	b = strconv.AppendUint(append(b, ' '), s.pool.ID, 10) // database and login
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(s.era), 10) // settings of role and database
	if !s.srv.unsettled.Load() {
		b = appendField(b, s.bucket.Key())
	}
	formats := g.formats
	if formats.Len() == 1 && formats.Of(0) == wire.TextFormat {
		formats = nil
	}
	b = appendField(b, formats)
	for n := 1; n <= max(len(g.bound.Params), g.oids.Len()); n++ {
		if !without.has(n) {
			b = g.appendParam(b, n)
		}
	}
	return b
}

// appendParam appends a parameter with its declared type; two forms of one integer or
// text alike.
func (g *group) appendParam(b []byte, n int) []byte {
	oid := g.oid(n)
	b = strconv.AppendUint(append(strconv.AppendInt(append(b, ' '), int64(n), 10), ':'), uint64(oid), 10)
	v, format, ok := g.param(n)
	switch {
	case n > len(g.bound.Params):
		return append(b, 'm')
	case !ok:
		return append(b, 'n')
	case oid == oidText, oid == oidVarchar:
		return appendField(append(b, 't'), v)
	}
	if i, ok := integer(oid, format, v); ok {
		return append(strconv.AppendInt(append(b, 'i'), i, 10), ' ')
	}
	return appendField(append(b, 'p', '0'+byte(format&1)), v)
}

func appendField[T ~string | ~[]byte](b []byte, v T) []byte {
	b = strconv.AppendInt(append(b, ' '), int64(len(v)), 10)
	return append(append(b, ':'), v...)
}
