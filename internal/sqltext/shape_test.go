package sqltext

import (
	"bytes"
	"strings"
	"testing"
)

func shapeOf(text string) (string, Info) {
	b, info := AppendShape(nil, []byte(text), true)
	return string(b), info
}

func TestTextsThatDifferInLiteralsAloneHaveOneShape(t *testing.T) {
	for _, c := range [][2]string{
		{"SELECT a FROM t WHERE b = 1", "select A\n from T -- x\n where B=2"},
		{"SELECT 'a'", "SELECT $$b c$$"},
		{"SELECT 1.5", "SELECT .5e3"},
		{"INSERT INTO t VALUES ('a', 1)", "INSERT INTO t VALUES (E'\\n',99)"},
		{"SELECT B'1', X'f'", "select b'0',x'aa'"},
	} {
		a, _ := shapeOf(c[0])
		b, _ := shapeOf(c[1])
		if a != b {
			t.Errorf("%q and %q differ:\n%q\n%q", c[0], c[1], a, b)
		}
	}
}

func TestTextsThatMayParseDifferentlyHaveDifferentShapes(t *testing.T) {
	for _, c := range [][2]string{
		{"SELECT 1", "SELECT 1.0"},
		{"SELECT 1", "SELECT '1'"},
		{"SELECT 'a'", "SELECT U&'a'"},
		{"SELECT 'a'", "SELECT B'1'"},
		{"SELECT $1", "SELECT $2"},
		{`SELECT "a"`, `SELECT "A"`},
		{`SELECT "a"`, `SELECT a`},
		{"SELECT a b", "SELECT ab"},
		{"SELECT 'a' 'b'", "SELECT 'a'\n'b'"},
		{"SELECT true", "SELECT false"},
		{"SELECT a <-> b", "SELECT a < - > b"},
		{"SELECT 1; SELECT 2", "SELECT 1 SELECT 2"},
		{"SELECT NULL", "SELECT 0"},
	} {
		a, _ := shapeOf(c[0])
		b, _ := shapeOf(c[1])
		if a == b {
			t.Errorf("%q and %q have one shape %q", c[0], c[1], a)
		}
	}
}

func TestStatementsAreCountedAndTheFirstHasTheKind(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		kind Kind
	}{
		{"", 0, Empty},
		{" ; -- x\n ; ", 0, Empty},
		{"; SELECT 1 ;", 1, Select},
		{"BEGIN; SELECT 1; COMMIT", 3, Begin},
		{"ROLLBACK", 1, Rollback},
		{"SET LOCAL a = 1; SELECT", 2, SetLocal},
	} {
		_, info := shapeOf(c.text)
		if info.Statements != c.n || info.Kind != c.kind {
			t.Errorf("%q: %d statements, first %s", c.text, info.Statements, info.Kind)
		}
	}
}

func TestLiteralsThatMayMeanNowAreSeen(t *testing.T) {
	for text, want := range map[string]bool{
		"SELECT 'now'":                          true,
		"SELECT ' NOW '::timestamptz":           true,
		"SELECT $$Today$$":                      true,
		"SELECT N'tomorrow'":                    true,
		"SELECT 'yesterday 04:05'":              true,
		"SELECT 'today04:05'":                   true,
		"SELECT '20240101allballs'":             true,
		"SELECT '[now,infinity)'":               true,
		"SELECT E'\\156ow'":                     true, // n, o, w
		"SELECT U&'\\006eow'":                   true,
		"SELECT 'n'\n'ow'":                      true,
		"SELECT E'plain'":                       false,
		"SELECT 'unknown', 'snow', 'knows'":     false,
		"SELECT now()":                          false,
		"SELECT \"now\"":                        false,
		"SELECT '2024-01-01' -- now\n":          false,
		"SELECT '[0.1,0.2]' /* 'now' */":        false,
		"SELECT 'todays', 'nowhere', 'allball'": false,
	} {
		if _, info := shapeOf(text); info.Moving != want {
			t.Errorf("%q: moving %t, want %t", text, info.Moving, want)
		}
	}
}

func TestBackslashesInPlainLiteralsAreSeen(t *testing.T) {
	for text, want := range map[string]bool{
		`SELECT 'a\b'`: true, `SELECT n'\'`: true, `SELECT E'a\b'`: false,
		`SELECT $$a\b$$`: false, `SELECT 'ab'`: false,
	} {
		if _, info := shapeOf(text); info.Backslash != want {
			t.Errorf("%q: backslash %t, want %t", text, info.Backslash, want)
		}
	}
}

func TestMalformedTextsAreSeen(t *testing.T) {
	for text, want := range map[string]bool{
		"SELECT 'a": true, "SELECT /* a": true, "SELECT \x01": true, "SELECT 'a\xff'": true,
		"SELECT \\": true, "SELECT 'größe'": false, "SELECT 1": false, "SELECT $ 1": true,
	} {
		if _, info := shapeOf(text); info.Malformed != want {
			t.Errorf("%q: malformed %t, want %t", text, info.Malformed, want)
		}
	}
}

func TestTheGuardSeesEveryWayToMakeATreeDeep(t *testing.T) {
	const n = 1000
	r := strings.Repeat
	for name, text := range map[string]string{
		"brackets":    "SELECT " + r("(", n) + "1" + r(")", n),
		"subscripts":  "SELECT " + r("a[", n) + "1" + r("]", n),
		"sum":         "SELECT 1" + r("+1", n),
		"signs":       "SELECT " + r("- ", n) + "1",
		"glued signs": "SELECT " + r("+-", n) + "1",
		"not":         "SELECT " + r("NOT ", n) + "true",
		"casts":       "SELECT 1" + r("::int", n),
		"collate":     "SELECT a" + r(" COLLATE c", n),
		"is null":     "SELECT a" + r(" IS NULL", n),
		"isnull":      "SELECT a" + r(" ISNULL", n),
		"zones":       "SELECT a" + r(" AT TIME ZONE b", n),
		"between":     "SELECT a" + r(" BETWEEN b AND c IS TRUE", n),
		"union":       "SELECT a, b" + r(" UNION SELECT a, b", n),
		"except":      "SELECT a" + r(" EXCEPT SELECT a", n),
		"joins":       "SELECT 1 FROM a" + r(" JOIN b ON f(x, y)", n),
		"case":        "SELECT " + r("CASE WHEN a THEN ", n) + "1" + r(" END", n),
		"case test":   "SELECT " + r("CASE ", n) + "1" + r(" WHEN 1 THEN 1 END", n),
		"explain":     r("EXPLAIN ", n) + "SELECT 1",
		"operator":    "SELECT 1" + r(" OPERATOR(pg_catalog.+) 1", n),
		"in brackets": r("SELECT (", 100) + "1" + r("+1", n) + r(")", 100),
	} {
		if _, info := shapeOf(text); info.Depth < n && info.Chain < n {
			t.Errorf("%s: depth %d, chain %d, want %d of one", name, info.Depth, info.Chain, n)
		}
	}
}

func TestTheGuardSparesLongButFlatTexts(t *testing.T) {
	const n = 5000
	r := strings.Repeat
	for name, text := range map[string]string{
		"list":       "SELECT 1" + r(", 1 + 2", n),
		"rows":       "INSERT INTO t VALUES (1)" + r(", (1, -1)", n),
		"or":         "SELECT 1 WHERE a = 1" + r(" OR a = 2", n),
		"and":        "SELECT 1 WHERE a = 1" + r(" AND b BETWEEN 1 AND 2", n),
		"statements": r("SELECT 1 + 1; ", n),
		"cases":      "SELECT 1" + r(", CASE WHEN a THEN b END", n),
	} {
		if _, info := shapeOf(text); info.Depth > 10 || info.Chain > 10 {
			t.Errorf("%s: depth %d, chain %d", name, info.Depth, info.Chain)
		}
	}
}

var known = []byte("SELECT time_bucket('1 hour', timestamp) AS bucket, symbol, first(open, timestamp), max(high), min(low), last(close, timestamp), sum(volume) FROM market_data WHERE symbol = 'SPY' AND timestamp >= '2024-01-01' GROUP BY bucket, symbol ORDER BY bucket DESC")

func TestAShapeTakesNoMemory(t *testing.T) {
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf, _ = AppendShape(buf[:0], known, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// On two cores of a shared machine, Go 1.26: 3 µs of CPU.
func BenchmarkShape(b *testing.B) {
	buf := make([]byte, 0, 1024)
	b.SetBytes(int64(len(known)))
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendShape(buf[:0], known, true)
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{
		"SELECT 1", "SELECT 'a''b' || E'\\'' || $t$x$t$ -- c\n", "/* /* */ */ +-@- 1..2 .5e-3 0x_f",
		"U&\"a\" UESCAPE '!' B'01'\n'1'", "'a' -- x\n'b'", "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END; x", "\x00\xff$1$$",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, conforming bool) {
		s := NewScanner(text, conforming)
		at := 0
		for {
			tok := s.Next()
			if tok.Start != at {
				t.Fatalf("token %s starts at %d, not %d", tok.Kind, tok.Start, at)
			}
			if tok.Kind == EOF {
				break
			}
			if tok.End <= tok.Start || tok.End > len(text) {
				t.Fatalf("token %s is [%d, %d) of %d", tok.Kind, tok.Start, tok.End, len(text))
			}
			if tok.Kind == String && (tok.Body <= tok.Start || tok.Body > tok.End) {
				t.Fatalf("body at %d of a string [%d, %d)", tok.Body, tok.Start, tok.End)
			}
			at = tok.End
		}
		if at != len(text) {
			t.Fatalf("tokens end at %d of %d", at, len(text))
		}
		shape, info := AppendShape(nil, text, conforming)
		again, info2 := AppendShape(nil, text, conforming)
		if !bytes.Equal(shape, again) || info != info2 {
			t.Fatal("a shape is not a function of the text")
		}
		total, more := 0, true
		for rest := text; more; {
			var stmt []byte
			stmt, rest, more = Next(rest, conforming)
			total += len(stmt)
			if more {
				total++
			}
		}
		if total != len(text) {
			t.Fatalf("statements are %d bytes of %d", total, len(text))
		}
	})
}
