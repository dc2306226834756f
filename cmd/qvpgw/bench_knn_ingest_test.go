package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/bench"
)

// knnInserts is how many vectors a writer inserts in a second.
const knnInserts = 100

// knnIngest asks the popular queries while a writer that the gateway does not see
// inserts windows into the table. Every twentieth is the copy of a popular query's
// vector, and asked for right after: it must be there.
func knnIngest(t *testing.T, b *knnBed) {
	first := 10_000_000
	rates := map[string]float64{}
	for _, c := range []struct{ name, keys string }{{"geometry", "mode: strict"}, {"table", "mode: strict, geometry: false"}} {
		k := b.gateway(t, c.name, c.keys)
		f := b.fleet(t, k, b.clients)
		for range 2 {
			b.run(t, f, b.each(f))
		}
		load := bench.Run{Requests: b.popular(), Duration: max(2*b.length, time.Second)}
		before := b.sampleOf(t, k, f, load)
		w := &knnWriter{b: b, next: first}
		first += 1_000_000
		during := w.while(t, k, func() knnSample { return b.sampleOf(t, k, f, load) })
		fmt.Printf("%-8s hit rate %.4f, with %d inserts a second %.4f; %.0f of %.0f queries/s; %d vectors inserted, %d of them asked for, %d answers stale\n",
			c.name, before.hits, knnInserts, during.hits, during.qps, before.qps, w.inserted, w.asked, w.stale)
		rates[c.name] = during.hits
		if w.stale > 0 || w.asked == 0 {
			t.Errorf("%s: %d of %d vectors were not found right after their insertion", c.name, w.stale, w.asked)
		}
		if c.name == "table" {
			b.figure(t, "knn.ingest.table.hit_rate", during.hits)
			continue
		}
		b.figure(t, "knn.ingest.hit_rate", during.hits)
		b.figure(t, "knn.ingest.hit_ratio", during.hits/before.hits)
		b.figure(t, "knn.ingest.stale", float64(w.stale))
		if b.full && during.hits < 0.9*before.hits {
			t.Errorf("the hit rate is %.3f with inserts and %.3f without", during.hits, before.hits)
		}
		b.recall(t, k)
	}
	if rates["geometry"] <= rates["table"] {
		t.Errorf("the hit rate is %.3f where an insert ends what it can enter, and %.3f where it ends all", rates["geometry"], rates["table"])
	}
}

// knnWriter inserts at a steady rate.
type knnWriter struct {
	b        *knnBed
	next     int // id
	inserted int
	asked    int
	stale    int
}

// while inserts as long as load takes, and for a few vectors more than a short load
// would leave time for.
func (w *knnWriter) while(t *testing.T, k *knnTarget, load func() knnSample) (s knnSample) {
	t.Helper()
	server, gateway := w.b.connect(t, w.b.dsn), w.b.connect(t, k.dsn)
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		rng := rand.New(rand.NewPCG(9, uint64(w.next)))
		tick := time.NewTicker(time.Second / knnInserts)
		defer tick.Stop()
		for {
			if w.inserted >= 20 {
				select {
				case <-over:
					return
				default:
				}
			}
			<-tick.C
			if err := w.insert(t.Context(), rng, server, gateway); err != nil {
				t.Errorf("the writer: %v", err)
				return
			}
		}
	})
	s = load()
	close(over)
	writing.Wait()
	return s
}

// insert writes one vector, and asks for one of twenty.
func (w *knnWriter) insert(ctx context.Context, rng *rand.Rand, server, gateway *pgconn.PgConn) error {
	near := w.inserted%20 == 7
	v := w.b.spare[w.inserted%len(w.b.spare)]
	if near {
		v = w.b.queries[w.b.draws.draw(rng)]
	}
	id := w.next
	w.next++
	w.inserted++
	if _, err := server.Exec(ctx, fmt.Sprintf("INSERT INTO windows VALUES (%d, '%s')", id, knnText(v))).ReadAll(); err != nil {
		return err
	}
	if !near {
		return nil
	}
	w.asked++
	// An index that approximates may miss it: what the server itself does not find is
	// not stale.
	for _, c := range []*pgconn.PgConn{gateway, server} {
		found, err := knnNearest(ctx, c, knnSQL, knnBinary(v))
		if err != nil || slices.Contains(found, fmt.Sprint(id)) == (c == gateway) {
			return err
		}
	}
	w.stale++
	return nil
}

// connect logs in for a few statements.
func (b *knnBed) connect(t *testing.T, dsn string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// knnNearest is the first column of an answer.
func knnNearest(ctx context.Context, c *pgconn.PgConn, sql string, vector []byte) (ids []string, err error) {
	r := c.ExecParams(ctx, sql, [][]byte{vector}, nil, []int16{1}, nil).Read()
	for _, row := range r.Rows {
		ids = append(ids, string(row[0]))
	}
	return ids, r.Err
}

// recall compares answers from memory, through k, and the server's own with the exact
// ones.
func (b *knnBed) recall(t *testing.T, k *knnTarget) {
	t.Helper()
	server, exact, gateway := b.connect(t, b.dsn), b.connect(t, b.dsn), b.connect(t, k.dsn)
	if _, err := exact.Exec(t.Context(), "SET enable_indexscan = off; SET max_parallel_workers_per_gather = 0").ReadAll(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	var direct, cached float64
	hits := k.hits(t)
	for range b.asked {
		v := knnBinary(b.queries[b.draws.draw(rng)])
		answer := func(c *pgconn.PgConn) []string {
			ids, err := knnNearest(t.Context(), c, knnSQL, v)
			if err != nil || len(ids) != 10 {
				t.Fatalf("%d ids, %v", len(ids), err)
			}
			return ids
		}
		want := answer(exact)
		share := func(got []string) float64 {
			n := 0.0
			for _, id := range got {
				if slices.Contains(want, id) {
					n++
				}
			}
			return n / float64(len(want))
		}
		direct += share(answer(server)) / float64(b.asked)
		cached += share(answer(gateway)) / float64(b.asked)
	}
	hits = (k.hits(t) - hits) / float64(b.asked)
	fmt.Printf("recall   direct %.4f, through the gateway %.4f, %.3f of it from memory\n", direct, cached, hits)
	b.figure(t, "knn.recall.direct", direct)
	b.figure(t, "knn.recall.cached", cached)
	if cached < direct-0.01 || direct < 0.3 {
		t.Errorf("the recall is %.4f, the server's own %.4f", cached, direct)
	}
}

// knnReuse asks a table whose answers are exact: for vectors that are nearly those asked
// before, for fewer rows, and for later ones. Whatever is answered from memory must be
// what the server answers.
func knnReuse(t *testing.T, b *knnBed) {
	k := b.gateway(t, "reuse", "mode: strict")
	server, gateway := b.connect(t, b.dsn), b.connect(t, k.dsn)
	rng := rand.New(rand.NewPCG(5, 5))
	unequal := 0
	ask := func(sql string, v []float32) {
		t.Helper()
		var got [2]string
		for i, c := range []*pgconn.PgConn{gateway, server} {
			ids, err := knnNearest(t.Context(), c, sql, knnBinary(v))
			if err != nil {
				t.Fatal(err)
			}
			got[i] = strings.Join(ids, " ")
		}
		if got[0] != got[1] {
			if unequal++; unequal <= 5 {
				t.Errorf("%s: %s from the gateway, %s from the server", sql, got[0], got[1])
			}
		}
	}
	const text = "SELECT id FROM unindexed ORDER BY v <-> $1 LIMIT 10"
	base := b.queries[:min(b.asked, len(b.queries))]
	for range 3 {
		for _, v := range base {
			ask(text, v)
		}
	}
	share := func(what string, times int, form func(v []float32)) float64 {
		before := k.hits(t)
		for range times {
			for _, v := range base {
				form(v)
			}
		}
		s := (k.hits(t) - before) / float64(times*len(base))
		fmt.Printf("reuse    %s: %.4f from memory\n", what, s)
		return s
	}
	near := share("vectors with noise of 1e-3", 3, func(v []float32) { ask(text, perturbed(rng, v, 1e-3)) })
	part := share("fewer rows, and rows further on", 1, func(v []float32) {
		if rng.IntN(2) == 0 {
			ask("SELECT id FROM unindexed ORDER BY v <-> $1 LIMIT 4", v)
		} else {
			ask("SELECT id FROM unindexed ORDER BY v <-> $1 LIMIT 4 OFFSET 3", v)
		}
	})
	b.figure(t, "knn.near.share", near)
	b.figure(t, "knn.part.share", part)
	b.figure(t, "knn.reuse.unequal", float64(unequal))
}
