package router

// Why an execution did not do what its plan says, or how it did it. The gateway
// finds these out; plans do not have them.
const (
	ReasonHit           Reason = "hit"
	ReasonHitNear       Reason = "hit_near"
	ReasonMiss          Reason = "miss"
	ReasonNotFresh      Reason = "not_fresh"
	ReasonLockRefused   Reason = "lock_refused"
	ReasonRewriteFailed Reason = "rewrite_failed"
	ReasonNotDescribed  Reason = "not_described"
	ReasonFloatExact    Reason = "float_exact"
	ReasonNotAlone      Reason = "not_alone"
	ReasonIndexBuild    Reason = "index_build"
	ReasonNeverAgain    Reason = "never_again"
)

var runReasons = map[Reason]string{
	ReasonHit:           "The answer was in memory, and the database has not changed since it was given.",
	ReasonHitNear:       "The answer follows from one in memory to another vector, limit or offset, by the triangle inequality, and the database has not changed since that was given.",
	ReasonMiss:          "The answer was not in memory, or the database has changed since: the server answered, and the answer is kept.",
	ReasonNotFresh:      "The guard did not prove the aggregate fresh in the snapshot that would read it, or in a transaction the level is not READ COMMITTED, it has written, or there was no row: the original ran.",
	ReasonLockRefused:   "A chunk that the rewritten query would read could not be locked at once, or is gone: the original ran.",
	ReasonRewriteFailed: "The rewritten query failed before its first row: the original ran.",
	ReasonNotDescribed:  "The server does not describe the original, which would fail: it ran and says why.",
	ReasonFloatExact:    "It adds floats in another order, and route.float is exact: the original ran.",
	ReasonIndexBuild:    "The index is built by CREATE INDEX CONCURRENTLY, with notices of its progress, instead of inside the function.",
	ReasonNotAlone:      "The statement shares its group or its transaction with others, asks for some of its rows, or the client is pinned: what is proven for a statement alone does not hold.",
	ReasonNeverAgain:    "The last answers were out of date, or not there, whenever somebody asked: most are not looked for or kept until one is found again.",
}
