package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// copied returns the SELECT of COPY (SELECT …) TO STDOUT, nil for other statements.
func copied(n *pg_query.Node) *pg_query.SelectStmt {
	c := n.GetCopyStmt()
	if c == nil || c.IsFrom || c.IsProgram || c.Filename != "" {
		return nil
	}
	return c.Query.GetSelectStmt()
}

// copies makes the rewritten query that of the COPY. Its options stay, and a header
// has the columns' names, which are the original's.
func (rw *AggregateRewrite) copies(c *pg_query.CopyStmt, original *pg_query.SelectStmt) (*AggregateRewrite, Reason) {
	tree, err := pg_query.Parse(rw.SQL)
	if err != nil || len(tree.Stmts) != 1 {
		return nil, ReasonAggRoundTrip
	}
	out := *rw
	out.alone = nil // a header comes without a row
	out.Copy = &CopiedQuery{Rewritten: rw.SQL}
	var reason Reason
	if out.Copy.Original, reason = written(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: original}}); reason != "" {
		return nil, reason
	}
	whole := proto.Clone(c).(*pg_query.CopyStmt)
	whole.Query = tree.Stmts[0].Stmt
	out.SQL, reason = written(&pg_query.Node{Node: &pg_query.Node_CopyStmt{CopyStmt: whole}})
	return &out, reason
}

// written deparses a statement and proves that it parses back to the same.
func written(n *pg_query.Node) (string, Reason) {
	sql, err := pg_query.Deparse(&pg_query.ParseResult{Version: parserVersion(), Stmts: []*pg_query.RawStmt{{Stmt: n}}})
	if err != nil {
		return "", ReasonAggRoundTrip
	}
	back, err := pg_query.Parse(sql)
	if err != nil || len(back.Stmts) != 1 || !sameTree(back.Stmts[0].Stmt, n) {
		return "", ReasonAggRoundTrip
	}
	return sql, ""
}
