package gateway_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/cache"
	"qvpgw/internal/figure"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// A differential world has one table for each type, in two schemas of the same names
// with other rows, and one with an index. Exact plans answer alike each time, so what
// the gateway says, from memory or not, has to be what the server itself says, byte by
// byte.

// vectorType is a type of vectors in the differential test.
type vectorType struct {
	table, name, modifier string
	ops                   []string
	dims                  int
	send                  string // function that gives its binary form
}

var floatOps = []string{"<->", "<#>", "<=>", "<+>"}

var vectorTypes = []vectorType{
	{"dense", "vector", "(8)", floatOps, 8, "vector_send"},
	{"ties", "vector", "(3)", floatOps, 3, "vector_send"},
	{"halves", "halfvec", "(8)", floatOps, 8, "halfvec_send"},
	{"sparse", "sparsevec", "(20)", floatOps, 20, "sparsevec_send"},
	{"bits", "bit", "(16)", []string{"<~>", "<%>"}, 16, "bit_send"},
	{"indexed", "vector", "(8)", []string{"<->"}, 8, "vector_send"},
}

// numbers draws n numbers as text: small integers where they are to be equal often.
func (vt *vectorType) numbers(r *rand.Rand) []string {
	list := make([]string, vt.dims)
	for i := range list {
		switch {
		case vt.name == "bit":
			list[i] = strconv.Itoa(r.IntN(2))
		case vt.table == "ties":
			list[i] = strconv.Itoa(r.IntN(3))
		case vt.name == "sparsevec" && r.IntN(3) > 0:
			list[i] = "0"
		default:
			list[i] = strconv.FormatFloat(r.NormFloat64(), 'g', 6, 32)
		}
	}
	return list
}

// beside moves numbers by a thousandth, or not at all.
func (vt *vectorType) beside(r *rand.Rand, numbers []string) []string {
	moved := slices.Clone(numbers)
	for i, s := range numbers {
		if x, err := strconv.ParseFloat(s, 32); err == nil && vt.name != "bit" && r.IntN(3) > 0 {
			moved[i] = strconv.FormatFloat(x*(1+1e-3*r.NormFloat64()), 'g', 6, 32)
		}
	}
	return moved
}

// text writes numbers as a value of the type; style varies what does not matter.
func (vt *vectorType) text(numbers []string, style int) string {
	switch vt.name {
	case "bit":
		return strings.Join(numbers, "")
	case "sparsevec":
		var parts []string
		for i, n := range numbers {
			if n != "0" || style == 1 {
				parts = append(parts, fmt.Sprintf("%d:%s", i+1, n))
			}
		}
		if style == 2 {
			slices.Reverse(parts)
		}
		return fmt.Sprintf("{%s}/%d", strings.Join(parts, ","), vt.dims)
	}
	return "[" + strings.Join(numbers, []string{",", ", ", " ,"}[style]) + "]"
}

func differentialSchema(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("CREATE SCHEMA side; GRANT USAGE ON SCHEMA side, public TO plain;\n")
	for _, schema := range []string{"public", "side"} {
		fmt.Fprintf(&b, "CREATE TABLE %s.owners (owner int PRIMARY KEY, name text); INSERT INTO %[1]s.owners SELECT o, '%[1]s ' || o FROM generate_series(0, 7) o; GRANT SELECT ON %[1]s.owners TO plain;\n", schema)
		for _, vt := range vectorTypes {
			name := schema + "." + vt.table
			fmt.Fprintf(&b, "CREATE TABLE %s (id int PRIMARY KEY, v %s%s, n int, label text, at timestamptz, raw bytea);\n", name, vt.name, vt.modifier)
			for i := range 120 {
				v := "'" + vt.text(vt.numbers(r), 0) + "'"
				if i%40 == 39 {
					v = "NULL"
				}
				fmt.Fprintf(&b, "INSERT INTO %s VALUES (%d, %s, %d, 'é%d', '2024-01-02 03:04:05.678+00'::timestamptz + %d * interval '1 hour', '\\x%02x');\n",
					name, i, v, r.IntN(10), r.IntN(4), i, i)
			}
			if vt.table == "indexed" {
				fmt.Fprintf(&b, "CREATE INDEX ON %s USING hnsw (v vector_l2_ops);\n", name)
			}
			if vt.table != "halves" {
				fmt.Fprintf(&b, "GRANT SELECT ON %s TO plain;\n", name)
			}
		}
	}
	return b.String()
}

// differentialSettings are what a client changes in between.
var differentialSettings = []string{
	"SET extra_float_digits = 0", "SET extra_float_digits = -3", "RESET extra_float_digits", "SET DateStyle = 'German'", "SET DateStyle = 'SQL, DMY'",
	"RESET DateStyle", "SET TimeZone = 'Asia/Tokyo'", "SET TimeZone = 'America/New_York'", "RESET TimeZone", "SET bytea_output = 'escape'", "RESET bytea_output",
	"SET client_encoding = 'LATIN1'", "SET client_encoding = 'UTF8'", "SET search_path = side, public", "SET search_path = public, side", "RESET search_path",
	"SET ROLE plain", "RESET ROLE", "SET hnsw.ef_search = 3", "SET hnsw.ef_search = 100", "RESET hnsw.ef_search", "SET enable_indexscan = off",
	"RESET enable_indexscan", "SET work_mem = '8MB'", "RESET ALL", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
	"SELECT set_config('extra_float_digits', '2', false)", "DISCARD ALL",
}

// twins are a client of the gateway and one of the server that do the same.
type twins struct {
	through, direct *peer
	named           map[string]string // text and types to the name of the statement
}

// differential draws statements.
type differential struct {
	r       *rand.Rand
	queries map[string][][]string // of a table: the vectors asked for
	binary  map[string][]byte     // of a type's text: its binary form
	oids    map[string]uint32     // of a type
	recent  []recentAsk           // asked again by any client, under its settings
	near    int                   // answers that followed from others
	server  *peer
}

// recentAsk is a statement and what it was drawn from.
type recentAsk struct {
	ask  *knnAsk
	seed uint64
}

func newDifferential(r *rand.Rand, server *peer) *differential {
	d := &differential{r: r, queries: map[string][][]string{}, binary: map[string][]byte{}, oids: map[string]uint32{}, server: server}
	for _, vt := range vectorTypes {
		for range 12 {
			d.queries[vt.table] = append(d.queries[vt.table], vt.numbers(r))
		}
		oid, _ := strconv.ParseUint(server.rows("SELECT '"+vt.name+"'::regtype::oid"), 10, 32)
		d.oids[vt.name] = uint32(oid)
	}
	return d
}

// binaryOf is a text in the type's binary form, as the server has it.
func (d *differential) binaryOf(vt *vectorType, text string) []byte {
	key := vt.name + text
	if d.binary[key] == nil {
		b, err := hex.DecodeString(d.server.rows(fmt.Sprintf("SELECT encode(%s('%s'::%s%s), 'hex')", vt.send, text, vt.name, vt.modifier)))
		if err != nil {
			d.server.Fatalf("no binary form of %s", text)
		}
		d.binary[key] = b
	}
	return d.binary[key]
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// knnAsk is one statement.
type knnAsk struct {
	sql      string
	extended bool
	oids     []uint32
	formats  []int16
	values   [][]byte
	results  []int16
	describe bool
	named    bool
}

func (a *knnAsk) param(oid uint32, format int16, value []byte) string {
	a.oids, a.formats, a.values = append(a.oids, oid), append(a.formats, format), append(a.values, value)
	return "$" + strconv.Itoa(len(a.values))
}

// draw makes a statement of a k-NN query from a seed: about one in thirty fails. Varied,
// it is the one of the seed but for a vector close to it and another limit.
func (d *differential) draw(seed uint64, varied bool) *knnAsk {
	r := rand.New(rand.NewPCG(seed, 5))
	vt := pick(r, vectorTypes...)
	a := &knnAsk{extended: r.IntN(2) == 0}
	numbers := pick(r, d.queries[vt.table]...)
	if r.IntN(12) == 0 {
		numbers = vt.numbers(r)
	}
	if varied {
		numbers = vt.beside(d.r, numbers)
	}
	text := vt.text(numbers, r.IntN(3))
	op := pick(r, vt.ops...)
	vector := ""
	switch form := r.IntN(6); {
	case form == 5 && r.IntN(4) == 0:
		vector = fmt.Sprintf("(SELECT v FROM %s WHERE id = %d)", vt.table, r.IntN(4)*7)
	case a.extended && form < 4:
		oid := pick(r, 0, d.oids[vt.name])
		if r.IntN(2) == 0 {
			vector = a.param(oid, 0, []byte(text))
		} else {
			vector = a.param(oid, 1, d.binaryOf(&vt, text))
		}
		vector += pick(r, "", "::"+vt.name+vt.modifier)
	default:
		vector = "'" + text + "'" + pick(r, "", "::"+vt.name+vt.modifier)
		if form == 4 {
			vector = fmt.Sprintf("CAST('%s' AS %s%s)", text, vt.name, vt.modifier)
		}
	}
	distance := fmt.Sprintf("v %s %s", op, vector)
	if r.IntN(6) == 0 {
		distance = fmt.Sprintf("%s %s v", vector, op)
	}
	list := pick(r, "id", "id, n", "*", "id, label, at", "raw, id", "id, v", "id, "+distance, distance+" AS distance, label", "1 - ("+distance+"), id", "id, round(("+distance+")::numeric, 3)")
	var where []string
	if r.IntN(3) == 0 {
		where = append(where, fmt.Sprintf("n %s %d", pick(r, "<", ">=", "=", "<>"), r.IntN(10)))
	}
	if r.IntN(6) == 0 {
		where = append(where, fmt.Sprintf("label IN ('é%d', 'é%d')", r.IntN(4), r.IntN(4)))
	}
	if r.IntN(12) == 0 {
		where = append(where, fmt.Sprintf("%s < %d", distance, 1+r.IntN(4)))
	}
	a.sql = fmt.Sprintf("SELECT %s FROM %s", list, pick(r, vt.table, vt.table, "public."+vt.table))
	joined := r.IntN(8) == 0
	if joined {
		a.sql += pick(r, " JOIN owners ON owner = n", " LEFT JOIN owners ON owner = n AND name <> 'public 3'")
	}
	if len(where) > 0 {
		a.sql += " WHERE " + strings.Join(where, " AND ")
	}
	by := distance
	switch {
	case list == distance+" AS distance, label":
		by = pick(r, distance, "distance", "distance", "1")
	case list == "id, "+distance:
		by = pick(r, distance, "2")
	}
	if joined {
		a.sql += " ORDER BY " + by + pick(r, ", id", " DESC, id") // how equal rows come is the join's to say
	} else {
		a.sql += " ORDER BY " + by + pick(r, "", "", "", ", id", " ASC, n, id", " DESC", ", label, 1")
	}
	limit := strconv.Itoa(pick(r, 1, 3, 5, 10, 10, 25, 200))
	if varied {
		limit = strconv.Itoa(1 + d.r.IntN(10))
	}
	if a.extended && r.IntN(3) == 0 {
		limit = a.param(0, 0, []byte(limit))
	}
	a.sql += " LIMIT " + limit
	if r.IntN(5) == 0 {
		a.sql += " OFFSET " + strconv.Itoa(r.IntN(6))
	}
	if r.IntN(40) == 0 {
		a.sql = strings.Replace(a.sql, "id", "nothing", 1)
	}
	if a.extended {
		a.describe, a.named = r.IntN(3) > 0, r.IntN(3) == 0
		a.results = pick(r, nil, []int16{0}, []int16{1})
		if r.IntN(3) == 0 {
			a.oids = nil // all are for the server to find out
		}
	}
	return a
}

// run sends a, and returns the raw bytes of what comes back.
func (p *peer) run(a *knnAsk, name string, parse bool) []byte {
	p.Helper()
	if !a.extended {
		p.send(&pgproto3.Query{String: a.sql})
		return p.raw()
	}
	var list []pgproto3.FrontendMessage
	if parse {
		list = append(list, &pgproto3.Parse{Name: name, Query: a.sql, ParameterOIDs: a.oids})
	}
	list = append(list, &pgproto3.Bind{PreparedStatement: name, ParameterFormatCodes: a.formats, Parameters: a.values, ResultFormatCodes: a.results})
	if a.describe {
		list = append(list, &pgproto3.Describe{ObjectType: 'P'})
	}
	p.send(append(list, &pgproto3.Execute{}, &pgproto3.Sync{})...)
	return p.raw()
}

// raw is what comes up to ReadyForQuery, as bytes.
func (p *peer) raw() (b []byte) {
	p.Helper()
	for {
		m, err := p.receive()
		if err != nil {
			return append(b, "end of the connection"...)
		}
		if b, err = m.Encode(b); err != nil {
			p.Fatal(err)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return b
		}
	}
}

// step runs one statement, twice through the gateway and once directly, or a change of
// a setting or of a table; it returns how many answers were compared, came from memory,
// and differed.
func (d *differential) step(c *twins) (compared, hits, unequal int, why string) {
	r := d.r
	switch n := r.IntN(40); {
	case n < 3:
		sql := pick(r, differentialSettings...)
		c.through.query(sql)
		c.direct.query(sql)
		if sql == "DISCARD ALL" {
			c.named = map[string]string{}
		}
		return 0, 0, 0, ""
	case n < 5:
		d.change(c)
		return 0, 0, 0, ""
	}
	var a *knnAsk
	switch n := r.IntN(6); {
	case n < 2 || len(d.recent) == 0:
		seed := r.Uint64()
		a = d.draw(seed, false)
		d.recent = append(d.recent, recentAsk{a, seed})
		d.recent = d.recent[max(0, len(d.recent)-12):]
	case n < 4:
		a = pick(r, d.recent...).ask
	default:
		a = d.draw(pick(r, d.recent...).seed, true)
	}
	name, parse := "", true
	if a.named {
		key := fmt.Sprint(a.sql, a.oids)
		if name = c.named[key]; name == "" {
			name = "s" + strconv.Itoa(len(c.named))
			c.named[key] = name
			for _, p := range []*peer{c.through, c.direct} {
				p.send(&pgproto3.Parse{Name: name, Query: a.sql, ParameterOIDs: a.oids}, &pgproto3.Sync{})
				p.raw()
			}
		}
		parse = false
	}
	want := c.direct.run(a, name, parse)
	for range 2 {
		got := c.through.run(a, name, parse)
		route := c.through.route()
		compared++
		if strings.HasPrefix(route, "cached hit") {
			hits++
		}
		if strings.HasPrefix(route, "cached hit_near") {
			d.near++
		}
		if !slices.Equal(got, want) {
			unequal++
			why = fmt.Sprintf("%s\n%q %v results %v, named %t\nwent by %q and gave\n%q\nnot\n%q", a.sql, a.values, a.oids, a.results, a.named, route, got, want)
		}
	}
	return compared, hits, unequal, why
}

// change writes a row, through the gateway or beside it.
func (d *differential) change(c *twins) {
	r := d.r
	vt := pick(r, vectorTypes[:5]...) // an index may answer otherwise after a change
	p := c.through
	if r.IntN(2) == 0 {
		p = c.direct
	}
	if p.tx != 'I' {
		return
	}
	id := 1000 + r.IntN(10)
	name := pick(r, "public.", "side.") + vt.table
	switch r.IntN(5) {
	case 0:
		p.query(fmt.Sprintf("DELETE FROM %s WHERE id = %d", name, id))
	case 4:
		p.query(fmt.Sprintf("UPDATE %sowners SET name = name || '!' WHERE owner = %d", pick(r, "public.", "side."), r.IntN(10)))
	case 1:
		p.query(fmt.Sprintf("UPDATE %s SET v = '%s' WHERE id = %d", name, vt.text(vt.numbers(r), 0), r.IntN(120)))
	default:
		v := pick(r, vt.numbers(r), pick(r, d.queries[vt.table]...))
		p.query(fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s', %d, 'é%d') ON CONFLICT DO NOTHING", name, id, vt.text(v, 0), r.IntN(10), r.IntN(4)))
	}
}

// differ runs cases statements and returns how many answers were compared, came from
// memory, followed from near ones, and differed.
func differ(t *testing.T, dsn string, seed uint64, cases int, broken bool) (compared, hits, near, unequal int, why string) {
	t.Helper()
	kept, err := cache.New(256 << 20) // none has to go for want of room
	if err != nil {
		t.Fatal(err)
	}
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 4}, Cache: kept})
	if broken {
		gateway.Unsettled(g)
	}
	d := newDifferential(rand.New(rand.NewPCG(seed, 77)), direct(t, dsn))
	var clients []*twins
	for range 3 {
		clients = append(clients, &twins{dial(t, addr, dsn), direct(t, dsn), map[string]string{}})
	}
	for i := 0; i < cases; {
		n, h, u, w := d.step(pick(d.r, clients...))
		if n > 0 {
			i++
		}
		compared, hits, unequal = compared+n, hits+h, unequal+u
		if u > 0 && why == "" {
			why = fmt.Sprintf("case %d of seed %d: %s", i, seed, w)
		}
	}
	return compared, hits, d.near, unequal, why
}

func TestKNNDifferential(t *testing.T) {
	cases, seed := 500, uint64(1)
	if s := os.Getenv("QVPGW_KNN_CASES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("cannot read QVPGW_KNN_CASES: %v", err)
		}
		cases = n
	}
	dsn := nativeDatabase(t, differentialSchema(rand.New(rand.NewPCG(seed, 1))))
	compared, hits, near, unequal, why := differ(t, dsn, seed, cases, false)
	figure.Print(t, "knn.differential.cases", float64(cases))
	figure.Print(t, "knn.differential.unequal", float64(unequal))
	if unequal > 0 {
		t.Errorf("%d of %d answers differ from the server's; the first:\n%.3000s", unequal, compared, why)
	}
	if hits < compared/4 {
		t.Errorf("only %d of %d answers came from memory", hits, compared)
	}
	if _, _, _, unequal, _ := differ(t, dsn, seed, min(cases, 1000), true); unequal == 0 {
		t.Error("with a key that leaves the settings out no answer differs: the test shows nothing")
	}
	if near == 0 && cases >= 5000 { // few of a short run
		t.Error("no answer followed from one to a near question")
	}
	t.Logf("%d answers compared, %d from memory, %d of them from near ones", compared, hits, near)
}
