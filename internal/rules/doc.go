// Package rules is the set of rules that statements are held against when they
// are planned: each is off, warned about, or refused with what to write instead.
// They guard against accidents; they are no access control, for a text that the
// router cannot parse is not judged, nor is what runs inside a function.
//
// The router hands over Facts, a few plain values about one statement. The
// package knows no parse tree, no connection and no client. A Set is immutable
// and may be shared:
//
//	config -> New -> Set.Check(Facts) -> Verdict -> the router's Refusal
package rules
