package router

import (
	"strconv"
	"sync/atomic"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// Action is what the gateway does with a text of SQL.
type Action uint8

// The actions; String is the metric label.
const (
	Pass    Action = iota // forwarded as the same bytes
	Rewrite               // answered from a continuous aggregate
	Cached                // k-NN: may be answered from memory
	Refused               // answered with an error of a rule
	Local                 // answered by the gateway: qvpgw.* settings, EXPLAIN (QVPGW)
)

// Plan is what was decided for one text under one Context. It is immutable and
// shared by all clients; facts of one execution travel beside it.
type Plan struct {
	Action Action
	Reason Reason // why this action and no better one; a stable code

	// Statements has one entry for each statement of the text, in order. Nil
	// when the text could not be understood: then Pins has PinUnparsed.
	Statements []Statement
	Pins       Pins // union of the statements' pins
	// Leaves is what the text may leave in its session besides what Statements
	// say, Settings the names of the settings among it, Ends what it may take away.
	// With LeavesAnything it cannot be found out afterwards.
	Leaves   sqltext.State
	Settings []string
	Ends     sqltext.State
	Moving   bool   // a literal's meaning depends on when it is read (trap T5): never shared
	Loads    bool   // it may load a library into the server's process
	Effects  bool   // some statement's completion changes what we track (settings, transaction, sequences, DDL)
	Unclean  string // the first thing that caused a pin, as "function f"; "" without one

	Change    Change       // what its DDL does to what others mean
	mentioned []Identifier // sorted; see Mentions

	Names      Names
	Refusal    *Refusal
	Warnings   []Refusal // rules that only warn: a NOTICE each, SQLState 01000
	KNN        *KNN
	Aggregates *AggregateRewrite
	Cursor     *Cursor // which Aggregates answers
	Index      *IndexBuild
	// AtBind: whether an aggregate answers depends on parameters; Aggregates is nil,
	// and Router.Bound plans when they are known.
	AtBind bool
	Local  *LocalAnswer
	// Plain: it is one statement that passes, and neither what it does nor what it names
	// is anything to the session.
	Plain bool
}

// plain says whether the plan is Plain.
func (p *Plan) plain() bool {
	if p.Action != Pass || len(p.Statements) != 1 || p.Pins != 0 || p.Effects || p.Moving || p.Loads || len(p.Warnings) > 0 || p.Local != nil {
		return false
	}
	n := &p.Names
	if n.Channel != nil || n.Prepares != "" || len(n.Executes)+len(n.Uses) > 0 || n.Notifies || n.Listening || n.Prepared {
		return false
	}
	switch p.Statements[0].Kind {
	case sqltext.Select, sqltext.With, sqltext.Insert, sqltext.Update, sqltext.Delete:
		return true
	}
	return false
}

// Statement is what one statement does to the state of its connection.
type Statement struct {
	Kind    sqltext.Kind
	Setting *Setting // SET, RESET, set_config for the transaction
	Nextval bool     // may call nextval: makes currval and lastval meaningful
	Currval bool     // calls currval or lastval
	DDL     bool     // changes the catalog
	Logins  bool     // with DDL: certainly changes what a login runs or begins with
	Chain   bool     // COMMIT or ROLLBACK … AND CHAIN
	Name    string   // of a SQL-level prepared statement, "" for DEALLOCATE ALL; of a FETCH's cursor; of an UNLISTEN's channel, "" for UNLISTEN *; what DISCARD names, as "all"
}

// Setting is a SET or RESET that the gateway can replay.
type Setting struct {
	Name  string // lower-case; "" with Reset: RESET ALL; "" with Local: some setting
	SQL   string // the statement to replay: SET name TO value…, session scope
	Value string // the value when it is one plain literal, else ""
	// Values are the values, one for each of a list (search_path); nil when they
	// are not plain literals.
	Values []string
	Local  bool // SET LOCAL: nothing to track
	Reset  bool
}

// Pins is a set of reasons why a client keeps its server connection.
type Pins uint32

// The reasons for pins; a closed list, shown in SHOW CLIENTS and metrics.
const (
	PinUnparsed  Pins = 1 << iota // text the parser does not take
	PinFunction                   // may call a user's function, operator, type or cast
	PinRelation                   // touches a relation that runs user code (trigger, rule, policy, …)
	PinDo                         // DO, CALL
	PinTemp                       // makes a temporary object
	PinPrepare                    // SQL-level PREPARE
	PinCursor                     // DECLARE … WITH HOLD
	PinListen                     // LISTEN
	PinAdvisory                   // session advisory lock
	PinSetting                    // a setting whose name is not in the text: set_config
	PinSequence                   // reads currval or lastval by a way that cannot be followed
	PinLoad                       // LOAD
	PinSeed                       // setseed
	PinCatalog                    // no catalog yet, or it is being read again
	PinStatement                  // a prepared statement too large to keep a copy of
	PinProcess                    // needs a server process that nobody had before it
)

// Refusal is an answer of the rules.
type Refusal struct {
	Rule     string
	SQLState string // five characters
	Message  string
	Detail   string // the rule and its reason code
	Hint     string // what to write instead
}

// KNN marks a text as a k-NN query whose answer may be kept. The answer is a
// function of the text, the parameters' bytes, the settings, the role and the
// database's state alone.
type KNN struct {
	Table    string // schema-qualified, for SHOW and metrics
	Operator string
	// Tables are the relations that it reads, the one whose rows are ordered first.
	Tables []catalog.OID
	// Proof is an SQL expression that is true where the names in the text mean these tables,
	// and these may be read as the catalog has it: it may be older than what the server knows.
	Proof string
	// Once says that it reads one table, once: what a change does to its answer can be
	// told from the row that changed.
	Once bool
	// Spots are where its vectors and counts stand in the text, in its order.
	Spots []Spot
}

// LocalAnswer is a statement that the gateway answers itself.
type LocalAnswer struct {
	Kind  LocalKind
	Name  string // setting: "route", "cache", "last_route"
	Value string // for LocalSet
	SQL   string // for LocalExplain: the statement to explain

	Channel *Channel // for LocalChannel
}

// LocalKind says which local answer.
type LocalKind uint8

// The local answers.
const (
	LocalSet LocalKind = iota + 1
	LocalShow
	LocalExplain
	LocalChannel // LISTEN, UNLISTEN
)

// AggregateRewrite answers a query from a continuous aggregate. All texts are
// complete SQL; $n in SQL are the original's parameters, Guard has none.
//
// Sent in one pipeline (traps T3, T4):
//
//	BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; Lock; Guard; SQL; COMMIT
//
// Guard gives one row with one boolean, computed in the snapshot that SQL reads:
// true proves the answer equal to the original's. A refused answer is dropped unread.
type AggregateRewrite struct {
	View string // the aggregate, for last_route
	Lock string // LOCK TABLE ONLY …; "" when no raw arm is read
	// Proof is Guard with parameters for what differs between statements of one shape,
	// each with its type beside it, and ProofArgs are their values as text.
	Proof     string
	ProofArgs []string
	SQL       string      // the rewritten query; same columns, names and types
	proves    string      // the conditions of Proof, see proof.conditions
	alone     *queryParts // nil where Within is ""
	// Copy: SQL is a COPY of a query to the client, which has no columns to be
	// described: those of Copy's two queries must be the same.
	Copy *CopiedQuery
	// Cursor: SQL is a DECLARE, for inside a transaction.
	Cursor  *CursorQuery
	ranges  []timePart
	Float   bool      // a float sum was re-associated
	Expires time.Time // plan again after this (bounds relative to now()); zero: never
	// Memo is for who carries it out: what holds for all rewrites that differ in bounds and
	// compared values alone, which have it in common.
	Memo *atomic.Value
}

// Guard is SELECT … returning one boolean: what Proof asks, with literals.
func (rw *AggregateRewrite) Guard() string { return guarded(plain(rw.proves, rw.ProofArgs)) }

// guarded is the SELECT of a guard.
func guarded(conditions string) string { return "SELECT COALESCE(" + conditions + ", FALSE)" }

// size is what its texts take, in bytes, though rewrites of one shape share some.
func (rw *AggregateRewrite) size() int {
	n := len(rw.Lock) + len(rw.Proof) + len(rw.proves) + 2*len(rw.SQL) // what alone has is most of SQL
	for _, a := range rw.ProofArgs {
		n += len(a) + 16
	}
	return n
}

// HasWithin reports whether there is a text for inside a transaction.
func (rw *AggregateRewrite) HasWithin() bool { return rw.alone != nil }

// Within is the query for inside a transaction: it carries all of the proof, and
// gives no row at all where that fails. A reply without rows says nothing: the
// original is to run. "" where a row may come without the proof.
func (rw *AggregateRewrite) Within() string {
	if rw.alone == nil {
		return ""
	}
	return rw.alone.within(plain(rw.proves, rw.ProofArgs))
}

// CopiedQuery is the query of a COPY.
type CopiedQuery struct{ Original, Rewritten string }

// CursorQuery is what is asked of a cursor.
type CursorQuery struct {
	Read string // its query, without the proof
	// Probe gives a row if the proof held, and has the cursor before its first row
	// again. Without a row nothing is said: the original is to be declared.
	Probe string
}

// Range is a part of the time axis and where it is read from.
type Range struct {
	Source   string // "market_data_1h" or "market_data"
	From, To string // RFC 3339, or an integer; "" when open
}

// timePart is a Range before it is spelled.
type timePart struct {
	source              catalog.Name
	integer             bool
	from, to            int64
	openLeft, openRight bool
}

// Ranges says what is read from where, in order of time.
func (rw *AggregateRewrite) Ranges() []Range {
	out := make([]Range, len(rw.ranges))
	for i, p := range rw.ranges {
		at := func(moment int64, open bool) string {
			switch {
			case open:
				return ""
			case p.integer:
				return strconv.FormatInt(moment, 10)
			}
			return time.UnixMicro(moment).UTC().Format(time.RFC3339Nano)
		}
		out[i] = Range{displayName(p.source), at(p.from, p.openLeft), at(p.to, p.openRight)}
	}
	return out
}

// pinNames are the codes of the pins, in the order of their bits.
var pinNames = [...]string{
	"unparsed", "function", "relation", "do", "temp", "prepare", "cursor", "listen", "advisory",
	"setting", "sequence", "load", "seed", "catalog", "statement", "process",
}

// Names returns the codes of the pins in p.
func (p Pins) Names() []string {
	var names []string
	for i, name := range pinNames {
		if p>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return names
}
