package gateway

import (
	"testing"
	"unsafe"
)

// The runtime's allocator has a class of 896 bytes, and the next is of 1,024: ten
// thousand idle clients are ten thousand sessions.
func TestASessionIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(session{}); n > 896 {
		t.Errorf("a session has %d bytes, more than 896", n)
	}
}
