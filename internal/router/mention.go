package router

import (
	"hash/maphash"
	"slices"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// Identifier stands for all names that are alike without a schema. Different names
// may share one, which costs a doubt and nothing else.
type Identifier uint64

// IdentifierOf returns the identifier of a name without its schema. A table's array
// type has its table's, cut to fit, behind an underscore.
func IdentifierOf(name string) Identifier {
	name = strings.TrimLeft(name, "_")
	return Identifier(maphash.String(identifierSeed, name[:min(len(name), identifierBytes)]))
}

// identifierBytes is less than NAMEDATALEN by what PostgreSQL puts before a name
// that it makes of another.
const identifierBytes = 48

var identifierSeed = maphash.MakeSeed()

// Change is what DDL does to what other statements mean: to those that mention one
// of Names, or have code run that does, and to no other; or with Any to whichever.
type Change struct {
	Names []Identifier
	// Deep are those of Names that more code may run with: of relations and functions, which
	// then runs with what stands on them, too.
	Deep    []Identifier
	Any     bool
	Whole   bool            // objects are gone that Names has not
	Touched catalog.Touched // Names in other words, unless Any or Whole
}

// Add adds what other does.
func (c *Change) Add(other Change) {
	c.Any, c.Whole = c.Any || other.Any, c.Whole || other.Whole
	c.Names, c.Deep = append(c.Names, other.Names...), append(c.Deep, other.Deep...)
	c.Touched.Add(other.Touched)
}

// mention gathers identifiers, and the names that they stand for if spelled is set.
type mention struct {
	ids     []Identifier
	words   []string
	spelled bool
}

func (l *mention) name(name string) {
	if name == "" {
		return
	}
	l.ids = append(l.ids, IdentifierOf(name))
	if l.spelled {
		l.words = append(l.words, name)
	}
}

// message gathers all names in a tree: those of relations, functions, operators,
// types and columns, aliases too. A constant is none.
func (l *mention) message(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *pg_query.A_Const:
		return
	case *pg_query.RangeVar:
		l.name(n.Relname)
		l.name(n.Schemaname)
		l.message(n.Alias.ProtoReflect())
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch kind := fd.Kind(); {
		case kind == protoreflect.StringKind && fd.IsList():
			for list, i := v.List(), 0; i < list.Len(); i++ {
				l.name(list.Get(i).String())
			}
		case kind == protoreflect.StringKind:
			l.name(v.String())
		case kind == protoreflect.MessageKind && fd.IsList():
			for list, i := v.List(), 0; i < list.Len(); i++ {
				l.message(list.Get(i).Message())
			}
		case kind == protoreflect.MessageKind:
			l.message(v.Message())
		}
		return true
	})
}

// mentions returns what the statements of a plan mention; nil when that does not
// tell which DDL has a say in the plan: it is pinned already, it depends on DDL of
// its own, or on what stands elsewhere.
func (p *Plan) mentions(tree []*pg_query.RawStmt, v *view, hidden bool) []Identifier {
	if p.Action != Pass || p.Pins != 0 || v.snap == nil || hidden || len(p.Statements) > 1 && p.DDL() {
		return nil
	}
	l := mention{ids: []Identifier{}}
	for i, n := range tree {
		switch p.Statements[i].Kind {
		case sqltext.Execute, sqltext.Call, sqltext.Do, sqltext.Discard, sqltext.Listen, sqltext.Unlisten:
			return nil
		}
		l.message(n.ProtoReflect())
	}
	slices.Sort(l.ids)
	return slices.Compact(l.ids)
}

// Mentions says whether a change has a say in the plan, as far as its own text goes.
func (p *Plan) Mentions(has func(Identifier) bool) bool {
	return p.mentioned == nil || slices.ContainsFunc(p.mentioned, has)
}

// confined returns what a statement of DDL does to others. What makes an object has
// no say in what is there already but where a text, a function's included, may mean
// the new one by the name; what drops an object, with what stands on it or not, leaves no
// more code than there was. What puts code on a table that is there, or in the place of
// other code, or has a table hold, check or follow another, goes deep. The rest may change
// anything, and so may whatever runs code of a user itself.
func (s *survey) confined(n *pg_query.Node) Change {
	anything := Change{Any: true}
	if s.pins != 0 || s.changes || s.own || s.nextval || s.notifies || s.leaves&sqltext.LeavesAnything != 0 || s.view.snap == nil {
		return anything
	}
	l, deep, roles, whole := mention{spelled: true}, mention{}, false, false
	tables := func(n proto.Message) {
		visitMessage(n.ProtoReflect(), func(m any) bool {
			if r, is := m.(*pg_query.RangeVar); is {
				deep.name(r.Relname)
				l.name(r.Relname)
			}
			return true
		})
	}
	switch x := n.Node.(type) {
	case *pg_query.Node_CreateStmt:
		if slices.ContainsFunc(x.CreateStmt.TableElts, follows) {
			tables(x.CreateStmt)
		}
		l.table(x.CreateStmt)
	case *pg_query.Node_CreateForeignTableStmt:
		l.table(x.CreateForeignTableStmt.GetBaseStmt())
	case *pg_query.Node_CreateTableAsStmt:
		l.name(x.CreateTableAsStmt.GetInto().GetRel().GetRelname())
	case *pg_query.Node_ViewStmt:
		// Writes to views that read this one run what writing to its relations does.
		of := &survey{c: s.c, view: s.view, sure: s.sure, ddl: true}
		if of.node(x.ViewStmt.Query); x.ViewStmt.Replace && (of.pins != 0 || of.own || of.nextval || of.notifies) {
			return anything
		}
		l.name(x.ViewStmt.GetView().GetRelname())
	case *pg_query.Node_CreateSeqStmt:
		l.name(x.CreateSeqStmt.GetSequence().GetRelname())
	case *pg_query.Node_CreateFunctionStmt:
		_, name, ok := qualified(x.CreateFunctionStmt.Funcname)
		if !ok {
			return anything
		}
		if x.CreateFunctionStmt.Replace {
			deep.name(name)
		}
		l.name(name)
	case *pg_query.Node_AlterFunctionStmt:
		_, name, ok := qualified(x.AlterFunctionStmt.GetFunc().GetObjname())
		if !ok {
			return anything
		}
		deep.name(name)
		l.name(name)
	case *pg_query.Node_CreateTrigStmt:
		tables(x.CreateTrigStmt)
	case *pg_query.Node_RuleStmt:
		deep.name(x.RuleStmt.GetRelation().GetRelname())
		l.name(x.RuleStmt.GetRelation().GetRelname())
	case *pg_query.Node_CreatePolicyStmt:
		deep.name(x.CreatePolicyStmt.GetTable().GetRelname())
		l.name(x.CreatePolicyStmt.GetTable().GetRelname())
	case *pg_query.Node_AlterPolicyStmt:
		deep.name(x.AlterPolicyStmt.GetTable().GetRelname())
		l.name(x.AlterPolicyStmt.GetTable().GetRelname())
	case *pg_query.Node_CreateSchemaStmt:
		if len(x.CreateSchemaStmt.SchemaElts) > 0 {
			return anything
		}
	case *pg_query.Node_IndexStmt:
		// Its expressions are clean as they stand and run on each write of the table.
		if !plainIndex(x.IndexStmt) {
			return anything
		}
		l.name(x.IndexStmt.GetRelation().GetRelname())
		l.name(x.IndexStmt.Idxname)
	case *pg_query.Node_DefineStmt:
		switch x.DefineStmt.Kind {
		case pg_query.ObjectType_OBJECT_AGGREGATE, pg_query.ObjectType_OBJECT_COLLATION, pg_query.ObjectType_OBJECT_TYPE:
			if x.DefineStmt.Replace {
				return anything
			}
			l.message(x.DefineStmt.ProtoReflect())
		case pg_query.ObjectType_OBJECT_TSDICTIONARY, pg_query.ObjectType_OBJECT_TSCONFIGURATION:
		default:
			return anything
		}
	case *pg_query.Node_DropStmt:
		cascade := x.DropStmt.Behavior == pg_query.DropBehavior_DROP_CASCADE
		if !dropsAlone[x.DropStmt.RemoveType] || cascade && !dropsAll[x.DropStmt.RemoveType] {
			return anything
		}
		whole = cascade
		for _, o := range x.DropStmt.Objects {
			l.message(o.ProtoReflect())
		}
	case *pg_query.Node_AlterTableStmt:
		for _, c := range x.AlterTableStmt.Cmds {
			switch cmd := c.GetAlterTableCmd(); {
			case cmd == nil:
				return anything
			case !addsCode(cmd):
			case x.AlterTableStmt.Objtype != pg_query.ObjectType_OBJECT_TABLE || !goesDeep(cmd.Subtype):
				return anything
			default:
				tables(x.AlterTableStmt)
			}
			whole = whole || c.GetAlterTableCmd().Behavior == pg_query.DropBehavior_DROP_CASCADE
		}
		l.name(x.AlterTableStmt.GetRelation().GetRelname())
	case *pg_query.Node_RenameStmt:
		if !renamesAlone[x.RenameStmt.RenameType] {
			return anything
		}
		l.message(x.RenameStmt.ProtoReflect())
	case *pg_query.Node_AlterObjectSchemaStmt, *pg_query.Node_AlterOwnerStmt, *pg_query.Node_AlterSeqStmt,
		*pg_query.Node_CreateEnumStmt, *pg_query.Node_AlterEnumStmt, *pg_query.Node_CompositeTypeStmt:
		l.message(n.ProtoReflect())
	case *pg_query.Node_CreateDomainStmt:
		_, name, ok := qualified(x.CreateDomainStmt.Domainname)
		if !ok {
			return anything
		}
		l.name(name)
	case *pg_query.Node_GrantRoleStmt, *pg_query.Node_CreateRoleStmt, *pg_query.Node_AlterRoleStmt, *pg_query.Node_DropRoleStmt,
		*pg_query.Node_AlterRoleSetStmt, *pg_query.Node_AlterDatabaseSetStmt:
		roles = true
	case *pg_query.Node_CommentStmt, *pg_query.Node_GrantStmt, *pg_query.Node_CreateStatsStmt, *pg_query.Node_AlterStatsStmt, *pg_query.Node_AlterDefaultPrivilegesStmt,
		*pg_query.Node_CreateForeignServerStmt, *pg_query.Node_AlterForeignServerStmt, *pg_query.Node_CreateUserMappingStmt, *pg_query.Node_AlterUserMappingStmt, *pg_query.Node_DropUserMappingStmt,
		*pg_query.Node_AlterTsconfigurationStmt, *pg_query.Node_AlterTsdictionaryStmt,
		*pg_query.Node_CreatePublicationStmt, *pg_query.Node_AlterPublicationStmt,
		*pg_query.Node_CreateSubscriptionStmt, *pg_query.Node_AlterSubscriptionStmt, *pg_query.Node_DropSubscriptionStmt:
	default:
		return anything
	}
	return Change{Names: l.ids, Deep: deep.ids, Whole: whole, Touched: catalog.Touched{Names: l.words, Roles: roles}}
}

// table gathers the names of a table that is made and of those that hold it: it has of
// their code what they have.
func (l *mention) table(n *pg_query.CreateStmt) {
	l.name(n.GetRelation().GetRelname())
	for _, r := range n.GetInhRelations() {
		l.name(r.GetRangeVar().GetRelname())
	}
}

// dropsAll are the kinds of dropsAlone that may be dropped with what stands on them: that
// is nothing of the gateway's own on other tables.
var dropsAll = map[pg_query.ObjectType]bool{
	pg_query.ObjectType_OBJECT_TABLE: true, pg_query.ObjectType_OBJECT_VIEW: true, pg_query.ObjectType_OBJECT_MATVIEW: true,
	pg_query.ObjectType_OBJECT_FOREIGN_TABLE: true, pg_query.ObjectType_OBJECT_SEQUENCE: true,
}

// dropsAlone are the kinds of objects that are gone, with what is theirs alone,
// when nothing else stands on them.
var dropsAlone = map[pg_query.ObjectType]bool{
	pg_query.ObjectType_OBJECT_TABLE: true, pg_query.ObjectType_OBJECT_VIEW: true, pg_query.ObjectType_OBJECT_MATVIEW: true,
	pg_query.ObjectType_OBJECT_INDEX: true, pg_query.ObjectType_OBJECT_SEQUENCE: true, pg_query.ObjectType_OBJECT_FUNCTION: true,
	pg_query.ObjectType_OBJECT_PROCEDURE: true, pg_query.ObjectType_OBJECT_AGGREGATE: true, pg_query.ObjectType_OBJECT_OPERATOR: true,
	pg_query.ObjectType_OBJECT_TYPE: true, pg_query.ObjectType_OBJECT_DOMAIN: true, pg_query.ObjectType_OBJECT_TRIGGER: true,
	pg_query.ObjectType_OBJECT_RULE: true, pg_query.ObjectType_OBJECT_POLICY: true, pg_query.ObjectType_OBJECT_STATISTIC_EXT: true,
	pg_query.ObjectType_OBJECT_COLLATION: true, pg_query.ObjectType_OBJECT_PUBLICATION: true, pg_query.ObjectType_OBJECT_SCHEMA: true,
	pg_query.ObjectType_OBJECT_FOREIGN_TABLE: true, pg_query.ObjectType_OBJECT_FOREIGN_SERVER: true,
	pg_query.ObjectType_OBJECT_TSDICTIONARY: true, pg_query.ObjectType_OBJECT_TSCONFIGURATION: true,
}

// renamesAlone are the kinds of objects whose names mean nothing for what others of
// them are called.
var renamesAlone = map[pg_query.ObjectType]bool{
	pg_query.ObjectType_OBJECT_TABLE: true, pg_query.ObjectType_OBJECT_VIEW: true, pg_query.ObjectType_OBJECT_MATVIEW: true,
	pg_query.ObjectType_OBJECT_INDEX: true, pg_query.ObjectType_OBJECT_SEQUENCE: true, pg_query.ObjectType_OBJECT_FUNCTION: true,
	pg_query.ObjectType_OBJECT_PROCEDURE: true, pg_query.ObjectType_OBJECT_AGGREGATE: true, pg_query.ObjectType_OBJECT_TYPE: true,
	pg_query.ObjectType_OBJECT_DOMAIN: true, pg_query.ObjectType_OBJECT_COLUMN: true, pg_query.ObjectType_OBJECT_ATTRIBUTE: true,
	pg_query.ObjectType_OBJECT_TABCONSTRAINT: true, pg_query.ObjectType_OBJECT_TRIGGER: true, pg_query.ObjectType_OBJECT_RULE: true,
	pg_query.ObjectType_OBJECT_POLICY: true,
}

// follows says whether an element of a table has writing another table write this one,
// as a foreign key may, or has this one call nextval.
func follows(n *pg_query.Node) bool {
	if c := n.GetConstraint(); c != nil {
		switch c.Contype {
		case pg_query.ConstrType_CONSTR_FOREIGN:
			return !passive(c.FkDelAction) || !passive(c.FkUpdAction)
		case pg_query.ConstrType_CONSTR_IDENTITY:
			return true
		}
		return false
	}
	c := n.GetColumnDef()
	return slices.ContainsFunc(c.GetConstraints(), follows)
}

// passive says whether what a foreign key does when a row is gone is no more than to
// look for those that refer to it.
func passive(action string) bool { return action == "" || action == "a" || action == "r" }

// addsCode says whether a command of ALTER TABLE may have more code run with the
// relation than did, or others follow it, all names in it being clean.
func addsCode(c *pg_query.AlterTableCmd) bool {
	switch c.Subtype {
	case pg_query.AlterTableType_AT_AddColumn:
		names := c.Def.GetColumnDef().GetTypeName().GetNames()
		return follows(c.Def) || len(names) == 1 && strings.Contains(names[0].GetString_().GetSval(), "serial")
	case pg_query.AlterTableType_AT_AddConstraint:
		return follows(c.Def)
	case pg_query.AlterTableType_AT_ColumnDefault, pg_query.AlterTableType_AT_DropNotNull, pg_query.AlterTableType_AT_SetNotNull,
		pg_query.AlterTableType_AT_SetStatistics, pg_query.AlterTableType_AT_SetOptions, pg_query.AlterTableType_AT_ResetOptions,
		pg_query.AlterTableType_AT_SetStorage, pg_query.AlterTableType_AT_SetCompression, pg_query.AlterTableType_AT_DropColumn,
		pg_query.AlterTableType_AT_ValidateConstraint, pg_query.AlterTableType_AT_DropConstraint, pg_query.AlterTableType_AT_AlterColumnType,
		pg_query.AlterTableType_AT_ChangeOwner, pg_query.AlterTableType_AT_ClusterOn, pg_query.AlterTableType_AT_DropCluster,
		pg_query.AlterTableType_AT_SetLogged, pg_query.AlterTableType_AT_SetUnLogged, pg_query.AlterTableType_AT_SetTableSpace,
		pg_query.AlterTableType_AT_SetRelOptions, pg_query.AlterTableType_AT_ResetRelOptions, pg_query.AlterTableType_AT_ReplicaIdentity,
		pg_query.AlterTableType_AT_DropInherit, pg_query.AlterTableType_AT_DetachPartition, pg_query.AlterTableType_AT_DropIdentity:
		return false
	}
	return true
}

// goesDeep says whether the code that a command of ALTER TABLE adds runs with the tables
// that it names and those that stand on them, and with no other.
func goesDeep(t pg_query.AlterTableType) bool {
	switch t {
	case pg_query.AlterTableType_AT_AddColumn, pg_query.AlterTableType_AT_AddConstraint, pg_query.AlterTableType_AT_AddIdentity,
		pg_query.AlterTableType_AT_SetIdentity, pg_query.AlterTableType_AT_AttachPartition, pg_query.AlterTableType_AT_AddInherit,
		pg_query.AlterTableType_AT_EnableRowSecurity, pg_query.AlterTableType_AT_DisableRowSecurity,
		pg_query.AlterTableType_AT_ForceRowSecurity, pg_query.AlterTableType_AT_NoForceRowSecurity,
		pg_query.AlterTableType_AT_EnableTrig, pg_query.AlterTableType_AT_EnableAlwaysTrig, pg_query.AlterTableType_AT_EnableReplicaTrig,
		pg_query.AlterTableType_AT_DisableTrig, pg_query.AlterTableType_AT_EnableTrigAll, pg_query.AlterTableType_AT_DisableTrigAll,
		pg_query.AlterTableType_AT_EnableTrigUser, pg_query.AlterTableType_AT_DisableTrigUser,
		pg_query.AlterTableType_AT_EnableRule, pg_query.AlterTableType_AT_EnableAlwaysRule,
		pg_query.AlterTableType_AT_EnableReplicaRule, pg_query.AlterTableType_AT_DisableRule:
		return true
	}
	return false
}

// plainIndex says whether an index has PostgreSQL's own access method and no
// operator class but the default ones.
func plainIndex(n *pg_query.IndexStmt) bool {
	switch n.AccessMethod {
	case "btree", "hash", "gin", "gist", "brin", "spgist":
	default:
		return false
	}
	return !slices.ContainsFunc(n.IndexParams, func(e *pg_query.Node) bool { return len(e.GetIndexElem().GetOpclass()) > 0 })
}
