// Package sqltext reads the surface of SQL: tokens, where statements end, what
// kind of statement a text starts with, and its shape (the text with literals,
// comments and spelling of white space taken out).
//
// It follows PostgreSQL's own lexical rules (scan.l of version 17) and knows no
// grammar: it never says what a statement means, only how it is cut. It must
// never know a catalog, a protocol or a parse tree.
//
// Memory: tokens are offsets into the caller's bytes; nothing is copied and
// nothing is kept. AppendShape appends to the caller's buffer. On a text of any
// content every function ends, in time linear in its length, without a panic:
//
//	text -> Scanner.Next -> tokens that tile the text -> Scan (kind, guard, shape)
package sqltext
