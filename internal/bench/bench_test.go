package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func script(t *testing.T, text string) *Script {
	t.Helper()
	s, err := ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connect(t *testing.T, o Options) *Fleet {
	t.Helper()
	f, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestAScriptIsStatementsWithRandomNumbers(t *testing.T) {
	s := script(t, "BEGIN;\nUPDATE t SET a = a + {-5..5}\nWHERE id = {7..7};\n\nCOMMIT")
	var texts []string
	for i := range s.statements {
		texts = append(texts, s.statements[i].parameterised())
	}
	if want := []string{"BEGIN", "UPDATE t SET a = a + $1\nWHERE id = $2", "COMMIT"}; !slices.Equal(texts, want) {
		t.Errorf("statements are %q", texts)
	}
	seen := map[string]bool{}
	for range 1000 {
		seen[s.statements[1].literal()] = true
	}
	for n := -5; n <= 5; n++ {
		if text := fmt.Sprintf("UPDATE t SET a = a + %d\nWHERE id = 7", n); !seen[text] {
			t.Errorf("%q did not come", text)
		}
	}
	if len(seen) != 11 {
		t.Errorf("%d texts came, not 11", len(seen))
	}
	if s := script(t, "SELECT '{1,2}', '{a..b}', '{1...2}'"); len(s.statements[0].ranges) != 0 {
		t.Error("other braces were taken for a random number")
	}
	for _, bad := range []string{"", " ;\n;", "SELECT {2..1}", "SELECT {1..99999999999999999999}", "SELECT 1\x00", "SELECT {-9223372036854775808..9223372036854775807}"} {
		if _, err := ParseScript(bad); err == nil {
			t.Errorf("%q is a script", bad)
		}
	}
}

func TestPercentilesAreWithinAHundredTwentyEighth(t *testing.T) {
	var l Latencies
	if l.Percentile(0.5) != 0 || l.Count() != 0 {
		t.Error("nothing has a percentile")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 20000 {
		d := time.Duration(1) << rng.IntN(40)
		d += time.Duration(rng.Int64N(int64(d)))
		all = append(all, d)
		l.add(d)
	}
	slices.Sort(all)
	for _, p := range []float64{0, 0.001, 0.5, 0.95, 0.99, 1} {
		want, got := all[max(int(p*float64(len(all)))-1, 0)], l.Percentile(p)
		if got < want || float64(got) > float64(want)*(1+1.0/128)+1 {
			t.Errorf("percentile %v is %d, not %d", p, got, want)
		}
	}
	for _, d := range []time.Duration{0, 1, 127, 128, 255, 256, 1<<62 + 12345, 1<<63 - 1} {
		if up := upper(bucket(d)); up < d || bucket(up) != bucket(d) {
			t.Errorf("%d is in the bucket up to %d", d, up)
		}
	}
}

func TestARunCountsWhatTheServerDid(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	c.Psql(t, dsn, "-c", "CREATE TABLE done (protocol text, n int)")
	f := connect(t, Options{DSN: dsn, Clients: 5})
	for _, p := range []Protocol{Simple, Extended, Prepared, Prepared} {
		s := script(t, fmt.Sprintf("BEGIN;\nINSERT INTO done VALUES ('%s', {1..3});\nCOMMIT;", p))
		r, err := f.Part(1, 5).Run(t.Context(), Run{Script: s, Protocol: p, Count: 25})
		if err != nil || r.Transactions != 100 || r.Errors != 0 || r.Latencies.Percentile(0.5) <= 0 || r.TPS() <= 0 {
			t.Errorf("%s: %+v, %v", p, r, err)
		}
	}
	out := c.Psql(t, dsn, "-c", "SELECT protocol, count(*), min(n), max(n) FROM done GROUP BY 1 ORDER BY 1")
	if want := "extended|100|1|3\nprepared|200|1|3\nsimple|100|1|3\n"; out != want {
		t.Errorf("the server has\n%s", out)
	}
	r, err := f.Run(t.Context(), Run{Script: script(t, "SELECT pg_sleep(0.01)"), Protocol: Simple, Duration: 100 * time.Millisecond})
	if err != nil || r.Transactions < 5 || r.Transactions > 50 || r.Latencies.Percentile(0) < 10*time.Millisecond {
		t.Errorf("5 clients for 100 ms: %+v, %v", r, err)
	}
}

func TestRequestsAreSentAsTheirMakerEncodesThem(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	c.Psql(t, dsn, "-c", "CREATE TABLE done (client int, n int)")
	f := connect(t, Options{DSN: dsn, Clients: 3})
	q := &Requests{
		Prepare: wire.AppendSync(wire.AppendParse(nil, "add", "INSERT INTO done VALUES ($1, $2)", nil)),
		Next: func(client int) func([]byte) []byte {
			n := 0
			return func(dst []byte) []byte {
				n++
				dst = wire.AppendBind(dst, "", "add", nil, [][]byte{strconv.AppendInt(nil, int64(client), 10), strconv.AppendInt(nil, int64(n), 10)}, nil)
				return wire.AppendSync(wire.AppendExecute(dst, "", 0))
			}
		},
	}
	for range 2 { // prepared once
		if r, err := f.Run(t.Context(), Run{Requests: q, Count: 4}); err != nil || r.Transactions != 12 || r.Errors != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if out := c.Psql(t, dsn, "-c", "SELECT client, count(*), max(n) FROM done GROUP BY 1 ORDER BY 1"); out != "0|8|4\n1|8|4\n2|8|4\n" {
		t.Errorf("the server has\n%s", out)
	}
	bad := &Requests{Prepare: wire.AppendSync(wire.AppendParse(nil, "", "SELECT nothing", nil)), Next: q.Next}
	if _, err := f.Run(t.Context(), Run{Requests: bad, Count: 1}); err == nil || !strings.Contains(err.Error(), "cannot prepare the requests") {
		t.Errorf("what cannot be prepared: %v", err)
	}
}

func TestErrorsAreCountedAndTheLoopGoesOn(t *testing.T) {
	f := connect(t, Options{DSN: pgtest.Database(t), Clients: 2})
	for _, p := range []Protocol{Simple, Extended, Prepared} {
		s := script(t, "SELECT 1;\nSELECT 1/(x-1) FROM (VALUES ({1..1}::int)) v(x);\nSELECT 2")
		r, err := f.Run(t.Context(), Run{Script: s, Protocol: p, Count: 10})
		if err != nil || r.Transactions != 0 || r.Errors != 20 || r.FirstError == nil || !strings.Contains(r.FirstError.Error(), "22012") {
			t.Errorf("%s: %+v, %v", p, r, err)
		}
	}
	if _, err := f.Run(t.Context(), Run{Script: script(t, "SELECT nothing"), Protocol: Prepared, Count: 1}); err == nil || !strings.Contains(err.Error(), "cannot prepare statement 1") {
		t.Errorf("what cannot be prepared: %v", err)
	}
	if r, err := f.Run(t.Context(), Run{Script: script(t, "SELECT 1"), Protocol: Simple, Count: 3}); err != nil || r.Transactions != 6 {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
	if _, err := f.Run(t.Context(), Run{Script: script(t, "SELECT 1"), Protocol: Simple}); err == nil {
		t.Error("a run without an end ran")
	}
}

func TestLostConnectionsEndTheirClients(t *testing.T) {
	f := connect(t, Options{DSN: pgtest.Database(t), Clients: 2})
	leave := script(t, "SELECT pg_terminate_backend(pg_backend_pid())")
	r, err := f.Part(0, 1).Run(t.Context(), Run{Script: leave, Protocol: Simple, Count: 5})
	if err == nil || r.Errors != 1 || !strings.Contains(err.Error(), "57P01") {
		t.Errorf("alone: %+v, %v", r, err)
	}
	r, err = f.Run(t.Context(), Run{Script: script(t, "SELECT 1"), Protocol: Simple, Count: 5})
	if err != nil || r.Transactions != 5 {
		t.Errorf("the other one: %+v, %v", r, err)
	}
	if _, err = f.Run(t.Context(), Run{Script: script(t, "COPY (SELECT 1) TO STDOUT;\nCREATE TEMP TABLE x (a int);\nCOPY x FROM STDIN"), Protocol: Simple, Count: 1}); err == nil || !strings.Contains(err.Error(), "COPY from the client") {
		t.Errorf("COPY FROM STDIN: %v", err)
	}
}

func TestTheEndOfTheContextEndsARun(t *testing.T) {
	f := connect(t, Options{DSN: pgtest.Database(t), Clients: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := f.Run(ctx, Run{Script: script(t, "SELECT pg_sleep(30)"), Protocol: Simple, Count: 1}); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("ended after %v with %v", time.Since(start), err)
	}
}

func TestEveryClientHasItsSettings(t *testing.T) {
	c := pgtest.Native(t)
	dsn := c.Database(t)
	connect(t, Options{
		DSN: dsn, Clients: 20,
		Settings: func(i int) map[string]string {
			return map[string]string{"application_name": fmt.Sprintf("client %d", i)}
		},
	})
	out := c.Psql(t, dsn, "-c", "SELECT count(DISTINCT application_name) FROM pg_stat_activity WHERE application_name LIKE 'client %' AND datname = current_database()")
	if out != "20\n" {
		t.Errorf("the server sees %s names", out)
	}
	if _, err := Connect(t.Context(), Options{DSN: dsn}); err == nil {
		t.Error("no client connected")
	}
	if _, err := Connect(t.Context(), Options{DSN: "postgres://nobody-here@" + c.Addr() + "/postgres?sslmode=disable", Clients: 40}); err == nil || !strings.Contains(err.Error(), "cannot connect client") {
		t.Errorf("a role that does not exist: %v", err)
	}
}
