// Package bench puts load on whatever speaks the PostgreSQL protocol, a gateway, a
// pooler or a server, and takes the time of every transaction.
//
// It must never know what it talks to, and it measures nothing of the other
// process: that is for whoever started it.
//
//	ParseScript -> Connect (a Fleet of clients) -> Run, as often as wanted -> Result -> Close
//
// A fleet may hold far more clients than a run uses; one that is idle costs its
// connection and no goroutine. A run is a closed loop: each of its clients sends the
// next transaction when the answer to the last has arrived, and the last one that
// was begun in time is waited for.
package bench
