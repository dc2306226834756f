package bench

// Requests are messages that their maker encodes: for loads whose generator must cost
// next to nothing, or whose parameters are no numbers.
type Requests struct {
	Prepare []byte // sent once by every client before its first request, up to one Sync; may be empty

	// Next gives a client of the run, by its number, a function that appends its next
	// request: what is answered by one ReadyForQuery, a Query or a group that ends with
	// Sync. Each is called by one goroutine.
	Next func(client int) func(dst []byte) []byte
}
