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
	tree, err := pg_query.Parse("SELECT " + strings.Join(texts, ", "))
	if err != nil || len(tree.Stmts) != 1 {
		return ReasonAggRoundTrip
	}
	targets := tree.Stmts[0].Stmt.GetSelectStmt().GetTargetList()
	if len(targets) != len(q.user) {
		return ReasonAggRoundTrip
	}
	for i, t := range targets {
		meant := proto.Clone(q.user[i].node)
		forget(meant.ProtoReflect())
		got := t.GetResTarget().GetVal()
		forget(got.ProtoReflect())
		if !proto.Equal(meant, got) {
			return ReasonAggRoundTrip
		}
	}
	return ""
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

// parsesBack proves that each text is one statement of its kind.
func parsesBack(r *AggregateRewrite) Reason {
	tree, err := pg_query.Parse(r.Lock + ";" + r.Guard + ";" + r.SQL)
	if err != nil || len(tree.Stmts) != 3 {
		return ReasonAggRoundTrip
	}
	if tree.Stmts[0].Stmt.GetLockStmt() == nil || tree.Stmts[1].Stmt.GetSelectStmt() == nil || tree.Stmts[2].Stmt.GetSelectStmt() == nil {
		return ReasonAggRoundTrip
	}
	return ""
}
