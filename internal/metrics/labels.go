package metrics

// Action is what was done with a statement; the order is router.Action's.
type Action uint8

// The actions.
const (
	Pass Action = iota
	Rewrite
	Cached
	Refused
	Local
	actions
)

var actionNames = [actions]string{"pass", "rewrite", "cached", "refused", "local"}

func (a Action) String() string { return actionNames[a] }

// LoginFailure is why a client was not let in.
type LoginFailure uint8

// The login failures.
const (
	LoginPassword LoginFailure = iota // wrong password or unknown user; never told apart
	LoginTLS                          // TLS is required, or its handshake failed
	LoginProtocol                     // not a startup message that is understood
	LoginTimeout                      // not done within client_login_timeout, or hung up
	LoginLimit                        // max_clients reached
	LoginShutdown                     // the gateway is shutting down
	LoginBackend                      // the server cannot be reached or refused
	loginFailures
)

var loginFailureNames = [loginFailures]string{"password", "tls", "protocol", "timeout", "limit", "shutdown", "backend"}

func (f LoginFailure) String() string { return loginFailureNames[f] }

// TxMode is what became of the server connection at the end of a transaction.
type TxMode uint8

// Shared: it was free for others. Pinned: the client kept it.
const (
	Shared TxMode = iota
	Pinned
	txModes
)

var txModeNames = [txModes]string{"shared", "pinned"}

func (m TxMode) String() string { return txModeNames[m] }

// Gear is how a turn was driven.
type Gear uint8

// FirstGear: on an event loop. SecondGear: in a goroutine, from its beginning or
// from where it could not go on without blocking.
const (
	FirstGear Gear = iota
	SecondGear
	gears
)

var gearNames = [gears]string{"first", "second"}

func (g Gear) String() string { return gearNames[g] }

// Pin is why a client keeps its server connection; the value is the number of the
// bit in router.Pins.
type Pin uint8

// The pins, in the order of router's bits.
const (
	PinUnparsed Pin = iota
	PinFunction
	PinRelation
	PinDo
	PinTemp
	PinPrepare
	PinCursor
	PinListen
	PinAdvisory
	PinSetting
	PinSequence
	PinLoad
	PinSeed
	PinCatalog
	PinStatement
	PinProcess
	Pins // how many there are
)

var pinNames = [Pins]string{
	"unparsed", "function", "relation", "do", "temp", "prepare", "cursor", "listen", "advisory",
	"setting", "sequence", "load", "seed", "catalog", "statement", "process",
}

func (p Pin) String() string { return pinNames[p] }

// CancelOutcome is what became of a CancelRequest.
type CancelOutcome uint8

// The outcomes.
const (
	CancelSent      CancelOutcome = iota // forwarded to the server
	CancelNoQuery                        // the client had no server connection
	CancelUnknown                        // no client has that key
	CancelFailed                         // the server did not take it
	CancelElsewhere                      // for a client of another process, which was told
	cancelOutcomes
)

var cancelOutcomeNames = [cancelOutcomes]string{"sent", "no_query", "unknown", "failed", "elsewhere"}

func (o CancelOutcome) String() string { return cancelOutcomeNames[o] }

// CacheMiss is why a k-NN query was not answered from memory.
type CacheMiss uint8

// The misses. What was there and did not hold any more is evicted for that reason.
const (
	MissAbsent    CacheMiss = iota // not there
	MissChanged                    // the database changed, and no change log says what
	MissEntered                    // a row was inserted that may be among the nearest
	MissTouched                    // a row of the answer was changed or deleted
	MissUnknown                    // any row may have changed: TRUNCATE, a large statement
	MissDefined                    // a definition or a right changed
	MissForgotten                  // it was not used for so long that the changes since are not kept
	MissRestarted                  // the server was restarted, or is another one
	MissUnproven                   // the server could not be asked: a standby, an error
	MissBypass                     // not looked for: in a transaction, switched off, unknown settings, seldom of use
	CacheMisses
)

var cacheMissNames = [CacheMisses]string{"absent", "changed", "entered", "touched", "unknown", "defined", "forgotten", "restarted", "unproven", "bypass"}

// Evicts says whether an answer was dropped for it.
func (m CacheMiss) Evicts() bool { return m >= MissChanged && m < MissUnproven }

// CacheHit is how an answer came from memory.
type CacheHit uint8

// The hits.
const (
	HitSame   CacheHit = iota // the same question
	HitLarger                 // a part of the answer to a larger one
	HitNear                   // proven from the answer to a question near it
	CacheHits
)

var cacheHitNames = [CacheHits]string{"same", "larger", "near"}

func (h CacheHit) String() string { return cacheHitNames[h] }

func (m CacheMiss) String() string { return cacheMissNames[m] }

// RewriteOutcome is what became of a statement that had a rewrite.
type RewriteOutcome uint8

// The outcomes; all but Routed ran the original.
const (
	Routed       RewriteOutcome = iota
	GuardRefused                // the proof of freshness failed
	LockRefused                 // the raw chunks could not be locked at once
	FellBack                    // an error before the first row
	rewriteOutcomes
)

var rewriteOutcomeNames = [rewriteOutcomes]string{"routed", "guard_refused", "lock_refused", "fell_back"}

func (o RewriteOutcome) String() string { return rewriteOutcomeNames[o] }

// sqlstateClasses are the classes of errors in PostgreSQL 17, appendix A, and of
// its extensions; what is not among them counts as "other".
var sqlstateClasses = []string{
	"01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23",
	"24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42",
	"44", "53", "54", "55", "57", "58", "F0", "HV", "P0", "TS", "XX",
}
