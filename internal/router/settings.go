package router

import (
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// set handles SET and RESET in all their forms.
func (s *survey) set(n *pg_query.VariableSetStmt, st *Statement) {
	st.Kind = sqltext.Set
	name := strings.ToLower(n.Name)
	set := &Setting{Name: name, Local: n.IsLocal}
	switch n.Kind {
	case pg_query.VariableSetKind_VAR_SET_VALUE:
		s.value(set, n.Args)
	case pg_query.VariableSetKind_VAR_SET_DEFAULT, pg_query.VariableSetKind_VAR_RESET:
		set.Reset, set.SQL = true, "RESET "+quoteName(name)
	case pg_query.VariableSetKind_VAR_RESET_ALL:
		set.Name, set.Reset, set.SQL = "", true, "RESET ALL"
	case pg_query.VariableSetKind_VAR_SET_MULTI:
		st.Setting = s.multi(n, st)
		return
	default: // FROM CURRENT: the value is not in the text
		s.computed(set)
	}
	switch {
	case n.IsLocal:
		st.Kind = sqltext.SetLocal
	case n.Kind == pg_query.VariableSetKind_VAR_RESET || n.Kind == pg_query.VariableSetKind_VAR_RESET_ALL:
		st.Kind = sqltext.Reset
	}
	s.named(set)
	st.Setting = set
}

// named applies what the setting's name alone says.
func (s *survey) named(set *Setting) {
	switch set.Name {
	case "transaction_isolation", "transaction_read_only", "transaction_deferrable":
		set.Local = true // of this transaction whatever the statement says
	case "seed":
		s.against(PinSeed, "SET seed")
	}
	if !set.Reset && !set.Local && ofProcess(set) {
		s.against(PinProcess, "SET "+set.Name)
	}
}

// ofProcess says whether what a SET does depends on what its server process did before:
// temp_buffers is fixed by the first use of a temporary table, pg_temp is made by the
// first use of its name, and once PL/pgSQL is loaded its prefix takes no name but
// its own (PostgreSQL's guc.c, reserved_class_prefix).
func ofProcess(set *Setting) bool {
	switch set.Name {
	case "temp_buffers":
		return true
	case "search_path":
		return len(set.Values) > 0 && isTempSchema(set.Values[0])
	case "plpgsql.variable_conflict", "plpgsql.print_strict_params", "plpgsql.check_asserts",
		"plpgsql.extra_warnings", "plpgsql.extra_errors":
		return false
	}
	return strings.HasPrefix(set.Name, "plpgsql.")
}

// value renders SET name TO value, … from the parsed value, so that equal
// settings have equal texts however they were written.
func (s *survey) value(set *Setting, args []*pg_query.Node) {
	var b strings.Builder
	b.WriteString("SET ")
	b.WriteString(quoteName(set.Name))
	b.WriteString(" TO ")
	for i, a := range args {
		text, ok := settingValue(a)
		if !ok { // SET TIME ZONE INTERVAL '1' HOUR
			s.computed(set)
			return
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(catalog.Literal(text))
		set.Values = append(set.Values, text)
	}
	if len(set.Values) == 1 {
		set.Value = set.Values[0]
	}
	set.SQL = b.String()
}

// computed makes set a setting whose value the text does not show: it is read when
// the transaction has ended. Until then it only has a meaning.
func (s *survey) computed(set *Setting) {
	switch set.Name {
	case "role", "session_authorization":
		s.leaves |= sqltext.LeavesRole
	case "seed":
		s.against(PinSeed, "setting seed")
	default:
		s.sets(set.Name)
	}
	set.Values, set.SQL, set.Local = nil, "", true
}

// settingValue returns the text of a plain value.
func settingValue(n *pg_query.Node) (string, bool) {
	c := n.GetAConst()
	if c == nil || c.Isnull {
		return "", false
	}
	switch v := c.Val.(type) {
	case *pg_query.A_Const_Sval:
		return v.Sval.Sval, true
	case *pg_query.A_Const_Fval:
		return v.Fval.Fval, true
	case *pg_query.A_Const_Ival:
		return strconv.Itoa(int(v.Ival.Ival)), true
	}
	return "", false
}

// multi handles SET TRANSACTION and SET SESSION CHARACTERISTICS AS TRANSACTION.
// The first ends with the transaction. The second sets defaults, one of which is
// a setting like any other; several at once are not followed.
func (s *survey) multi(n *pg_query.VariableSetStmt, st *Statement) *Setting {
	if n.Name != "SESSION CHARACTERISTICS" {
		st.Kind = sqltext.SetTransaction
		return nil
	}
	var set *Setting
	for _, a := range n.Args {
		set = &Setting{Name: "default_" + a.GetDefElem().GetDefname()}
		if len(n.Args) > 1 {
			s.computed(set)
		}
	}
	if len(n.Args) != 1 {
		return set
	}
	d := n.Args[0].GetDefElem()
	value, ok := settingValue(d.GetArg())
	if !ok {
		s.computed(set)
		return set
	}
	if set.Name != "default_transaction_isolation" {
		value = map[string]string{"0": "off", "1": "on"}[value]
	}
	set.Value, set.Values = value, []string{value}
	set.SQL = "SET " + set.Name + " TO " + catalog.Literal(value)
	return set
}

// configure handles set_config(name, value, is_local). A local one ends with the
// transaction, and until then its name matters, if it can be read. Another is like
// SET when it runs exactly once and the text shows its value; else the setting is
// read when the transaction has ended, since a SELECT may be run in part, once for
// a row, or not at all.
func (s *survey) configure(args []*pg_query.Node) {
	if len(args) != 3 {
		s.unnamed()
		return
	}
	before := s.setting
	set := &Setting{Local: true}
	s.setting = set
	name, ok := settingValue(args[0])
	switch local := args[2].GetAConst(); {
	case local.GetBoolval().GetBoolval():
		if ok && before == nil {
			set.Name = strings.ToLower(name)
		}
		return
	case !ok || name == "":
		s.unnamed()
		return
	default:
		set.Name = strings.ToLower(name)
		value, plain := settingValue(args[1])
		if plain && s.bare && local.GetBoolval() != nil && set.Name != "seed" {
			set.Local, set.Value, set.Values = false, value, []string{value}
			set.SQL = "SELECT pg_catalog.set_config(" + catalog.Literal(set.Name) + ", " + catalog.Literal(value) + ", false)"
			return
		}
	}
	s.computed(set)
	if before != nil && before.Name != set.Name {
		set.Name = ""
	}
}

// unnamed is for a setting whose name is not known: it cannot be found out.
func (s *survey) unnamed() {
	s.against(PinSetting, "function set_config")
	s.leaves |= sqltext.LeavesAnything
	s.setting = &Setting{Local: true}
}

// bareConfig says whether a SELECT is nothing but its target list, with set_config
// exactly once in it, as a column, and beside it what cannot fail to be evaluated
// once.
func bareConfig(n *pg_query.SelectStmt) bool {
	if n.Op != pg_query.SetOperation_SETOP_NONE || len(n.FromClause)+len(n.GroupClause)+len(n.WindowClause)+len(n.ValuesLists)+
		len(n.SortClause)+len(n.LockingClause)+len(n.DistinctClause) > 0 || n.WhereClause != nil || n.HavingClause != nil ||
		n.LimitCount != nil || n.LimitOffset != nil || n.WithClause != nil || n.IntoClause != nil {
		return false
	}
	calls := 0
	for _, t := range n.TargetList {
		v := t.GetResTarget().GetVal()
		if v.GetAConst() != nil || v.GetParamRef() != nil {
			continue
		}
		_, name, _ := qualified(v.GetFuncCall().GetFuncname())
		switch {
		case name == "set_config" && constants(v.GetFuncCall().GetArgs()):
			calls++
		case name != "current_setting":
			return false
		}
	}
	return calls == 1
}

func constants(list []*pg_query.Node) bool {
	for _, n := range list {
		if n.GetAConst() == nil {
			return false
		}
	}
	return true
}

// quoteName quotes a setting's name, which may have dots between its parts.
func quoteName(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if !plainName(p) {
			parts[i] = catalog.Quote(p)
		}
	}
	return strings.Join(parts, ".")
}

// plainName reports whether an identifier needs no quotes as a setting's name.
func plainName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	// Keywords that are reserved in PostgreSQL's grammar and could be a setting.
	switch name {
	case "", "all", "role", "session", "local", "time", "user", "default":
		return name == "role"
	}
	return true
}
