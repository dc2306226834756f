package auth

import (
	"errors"
	"strings"
)

// field is a comma-separated list of words, as pg_hba.conf has them.
type field []word

type word struct {
	text   string
	quoted bool
}

// only is the text of a field that is no list; of one, its words with commas, which
// nothing is called.
func (f field) only() string { return f.text() }

func (f field) text() string {
	texts := make([]string, len(f))
	for i, w := range f {
		texts[i] = w.text
	}
	return strings.Join(texts, ",")
}

// tokens splits a line into fields. Blanks separate fields, commas words, double
// quotes keep both ("" is a quote inside), # begins a comment.
func tokens(line string) ([]field, error) {
	var fields []field
	var f field
	var w strings.Builder
	in, quoted := false, false // a word is open; a part of it was quoted
	more := false              // a comma came: the next word is of the same field
	end := func() {
		if in {
			f = append(f, word{w.String(), quoted})
		}
		w.Reset()
		in, quoted = false, false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			if !in && len(f) > 0 && !more {
				fields, f = append(fields, f), nil
			}
			more = false
			closed := false
			for i++; i < len(line); i++ {
				if line[i] == '"' {
					if i+1 < len(line) && line[i+1] == '"' {
						i++
					} else {
						closed = true
						break
					}
				}
				w.WriteByte(line[i])
			}
			if !closed {
				return nil, errors.New("a quotation mark is not closed")
			}
			in, quoted = true, true
		case c == '#':
			i = len(line)
		case c == ',':
			end()
			more = true
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			end()
		default:
			if !in && len(f) > 0 && !more {
				fields, f = append(fields, f), nil
			}
			in, more = true, false
			w.WriteByte(c)
		}
	}
	end()
	if len(f) > 0 {
		fields = append(fields, f)
	}
	return fields, nil
}
