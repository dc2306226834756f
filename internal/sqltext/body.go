package sqltext

import (
	"slices"
	"strings"
)

// State is what code may leave behind in its session.
type State uint16

// The states. Settings are those that Body.Settings names.
const (
	LeavesSettings State = 1 << iota
	LeavesTemp           // temporary objects
	LeavesAdvisory       // advisory locks of the session
	LeavesCursor         // cursors WITH HOLD
	LeavesPrepared       // statements made by SQL's PREPARE
	LeavesListen         // channels that are listened to
	LeavesRole           // SET ROLE, SET SESSION AUTHORIZATION
	LeavesSeed           // setseed
	LeavesLibrary        // LOAD
	LeavesAnything       // what is done is not in the text
)

// Body is what the text of a function or of a block of code says about what it
// does. It errs on the side of more.
type Body struct {
	State    State
	Settings []string // names of settings that it may set, in lower case
	// Words are the names in it, in lower case unless quoted: of functions,
	// relations and types among others, and of operators. Wide: it uses some that
	// are not in the text.
	Words    map[string]bool
	Wide     bool
	Nextval  bool // may call nextval: by name, or by writing rows
	Currval  bool // reads currval or lastval
	DDL      bool // may change the catalog
	Writes   bool // may write rows of relations that it names
	Notifies bool // may send notifications
	Raises   bool // is a block of PL/pgSQL that raises an error, and nothing else
}

// maxBodyDepth bounds texts of EXECUTE within texts of EXECUTE.
const maxBodyDepth = 8

// ScanBody reads the source of a function in SQL or PL/pgSQL, or of a block.
func ScanBody(src string) Body {
	b := Body{Words: map[string]bool{}}
	b.scan(src, 0)
	return b
}

// bodyScan is one text while it is read.
type bodyScan struct {
	*Body
	src    []byte
	tokens []Token
	depth  int
}

func (b *Body) scan(src string, depth int) {
	if depth > maxBodyDepth {
		b.State |= LeavesAnything
		return
	}
	s := bodyScan{Body: b, src: []byte(src), depth: depth}
	scanner := NewScanner(s.src, true)
	for t := scanner.Next(); t.Kind != EOF; t = scanner.Next() {
		switch t.Kind {
		case Space, Comment:
		case Unterminated:
			b.State |= LeavesAnything
			return
		default:
			s.tokens = append(s.tokens, t)
		}
	}
	for i := range s.tokens {
		if w := s.word(i); w != "" {
			b.Words[w] = true
			s.see(i, w)
		} else if s.tokens[i].Kind == Op {
			b.Words[string(s.tokens[i].Bytes(s.src))] = true
		}
	}
	b.Raises = depth == 0 && s.raises()
}

// raises says whether the tokens are BEGIN RAISE EXCEPTION …; END, without a handler.
func (s *bodyScan) raises() bool {
	last := len(s.tokens) - 1
	if s.is(last, ";") {
		last--
	}
	if s.word(0) != "begin" || s.word(1) != "raise" || s.word(2) != "exception" || s.word(last) != "end" || !s.is(last-1, ";") {
		return false
	}
	for i := 3; i < last-1; i++ {
		if s.is(i, ";") {
			return false
		}
	}
	return true
}

// word returns the i-th token as a name, "" when it is none.
func (s *bodyScan) word(i int) string {
	if i < 0 || i >= len(s.tokens) {
		return ""
	}
	t := s.tokens[i].Bytes(s.src)
	switch s.tokens[i].Kind {
	case Word:
		return strings.ToLower(string(t))
	case Quoted:
		if t[0] != '"' {
			s.State |= LeavesAnything // U&"…"
		}
		return strings.ReplaceAll(strings.Trim(string(t), `"`), `""`, `"`)
	}
	return ""
}

// is says whether the i-th token has that text.
func (s *bodyScan) is(i int, text string) bool {
	return i >= 0 && i < len(s.tokens) && string(s.tokens[i].Bytes(s.src)) == text
}

// literal returns the value of the i-th token if it is a plain string.
func (s *bodyScan) literal(i int) (string, bool) {
	if i >= len(s.tokens) || s.tokens[i].Kind != String || s.tokens[i].Escapes {
		return "", false
	}
	t := s.tokens[i]
	if s.src[t.Start] == '$' {
		tag := strings.IndexByte(string(s.src[t.Start+1:]), '$') + 2
		return string(s.src[t.Start+tag : t.End-tag]), true
	}
	return strings.ReplaceAll(string(s.src[t.Body:t.End-1]), "''", "'"), true
}

// starts says whether the i-th token begins a statement.
func (s *bodyScan) starts(i int) bool {
	if i == 0 || s.is(i-1, ";") || s.is(i-1, ">>") {
		return true
	}
	switch s.word(i - 1) {
	case "begin", "atomic", "then", "else", "loop":
		return true
	}
	return false
}

// see takes note of the i-th token, the name w.
func (s *bodyScan) see(i int, w string) {
	if state, ok := bodyFunctions[w]; ok {
		s.State |= state
	}
	switch w {
	case "set_config":
		s.setConfig(i)
	case "execute":
		s.execute(i)
	case "temp", "temporary":
		switch s.word(i - 1) {
		case "create", "replace", "local", "global", "into":
			s.State |= LeavesTemp
		}
	case "pg_temp":
		s.State |= LeavesTemp
	case "hold":
		if s.word(i-1) == "with" {
			s.State |= LeavesCursor
		}
	case "nextval", "setval":
		s.Nextval = true
	case "insert", "merge", "copy":
		s.Nextval, s.Writes = true, true
	case "update", "delete", "truncate":
		s.Writes = true
	case "notify", "pg_notify":
		s.Notifies = true
	case "currval", "lastval":
		s.Currval = true
	case "pg_settings":
		s.State |= LeavesAnything // it can be written to
	}
	if s.starts(i) {
		s.statement(i, w)
	}
}

// statement takes note of the statement that begins at the i-th token.
func (s *bodyScan) statement(i int, w string) {
	switch w {
	case "set":
		s.set(i + 1)
	case "reset":
		s.reset(i + 1)
	case "listen", "unlisten":
		s.State |= LeavesListen
	case "load":
		s.State |= LeavesLibrary
	case "prepare", "deallocate":
		s.State |= LeavesPrepared
	case "discard":
		s.State |= LeavesAnything
	case "create":
		for s.word(i+1) == "or" || s.word(i+1) == "replace" || s.word(i+1) == "local" || s.word(i+1) == "global" {
			i++
		}
		s.DDL = s.DDL || s.word(i+1) != "temp" && s.word(i+1) != "temporary"
	case "alter", "drop", "comment", "grant", "revoke", "reassign", "security", "import":
		s.DDL = true
	}
}

// set reads what follows SET.
func (s *bodyScan) set(i int) {
	switch s.word(i) {
	case "local":
		return // ends with the transaction
	case "session":
		switch s.word(i + 1) {
		case "authorization":
			s.State |= LeavesRole
			return
		case "characteristics":
			s.named("default_transaction_isolation")
			s.named("default_transaction_read_only")
			s.named("default_transaction_deferrable")
			return
		}
		if !s.is(i+1, "=") && s.word(i+1) != "to" {
			i++
		}
	case "transaction", "constraints":
		return
	case "time":
		s.named("timezone")
		return
	}
	s.setting(i)
}

// reset reads what follows RESET.
func (s *bodyScan) reset(i int) {
	switch s.word(i) {
	case "all":
		s.State |= LeavesAnything
	case "session":
		s.State |= LeavesRole
	case "time":
		s.named("timezone")
	default:
		s.setting(i)
	}
}

// setting reads a setting's name.
func (s *bodyScan) setting(i int) {
	name := s.word(i)
	for ; s.is(i+1, "."); i += 2 {
		name += "." + s.word(i+2)
	}
	s.named(name)
}

// named takes note of a setting that is set by name.
func (s *bodyScan) named(name string) {
	name = strings.ToLower(name)
	switch name {
	case "":
		s.State |= LeavesAnything
	case "role", "session_authorization":
		s.State |= LeavesRole
	case "seed":
		s.State |= LeavesSeed
	default:
		s.State |= LeavesSettings
		if !slices.Contains(s.Settings, name) {
			s.Settings = append(s.Settings, name)
		}
	}
}

// setConfig reads the arguments of set_config.
func (s *bodyScan) setConfig(i int) {
	if name, ok := s.literal(i + 2); ok && s.is(i+1, "(") && s.is(i+3, ",") {
		s.named(name)
		return
	}
	s.State |= LeavesAnything
}

// execute reads the text of an EXECUTE as far as it is in the source: literals,
// format's with %I and %L, and what is quoted in between.
func (s *bodyScan) execute(i int) {
	switch s.word(i + 1) {
	case "function", "procedure", "on": // of CREATE TRIGGER, of GRANT
		return
	}
	var text strings.Builder
	for i++; ; i++ {
		n := s.piece(i, &text)
		if n == 0 {
			s.State |= LeavesAnything
			s.Wide = true
			return
		}
		if i += n; !s.is(i, "||") {
			break
		}
	}
	switch {
	case i >= len(s.tokens), s.is(i, ";"), s.word(i) == "into", s.word(i) == "using", s.word(i) == "loop":
		s.scan(text.String(), s.depth+1)
	default:
		s.State |= LeavesAnything
		s.Wide = true
	}
}

// piece appends a part of a text that is put together and returns how many tokens
// it takes; 0 when it is not known.
func (s *bodyScan) piece(i int, text *strings.Builder) int {
	if lit, ok := s.literal(i); ok {
		text.WriteString(lit)
		return 1
	}
	if !s.is(i+1, "(") {
		return 0
	}
	switch s.word(i) {
	case "quote_ident":
		text.WriteString(s.some())
	case "quote_literal", "quote_nullable":
		text.WriteString("''")
	case "format":
		lit, ok := s.literal(i + 2)
		if !ok || !s.format(lit, text) {
			return 0
		}
	default:
		return 0
	}
	open := 1
	for n := i + 2; n < len(s.tokens); n++ {
		switch {
		case s.is(n, "("):
			open++
		case s.is(n, ")"):
			if open--; open == 0 {
				return n + 1 - i
			}
		}
	}
	return 0
}

// some stands for a name that is not in the text.
func (s *bodyScan) some() string {
	s.Wide = true
	return `"some name"`
}

// format appends what format() makes of lit; false when a part of it is code that
// is not in the text.
func (s *bodyScan) format(lit string, text *strings.Builder) bool {
	for {
		before, after, found := strings.Cut(lit, "%")
		text.WriteString(before)
		if !found {
			return true
		}
		after = strings.TrimLeft(after, "0123456789$-*")
		if after == "" {
			return false
		}
		switch after[0] {
		case '%':
			text.WriteByte('%')
		case 'I':
			text.WriteString(s.some())
		case 'L':
			text.WriteString("''")
		default:
			return false
		}
		lit = after[1:]
	}
}

// bodyFunctions are built-in functions that leave state behind, or run code that
// they are given.
var bodyFunctions = func() map[string]State {
	m := map[string]State{
		"setseed":          LeavesSeed,
		"pg_advisory_lock": LeavesAdvisory, "pg_advisory_lock_shared": LeavesAdvisory,
		"pg_try_advisory_lock": LeavesAdvisory, "pg_try_advisory_lock_shared": LeavesAdvisory,
	}
	for name := range strings.FieldsSeq(`query_to_xml query_to_xmlschema query_to_xml_and_xmlschema
		cursor_to_xml cursor_to_xmlschema table_to_xml table_to_xmlschema table_to_xml_and_xmlschema
		schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema
		database_to_xml_and_xmlschema ts_stat ts_rewrite pg_stat_force_next_flush
		pg_create_physical_replication_slot pg_create_logical_replication_slot pg_copy_physical_replication_slot
		pg_copy_logical_replication_slot pg_replication_origin_session_setup pg_replication_origin_session_reset
		pg_backup_start pg_backup_stop pg_input_is_valid pg_input_error_info`) {
		m[name] = LeavesAnything
	}
	return m
}()
