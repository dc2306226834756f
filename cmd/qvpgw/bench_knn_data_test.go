package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pgtest"
	"qvpgw/internal/schema"
	"qvpgw/internal/wire"
)

// knnDimensions is how many returns a window of bars has.
const knnDimensions = 128

// knnWindows are n vectors: the returns of successive bars, each vector of length 1.
// The bars are those of pgtest.Bars, or prices that wander.
func knnWindows(t *testing.T, n int) [][]float32 {
	t.Helper()
	series := knnSeries(t, n)
	most := 0
	for _, s := range series {
		most += max(len(s)-knnDimensions, 0)
	}
	if most < n {
		t.Fatalf("the bars have %d windows of %d, not %d", most, knnDimensions, n)
	}
	stride := max(most/n, 1)
	var list [][]float32
	for _, s := range series {
		for at := 0; at+knnDimensions < len(s) && len(list) < n; at += stride {
			list = append(list, knnWindow(s[at:at+knnDimensions+1]))
		}
	}
	if len(list) < n {
		t.Fatalf("the bars gave %d windows, not %d", len(list), n)
	}
	return list
}

func knnWindow(closes []float64) []float32 {
	v, norm := make([]float32, knnDimensions), 0.0
	for i := range v {
		r := math.Log(closes[i+1] / closes[i])
		v[i] = float32(r)
		norm += r * r
	}
	norm = math.Sqrt(norm)
	for i := range v {
		if norm == 0 {
			v[i] = float32(1 / math.Sqrt(knnDimensions))
			continue
		}
		v[i] = float32(float64(v[i]) / norm)
	}
	return v
}

// knnSeries are closes, symbol by symbol, with n windows or more.
func knnSeries(t *testing.T, n int) (series [][]float64) {
	t.Helper()
	lines := pgtest.Bars(t)
	if lines == nil {
		rng := rand.New(rand.NewPCG(6, 6))
		for range 10 {
			price, swing := 100.0, 0.001
			s := make([]float64, n/10+2*knnDimensions)
			for i := range s {
				swing = max(0.0002, swing*math.Exp(0.05*rng.NormFloat64()))
				swing = min(swing, 0.01)
				price *= math.Exp(swing * rng.NormFloat64())
				s[i] = price
			}
			series = append(series, s)
		}
		return series
	}
	by := map[string]int{}
	for _, line := range lines {
		bar := strings.Split(line, ",")
		if len(bar) != 7 {
			t.Fatalf("a bar is %q", line)
		}
		symbol, price := bar[1], bar[5]
		i, ok := by[symbol]
		if !ok {
			i = len(series)
			by[symbol] = i
			series = append(series, nil)
		}
		v, err := strconv.ParseFloat(price, 64)
		if err != nil || v <= 0 {
			t.Fatalf("a close is %q", price)
		}
		series[i] = append(series[i], v)
	}
	return series
}

// perturbed is a vector with noise of a relative length.
func perturbed(rng *rand.Rand, v []float32, noise float64) []float32 {
	w, length, norm := make([]float64, len(v)), 0.0, 0.0
	for i := range w {
		w[i] = rng.NormFloat64()
		length += w[i] * w[i]
		norm += float64(v[i]) * float64(v[i])
	}
	scale := noise * math.Sqrt(norm/length)
	out := make([]float32, len(v))
	for i := range out {
		out[i] = v[i] + float32(scale*w[i])
	}
	return out
}

// knnBinary is a vector as pgvector receives it: int16 dimensions, int16 unused,
// float4 each.
func knnBinary(v []float32) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 4+4*len(v)), uint16(len(v)))
	b = append(b, 0, 0)
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func knnText(v []float32) string {
	b := []byte{'['}
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	return string(append(b, ']'))
}

// knnBind is a request of a statement with one vector.
func knnBind(dst []byte, statement string, vector []byte) []byte {
	dst = wire.AppendBind(dst, "", statement, wire.Formats{0, 1}, [][]byte{vector}, nil)
	return wire.AppendSync(wire.AppendExecute(dst, "", 0))
}

// zipf draws from 0 to n-1, the i-th with a chance in proportion to 1/(i+1).
type zipf []float64

func newZipf(n int) zipf {
	z, sum := make(zipf, n), 0.0
	for i := range z {
		sum += 1 / float64(i+1)
		z[i] = sum
	}
	return z
}

func (z zipf) draw(rng *rand.Rand) int {
	return min(sort.SearchFloat64s(z, rng.Float64()*z[len(z)-1]), len(z)-1)
}

// knnSizes are the tables whose whole is an answer, by the number of their rows.
var knnSizes = []int{1, 10, 100, 1000, 5000}

// knnFill makes the tables: windows with an index, a part of them without, and tables
// of many sizes whose rows carry short vectors.
func knnFill(vectors [][]float32, part int) func(context.Context, *pgtest.Cluster) error {
	return func(ctx context.Context, c *pgtest.Cluster) error {
		if err := c.Exec(ctx, "postgres", "CREATE DATABASE knn TEMPLATE qvpgw_template"); err != nil {
			return err
		}
		conn, err := pgconn.Connect(ctx, c.DSN("knn"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		do := func(sql string) {
			if err == nil {
				_, err = conn.Exec(ctx, sql).ReadAll()
			}
		}
		do(fmt.Sprintf("CREATE TABLE windows (id int PRIMARY KEY, v vector(%d)); ALTER TABLE windows ALTER v SET STORAGE PLAIN", knnDimensions))
		for first := 0; first < len(vectors) && err == nil; first += 5000 {
			var b strings.Builder
			for i, v := range vectors[first:min(first+5000, len(vectors))] {
				fmt.Fprintf(&b, "%d\t%s\n", first+i, knnText(v))
			}
			_, err = conn.CopyFrom(ctx, strings.NewReader(b.String()), "COPY windows FROM STDIN")
		}
		do("SET maintenance_work_mem = '1GB'; CREATE INDEX ON windows USING hnsw (v vector_l2_ops)")
		do(fmt.Sprintf("CREATE TABLE unindexed (LIKE windows INCLUDING ALL EXCLUDING INDEXES, PRIMARY KEY (id)); INSERT INTO unindexed SELECT * FROM windows WHERE id < %d", part))
		for _, n := range knnSizes {
			do(fmt.Sprintf("CREATE TABLE sized_%d (id int PRIMARY KEY, v vector(8)); INSERT INTO sized_%[1]d SELECT n, ARRAY[n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7]::vector FROM generate_series(1, %[1]d) n", n))
		}
		do("VACUUM (ANALYZE, FREEZE)")
		return err
	}
}

// knnServer is a cluster with the tables, whose changes are logged.
func knnServer(t *testing.T, name string, vectors [][]float32, part int, want string) *pgtest.Cluster {
	t.Helper()
	c := pgtest.Prepared(t, name, want, knnFill(vectors, part),
		pgtest.Setting("shared_buffers", "512MB"), pgtest.Setting("max_wal_size", "4GB"), pgtest.Setting("autovacuum", "off"), pgtest.MaxConnections(150))
	if _, err := schema.NewMigrator(c.DSN("knn"), schema.Options{}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch := "SELECT qvpgw.watch('windows'), qvpgw.watch('unindexed')"
	for _, n := range knnSizes {
		watch += fmt.Sprintf(", qvpgw.watch('sized_%d')", n)
	}
	if err := c.Exec(t.Context(), "knn", watch); err != nil {
		t.Fatal(err)
	}
	return c
}
