package sqltext

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// skeletonOf cuts a text that comes in parts of so many bytes.
func skeletonOf(text string, conforming bool, part int) string {
	k := NewSkeleton(conforming, false, 4<<10)
	for b := []byte(text); len(b) > 0; {
		n := min(part, len(b))
		k.Write(b[:n:n])
		b = b[n:]
	}
	out, ok := k.Text()
	if !ok {
		return "-"
	}
	return string(out)
}

func TestALongTextIsCutToWhatItDoes(t *testing.T) {
	long := strings.Repeat("x", 300)
	lines := strings.Repeat("a line's end''s\n$tag ;-- /* \\n ", 300)
	rows := strings.Repeat("(1, 'a', NULL, -2.5, now(), ARRAY[1,2,3], 'x'::text),", 500)
	for _, c := range []struct{ text, want string }{
		{"SELECT 1", "SELECT ''"},
		{"INSERT INTO t (a, b) VALUES (1, 'x'), (2, NULL), (-3, DEFAULT)", "INSERT INTO t(a,b)VALUES(0),(0)"},
		{"INSERT INTO t VALUES " + rows + "(now())", "INSERT INTO t VALUES(0,now(),ARRAY[0],0::text),(0,now(),ARRAY[0],0::text),(now())"},
		{"INSERT INTO t VALUES ('" + strings.ReplaceAll(lines, "'", "''") + "', f('y'))", "INSERT INTO t VALUES(0,f('y'))"},
		{"INSERT INTO t VALUES (E'" + strings.ReplaceAll(lines, "'", `\'`) + "', 2)", "INSERT INTO t VALUES(0)"},
		{"INSERT INTO t VALUES ($tag$" + lines + "$tag$, g())", "INSERT INTO t VALUES(0,g())"},
		{"INSERT INTO t VALUES ('" + long + "'\n'" + long + "')", "INSERT INTO t VALUES(0)"},
		{"INSERT INTO t VALUES (E'" + long + "'\n'\\'" + long + "') -- the end", "INSERT INTO t VALUES(0)"},
		{"SELECT set_config('app.x', '" + long + "', false), set_config('app.y', 'z', false)", "SELECT set_config('app.x',''||'',false),set_config('app.y','z',false)"},
		{"SELECT f(ARRAY['a', 'b'], 1), f(ARRAY['a', 'b'], 1), 3", "SELECT f(ARRAY['a','b'],1),f(ARRAY['a','b'],1),0"},
		{"DELETE FROM t WHERE a IN (1, 2, 3) AND b = 'x'; SET app.x TO 'y'; COMMIT", "DELETE FROM t WHERE a IN(0)AND b = 0;SET app.x TO 'y';COMMIT"},
		{"DO $$ " + long + " $$", "DO $$ " + long + " $$"},
		{"CREATE FUNCTION f() RETURNS int AS '" + long + "'", "CREATE FUNCTION f()RETURNS int AS '" + long + "'"},
		{"select interval '1 day', a - -1, /* c */ \"Q\"\"q\".f(1e+5) -- x", `select interval '',a - - 0,"Q""q".f(1e+5)`},
		{"SELECT U&\"d\\0061t\"", "-"},
		{"SELECT 'abc", "-"},
		{"SELECT (1", "-"},
		{"SELECT 1)", "-"},
		{"DO '" + strings.Repeat(long, 20) + "'", "-"},
		{"SELECT " + strings.Repeat("a1 || b2 || ", 1000) + "c", "-"},
		{"", ""},
	} {
		for _, part := range []int{1, 2, 3, 7, 100, 1000, 1 << 20} {
			if got := skeletonOf(c.text, true, part); got != c.want {
				t.Errorf("%.80q in parts of %d\n got %s\nwant %s", c.text, part, got, c.want)
				break
			}
		}
	}
	if got := skeletonOf(`SELECT f('a\'b'), 2`, false, 1); got != `SELECT f('a\'b'),0` {
		t.Errorf("not conforming: %s", got)
	}
	for text, want := range map[string]bool{`SELECT 'a\b'`: false, `SELECT N'a\b'`: false, `SELECT E'a\b', $$\$$`: true, "SELECT '" + long + `\` + long + "'": false} {
		k := NewSkeleton(true, true, 4<<10)
		for i := range text {
			k.Write([]byte{text[i]})
		}
		if _, ok := k.Text(); ok != want {
			t.Errorf("%.20s when it is not sure: %t", text, ok)
		}
	}
}

// TestASkeletonDoesNotDependOnItsParts builds texts of pieces at random.
func TestASkeletonDoesNotDependOnItsParts(t *testing.T) {
	pieces := []string{
		"'", "''", "\\", "$", "$$", "$a$", "E'", "U&", "\"", "--", "\n", "/*", "*/", "(", ")", "[", "]", ",", ";", "1", "e", "+", "5", "0x", ".", "..", "::", ":",
		"select ", "values", "f", "set_config", "null", " ", "b'", strings.Repeat("q", 300), "->", "-", "x'1'",
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var b strings.Builder
		b.WriteString([]string{"select ", "insert into t values (", "do "}[r.IntN(3)])
		for range r.IntN(12) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		text, conforming := b.String(), r.IntN(2) == 0
		want := skeletonOf(text, conforming, 1<<20)
		for _, part := range []int{1, 2, 5, 150, 301} {
			if got := skeletonOf(text, conforming, part); got != want {
				t.Fatalf("%q, conforming %v, in parts of %d\n got %s\nwant %s", text, conforming, part, got, want)
			}
		}
	}
}

func BenchmarkSkeleton(b *testing.B) {
	for name, text := range map[string]string{
		"one value": "INSERT INTO t VALUES ('" + strings.Repeat("x", 1<<20) + "')",
		"rows":      "INSERT INTO t VALUES " + strings.Repeat("(1, 'some text', 2.5, NULL), ", 40000) + "(1, 'x', 2, NULL)",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for range b.N {
				k := NewSkeleton(true, false, 64<<10)
				for t := []byte(text); len(t) > 0; {
					n := min(64<<10, len(t))
					k.Write(t[:n])
					t = t[n:]
				}
				if out, ok := k.Text(); !ok {
					b.Fatalf("%.200s", out)
				}
			}
		})
	}
}
