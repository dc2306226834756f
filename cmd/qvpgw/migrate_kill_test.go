package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
)

// striker stops a migration at its n-th step, n being killer.at: a DDL statement,
// also one within a block, or a change of the migrations' own tables. There it
// waits until killer.go was called.
const striker = `
CREATE SCHEMA killer;
CREATE SEQUENCE killer.steps;
CREATE SEQUENCE killer.go;
CREATE TABLE killer.reached (version int, steps bigint);
CREATE FUNCTION killer.step() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('killer.steps')::text = current_setting('killer.at', true) THEN
    FOR i IN 1..20000 LOOP
      EXIT WHEN (SELECT is_called FROM killer.go);
      PERFORM pg_sleep(0.01);
    END LOOP;
  END IF;
END $$;
CREATE FUNCTION killer.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM killer.step(); END';
CREATE FUNCTION killer.on_mark() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM killer.step(); RETURN NULL; END';
CREATE FUNCTION killer.on_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO killer.reached VALUES (NEW.version, (SELECT last_value FROM killer.steps));
  RETURN NEW;
END $$;
CREATE EVENT TRIGGER killer_ddl ON ddl_command_end EXECUTE FUNCTION killer.on_ddl();
CREATE TRIGGER killer_mark BEFORE INSERT OR TRUNCATE ON qvpgw.schema_migrations FOR EACH STATEMENT EXECUTE FUNCTION killer.on_mark();
CREATE TRIGGER killer_log AFTER INSERT ON qvpgw.migration_log FOR EACH STATEMENT EXECUTE FUNCTION killer.on_mark();
CREATE TRIGGER killer_reached BEFORE INSERT ON qvpgw.migration_log FOR EACH ROW EXECUTE FUNCTION killer.on_log()`

// kills is the test of migrations that are killed.
type kills struct {
	shapes  map[int]string // the schema of each version, as pg_dump writes it
	steps   map[int]int64  // steps from an empty database to a version
	newest  int
	lost    int
	stopped map[string]int // what status said after the kill, by kind
}

// TestAKilledMigrationIsMendedByWhatIsAdvised kills migrations at random steps:
// the process by SIGKILL, or the server's by pg_terminate_backend. Then status and
// doctor must tell the truth, and the commands that they advise must lead to the
// newest version with all rows. QVPGW_KILLS is the number of rounds.
func TestAKilledMigrationIsMendedByWhatIsAdvised(t *testing.T) {
	rounds := 4
	if v := os.Getenv("QVPGW_KILLS"); v != "" {
		var err error
		if rounds, err = strconv.Atoi(v); err != nil {
			t.Fatalf("QVPGW_KILLS is %q: it must be a number of rounds", v)
		}
	}
	c := pgtest.Native(t)
	k := newKills(t, c)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for i := range rounds {
		start := rng.IntN(len(k.shapes) - 1) // an index into the versions
		from := slices.Sorted(maps.Keys(k.shapes))[start]
		at := 1 + rng.Int64N(k.steps[k.newest]-k.steps[from])
		mended := t.Run(fmt.Sprintf("%d from %d at %d", i, from, at), func(t *testing.T) {
			k.round(t, c, from, at, i%2 == 0, rng.IntN(2) == 0)
		})
		if !mended {
			k.lost++
		}
	}
	t.Logf("what was there after the kill: %v", k.stopped)
	figure.Print(t, "schema.kill.rounds", rounds)
	figure.Print(t, "schema.kill.lost", k.lost)
}

// newKills learns every version's schema and the number of steps to it.
func newKills(t *testing.T, c *pgtest.Cluster) *kills {
	t.Helper()
	dsn := c.Database(t)
	m := prepareStriker(t, dsn)
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := &kills{shapes: map[int]string{0: shapeOf(t, c, dsn)}, steps: map[int]int64{0: 0}, newest: s.Newest, stopped: map[string]int{}}
	for _, f := range s.Files {
		if _, err := m.Goto(t.Context(), f.Version); err != nil {
			t.Fatal(err)
		}
		k.shapes[f.Version] = shapeOf(t, c, dsn)
	}
	for _, row := range runSQL(t, dsn, "SELECT version, steps FROM killer.reached WHERE version > 0") {
		v, _ := strconv.Atoi(row[0])
		k.steps[v], _ = strconv.ParseInt(row[1], 10, 64)
	}
	return k
}

// prepareStriker makes the migrations' own tables and the striker.
func prepareStriker(t *testing.T, dsn string) *schema.Migrator {
	t.Helper()
	m := schema.NewMigrator(dsn, schema.Options{})
	if _, err := m.Force(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	runSQL(t, dsn, striker+"; SELECT 1")
	return m
}

// shapeOf is the schema of the platform.
func shapeOf(t *testing.T, c *pgtest.Cluster, dsn string) string {
	t.Helper()
	out := c.PgDump(t, dsn, "--schema-only", "-n", "public", "-n", "qvp*")
	return keyed.ReplaceAllString(out, "")
}

// keyed are the lines that pg_dump makes anew each time.
var keyed = regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`)

// linesApart lists the lines that one of two texts has alone; pg_dump's order
// depends on the order in which things were made.
func linesApart(want, got string) string {
	count := map[string]int{}
	for line := range strings.Lines(want) {
		count[line]--
	}
	for line := range strings.Lines(got) {
		count[line]++
	}
	var b strings.Builder
	for _, line := range slices.Sorted(maps.Keys(count)) {
		if n := count[line]; n != 0 {
			fmt.Fprintf(&b, "%+d %s", n, line)
		}
	}
	return b.String()
}

// round kills one migration and follows the advice.
func (k *kills) round(t *testing.T, c *pgtest.Cluster, from int, at int64, byProcess, release bool) {
	dsn := c.Database(t)
	m := prepareStriker(t, dsn)
	if _, err := m.Goto(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	defer conn.Close(t.Context())
	looks, err := pgtest.FillTables(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	before, err := pgtest.Answers(t.Context(), conn, looks)
	if err != nil {
		t.Fatal(err)
	}
	run(t, conn, fmt.Sprintf("SELECT setval('killer.steps', 1, false); ALTER DATABASE %s SET killer.at = '%d'", databaseOf(t, dsn), at))

	program := configured(t, migratingConfig(dsn))
	cmd := program.command(t, "migrate", "up")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	pid := k.struck(t, conn, ended, &said)
	if byProcess {
		_ = cmd.Process.Kill()
		<-ended
		// The server goes on with what it was sent, and holds its locks.
		var s schema.Status
		if err := json.Unmarshal([]byte(program.run(t, "migrate", "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		if s.Session != pid || !strings.Contains(s.Advice, "migrates at this moment") {
			t.Errorf("server process %d migrates, status says %+v", pid, s)
		}
		if release {
			run(t, conn, "SELECT nextval('killer.go')")
		}
	}
	if !byProcess || !release {
		run(t, conn, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
	}
	if !byProcess {
		if err := <-ended; err == nil || !strings.Contains(said.String(), "cannot") {
			t.Errorf("the migration ended with %v:\n%s", err, said.String())
		}
	}
	for limit := time.Now().Add(30 * time.Second); run(t, conn, fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid)) != "0"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the server's process does not end")
		}
	}
	run(t, conn, fmt.Sprintf("ALTER DATABASE %s RESET killer.at", databaseOf(t, dsn)))
	k.truth(t, c, dsn, program)
	k.follow(t, program)

	s, _ := examineBy(t, program)
	if !s.Current() || s.Advice != "" {
		t.Errorf("after the advice status is %+v", s)
	}
	if apart := linesApart(k.shapes[k.newest], shapeOf(t, c, dsn)); apart != "" {
		t.Errorf("the schema is not that of version %d:\n%s", k.newest, apart)
	}
	after, err := pgtest.Answers(t.Context(), conn, looks)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("there were rows %q, there are %q, %v", before, after, err)
	}
}

// struck waits until the migration is at the step, and returns the server's
// process.
func (k *kills) struck(t *testing.T, conn *pgconn.PgConn, ended <-chan error, said *strings.Builder) (pid int) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("the migration ended before that step with %v:\n%s", err, said.String())
		default:
		}
		sleeping := run(t, conn, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'")
		if pid, err := strconv.Atoi(strings.TrimSpace(sleeping)); err == nil {
			return pid
		}
	}
	t.Fatal("the migration does not come to that step")
	return 0
}

// examineBy is what the program's status and doctor say.
func examineBy(t *testing.T, program folder) (schema.Status, schema.Report) {
	t.Helper()
	var s schema.Status
	var r schema.Report
	for command, v := range map[string]any{"migrate status --json": &s, "doctor --json": &r} {
		out, err := program.command(t, strings.Fields(command)...).Output()
		if err != nil && len(out) == 0 {
			t.Fatalf("qvpgw %s: %v", command, err)
		}
		if err := json.Unmarshal(out, v); err != nil {
			t.Fatalf("qvpgw %s gave %s: %v", command, out, err)
		}
	}
	return s, r
}

// truth compares what is said with what is there.
func (k *kills) truth(t *testing.T, c *pgtest.Cluster, dsn string, program folder) {
	t.Helper()
	s, r := examineBy(t, program)
	kind := map[bool]string{true: "dirty", false: "clean"}[s.Dirty]
	if s.Part != nil {
		kind = "half a file"
	}
	k.stopped[kind]++
	if s.Session != 0 {
		t.Errorf("nobody migrates, status says %+v", s)
	}
	if apart := linesApart(k.shapes[max(s.Whole, 0)], shapeOf(t, c, dsn)); s.Part == nil && apart != "" {
		t.Errorf("status says version %d is there (%s), but the schema differs:\n%s", s.Whole, s.Advice, apart)
	}
	if (s.Advice == "") != s.Current() {
		t.Errorf("status advises %q at %+v", s.Advice, s)
	}
	if r.Migrations.Advice != s.Advice || r.Migrations.Dirty != s.Dirty || r.Migrations.Whole != s.Whole {
		t.Errorf("doctor says %+v, status %+v", r.Migrations, s)
	}
	found := slices.ContainsFunc(r.Findings, func(f schema.Finding) bool {
		command := advised.FindStringSubmatch(s.Advice)
		return command != nil && strings.HasPrefix(f.Code, "schema-") && slices.Contains(f.Mend, "qvpgw "+command[1])
	})
	if found == s.Current() {
		t.Errorf("doctor found %+v, status says %+v", r.Findings, s)
	}
}

var advised = regexp.MustCompile("`qvpgw ([^`]+)`")

// follow runs the advised commands until none is advised.
func (k *kills) follow(t *testing.T, program folder) {
	t.Helper()
	for range 5 {
		s, _ := examineBy(t, program)
		if s.Advice == "" {
			return
		}
		command := advised.FindStringSubmatch(s.Advice)
		if command == nil {
			t.Fatalf("no command in %q", s.Advice)
		}
		program.run(t, strings.Fields(command[1])...)
	}
	t.Error("after five commands something is advised still")
}
