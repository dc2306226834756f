package router

import (
	"fmt"
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"qvpgw/internal/catalog"
)

// Near is a k-NN query seen as one of a family: of all that differ from it in the
// vector, the limit and the offset alone. It is immutable.
type Near struct {
	Probe
	// Family is the text without those three.
	Family string
	// Offset is the number of rows that are left out: a literal, or with OffsetParam the
	// value of that parameter.
	Offset      int64
	OffsetParam int
	// Same says that the vector is in the family: the answer has its distances.
	Same bool

	tree *pg_query.ParseResult
	name string // what the table is called in the text
	from string // the table as the text has it
}

// Near returns the family of a text whose plan is Cached; false: the vector, the limit or
// the offset is neither a literal nor a parameter, or the latter two stand elsewhere too,
// or the order is not from the nearest on. key is a column whose value Rows adds, "" for none.
func (r *Router) Near(c *Context, text []byte, key string) (*Near, bool) {
	p, tree, name, ok := r.probe(c, text, key)
	if !ok || p.Limit < 0 && p.LimitParam == 0 {
		return nil, false
	}
	n := &Near{Probe: p, tree: tree, name: name}
	sel := tree.Stmts[0].Stmt.GetSelectStmt()
	switch o := sel.LimitOffset; {
	case o == nil:
	case o.GetParamRef() != nil:
		n.OffsetParam = int(o.GetParamRef().Number)
	case o.GetAConst().GetIval() != nil:
		n.Offset = int64(o.GetAConst().GetIval().Ival)
	default:
		return nil, false
	}
	family := proto.Clone(tree).(*pg_query.ParseResult)
	of := family.Stmts[0].Stmt.GetSelectStmt()
	of.LimitCount, of.LimitOffset = nil, nil
	of.LimitOption = pg_query.LimitOption_LIMIT_OPTION_DEFAULT
	if e := distance(of.SortClause[0].GetSortBy().Node); e != nil {
		vector := vectorOf(e.Rexpr)
		if vector == nil {
			vector = vectorOf(e.Lexpr)
		}
		if vector == nil {
			return nil, false
		}
		vector.Node = pg_query.MakeColumnRefNode([]*pg_query.Node{pg_query.MakeStrNode("qvpgw vector")}, -1).Node
	}
	var err error
	if n.Family, err = pg_query.Deparse(family); err != nil {
		return nil, false
	}
	n.Same = n.Param > 0 && takesParam(n.Family, n.Param)
	for _, param := range []int{n.LimitParam, n.OffsetParam} {
		if param > 0 && takesParam(n.Family, param) {
			return nil, false
		}
	}
	if n.Param > 0 && (n.Param == n.LimitParam || n.Param == n.OffsetParam) || n.LimitParam > 0 && n.LimitParam == n.OffsetParam {
		return nil, false
	}
	from := sel.FromClause[0].GetRangeVar()
	n.from = catalog.Quote(from.Relname)
	if from.Schemaname != "" {
		n.from = catalog.Quote(from.Schemaname) + "." + n.from
	}
	return n, true
}

// vectorOf returns the literal or parameter that an operand is, bare or cast; nil: it is
// something else.
func vectorOf(n *pg_query.Node) *pg_query.Node {
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.Arg
	}
	if n.GetParamRef() != nil || n.GetAConst().GetSval() != nil {
		return n
	}
	return nil
}

// takesParam says whether a text may have a parameter.
func takesParam(sql string, param int) bool {
	number := "$" + strconv.Itoa(param)
	for {
		i := strings.Index(sql, number)
		if i < 0 {
			return false
		}
		sql = sql[i+len(number):]
		if sql == "" || sql[0] < '0' || sql[0] > '9' {
			return true
		}
	}
}

// Rows is the query for its first rows, without offset, with the distance, the vector
// and, for a key, that column behind the client's columns. Its parameters are those of
// the text, of the same types.
func (n *Near) Rows(rows int, key string) (string, error) {
	tree := proto.Clone(n.tree).(*pg_query.ParseResult)
	sel := tree.Stmts[0].Stmt.GetSelectStmt()
	limit := strconv.Itoa(rows)
	for _, param := range []int{n.LimitParam, n.OffsetParam} {
		if param > 0 {
			limit += fmt.Sprintf(" + 0 * $%d::bigint", param)
		}
	}
	model, err := pg_query.Parse("SELECT LIMIT " + limit)
	if err != nil {
		return "", fmt.Errorf("cannot make the limit %s: %w", limit, err)
	}
	sel.LimitCount, sel.LimitOffset = model.Stmts[0].Stmt.GetSelectStmt().LimitCount, nil
	sel.LimitOption = pg_query.LimitOption_LIMIT_OPTION_COUNT
	sel.TargetList = append(sel.TargetList,
		target(hiddenName, proto.Clone(sortedBy(sel)).(*pg_query.Node)), n.column(n.Column))
	if key != "" {
		sel.TargetList = append(sel.TargetList, n.column(key))
	}
	sql, err := pg_query.Deparse(tree)
	if err != nil {
		return "", fmt.Errorf("cannot write the query for %d rows: %w", rows, err)
	}
	return sql, nil
}

func (n *Near) column(name string) *pg_query.Node {
	return target(hiddenName, pg_query.MakeColumnRefNode([]*pg_query.Node{pg_query.MakeStrNode(n.name), pg_query.MakeStrNode(name)}, -1))
}

// Squares is a query for the least and the largest inner product of a vector of the
// table with itself.
func (n *Near) Squares() string {
	v := catalog.Quote(n.Column)
	return fmt.Sprintf("SELECT pg_catalog.min(-(%[1]s <#> %[1]s)), pg_catalog.max(-(%[1]s <#> %[1]s)) FROM %[2]s", v, n.from)
}
