package gateway_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// wording is one way to ask a question.
type wording struct {
	sql     string
	oids    []uint32
	formats []int16
	values  [][]byte
}

// messages asks it: by the simple protocol without values.
func (w wording) messages() []message {
	if w.values == nil {
		return []message{&pgproto3.Query{String: w.sql}}
	}
	return []message{
		&pgproto3.Parse{Query: w.sql, ParameterOIDs: w.oids},
		&pgproto3.Bind{ParameterFormatCodes: w.formats, Parameters: w.values}, describe('P', ""), runPortal("", 0), endGroup,
	}
}

func values(list ...string) (b [][]byte) {
	for _, v := range list {
		b = append(b, []byte(v))
	}
	return b
}

// vectorBytes is a vector in binary.
func vectorBytes(elements ...float32) string {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(elements)))
	b = append(b, 0, 0)
	for _, f := range elements {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(f))
	}
	return string(b)
}

// oneKey has wordings of one question in each row: what the first is answered with
// answers the others.
func oneKey(vector uint32) [][]wording {
	const head = "SELECT id, v <-> "
	return [][]wording{
		{
			{sql: head + "'[1.5,0,0]' AS d FROM points ORDER BY d LIMIT 3"},
			{sql: head + "'[ 1.50, 0,0e5 ]'::vector AS d FROM points ORDER BY d LIMIT 3"},
			{sql: head + "'[15e-1,0,+0]'::public.vector(3) AS d FROM points ORDER BY d LIMIT 03"},
			{sql: head + "CAST('[1.5,0,0]' AS vector(3)) AS d FROM points ORDER BY d LIMIT 3"},
			{sql: head + "$1 AS d FROM points ORDER BY d LIMIT 3", values: values("[1.5,0.0,0]")},
			{sql: head + "$1::vector AS d FROM points ORDER BY d LIMIT $2", values: values("[1.5,0,0]", "3")},
			{sql: head + "$2 AS d FROM points ORDER BY d LIMIT $1", formats: []int16{1}, values: values("\x00\x00\x00\x00\x00\x00\x00\x03", vectorBytes(1.5, 0, 0))},
			{sql: head + "$1 AS d FROM points ORDER BY d LIMIT $2", oids: []uint32{vector, 23}, formats: []int16{1}, values: values(vectorBytes(1.5, 0, 0), "\x00\x00\x00\x03")},
			{sql: head + "$1::vector AS d FROM points ORDER BY d LIMIT $2", oids: []uint32{25, 21}, formats: []int16{1}, values: values("[1.5,0,0]", "\x00\x03")},
		},
		{
			{sql: "SELECT label FROM points WHERE v <-> '[1.75,0,0]' < 9 ORDER BY '[1.75,0,0]' <-> v LIMIT 5 OFFSET 1"},
			{sql: "SELECT label FROM points WHERE v <-> $1 < 9 ORDER BY $1 <-> v LIMIT $2 OFFSET $3", values: values("[1.75,0,0]", "5", "1")},
		},
		{
			{sql: "SELECT id FROM points WHERE label <> $2 ORDER BY v <-> $1 LIMIT 2", oids: []uint32{0, 25}, values: values("[2.5,0,0]", "p2")},
			{sql: "SELECT id FROM points WHERE label <> $2 ORDER BY v <-> $1 LIMIT 2", oids: []uint32{0, 25}, formats: []int16{1}, values: values(vectorBytes(2.5, 0, 0), "p2")},
		},
		{
			{sql: "SELECT id FROM points WHERE id <> $2 ORDER BY v <-> $1 LIMIT 2", oids: []uint32{0, 23}, values: values("[2.75,0,0]", "2")},
			{sql: "SELECT id FROM points WHERE id <> $2 ORDER BY v <-> $1 LIMIT 2", oids: []uint32{0, 23}, formats: []int16{1}, values: values(vectorBytes(2.75, 0, 0), "\x00\x00\x00\x02")},
		},
		{
			{sql: "SELECT id FROM halves ORDER BY v <-> '[0.1,0,0]' LIMIT 2"},
			{sql: "SELECT id FROM halves ORDER BY v <-> '[0.099999,0,0]' LIMIT 2"},
			{sql: "SELECT id FROM halves ORDER BY v <-> $1::halfvec LIMIT 2", formats: []int16{1}, values: values("\x00\x03\x00\x00\x2e\x66\x00\x00\x00\x00")},
		},
		{
			{sql: "SELECT id FROM sparse ORDER BY v <-> '{1:4.5,3:0.5}/3' LIMIT 2"},
			{sql: "SELECT id FROM sparse ORDER BY v <-> '{3:.5,2:0,1:4.5}/3'::sparsevec(3) LIMIT 2"},
		},
		{
			{sql: "SELECT id FROM bits ORDER BY v <~> '1100' LIMIT 2"},
			{sql: "SELECT id FROM bits ORDER BY v <~> '1100'::bit(4) LIMIT 2"},
			{sql: "SELECT id FROM bits ORDER BY v <~> $1 LIMIT 2", values: values("1100")},
			{sql: "SELECT id FROM bits ORDER BY v <~> $1 LIMIT 2", formats: []int16{1}, values: values("\x00\x00\x00\x04\xc0")},
		},
	}
}

// keysApart are questions of which each has an answer of its own, or an error, or is
// not known to mean the same.
func keysApart(vector uint32) []wording {
	return []wording{
		{sql: "SELECT id, v <-> '[3.5,0,0]' FROM points ORDER BY 2 LIMIT 2"},
		{sql: "SELECT id, v <-> '[3.5,0,0]' FROM points ORDER BY 2 LIMIT 3"},
		{sql: "SELECT id, v <-> '[3.5,0,0]' FROM points ORDER BY 2 LIMIT 2 OFFSET 1"},
		{sql: "SELECT id, v <-> '[3.5000002,0,0]' FROM points ORDER BY 2 LIMIT 2"},
		{sql: "SELECT id, v <-> '[3.5,-0,0]' FROM points ORDER BY 2 LIMIT 2"},
		{sql: "SELECT id, v <-> '[3.5,0,0]'::vector(4) FROM points ORDER BY 2 LIMIT 2"},
		{sql: "SELECT id, v <-> '[3.5,0,NaN]' FROM points ORDER BY 2 LIMIT 2"},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT 2", oids: []uint32{25}, values: values("[3.5,0,0]")},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT 2", values: [][]byte{nil}},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT 2", values: values("[3.5,0,0]", "more")},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT 2", oids: []uint32{vector, 23}, values: values("[3.5,0,0]")},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT $2", oids: []uint32{vector, 25}, values: values("[3.5,0,0]", "2")},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT $2", oids: []uint32{vector, 21}, values: values("[3.5,0,0]", "70000")},
		{sql: "SELECT id, v <-> $1 FROM points ORDER BY 2 LIMIT $2", values: [][]byte{[]byte("[3.5,0,0]"), nil}},
		{sql: "SELECT id FROM bits ORDER BY v <~> '1010' LIMIT 2"},
		{sql: "SELECT id FROM bits ORDER BY v <~> '1010'::bit LIMIT 2"},
		{sql: "SELECT id FROM bits ORDER BY v <~> '101011'::bit(4) LIMIT 2"},
	}
}

// keyTables are logged, so that nothing else that the server does ends an answer.
func keyTables(t testing.TB) string {
	return vectorSchema + changeLog(t) + `
CREATE TABLE halves AS SELECT id, v::halfvec(3) AS v FROM points;
CREATE TABLE sparse AS SELECT id, v::sparsevec(3) AS v FROM points;
CREATE TABLE bits AS SELECT id, (id % 16)::bit(4) AS v FROM points;
INSERT INTO bits SELECT * FROM bits;
SELECT qvpgw.watch('halves'), qvpgw.watch('sparse'), qvpgw.watch('bits')`
}

func TestWordingsOfOneQuestionHaveOneAnswer(t *testing.T) {
	dsn := nativeDatabase(t, keyTables(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, exact := dial(t, addr, dsn), direct(t, dsn)
	var vector uint32
	if _, err := fmt.Sscan(exact.rows("SELECT 'vector'::regtype::oid"), &vector); err != nil {
		t.Fatal(err)
	}
	ask := func(w wording) string {
		t.Helper()
		got, want := p.extended(w.messages()...), exact.extended(w.messages()...)
		route := p.route()
		if !slices.Equal(got, want) {
			t.Errorf("%s %q gave\n%q\nnot\n%q", w.sql, w.values, got, want)
		}
		return route
	}
	for _, row := range oneKey(vector) {
		if got := ask(row[0]); !strings.HasPrefix(got, "cached miss") {
			t.Errorf("%s: %s", row[0].sql, got)
		}
		for _, w := range row {
			if got := ask(w); !strings.HasPrefix(got, "cached hit ") {
				t.Errorf("%s %q: %s", w.sql, w.values, got)
			}
		}
	}
	for _, w := range keysApart(vector) {
		if got := ask(w); strings.HasPrefix(got, "cached hit ") {
			t.Errorf("%s %q: %s", w.sql, w.values, got)
		}
	}
}

// TestAKeyOfRoundedVectorsHoldsWhileTheyAreRounded has two questions that are one of a
// halfvec, and two when the column becomes a vector.
func TestAKeyOfRoundedVectorsHoldsWhileTheyAreRounded(t *testing.T) {
	dsn := nativeDatabase(t, keyTables(t))
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p, exact := dial(t, addr, dsn), direct(t, dsn)
	same := []string{"SELECT id, v <-> '[0.1,0,0]' FROM halves ORDER BY 2 LIMIT 2", "SELECT id, v <-> '[0.099999,0,0]' FROM halves ORDER BY 2 LIMIT 2"}
	compare := func() {
		t.Helper()
		for range 2 {
			for _, sql := range same {
				p.want(sql, exact.rows(sql))
			}
		}
	}
	compare()
	if got := p.route(); !strings.HasPrefix(got, "cached hit ") {
		t.Fatalf("not kept: %s", got)
	}
	if exact.rows(same[0]) != exact.rows(same[1]) {
		t.Fatal("the questions are not one")
	}
	for range 3 {
		exact.must("ALTER TABLE halves ALTER v TYPE vector(3)")
		compare()
		if exact.rows(same[0]) == exact.rows(same[1]) {
			t.Fatal("the questions are still one")
		}
		exact.must("ALTER TABLE halves ALTER v TYPE halfvec(3)")
		compare()
	}
}
