package gateway_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// vectorSchema has points on a line, so that the nearest are known, and tables
// whose answers must not be kept.
const vectorSchema = `
CREATE TABLE points (id int PRIMARY KEY, v vector(3), label text);
INSERT INTO points SELECT n, ARRAY[n, 0, 0]::vector, 'p' || n FROM generate_series(1, 200) n;
CREATE INDEX ON points USING hnsw (v vector_l2_ops);
CREATE TABLE elsewhere (x int);
CREATE TABLE secret (id int, v vector(3));
INSERT INTO secret SELECT id, v FROM points;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE SCHEMA side;
CREATE TABLE side.points (id int, v vector(3), label text);
INSERT INTO side.points VALUES (-1, '[1,0,0]', 'side');
GRANT USAGE ON SCHEMA side TO plain;
GRANT SELECT ON points, side.points TO plain;
CREATE TABLE versions (id int, v vector(3));
INSERT INTO versions VALUES (0, '[0,0,0]');`

const nearest = "SELECT id, label FROM points ORDER BY v <-> '[1.2,0,0]' LIMIT 2"

func TestNearestNeighboursAreAnsweredFromMemoryUntilTheDatabaseChanges(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, q, writer := dial(t, addr, dsn), dial(t, addr, dsn), direct(t, dsn)
	routes := func(p *peer, want string) {
		t.Helper()
		if got := p.route(); got != want {
			t.Errorf("last_route is %q, want %q", got, want)
		}
	}
	const miss, hit = "cached miss public.points", "cached hit public.points"

	first := p.query(nearest)
	routes(p, miss)
	if rowsOf(first) != "1|p1;2|p2" {
		t.Fatalf("got %q", first)
	}
	for _, c := range []*peer{p, q} {
		if again := c.query(nearest); !slices.Equal(again, first) {
			t.Errorf("from memory: got %q, want %q", again, first)
		}
		routes(c, hit)
	}
	writer.must("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	for deadline := time.Now().Add(5 * time.Second); ; {
		p = dial(t, addr, dsn)
		if again := p.query(nearest); slices.Equal(again, first) {
			break // one that met a dead server connection has an error
		} else if time.Now().After(deadline) {
			t.Fatalf("no answer after the server connections ended: %q", again)
		}
	}
	// That the server is the same one was seen, or not, by the round that met its end.
	if got := p.route(); got != hit && got != miss {
		t.Errorf("last_route is %q", got)
	}
	writer.must("INSERT INTO elsewhere VALUES (1)")
	p.want(nearest, "1|p1;2|p2")
	routes(p, miss)
	writer.must("INSERT INTO points VALUES (1000, '[1.2,0,0]', 'new')")
	p.want(nearest, "1000|new;1|p1")
	routes(p, miss)
	q.want(nearest, "1000|new;1|p1")
	routes(q, hit)
	writer.must("DELETE FROM points WHERE id = 1000")
	q.want(nearest, "1|p1;2|p2")
	q.must("UPDATE points SET label = 'P1' WHERE id = 1") // through the gateway
	p.want(nearest, "1|P1;2|p2")
	q.must("UPDATE points SET label = 'p1' WHERE id = 1")

	t.Run("by the extended protocol", func(t *testing.T) {
		const text = "SELECT id, v FROM points ORDER BY v <-> $1 LIMIT $2"
		ask := func(formats []int16, vector, limit string, describe bool) []message {
			list := []message{parse("", text), &pgproto3.Bind{ResultFormatCodes: formats, Parameters: [][]byte{[]byte(vector), []byte(limit)}}}
			if describe {
				list = append(list, &pgproto3.Describe{ObjectType: 'P'})
			}
			return append(list, runPortal("", 0), endGroup)
		}
		seen := map[string]bool{}
		for _, formats := range [][]int16{nil, {1}, {0, 1}} {
			for _, vector := range []string{"[3,0,0]", "[7,0,0]"} {
				for _, limit := range []string{"1", "2"} {
					for _, describe := range []bool{true, false} {
						group := ask(formats, vector, limit, describe)
						want := writer.extended(group...)
						got := p.extended(group...)
						if describe { // with and without it is one answer
							routes(p, miss)
						} else {
							routes(p, hit)
						}
						again := q.extended(group...)
						routes(q, hit)
						if !slices.Equal(got, want) || !slices.Equal(again, want) {
							t.Errorf("%v %s %s:\ndirect %q\nmiss   %q\nhit    %q", formats, vector, limit, want, got, again)
						}
						seen[strings.Join(got, ";")] = true
					}
				}
			}
		}
		if len(seen) != 24 {
			t.Errorf("%d different answers, want 24", len(seen))
		}
		p.extended(parse("named", text), endGroup)
		for i, want := range []string{miss, hit} {
			p.extended(&pgproto3.Bind{PreparedStatement: "named", Parameters: [][]byte{[]byte("[9,0,0]"), []byte("1")}}, describe('P', ""), runPortal("", 0), endGroup)
			if got := p.route(); got != want {
				t.Errorf("named, execution %d: %s", i, got)
			}
		}
	})

	t.Run("groups that follow at once are answered one by one", func(t *testing.T) {
		a := group("", strings.Replace(nearest, "1.2", "50.1", 1))
		b := group("", "SELECT 'behind'")
		for range 3 {
			p.send(slices.Concat(a, b, a)...)
			if got := rowsOf(p.reply(3)); got != "50|p50;51|p51;behind;50|p50;51|p51" {
				t.Errorf("got %q", got)
			}
		}
	})

	t.Run("nothing is shared between settings, roles and search paths", func(t *testing.T) {
		const text = "SELECT id FROM points ORDER BY v <-> '[1.1,0,0]' LIMIT 1"
		plain := strings.Replace(dsn, "postgres@", "plain@", 1)
		for i, c := range []struct {
			p         *peer
			set, want string
		}{
			{dial(t, addr, dsn), "", "1"},
			{dial(t, addr, dsn), "SET hnsw.ef_search = 77", "1"},
			{dial(t, addr, dsn), "SET search_path = side, public", "-1"},
			{dial(t, addr, dsn, "options=-c hnsw.ef_search=78"), "", "1"},
			{dial(t, addr, plain), "", "1"},
		} {
			if c.set != "" {
				c.p.must(c.set)
			}
			c.p.want(text, c.want)
			if got := c.p.route(); !strings.HasPrefix(got, "cached miss ") {
				t.Errorf("case %d shares: %q", i, got)
			}
			c.p.want(text, c.want)
			if got := c.p.route(); !strings.HasPrefix(got, "cached hit ") {
				t.Errorf("case %d does not hit: %q", i, got)
			}
		}
		role := dial(t, addr, dsn)
		role.must("SET ROLE plain")
		role.want(text, "1")
		if got := role.route(); strings.HasPrefix(got, "cached hit") {
			t.Errorf("a role shares: %q", got)
		}
		tx := dial(t, addr, dsn)
		tx.must("BEGIN; SET LOCAL search_path = side, public")
		tx.want(text, "-1")
		tx.must("COMMIT")
	})

	t.Run("what is not kept", func(t *testing.T) {
		tx := dial(t, addr, dsn)
		tx.must("BEGIN")
		tx.must("INSERT INTO points VALUES (2000, '[1.2,0,0]', 'mine')")
		tx.want(nearest, "2000|mine;1|p1")
		if got := tx.route(); got != "pass not_alone public.points" {
			t.Errorf("in a transaction: %q", got)
		}
		p.want(nearest, "1|p1;2|p2")
		tx.must("ROLLBACK")
		off := dial(t, addr, dsn)
		off.must("SET qvpgw.cache = off")
		off.want(nearest, "1|p1;2|p2")
		routes(off, "pass knn_cache_off")
		for sql, want := range map[string]string{
			"SELECT id, random() < 2 FROM points ORDER BY v <-> '[1,0,0]' LIMIT 1":              "knn_output",
			"SELECT id FROM secret ORDER BY v <-> '[1,0,0]' LIMIT 1":                            "knn_row_security",
			"SELECT id FROM points ORDER BY v <-> '[1,0,0]' LIMIT 1 FOR UPDATE":                 "knn_form",
			"SELECT id FROM points WHERE label <> now()::text ORDER BY v <-> '[1,0,0]' LIMIT 1": "knn_filter",
		} {
			asks := dial(t, addr, dsn)
			asks.query(sql)
			routes(asks, "pass "+want)
			asks.send(&pgproto3.Terminate{})
		}
		temp := dial(t, addr, dsn)
		temp.must("CREATE TEMP TABLE points AS SELECT 5 AS id, '[1,0,0]'::vector AS v, 'temp' AS label")
		temp.want(nearest, "5|temp")
		if got := temp.route(); strings.HasPrefix(got, "cached") {
			t.Errorf("with a temporary table: %q", got)
		}
		p.want(nearest, "1|p1;2|p2")
	})

	t.Run("errors are not kept", func(t *testing.T) {
		const text = "SELECT id FROM points ORDER BY v <-> '[1,0]' LIMIT 1"
		for range 2 {
			if got := p.rows(text); got != "22000" {
				t.Errorf("got %q", got)
			}
			if got := p.route(); got != miss {
				t.Errorf("last_route is %q", got)
			}
		}
	})
}

// history has readers ask for the nearest neighbour while a writer brings nearer
// and nearer ones, and counts the answers that are older than what was acknowledged
// before they were asked for.
func history(t *testing.T, g *gateway.Server, addr, dsn string, round int, lasting time.Duration) (stale, reads, hits int64) {
	// Each round asks another question: an answer that is never judged would last for all.
	text := fmt.Sprintf("SELECT id FROM versions WHERE id > -%d ORDER BY v <-> '[9,0,0]' LIMIT 1", round+1)
	run(t, dsn, "TRUNCATE versions; INSERT INTO versions VALUES (0, '[0,0,0]')")
	var acknowledged atomic.Int64
	var staleReads, allReads, memory atomic.Int64
	end := time.Now().Add(lasting)
	var working sync.WaitGroup
	writer := dial(t, addr, dsn)
	working.Go(func() {
		for version := int64(1); time.Now().Before(end); version++ {
			writer.must(fmt.Sprintf("INSERT INTO versions VALUES (%d, '[%g,0,0]')", version, 9-9/float64(version+1)))
			acknowledged.Store(version)
			time.Sleep(5 * time.Millisecond)
		}
	})
	for n := range 8 {
		reader := dial(t, addr, dsn)
		working.Go(func() {
			last := int64(-1)
			for i := 0; time.Now().Before(end); i++ {
				before := acknowledged.Load()
				var lines []string
				if (i+n)%2 == 0 {
					lines = reader.query(text)
				} else {
					lines = reader.extended(group("", text)...)
				}
				got, err := strconv.ParseInt(rowsOf(lines), 10, 64)
				if err != nil {
					t.Errorf("reader %d: %q", n, lines)
					return
				}
				if got < before || got < last {
					staleReads.Add(1)
				}
				last = got
				allReads.Add(1)
				if i%16 == 0 && strings.HasPrefix(reader.route(), "cached hit") {
					memory.Add(1)
				}
			}
		})
	}
	working.Wait()
	return staleReads.Load(), allReads.Load(), memory.Load()
}

func TestAnswersThatNeverHoldAreSeldomAskedFor(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p := dial(t, addr, dsn)
	query := func(i int) string {
		p.must(fmt.Sprintf("SELECT id FROM points ORDER BY v <-> '[%d,0,0]' LIMIT 1", i))
		return p.route()
	}
	asked := 0
	for i := range 128 {
		if strings.HasPrefix(query(i), "cached ") {
			asked++
		}
	}
	if asked != 64+4 {
		t.Errorf("%d of 128 queries that never came again were kept, want 68", asked)
	}
	hit := false
	for range 64 {
		hit = hit || query(1000) == "cached hit public.points"
	}
	if !hit {
		t.Fatal("a query that came again and again was never answered from memory")
	}
	for range 10 {
		if got := query(1000); got != "cached hit public.points" {
			t.Errorf("after a hit another is %q", got)
		}
	}
}

func TestRoundsAreReadWhateverARolesSearchPathNamesFirst(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema+`
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO plain;
CREATE FUNCTION hostile.pg_current_snapshot() RETURNS pg_snapshot LANGUAGE sql AS $$ SELECT '1:1:'::pg_snapshot $$;
CREATE FUNCTION hostile.md5(text) RETURNS text LANGUAGE sql AS $$ SELECT 'always the same' $$;`)
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	run(t, dsn, "ALTER ROLE plain IN DATABASE "+database+" SET search_path = hostile, pg_catalog, public")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p := dial(t, addr, strings.Replace(dsn, "postgres@", "plain@", 1))
	const text = "SELECT id FROM points ORDER BY v <-> '[1.1,0,0]' LIMIT 1"
	p.want(text, "1")
	for n := 0; p.route() != "cached hit public.points"; n++ { // others may write meanwhile
		if n == 50 {
			t.Fatalf("the 50th repeat is %q", p.route())
		}
		p.want(text, "1")
	}
	time.Sleep(100 * time.Millisecond) // the rounds' connection has been given back
	p.want("SHOW search_path", "hostile, pg_catalog, public")
	run(t, dsn, "INSERT INTO points VALUES (0, '[1.1,0,0]', 'nearer')")
	p.want(text, "0")
	run(t, dsn, "REVOKE SELECT ON points FROM plain")
	if got := p.query(text); len(got) == 0 || !strings.Contains(got[0], "42501") {
		t.Errorf("without the right to read it gets %q", got)
	}
}

func TestNoReaderSeesAnOlderVersionThanOneAcknowledgedBefore(t *testing.T) {
	dsn := nativeDatabase(t, vectorSchema)
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
	var stale, reads, hits int64
	for round := 0; round < 2 || round < 20 && hits == 0; round++ {
		s, r, h := history(t, g, addr, dsn, round, time.Second)
		stale, reads, hits = stale+s, reads+r, hits+h
	}
	t.Logf("%d reads, %d stale, %d of a sixteenth of them from memory", reads, stale, hits)
	if stale > 0 || hits == 0 {
		t.Errorf("%d of %d answers were stale; %d came from memory", stale, reads, hits)
	}

	t.Run("without validation stale answers are seen", func(t *testing.T) {
		g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}})
		gateway.Unproven(g)
		var stale, reads int64
		for round := 0; round < 20 && stale == 0; round++ { // how many answers there are in a round is chance
			s, r, _ := history(t, g, addr, dsn, round, 300*time.Millisecond)
			stale, reads = stale+s, reads+r
		}
		if stale == 0 {
			t.Errorf("none of %d answers was stale: the checker sees nothing", reads)
		}
	})
}
