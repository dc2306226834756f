package sqltext

// TokenKind is the lexical class of a token.
type TokenKind uint8

// The classes. Every byte of a text belongs to exactly one token.
const (
	EOF          TokenKind = iota
	Space                  // white space
	Comment                // -- … or /* … */, nested
	Word                   // unquoted identifier or keyword
	Quoted                 // "…" or U&"…"
	String                 // '…', E'…', N'…' or $tag$…$tag$
	UString                // U&'…'
	BitString              // B'…'
	HexString              // X'…'
	Integer                // 42, 1_000, 0xff
	Decimal                // 4.2, .5, 1e10
	Param                  // $1
	Op                     // + - * / < > = <-> ->> …
	Punct                  // ( ) [ ] , ; . : :: .. :=
	Stray                  // a byte that starts no token
	Unterminated           // a comment, string or identifier that does not end: all the rest
)

var tokenNames = [...]string{
	EOF: "eof", Space: "space", Comment: "comment", Word: "word", Quoted: "quoted",
	String: "string", UString: "ustring", BitString: "bits", HexString: "hex",
	Integer: "integer", Decimal: "decimal", Param: "param", Op: "op",
	Punct: "punct", Stray: "stray", Unterminated: "unterminated",
}

// String is the name used in tests and messages.
func (k TokenKind) String() string { return tokenNames[k] }

// Token is src[Start:End] of the scanned text.
type Token struct {
	Kind       TokenKind
	Start, End int
	// Escapes: a string in which a backslash is an escape (E'…', U&'…', or '…'
	// without standard_conforming_strings) or that continues over a line break,
	// so that its value is not its bytes.
	Escapes bool
	// Body is where a string's content starts; meaningful without Escapes.
	Body int
}

// Bytes returns the token's bytes, aliasing src.
func (t Token) Bytes(src []byte) []byte { return src[t.Start:t.End] }

// Classes of bytes in scan.l.
const (
	isSpace uint8 = 1 << iota
	isIdentStart
	isIdentPart
	isDigit
	isOp
	isSpecialOp // lets an operator end in + or -
	isPunct
)

var class = func() (t [256]uint8) {
	for _, c := range " \t\n\r\f\v" {
		t[c] |= isSpace
	}
	for c := 0; c < 256; c++ {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80 {
			t[c] |= isIdentStart | isIdentPart
		}
	}
	for c := '0'; c <= '9'; c++ {
		t[c] |= isDigit | isIdentPart
	}
	t['$'] |= isIdentPart
	for _, c := range "~!@#^&|`?+-*/%<>=" {
		t[c] |= isOp
	}
	for _, c := range "~!@#^&|`?%" {
		t[c] |= isSpecialOp
	}
	for _, c := range "()[],;.:" {
		t[c] |= isPunct
	}
	return t
}()
