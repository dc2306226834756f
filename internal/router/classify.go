package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rules"
	"qvpgw/internal/sqltext"
)

// cursorHold is WITH HOLD among a cursor's options (CURSOR_OPT_HOLD in
// parsenodes.h).
const cursorHold = 0x0020

// statement surveys one statement of a text and returns what it does to the
// session; s.pins has what pins it.
func (s *survey) statement(n *pg_query.Node) Statement {
	st := Statement{Kind: sqltext.Other}
	if !s.query(n, &st) && !s.session(n, &st) && !s.maintenance(n, &st) {
		s.define(n, &st)
	}
	st.DDL, st.Logins = st.DDL || s.changes, st.Logins || s.logins
	if s.catalog {
		st.Kind, st.DDL = sqltext.DDL, true
	}
	s.everywhere(st.DDL)
	if st.Kind == sqltext.DDL && (st.DDL || n.GetDropStmt() != nil) {
		s.change = s.confined(n)
	}
	// Code that is not known may do anything to sequences.
	any := s.pins&(PinFunction|PinRelation|PinDo|PinCatalog) != 0
	st.Nextval, st.Currval = s.nextval || any, s.currval || any
	if s.setting != nil {
		st.Setting = s.setting
	}
	return st
}

// everywhere applies what the catalog knows against every statement.
func (s *survey) everywhere(ddl bool) {
	snap := s.view.snap
	switch {
	case snap == nil && ddl:
		s.against(PinCatalog, "event triggers")
	case snap == nil:
	case ddl && snap.EventTriggers:
		s.againstCode(PinFunction, "a user's event trigger", &snap.EventCode)
	case s.evaluates && snap.UserCasts:
		s.againstCode(PinFunction, "a user's cast", &snap.AnyCode)
	}
}

// query handles statements that read and write rows; false for others.
func (s *survey) query(n *pg_query.Node, st *Statement) bool {
	switch x := n.Node.(type) {
	case *pg_query.Node_SelectStmt:
		st.Kind = sqltext.Select
		s.bare = bareConfig(x.SelectStmt)
		if into := selectInto(x.SelectStmt); into != nil {
			st.DDL = !s.created(into.Rel)
		}
	case *pg_query.Node_InsertStmt:
		st.Kind = sqltext.Insert
	case *pg_query.Node_UpdateStmt:
		st.Kind = sqltext.Update
	case *pg_query.Node_DeleteStmt:
		st.Kind = sqltext.Delete
	case *pg_query.Node_MergeStmt:
		st.Kind = sqltext.Merge
	case *pg_query.Node_CopyStmt:
		st.Kind = sqltext.Copy
		s.copy(x.CopyStmt)
		return true
	case *pg_query.Node_ExplainStmt:
		inner := s.statement(x.ExplainStmt.Query)
		if inner.Setting != nil && !inner.Setting.Local {
			s.computed(inner.Setting) // it runs only with ANALYZE
		}
		inner.Kind, inner.Name = sqltext.Explain, ""
		*st = inner
		return true
	case *pg_query.Node_DeclareCursorStmt:
		st.Kind = sqltext.Declare
		if x.DeclareCursorStmt.Options&cursorHold != 0 {
			s.against(PinCursor, "a cursor WITH HOLD")
			s.leaves |= sqltext.LeavesCursor
		}
		s.node(x.DeclareCursorStmt.Query)
		return true
	case *pg_query.Node_PrepareStmt:
		st.Kind, st.Name = sqltext.Prepare, x.PrepareStmt.Name
		s.against(PinPrepare, "PREPARE")
		s.leaves |= sqltext.LeavesPrepared
		s.nodes(x.PrepareStmt.Argtypes)
		s.node(x.PrepareStmt.Query)
		return true
	case *pg_query.Node_ExecuteStmt:
		st.Kind, st.Name = sqltext.Execute, x.ExecuteStmt.Name
		s.execute(x.ExecuteStmt)
		return true
	case *pg_query.Node_TruncateStmt:
		st.Kind = sqltext.Truncate
		for _, r := range x.TruncateStmt.Relations {
			rel := s.target(r.GetRangeVar(), false)
			s.judge(rules.Facts{Kind: sqltext.Truncate}, r.GetRangeVar(), rel)
		}
		if x.TruncateStmt.Behavior == pg_query.DropBehavior_DROP_CASCADE && s.view.snap != nil {
			// It reaches what refers to them by keys of every kind, triggers included.
			s.againstCode(PinRelation, "TRUNCATE CASCADE", &s.view.snap.AnyCode)
		}
		return true
	default:
		return false
	}
	s.node(n)
	return true
}

// selectInto returns the INTO of a SELECT, which the grammar hangs on the first
// arm of a set operation.
func selectInto(n *pg_query.SelectStmt) *pg_query.IntoClause {
	for ; n != nil; n = n.Larg {
		if n.IntoClause != nil {
			return n.IntoClause
		}
	}
	return nil
}

// created notes a relation that the statement makes and reports whether it is
// temporary.
func (s *survey) created(r *pg_query.RangeVar) bool {
	temp := r.GetRelpersistence() == "t" || isTempSchema(r.GetSchemaname())
	if !temp && r.GetSchemaname() == "" && len(s.c.SearchPath) > 0 {
		temp = isTempSchema(s.c.SearchPath[0])
	}
	if temp {
		s.against(PinTemp, "a temporary relation")
	}
	return temp
}

func (s *survey) copy(n *pg_query.CopyStmt) {
	s.judge(rules.Facts{Kind: sqltext.Copy, Program: n.IsProgram}, n.Relation, nil)
	switch {
	case n.Relation == nil:
	case n.IsFrom:
		s.target(n.Relation, true)
	default:
		s.read(n.Relation)
	}
	s.fields(n.ProtoReflect(), "relation")
}

// execute handles EXECUTE of a prepared statement: what that does is known to whoever
// keeps it (Names.Executes), but not its sequences.
func (s *survey) execute(n *pg_query.ExecuteStmt) {
	s.nodes(n.Params)
	s.nextval, s.currval = true, true
}

// session handles statements about the session and the transaction; false for
// others.
func (s *survey) session(n *pg_query.Node, st *Statement) bool {
	switch x := n.Node.(type) {
	case *pg_query.Node_TransactionStmt:
		st.Kind, st.Name, st.Chain = transactionKinds[x.TransactionStmt.Kind], x.TransactionStmt.SavepointName, x.TransactionStmt.Chain
	case *pg_query.Node_VariableSetStmt:
		s.set(x.VariableSetStmt, st)
	case *pg_query.Node_VariableShowStmt:
		st.Kind = sqltext.Show
	case *pg_query.Node_DiscardStmt:
		st.Kind, st.Name = sqltext.Discard, discardNames[x.DiscardStmt.Target]
		s.ends = sqltext.LeavesTemp
	case *pg_query.Node_DeallocateStmt:
		st.Kind, st.Name = sqltext.Deallocate, x.DeallocateStmt.Name
		s.ends = sqltext.LeavesPrepared
	case *pg_query.Node_FetchStmt:
		st.Kind, st.Name = sqltext.Fetch, x.FetchStmt.Portalname
	case *pg_query.Node_ClosePortalStmt:
		st.Kind = sqltext.Close
		s.ends = sqltext.LeavesCursor
	case *pg_query.Node_ListenStmt:
		st.Kind = sqltext.Listen
		s.against(PinListen, "LISTEN")
		s.leaves |= sqltext.LeavesListen
	case *pg_query.Node_UnlistenStmt:
		st.Kind, st.Name = sqltext.Unlisten, x.UnlistenStmt.Conditionname
		s.ends = sqltext.LeavesListen
	case *pg_query.Node_NotifyStmt:
		st.Kind = sqltext.Notify
	case *pg_query.Node_LockStmt:
		st.Kind = sqltext.Lock
	case *pg_query.Node_ConstraintsSetStmt:
		st.Kind = sqltext.SetConstraints
	case *pg_query.Node_LoadStmt:
		st.Kind = sqltext.Load
		s.against(PinLoad, "LOAD")
	case *pg_query.Node_DoStmt:
		st.Kind, st.DDL = sqltext.Do, true
		s.block(x.DoStmt)
	case *pg_query.Node_CallStmt:
		st.Kind, st.DDL = sqltext.Call, true
		schema, name, _ := qualified(x.CallStmt.GetFunccall().GetFuncname())
		switch c := s.view.code(name); {
		case schema == "pg_catalog", timescaleDDL[name]:
			s.against(PinDo, "CALL")
		case c != nil:
			s.againstCode(PinDo, "CALL", c)
		case s.view.function(schema, name) == own:
			s.own = true
		default:
			s.against(PinDo, "CALL")
		}
		s.nodes(x.CallStmt.GetFunccall().GetArgs())
	default:
		return false
	}
	return true
}

var transactionKinds = map[pg_query.TransactionStmtKind]sqltext.Kind{
	pg_query.TransactionStmtKind_TRANS_STMT_BEGIN:             sqltext.Begin,
	pg_query.TransactionStmtKind_TRANS_STMT_START:             sqltext.Begin,
	pg_query.TransactionStmtKind_TRANS_STMT_COMMIT:            sqltext.Commit,
	pg_query.TransactionStmtKind_TRANS_STMT_ROLLBACK:          sqltext.Rollback,
	pg_query.TransactionStmtKind_TRANS_STMT_SAVEPOINT:         sqltext.Savepoint,
	pg_query.TransactionStmtKind_TRANS_STMT_RELEASE:           sqltext.Release,
	pg_query.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:       sqltext.RollbackTo,
	pg_query.TransactionStmtKind_TRANS_STMT_PREPARE:           sqltext.PrepareTransaction,
	pg_query.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:   sqltext.CommitPrepared,
	pg_query.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED: sqltext.RollbackPrepared,
}

var discardNames = map[pg_query.DiscardMode]string{
	pg_query.DiscardMode_DISCARD_ALL:       "all",
	pg_query.DiscardMode_DISCARD_PLANS:     "plans",
	pg_query.DiscardMode_DISCARD_SEQUENCES: "sequences",
	pg_query.DiscardMode_DISCARD_TEMP:      "temp",
}

// maintenance handles statements that work on the storage of relations, where
// the expressions of indexes run; false for others.
func (s *survey) maintenance(n *pg_query.Node, st *Statement) bool {
	s.ddl = true
	whole := false
	switch x := n.Node.(type) {
	case *pg_query.Node_VacuumStmt:
		st.Kind = sqltext.Vacuum
		whole = len(x.VacuumStmt.Rels) == 0
	case *pg_query.Node_ClusterStmt:
		st.Kind = sqltext.Maintain
		whole = x.ClusterStmt.Relation == nil
	case *pg_query.Node_ReindexStmt:
		st.Kind = sqltext.Maintain
		// The name of an index resolves to its table's code only by way of the
		// catalog's indexes, which a snapshot has not.
		whole = x.ReindexStmt.Kind != pg_query.ReindexObjectType_REINDEX_OBJECT_TABLE
	case *pg_query.Node_RefreshMatViewStmt:
		st.Kind = sqltext.Maintain
	case *pg_query.Node_CheckPointStmt:
		st.Kind = sqltext.Maintain
	default:
		return false
	}
	switch {
	case !whole:
		s.node(n)
	case s.view.snap == nil:
		s.against(PinCatalog, "every index")
	case len(s.view.snap.UserFunctions) > 0:
		// The server takes back settings that this sets, and has nothing temporary made
		// and no channel listened to (PostgreSQL's miscinit.c, InSecurityRestrictedOperation).
		code := catalog.Code{State: s.view.snap.AnyCode.State&uint16(sqltext.LeavesSeed) | uint16(sqltext.LeavesAdvisory)}
		s.againstCode(PinRelation, "an index may use a user's function", &code)
	}
	return true
}

// define handles statements that create, alter or drop, and whatever is left.
func (s *survey) define(n *pg_query.Node, st *Statement) {
	s.ddl = true
	st.Kind, st.DDL = sqltext.DDL, true
	switch x := n.Node.(type) {
	case *pg_query.Node_CreateEventTrigStmt, *pg_query.Node_AlterEventTrigStmt,
		*pg_query.Node_AlterDatabaseSetStmt, *pg_query.Node_AlterRoleSetStmt:
		st.Logins = true
	case *pg_query.Node_CreateStmt:
		st.DDL = !s.created(x.CreateStmt.Relation)
		s.fields(x.CreateStmt.ProtoReflect(), "relation")
	case *pg_query.Node_CreateForeignTableStmt:
		s.loads = true // its wrapper's
		if s.view.snap == nil || s.view.snap.Validators {
			s.against(PinFunction, "a foreign table")
		}
		if base := x.CreateForeignTableStmt.BaseStmt; base != nil {
			s.fields(base.ProtoReflect(), "relation")
		}
	case *pg_query.Node_CreateTableAsStmt:
		st.DDL = !s.created(x.CreateTableAsStmt.GetInto().GetRel())
		s.ddl = false
		s.tableAs(x.CreateTableAsStmt.Query)
	case *pg_query.Node_ViewStmt:
		st.DDL = !s.created(x.ViewStmt.View)
	case *pg_query.Node_CreateSeqStmt:
		st.DDL = !s.created(x.CreateSeqStmt.Sequence)
	case *pg_query.Node_CompositeTypeStmt:
		st.DDL = !s.created(x.CompositeTypeStmt.Typevar)
	case *pg_query.Node_CreateFunctionStmt:
		s.function(x.CreateFunctionStmt)
	case *pg_query.Node_DropStmt:
		s.ends = sqltext.LeavesTemp
		st.DDL = s.drop(x.DropStmt)
	case *pg_query.Node_IndexStmt, *pg_query.Node_AlterTableStmt, *pg_query.Node_CreateStatsStmt,
		*pg_query.Node_CreateSchemaStmt, *pg_query.Node_AlterDomainStmt, *pg_query.Node_CreateDomainStmt,
		*pg_query.Node_AlterSeqStmt, *pg_query.Node_RenameStmt, *pg_query.Node_AlterObjectSchemaStmt,
		*pg_query.Node_CreateEnumStmt, *pg_query.Node_AlterTypeStmt:
		s.node(n)
		s.temporary(n)
	case *pg_query.Node_DefineStmt:
		s.made(x.DefineStmt)
		s.temporary(n)
	case *pg_query.Node_CreateRangeStmt:
		s.temporary(n) // what it names is looked up and not run
	case *pg_query.Node_CreateConversionStmt:
		// Its function is run once, on an empty text.
		_, name, ok := qualified(x.CreateConversionStmt.FuncName)
		if snap := s.view.snap; snap == nil {
			s.against(PinCatalog, "function "+name)
		} else if _, users := snap.CleanFunctions[name]; !ok || users || snap.UserFunctions[name] {
			s.against(PinFunction, "function "+name)
		}
	case *pg_query.Node_CreateFdwStmt:
		for _, o := range x.CreateFdwStmt.FuncOptions {
			if d := o.GetDefElem(); d.GetDefname() == "validator" {
				_, name, _ := qualified(d.GetArg().GetList().GetItems())
				s.doubtful(s.view.function("", name), "function "+name)
			}
		}
	default:
		if foreignDDL[nodeName(n)] && s.view.snap != nil && !s.view.snap.Validators {
			s.loads = true
			return
		}
		if subscriptionDDL[nodeName(n)] {
			s.loads = true // PostgreSQL's own libpqwalreceiver, which leaves nothing
			return
		}
		if !quietDDL[nodeName(n)] {
			// It may load a library or call one of its functions; extensions' scripts
			// put settings back.
			s.loads = true
			s.note(PinFunction, "statement "+nodeName(n))
			if s.leaves |= sqltext.LeavesTemp; s.view.snap != nil {
				s.code(&s.view.snap.AnyCode)
			}
		}
	}
}

// made looks at CREATE OPERATOR, TYPE, AGGREGATE, COLLATION or TEXT SEARCH. What its
// options name, types, functions and words alike in the parse tree, is looked up and
// not run, but for the input function of an aggregate's state and for what makes a
// dictionary of a template.
func (s *survey) made(n *pg_query.DefineStmt) {
	for _, o := range n.Definition {
		switch d := o.GetDefElem(); {
		case n.Kind == pg_query.ObjectType_OBJECT_AGGREGATE && (d.Defname == "stype" || d.Defname == "mstype"),
			n.Kind == pg_query.ObjectType_OBJECT_AGGREGATE && (d.Defname == "stype1" || d.Defname == "basetype"):
			if _, name, ok := qualified(d.Arg.GetTypeName().GetNames()); ok && s.view.typeName("", name) != strange {
				s.node(d.Arg)
			}
		case n.Kind == pg_query.ObjectType_OBJECT_TSDICTIONARY && d.Defname == "template":
			if _, name, _ := qualified(d.Arg.GetTypeName().GetNames()); !dictionaryTemplates[name] {
				s.against(PinFunction, "text search template "+name)
			}
		}
	}
}

// dictionaryTemplates are PostgreSQL's own.
var dictionaryTemplates = words("simple synonym ispell thesaurus snowball")

// foreignDDL are those that run nothing but the validators of foreign-data wrappers.
var foreignDDL = words(`AlterFdwStmt CreateForeignServerStmt AlterForeignServerStmt CreateUserMappingStmt AlterUserMappingStmt`)

// subscriptionDDL are those that talk to a publisher and run no code here but
// PostgreSQL's own.
var subscriptionDDL = words(`CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt`)

// quietDDL are the statements that change the catalog and run no code but
// PostgreSQL's own.
var quietDDL = words(`
AccessPriv AlterCollationStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt
AlterDatabaseStmt AlterDefaultPrivilegesStmt AlterEnumStmt AlterEventTrigStmt
AlterFunctionStmt AlterObjectDependsStmt AlterOpFamilyStmt AlterOperatorStmt
AlterOwnerStmt AlterPolicyStmt AlterPublicationStmt AlterRoleSetStmt
AlterRoleStmt AlterStatsStmt AlterSystemStmt AlterTSConfigurationStmt
AlterTableMoveAllStmt AlterTableSpaceOptionsStmt CommentStmt CreateCastStmt
CreateEventTrigStmt CreateOpClassStmt CreateOpFamilyStmt CreatePolicyStmt
CreateAmStmt CreatePLangStmt CreatePublicationStmt CreateRoleStmt CreateTableSpaceStmt CreateTransformStmt
CreateTrigStmt CreatedbStmt DropOwnedStmt DropRoleStmt DropTableSpaceStmt
DropUserMappingStmt DropdbStmt GrantRoleStmt GrantStmt ReassignOwnedStmt RuleStmt
`)

// nodeName returns the name of the message in a node.
func nodeName(n *pg_query.Node) string {
	name := ""
	s := n.ProtoReflect()
	if fd := s.WhichOneof(s.Descriptor().Oneofs().Get(0)); fd != nil {
		name = string(fd.Message().Name())
	}
	return name
}

// tableAs surveys what CREATE TABLE AS takes its rows from.
func (s *survey) tableAs(query *pg_query.Node) {
	if e := query.GetExecuteStmt(); e != nil {
		s.execute(e)
		return
	}
	s.node(query)
}

// function looks at CREATE FUNCTION. Its body is checked, not run; a C function's
// library is loaded into the backend to check it.
func (s *survey) function(n *pg_query.CreateFunctionStmt) {
	if schema, _, _ := qualified(n.Funcname); isTempSchema(schema) {
		s.against(PinTemp, "a temporary function")
	}
	for _, o := range n.Options {
		d := o.GetDefElem()
		if d.GetDefname() != "language" {
			continue
		}
		switch lang := d.GetArg().GetString_().GetSval(); lang {
		case "sql", "plpgsql", "internal":
		default:
			s.loads = true // its validator may
		}
	}
}

// temporary pins a statement that names the temporary schema in a list of names.
func (s *survey) temporary(n *pg_query.Node) {
	if d := n.GetDefineStmt(); d != nil {
		s.temporaryName(d.Defnames)
	}
	if d := n.GetCreateDomainStmt(); d != nil {
		s.temporaryName(d.Domainname)
	}
	if d := n.GetCreateEnumStmt(); d != nil {
		s.temporaryName(d.TypeName)
	}
	if d := n.GetCreateRangeStmt(); d != nil {
		s.temporaryName(d.TypeName)
	}
}

func (s *survey) temporaryName(names []*pg_query.Node) {
	schema, _, _ := qualified(names)
	if isTempSchema(schema) || schema == "" && len(s.c.SearchPath) > 0 && isTempSchema(s.c.SearchPath[0]) {
		s.against(PinTemp, "a temporary type")
	}
}

// drop keeps facts about the tables that DROP TABLE names, and says whether it may
// change the catalog: tables that this has not are temporary, as a rule.
func (s *survey) drop(n *pg_query.DropStmt) (known bool) {
	if n.RemoveType != pg_query.ObjectType_OBJECT_TABLE {
		return true
	}
	for _, o := range n.Objects {
		schema, name, _ := qualified(o.GetList().GetItems())
		f := rules.Facts{Kind: sqltext.DDL, Drop: true, Table: catalog.Name{Schema: schema, Name: name}}
		found, system := s.view.relations(s.c, s.sure, schema, name)
		known = known || len(found) > 0 || system
		for _, r := range found {
			f.Table, f.Hypertable = r.Name, f.Hypertable || s.view.hypertable(r) != nil
		}
		s.facts = append(s.facts, f)
	}
	return known || s.view.snap == nil || n.Behavior == pg_query.DropBehavior_DROP_CASCADE
}
