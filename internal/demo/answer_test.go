package demo

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// averages makes an answer with a symbol, an average and a count for each row.
func averages(rows ...[3]string) answer {
	a := answer{fields: []pgconn.FieldDescription{
		{Name: "symbol", DataTypeOID: pgtype.VarcharOID, DataTypeSize: -1, TypeModifier: 24},
		{Name: "average", DataTypeOID: pgtype.Float8OID, DataTypeSize: 8, TypeModifier: -1},
		{Name: "bars", DataTypeOID: pgtype.Int8OID, DataTypeSize: 8, TypeModifier: -1},
	}, tag: "SELECT " + strconv.Itoa(len(rows))}
	for _, r := range rows {
		a.rows = append(a.rows, [][]byte{[]byte(r[0]), []byte(r[1]), []byte(r[2])})
	}
	return a
}

var averageOfBars = []summed{{column: "average", count: "bars"}}

func TestEqualAnswersAreEqual(t *testing.T) {
	a, b := averages([3]string{"SPY", "1.5", "3"}), averages([3]string{"SPY", "1.5", "3"})
	if v, note := compare(a, b, averageOfBars); v != equal || note != "" {
		t.Fatalf("%v %q", v, note)
	}
}

func TestEveryDifferenceThatAClientSeesIsFound(t *testing.T) {
	base := func() answer { return averages([3]string{"SPX", "1.5", "3"}, [3]string{"SPY", "2.5", "4"}) }
	for name, change := range map[string]func(*answer){
		"a value":          func(a *answer) { a.rows[1][0] = []byte("SPX") },
		"a NULL":           func(a *answer) { a.rows[1][0] = nil },
		"an empty string":  func(a *answer) { a.rows[0][0] = []byte{} },
		"a count":          func(a *answer) { a.rows[0][2] = []byte("4") },
		"the order":        func(a *answer) { a.rows[0], a.rows[1] = a.rows[1], a.rows[0] },
		"a row less":       func(a *answer) { a.rows = a.rows[:1] },
		"a column less":    func(a *answer) { a.fields = a.fields[:2] },
		"a column's name":  func(a *answer) { a.fields[2].Name = "count" },
		"a type":           func(a *answer) { a.fields[2].DataTypeOID = pgtype.NumericOID },
		"a type's size":    func(a *answer) { a.fields[2].DataTypeSize = -1 },
		"a type modifier":  func(a *answer) { a.fields[0].TypeModifier = -1 },
		"a format":         func(a *answer) { a.fields[2].Format = 1 },
		"the tag":          func(a *answer) { a.tag = "SELECT 1" },
		"an error":         func(a *answer) { *a = answer{err: &pgconn.PgError{Code: "42601"}} },
		"a float too far":  func(a *answer) { a.rows[1][1] = []byte("2.50000001") },
		"a float's NaN":    func(a *answer) { a.rows[1][1] = []byte("NaN") },
		"a float's letter": func(a *answer) { a.rows[1][1] = []byte("x") },
	} {
		changed := base()
		change(&changed)
		if v, _ := compare(changed, base(), averageOfBars); v != unequal {
			t.Errorf("%s: changed through the gateway, compares as %v", name, v)
		}
		if v, note := compare(base(), changed, averageOfBars); v != unequal || note == "" {
			t.Errorf("%s: changed without, compares as %v (%q)", name, v, note)
		}
	}
}

func TestNullAndEmptyStringDiffer(t *testing.T) {
	a, b := averages([3]string{"", "1", "1"}), averages([3]string{"", "1", "1"})
	a.rows[0][0], b.rows[0][0] = nil, []byte{}
	if v, _ := compare(a, b, nil); v != unequal {
		t.Fatal("NULL compares equal to an empty string")
	}
}

func TestAnAnswerWithoutRowsFails(t *testing.T) {
	if v, note := compare(averages(), averages(), nil); v != unequal || note == "" {
		t.Fatalf("%v %q", v, note)
	}
}

func TestAReorderedAverageIsWithinItsBoundAndCountedApart(t *testing.T) {
	x := 3000.123456789
	near := math.Nextafter(x, 4000)
	text := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	a, b := averages([3]string{"SPY", text(near), "390"}), averages([3]string{"SPY", text(x), "390"})
	if v, note := compare(a, b, averageOfBars); v != withinBound || !strings.Contains(note, "of the bound") {
		t.Fatalf("%v %q", v, note)
	}
	if v, _ := compare(a, b, nil); v != unequal {
		t.Fatal("a float that is not said to be a sum may differ")
	}
	far := x * (1 + 2.1*390*math.Ldexp(1, -53))
	if v, _ := compare(averages([3]string{"SPY", text(far), "390"}), b, averageOfBars); v != unequal {
		t.Fatal("a difference beyond the bound is accepted")
	}
	// The bound is that of the row's own count.
	if v, _ := compare(averages([3]string{"SPY", text(x * (1 + 100*math.Ldexp(1, -53))), "1"}),
		averages([3]string{"SPY", text(x), "1"}), averageOfBars); v != unequal {
		t.Fatal("one value's average may differ as that of many")
	}
}

func TestBinaryFloatsHaveTheSameBound(t *testing.T) {
	binaryAnswer := func(x float64) answer {
		a := averages([3]string{"SPY", "", ""})
		for i := range a.fields {
			a.fields[i].Format = 1
		}
		a.rows[0][1] = binary.BigEndian.AppendUint64(nil, math.Float64bits(x))
		a.rows[0][2] = binary.BigEndian.AppendUint64(nil, 390)
		return a
	}
	if v, note := compare(binaryAnswer(math.Nextafter(7, 8)), binaryAnswer(7), averageOfBars); v != withinBound {
		t.Fatalf("%v %q", v, note)
	}
	if v, _ := compare(binaryAnswer(7.1), binaryAnswer(7), averageOfBars); v != unequal {
		t.Fatal("7.1 compares equal to 7")
	}
}

func TestErrorsCompareByWhatAClientReads(t *testing.T) {
	refusal := func() *pgconn.PgError {
		return &pgconn.PgError{Code: "42501", Message: "no", Detail: "rule", Hint: "WHERE"}
	}
	if v, note := compare(answer{err: refusal()}, answer{err: refusal()}, nil); v != equal {
		t.Fatalf("%v %q", v, note)
	}
	for name, change := range map[string]func(*pgconn.PgError){
		"code":    func(e *pgconn.PgError) { e.Code = "42000" },
		"message": func(e *pgconn.PgError) { e.Message = "" },
		"detail":  func(e *pgconn.PgError) { e.Detail = "" },
		"hint":    func(e *pgconn.PgError) { e.Hint = "" },
	} {
		changed := refusal()
		change(changed)
		if v, note := compare(answer{err: changed}, answer{err: refusal()}, nil); v != unequal || note == "" {
			t.Errorf("another %s compares as %v (%q)", name, v, note)
		}
	}
}
