package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// IndexBuild is a lone call of qvp.create_vector_index, which the gateway does
// without a lock that keeps writers out: the function itself cannot.
type IndexBuild struct {
	// Choose gives one row: the statement that builds the index concurrently, the
	// index's name as the function returns it, and the number of rows. It gives none
	// where the server is one that cannot: PostgreSQL as WebAssembly has one process, and
	// is left with an index that nobody can drop.
	Choose string
}

const (
	functionsSchema = "qvp"
	createIndex     = "create_vector_index"
	chooseIndex     = "choose_vector_index"
)

// indexBuild recognises SELECT qvp.create_vector_index(…) of constants.
func indexBuild(n *pg_query.SelectStmt, v *view) *IndexBuild {
	if n == nil || v.snap == nil || !v.snap.UserFunctions[createIndex] || !v.snap.UserFunctions[chooseIndex] || len(n.TargetList) != 1 {
		return nil
	}
	bare := proto.Clone(n).(*pg_query.SelectStmt)
	bare.TargetList = nil
	if !proto.Equal(bare, &pg_query.SelectStmt{LimitOption: n.LimitOption, Op: n.Op}) {
		return nil
	}
	call := n.TargetList[0].GetResTarget().GetVal().GetFuncCall()
	names, ok := stringsOf(call.GetFuncname())
	if !ok || len(names) != 2 || names[0] != functionsSchema || names[1] != createIndex {
		return nil
	}
	constant := true
	for _, a := range call.Args {
		visit(a, func(m any) bool {
			switch m.(type) {
			case *pg_query.ParamRef, *pg_query.ColumnRef, *pg_query.SubLink, *pg_query.FuncCall:
				constant = false
			}
			return constant
		})
	}
	if !constant {
		return nil
	}
	chosen := proto.Clone(n).(*pg_query.SelectStmt)
	chosen.TargetList[0].GetResTarget().Val.GetFuncCall().Funcname[1].GetString_().Sval = chooseIndex
	sql, reason := written(&pg_query.Node{Node: &pg_query.Node_SelectStmt{SelectStmt: chosen}})
	if reason != "" {
		return nil
	}
	return &IndexBuild{Choose: "SELECT pg_catalog.format('CREATE INDEX CONCURRENTLY %I ON %I.%I USING %s (%I %I.%I) WITH (%s)', (c).index_name, (c).table_schema, (c).table_name, (c).method, (c).column_name, (c).operators_schema, (c).operators, " +
		"CASE WHEN (c).lists IS NULL THEN pg_catalog.format('m = %s, ef_construction = %s', (c).m, (c).ef_construction) ELSE pg_catalog.format('lists = %s', (c).lists) END), " +
		"pg_catalog.format('%I.%I', (c).table_schema, (c).index_name), (c).rows FROM (" + sql + " OFFSET 0) AS chosen (c) WHERE pg_catalog.pg_backend_pid() <> 0 AND pg_catalog.version() NOT LIKE '%Emscripten%'"}
}
