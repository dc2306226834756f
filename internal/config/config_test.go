package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) (string, bool) {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

// load writes text to config.yaml in a directory of its own and loads it from
// there, so that problems say "config.yaml:line".
func load(t *testing.T, text string, lookup func(string) (string, bool)) (*Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load("config.yaml", lookup, "")
}

func mustLoad(t *testing.T, text string, lookup func(string) (string, bool)) *Config {
	t.Helper()
	c, err := load(t, text, lookup)
	if err != nil {
		t.Fatalf("cannot load:\n%s\n%s", text, err)
	}
	return c
}

func values(c *Config) *Config { // without the positions
	d := *c
	d.where = nil
	return &d
}

func TestTheShippedFileEqualsTheDefaults(t *testing.T) {
	shipped, err := Load("../../config.yaml", env(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := values(shipped), values(Default()); !reflect.DeepEqual(got, want) {
		t.Errorf("config.yaml:\n%s\ndefaults:\n%s", got, want)
	}
	walk(reflect.ValueOf(shipped).Elem(), "", func(key string, _ reflect.Value) {
		if key != "rules" && key != "databases" && key != "users" && !slices.Contains([]string{"auth.users", "auth.admins", "auth.hba", "auth.ident", "schema.change_log.tables", "cache.tables", "route.databases", "route.tables"}, key) && shipped.Where(key) == "default" {
			t.Errorf("config.yaml does not have the key %s", key)
		}
	})
}

func TestEveryShippedKeyHasACommentAboveIt(t *testing.T) {
	text, err := os.ReadFile("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commented := false // since the last key or empty line
	for i, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "#"):
			commented = true
		case trimmed == "":
			commented = false
		case !strings.HasPrefix(line, " ") && !commented:
			t.Errorf("config.yaml:%d: %q has no comment above it", i+1, line)
		}
	}
}

func TestNoFileNoEnvironmentIsTheDefault(t *testing.T) {
	c, err := Load("", env(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(values(c), values(Default())) {
		t.Errorf("got\n%s", c)
	}
	empty := mustLoad(t, "# nothing\nlog:\n", env())
	if !reflect.DeepEqual(values(empty), values(Default())) {
		t.Errorf("an empty file gives\n%s", empty)
	}
}

func TestAFileSetsEveryKindOfValue(t *testing.T) {
	c := mustLoad(t, `
listen: 127.0.0.1:7000
backend: {host: db, port: 6000, password: 0123}
pool:
  size: 3
  mode: Session
  query_wait_timeout: 1500ms
limits:
  max_statement: 64 KiB
auth:
  users:
    - name: app
      password: "no"
    - name: 'other'
      verifier: SCRAM-SHA-256$4096:c2FsdHNhbHQ=$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=
      server_password: |-
        a: b # c
route: {enabled: no}
rules:
  delete_without_where: warn
schema:
  pgvector: true
`, env())
	want := Default()
	want.Listen = "127.0.0.1:7000"
	want.Backend.Host, want.Backend.Port, want.Backend.Password = "db", 6000, "0123"
	want.Pool.Size, want.Pool.Mode, want.Pool.QueryWaitTimeout = 3, PoolSession, 1500*time.Millisecond
	want.Limits.MaxStatement = 64 << 10
	want.Auth.Users = []User{
		{Name: "app", Password: "no"},
		{
			Name:           "other",
			Verifier:       "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=",
			ServerPassword: "a: b # c",
		},
	}
	want.Route.Enabled = false
	want.Rules = map[string]RuleMode{"delete_without_where": RuleWarn}
	want.Schema.PGVector = On
	if !reflect.DeepEqual(values(c), values(want)) {
		t.Errorf("got\n%s\nwant\n%s", c, want)
	}
	if got := c.Where("pool.size"); got != "config.yaml:5" {
		t.Errorf("pool.size comes from %s", got)
	}
}

func TestEveryProblemIsReportedAtOnceWithItsLine(t *testing.T) {
	_, err := load(t, `listen: 6432
pool:
  siez: 5
  overflow: many
  size: 0
log:
  level: warning
backend:
  connect_timeout: 10
pol:
  size: 3
`, env("POSTGRES_PORT", "http"))
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`config.yaml:1: listen: "6432" is not host:port; write as 127.0.0.1:6432, or :6432 for every address`,
		`config.yaml:3: unknown key "siez" in pool; did you mean "size"?`,
		`config.yaml:4: pool.overflow: "many" is not a whole number`,
		`config.yaml:5: pool.size is 0; it must be from 1 to 10000`,
		`config.yaml:7: log.level: "warning" is not one of debug, info, warn, error; did you mean "warn"?`,
		`config.yaml:9: backend.connect_timeout: "10" has no unit; write 10s for seconds, or 10ms, 10m, 10h`,
		`config.yaml:10: unknown key "pol"; did you mean "pool"?`,
		`POSTGRES_PORT: "http" is not a whole number`,
	}
	got := strings.Split(err.Error(), "\n")
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || g == w
		}
		if !found {
			t.Errorf("missing: %s", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%s", len(got), len(want), err)
	}
}

func TestAProblemSaysWhatWouldBeRight(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := load(t, text, env())
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot:  %v\nwant: %s", text, err, want)
		}
	}
	f("pool_size: 5", `config.yaml:1: unknown key "pool_size"; did you mean "pool.size"?`)
	f("\npool:\n  pol_size: 5", `config.yaml:3: unknown key "pol_size" in pool; did you mean "pool.size"?`)
	f("host: db", `config.yaml:1: unknown key "host"; did you mean "backend.host"?`)
	f("tls: {zzzzzz: 1}", `config.yaml:1: unknown key "zzzzzz" in tls; the keys here are cert, client_ca, key, min_version, mode`)
	f("pool: 5", `config.yaml:1: pool is a section; write its keys below it, indented, as "key: value" lines`)
	f("pool:\n  size: [1]", `config.yaml:2: pool.size takes one plain value, not a list`)
	f("pool:\n  size:", `config.yaml:2: pool.size: has no value; give one, or leave the key out for its default`)
	f("auth:\n  users: bob", `config.yaml:2: auth.users is a list; write each entry below it, as "- name: …"`)
	f("auth:\n  users:\n  - name: bob\n", `config.yaml:3: user "bob" has neither password nor verifier; give one`)
	f("auth:\n  users:\n  - name: bob\n    verifier: md5abc\n", `config.yaml:3: the verifier of user "bob" is not one; it looks like SCRAM-SHA-256$4096:<salt>$<stored key>:<server key> or md5<hash>, as in pg_authid.rolpassword`)
	f("auth:\n  users:\n  - {name: a, password: x}\n  - {name: a, password: y}", `config.yaml:4: user "a" is listed twice, first as auth.users[0]`)
	f("auth:\n  admins: [root, '']", `config.yaml:2: auth.admins[1] is empty; give a user's name`)
	f("auth:\n  query: false\n", `config.yaml:2: nobody could log in: auth.query is false, auth.users is empty and backend.password is not set; set one of them`)
	f("cache:\n  bytes: 64 potatoes", `config.yaml:2: cache.bytes: "64 potatoes" is not a size; write a whole number with a unit, as 64MiB (B, kB, MB, GB, KiB, MiB, GiB)`)
	f("cache:\n  max_entry: 1GiB", `config.yaml:2: cache.max_entry is 1GiB; it must be at most cache.bytes, 64MiB`)
	f("route:\n  float: approx", `config.yaml:2: route.float: "approx" is not one of reassociate, exact`)
	f("route:\n  choice: never", `config.yaml:2: route.choice: "never" is not one of cost, always`)
	f("tls:\n  mode: require", `config.yaml:2: tls.mode is require but tls.cert and tls.key are not set; name the PEM files`)
	f("backend:\n  sslrootcert: nowhere.pem", `config.yaml:2: backend.sslrootcert: cannot read nowhere.pem: no such file or directory`)
	f("backend:\n  sslmode: verify-full\n  host: /run/postgresql", `config.yaml:2: backend.sslmode: verify-full cannot hold over the Unix socket /run/postgresql; write disable`)
	f("listen_unix: run", `config.yaml:1: listen_unix: "run" is not the path of a folder from /, of at most 92 bytes; write as /run/qvpgw`)
	f("http: 127.0.0.1:6432\nlisten: 127.0.0.1:6432", `config.yaml:1: http and listen are both "127.0.0.1:6432"; give them different ports`)
	f("catalog: {refresh: 0s}", `config.yaml:1: catalog.refresh is 0s; it must be at least 100ms`)
	f("rules:\n  a rule: off", `config.yaml:2: "a rule" cannot be a rule's name; they are of a-z, 0-9, _ and -`)
	f("rules:\n  r: maybe", `config.yaml:2: rules.r: "maybe" is not one of off, warn, refuse`)
	f("log:\n  level: &x info", `config.yaml:2: log.level takes one plain value, not an anchor or alias`)
	f("log: {}\n---\npool: {}", `config.yaml:2: a second YAML document; a configuration is one`)
	f("just a text", `config.yaml:1: not a configuration; write "key: value" lines`)
	f("pool:\n  size: 1\n  size: 2", `config.yaml:3: not YAML: mapping key "size" already defined at [2:3]`)
}

func TestRulesAreComparedWithTheRuleSet(t *testing.T) {
	c := mustLoad(t, "rules:\n  delete_without_wher: off\n  select_star: warn\n", env())
	err := c.CheckRules([]string{"delete_without_where", "select_star"})
	want := `config.yaml:2: unknown rule "delete_without_wher"; did you mean "delete_without_where"?`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := c.CheckRules([]string{"delete_without_wher", "select_star"}); err != nil {
		t.Error(err)
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	t.Chdir(t.TempDir())
	f := func(path, want string) {
		t.Helper()
		if _, err := Load(path, env(), ""); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	f("none.yaml", "none.yaml: cannot read the configuration: no such file or directory")
	f(".", ".: cannot read the configuration: is a directory")
	if err := os.WriteFile("big.yaml", make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, deep := range []string{strings.Repeat("[", 1000), strings.Repeat("- ", 1000), "a:\n" + strings.Repeat(" ", 200) + "b:", strings.Repeat("{a: ", 1000)} {
		if err := os.WriteFile("deep.yaml", []byte(deep), 0o600); err != nil {
			t.Fatal(err)
		}
		f("deep.yaml", fmt.Sprintf("deep.yaml: cannot read the configuration: line %d is nested deeper than a configuration can be", []int{1, 1, 2, 1}[i]))
	}
	f("big.yaml", fmt.Sprintf("big.yaml: cannot read the configuration: it has %d bytes, more than a configuration can have", maxFile+1))
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	c := mustLoad(t, `
backend: {password: hunter2}
auth:
  users:
    - {name: app, password: hunter2, server_password: hunter2}
`, env())
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", c.Backend.Password, "c", c, "u", c.Auth.Users)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "p", c.Backend.Password, "c", c, "u", c.Auth.Users)
	for _, text := range []string{
		c.String(), fmt.Sprint(*c), fmt.Sprintf("%v %+v %#v %v %+v", c, *c, *c, c.Auth, c.Backend), string(asJSON), log.String(), fmt.Sprint(c.Items()),
	} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password shows in %s", text)
		}
	}
	if string(c.Backend.Password) != "hunter2" {
		t.Error("the password itself is lost")
	}
	_, err = load(t, "backend:\n  password: [hunter2]\nauth:\n  users:\n  - {name: x, verifier: hunter2}", env())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

func TestTheBackendsUserMayLogInWithoutAnEntry(t *testing.T) {
	c := Default()
	if got := c.ClientUsers(); len(got) != 0 {
		t.Errorf("without a password: %v", got)
	}
	c.Backend.Password = "x"
	if got := c.ClientUsers(); len(got) != 1 || got[0].Name != "postgres" || got[0].Password != "x" {
		t.Errorf("got %v", got)
	}
	c.Auth.Users = []User{{Name: "postgres", Password: "other"}}
	if got := c.ClientUsers(); len(got) != 1 || got[0].Password != "other" {
		t.Errorf("an entry of its own: %v", got)
	}
}

func TestTheBackendsUserIsTheAdminUnlessOthersAre(t *testing.T) {
	c := Default()
	if got := c.ConsoleUsers(); len(got) != 1 || got[0] != "postgres" {
		t.Errorf("got %v", got)
	}
	c = mustLoad(t, "auth: {admins: [ops, \"${WHO:-root}\"]}", env())
	if got := c.ConsoleUsers(); len(got) != 2 || got[0] != "ops" || got[1] != "root" {
		t.Errorf("got %v", got)
	}
}

func TestItemsGiveEveryKeyWithItsDefaultAndOrigin(t *testing.T) {
	c := mustLoad(t, "pool: {size: 3}\nrules: {r: off}\nauth: {users: [{name: a, password: b}]}", env("POSTGRES_PASSWORD", "x"))
	got := map[string]Item{}
	for _, item := range c.Items() {
		got[item.Key] = item
	}
	for _, want := range []Item{
		{"pool.size", "3", "20", "config.yaml:1"},
		{"pool.query_wait_timeout", "2m0s", "2m0s", "default"},
		{"backend.password", "********", "", "POSTGRES_PASSWORD"},
		{"cache.bytes", "64MiB", "64MiB", "default"},
		{"rules.r", "off", "", "config.yaml:2"},
		{"auth.users[0]", "a", "", "config.yaml:3"},
	} {
		if got[want.Key] != want {
			t.Errorf("got %+v, want %+v", got[want.Key], want)
		}
	}
}

func TestSizesPrintAsTheyAreWritten(t *testing.T) {
	f := func(text string, want Bytes, printed string) {
		t.Helper()
		got, err := parseBytes(text)
		if err != nil || got != want || got.String() != printed {
			t.Errorf("%s: got %d (%s), %v", text, got, got, err)
		}
	}
	f("0", 0, "0B")
	f("1", 1, "1B")
	f("1500", 1500, "1500B")
	f("1kB", 1000, "1000B")
	f("64MiB", 64<<20, "64MiB")
	f("1024MiB", 1<<30, "1GiB")
	f("3GB", 3e9, "3000000000B")
	for _, bad := range []string{"-1", "1.5MiB", "9999999999GiB", "MiB", "1 TiB", "0x10"} {
		if _, err := parseBytes(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestTheFileNameInProblemsIsThePathAsGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "my.yaml")
	if err := os.WriteFile(path, []byte("x: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path, env(), "")
	if err == nil || !strings.HasPrefix(err.Error(), path+":1: ") {
		t.Errorf("got %v", err)
	}
}

func TestAVerifierIsOfPostgreSQLsForm(t *testing.T) {
	const keys = "$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
	if !isVerifier("SCRAM-SHA-256$4096:c2FsdA==" + keys) {
		t.Error("a verifier is refused")
	}
	for _, bad := range []string{
		"", "md5abc", "SCRAM-SHA-256$4096:c2FsdA==", "SCRAM-SHA-1$4096:c2FsdA==" + keys, "SCRAM-SHA-256$0:c2FsdA==" + keys,
		"SCRAM-SHA-256$x:c2FsdA==" + keys, "SCRAM-SHA-256$4096:" + keys, "SCRAM-SHA-256$4096" + keys,
		"SCRAM-SHA-256$4096:c2Fs\ndA==" + keys, "SCRAM-SHA-256$4096:c2FsdA==" + keys[:45], "SCRAM-SHA-256$4096:c2FsdA==" + keys + "$",
		"SCRAM-SHA-256$4096:c2FsdA==$c2FsdA==:c2FsdA==",
	} {
		if isVerifier(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}
