package router

import (
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// roundTrip proves that the renderer writes what was meant: every user expression,
// written in its own spelling and parsed again, must give the tree it came from.
func roundTrip(q *aggQuery) Reason {
	texts := make([]string, len(q.user))
	for i, u := range q.user {
		texts[i] = u.text
	}
	tree, err := pg_query.Parse("SELECT " + strings.Join(texts, ", ") + q.userWindows)
	if err != nil || len(tree.Stmts) != 1 {
		return ReasonAggRoundTrip
	}
	stmt := tree.Stmts[0].Stmt.GetSelectStmt()
	targets := stmt.GetTargetList()
	if len(targets) != len(q.user) || len(stmt.GetWindowClause()) != len(q.stmt.WindowClause) {
		return ReasonAggRoundTrip
	}
	for i, w := range stmt.WindowClause {
		if !sameTree(w, q.stmt.WindowClause[i]) {
			return ReasonAggRoundTrip
		}
	}
	for i, t := range targets {
		if !sameTree(q.user[i].node, t.GetResTarget().GetVal()) {
			return ReasonAggRoundTrip
		}
	}
	return ""
}

// sameTree compares two parse trees but for what forget clears.
func sameTree(a, b proto.Message) bool {
	a, b = proto.Clone(a), proto.Clone(b)
	forget(a.ProtoReflect())
	forget(b.ProtoReflect())
	return proto.Equal(a, b)
}

// forget clears what differs between two spellings of one expression: positions
// in the text, and whether a function was called by its SQL syntax.
func forget(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "location" || f.Name() == "funcformat":
			m.Clear(f)
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			for i := range v.List().Len() {
				forget(v.List().Get(i).Message())
			}
		case f.Kind() == protoreflect.MessageKind:
			forget(v.Message())
		}
		return true
	})
}

// parsesBack proves that the rewritten query is one SELECT over one sub-query, and
// returns it.
func (d *candidate) parsesBack(text string) (*pg_query.SelectStmt, Reason) {
	tree, err := pg_query.Parse(text)
	if err != nil || len(tree.Stmts) != 1 {
		return nil, ReasonAggRoundTrip
	}
	s := tree.Stmts[0].Stmt.GetSelectStmt()
	if len(s.GetFromClause()) != len(d.query.stmt.FromClause) || len(d.query.scope.dims) == 0 && s.FromClause[0].GetRangeSubselect() == nil || len(s.TargetList) != len(d.query.names) {
		return nil, ReasonAggRoundTrip
	}
	return s, ""
}
