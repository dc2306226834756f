package embedded_test

import (
	"strings"
	"testing"

	"qvpgw/internal/pgtest"
)

func TestADeepStatementDoesNotOverrunTheStack(t *testing.T) {
	conn := connect(t, pgtest.Embedded(t).DSN())
	nested := func(n int) string { return "SELECT " + strings.Repeat("abs(", n) + "1" + strings.Repeat(")", n) }
	if got := value[int](t, conn, nested(1000)); got != 1 {
		t.Errorf("1000 calls deep: %d", got)
	}
	if got := value[int](t, conn, "SELECT 1"); got != 1 {
		t.Errorf("afterwards: %d", got)
	}
}
