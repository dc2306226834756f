// Package vector reads the values of pgvector and says what surely holds about their
// distances, so that an answer kept in memory can be judged without the server.
//
//	bytes of a literal or parameter -> Decode -> Value -> AppendKey           (equal values, equal keys)
//	Value, Value, Op                -> Distance -> [lo, hi]                   (the server's float8 lies in it)
//	inserted vector, radius         -> MayEnter                               (false only if proven)
//	exact neighbours of q0, query q -> List.Near -> its first k, in its order (or not proven)
//
// It is a leaf. It must never know SQL, the protocol, the cache or the database; that
// the neighbours came from an exact plan, and that nothing has changed since, is the
// caller's proof.
//
// # Why intervals
//
// The server sums in float32, in an order that its compiler and processor choose
// (pgvector's Makefile asks for -fassociative-math and -ffp-contract=fast, and picks AVX
// variants at load), so its result cannot be computed again bit by bit. But whatever the
// order: with u = 2^-24 and gamma(n) = nu/(1-nu), a sum of n products of rounded
// differences lies within gamma(n+2) of the true sum of the terms' absolute values
// (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1 and
// lemma 3.1; a fused multiply-add rounds once where two roundings are counted). Here the
// true sum is computed in float64, whose own error n*2^-53 is covered by counting two
// roundings more: gamma(n+4). Underflow adds at most 2^-126 a term, even where denormals
// are flushed. Where float32 may overflow the upper bound is +Inf (sums of positive
// terms) or nothing is said (inner products, cosine).
//
// The bounds are held against pgvector itself by the tests beside.
//
// A Value owns its memory and is used by one goroutine at a time; a List is immutable
// and may be shared. What is refused with an error is not understood, which need not
// mean that the server refuses it.
package vector
