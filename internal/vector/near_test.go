package vector

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
)

// world is a table of vectors that the server answers exactly.
type world struct {
	conn *pgx.Conn
	kind Kind
	rows []Value
}

// newWorld fills a table with clusters: neighbours at many distances, with equal ones.
func newWorld(t *testing.T, conn *pgx.Conn, r *rand.Rand, k Kind, dims, taste int) *world {
	t.Helper()
	w := &world{conn: conn, kind: k}
	var texts []string
	scale := float32(1.0 / 128)
	for len(w.rows) < 400 {
		centre := draw(r, k, dims, taste)
		for i := range centre.dense {
			f := centre.dense[i] * scale
			if k == Halfvec {
				f = halfValue(halfBits(f))
			}
			if finite(f) && (f != 0 || k != Sparsevec) {
				centre.dense[i] = f
			}
		}
		scale *= 2
		w.rows = append(w.rows, centre)
		for i := range 20 {
			v := near(r, &centre, 0.02*float64(i+1))
			if i == 7 {
				v = w.rows[len(w.rows)-1].Clone()
			}
			w.rows = append(w.rows, v)
		}
	}
	for i := range w.rows {
		texts = append(texts, w.rows[i].text())
	}
	typ := fmt.Sprintf("%s(%d)", k, dims)
	for _, sql := range []string{"DROP TABLE IF EXISTS w", fmt.Sprintf("CREATE TABLE w (id int, v %s)", typ)} {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(context.Background(), fmt.Sprintf("INSERT INTO w SELECT i - 1, s::%s FROM unnest($1::text[]) WITH ORDINALITY u(s, i)", typ), texts); err != nil {
		t.Fatal(err)
	}
	return w
}

// answer is the exact answer of the server: rows and their distances.
func (w *world) answer(t *testing.T, op Op, q *Value, limit int, where string) (ids []int, distances []float64) {
	t.Helper()
	rows, err := w.conn.Query(context.Background(), fmt.Sprintf("SELECT id, (v %[1]s '%[2]s'::%[3]s(%[4]d))::float8 FROM w %[6]s ORDER BY v %[1]s '%[2]s'::%[3]s(%[4]d) LIMIT %[5]d",
		op, q.text(), w.kind, q.dims, limit, where))
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id int
		var d float64
		if err := rows.Scan(&id, &d); err != nil {
			t.Fatal(err)
		}
		ids, distances = append(ids, id), append(distances, d)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids, distances
}

// norms bounds those of all rows, as the server says them.
func (w *world) norms(t *testing.T) (n Norms) {
	t.Helper()
	if w.kind == Bit {
		return n
	}
	name := "l2_norm"
	if w.kind == Vector {
		name = "vector_norm"
	}
	err := w.conn.QueryRow(context.Background(), fmt.Sprintf("SELECT coalesce(min(nullif(%[1]s(v), 0)), 0), coalesce(max(%[1]s(v)), 0) FROM w", name)).Scan(&n.Min, &n.Max)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) members(ids []int) (list []Value) {
	for _, id := range ids {
		list = append(list, w.rows[id])
	}
	return list
}

func TestWhatIsProvenOfANearQueryIsWhatAnExactScanGives(t *testing.T) {
	conn := connect(t)
	r := rand.New(rand.NewPCG(5, 6))
	var ranked Ranked
	broken := 0
	for k := Vector; k <= Bit; k++ {
		for _, op := range opsOf(k) {
			asked, proven := 0, 0
			for _, c := range []struct{ dims, taste int }{{3, 0}, {40, 2}, {128, 1}, {64, 0}} {
				w := newWorld(t, conn, r, k, c.dims, c.taste)
				norms := w.norms(t)
				for range 5 {
					centre := near(r, &w.rows[r.IntN(len(w.rows))], 0.01)
					limit := 10 + r.IntN(60)
					ids, distances := w.answer(t, op, &centre, limit, "")
					last := distances[len(distances)-1]
					l, ok := NewList(op, &centre, w.members(ids), last, false, norms)
					if !ok {
						continue
					}
					// Without what the proof stands on, wrong answers must come.
					careless := *l
					careless.reach = math.Inf(1)
					for _, noise := range []float64{1e-6, 1e-4, 1e-3, 1e-2, 0.3} {
						q := near(r, &centre, noise)
						if k == Bit && noise < 1e-3 {
							q = centre.Clone()
						}
						want, _ := w.answer(t, op, &q, limit, "")
						n := 1 + r.IntN(10)
						asked++
						if l.Near(&q, n, &ranked) {
							proven++
							for i, row := range ranked.Rows {
								if ids[row] != want[i] {
									t.Errorf("%s %s, %d dimensions, noise %g: row %d of %d is %d, not %d", k, op, c.dims, noise, i, n, ids[row], want[i])
								}
							}
						}
						if careless.Near(&q, min(limit, len(ids)), &ranked) {
							for i, row := range ranked.Rows {
								if ids[row] != want[i] {
									broken++
									break
								}
							}
						}
					}
				}
			}
			t.Logf("%s %s: %d of %d proven", k, op, proven, asked)
			if proven == 0 && op != Hamming && op != Jaccard {
				t.Errorf("%s %s: nothing was proven of %d", k, op, asked)
			}
		}
	}
	if broken == 0 {
		t.Error("without the radius no answer was wrong: the test shows nothing")
	}
}

func TestOfAWholeAnswerEachQueryIsProvenWhereNoDistancesAreEqual(t *testing.T) {
	conn := connect(t)
	r := rand.New(rand.NewPCG(7, 8))
	var ranked Ranked
	for k := Vector; k <= Bit; k++ {
		w := newWorld(t, conn, r, k, 128, 0)
		for _, op := range opsOf(k) {
			proven := 0
			for range 20 {
				centre, q := draw(r, k, 128, 0), draw(r, k, 128, 0)
				const where = "WHERE id BETWEEN 43 AND 48"
				ids, _ := w.answer(t, op, &centre, 50, where)
				want, _ := w.answer(t, op, &q, 50, where)
				l, ok := NewList(op, &centre, w.members(ids), math.NaN(), true, Norms{})
				if !ok {
					t.Fatalf("%s %s: no list of a whole answer", k, op)
				}
				if !l.Near(&q, 50, &ranked) {
					continue
				}
				proven++
				for i, row := range ranked.Rows {
					if ids[row] != want[i] || len(ranked.Rows) != len(want) {
						t.Errorf("%s %s: row %d is %d, not %d", k, op, i, ids[row], want[i])
					}
				}
			}
			if proven == 0 && k != Bit {
				t.Errorf("%s %s: nothing was proven", k, op)
			}
		}
	}
}

func TestAnInsertedRowEntersOnlyWhereItMay(t *testing.T) {
	conn := connect(t)
	r := rand.New(rand.NewPCG(9, 10))
	for k := Vector; k <= Bit; k++ {
		w := newWorld(t, conn, r, k, 32, 0)
		for _, op := range opsOf(k) {
			kept, careless := 0, 0
			for range 6 {
				q := near(r, &w.rows[r.IntN(len(w.rows))], 0.01)
				limit := 1 + r.IntN(30)
				_, distances := w.answer(t, op, &q, limit, "")
				last := distances[len(distances)-1]
				// The rows behind the answer, seen as new ones: those that may not enter are not in it.
				all, at := w.answer(t, op, &q, len(w.rows), "")
				for i, id := range all {
					enters := at[i] <= last || at[i] != at[i]
					if may := MayEnterValue(op, &q, &w.rows[id], last); !may && enters {
						t.Errorf("%s %s: a row at %.17g may not enter an answer up to %.17g", k, op, at[i], last)
					} else if !may {
						kept++
					} else if !enters {
						careless++
					}
					if k == Vector && MayEnter(op, &q, w.rows[id].dense, last) != MayEnterValue(op, &q, &w.rows[id], last) {
						t.Errorf("%s: MayEnter says otherwise", op)
					}
				}
			}
			t.Logf("%s %s: %d rows kept an answer, %d voided it though they are behind it", k, op, kept, careless)
			if kept < 9*careless {
				t.Errorf("%s %s: %d rows kept an answer, %d voided it though they are behind it", k, op, kept, careless)
			}
		}
	}
}

func value(t *testing.T, k Kind, text string) *Value {
	t.Helper()
	v, err := Decode(k, 0, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

func TestWhatCannotBeComparedMayEnter(t *testing.T) {
	f := func(op Op, q, v *Value, last float64, want bool) {
		t.Helper()
		if got := MayEnterValue(op, q, v, last); got != want {
			t.Errorf("%v %s %v up to %g: %t", q, op, v, last, got)
		}
	}
	q, far, zero := value(t, Vector, "[1,0]"), value(t, Vector, "[-5,1]"), value(t, Vector, "[0,0]")
	f(L2, q, far, 1, false)
	f(L2, q, far, math.Inf(1), true)
	f(L2, q, far, math.NaN(), true)
	f(L2, q, nil, 1, false)
	f(L2, q, nil, math.Inf(1), true)
	f(L2, q, value(t, Vector, "[-5,1,0]"), 1, true)
	f(L2, q, value(t, Halfvec, "[-5,1]"), 1, true)
	f(Hamming, q, far, 1, true)
	f(Cosine, q, far, 0.5, false)
	f(Cosine, q, zero, 0.5, true)
	f(Cosine, zero, far, 0.5, true)
	f(Cosine, q, value(t, Vector, "[-1e-25,0]"), 0.5, true)
	f(Cosine, q, value(t, Vector, "[-1e25,0]"), 0.5, true)
	f(InnerProduct, value(t, Vector, "[1e30,1]"), value(t, Vector, "[-1e30,1]"), -1, true)
	f(L2, value(t, Vector, "[3e38,0]"), value(t, Vector, "[-3e38,0]"), 1, false)
	f(Jaccard, value(t, Bit, "00"), value(t, Bit, "00"), 1, true)
	f(Jaccard, value(t, Bit, "01"), value(t, Bit, "10"), 0.5, false)
	f(Hamming, value(t, Bit, "0101"), value(t, Bit, "1010"), 3, false)
	f(Hamming, value(t, Bit, "0101"), value(t, Bit, "1010"), 4, true)
}

func TestWithoutWhatTheProofNeedsThereIsNoList(t *testing.T) {
	f := func(op Op, centre *Value, members []Value, last float64, norms Norms, want bool) {
		t.Helper()
		if _, ok := NewList(op, centre, members, last, false, norms); ok != want {
			t.Errorf("%v %s, %d members up to %g: %t", centre, op, len(members), last, ok)
		}
	}
	q, some := value(t, Vector, "[1,0]"), []Value{*value(t, Vector, "[1,1]")}
	f(L2, q, some, 1, Norms{}, true)
	f(L2, q, nil, 1, Norms{}, false)
	f(L2, q, some, math.NaN(), Norms{}, false)
	f(L2, q, some, math.Inf(1), Norms{}, false)
	f(L2, q, some, 0, Norms{}, false)
	f(L2, q, []Value{{}}, 1, Norms{}, false)
	f(L2, q, []Value{*value(t, Vector, "[1]")}, 1, Norms{}, false)
	f(Hamming, q, some, 1, Norms{}, false)
	f(Cosine, q, some, 0.3, Norms{}, false)
	f(Cosine, q, some, 0.3, Norms{0.5, 2}, true)
	f(Cosine, q, some, 0.3, Norms{1e-20, 2}, false)
	f(Cosine, q, some, 0.3, Norms{1, 1e20}, false)
	f(Cosine, value(t, Vector, "[0,0]"), some, 0.3, Norms{0.5, 2}, false)
	f(InnerProduct, q, some, -1, Norms{}, false)
	f(InnerProduct, q, some, -1, Norms{0.5, 2}, true)
	f(Cosine, value(t, Halfvec, "[1,0]"), []Value{*value(t, Halfvec, "[1,1]")}, 0.3, Norms{}, true)
	f(Jaccard, value(t, Bit, "00"), []Value{*value(t, Bit, "01")}, 0.5, Norms{}, false)
	l, _ := NewList(InnerProduct, q, some, -1, false, Norms{0.5, 2})
	if l.Admits(value(t, Vector, "[-1,0]")) || !l.Admits(value(t, Vector, "[-3,0]")) || !l.Admits(value(t, Vector, "[2,0]")) || l.Admits(nil) {
		t.Error("the list of the inner product admits otherwise")
	}
	var r Ranked
	if l.Near(value(t, Vector, "[1,0,0]"), 1, &r) || l.Near(q, 2, &r) || l.Near(q, -1, &r) {
		t.Error("proven without ground")
	}
}
