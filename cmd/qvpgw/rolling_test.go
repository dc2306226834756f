package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/figure"
	"qvpgw/internal/pgtest"
)

// rolling is what the clients of a rolling restart share and found.
type rolling struct {
	addr, database string
	stop           atomic.Bool

	refused atomic.Int64 // connections that were not made
	lost    atomic.Int64 // statements that were broken off, or whose outcome was told wrongly
	retried atomic.Int64 // statements answered with 57P01 and not run
	done    atomic.Int64

	mu   sync.Mutex
	told map[string]bool // by "client seq": whether the row must be there
	said []string        // the first of what went wrong
}

func (r *rolling) fault(n *atomic.Int64, format string, args ...any) {
	n.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.said) < 20 {
		r.said = append(r.said, fmt.Sprintf(format, args...))
	}
}

// TestRollingRestart restarts the gateway under clients that run statements and
// transactions all the time and reconnect when they are told to: no connection is
// refused, and nothing that was acknowledged is missing, nothing that was answered
// with 57P01 is there, nothing is broken off. QVPGW_ROLLING is the number of
// restarts.
func TestRollingRestart(t *testing.T) {
	const clients = 64
	restarts := 3
	if v := os.Getenv("QVPGW_ROLLING"); v != "" {
		var err error
		if restarts, err = strconv.Atoi(v); err != nil {
			t.Fatalf("QVPGW_ROLLING is %q: it must be a number of restarts", v)
		}
	}
	c := pgtest.Native(t)
	dsn := c.Database(t)
	r := &rolling{database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')], told: map[string]bool{}}
	runSQL(t, dsn, "CREATE TABLE rolling (client int, seq int)")
	status := freeAddress(t)
	pid, addr := startGateway(t, restartConfig(c, r.database, status))
	r.addr = addr
	var working sync.WaitGroup
	for n := range clients {
		working.Go(func() { r.client(n) })
	}
	time.Sleep(300 * time.Millisecond)
	for i := range restarts {
		before := r.done.Load()
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		awaitGeneration(t, status, i+1)
		for limit := time.Now().Add(10 * time.Second); r.done.Load() < before+clients && time.Now().Before(limit); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	time.Sleep(300 * time.Millisecond)
	r.stop.Store(true)
	working.Wait()

	there := map[string]bool{}
	for _, row := range runSQL(t, dsn, "SELECT client || ' ' || seq FROM rolling") {
		if there[row[0]] {
			r.fault(&r.lost, "row %s is there twice", row[0])
		}
		there[row[0]] = true
	}
	for key, want := range r.told {
		if there[key] != want {
			r.fault(&r.lost, "row %s: there is %v, the client was told %v", key, there[key], want)
		}
	}
	t.Logf("%d statements and transactions, %d of them tried again, %d restarts", r.done.Load(), r.retried.Load(), restarts)
	figure.Print(t, "rolling.refused", r.refused.Load())
	figure.Print(t, "rolling.lost", r.lost.Load())
	for _, s := range r.said {
		t.Error(s)
	}
	if r.retried.Load() == 0 {
		t.Error("no client was told to connect again: were there restarts?")
	}
}

// rollingConn is one connection of a client.
type rollingConn struct {
	net.Conn
	front *pgproto3.Frontend
	pid   uint32
	key   []byte
}

// errTold is the 57P01 of a statement that was not run.
var errTold = errors.New("told to connect again")

// dial connects and logs in.
func (r *rolling) dial() (*rollingConn, error) {
	n, err := net.Dial("tcp", r.addr)
	if err != nil {
		return nil, err
	}
	c := &rollingConn{Conn: n, front: pgproto3.NewFrontend(n, n)}
	_ = n.SetDeadline(time.Now().Add(time.Minute))
	c.front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": pgtest.Superuser, "database": r.database,
	}})
	if err := c.front.Flush(); err != nil {
		return nil, err
	}
	for {
		m, err := c.front.Receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("%s %s", m.Code, m.Message)
		case *pgproto3.BackendKeyData:
			c.pid, c.key = m.ProcessID, m.SecretKey
		case *pgproto3.ReadyForQuery:
			return c, nil
		}
	}
}

// run runs a statement; errTold says that it was not run, and why.
func (c *rollingConn) run(sql string) (rows []string, err error) {
	c.front.Send(&pgproto3.Query{String: sql})
	sent := c.front.Flush() // what the server said before counts, even if it does not take this
	answered := false
	for {
		m, err := c.front.Receive()
		if err != nil {
			return rows, errors.Join(err, sent)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			rows = append(rows, string(m.Values[0]))
		case *pgproto3.CommandComplete:
			answered = true
		case *pgproto3.ErrorResponse:
			if m.Code == "57P01" && !answered && len(rows) == 0 {
				return nil, errTold
			}
			return rows, fmt.Errorf("%s %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			return rows, nil
		}
	}
}

// client runs statements until the test is over.
func (r *rolling) client(n int) {
	rng := rand.New(rand.NewPCG(uint64(n), 3))
	var c *rollingConn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for seq := 0; !r.stop.Load(); seq++ {
		if c == nil {
			var err error
			if c, err = r.dial(); err != nil {
				r.fault(&r.refused, "client %d cannot connect: %v", n, err)
				time.Sleep(10 * time.Millisecond)
				continue
			}
		}
		err := r.turn(c, rng, n, seq)
		switch {
		case err == nil:
			r.done.Add(1)
		case errors.Is(err, errTold):
			r.retried.Add(1)
			_ = c.Close()
			c = nil
		default:
			r.fault(&r.lost, "client %d: %v", n, err)
			_ = c.Close()
			c = nil
		}
		if rng.IntN(4) == 0 {
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
	}
}

// turn runs one statement or transaction. A transaction that has begun is not
// told to come again.
func (r *rolling) turn(c *rollingConn, rng *rand.Rand, n, seq int) error {
	key := fmt.Sprintf("%d %d", n, seq)
	insert := fmt.Sprintf("INSERT INTO rolling VALUES (%d, %d)", n, seq)
	tell := func(there bool) {
		r.mu.Lock()
		r.told[key] = there
		r.mu.Unlock()
	}
	switch rng.IntN(3) {
	case 0:
		rows, err := c.run("SELECT '" + key + "'")
		if err == nil && (len(rows) != 1 || rows[0] != key) {
			return fmt.Errorf("asked for %q, got %q", key, rows)
		}
		return err
	case 1:
		_, err := c.run(insert)
		if err == nil || errors.Is(err, errTold) {
			tell(err == nil)
		}
		return err
	}
	for i, sql := range []string{"BEGIN", insert, "SELECT pg_sleep(0.002)", "COMMIT"} {
		if _, err := c.run(sql); err != nil {
			if i > 0 && errors.Is(err, errTold) {
				return fmt.Errorf("57P01 at step %d of a transaction", i)
			}
			return err
		}
	}
	tell(true)
	return nil
}

// restartConfig is the configuration of the gateways that are restarted; status
// is where HTTP is served.
func restartConfig(c *pgtest.Cluster, database, status string) string {
	return fmt.Sprintf(`listen: %%s
http: %s
log: {level: warn}
backend: {host: 127.0.0.1, port: %d, database: %s, user: %s, sslmode: disable}
pool: {size: 8, overflow: 0}
auth: {method: trust}
schema: {migrate: false}
limits: {shutdown_timeout: 10s}
`, status, c.Port, database, pgtest.Superuser)
}

// freeAddress is one that nobody listens on; startGateway's is at 127.0.0.1.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitGeneration waits until the process that answers HTTP is the one after n
// restarts.
func awaitGeneration(t *testing.T, status string, n int) {
	t.Helper()
	want := fmt.Sprintf("\nqvpgw_generation %d\n", n)
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(httpGet(t, "http://"+status+"/metrics"), want) {
			return
		}
	}
	t.Fatalf("generation %d does not serve within 30 s", n)
}

// httpGet returns the body; the address must answer, restart or not.
func httpGet(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatalf("HTTP was refused: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestACancelReachesAClientOfTheProcessBefore sends a cancel to the successor for
// a statement that runs in the retired process.
func TestACancelReachesAClientOfTheProcessBefore(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	r := &rolling{database: dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]}
	status := freeAddress(t)
	pid, addr := startGateway(t, restartConfig(c, r.database, status))
	r.addr = addr
	var clients []*rollingConn // one of each generation, in a transaction
	for generation := range 3 {
		k, err := r.dial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.run("BEGIN"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, k)
		if generation < 2 {
			if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			awaitGeneration(t, status, generation+1)
		}
	}
	pids := map[uint32]bool{}
	for i, k := range clients {
		if pids[k.pid] || k.pid == 0 || k.pid > 1<<31-1 {
			t.Errorf("client %d has the process id %d", i, k.pid)
		}
		pids[k.pid] = true
		failed := make(chan error, 1)
		begun := time.Now()
		go func() {
			_, err := k.run("SELECT pg_sleep(20)")
			failed <- err
		}()
		time.Sleep(200 * time.Millisecond)
		other := clients[(i+1)%len(clients)]
		r.cancel(t, k.pid, other.key) // finds nobody
		select {
		case err := <-failed:
			t.Errorf("client %d: a cancel with another's key ended it: %v", i, err)
		case <-time.After(200 * time.Millisecond):
		}
		r.cancel(t, k.pid, k.key)
		if err := <-failed; err == nil || !strings.HasPrefix(err.Error(), "57014") || time.Since(begun) > 10*time.Second {
			t.Errorf("client %d of generation %d: the cancelled statement got %v after %v", i, i, err, time.Since(begun))
		}
		if _, err := k.run("ROLLBACK"); err != nil {
			t.Errorf("client %d: ROLLBACK got %v", i, err)
		}
		_ = k.Close()
	}
}

// cancel sends a cancel request and waits until it was carried out.
func (r *rolling) cancel(t *testing.T, pid uint32, key []byte) {
	t.Helper()
	n, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	b, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = n.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, n); err != nil {
		t.Errorf("the cancel request's connection did not end: %v", err)
	}
}

// runSQL executes statements on a connection of its own to the server and returns
// the rows of the last.
func runSQL(t *testing.T, dsn, sql string) (rows [][]string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("cannot connect: %v", err)
	}
	defer conn.Close(t.Context())
	res, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("cannot run %q: %v", sql, err)
	}
	for _, r := range res[len(res)-1].Rows {
		row := make([]string, len(r))
		for i, v := range r {
			row[i] = string(v)
		}
		rows = append(rows, row)
	}
	return rows
}
