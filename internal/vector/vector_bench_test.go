package vector

import (
	"math/rand/v2"
	"testing"
)

// At 128 dimensions on a shared AMD EPYC core, Go 1.26: see each line.

func benchValues(k Kind) (q, v Value) {
	r := rand.New(rand.NewPCG(1, 1))
	return draw(r, k, 128, 0), draw(r, k, 128, 0)
}

func BenchmarkMayEnter(b *testing.B) {
	q, v := benchValues(Vector)
	for op := L2; op <= L1; op++ {
		b.Run(op.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				MayEnter(op, &q, v.dense, 0.1)
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	q, _ := benchValues(Vector)
	for format, form := range [][]byte{[]byte(q.text()), appendBinary(nil, &q)} {
		b.Run([]string{"text", "binary"}[format], func(b *testing.B) {
			var v Value
			b.ReportAllocs()
			for b.Loop() {
				if v.Set(Vector, int16(format), form) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkNear(b *testing.B) {
	l, q := nearList(b)
	var r Ranked
	b.ReportAllocs()
	for b.Loop() {
		if !l.Near(&q, 10, &r) {
			b.Fatal("not proven")
		}
	}
}

// nearList is a list of 50 members and a query that it answers.
func nearList(t testing.TB) (*List, Value) {
	r := rand.New(rand.NewPCG(1, 1))
	centre := draw(r, Vector, 128, 0)
	var members []Value
	for i := range 50 {
		members = append(members, near(r, &centre, 0.1*float64(i+1)))
	}
	_, last, _ := Distance(L2, &centre, &members[49])
	l, ok := NewList(L2, &centre, members, last, false, Norms{})
	if !ok {
		t.Fatal("no list")
	}
	return l, near(r, &centre, 1e-3)
}

func TestJudgingAllocatesNothing(t *testing.T) {
	q, v := benchValues(Vector)
	l, near := nearList(t)
	var r Ranked
	l.Near(&near, 10, &r)
	if n := testing.AllocsPerRun(100, func() {
		for op := L2; op <= L1; op++ {
			MayEnter(op, &q, v.dense, 0.1)
		}
		if !l.Near(&near, 10, &r) {
			t.Fail()
		}
		l.Admits(&v)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
