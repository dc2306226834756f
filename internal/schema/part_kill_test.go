package schema

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
)

// killAt ends the server's process that runs a statement, once it waits in it.
func killAt(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		killed := value(t, conn, fmt.Sprintf(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event IS NOT NULL AND state = 'active' AND query LIKE %s`, catalog.Literal(statement+"%")))
		if killed != "0" {
			return
		}
	}
	t.Fatalf("%s does not come", statement)
}

// TestAFileWithoutATransactionThatIsKilledDoesEachStatementOnce ends the server's
// process in each of a file's statements: what is in a transaction happens exactly
// once, an index is whole in the end.
func TestAFileWithoutATransactionThatIsKilledDoesEachStatementOnce(t *testing.T) {
	text := noTransaction + `INSERT INTO a SELECT 1 FROM pg_sleep(0.2);
		INSERT INTO a SELECT 2 FROM pg_sleep(0.2);
		CREATE INDEX CONCURRENTLY a_i ON a (i);
		INSERT INTO a SELECT 3 FROM pg_sleep(0.2); ---`
	for _, statement := range []string{"INSERT INTO a SELECT 1", "INSERT INTO a SELECT 2", "CREATE INDEX CONCURRENTLY", "INSERT INTO a SELECT 3"} {
		t.Run(statement, func(t *testing.T) {
			dsn := pgtest.Database(t)
			ctx := context.Background()
			conn, writer := connect(t, dsn), connect(t, dsn)
			exec(t, conn, "CREATE TABLE a (i int)")
			exec(t, writer, "BEGIN; INSERT INTO a VALUES (0)") // a concurrent index waits for it
			m := NewMigrator(dsn, Options{Files: files("SELECT 1; --- SELECT 1;", text)})
			done := make(chan error, 1)
			go func() {
				_, err := m.Up(ctx)
				done <- err
			}()
			if statement == "INSERT INTO a SELECT 3" {
				for value(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'") == "0" {
					time.Sleep(5 * time.Millisecond)
				}
				exec(t, writer, "COMMIT")
			}
			killAt(t, conn, statement)
			if err := <-done; err == nil {
				t.Fatal("a killed migration succeeded")
			}
			if statement != "INSERT INTO a SELECT 3" {
				exec(t, writer, "COMMIT")
			}
			s, err := m.Status(ctx)
			if err != nil || s.Part == nil || !s.Half() || s.Whole != 1 || s.Part.Statement[:13] != statement[:13] {
				t.Errorf("status is %+v, %v", s, err)
			}
			follow(t, m)
			if got := value(t, conn, "SELECT array_agg(i ORDER BY i)::text || (SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_i'::regclass) FROM a"); got != "{0,1,2,3}true" {
				t.Errorf("there is %s", got)
			}
		})
	}
}

func TestStatusNamesAMigrationThatHoldsItsMark(t *testing.T) {
	dsn := pgtest.Database(t)
	m := NewMigrator(dsn, Options{Files: files("SELECT 1; --- SELECT 1;")})
	if _, err := m.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, fmt.Sprintf("SELECT pg_advisory_lock(%d); BEGIN; TRUNCATE qvpgw.schema_migrations", int64(lockKey)))
	s, err := m.Status(context.Background())
	if err != nil || s.Session != int(conn.PgConn().PID()) || !strings.Contains(s.Advice, "migrates at this moment") || s.Half() {
		t.Errorf("status is %+v, %v", s, err)
	}
}
