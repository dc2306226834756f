package sqltext

// Kind is the kind of one statement, as its leading tokens tell it.
type Kind uint8

// The kinds. Everything that changes the catalog and leaves nothing behind in
// the session is DDL, whatever it creates, alters or drops.
const (
	Other Kind = iota // not recognised
	Empty             // white space and comments alone
	Select
	Insert
	Update
	Delete
	Merge
	With // WITH …: a parser tells which
	Begin
	Commit
	Rollback
	Savepoint
	Release
	RollbackTo
	PrepareTransaction
	CommitPrepared
	RollbackPrepared
	Set
	SetLocal
	SetTransaction
	SetConstraints
	Reset
	Show
	Discard
	Deallocate
	Prepare
	Execute
	Declare
	Fetch // FETCH and MOVE
	Close
	Listen
	Unlisten
	Notify
	Lock
	Copy
	Explain
	Do
	Call
	Load
	Truncate
	Vacuum // VACUUM and ANALYZE
	Maintain
	DDL
)

var kindNames = [...]string{
	Other:              "other",
	Empty:              "empty",
	Select:             "select",
	Insert:             "insert",
	Update:             "update",
	Delete:             "delete",
	Merge:              "merge",
	With:               "with",
	Begin:              "begin",
	Commit:             "commit",
	Rollback:           "rollback",
	Savepoint:          "savepoint",
	Release:            "release",
	RollbackTo:         "rollback_to",
	PrepareTransaction: "prepare_transaction",
	CommitPrepared:     "commit_prepared",
	RollbackPrepared:   "rollback_prepared",
	Set:                "set",
	SetLocal:           "set_local",
	SetTransaction:     "set_transaction",
	SetConstraints:     "set_constraints",
	Reset:              "reset",
	Show:               "show",
	Discard:            "discard",
	Deallocate:         "deallocate",
	Prepare:            "prepare",
	Execute:            "execute",
	Declare:            "declare",
	Fetch:              "fetch",
	Close:              "close",
	Listen:             "listen",
	Unlisten:           "unlisten",
	Notify:             "notify",
	Lock:               "lock",
	Copy:               "copy",
	Explain:            "explain",
	Do:                 "do",
	Call:               "call",
	Load:               "load",
	Truncate:           "truncate",
	Vacuum:             "vacuum",
	Maintain:           "maintain",
	DDL:                "ddl",
}

// String is the metric label of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "other"
}

// leading has the keywords that statements start with, in upper case.
var leading = map[string]Kind{
	"SELECT": Select, "VALUES": Select, "TABLE": Select,
	"INSERT": Insert, "UPDATE": Update, "DELETE": Delete,
	"MERGE": Merge, "WITH": With,
	"BEGIN": Begin, "START": Begin,
	"COMMIT": Commit, "END": Commit,
	"ROLLBACK": Rollback, "ABORT": Rollback,
	"SAVEPOINT": Savepoint, "RELEASE": Release,
	"SET": Set, "RESET": Reset, "SHOW": Show,
	"DISCARD": Discard, "DEALLOCATE": Deallocate,
	"PREPARE": Prepare, "EXECUTE": Execute,
	"DECLARE": Declare, "FETCH": Fetch, "MOVE": Fetch,
	"CLOSE": Close, "LISTEN": Listen, "UNLISTEN": Unlisten,
	"NOTIFY": Notify, "LOCK": Lock, "COPY": Copy,
	"EXPLAIN": Explain, "DO": Do, "CALL": Call, "LOAD": Load,
	"TRUNCATE": Truncate, "VACUUM": Vacuum, "ANALYZE": Vacuum,
	"ANALYSE": Vacuum, "CLUSTER": Maintain, "REINDEX": Maintain,
	"CHECKPOINT": Maintain, "REFRESH": Maintain,
	"CREATE": DDL, "ALTER": DDL, "DROP": DDL, "GRANT": DDL,
	"REVOKE": DDL, "COMMENT": DDL, "SECURITY": DDL,
	"IMPORT": DDL, "REASSIGN": DDL,
}

// longestLeading is the length of the longest keyword in leading, in bytes.
const longestLeading = 10

// kindFinder decides a statement's kind from its first tokens, fed one by one.
type kindFinder struct {
	kind Kind
	// state says what the decided first word still waits for.
	state uint8
}

const (
	kindStart  uint8 = iota // nothing seen, or opening parentheses
	kindSecond              // the second word decides
	kindTo                  // ROLLBACK [WORK|TRANSACTION]: TO decides
	kindDone
)

// feed takes the next token that is neither white space nor a comment and
// reports whether the kind is final.
func (f *kindFinder) feed(src []byte, t Token) bool {
	switch f.state {
	case kindStart:
		return f.first(src, t)
	case kindSecond:
		f.state = kindDone
		return f.second(src, t)
	case kindTo:
		f.state = kindDone
		if wordIs(src, t, "TO") {
			f.kind = RollbackTo
		}
	}
	return true
}

func (f *kindFinder) first(src []byte, t Token) bool {
	if t.Kind == Punct && src[t.Start] == '(' {
		f.kind = Select // ((SELECT …) UNION …)
		return false
	}
	f.state = kindDone
	if t.Kind == Punct && src[t.Start] == ';' {
		f.kind = Empty
		return true
	}
	if t.Kind != Word || t.End-t.Start > longestLeading {
		f.kind = Other
		return true
	}
	var up [longestLeading]byte
	f.kind = leading[string(upper(up[:0], src[t.Start:t.End]))]
	switch f.kind {
	case Set, Commit, Rollback, Prepare:
		f.state = kindSecond
		return false
	}
	return true
}

func (f *kindFinder) second(src []byte, t Token) bool {
	switch f.kind {
	case Set:
		switch {
		case wordIs(src, t, "LOCAL"):
			f.kind = SetLocal
		case wordIs(src, t, "TRANSACTION"):
			f.kind = SetTransaction
		case wordIs(src, t, "CONSTRAINTS"):
			f.kind = SetConstraints
		}
	case Commit:
		if wordIs(src, t, "PREPARED") {
			f.kind = CommitPrepared
		}
	case Prepare:
		if wordIs(src, t, "TRANSACTION") {
			f.kind = PrepareTransaction
		}
	case Rollback:
		switch {
		case wordIs(src, t, "PREPARED"):
			f.kind = RollbackPrepared
		case wordIs(src, t, "TO"):
			f.kind = RollbackTo
		case wordIs(src, t, "WORK"), wordIs(src, t, "TRANSACTION"):
			f.state = kindTo
			return false
		}
	}
	return true
}

// end returns the kind of a statement that ended here.
func (f *kindFinder) end() Kind {
	if f.state == kindStart {
		return Empty
	}
	return f.kind
}

// wordIs reports whether t is the unquoted word w, given in upper case.
func wordIs(src []byte, t Token, w string) bool {
	return t.Kind == Word && equalFold(src[t.Start:t.End], w)
}

// equalFold reports whether b is the upper-case ASCII word w in any case.
func equalFold(b []byte, w string) bool {
	if len(b) != len(w) {
		return false
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != w[i] {
			return false
		}
	}
	return true
}

// upper appends b to dst with ASCII letters in upper case.
func upper(dst, b []byte) []byte {
	for _, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
