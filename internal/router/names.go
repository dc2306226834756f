package router

import (
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// Names is what a text has to do with things that a session has by name and the
// gateway keeps for its clients: channels and SQL's prepared statements.
type Names struct {
	Channel   *Channel // the text is this LISTEN or UNLISTEN, nothing else
	Prepares  string   // the text is the PREPARE of this statement, nothing else
	Executes  []string // the prepared statements that it executes, EXPLAIN and CREATE TABLE AS included
	Uses      []string // all that it names: Executes, and those of PREPARE and DEALLOCATE
	Notifies  bool     // it may send notifications
	Listening bool     // it may ask which channels are listened to
	Prepared  bool     // it may look at the list of prepared statements
}

// Channel is a LISTEN, or with Off an UNLISTEN. Name is "" for UNLISTEN *.
type Channel struct {
	Name string
	Off  bool
}

// names looks for what Names tells. What stands in the text as a word is believed;
// that it is a name there makes no difference but work.
func names(tree []*pg_query.RawStmt, sql string) Names {
	lower := strings.ToLower(sql)
	n := Names{
		Notifies:  strings.Contains(lower, "notify"),
		Listening: strings.Contains(lower, "pg_listening_channels"),
		Prepared:  strings.Contains(lower, "pg_prepared_statement"), // the view and its function
	}
	if len(tree) == 1 {
		switch x := tree[0].Stmt.Node.(type) {
		case *pg_query.Node_ListenStmt:
			n.Channel = &Channel{Name: x.ListenStmt.Conditionname}
		case *pg_query.Node_UnlistenStmt:
			n.Channel = &Channel{Name: x.UnlistenStmt.Conditionname, Off: true}
		case *pg_query.Node_PrepareStmt:
			n.Prepares = x.PrepareStmt.Name
		}
	}
	for _, raw := range tree {
		name := executed(raw.Stmt)
		if name != "" {
			n.Executes = append(n.Executes, name)
		}
		if x := raw.Stmt.GetPrepareStmt(); x != nil {
			name = x.Name
		}
		if x := raw.Stmt.GetDeallocateStmt(); x != nil && len(tree) > 1 {
			name = x.Name
		}
		if name != "" {
			n.Uses = append(n.Uses, name)
		}
	}
	return n
}

// executed returns the name of the prepared statement that n executes, or "".
func executed(n *pg_query.Node) string {
	switch x := n.GetNode().(type) {
	case *pg_query.Node_ExecuteStmt:
		return x.ExecuteStmt.Name
	case *pg_query.Node_ExplainStmt:
		return executed(x.ExplainStmt.Query)
	case *pg_query.Node_CreateTableAsStmt:
		return executed(x.CreateTableAsStmt.Query)
	}
	return ""
}
