package vector

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// appendBinary appends the binary form of v, as the server sends it.
func appendBinary(dst []byte, v *Value) []byte {
	switch v.Kind {
	case Bit:
		return append(binary.BigEndian.AppendUint32(dst, uint32(v.dims)), v.bits...)
	case Sparsevec:
		dst = binary.BigEndian.AppendUint32(dst, uint32(v.dims))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.index)))
		dst = binary.BigEndian.AppendUint32(dst, 0)
		for _, i := range v.index {
			dst = binary.BigEndian.AppendUint32(dst, uint32(i))
		}
	default:
		dst = binary.BigEndian.AppendUint32(dst, uint32(v.dims)<<16)
	}
	for _, f := range v.dense {
		if v.Kind == Halfvec {
			dst = binary.BigEndian.AppendUint16(dst, halfBits(f))
		} else {
			dst = binary.BigEndian.AppendUint32(dst, math.Float32bits(f))
		}
	}
	return dst
}

// text is v as a literal.
func (v *Value) text() string {
	var b strings.Builder
	switch v.Kind {
	case Bit:
		for i := range v.dims {
			b.WriteByte('0' + v.bits[i/8]>>(7-i%8)&1)
		}
	case Sparsevec:
		b.WriteByte('{')
		for i, f := range v.dense {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%d:%s", v.index[i]+1, strconv.FormatFloat(float64(f), 'g', -1, 32))
		}
		fmt.Fprintf(&b, "}/%d", v.dims)
	default:
		b.WriteByte('[')
		for i, f := range v.dense {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.FormatFloat(float64(f), 'g', -1, 32))
		}
		b.WriteByte(']')
	}
	return b.String()
}

// element draws a number: plain ones, small integers (for ties), and the ends of the
// range.
func element(r *rand.Rand, k Kind, taste int) float32 {
	f := float32(r.NormFloat64())
	switch taste {
	case 1:
		f = float32(r.IntN(5) - 2)
	case 2:
		f *= float32(math.Pow(2, float64(r.IntN(250)-125)))
	case 3:
		f = math.Float32frombits(r.Uint32() & 0x807fffff) // denormal
	case 4:
		f *= 1e18
	case 5:
		f *= 1e-22
	}
	if k == Halfvec {
		f = halfValue(halfBits(f))
	}
	if !finite(f) {
		return 1
	}
	return f
}

// draw makes a value of a kind.
func draw(r *rand.Rand, k Kind, dims, taste int) Value {
	v := Value{Kind: k, dims: dims}
	for i := range dims {
		switch {
		case k == Bit:
			if i%8 == 0 {
				v.bits = append(v.bits, 0)
			}
			if r.IntN(2+taste) == 0 {
				v.bits[i/8] |= 0x80 >> (i % 8)
			}
		case k == Sparsevec:
			if f := element(r, k, taste); f != 0 && r.IntN(3) == 0 {
				v.index, v.dense = append(v.index, int32(i)), append(v.dense, f)
			}
		default:
			v.dense = append(v.dense, element(r, k, taste))
		}
	}
	return v
}

// near draws a value whose elements differ from those of v relatively by noise.
func near(r *rand.Rand, v *Value, noise float64) Value {
	w := v.Clone()
	for i, f := range w.dense {
		g := f * float32(1+noise*r.NormFloat64())
		if v.Kind == Halfvec {
			g = halfValue(halfBits(g))
		}
		if finite(g) && (g != 0 || v.Kind != Sparsevec) {
			w.dense[i] = g
		}
	}
	if len(w.bits) > 0 && w.dims > 0 {
		i := r.IntN(w.dims)
		w.bits[i/8] ^= 0x80 >> (i % 8)
	}
	return w
}

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	c := pgtest.Native(t)
	conn, err := pgx.Connect(context.Background(), c.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// opsOf are the operators of a kind.
func opsOf(k Kind) (ops []Op) {
	for op := L2; op <= Jaccard; op++ {
		if op.takes(k) {
			ops = append(ops, op)
		}
	}
	return ops
}

func TestTheServersDistanceAlwaysLiesWithinTheBounds(t *testing.T) {
	conn := connect(t)
	r := rand.New(rand.NewPCG(1, 2))
	within, unknown := 0, 0
	for k := Vector; k <= Bit; k++ {
		for _, dims := range []int{1, 2, 3, 7, 8, 17, 128, 1000, 4001} {
			var as, bs []Value
			for i := range min(120, 30+20000/dims) {
				a, b := draw(r, k, dims, i%6), draw(r, k, dims, (i+i/6)%6)
				switch i % 5 {
				case 1:
					b = near(r, &a, 1e-3)
				case 2:
					b = near(r, &a, 1e-7)
				case 3:
					if i%2 == 0 {
						b = a.Clone()
					}
				}
				as, bs = append(as, a), append(bs, b)
			}
			a, b := make([]string, len(as)), make([]string, len(bs))
			for i := range as {
				a[i], b[i] = as[i].text(), bs[i].text()
			}
			for _, op := range opsOf(k) {
				typ := k.String()
				if k == Bit {
					typ = "varbit" // takes any length without a cut
				}
				sql := fmt.Sprintf("SELECT (a::%[1]s %[2]s b::%[1]s)::float8, (b::%[1]s %[2]s a::%[1]s)::float8 FROM unnest($1::text[], $2::text[]) u(a, b)", typ, op)
				rows, err := conn.Query(context.Background(), sql, a, b)
				if err != nil {
					t.Fatal(err)
				}
				i := 0
				for ; rows.Next(); i++ {
					var one, other float64
					if err := rows.Scan(&one, &other); err != nil {
						t.Fatal(err)
					}
					lo, hi, ok := Distance(op, &as[i], &bs[i])
					if !ok {
						unknown++
						continue
					}
					within++
					for _, d := range []float64{one, other} {
						if !(lo <= d && d <= hi) {
							t.Errorf("%s, %d dimensions: %.200s %s %.200s is %.17g, not between %.17g and %.17g", k, dims, a[i], op, b[i], d, lo, hi)
						}
						last := math.Nextafter(d, math.Inf(1))
						if !MayEnterValue(op, &as[i], &bs[i], d) || !MayEnterValue(op, &as[i], &bs[i], last) {
							t.Errorf("%s: %.200s %s %.200s is said to be beyond its own distance %g", k, a[i], op, b[i], d)
						}
					}
				}
				if err := rows.Err(); err != nil || i != len(as) {
					t.Fatalf("%s %s: %d rows, %v", k, op, i, err)
				}
			}
		}
	}
	if unknown > within/4 {
		t.Errorf("%d distances are unknown, %d known", unknown, within)
	}
	t.Logf("%d distances within, %d unknown", within, unknown)
}

func TestWhatIsReadIsWhatTheServerReads(t *testing.T) {
	conn := connect(t)
	r := rand.New(rand.NewPCG(2, 3))
	const bytes = "0123456789.eE+-,:[]{}/ xXbBfn"
	read := 0
	for k := Vector; k <= Bit; k++ {
		typ := k.String()
		if k == Bit {
			typ = "varbit"
		}
		var texts []string
		for i := range 1200 {
			v := draw(r, k, 1+r.IntN(5), r.IntN(6))
			s := v.text()
			if k != Bit && i%3 == 0 { // more digits than a float32 has
				s = strings.ReplaceAll(s, "e", strconv.Itoa(r.IntN(1e9))+"e")
			}
			if i%2 == 0 { // one byte changed
				b := []byte(s)
				b[r.IntN(len(b))] = bytes[r.IntN(len(bytes))]
				s = string(b)
			}
			texts = append(texts, s)
		}
		// The input functions of pgvector have no soft errors: pg_input_is_valid throws.
		if _, err := conn.Exec(context.Background(), fmt.Sprintf(`CREATE OR REPLACE FUNCTION pg_temp.sent(s text) RETURNS bytea LANGUAGE plpgsql AS
$$BEGIN RETURN %s_send(s::%s); EXCEPTION WHEN OTHERS THEN RETURN NULL; END$$`, typ, typ)); err != nil {
			t.Fatal(err)
		}
		rows, err := conn.Query(context.Background(), "SELECT pg_temp.sent(s) FROM unnest($1::text[]) WITH ORDINALITY u(s, i) ORDER BY i", texts)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range texts {
			v, err := Decode(k, 0, []byte(s))
			if err != nil {
				// Not understood; the server reads hexadecimal numbers and signs of indexes.
				if sent[i] != nil && !strings.ContainsAny(s, "xX+-") {
					t.Errorf("%s %q is refused: %v", k, s, err)
				}
				continue
			}
			read++
			if got := appendBinary(nil, &v); !slices.Equal(got, sent[i]) {
				t.Errorf("%s %q is read as %x, by the server as %x", k, s, got, sent[i])
			}
			if w, err := Decode(k, 1, sent[i]); err != nil || !slices.Equal(w.AppendKey(nil), v.AppendKey(nil)) {
				t.Errorf("%s %q: its binary form gives another value, %v", k, s, err)
			}
		}
	}
	if read < 2400 {
		t.Errorf("only %d texts were read", read)
	}
}
