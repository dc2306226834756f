package sqltext

// Next cuts the first statement off text at the next top-level semicolon, as
// psql does: not inside brackets, nor in the BEGIN ATOMIC … END body of a
// function. stmt excludes the semicolon and may be white space alone; rest is
// what follows it; more is false when no semicolon was found, so that stmt is
// all of text. conforming is the session's standard_conforming_strings.
func Next(text []byte, conforming bool) (stmt, rest []byte, more bool) {
	s := NewScanner(text, conforming)
	var (
		brackets int
		words    int // leading words seen
		create   bool
		routine  bool // CREATE [OR REPLACE] FUNCTION | PROCEDURE
		blocks   int  // open BEGIN or CASE inside a routine
	)
	for {
		t := s.Next()
		switch t.Kind {
		case EOF:
			return text, nil, false
		case Punct:
			switch text[t.Start] {
			case '(', '[':
				brackets++
			case ')', ']':
				brackets = max(0, brackets-1)
			case ';':
				if brackets == 0 && blocks == 0 {
					return text[:t.Start], text[t.End:], true
				}
			}
		case Word:
			if brackets > 0 {
				continue
			}
			words++
			switch {
			case words == 1:
				create = wordIs(text, t, "CREATE")
			case words <= 4 && create && (wordIs(text, t, "FUNCTION") || wordIs(text, t, "PROCEDURE")):
				routine = true
			case routine && wordIs(text, t, "BEGIN"), routine && blocks > 0 && wordIs(text, t, "CASE"):
				blocks++
			case blocks > 0 && wordIs(text, t, "END"):
				blocks--
			}
		}
	}
}
