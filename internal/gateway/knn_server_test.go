package gateway_test

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// relay stands before a server; new connections go to the one that it has then. While it
// is held the server's bytes stay with it.
type relay struct {
	addr   string
	server atomic.Pointer[string]
	held   atomic.Bool
}

func newRelay(t *testing.T, server string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r := &relay{addr: l.Addr().String()}
	r.server.Store(&server)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(client)
		}
	}()
	return r
}

func (r *relay) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", *r.server.Load())
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := server.Read(b)
		for r.held.Load() {
			time.Sleep(time.Millisecond)
		}
		if n > 0 {
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// backend has a gateway dial through the relay.
func (r *relay) backend(database, user string) (*pgconn.Config, error) {
	return pgconn.ParseConfig("postgres://" + user + "@" + r.addr + "/" + database + "?sslmode=disable")
}

// addressOf is host and port of a server.
func addressOf(t *testing.T, dsn string) string {
	t.Helper()
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

// settled asks until the gateway has no dead server connections left.
func (p *peer) settled(sql string) string {
	p.Helper()
	got := p.rows(sql)
	for end := time.Now().Add(patience); (strings.HasPrefix(got, "57P") || strings.HasPrefix(got, "08") || strings.HasPrefix(got, "53")) && time.Now().Before(end); got = p.rows(sql) {
		time.Sleep(5 * time.Millisecond)
	}
	return got
}

// TestKNNConditionC6 has a client ask what another client's query is on its way for, after
// a write that this query has not seen: what it brings is not his answer. Without validation
// it is.
func TestKNNConditionC6AQueryThatRanBeforeIsJudgedByWhoWaitedForIt(t *testing.T) {
	for _, blind := range []bool{false, true} {
		dsn := nativeDatabase(t, plainTable("joined")+changeLogOf(t, "joined"))
		r := newRelay(t, addressOf(t, dsn))
		g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}, Backend: r.backend})
		if blind {
			gateway.Unproven(g)
		}
		first, second, writer := dial(t, addr, dsn), dial(t, addr, dsn), direct(t, dsn)
		first.want("SELECT id FROM joined ORDER BY v <-> '[9,0]' LIMIT 1", "4") // a round has read the table
		old := false
		for try := 0; try < 20 && !old; try++ { // a slow machine lets the second one wait too long, and ask for himself
			vector := "[-" + strconv.Itoa(try+1) + ",0]"
			text := "SELECT id FROM joined ORDER BY v <-> '" + vector + "' LIMIT 2"
			before := writer.rows(text)
			r.held.Store(true)
			first.send(simple(text))
			ran := "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'idle' AND pid <> pg_backend_pid() AND query LIKE '%<->%" + vector + "%'"
			eventually(t, dsn, ran, "t", patience)
			writer.must("INSERT INTO joined" + nearer)
			after := writer.rows(text)
			second.send(simple(text))
			time.Sleep(10 * time.Millisecond) // to be there; one who comes later asks for himself
			r.held.Store(false)
			if got := rowsOf(first.reply(1)); got != before && got != after {
				t.Fatalf("the first one got %q, not %q", got, before)
			}
			got := rowsOf(second.reply(1))
			if !blind && got != after {
				t.Fatalf("who asked after the write got %q, not %q", got, after)
			}
			old = got == before && before != after
			writer.must("DELETE FROM joined WHERE id = 90")
			if !blind && try == 1 {
				break
			}
		}
		if blind && !old {
			t.Error("without validation nobody gets what ran before he asked: the case shows nothing")
		}
	}
}

// serverQuestion is asked of a table that plainTable made, without a log.
const serverQuestion = "SELECT id, v <-> '[1.21,0.1]' FROM plain_one ORDER BY v <-> '[1.21,0.1]' LIMIT 2"

// serverConditions are what becomes of a server or of the database's name without that a
// row changes. Each begins with the answer in memory.
var serverConditions = []struct {
	name string
	do   func(t *testing.T, c *pgtest.Cluster, dsn string)
}{
	{"its files of settings are read again", func(t *testing.T, c *pgtest.Cluster, dsn string) {
		d := direct(t, dsn)
		d.must("ALTER SYSTEM SET extra_float_digits = -5")
		d.must("SELECT pg_reload_conf()")
		eventually(t, dsn, "SELECT current_setting('extra_float_digits')", "-5", patience)
	}},
	{"a process is killed, and what is not logged is gone", func(t *testing.T, c *pgtest.Cluster, dsn string) {
		d, other := direct(t, dsn), direct(t, dsn)
		pid, _ := strconv.Atoi(d.rows("SELECT pg_backend_pid()"))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = other.reply(1) // its end: the server has seen it
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			conn, err := pgconn.Connect(t.Context(), dsn)
			if err == nil {
				_ = conn.Close(t.Context())
				return
			}
		}
		t.Fatal("the server does not come back")
	}},
	{"another database takes the name", func(t *testing.T, c *pgtest.Cluster, dsn string) {
		name := databaseOf(dsn)
		alone(t, c, name, "RENAME TO former")
		direct(t, c.DSN("postgres")).must("ALTER DATABASE spare RENAME TO " + name)
	}},
}

// alone alters a database that nobody is connected to, nor will be.
func alone(t *testing.T, c *pgtest.Cluster, name, change string) {
	t.Helper()
	d := direct(t, c.DSN("postgres"))
	d.must("ALTER DATABASE " + name + " ALLOW_CONNECTIONS false")
	d.must("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'")
	d.must("ALTER DATABASE " + name + " " + change)
}

// TestKNNConditionC11 asks before and after. All are answered wrongly without validation.
func TestKNNConditionC11AnswersEndWithTheServerThatGaveThem(t *testing.T) {
	c := pgtest.Native(t, pgtest.Own())
	for _, one := range serverConditions {
		t.Run(one.name, func(t *testing.T) {
			dsn := c.Database(t)
			run(t, dsn, strings.Replace(plainTable("plain_one"), "CREATE TABLE", "CREATE UNLOGGED TABLE", 1)+changeLogOf(t, "plain_one"))
			if strings.Contains(one.name, "name") {
				admin, name := direct(t, c.DSN("postgres")), databaseOf(dsn)
				alone(t, c, name, "CONNECTION LIMIT -1")
				admin.must("CREATE DATABASE spare TEMPLATE " + name)
				admin.must("ALTER DATABASE " + name + " ALLOW_CONNECTIONS true")
				direct(t, dsn).must("INSERT INTO plain_one" + nearer)
			}
			_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
			g, unproven := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
			gateway.Unproven(g)
			before := direct(t, dsn).rows(serverQuestion)
			for _, a := range []string{addr, unproven} {
				for range 2 {
					dial(t, a, dsn).want(serverQuestion, before)
				}
			}
			one.do(t, c, dsn)
			after := direct(t, dsn).rows(serverQuestion)
			if got := dial(t, addr, dsn).settled(serverQuestion); got != after || before == after {
				t.Errorf("through the gateway %q, directly %q, before %q", got, after, before)
			}
			if got := dial(t, unproven, dsn).settled(serverQuestion); got != before {
				t.Errorf("without validation %q, not %q: the case shows nothing", got, before)
			}
		})
	}
}

// TestKNNConditionC11AnAnswerOfOneServerIsNotJudgedByAnother has connections go to another
// server while those to the first are still there: what it answers is given, and not kept.
func TestKNNConditionC11AnAnswerOfOneServerIsNotJudgedByAnother(t *testing.T) {
	const rows = "; UPDATE plain_one SET id = 10 * id"
	dsn := nativeDatabase(t, plainTable("plain_one")+changeLogOf(t, "plain_one"))
	second := pgtest.Native(t, pgtest.Own())
	if err := second.Exec(t.Context(), "postgres", "CREATE DATABASE "+databaseOf(dsn)); err != nil {
		t.Fatal(err)
	}
	run(t, second.DSN(databaseOf(dsn)), "CREATE EXTENSION IF NOT EXISTS vector; "+plainTable("plain_one")+changeLogOf(t, "plain_one")+rows)
	r := newRelay(t, addressOf(t, dsn))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, Backend: r.backend})
	const question = "SELECT id FROM plain_one ORDER BY v <-> '[1,0]' LIMIT 2"
	p, one, two, three := dial(t, addr, dsn), dial(t, addr, dsn), dial(t, addr, dsn), dial(t, addr, dsn)
	p.want("SELECT id FROM plain_one ORDER BY v <-> '[9,0]' LIMIT 1", "4") // a round has read the table
	one.must("BEGIN")
	two.must("BEGIN") // so these have both connections
	pid := two.rows("SELECT pg_backend_pid()")
	address := second.Addr()
	r.server.Store(&address)
	direct(t, dsn).must("SELECT pg_terminate_backend(" + pid + ")")
	_ = two.reply(1)          // its end
	p.want(question, "10;20") // by the second server, while the first one is the one that rounds know
	three.must("BEGIN")
	one.must("COMMIT")
	p.want(question, "1;2")
}
