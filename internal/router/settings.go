package router

import (
	"strconv"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"

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
		s.against(PinSetting, "SET "+name+" FROM CURRENT")
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
	case "role", "session_authorization":
		if !set.Local && !set.Reset {
			s.against(PinRole, "SET "+set.Name)
		}
	case "seed":
		s.against(PinSeed, "SET seed")
	}
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
			s.against(PinSetting, "SET "+set.Name)
			set.Values = nil
			return
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteLiteral(text))
		set.Values = append(set.Values, text)
	}
	if len(set.Values) == 1 {
		set.Value = set.Values[0]
	}
	set.SQL = b.String()
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
	if len(n.Args) != 1 {
		s.against(PinSetting, "SET "+n.Name)
		return nil
	}
	d := n.Args[0].GetDefElem()
	set := &Setting{Name: "default_" + d.GetDefname()}
	value, ok := settingValue(d.GetArg())
	if !ok {
		s.against(PinSetting, "SET "+n.Name)
		return nil
	}
	if set.Name != "default_transaction_isolation" {
		value = map[string]string{"0": "off", "1": "on"}[value]
	}
	set.Value, set.Values = value, []string{value}
	set.SQL = "SET " + set.Name + " TO " + quoteLiteral(value)
	return set
}

// listSettings are the settings whose SET quotes each value as a name, so that
// set_config and SET give one text different meanings (GUC_LIST_QUOTE).
var listSettings = words(`
search_path temp_tablespaces local_preload_libraries session_preload_libraries
shared_preload_libraries unix_socket_directories createrole_self_grant
restrict_nonsystem_relation_kind
`)

// configure handles set_config(name, value, is_local). once: it is called exactly
// once when the statement runs, so that it may be followed like a SET.
func (s *survey) configure(args []*pg_query.Node, once bool) {
	if len(args) != 3 || s.setting != nil {
		s.against(PinSetting, "function set_config")
		return
	}
	name, named := settingValue(args[0])
	value, plain := settingValue(args[1])
	local := args[2].GetAConst().GetBoolval()
	set := &Setting{Name: strings.ToLower(name), Local: local.GetBoolval()}
	switch {
	case set.Local:
		// Its name alone matters, and only until the transaction ends.
	case local == nil, !named, !plain, !once, listSettings[set.Name]:
		s.against(PinSetting, "function set_config")
		return
	default:
		set.Value, set.Values = value, []string{value}
		set.SQL = "SET " + quoteName(set.Name) + " TO " + quoteLiteral(value)
	}
	s.named(set)
	s.setting = set
}

// calledOnce returns the function calls that a SELECT of nothing but a target
// list runs exactly once.
func calledOnce(n *pg_query.SelectStmt) map[*pg_query.FuncCall]bool {
	if len(n.FromClause) > 0 || n.WhereClause != nil || n.WithClause != nil || n.IntoClause != nil ||
		n.Op != pg_query.SetOperation_SETOP_NONE || len(n.GroupClause) > 0 || n.HavingClause != nil ||
		len(n.DistinctClause) > 0 || len(n.SortClause) > 0 || n.LimitCount != nil || n.LimitOffset != nil {
		return nil
	}
	calls := make(map[*pg_query.FuncCall]bool)
	for _, t := range n.TargetList {
		if f := t.GetResTarget().GetVal().GetFuncCall(); f != nil {
			calls[f] = true
		}
	}
	return calls
}

// quoteName quotes a setting's name, which may have dots between its parts.
func quoteName(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if !plainName(p) {
			parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
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

// quoteLiteral writes a string literal that means the same with and without
// standard_conforming_strings.
func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(q, `\`) {
		q = "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
