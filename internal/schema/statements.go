package schema

import "strings"

// span is one statement of a text, [start, end) in bytes, without the semicolon
// and without blanks and comments before it.
type span struct{ start, end int }

// statements splits SQL at its top-level semicolons: those outside quotes,
// dollar quotes and comments. A function body in BEGIN ATOMIC form is split too,
// which is good enough for what it serves: naming the statement that failed.
func statements(sql string) []span {
	var spans []span
	start := -1
	for i := 0; i < len(sql); {
		next, blank := token(sql, i)
		switch {
		case sql[i] == ';':
			if start >= 0 {
				spans = append(spans, span{start, i})
			}
			start = -1
		case !blank && start < 0:
			start = i
		}
		i = next
	}
	if start >= 0 {
		spans = append(spans, span{start, len(strings.TrimRight(sql, " \t\r\n"))})
	}
	return spans
}

// token returns where the token that begins at i ends, and whether it is a blank
// or a comment.
func token(sql string, i int) (end int, blank bool) {
	rest := sql[i:]
	switch c := sql[i]; {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		return i + 1, true
	case strings.HasPrefix(rest, "--"):
		if n := strings.IndexByte(rest, '\n'); n >= 0 {
			return i + n + 1, true
		}
		return len(sql), true
	case strings.HasPrefix(rest, "/*"):
		return i + commentLength(rest), true
	case c == '\'' || c == '"':
		escapes := c == '\'' && i > 0 && (sql[i-1] == 'e' || sql[i-1] == 'E')
		return i + quotedLength(rest, c, escapes), false
	case c == '$':
		tag := dollarTag(rest)
		if tag == "" {
			return i + 1, false
		}
		if n := strings.Index(rest[len(tag):], tag); n >= 0 {
			return i + 2*len(tag) + n, false
		}
		return len(sql), false
	}
	return i + 1, false
}

// commentLength is the length of the nested comment that s begins with.
func commentLength(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i++
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// quotedLength is the length of the quoted string that s begins with.
func quotedLength(s string, quote byte, escapes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return len(s)
}

// dollarTag returns the dollar quote that s begins with, as "$do$", or "".
func dollarTag(s string) string {
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '$':
			return s[:i+1]
		case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 || i > 1 && c >= '0' && c <= '9':
		default:
			return ""
		}
	}
	return ""
}

// lineColumn turns PostgreSQL's error position (characters, from 1) into line
// and column, both from 1, and the byte offset.
func lineColumn(sql string, position int) (line, column, offset int) {
	line, column = 1, 1
	n := 1
	for i, r := range sql {
		if n == position {
			return line, column, i
		}
		n++
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column, len(sql)
}
