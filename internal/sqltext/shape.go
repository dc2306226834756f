package sqltext

import (
	"bytes"
	"unicode/utf8"
)

// Info is what one pass over a text tells about it.
type Info struct {
	Kind       Kind // of the first statement that is not empty; Empty without one
	Statements int  // statements that are not empty
	Guard
	// Moving: a string literal may hold now, today, tomorrow, yesterday or
	// allballs, whose meaning depends on when it is read; or the literal's value
	// is not its bytes, so that nobody can tell.
	Moving bool
	// Backslash: a plain '…' literal has a backslash, so that the text means one
	// thing with standard_conforming_strings and another without.
	Backslash bool
	// Malformed: a literal or comment that does not end, a byte that starts no
	// token, or bytes that are not UTF-8. Such a text has no shape.
	Malformed bool
}

// Bytes that stand for literals in a shape. A text that has them as bytes of its
// own is Malformed.
const (
	shapeString  = 0x01
	shapeUString = 0x02
	shapeBits    = 0x03
	shapeHex     = 0x04
	shapeInteger = 0x05
	shapeDecimal = 0x06
)

// AppendShape appends the shape of text to dst and returns it with what the text
// is: literals are replaced by a mark of their class, keywords and unquoted
// names are in lower case, white space and comments are one blank between
// tokens. Two texts of equal shape have equal parse trees but for the values of
// their literals; $1 and quoted names are kept.
//
// It does not allocate when dst has room. conforming is the session's
// standard_conforming_strings.
func AppendShape(dst, text []byte, conforming bool) ([]byte, Info) {
	var (
		info  = Info{Malformed: !utf8.Valid(text)}
		guard guardCounter
		kind  kindFinder
		s     = NewScanner(text, conforming)
		begun bool // the statement has a token
		named bool // its kind is decided
	)
	for {
		t := s.Next()
		switch t.Kind {
		case EOF:
			info.close(&kind, begun)
			info.Guard = guard.Guard
			return dst, info
		case Space, Comment:
			continue
		case Punct:
			if text[t.Start] == ';' {
				info.close(&kind, begun)
				kind, begun, named = kindFinder{}, false, false
				break
			}
			begun = true
		case Stray, Unterminated:
			info.Malformed = true
			begun = true
		default:
			begun = true
		}
		if begun && !named {
			named = kind.feed(text, t)
		}
		guard.feed(text, t)
		dst = info.append(dst, text, t)
		dst = append(dst, ' ')
	}
}

// close counts a statement that ended.
func (i *Info) close(f *kindFinder, begun bool) {
	if !begun {
		if i.Statements == 0 {
			i.Kind = Empty
		}
		return
	}
	if i.Statements == 0 {
		i.Kind = f.end()
	}
	i.Statements++
}

// append appends the token's part of the shape.
func (i *Info) append(dst, src []byte, t Token) []byte {
	switch t.Kind {
	case Word:
		for _, c := range src[t.Start:t.End] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
		}
		return dst
	case String:
		i.literal(src, t)
		return append(dst, shapeString)
	case UString:
		i.Moving = true
		return append(dst, shapeUString)
	case BitString:
		return append(dst, shapeBits)
	case HexString:
		return append(dst, shapeHex)
	case Integer:
		return append(dst, shapeInteger)
	case Decimal:
		return append(dst, shapeDecimal)
	default:
		return append(dst, src[t.Start:t.End]...)
	}
}

// literal looks into a string's content.
func (i *Info) literal(src []byte, t Token) {
	body := src[t.Body:t.End]
	if t.Escapes {
		// A continued literal, or one with escapes: without a backslash and in
		// one piece its value is its bytes after all.
		i.Moving = i.Moving || bytes.IndexByte(body, '\\') >= 0 || bytes.ContainsAny(body, "\n\r")
	}
	if c := src[t.Start]; c == '\'' || c == 'n' || c == 'N' {
		i.Backslash = i.Backslash || bytes.IndexByte(body, '\\') >= 0
	}
	i.Moving = i.Moving || hasMovingWord(body)
}

// hasMovingWord reports whether b has, as a word of its own, one of the words
// that PostgreSQL's date and time input reads as a moment relative to now, or
// allballs (datetktbl in datetime.c). Words there are runs of letters.
func hasMovingWord(b []byte) bool {
	for i := 0; i < len(b); {
		if !isLetter(b[i]) {
			i++
			continue
		}
		j := i + 1
		for j < len(b) && isLetter(b[j]) {
			j++
		}
		switch w := b[i:j]; len(w) {
		case 3:
			if equalFold(w, "NOW") {
				return true
			}
		case 5:
			if equalFold(w, "TODAY") {
				return true
			}
		case 8:
			if equalFold(w, "TOMORROW") || equalFold(w, "ALLBALLS") {
				return true
			}
		case 9:
			if equalFold(w, "YESTERDAY") {
				return true
			}
		}
		i = j
	}
	return false
}

func isLetter(c byte) bool {
	c |= 0x20
	return 'a' <= c && c <= 'z'
}
