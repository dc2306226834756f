package bench

// Requests are messages that their maker encodes: for loads whose generator must cost
// next to nothing, or whose parameters are no numbers.
type Requests struct {
	// Prepare is sent by every client before its first request, and once, whoever asks
	// for it: messages up to one Sync. It may be empty.
	Prepare []byte

	// Next gives a client of the run, by its number, a function that appends its next
	// request: what is answered by one ReadyForQuery, a Query or a group that ends with
	// Sync. Each is called by one goroutine.
	Next func(client int) func(dst []byte) []byte
}
