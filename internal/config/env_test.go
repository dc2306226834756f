package config

import (
	"os"
	"strings"
	"testing"
)

func TestTheEnvironmentIsExpandedInValues(t *testing.T) {
	lookup := env("HOST", "db1", "EMPTY", "", "TRICK", "${HOST}\nlisten: evil")
	f := func(text, want string) {
		t.Helper()
		got, err := expand(text, lookup)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
	f("plain $HOST $$ $", "plain $HOST $$ $")
	f("${HOST}", "db1")
	f("a${HOST}b${HOST}c", "adb1bdb1c")
	f("${NONE:-x}", "x")
	f("${NONE:-}", "")
	f("${EMPTY}", "")
	f("${EMPTY:-x}", "x")
	f("${HOST:-x}", "db1")
	f("${NONE:-a:-b}", "a:-b")
	f("$${HOST}", "${HOST}")
	f("SCRAM-SHA-256$4096:x$y", "SCRAM-SHA-256$4096:x$y")
	f("${TRICK}", "${HOST}\nlisten: evil")

	bad := func(text, want string) {
		t.Helper()
		if _, err := expand(text, lookup); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
	bad("${NONE}", "the environment has no NONE; set it, or write ${NONE:-default}")
	bad("${HOST", "${ without its }")
	bad("${}", "names no environment variable")
	bad("${1A}", "names no environment variable")
	bad("${A-B}", "names no environment variable")
}

func TestExpansionCannotChangeTheSyntax(t *testing.T) {
	c := mustLoad(t, "backend:\n  password: ${P}\n", env("P", "x\nlisten: evil # [\" {"))
	if string(c.Backend.Password) != "x\nlisten: evil # [\" {" || c.Listen != ":6432" {
		t.Errorf("got %q, listen %q", string(c.Backend.Password), c.Listen)
	}
	if _, err := load(t, "backend:\n  host: ${NONE}", env()); err == nil ||
		err.Error() != "config.yaml:2: backend.host: the environment has no NONE; set it, or write ${NONE:-default}" {
		t.Errorf("got %v", err)
	}
}

func TestTheFamiliarNamesWorkWithAndWithoutAFile(t *testing.T) {
	lookup := env(
		"POSTGRES_HOST", "db", "POSTGRES_PORT", "6000", "POSTGRES_DB", "market", "POSTGRES_USER", "app",
		"POSTGRES_PASSWORD", "s3cret", "POSTGRES_POOL_SIZE", "7", "POSTGRES_MAX_OVERFLOW", "0",
		"TIMESCALEDB_ENABLED", "true", "PGVECTOR_ENABLED", "0",
	)
	check := func(c *Config, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b := c.Backend
		if b.Host != "db" || b.Port != 6000 || b.Database != "market" || b.User != "app" || b.Password != "s3cret" ||
			c.Pool.Size != 7 || c.Pool.Overflow != 0 || c.Schema.TimescaleDB != On || c.Schema.PGVector != Off {
			t.Errorf("got\n%s", c)
		}
		if got := c.Where("backend.port"); got != "POSTGRES_PORT" {
			t.Errorf("backend.port comes from %s", got)
		}
	}
	check(Load("", lookup, ""))
	check(Load("../../config.yaml", lookup, ""))
	check(load(t, "backend: {host: other, port: 1}\npool: {size: 99}", lookup))
}

func TestDotenvIsReadAndTheEnvironmentWins(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "\ufeff# comment\r\n\nPOSTGRES_HOST=fromfile # why\nexport POSTGRES_USER = 'a $b'\nPOSTGRES_PASSWORD=\"x\\\"\\n\\$y\" # z\nPOSTGRES_PORT=1\nPOSTGRES_DB=\n"
	if err := os.WriteFile(".env", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("config.yaml", []byte("log: {format: \"${FORMAT:-json}\"}\nbackend: {sslmode: \"${POSTGRES_SSL:-allow}\"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load("config.yaml", env("POSTGRES_PORT", "2"), ".env")
	if err != nil {
		t.Fatal(err)
	}
	b := c.Backend
	if b.Host != "fromfile" || b.User != "a $b" || string(b.Password) != "x\"\n$y" || b.Port != 2 || b.Database != "postgres" || c.Log.Format != LogJSON {
		t.Errorf("got %+v, password %q", b, string(b.Password))
	}
	if c, err = Load("", env(), "no-such-file"); err != nil || c.Backend.Host != "127.0.0.1" {
		t.Errorf("without the file: %v", err)
	}
}

func TestABadDotenvLineIsReportedWithoutItsText(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(".env", []byte("A=1\nhunter2\nB='hunter2\nC=\"x\" hunter2\n1D=hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load("", env(), ".env")
	want := ".env:2: not a NAME=value line\n.env:3: the value of B has no closing quote\n.env:4: text after the closing quote of C\n.env:5: not a NAME=value line"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err = Load("", env(), "."); err == nil || err.Error() != ".: cannot read it: is a directory" {
		t.Errorf("got %v", err)
	}
}
