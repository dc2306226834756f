package sqltext

// Guard bounds how deep a parser would have to go for a text. A recursive parser
// dies of a tree that is too deep, and a tree is deep through nesting (brackets,
// CASE) or through chains: operators in one expression, set operations, joins.
type Guard struct {
	Depth int // deepest nesting of brackets and CASE
	Chain int // longest chain of operators, set operations or joins on one level
}

// role is what a keyword does to the depth of a tree.
type role uint8

const (
	roleNone role = iota
	roleChain
	roleBetween
	roleReset
	roleAnd
	roleSetOp
	roleJoin
	roleCase
	roleEnd
)

var roles = map[string]role{
	"NOT": roleChain, "IS": roleChain, "ISNULL": roleChain, "NOTNULL": roleChain,
	"LIKE": roleChain, "ILIKE": roleChain, "SIMILAR": roleChain, "IN": roleChain,
	"COLLATE": roleChain, "AT": roleChain, "OPERATOR": roleChain,
	"EXPLAIN": roleChain, "OVERLAPS": roleChain, "ESCAPE": roleChain,
	"BETWEEN": roleBetween, "AND": roleAnd, "OR": roleReset,
	"UNION": roleSetOp, "INTERSECT": roleSetOp, "EXCEPT": roleSetOp,
	"JOIN": roleJoin, "CASE": roleCase, "END": roleEnd,
}

// longestRole is the length of the longest keyword in roles, in bytes.
const longestRole = 9

func roleOf(word []byte) role {
	if len(word) < 2 || len(word) > longestRole {
		return roleNone
	}
	var up [longestRole]byte
	return roles[string(upper(up[:0], word))]
}

// keptLevels is how many open brackets have counters of their own; deeper ones
// share the last, which can only overstate the chain.
const keptLevels = 64

type level struct{ ops, setops, joins, between int32 }

// guardCounter counts while tokens go by.
type guardCounter struct {
	Guard
	open   int // brackets
	cases  int
	levels [keptLevels]level
}

func (g *guardCounter) at() *level { return &g.levels[min(g.open, keptLevels-1)] }

func (g *guardCounter) feed(src []byte, t Token) {
	switch t.Kind {
	case Op:
		g.chain(&g.at().ops)
	case Punct:
		g.punct(src[t.Start], t.End-t.Start)
	case Word:
		g.word(roleOf(src[t.Start:t.End]))
	}
}

func (g *guardCounter) chain(n *int32) {
	*n++
	g.Chain = max(g.Chain, int(*n))
}

func (g *guardCounter) deeper() { g.Depth = max(g.Depth, g.open+g.cases) }

func (g *guardCounter) punct(c byte, n int) {
	switch c {
	case '(', '[':
		g.open++
		if g.open < keptLevels {
			g.levels[g.open] = level{}
		}
		g.deeper()
	case ')', ']':
		g.open = max(0, g.open-1)
	case ',':
		g.at().ops = 0
	case ';':
		if g.open == 0 {
			g.levels[0] = level{}
			g.cases = 0
		}
	case ':':
		if n == 2 {
			g.chain(&g.at().ops)
		}
	}
}

func (g *guardCounter) word(r role) {
	l := g.at()
	switch r {
	case roleChain:
		g.chain(&l.ops)
	case roleBetween:
		g.chain(&l.ops)
		l.between++
	case roleAnd:
		if l.between > 0 {
			l.between--
		} else {
			l.ops = 0
		}
	case roleReset:
		l.ops = 0
	case roleSetOp:
		g.chain(&l.setops)
	case roleJoin:
		g.chain(&l.joins)
	case roleCase:
		g.cases++
		g.deeper()
	case roleEnd:
		g.cases = max(0, g.cases-1)
	}
}
