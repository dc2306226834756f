package gateway

import (
	"fmt"
	"testing"
)

// TestTablesBeyondTheBoundShareOneName: the figures of a database's rounds have none.
func TestTablesBeyondTheBoundShareOneName(t *testing.T) {
	m := newMemory(&Options{})
	for i := range maxTallies + 3 {
		m.of(fmt.Sprintf("public.t%d", i)).misses[0].Add(1)
	}
	if n := m.tables[otherTables].misses[0].Load(); n != 3 || m.tables[""] != nil {
		t.Errorf("the others have %d misses", n)
	}
}
