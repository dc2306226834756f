package schema

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
	"qvpgw/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// onEach runs a test on an empty database of each backend. The embedded one has
// a single database, which is emptied afterwards.
func onEach(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("native", func(t *testing.T) { test(t, pgtest.Database(t)) })
	t.Run("embedded", func(t *testing.T) { onEmbedded(t, test) })
}

// onEmbedded runs a test on the embedded backend's database, which is emptied
// afterwards.
func onEmbedded(t *testing.T, test func(t *testing.T, dsn string)) {
	dsn := pgtest.Embedded(t).DSN()
	t.Cleanup(func() {
		if _, err := NewMigrator(dsn, Options{Yes: true}).Goto(context.Background(), 0); err != nil {
			t.Error(err)
		}
		exec(t, connect(t, dsn), "DROP SCHEMA qvpgw CASCADE")
	})
	test(t, dsn)
}

// newest is the highest number of the migrations that are built in.
var newest = func() int {
	files, err := readFiles(migrations.Files)
	if err != nil {
		panic(err)
	}
	return files[len(files)-1].version
}()

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec runs statements, several in one text.
func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
}

// value is the first column of the first row.
func value(t testing.TB, conn *pgx.Conn, sql string) string {
	t.Helper()
	rows, err := ConnQuery(conn)(context.Background(), sql)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%v, %d rows\nin %s", err, len(rows), sql)
	}
	return rows[0][0]
}

func load(t testing.TB, conn *pgx.Conn) *catalog.Snapshot {
	t.Helper()
	s, err := Load(context.Background(), ConnQuery(conn))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// steps is how many migrations are built in.
var steps = func() int {
	files, err := readFiles(migrations.Files)
	if err != nil {
		panic(err)
	}
	return len(files)
}()
