package router

import (
	"strings"

	"qvpgw/internal/sqltext"
)

// settingPrefix starts the names of the gateway's own settings.
const settingPrefix = "qvpgw."

// localAnswer recognises the statements that the gateway answers itself, nil for
// all others:
//
//	SET [SESSION] qvpgw.name {TO|=} value    RESET qvpgw.name    SHOW qvpgw.name
//	EXPLAIN (…, QVPGW, …) statement
//
// It reads tokens, for the parser takes them as ordinary statements. text is one
// statement of that kind.
func localAnswer(text []byte, kind sqltext.Kind, conforming bool) *LocalAnswer {
	l := &localReader{text: text, scan: sqltext.NewScanner(text, conforming)}
	l.next()
	for l.is(";") { // empty statements before it
		l.next()
	}
	l.next() // behind SET, RESET, SHOW, EXPLAIN
	switch kind {
	case sqltext.Set:
		return l.set()
	case sqltext.Reset:
		return l.reset()
	case sqltext.Show:
		return l.show()
	case sqltext.Explain:
		return l.explain()
	}
	return nil
}

// localReader reads the tokens of one statement; tok is the current one.
type localReader struct {
	text []byte
	scan sqltext.Scanner
	tok  sqltext.Token
	last sqltext.Token // the one before tok
}

// next moves to the next token that is neither white space nor a comment.
func (l *localReader) next() {
	l.last = l.tok
	for {
		l.tok = l.scan.Next()
		if l.tok.Kind != sqltext.Space && l.tok.Kind != sqltext.Comment {
			return
		}
	}
}

// is reports whether the current token is that word or punctuation.
func (l *localReader) is(word string) bool {
	switch l.tok.Kind {
	case sqltext.Word, sqltext.Punct, sqltext.Op:
		return strings.EqualFold(string(l.tok.Bytes(l.text)), word)
	}
	return false
}

// end reports whether only semicolons are left.
func (l *localReader) end() bool {
	for l.is(";") {
		l.next()
	}
	return l.tok.Kind == sqltext.EOF
}

// name reads qvpgw.name and returns name in lower case; "" when another setting
// stands there.
func (l *localReader) name() string {
	first := l.ident()
	if first+"." != settingPrefix || !l.is(".") {
		return ""
	}
	l.next()
	return l.ident()
}

// ident reads an identifier; "" when none stands there.
func (l *localReader) ident() string {
	s := string(l.tok.Bytes(l.text))
	switch l.tok.Kind {
	case sqltext.Word:
		s = strings.ToLower(s)
	case sqltext.Quoted:
		s = strings.ToLower(strings.Trim(s, `"`)) // settings have no case
	default:
		return ""
	}
	l.next()
	return s
}

func (l *localReader) set() *LocalAnswer {
	if l.is("SESSION") {
		l.next()
	}
	a := &LocalAnswer{Kind: LocalSet, Name: l.name()}
	if a.Name == "" || !l.is("TO") && !l.is("=") {
		return nil
	}
	l.next()
	switch b := string(l.tok.Bytes(l.text)); l.tok.Kind {
	case sqltext.String:
		if l.tok.Escapes || !strings.HasPrefix(b, "'") {
			return nil
		}
		a.Value = strings.ReplaceAll(b[1:len(b)-1], "''", "'")
	case sqltext.Word:
		a.Value = strings.ToLower(b)
	case sqltext.Integer, sqltext.Decimal:
		a.Value = b
	default:
		return nil
	}
	l.next()
	if !l.end() {
		return nil
	}
	return a
}

func (l *localReader) reset() *LocalAnswer {
	a := &LocalAnswer{Kind: LocalSet, Name: l.name(), Value: "default"}
	if a.Name == "" || !l.end() {
		return nil
	}
	return a
}

func (l *localReader) show() *LocalAnswer {
	a := &LocalAnswer{Kind: LocalShow, Name: l.name()}
	if a.Name == "" || !l.end() {
		return nil
	}
	return a
}

// explain reads EXPLAIN (options) and keeps the rest when QVPGW is an option.
func (l *localReader) explain() *LocalAnswer {
	if !l.is("(") {
		return nil
	}
	l.next()
	ours, depth := false, 1
	for start := true; depth > 0; {
		switch {
		case l.tok.Kind == sqltext.EOF:
			return nil
		case l.is("("):
			depth++
		case l.is(")"):
			depth--
		case l.is("QVPGW"):
			ours = ours || start
		}
		start = l.is(",")
		l.next()
	}
	rest := strings.TrimRight(string(l.text[l.last.End:]), " \t\r\n\f\v;")
	if !ours || strings.TrimSpace(rest) == "" {
		return nil
	}
	return &LocalAnswer{Kind: LocalExplain, SQL: strings.TrimSpace(rest)}
}
