package sqltext

import (
	"bytes"
	"strings"
)

// Skeleton cuts a text that is too long to keep, part by part as it passes, down to
// one that does to its session what the long one does. Constants become 0, and of
// the elements of a list (rows of VALUES, members of IN or ARRAY) that are equal then
// one is left. Only statements that read and write rows are cut; in the arguments of
// a call, where a constant may name a setting or a sequence, and in all other
// statements, constants stay as they are. What it cannot cut down it gives up.
type Skeleton struct {
	conforming bool
	unsure     bool // whether conforming is right
	limit      int
	out        []byte
	held       []byte // the end of what came: tokens that may go on
	tokens     []Token
	cut        bool // the held string was longer
	failed     bool

	frames []frame
	rows   bool // the statement is one that is cut
	begun  bool // it has a token
	last   tokenClass
}

// frame is one open parenthesis or bracket, or the whole text.
type frame struct {
	call  bool // constants stay as they are
	start int  // of the element in out
	seen  [8][2]int
	n     int // elements that were seen
}

// tokenClass is what the last token was, as far as the next one cares.
type tokenClass uint8

const (
	atStart tokenClass = iota // of an element
	afterName
	afterKeyword
	afterOp
	afterOther
)

// maxConstant bounds a constant that stays as it is, in bytes.
const maxConstant = 256

// NewSkeleton returns a Skeleton of at most limit bytes. conforming is the session's
// standard_conforming_strings; unsure: it is perhaps not, and a text is given up that
// would be read otherwise then.
func NewSkeleton(conforming, unsure bool, limit int) *Skeleton {
	return &Skeleton{conforming: conforming, unsure: unsure, limit: limit, frames: make([]frame, 1, 8)}
}

// Write takes the next part of the text, of which it keeps nothing.
func (k *Skeleton) Write(b []byte) {
	if !k.failed {
		k.scan(append(bytes.Clone(k.held), b...), false)
	}
}

// Text ends the text and returns its skeleton; false: there is none.
func (k *Skeleton) Text() ([]byte, bool) {
	if !k.failed {
		k.scan(k.held, true)
	}
	if k.failed || len(k.frames) != 1 {
		return nil, false
	}
	k.element(&k.frames[0])
	return k.out, true
}

// lookahead is how many bytes behind a token may make it another one (1e+5, U&').
const lookahead = 3

// scan takes in the tokens of b that are known to be whole; end: all are.
func (k *Skeleton) scan(b []byte, end bool) {
	s := NewScanner(b, k.conforming)
	k.tokens = k.tokens[:0]
	t := s.Next()
	for t.Kind != EOF && (end || t.End <= len(b)-lookahead) {
		k.tokens = append(k.tokens, t)
		t = s.Next()
	}
	if !end {
		// 'a' and behind a line break 'b' is one string; $ may begin $tag$.
		n := len(k.tokens)
		for n > 0 && blank(k.tokens[n-1]) {
			n--
		}
		if n > 0 && (constant(k.tokens[n-1]) || n == len(k.tokens) && k.tokens[n-1].Kind == Stray) {
			t = k.tokens[n-1]
			k.tokens = k.tokens[:n-1]
		}
	}
	for _, x := range k.tokens {
		if k.token(x, b); k.failed || len(k.out) > k.limit {
			k.failed = true
			return
		}
	}
	if !end {
		k.hold(t, b)
	}
}

func blank(t Token) bool { return t.Kind == Space || t.Kind == Comment }

// constant says whether a token is a string of some kind.
func constant(t Token) bool {
	return t.Kind == String || t.Kind == UString || t.Kind == BitString || t.Kind == HexString
}

// hold keeps b from t on for the next part; of a string of which nothing but that it
// is one counts, no more than its two ends.
func (k *Skeleton) hold(t Token, b []byte) {
	size := t.End - t.Start
	b = b[t.Start:]
	k.held = append(k.held[:0], b...)
	if len(b) <= maxConstant {
		return
	}
	open := 0
	if k.doubtful(t, b) {
		k.failed = true
		return
	}
	if constant(t) || t.Kind == Unterminated {
		open = opening(b)
	}
	switch {
	case open == 0 || !k.rows || !k.begun:
		k.failed = len(b) > k.limit
		return
	case size < len(b): // it is whole, unless another line goes on with it
		end := 1
		if b[0] == '$' {
			end = open
		}
		k.held = append(k.held[:open], b[size-end:]...)
	case b[0] == '$':
		k.held = append(k.held[:open], b[max(open, len(b)-open):]...)
	default:
		// What precedes the last quotes and backslashes has no say in them.
		tail := len(bytes.TrimRight(b, `'\`))
		k.held = append(k.held[:open], b[max(open, tail):]...)
	}
	k.cut = true
	k.failed = len(k.held) > k.limit
}

// doubtful says whether a string, perhaps with more behind it, means another thing
// when the session's strings are not what they were said to be.
func (k *Skeleton) doubtful(t Token, b []byte) bool {
	return k.unsure && (constant(t) || t.Kind == Unterminated) && (b[0] == '\'' || b[0]|0x20 == 'n') && bytes.IndexByte(b, '\\') >= 0
}

// opening returns the length of what a string begins with, 0 when it is none that can
// be cut.
func opening(b []byte) int {
	switch {
	case b[0] == '\'':
		return 1
	case strings.IndexByte("eEnNbBxX", b[0]) >= 0 && b[1] == '\'':
		return 2
	case b[0] == '$':
		return bytes.IndexByte(b[1:], '$') + 2
	}
	return 0
}

// readers are the first words of statements that are cut: all that they do besides
// reading and writing rows is in their names.
var readers = wordSet("select insert update delete merge values with table explain")

// notCalls are words before a parenthesis that call nothing.
var notCalls = wordSet(`values in and or not any all some array row as select from where on then else when by
	exists union except intersect having join using set between like ilike limit offset returning`)

// values are words that are constants.
var values = wordSet("null true false default")

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// has says whether a set has a word in any case.
func has(set map[string]bool, word []byte) bool {
	var low [16]byte
	if len(word) > len(low) {
		return false
	}
	for i, c := range word {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	return set[string(low[:len(word)])]
}

func (k *Skeleton) token(t Token, src []byte) {
	text := t.Bytes(src)
	f := &k.frames[len(k.frames)-1]
	if blank(t) {
		return
	}
	if k.doubtful(t, text) {
		k.failed = true
		return
	}
	if !k.begun {
		k.begun = true
		k.rows = t.Kind == Punct && text[0] == '(' || t.Kind == Word && has(readers, text)
	}
	keep := !k.rows || f.call
	switch t.Kind {
	case Integer, Decimal:
		k.constant(text, keep)
	case String, UString, BitString, HexString:
		if cut := k.cut; cut || keep && k.rows && len(text) > maxConstant {
			k.cut = false
			// No constant: what is computed may be anything.
			text = []byte("''||''")
		}
		k.constant(text, keep)
	case Word:
		switch {
		case k.last == atStart && !keep && has(values, text):
			k.constant(text, false)
		case has(notCalls, text):
			k.add(text, afterKeyword)
		default:
			k.add(text, afterName)
		}
	case Quoted:
		if text[0] != '"' {
			k.failed = true // U&"…": escapes
			return
		}
		k.add(text, afterName)
	case Punct:
		k.punct(text, f)
	case Op:
		k.add(text, afterOp)
	case Unterminated:
		k.failed = true
	default:
		k.add(text, afterOther)
	}
}

// constant adds a constant.
func (k *Skeleton) constant(text []byte, keep bool) {
	switch {
	case keep:
	case k.last == atStart || k.last == afterOp:
		if n := len(k.out); n >= 3 && k.last == afterOp && k.out[n-1] == '-' && strings.IndexByte("(,[", k.out[n-2]) >= 0 {
			k.out = k.out[:n-1] // the sign of an element
		}
		text = []byte("0")
	default:
		text = []byte("''") // interval '1 day'
	}
	k.add(text, afterOther)
}

// add adds a token.
func (k *Skeleton) add(text []byte, as tokenClass) {
	if n := len(k.out); n > 0 && class[k.out[n-1]]&isPunct == 0 && class[text[0]]&isPunct == 0 {
		k.out = append(k.out, ' ')
	}
	k.out = append(k.out, text...)
	k.last = as
}

// punct adds punctuation and follows lists.
func (k *Skeleton) punct(text []byte, f *frame) {
	switch text[0] {
	case '(', '[':
		call := f.call || k.last == afterName && text[0] == '('
		k.add(text, atStart)
		k.frames = append(k.frames, frame{call: call, start: len(k.out)})
	case ')', ']':
		if len(k.frames) == 1 {
			k.failed = true
			return
		}
		k.element(f)
		k.frames = k.frames[:len(k.frames)-1]
		k.add(text, afterOther)
	case ',':
		k.element(f)
		k.add(text, atStart)
		f.start = len(k.out)
	case ';':
		k.element(f)
		k.add(text, atStart)
		k.begun = false
		k.frames = append(k.frames[:0], frame{start: len(k.out)})
	default:
		k.add(text, afterOther)
	}
}

// element ends an element of a list: one that is there already is left out, with the
// comma before it.
func (k *Skeleton) element(f *frame) {
	e := k.out[f.start:]
	for _, x := range f.seen[:min(f.n, len(f.seen))] {
		if k.rows && f.start > 0 && k.out[f.start-1] == ',' && bytes.Equal(e, k.out[x[0]:x[1]]) {
			k.out = k.out[:f.start-1]
			return
		}
	}
	f.seen[f.n%len(f.seen)] = [2]int{f.start, len(k.out)}
	f.n++
}
