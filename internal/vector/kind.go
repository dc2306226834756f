package vector

// Kind is a type of pgvector, or bit.
type Kind uint8

// The kinds, by the names of their types.
const (
	Vector    Kind = 1 + iota // float32, dense
	Halfvec                   // IEEE half precision, dense
	Sparsevec                 // float32, non-zero elements only
	Bit                       // bit strings of the server itself
)

// ParseKind returns the kind of a type by its name without schema.
func ParseKind(typname string) (Kind, bool) {
	switch typname {
	case "vector":
		return Vector, true
	case "halfvec":
		return Halfvec, true
	case "sparsevec":
		return Sparsevec, true
	case "bit", "varbit":
		return Bit, true
	}
	return 0, false
}

func (k Kind) String() string {
	switch k {
	case Vector:
		return "vector"
	case Halfvec:
		return "halfvec"
	case Sparsevec:
		return "sparsevec"
	case Bit:
		return "bit"
	}
	return "unknown"
}

// Op is a distance operator. Smaller is nearer for all of them.
type Op uint8

// The operators.
const (
	L2           Op = 1 + iota // <->
	InnerProduct               // <#>, negated
	Cosine                     // <=>
	L1                         // <+>
	Hamming                    // <~>, of bits
	Jaccard                    // <%>, of bits
)

// ParseOp returns the operator of a name such as "<->".
func ParseOp(name string) (Op, bool) {
	switch name {
	case "<->":
		return L2, true
	case "<#>":
		return InnerProduct, true
	case "<=>":
		return Cosine, true
	case "<+>":
		return L1, true
	case "<~>":
		return Hamming, true
	case "<%>":
		return Jaccard, true
	}
	return 0, false
}

func (o Op) String() string {
	switch o {
	case L2:
		return "<->"
	case InnerProduct:
		return "<#>"
	case Cosine:
		return "<=>"
	case L1:
		return "<+>"
	case Hamming:
		return "<~>"
	case Jaccard:
		return "<%>"
	}
	return "unknown"
}

// takes says whether the operator is defined for values of a kind.
func (o Op) takes(k Kind) bool {
	if o == Hamming || o == Jaccard {
		return k == Bit
	}
	return o >= L2 && o <= L1 && k >= Vector && k <= Sparsevec
}
