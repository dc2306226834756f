package sqltext

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tokens renders a text's tokens but white space as kind(text).
func tokens(text string, conforming bool) string {
	var out []string
	s := NewScanner([]byte(text), conforming)
	for {
		t := s.Next()
		switch t.Kind {
		case EOF:
			return strings.Join(out, " ")
		case Space:
		default:
			out = append(out, fmt.Sprintf("%s(%s)", t.Kind, text[t.Start:t.End]))
		}
	}
}

func TestTokensAreCutAsPostgreSQLCutsThem(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"SELECT a, b$1 FROM t;", "word(SELECT) word(a) punct(,) word(b$1) word(FROM) word(t) punct(;)"},
		{`"a""b" U&"d\0061t"`, `quoted("a""b") quoted(U&"d\0061t")`},
		{"'it''s' N'x' E'a\\'b' U&'\\0041' B'01' X'ff'", "string('it''s') string(N'x') string(E'a\\'b') ustring(U&'\\0041') bits(B'01') hex(X'ff')"},
		{"'a'\n  'b'", "string('a'\n  'b')"},
		{"'a' -- why\n'b' 'c'", "string('a' -- why\n'b') string('c')"},
		{"E'a'\n'\\'b'", "string(E'a'\n'\\'b')"},
		{"B'1''0'", "bits(B'1') string('0')"},
		{"$$a'b$$ $t$a$$b$t$ $1 $12", "string($$a'b$$) string($t$a$$b$t$) param($1) param($12)"},
		{"a$b$c $b", "word(a$b$c) stray($) word(b)"},
		{"1 1.5 .5 1. 1e10 1.5E-3 1_000 0xFF 0o17 0b11 1..10 1ex 0x", "integer(1) decimal(1.5) decimal(.5) decimal(1.) decimal(1e10) decimal(1.5E-3) integer(1_000) integer(0xFF) integer(0o17) integer(0b11) integer(1) punct(..) integer(10) integer(1) word(ex) integer(0) word(x)"},
		{"a<->b <=> @> ->> -1", "word(a) op(<->) word(b) op(<=>) op(@>) op(->>) op(-) integer(1)"},
		{"1*-2 a@-b =- <--c", "integer(1) op(*) op(-) integer(2) word(a) op(@-) word(b) op(=) op(-) op(<) comment(--c)"},
		{"a*/*c*/b", "word(a) op(*) comment(/*c*/) word(b)"},
		{"+-+ --", "op(+) op(-) op(+) comment(--)"},
		{"a::int b:c :=", "word(a) punct(::) word(int) word(b) punct(:) word(c) punct(:=)"},
		{"/* a /* b */ c */ d -- e\n f", "comment(/* a /* b */ c */) word(d) comment(-- e) word(f)"},
		{"/* a /* b */", "unterminated(/* a /* b */)"},
		{"'abc", "unterminated('abc)"},
		{"'abc' 'd\n", "string('abc') unterminated('d\n)"},
		{`"abc`, `unterminated("abc)`},
		{"$a$ b $c$", "unterminated($a$ b $c$)"},
		{"a\\b", "word(a) stray(\\) word(b)"},
		{"größe", "word(größe)"},
		{"'a\\' 'b'", "string('a\\') string('b')"},
		{"e 'x'", "word(e) string('x')"},
		{"fooE'x'", "word(fooE) string('x')"},
		{"a#b", "word(a) op(#) word(b)"},
		{"", ""},
	} {
		if got := tokens(c.text, true); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestABackslashEscapesInPlainLiteralsWithoutConformingStrings(t *testing.T) {
	if got := tokens(`'a\' 'b'`, false); got != `string('a\' ') unterminated(b')` {
		t.Error(got)
	}
	if got := tokens(`'a\\' 'b'`, false); got != `string('a\\') string('b')` {
		t.Error(got)
	}
}

// TestScanningIsLinear bounds processor time, which does not depend on
// what else the machine does: a mebibyte takes tens of milliseconds, some more with -race,
// and many minutes if each token looks at all that is behind it.
func TestScanningIsLinear(t *testing.T) {
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const n = 1 << 20
	for _, unit := range []string{"+", "+-", "-+", "(", "'", "'' ", "''\n", "'a'\n", "$a", "$a$", "/*", "*/", "--", "\"", "E'\\", "$$", "a$", "1e", "0x", "@+", "U&'"} {
		text := []byte(strings.Repeat(unit, n/len(unit)))
		before := used()
		buf, _ := AppendShape(nil, text, true)
		if took := used() - before; took > 2*time.Second {
			t.Errorf("%d bytes of %q take %v", len(text), unit, took)
		}
		if len(buf) > 3*len(text) {
			t.Errorf("the shape of %q is %d bytes", unit, len(buf))
		}
	}
}

func TestStatementsAreCutAtTopLevelSemicolons(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"SELECT 1; SELECT 2", []string{"SELECT 1", " SELECT 2"}},
		{"SELECT ';'; -- ;\n;", []string{"SELECT ';'", " -- ;\n", ""}},
		{"CREATE RULE r AS ON INSERT TO t DO (a; b); c", []string{"CREATE RULE r AS ON INSERT TO t DO (a; b)", " c"}},
		{
			"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SELECT 3",
			[]string{"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END", " SELECT 3"},
		},
		{"BEGIN; END; COMMIT", []string{"BEGIN", " END", " COMMIT"}},
		{"DO $$ a; b $$; c", []string{"DO $$ a; b $$", " c"}},
		{"SELECT ')'); x", []string{"SELECT ')')", " x"}},
	} {
		var got []string
		for rest, more := []byte(c.text), true; more; {
			var stmt []byte
			stmt, rest, more = Next(rest, true)
			got = append(got, string(stmt))
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%q\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestTheKindOfAStatementIsInItsFirstWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want Kind
	}{
		{"", Empty},
		{" /* x */ ", Empty},
		{"; SELECT 1", Select},
		{"select 1", Select},
		{"((SELECT 1))", Select},
		{"TABLE t", Select},
		{"WITH a AS (SELECT 1) DELETE FROM t", With},
		{"/* hint */ Insert INTO t", Insert},
		{"START TRANSACTION", Begin},
		{"END", Commit},
		{"COMMIT PREPARED 'x'", CommitPrepared},
		{"ROLLBACK", Rollback},
		{"ROLLBACK WORK TO SAVEPOINT a", RollbackTo},
		{"ROLLBACK TRANSACTION TO a", RollbackTo},
		{"ROLLBACK WORK", Rollback},
		{"ROLLBACK TO a", RollbackTo},
		{"ROLLBACK PREPARED 'x'", RollbackPrepared},
		{"PREPARE TRANSACTION 'x'", PrepareTransaction},
		{"PREPARE p AS SELECT 1", Prepare},
		{"SET x = 1", Set},
		{"SET LOCAL x = 1", SetLocal},
		{"SET TRANSACTION READ ONLY", SetTransaction},
		{"SET CONSTRAINTS ALL DEFERRED", SetConstraints},
		{"ANALYZE t", Vacuum},
		{"REINDEX TABLE t", Maintain},
		{"CREATE TABLE t (a int)", DDL},
		{"MOVE 1 IN c", Fetch},
		{"\"select\" 1", Other},
		{"deallocated", Other},
		{"1", Other},
	} {
		if _, info := shapeOf(c.text); info.Kind != c.want {
			t.Errorf("%q is %s, want %s", c.text, info.Kind, c.want)
		}
	}
	for k := Other; k <= DDL; k++ {
		if k.String() == "" || k != Other && k.String() == "other" {
			t.Errorf("kind %d has no name", k)
		}
	}
	for w := range leading {
		if len(w) > longestLeading {
			t.Errorf("%s is longer than %d", w, longestLeading)
		}
	}
}
