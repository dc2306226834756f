// Package knn says whether an answer that was kept is still the database's.
//
//	fill:  Log.Mark -> (snapshot, query) sent in one pipeline -> Proof kept with the answer
//	use:   Rounds.Wait, a round sent after the question came -> Log.Judge(Proof) -> Valid, or why not
//	round: Log.Ask -> one statement on the primary -> Log.Apply
//
// A round is one statement for all who wait: the snapshot that the server's
// transactions now see, what the change log has that the round before did not see, and
// a fingerprint of the definitions that answers depend on. Log keeps the changes of the
// last rounds; an answer is judged by those that came after it, when it is next used.
//
// It never knows the protocol, SQL of clients, or what an answer looks like. All methods
// may be called by any goroutine.
package knn
