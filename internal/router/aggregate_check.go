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

// parsesBack proves that the rewritten query is one SELECT over one sub-query. The
// filter is left out: it is made of constants and of bounds that roundTrip proved.
func (d *candidate) parsesBack(arms *armSet) Reason {
	text, _, reason := d.sql(arms, "TRUE")
	if reason != "" {
		return reason
	}
	tree, err := pg_query.Parse(text)
	if err != nil || len(tree.Stmts) != 1 {
		return ReasonAggRoundTrip
	}
	s := tree.Stmts[0].Stmt.GetSelectStmt()
	if len(s.GetFromClause()) != 1 || s.FromClause[0].GetRangeSubselect() == nil || len(s.TargetList) != len(d.query.names) {
		return ReasonAggRoundTrip
	}
	return ""
}
