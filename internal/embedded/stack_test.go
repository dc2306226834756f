package embedded_test

import (
	"strings"
	"testing"

	"qvpgw/internal/pgtest"
)

func TestADeepStatementNeitherOverrunsTheStackNorIsLost(t *testing.T) {
	conn := connect(t, pgtest.Embedded(t).DSN())
	nested := func(n int) string { return "SELECT " + strings.Repeat("abs(", n) + "1" + strings.Repeat(")", n) }
	if got := value[int](t, conn, nested(500)); got != 1 {
		t.Errorf("500 calls deep: %d", got)
	}
	exec(t, conn, "CREATE FUNCTION pg_temp.down(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN pg_temp.down(n + 1); END'")
	if _, err := conn.Exec(t.Context(), "SELECT pg_temp.down(1)"); err == nil || !strings.Contains(err.Error(), "SQLSTATE 54001") {
		t.Errorf("endless calls: %v, not SQLSTATE 54001", err)
	}
	if got := value[int](t, conn, "SELECT 1"); got != 1 {
		t.Errorf("afterwards: %d", got)
	}
}
