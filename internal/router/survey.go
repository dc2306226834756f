package router

import (
	"slices"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rules"
	"qvpgw/internal/sqltext"
)

// survey is a walk over one statement's parse tree: every name in it is resolved
// and whatever does not resolve to known code becomes a pin. It visits every
// field of every node, so that nothing is overlooked; a node of a kind that it
// does not know counts as unknown code.
type survey struct {
	c    *Context
	view *view
	// sure: the context's search path is the one that names are resolved by.
	sure bool
	// ddl: the statement is one that creates, alters or drops; its nodes are many
	// and evaluate nothing, so that only names count.
	ddl bool

	pins     Pins
	doubt    string // the first thing that is not clean, as "function public.f"
	nextval  bool
	currval  bool
	notifies bool // code of users in it may send notifications
	changes  bool // a function in it changes the catalog
	logins   bool // and what a login begins with
	catalog  bool // it writes to a system relation

	relations []*catalog.Relation // resolved, in the order of the text
	evaluates bool                // has an expression with a name in it, or a relation
	ctes      []string            // visible names, innermost last
	facts     []rules.Facts       // of UPDATE and DELETE anywhere in it
	setting   *Setting            // by set_config, for the transaction
	bare      bool                // each call in the target list runs exactly once

	loads    bool          // loads a library
	literal  bool          // a literal of the text has a say
	hidden   bool          // an unqualified name in it hides another's
	change   Change        // what DDL does to others
	own      bool          // uses something of a user's, if clean: its name may be a built-in one's too
	leaves   sqltext.State // beyond what is followed otherwise
	settings []string
	ends     sqltext.State
}

// against records a pin and what caused it. Of user code nothing else is known
// than that the database has it.
func (s *survey) against(p Pins, doubt string) {
	s.note(p, doubt)
	switch {
	case p&PinRelation != 0 && s.view.snap != nil:
		s.code(&s.view.snap.AnyCode)
	case p&(PinFunction|PinRelation|PinDo|PinUnparsed) != 0:
		s.leaves |= sqltext.LeavesAnything
	case p&PinTemp != 0:
		s.leaves |= sqltext.LeavesTemp
	}
}

// againstCode is against for code that the catalog knows.
func (s *survey) againstCode(p Pins, doubt string, c *catalog.Code) {
	s.note(p, doubt)
	s.code(c)
}

func (s *survey) note(p Pins, doubt string) {
	s.pins |= p
	if s.doubt == "" {
		s.doubt = doubt
	}
}

// code records what code may leave behind.
func (s *survey) code(c *catalog.Code) {
	s.leaves |= sqltext.State(c.State)
	for _, name := range c.Settings {
		s.sets(name)
	}
	s.changes = s.changes || c.DDL
}

// sets records a setting that is set, to what is not in the text.
func (s *survey) sets(name string) {
	s.leaves |= sqltext.LeavesSettings
	if !slices.Contains(s.settings, name) {
		s.settings = append(s.settings, name)
	}
}

func (s *survey) node(n *pg_query.Node) {
	if n != nil {
		s.message(n.ProtoReflect())
	}
}

func (s *survey) nodes(list []*pg_query.Node) {
	for _, n := range list {
		s.node(n)
	}
}

// message visits a message: the kinds that mean something by their own method,
// the others field by field.
func (s *survey) message(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *pg_query.Node:
	case *pg_query.SelectStmt:
		defer s.with(n.WithClause)()
		s.node(n.GetIntoClause().GetViewQuery())
	case *pg_query.InsertStmt:
		defer s.with(n.WithClause)()
		s.target(n.Relation, true)
		s.fields(m, "relation")
		return
	case *pg_query.UpdateStmt:
		defer s.with(n.WithClause)()
		s.update(n)
		s.fields(m, "relation")
		return
	case *pg_query.DeleteStmt:
		defer s.with(n.WithClause)()
		s.delete(n)
		s.fields(m, "relation")
		return
	case *pg_query.MergeStmt:
		defer s.with(n.WithClause)()
		s.target(n.Relation, true)
		s.fields(m, "relation")
		return
	case *pg_query.WithClause, *pg_query.IntoClause, *pg_query.LockingClause:
		return // with did the first; the others name no relation that exists, or an alias
	case *pg_query.RangeVar:
		s.read(n)
		return
	case *pg_query.FuncCall:
		s.call(n)
	case *pg_query.A_Expr:
		s.expr(n)
	case *pg_query.TypeName:
		s.typeName(n)
	case *pg_query.ColumnRef:
		s.attribute(n.Fields)
		return
	case *pg_query.A_Indirection:
		s.indirection(n.Indirection)
	case *pg_query.DefElem:
		if n.Arg.GetTypeName() != nil {
			return // a word or a name, which the grammar takes for a type's
		}
	case *pg_query.SortBy:
		s.operator(n.UseOp)
	case *pg_query.SubLink:
		s.operator(n.OperName)
		s.compareIf(n.Testexpr != nil)
	case *pg_query.CaseExpr:
		s.compareIf(n.Arg != nil)
	case *pg_query.JoinExpr:
		s.compareIf(n.IsNatural || len(n.UsingClause) > 0)
	case *pg_query.RangeTableSample:
		s.sample(n.Method)
	default:
		if name := m.Descriptor().Name(); !s.ddl && !plainNodes[string(name)] {
			s.against(PinFunction, "syntax "+string(name))
		}
	}
	s.fields(m, "")
}

// fields visits the messages in m's fields but the one named except.
func (s *survey) fields(m protoreflect.Message, except protoreflect.Name) {
	var room [8]protoreflect.FieldDescriptor
	set := room[:0]
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if fd.Kind() == protoreflect.MessageKind && fd.Name() != except {
			set = append(set, fd)
		}
		return true
	})
	// Range has no order, and the first reason that is found is the one told.
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	for _, fd := range set {
		v := m.Get(fd)
		if !fd.IsList() {
			s.message(v.Message())
			continue
		}
		for list, i := v.List(), 0; i < list.Len(); i++ {
			s.message(list.Get(i).Message())
		}
	}
}

// plainNodes are the kinds of node inside SELECT, INSERT, UPDATE, DELETE, MERGE
// and COPY that run nothing but what the nodes below them name.
var plainNodes = words(`
A_ArrayExpr A_Const A_Indices A_Star Alias BitString BoolExpr Boolean BooleanTest
CTECycleClause CTESearchClause CaseWhen CoalesceExpr CollateClause ColumnDef
CommonTableExpr CopyStmt CurrentOfExpr DefElem Float GroupingFunc GroupingSet
IndexElem InferClause Integer JsonAggConstructor JsonArgument JsonArrayAgg
JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFormat
JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor
JsonOutput JsonParseExpr JsonReturning JsonScalarExpr JsonSerializeExpr JsonTable
JsonTableColumn JsonTablePathSpec JsonValueExpr List MergeSupportFunc
MergeWhenClause MinMaxExpr MultiAssignRef NamedArgExpr NullTest
OnConflictClause ParamRef RangeFunction RangeSubselect RangeTableFunc
RangeTableFuncCol ResTarget RowExpr SQLValueFunction SetToDefault String
TypeCast WindowDef XmlExpr XmlSerialize
`)

// with visits a WITH clause and makes its names visible until the function that
// it returns is called. A name is visible in the queries after its own, under
// RECURSIVE in all of them.
func (s *survey) with(w *pg_query.WithClause) func() {
	before := len(s.ctes)
	for _, n := range w.GetCtes() {
		if w.Recursive {
			s.ctes = append(s.ctes, n.GetCommonTableExpr().GetCtename())
		}
	}
	for _, n := range w.GetCtes() {
		s.node(n)
		if !w.Recursive {
			s.ctes = append(s.ctes, n.GetCommonTableExpr().GetCtename())
		}
	}
	return func() { s.ctes = s.ctes[:before] }
}

// read resolves a relation that is read, or, in DDL, worked on.
func (s *survey) read(r *pg_query.RangeVar) {
	if r.Schemaname == "" && r.Catalogname == "" {
		for _, name := range s.ctes {
			if name == r.Relname {
				return
			}
		}
	}
	if _, system := s.relation(r, s.ddl); system && r.Relname == "pg_stat_database" {
		s.against(PinProcess, "pg_stat_database") // it counts sessions
	}
}

// target resolves a relation that rows are written to.
func (s *survey) target(r *pg_query.RangeVar, inserts bool) *catalog.Relation {
	if r == nil {
		return nil
	}
	found, system := s.relation(r, true)
	if system {
		if r.Relname == "pg_settings" {
			s.against(PinSetting, "UPDATE of pg_settings") // its rule calls set_config
		} else {
			s.catalog = true
		}
	}
	var last *catalog.Relation
	for _, rel := range found {
		s.nextval = s.nextval || rel.WriteNextval || inserts && (rel.Nextval || rel.Kind == 'v')
		s.notifies = s.notifies || rel.WriteNotifies
		last = rel
	}
	return last
}

// relation resolves a relation and records what stands against it.
func (s *survey) relation(r *pg_query.RangeVar, write bool) (found []*catalog.Relation, system bool) {
	name := r.Relname
	if r.Schemaname != "" {
		name = r.Schemaname + "." + name
	}
	s.evaluates = true
	if isTempSchema(r.Schemaname) || s.ddl && r.Relpersistence == "t" {
		s.against(PinTemp, "relation "+name)
		return nil, false
	}
	found, system = s.view.relations(s.c, s.sure, r.Schemaname, r.Relname)
	s.hidden = s.hidden || r.Schemaname == "" && len(s.view.byName[r.Relname]) > 1
	switch {
	case r.Catalogname != "" && r.Catalogname != s.c.Database:
		s.against(PinRelation, "relation "+r.Catalogname+"."+name)
	case system: // runs no user code when it is read; target looks at writes
	case s.view.snap == nil:
		s.against(PinCatalog, "relation "+name)
	case len(found) == 0:
		// Temporary, or as new as that: code on it is this client's own.
		s.note(PinRelation, "relation "+name+", which the catalog has not")
		s.leaves |= sqltext.LeavesTemp
	}
	for _, rel := range found {
		if !rel.Clean && (write || !rel.ReadClean) {
			if rel.Code != nil {
				s.againstCode(PinRelation, rel.Unclean, rel.Code)
			} else {
				s.against(PinRelation, rel.Unclean)
			}
		}
		if rel.Temp {
			s.against(PinTemp, "relation "+name)
		}
	}
	s.relations = append(s.relations, found...)
	return found, system
}

func (s *survey) update(n *pg_query.UpdateStmt) {
	rel := s.target(n.Relation, setsDefault(n.TargetList))
	s.judge(rules.Facts{Kind: sqltext.Update, Where: n.WhereClause != nil}, n.Relation, rel)
}

func (s *survey) delete(n *pg_query.DeleteStmt) {
	rel := s.target(n.Relation, false)
	s.judge(rules.Facts{Kind: sqltext.Delete, Where: n.WhereClause != nil}, n.Relation, rel)
}

// judge keeps facts for the rules.
func (s *survey) judge(f rules.Facts, rv *pg_query.RangeVar, rel *catalog.Relation) {
	f.Table = catalog.Name{Schema: rv.GetSchemaname(), Name: rv.GetRelname()}
	if rel != nil {
		f.Table, f.Hypertable = rel.Name, s.view.hypertable(rel) != nil
	}
	s.facts = append(s.facts, f)
}

// setsDefault reports whether an UPDATE sets some column to its default.
func setsDefault(targets []*pg_query.Node) bool {
	for _, t := range targets {
		v := t.GetResTarget().GetVal()
		if v.GetSetToDefault() != nil || v.GetMultiAssignRef() != nil {
			return true
		}
	}
	return false
}

// call resolves a function.
func (s *survey) call(n *pg_query.FuncCall) {
	s.evaluates = true
	schema, name, ok := qualified(n.Funcname)
	if !ok {
		s.against(PinFunction, "function "+name)
		return
	}
	if s.special(schema, name, n) {
		return
	}
	v := s.view.function(schema, name)
	if v == own && exactFunction(s.view.snap, schema, name) != nil {
		v = clean // its whole name tells which it is
	}
	s.own = s.own || v == own
	switch {
	case v == unclean && s.view.code(name) != nil:
		s.againstCode(PinFunction, "function "+dotted(schema, name), s.view.code(name))
	case (v == clean || v == own) && s.view.code(name) != nil && schema != "pg_catalog":
		c := s.view.code(name)
		s.nextval, s.notifies, s.changes = s.nextval || c.Nextval, s.notifies || c.Notifies, s.changes || c.DDL
	default:
		s.doubtful(v, "function "+dotted(schema, name))
	}
}

// special handles the functions that leave state behind; false for the others.
func (s *survey) special(schema, name string, n *pg_query.FuncCall) bool {
	if timescaleDDL[name] {
		s.changes = true
		s.logins = s.logins || restores[name]
		if s.view.snap == nil {
			s.against(PinFunction, "function "+name)
		} else {
			s.againstCode(PinFunction, "function "+name, &s.view.snap.AnyCode)
		}
		return true
	}
	pin, ok := special[name]
	if !ok {
		return false
	}
	if schema != "pg_catalog" {
		if s.view.snap != nil && s.view.snap.UserFunctions[name] {
			return false
		}
	}
	switch name {
	case "nextval", "setval":
		s.nextval = true
	case "currval", "lastval":
		s.currval = true
	case "set_config":
		s.configure(n.Args)
		return true
	case "pg_input_is_valid", "pg_input_error_info":
		s.literal = true
		if len(n.Args) == 2 {
			if t := parsedType(n.Args[1]); t != nil {
				s.typeName(t)
				return true
			}
		}
	case "pg_import_system_collations":
		s.changes = true
	case "pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all":
		s.ends |= sqltext.LeavesAdvisory
	}
	if pin == PinAdvisory {
		s.leaves |= sqltext.LeavesAdvisory
	}
	if pin != 0 {
		s.against(pin, "function "+name)
	}
	return true
}

// parsedType returns the type that a literal names, nil when it is none.
func parsedType(n *pg_query.Node) *pg_query.TypeName {
	text, ok := settingValue(n)
	if !ok || len(text) > 2*identifierBytes {
		return nil
	}
	tree, err := pg_query.Parse("SELECT NULL::" + text)
	if err != nil || len(tree.Stmts) != 1 {
		return nil
	}
	sel := tree.Stmts[0].GetStmt().GetSelectStmt()
	if len(sel.GetTargetList()) != 1 {
		return nil
	}
	return sel.TargetList[0].GetResTarget().GetVal().GetTypeCast().GetTypeName()
}

// attribute looks at a.b or (a).b, which may be a call of the function b: a's
// columns are not known here, so any name of a function that counts will do.
func (s *survey) attribute(fields []*pg_query.Node) {
	if len(fields) > 1 {
		s.indirection(fields[len(fields)-1:])
	}
}

func (s *survey) indirection(steps []*pg_query.Node) {
	for _, n := range steps {
		name := n.GetString_().GetSval()
		if name == "" {
			continue
		}
		switch _, isSpecial := special[name]; {
		case isSpecial, timescaleDDL[name]:
			s.against(PinFunction, "function "+name)
		case s.view.snap != nil && s.view.snap.UserFunctions[name]:
			s.againstCode(PinFunction, "function "+name+", or a column of that name", s.view.code(name))
		}
	}
}

// expr looks at an operator.
func (s *survey) expr(n *pg_query.A_Expr) {
	s.evaluates = true
	switch n.Kind {
	case pg_query.A_Expr_Kind_AEXPR_BETWEEN, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN,
		pg_query.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg_query.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		s.compare()
	default:
		s.operator(n.Name)
	}
}

func (s *survey) operator(names []*pg_query.Node) {
	if len(names) == 0 {
		return
	}
	schema, name, ok := qualified(names)
	if !ok {
		s.against(PinFunction, "operator "+name)
		return
	}
	s.doubtful(s.view.operator(schema, name), "operator "+dotted(schema, name))
}

// compare notes a comparison whose operator the text does not show.
func (s *survey) compare() { s.compareIf(true) }

func (s *survey) compareIf(is bool) {
	switch {
	case !is:
	case s.view.snap == nil:
		s.against(PinCatalog, "a comparison")
	case s.view.comparison:
		s.againstCode(PinFunction, "a comparison that a user's operator may answer", &s.view.snap.AnyCode)
	}
}

func (s *survey) typeName(n *pg_query.TypeName) {
	if len(n.Names) == 0 {
		return
	}
	schema, name, ok := qualified(n.Names)
	if !ok || n.PctType {
		s.against(PinFunction, "type "+name)
		return
	}
	s.evaluates = true
	s.doubtful(s.view.typeName(schema, name), "type "+dotted(schema, name))
}

func (s *survey) sample(method []*pg_query.Node) {
	_, name, ok := qualified(method)
	if !ok || name != "bernoulli" && name != "system" {
		s.against(PinFunction, "sampling method "+name)
	}
}

// doubtful turns a verdict on a name into a pin.
func (s *survey) doubtful(v verdict, what string) {
	switch v {
	case own:
		s.own = true
	case unclean:
		s.againstCode(PinFunction, what, &s.view.snap.AnyCode)
	case strange:
		s.against(PinFunction, what)
	case unknown:
		s.against(PinCatalog, what)
	}
}

// qualified splits a list of one or two names.
func qualified(list []*pg_query.Node) (schema, name string, ok bool) {
	switch len(list) {
	case 1:
		return "", list[0].GetString_().GetSval(), true
	case 2:
		return list[0].GetString_().GetSval(), list[1].GetString_().GetSval(), true
	case 0:
		return "", "", false
	}
	return "", list[len(list)-1].GetString_().GetSval(), false
}

func dotted(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}
