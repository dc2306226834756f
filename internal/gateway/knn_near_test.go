package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// cloud is a table of rows around centres, and questions near those.
type cloud struct {
	r       *rand.Rand
	centres [][]float64
}

const cloudDims = 32

func newCloud(seed uint64, centres int) *cloud {
	c := &cloud{r: rand.New(rand.NewPCG(seed, 3))}
	for range centres {
		v := make([]float64, cloudDims)
		for i := range v {
			v[i] = c.r.NormFloat64()
		}
		c.centres = append(c.centres, v)
	}
	return c
}

// vector writes a centre moved by relative noise.
func (c *cloud) vector(centre int, noise float64) string {
	list := make([]string, cloudDims)
	for i, x := range c.centres[centre] {
		list[i] = strconv.FormatFloat(x*(1+noise*c.r.NormFloat64()), 'g', 8, 32)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// table makes the rows, each at its own distance.
func (c *cloud) table(name, typ string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (id int PRIMARY KEY, v %s(%d), label text); INSERT INTO %s VALUES ", name, typ, cloudDims, name)
	for i := range 600 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d, '%s', 'row %d')", i, c.vector(i%len(c.centres), 0.05+0.002*float64(i)), i)
	}
	return b.String() + ";"
}

func TestNearQueriesFollowFromAnExactAnswerAndAreWhatAScanGives(t *testing.T) {
	c := newCloud(4, 4)
	dsn := nativeDatabase(t, c.table("near", "vector")+c.table("half", "halfvec")+
		"CREATE TABLE few AS SELECT * FROM near LIMIT 7; CREATE TABLE indexed AS SELECT * FROM near; CREATE INDEX ON indexed USING hnsw (v vector_l2_ops);")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, exact := dial(t, addr, dsn), direct(t, dsn)
	// compare has statements answered, of which a share at least has to go by want; "" stands
	// for none by hit_near.
	compare := func(want string, share float64, statements func() (string, []string)) {
		t.Helper()
		near, n := 0, 0
		for range 40 {
			sql, args := statements()
			var got, direct []string
			if args == nil {
				got, direct = p.query(sql), exact.query(sql)
			} else {
				got, direct = p.extended(group("", sql, args...)...), exact.extended(group("", sql, args...)...)
			}
			route := p.route()
			if strings.HasPrefix(route, "cached "+want+" ") {
				near++
			}
			if want == "" && strings.Contains(route, "hit_near") {
				t.Errorf("%s %q went by %s", sql, args, route)
			}
			n++
			if !slices.Equal(got, direct) {
				t.Errorf("%s %q gave\n%q\nnot\n%q", sql, args, got, direct)
			}
		}
		if float64(near) < share*float64(n) {
			t.Errorf("%d of %d went by %s, the last: %s", near, n, want, p.route())
		}
	}
	for _, op := range []string{"<->", "<+>", "<=>", "<#>"} {
		compare("hit_near", 0.5, func() (string, []string) {
			return fmt.Sprintf("SELECT id, label FROM near ORDER BY v %s '%s' LIMIT 5", op, c.vector(c.r.IntN(4), 1e-3)), nil
		})
		compare("hit_near", 0.4, func() (string, []string) {
			return fmt.Sprintf("SELECT * FROM half AS h ORDER BY h.v %s $1 LIMIT $2", op), []string{c.vector(c.r.IntN(4), 1e-3), "5"}
		})
	}
	compare("hit_near", 0.5, func() (string, []string) {
		return "SELECT id FROM near WHERE id % 2 = 0 AND label <> 'row 2' ORDER BY v <-> $1 LIMIT $2", []string{c.vector(0, 1e-4), strconv.Itoa(1 + c.r.IntN(8))}
	})
	same := c.vector(1, 0)
	k := 0
	compare("hit_near", 0.4, func() (string, []string) {
		k++
		return "SELECT id FROM near ORDER BY v <-> $1 LIMIT $2", []string{same, strconv.Itoa(41 - k)}
	})
	for _, sql := range []string{"SELECT id, v <-> $1 AS d FROM near ORDER BY d LIMIT $2", "SELECT v <-> $1, label FROM near ORDER BY 1 LIMIT $2", "SELECT id, v <-> $1 AS d FROM near ORDER BY v <-> $1 LIMIT $2"} {
		same, k = c.vector(1, 1e-5), 0
		compare("hit_near", 0.4, func() (string, []string) {
			k++
			return sql, []string{same, strconv.Itoa(41 - k)}
		})
	}
	compare("hit_near", 0.8, func() (string, []string) {
		return "SELECT id FROM few ORDER BY v <-> $1 LIMIT 10", []string{c.vector(0, 1e-3)}
	})
	// Where a scan is not what answers, or the answer has the distance in it, nothing follows.
	none := func(sql string) {
		t.Helper()
		compare("", 0, func() (string, []string) { return sql, []string{c.vector(0, 1e-3)} })
	}
	none("SELECT id FROM indexed ORDER BY v <-> $1 LIMIT 5")
	none("SELECT id, v <-> $1 FROM near ORDER BY v <-> $1 LIMIT 5")
	none("SELECT id, v <-> $1 AS d FROM near ORDER BY d LIMIT 5")
	none("SELECT id FROM near WHERE v <-> $1 < 10 ORDER BY v <-> $1 LIMIT 5")
	none("SELECT id FROM near ORDER BY v <-> $1 DESC LIMIT 5")
}

func TestAListIsJudgedByWhatChangedSince(t *testing.T) {
	c := newCloud(5, 2)
	dsn := nativeDatabase(t, c.table("points", "vector")+changeLog(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, exact := dial(t, addr, dsn), direct(t, dsn)
	hits := 0
	ask := func() {
		t.Helper()
		for _, binary := range []int16{0, 1} {
			args := []string{c.vector(0, 1e-4)}
			list := []message{
				parse("", "SELECT id, label FROM points ORDER BY v <-> $1 LIMIT 4"),
				&pgproto3.Bind{Parameters: [][]byte{[]byte(args[0])}, ResultFormatCodes: []int16{binary}},
				describe('P', ""), runPortal("", 0), endGroup,
			}
			got, want := p.extended(list...), exact.extended(list...)
			if strings.HasPrefix(p.route(), "cached hit_near") {
				hits++
			}
			if !slices.Equal(got, want) {
				t.Errorf("got\n%q\nnot\n%q", got, want)
			}
		}
	}
	for range 4 {
		ask()
	}
	far := strings.Repeat("9,", cloudDims-1) + "9"
	before := hits
	for i := range 10 {
		exact.must(fmt.Sprintf("INSERT INTO points VALUES (%d, '[%s]', 'far')", 1000+i, far))
		exact.must(fmt.Sprintf("UPDATE points SET label = 'far too' WHERE id = %d", 1000+i))
		ask()
	}
	if hits < before+18 {
		t.Errorf("of 20 after changes far away only %d followed from memory", hits-before)
	}
	before = hits
	for i := range 10 {
		switch i % 3 {
		case 0:
			exact.must(fmt.Sprintf("INSERT INTO points VALUES (%d, '%s', 'near')", 2000+i, c.vector(0, 1e-2)))
		case 1:
			exact.must("UPDATE points SET label = label || '!' WHERE id = (SELECT min(id) FROM points WHERE label LIKE 'near%')")
		default:
			exact.must("DELETE FROM points WHERE id = (SELECT min(id) FROM points WHERE label LIKE 'near%')")
		}
		ask()
	}
	if hits > before+15 {
		t.Errorf("of 20 after changes nearby %d followed from memory", hits-before)
	}
}
