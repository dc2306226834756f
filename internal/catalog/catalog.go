package catalog

import "sync/atomic"

// OID is a PostgreSQL object identifier.
type OID = uint32

// Name is a schema-qualified name, unquoted.
type Name struct{ Schema, Name string }

// Snapshot is the catalog at one moment. It is immutable.
type Snapshot struct {
	// Fingerprint changes whenever something that a statement's plan depends on
	// changed (relations, functions, triggers, aggregates; not chunks, not
	// watermarks).
	Fingerprint string
	// Moment changes whenever the chunks, thresholds, watermarks or recovery
	// state of the snapshot differ: what With replaced.
	Moment string

	ServerVersion int    // server_version_num, as 170011
	Timescale     string // version of the extension, "" without it
	Community     bool   // TimescaleDB's Community edition: aggregates, compression, policies
	Vector        string // version of pgvector, "" without it
	InRecovery    bool   // a standby
	Defaults      *Defaults

	Relations map[Name]*Relation

	// Names (unqualified) of which at least one function, operator or type is
	// neither in pg_catalog nor information_schema nor owned by an extension
	// whose code is known (timescaledb, vector, plpgsql). A statement that uses
	// such a name may run user code.
	UserFunctions map[string]bool
	UserOperators map[string]bool
	UserTypes     map[string]bool
	// Names of those beyond PostgreSQL's own of which none is among the User… ones;
	// true: not all of them are extensions' whose code is known.
	CleanFunctions map[string]bool
	CleanOperators map[string]bool
	CleanTypes     map[string]bool

	// Code is what the functions of a name may do to their session, by unqualified
	// name, of all that are not known to do nothing at all; AnyCode is what any of
	// them may do.
	Code    map[string]*Code
	AnyCode Code

	// Functions are those of the platform's schema that are alone with their name in
	// it.
	Functions map[Name]*Function

	// Words are the names that the texts of users' functions mention, Bases those of
	// relations whose code others run: views and rules over them, tables that hold them or
	// that they hold, keys that they follow; and of hypertables.
	Words map[string]bool
	Bases map[string]bool

	UserCasts  bool // a cast between built-in types with a user function exists: any expression may run it
	Validators bool // a foreign-data wrapper's validator is a user's

	EventTriggers bool // a user's DDL event trigger exists
	EventCode     Code // what they may do
	LoginTriggers bool // a user's login event trigger exists

	// Hypertables by TimescaleDB's hypertable id, with those that hold the rows of
	// continuous aggregates: without its chunks an aggregate is not routed to.
	Hypertables map[int32]*Hypertable
	Aggregates  []*Aggregate // continuous aggregates
}

// Code is what code of users may do to its session.
type Code struct {
	State    uint16   // the bits of sqltext.State
	Settings []string // names of settings that it may set
	Nextval  bool     // it may call nextval
	DDL      bool     // it may change the catalog
	Notifies bool     // it may send notifications
}

// Function is one function as pg_proc has it.
type Function struct {
	OID  OID
	Name Name
	// Row is the transaction that wrote its row in pg_proc (xmin): another definition
	// has another. All that is said here but Columns of a composite type is in that row.
	Row        string
	Schema     OID  // of its schema
	Volatility byte // pg_proc.provolatile: i, s or v
	// Body is its text when it is a plain function in SQL: SECURITY INVOKER, without
	// settings of its own, not strict, without VARIADIC and OUT among its arguments;
	// else "".
	Body      string
	Set       bool // it returns rows
	Refuses   bool // it never returns: it does nothing but raise an error
	Arguments []Argument
	Columns   []Output // of its rows, nil when they are not composite
	Table     bool     // Columns are declared by RETURNS TABLE
}

// Argument is an input argument of a function.
type Argument struct {
	Name    string // "" without one
	Type    Name
	Default string // its expression, "" without one
}

// Output is a column of a function's rows.
type Output struct {
	Column
	TypeName Name
}

// Relation is a table, view, sequence, index or foreign table.
type Relation struct {
	OID     OID
	Name    Name
	Kind    byte // pg_class.relkind
	Temp    bool
	Columns []Column

	// Clean: reading and writing it runs no user code: no user trigger, rule,
	// row security policy, generated column, default, domain or check that calls
	// a user function, no view that does, not foreign. Unclean says what stands
	// against it, as "trigger audit on trades".
	Clean   bool
	Unclean string
	// ReadClean: reading alone runs no user code, though writing may (a trigger,
	// a rule, a default). Clean implies it.
	ReadClean bool

	// Code is what the code that stands against it may do; nil: any of Snapshot.AnyCode.
	Code *Code

	Nextval       bool // an INSERT may call nextval through a column default
	WriteNextval  bool // any write of it may, through a trigger
	WriteNotifies bool // any write of it may send notifications, through a trigger
	RowSecurity   bool // relrowsecurity or relforcerowsecurity
	InsertTrigger bool // any trigger, foreign keys included, fires on INSERT; TimescaleDB's and the gateway's own do not count
	HypertableID  int32

	// Log is what the gateway's change log records of the relation, and Triggers are
	// the oids of the triggers that do it, in order, spelled as an array of PostgreSQL;
	// NotLogged and "" when any of them is missing, or when something may pass them by.
	Log      ChangeLog
	Triggers string
}

// ChangeLog is what the gateway's change log records of a relation.
type ChangeLog uint8

const (
	NotLogged         ChangeLog = iota
	CorrectionsLogged           // of a hypertable: what TimescaleDB's own log misses
	RowsLogged                  // of a table with a vector: each INSERT, UPDATE, DELETE and TRUNCATE
)

// Column is one live column of a relation.
type Column struct {
	Name    string
	Number  int16 // attnum
	Type    OID
	TypMod  int32
	NotNull bool
	// Nondeterministic: equal values may differ in bytes (pg_collation.collisdeterministic
	// is false), so groups have no representative that two plans agree on.
	Nondeterministic bool
}

// Column returns the column of that name.
func (r *Relation) Column(name string) (Column, bool) {
	for _, c := range r.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// Hypertable is a TimescaleDB hypertable with its open (time) dimension.
type Hypertable struct {
	ID         int32
	Name       Name
	TimeColumn string
	TimeType   OID
	Chunks     []Chunk // sorted by Start
	// Threshold is the hypertable's invalidation threshold in TimescaleDB's
	// internal time (microseconds since the Unix epoch); 0 and false without one.
	Threshold    int64
	HasThreshold bool
	// Distinct is about how many values a column has, for those of which ANALYZE of the
	// hypertable told a number.
	Distinct map[string]int64
}

// Chunk is one chunk of a hypertable; [Start, End) in internal time
// (microseconds since the Unix epoch for timestamps).
type Chunk struct {
	ID         int32
	Name       Name
	Start, End int64
	Compressed Name // relation of its compressed rows, zero when it has none
	// Rows is about how many rows it has, by the last ANALYZE or VACUUM, and at least 1; 0
	// where nobody looked, and of compressed chunks.
	Rows int64
}

// Span is [Start, End) in internal time.
type Span struct{ Start, End int64 }

// Aggregate is a continuous aggregate as TimescaleDB's catalog describes it.
type Aggregate struct {
	ID               int32 // id of the materialization hypertable
	RawID            int32 // hypertable it aggregates (an aggregate's own, when hierarchical)
	View             Name  // what users select from
	Materialization  Name  // the hypertable that holds the rows
	Definition       string
	MaterializedOnly bool
	Finalized        bool   // false: old format, never used
	Watermark        int64  // internal time; end of the highest materialized bucket
	BucketWidth      string // interval text as in the catalog: "01:00:00", "7 days"
	BucketOrigin     string // "" when the default
	BucketOffset     string
	BucketTimeZone   string
	BucketFixed      bool
	Columns          []Column // of the materialization hypertable
	// Settled is the range in which the gateway's worker has proven that the logs name
	// every change that is not in the aggregate.
	Settled Settled
	// Invalid is what TimescaleDB's logs and the change log marked as not materialized
	// when the snapshot was read: hypertable log, materialization log, pending ranges
	// and corrections, End one past their greatest value. It only chooses what to read from where;
	// the guard of a rewritten statement proves it. Empty when unknown.
	Invalid []Span
}

// Settled is a row of qvpgw.settled.
type Settled struct {
	Span            // empty when nothing is settled
	Triggers string // of the hypertable, since when; spelled as an array of PostgreSQL
	Reason   string // why nothing can be settled, a code; "" when it can be
	// Chunks are those of the materialization that the settled range rests on, by id. A
	// chunk that was dropped and made anew is another one: it may lack rows of its range.
	Chunks []int32
}

// Touched is what DDL that is confined to it may have changed.
type Touched struct {
	Names []string // that it mentions, without their schemas
	Roles bool     // roles, too
}

// Add adds what other may have changed.
func (t *Touched) Add(other Touched) {
	t.Names = append(t.Names, other.Names...)
	t.Roles = t.Roles || other.Roles
}

// Holder publishes the newest Snapshot.
type Holder struct{ p atomic.Pointer[Snapshot] }

// Load returns the newest snapshot, nil before the first Store.
func (h *Holder) Load() *Snapshot { return h.p.Load() }

// Store publishes s.
func (h *Holder) Store(s *Snapshot) { h.p.Store(s) }
