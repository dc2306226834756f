package sqltext

import "bytes"

// Scanner cuts a text into tokens. The zero Scanner scans the empty text.
type Scanner struct {
	src        []byte
	pos        int
	conforming bool
	// signs: up to here the text is a run of + and - that are one token each,
	// known from the operator before (else a long run would be looked at anew
	// for every sign).
	signs int
}

// NewScanner scans src, which must not change meanwhile. conforming is the
// session's standard_conforming_strings: without it a backslash in '…' escapes.
func NewScanner(src []byte, conforming bool) Scanner {
	return Scanner{src: src, conforming: conforming}
}

// Next returns the next token, of kind EOF at the end of the text.
func (s *Scanner) Next() Token {
	if s.pos >= len(s.src) {
		return Token{Kind: EOF, Start: s.pos, End: s.pos}
	}
	t := Token{Start: s.pos}
	c := s.src[s.pos]
	cl := class[c]
	switch {
	case cl&isSpace != 0:
		t.Kind, t.End = Space, s.run(s.pos+1, isSpace)
	case cl&isIdentStart != 0:
		s.word(&t)
	case cl&isDigit != 0:
		s.number(&t)
	case c == '\'':
		s.quoted(&t, s.pos, !s.conforming)
	case c == '"':
		s.ident(&t, s.pos)
	case c == '$':
		s.dollar(&t)
	case cl&isPunct != 0:
		s.punct(&t)
	case cl&isOp != 0:
		s.operator(&t)
	default:
		t.Kind, t.End = Stray, s.pos+1
	}
	s.pos = t.End
	return t
}

// at returns the byte at i, 0 behind the end.
func (s *Scanner) at(i int) byte {
	if i < len(s.src) {
		return s.src[i]
	}
	return 0
}

// run returns the end of the bytes of class cl from i on.
func (s *Scanner) run(i int, cl uint8) int {
	for i < len(s.src) && class[s.src[i]]&cl != 0 {
		i++
	}
	return i
}

// rest makes t everything that is left.
func (s *Scanner) rest(t *Token) {
	t.Kind, t.End = Unterminated, len(s.src)
}

// word scans an identifier, or a string or identifier with a one-letter prefix.
func (s *Scanner) word(t *Token) {
	next := s.at(s.pos + 1)
	switch s.src[s.pos] {
	case 'e', 'E':
		if next == '\'' {
			s.quoted(t, s.pos+1, true)
			return
		}
	case 'n', 'N':
		if next == '\'' {
			s.quoted(t, s.pos+1, !s.conforming)
			return
		}
	case 'b', 'B':
		if next == '\'' {
			s.bits(t, BitString)
			return
		}
	case 'x', 'X':
		if next == '\'' {
			s.bits(t, HexString)
			return
		}
	case 'u', 'U':
		if next == '&' && s.at(s.pos+2) == '\'' {
			s.quoted(t, s.pos+2, false)
			t.Escapes = true
			if t.Kind == String {
				t.Kind = UString
			}
			return
		}
		if next == '&' && s.at(s.pos+2) == '"' {
			s.ident(t, s.pos+2)
			return
		}
	}
	t.Kind, t.End = Word, s.run(s.pos+1, isIdentPart)
}

// quoted scans a string whose opening quote is at open; with escape a backslash
// takes the byte after it.
func (s *Scanner) quoted(t *Token, open int, escape bool) {
	t.Kind, t.Body = String, open+1
	t.Escapes = escape
	i := open + 1
	for {
		end := s.closing(i, escape)
		if end < 0 {
			s.rest(t)
			return
		}
		if s.at(end) == '\'' { // doubled
			i = end + 1
			continue
		}
		next := s.continued(end)
		if next < 0 {
			t.End = end
			return
		}
		t.Escapes = true
		i = next
	}
}

// closing returns the index behind the next quote from i on, -1 without one.
func (s *Scanner) closing(i int, escape bool) int {
	if !escape {
		n := bytes.IndexByte(s.src[i:], '\'')
		if n < 0 {
			return -1
		}
		return i + n + 1
	}
	for ; i < len(s.src); i++ {
		switch s.src[i] {
		case '\\':
			i++
		case '\'':
			return i + 1
		}
	}
	return -1
}

// bits scans B'…' or X'…', in which a doubled quote is the end.
func (s *Scanner) bits(t *Token, kind TokenKind) {
	t.Kind, t.Body = kind, s.pos+2
	i := s.pos + 2
	for {
		end := s.closing(i, false)
		if end < 0 {
			s.rest(t)
			return
		}
		if i = s.continued(end); i < 0 {
			t.End = end
			return
		}
		t.Escapes = true
	}
}

// continued returns the index behind the quote that continues the string ended
// at i, -1 when none does: white space with a line break, and comments of the --
// kind, may stand between the two (quotecontinue in scan.l).
func (s *Scanner) continued(i int) int {
	newline := false
	for i < len(s.src) {
		switch c := s.src[i]; {
		case c == '\n' || c == '\r':
			newline = true
			i++
		case class[c]&isSpace != 0:
			i++
		case c == '-' && s.at(i+1) == '-':
			for i < len(s.src) && s.src[i] != '\n' && s.src[i] != '\r' {
				i++
			}
		case c == '\'' && newline:
			return i + 1
		default:
			return -1
		}
	}
	return -1
}

// ident scans a quoted identifier whose opening quote is at open.
func (s *Scanner) ident(t *Token, open int) {
	for i := open + 1; ; {
		n := bytes.IndexByte(s.src[i:], '"')
		if n < 0 {
			s.rest(t)
			return
		}
		i += n + 1
		if s.at(i) != '"' {
			t.Kind, t.End = Quoted, i
			return
		}
		i++
	}
}

// dollar scans $1, $tag$…$tag$, or a lone $.
func (s *Scanner) dollar(t *Token) {
	i := s.pos + 1
	if class[s.at(i)]&isDigit != 0 {
		t.Kind, t.End = Param, s.run(i, isDigit)
		return
	}
	if class[s.at(i)]&isIdentStart != 0 {
		for i < len(s.src) && s.src[i] != '$' && class[s.src[i]]&isIdentPart != 0 {
			i++
		}
	}
	if s.at(i) != '$' {
		t.Kind, t.End = Stray, s.pos+1
		return
	}
	tag := s.src[s.pos : i+1]
	n := bytes.Index(s.src[i+1:], tag)
	if n < 0 {
		s.rest(t)
		return
	}
	t.Kind, t.Body, t.End = String, i+1, i+1+n+len(tag)
}

// number scans an integer, decimal or real, with underscores between digits.
func (s *Scanner) number(t *Token) {
	t.Kind = Integer
	i := s.pos
	if s.src[i] == '0' {
		if n := s.radix(i); n > 0 {
			t.End = n
			return
		}
	}
	i = s.digits(i)
	if s.at(i) == '.' && s.at(i+1) != '.' { // 1..10 is 1, .., 10
		t.Kind = Decimal
		i = s.digits(i + 1)
	}
	if n := s.exponent(i); n > 0 {
		t.Kind = Decimal
		i = n
	}
	t.End = i
}

// radix returns the end of 0x…, 0o… or 0b… at i, 0 when there is none.
func (s *Scanner) radix(i int) int {
	var ok func(byte) bool
	switch s.at(i + 1) {
	case 'x', 'X':
		ok = isHex
	case 'o', 'O':
		ok = func(c byte) bool { return '0' <= c && c <= '7' }
	case 'b', 'B':
		ok = func(c byte) bool { return c == '0' || c == '1' }
	default:
		return 0
	}
	j := i + 2
	for {
		k := j
		if s.at(k) == '_' {
			k++
		}
		if !ok(s.at(k)) {
			break
		}
		j = k + 1
	}
	if j == i+2 {
		return 0
	}
	return j
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// digits returns the end of the decimal digits at i, single underscores between
// them included.
func (s *Scanner) digits(i int) int {
	if class[s.at(i)]&isDigit == 0 {
		return i
	}
	for {
		i = s.run(i, isDigit)
		if s.at(i) != '_' || class[s.at(i+1)]&isDigit == 0 {
			return i
		}
		i++
	}
}

// exponent returns the end of e10, E-10 at i, 0 when there is none.
func (s *Scanner) exponent(i int) int {
	if c := s.at(i); c != 'e' && c != 'E' {
		return 0
	}
	i++
	if c := s.at(i); c == '+' || c == '-' {
		i++
	}
	if class[s.at(i)]&isDigit == 0 {
		return 0
	}
	return s.digits(i)
}

// punct scans ( ) [ ] , ; . : and :: .. := and a decimal that starts with a dot.
func (s *Scanner) punct(t *Token) {
	t.Kind, t.End = Punct, s.pos+1
	next := s.at(s.pos + 1)
	switch s.src[s.pos] {
	case '.':
		if class[next]&isDigit != 0 {
			t.Kind = Decimal
			t.End = s.digits(s.pos + 1)
			if n := s.exponent(t.End); n > 0 {
				t.End = n
			}
		} else if next == '.' {
			t.End++
		}
	case ':':
		if next == ':' || next == '=' {
			t.End++
		}
	}
}

// operator scans a comment, or an operator by PostgreSQL's rules: the longest
// run of operator bytes that no comment starts in, which ends in + or - only if
// it also has a byte of ~!@#^&|`?% before that.
func (s *Scanner) operator(t *Token) {
	if s.comment(t) {
		return
	}
	t.Kind = Op
	if s.pos < s.signs {
		t.End = s.pos + 1
		return
	}
	end, special := s.pos, false
	for end < len(s.src) {
		c, next := s.src[end], s.at(end+1)
		if class[c]&isOp == 0 || c == '-' && next == '-' || c == '/' && next == '*' {
			break
		}
		special = special || class[c]&isSpecialOp != 0
		end++
	}
	t.End = end
	if special {
		return
	}
	for t.End-1 > t.Start && (s.src[t.End-1] == '+' || s.src[t.End-1] == '-') {
		t.End--
	}
	s.signs = end
}

// comment scans -- … or /* … */ and reports whether one starts here.
func (s *Scanner) comment(t *Token) bool {
	switch c, next := s.src[s.pos], s.at(s.pos+1); {
	case c == '-' && next == '-':
		i := s.pos + 2
		for i < len(s.src) && s.src[i] != '\n' && s.src[i] != '\r' {
			i++
		}
		t.Kind, t.End = Comment, i
		return true
	case c == '/' && next == '*':
		depth := 1
		for i := s.pos + 2; i < len(s.src)-1; i++ {
			switch {
			case s.src[i] == '/' && s.src[i+1] == '*':
				depth++
				i++
			case s.src[i] == '*' && s.src[i+1] == '/':
				depth--
				i++
				if depth == 0 {
					t.Kind, t.End = Comment, i+1
					return true
				}
			}
		}
		s.rest(t)
		return true
	}
	return false
}
