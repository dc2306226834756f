package sqltext

// Kind is the kind of one statement, as its leading tokens tell it.
type Kind uint8

// The kinds. Everything that changes the catalog and leaves nothing behind in
// the session is KindDDL, whatever it creates, alters or drops.
const (
	KindOther Kind = iota // not recognised
	KindEmpty             // white space and comments alone
	KindSelect
	KindInsert
	KindUpdate
	KindDelete
	KindMerge
	KindWith // WITH …: a parser tells which
	KindBegin
	KindCommit
	KindRollback
	KindSavepoint
	KindRelease
	KindRollbackTo
	KindPrepareTransaction
	KindCommitPrepared
	KindRollbackPrepared
	KindSet
	KindSetLocal
	KindSetTransaction
	KindSetConstraints
	KindReset
	KindShow
	KindDiscard
	KindDeallocate
	KindPrepare
	KindExecute
	KindDeclare
	KindFetch // FETCH and MOVE
	KindClose
	KindListen
	KindUnlisten
	KindNotify
	KindLock
	KindCopy
	KindExplain
	KindDo
	KindCall
	KindLoad
	KindTruncate
	KindVacuum // VACUUM and ANALYZE
	KindMaintain
	KindDDL
)

var kindNames = [...]string{
	KindOther:              "other",
	KindEmpty:              "empty",
	KindSelect:             "select",
	KindInsert:             "insert",
	KindUpdate:             "update",
	KindDelete:             "delete",
	KindMerge:              "merge",
	KindWith:               "with",
	KindBegin:              "begin",
	KindCommit:             "commit",
	KindRollback:           "rollback",
	KindSavepoint:          "savepoint",
	KindRelease:            "release",
	KindRollbackTo:         "rollback_to",
	KindPrepareTransaction: "prepare_transaction",
	KindCommitPrepared:     "commit_prepared",
	KindRollbackPrepared:   "rollback_prepared",
	KindSet:                "set",
	KindSetLocal:           "set_local",
	KindSetTransaction:     "set_transaction",
	KindSetConstraints:     "set_constraints",
	KindReset:              "reset",
	KindShow:               "show",
	KindDiscard:            "discard",
	KindDeallocate:         "deallocate",
	KindPrepare:            "prepare",
	KindExecute:            "execute",
	KindDeclare:            "declare",
	KindFetch:              "fetch",
	KindClose:              "close",
	KindListen:             "listen",
	KindUnlisten:           "unlisten",
	KindNotify:             "notify",
	KindLock:               "lock",
	KindCopy:               "copy",
	KindExplain:            "explain",
	KindDo:                 "do",
	KindCall:               "call",
	KindLoad:               "load",
	KindTruncate:           "truncate",
	KindVacuum:             "vacuum",
	KindMaintain:           "maintain",
	KindDDL:                "ddl",
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
	"SELECT": KindSelect, "VALUES": KindSelect, "TABLE": KindSelect,
	"INSERT": KindInsert, "UPDATE": KindUpdate, "DELETE": KindDelete,
	"MERGE": KindMerge, "WITH": KindWith,
	"BEGIN": KindBegin, "START": KindBegin,
	"COMMIT": KindCommit, "END": KindCommit,
	"ROLLBACK": KindRollback, "ABORT": KindRollback,
	"SAVEPOINT": KindSavepoint, "RELEASE": KindRelease,
	"SET": KindSet, "RESET": KindReset, "SHOW": KindShow,
	"DISCARD": KindDiscard, "DEALLOCATE": KindDeallocate,
	"PREPARE": KindPrepare, "EXECUTE": KindExecute,
	"DECLARE": KindDeclare, "FETCH": KindFetch, "MOVE": KindFetch,
	"CLOSE": KindClose, "LISTEN": KindListen, "UNLISTEN": KindUnlisten,
	"NOTIFY": KindNotify, "LOCK": KindLock, "COPY": KindCopy,
	"EXPLAIN": KindExplain, "DO": KindDo, "CALL": KindCall, "LOAD": KindLoad,
	"TRUNCATE": KindTruncate, "VACUUM": KindVacuum, "ANALYZE": KindVacuum,
	"ANALYSE": KindVacuum, "CLUSTER": KindMaintain, "REINDEX": KindMaintain,
	"CHECKPOINT": KindMaintain, "REFRESH": KindMaintain,
	"CREATE": KindDDL, "ALTER": KindDDL, "DROP": KindDDL, "GRANT": KindDDL,
	"REVOKE": KindDDL, "COMMENT": KindDDL, "SECURITY": KindDDL,
	"IMPORT": KindDDL, "REASSIGN": KindDDL,
}

// longestLeading is the length of the longest keyword in leading, in bytes.
const longestLeading = 10

// KindOf returns the kind of the statement that text starts with. It looks at
// the first tokens alone; the rest may be anything. conforming is the session's
// standard_conforming_strings.
func KindOf(text []byte, conforming bool) Kind {
	s := NewScanner(text, conforming)
	var f kindFinder
	for {
		t := s.Next()
		if t.Kind == EOF {
			return f.end()
		}
		if t.Kind == Space || t.Kind == Comment {
			continue
		}
		if f.feed(text, t) {
			return f.kind
		}
	}
}

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
			f.kind = KindRollbackTo
		}
	}
	return true
}

func (f *kindFinder) first(src []byte, t Token) bool {
	if t.Kind == Punct && src[t.Start] == '(' {
		f.kind = KindSelect // ((SELECT …) UNION …)
		return false
	}
	f.state = kindDone
	if t.Kind == Punct && src[t.Start] == ';' {
		f.kind = KindEmpty
		return true
	}
	if t.Kind != Word || t.End-t.Start > longestLeading {
		f.kind = KindOther
		return true
	}
	var up [longestLeading]byte
	f.kind = leading[string(upper(up[:0], src[t.Start:t.End]))]
	switch f.kind {
	case KindSet, KindCommit, KindRollback, KindPrepare:
		f.state = kindSecond
		return false
	}
	return true
}

func (f *kindFinder) second(src []byte, t Token) bool {
	switch f.kind {
	case KindSet:
		switch {
		case wordIs(src, t, "LOCAL"):
			f.kind = KindSetLocal
		case wordIs(src, t, "TRANSACTION"):
			f.kind = KindSetTransaction
		case wordIs(src, t, "CONSTRAINTS"):
			f.kind = KindSetConstraints
		}
	case KindCommit:
		if wordIs(src, t, "PREPARED") {
			f.kind = KindCommitPrepared
		}
	case KindPrepare:
		if wordIs(src, t, "TRANSACTION") {
			f.kind = KindPrepareTransaction
		}
	case KindRollback:
		switch {
		case wordIs(src, t, "PREPARED"):
			f.kind = KindRollbackPrepared
		case wordIs(src, t, "TO"):
			f.kind = KindRollbackTo
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
		return KindEmpty
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
