package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/sqltext"
)

// Cursor is the DECLARE of a text that may be answered from an aggregate. Nothing but
// a BEGIN comes before it in the text, and nothing but FETCH and MOVE after it.
type Cursor struct {
	Name  string
	Query string // what it is declared for
	// Declare and Rest are where in the text DECLARE begins and what follows it, in
	// bytes; Rest is 0 when nothing does.
	Declare, Rest int
	Begin         string // the completion of the BEGIN that comes first, "" without
}

// Of pg_query's DeclareCursorStmt.Options (parsenodes.h).
const (
	cursorBinary   = 0x0001
	cursorNoScroll = 0x0004
)

// declaration returns the index of the DECLARE of a text that is BEGIN, DECLARE and
// then FETCH or MOVE, of which the first and last may be missing; -1 for other texts.
func declaration(stmts []*pg_query.RawStmt, text string) int {
	at := 0
	if t := stmts[0].Stmt.GetTransactionStmt(); t != nil {
		// What is sent in two parts keeps its characters' places (cursorRest).
		if len(t.Options) > 0 || transactionKinds[t.Kind] != sqltext.Begin || len(stmts) == 1 || !ascii(text[:stmts[1].StmtLocation]) {
			return -1
		}
		at = 1
	}
	if stmts[at].Stmt.GetDeclareCursorStmt() == nil {
		return -1
	}
	for _, s := range stmts[at+1:] {
		if s.Stmt.GetFetchStmt() == nil {
			return -1
		}
	}
	return at
}

// cursorIn returns the cursor that the text's statement at declares.
func cursorIn(stmts []*pg_query.RawStmt, at int) *Cursor {
	c := &Cursor{Name: stmts[at].Stmt.GetDeclareCursorStmt().Portalname}
	if at > 0 {
		c.Begin = "BEGIN"
		if stmts[0].Stmt.GetTransactionStmt().Kind == pg_query.TransactionStmtKind_TRANS_STMT_START {
			c.Begin = "START TRANSACTION"
		}
		c.Declare = int(stmts[at].StmtLocation)
	}
	if at+1 < len(stmts) {
		c.Rest = int(stmts[at+1].StmtLocation)
	}
	return c
}

// cursor plans a DECLARE. What it reads is the whole query with its proof, so that
// whether the cursor has a row tells whether the proof held in the cursor's own
// snapshot; to find that out and go back, it must scroll.
func (b *blocks) cursor(d *pg_query.DeclareCursorStmt) (*AggregateRewrite, Reason) {
	if d.Options&(cursorHold|cursorNoScroll) != 0 {
		return nil, ReasonAggCursor
	}
	rw, reason := b.selected(d.Query.GetSelectStmt())
	switch {
	case reason != "":
		return nil, reason
	case !rw.HasWithin():
		return nil, ReasonAggCursor
	}
	out := *rw
	name, binary := ident(d.Portalname), ""
	if d.Options&cursorBinary != 0 {
		binary = " BINARY"
	}
	out.Cursor = &CursorQuery{Read: rw.SQL, Probe: "FETCH 1 IN " + name + "; MOVE BACKWARD ALL IN " + name}
	out.SQL, out.alone = "DECLARE "+name+binary+" SCROLL CURSOR FOR "+rw.Within(), nil
	return &out, ""
}

// declared returns the query of a DECLARE, nil for other statements.
func declared(n *pg_query.Node) *pg_query.SelectStmt {
	return n.GetDeclareCursorStmt().GetQuery().GetSelectStmt()
}

// declaredQuery writes the query of a DECLARE, "" when it cannot be.
func declaredQuery(n *pg_query.Node) string {
	sql, reason := written(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: declared(n)}})
	if reason != "" {
		return ""
	}
	return sql
}
