package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/config"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

// tryLogin logs in and runs a query; it returns the query's value or the error's
// SQLSTATE.
func tryLogin(t *testing.T, addr, user, password, options string) string {
	t.Helper()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: addr, Path: "/postgres", RawQuery: "sslmode=disable&" + options}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := pgconn.Connect(ctx, u.String())
	if err != nil {
		return errorCode(err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	return first(t, c, "SELECT system_user")
}

// errorCode is an error's SQLSTATE, or its text.
func errorCode(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return err.Error()
}

// TestUsersAreLookedUpOnTheServer has roles that only the server knows, and a
// schema that wants to answer for it.
func TestUsersAreLookedUpOnTheServer(t *testing.T) {
	cluster := pgtest.Native(t, pgtest.HBA("host all asked,expired,sleeping,empty all scram-sha-256"))
	run(t, connect(t, cluster.DSN("postgres")), `
CREATE ROLE asked LOGIN PASSWORD 'right';
CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2020-01-01';
CREATE ROLE sleeping NOLOGIN PASSWORD 'right';
CREATE ROLE empty LOGIN;
CREATE ROLE thief LOGIN PASSWORD 'stolen';
CREATE SCHEMA evil;
CREATE VIEW evil.pg_shadow AS SELECT 'asked'::name AS usename, (SELECT rolpassword FROM pg_authid WHERE rolname = 'thief') AS passwd;
CREATE FUNCTION evil.always(name, name) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.always);
GRANT USAGE ON SCHEMA evil TO PUBLIC;
ALTER ROLE postgres SET search_path = evil, pg_catalog`)
	text := func(more string) string {
		return fmt.Sprintf(`
listen: "%%s"
http: ""
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: disable}
schema: {migrate: false}
%s`, cluster.Port, pgtest.Superuser, more)
	}
	const in = "scram-sha-256:asked" // and into the server, by the proof
	_, addr := startGateway(t, text(""))
	for _, c := range []struct{ user, password, options, want string }{
		{"asked", "right", "", in},
		{"asked", "right", "options=-csearch_path%3Devil", in},
		{"asked", "wrong", "", "28P01"},
		{"asked", "stolen", "", "28P01"},
		{"expired", "right", "", "28P01"},
		{"sleeping", "right", "", "28P01"},
		{"empty", "right", "", "28P01"},
		{"nobody", "right", "", "28P01"},
		{"x' OR true --", "right", "", "28P01"},
	} {
		if got := tryLogin(t, addr, c.user, c.password, c.options); got != c.want {
			t.Errorf("%s with %s %s: got %s, want %s", c.user, c.password, c.options, got, c.want)
		}
	}
	_, own := startGateway(t, text(`auth: {query_text: "SELECT usename, passwd FROM pg_shadow WHERE usename = $1"}`))
	for password, want := range map[string]string{"right": in, "stolen": "28P01"} {
		for _, options := range []string{"", "options=-csearch_path%3Devil"} {
			if got := tryLogin(t, own, "asked", password, options); got != want {
				t.Errorf("a view before pg_catalog's: %s with %s got %s, want %s", password, options, got, want)
			}
		}
	}
	function := readPage(t, filepath.Join(repository, "docs", "authentication.md")).blocks("sql")
	run(t, connect(t, cluster.DSN("postgres")), "ALTER ROLE postgres RESET search_path")
	run(t, connect(t, cluster.DSN("postgres")), "CREATE ROLE looker LOGIN; "+function[0].text+"; GRANT EXECUTE ON FUNCTION qvpgw_secret(name) TO looker")
	_, looked := startGateway(t, strings.Replace(text(`auth: {query_text: "SELECT * FROM public.qvpgw_secret($1)"}`), "user: "+pgtest.Superuser, "user: looker", 1))
	for password, want := range map[string]string{"right": in, "wrong": "28P01"} {
		if got := tryLogin(t, looked, "asked", password, ""); got != want {
			t.Errorf("by a function of one's own: %s got %s, want %s", password, got, want)
		}
	}
	_, none := startGateway(t, text(`auth: {query: false, users: [{name: other, password: x}]}`))
	if got := tryLogin(t, none, "asked", "right", ""); got != "28P01" {
		t.Errorf("auth.query is false, and the server was asked: %s", got)
	}

	run(t, connect(t, cluster.DSN("postgres")), "ALTER ROLE asked PASSWORD 'changed'")
	got := ""
	for limit := time.Now().Add(15 * time.Second); got != in && time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		got = tryLogin(t, addr, "asked", "changed", "")
	}
	if got != in {
		t.Errorf("a changed password does not work: %s", got)
	}
	if got := tryLogin(t, addr, "asked", "right", ""); got != "28P01" {
		t.Errorf("the password before the change: %s", got)
	}
}

// TestRulesAreReadWithTheConfiguration starts nothing: what is wrong is said with
// its line.
func TestRulesAreReadWithTheConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]string{
		"auth:\n  hba:\n    - host all all all trust\n    - host all all nowhere trust\n": `config.yaml:4: auth.hba[1]: "nowhere" is not an address`,
		"auth:\n  ident:\n    - a b\n":                          `config.yaml:3: auth.ident[0]: "a b" is not MAP`,
		"auth:\n  hba:\n    - hostssl all all all cert\n":       "auth.hba asks for client certificates; set tls.mode and tls.client_ca",
		"auth:\n  hba:\n    - hostssl all all all cert map=m\n": `auth.hba uses the map "m", which auth.ident does not have`,
	} {
		if err := os.WriteFile("config.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load("config.yaml", func(string) (string, bool) { return "", false }, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := new(program).guard(cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %s", text, err, want)
		}
	}
}

// TestSecretsAreNowhereToBeSeen gives every secret a marker, takes every path on
// which one goes, right and wrong, and looks at all that was written.
func TestSecretsAreNowhereToBeSeen(t *testing.T) {
	root := pgtest.Tools(t)
	f := newTLSFiles(t, root)
	cluster := f.cluster(t, "host all marked_server,marked_proof,marked_wrong all scram-sha-256", "host all marked_md5 all md5")
	db := connect(t, cluster.DSN("postgres"))
	run(t, db, `
CREATE ROLE marked_server SUPERUSER LOGIN PASSWORD 'marker''backend';
CREATE ROLE marked_proof LOGIN PASSWORD 'marker-proof';
CREATE ROLE marked_wrong LOGIN PASSWORD 'other';
SET password_encryption = 'md5';
CREATE ROLE marked_md5 LOGIN PASSWORD 'marker-md5'`)
	secrets := []string{"marker", wire.MD5Secret("marked_wrong", "marker-wrong"), wire.MD5Secret("marked_server", "marker'backend")}
	for _, role := range []string{"marked_server", "marked_proof", "marked_wrong", "marked_md5"} {
		stored := first(t, db, "SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'")
		for _, part := range strings.FieldsFunc(stored, func(r rune) bool { return r == '$' || r == ':' }) {
			if len(part) > 20 {
				secrets = append(secrets, part)
			}
		}
	}
	httpAddr := freeAddr(t)
	text := fmt.Sprintf(`
listen: "%%s"
http: %q
log: {level: debug}
backend: {host: 127.0.0.1, port: %d, database: postgres, user: marked_server, password: "marker'backend", sslmode: require}
schema: {migrate: false}
tls: {mode: allow, cert: %[3]s/server.crt, key: %[3]s/server.key}
auth:
  hba:
    - hostssl all marked_server all scram-sha-256-plus
    - hostssl all all all password
    - host all marked_md5 all md5
    - host all trusted all trust
    - host all all all scram-sha-256
  users:
    - {name: marked_wrong, password: marker-wrong, server_password: marker-server}
    - {name: marked_md5, verifier: %[4]s, server_password: marker-md5}
`, httpAddr, cluster.Port, f.here, first(t, db, "SELECT rolpassword FROM pg_authid WHERE rolname = 'marked_md5'"))
	g := launch(t, text)
	var out strings.Builder
	try := func(user, password, options string) {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: g.addr, Path: "/postgres", RawQuery: options}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := pgconn.Connect(ctx, u.String())
		if err != nil {
			fmt.Fprintln(&out, "login:", err)
			return
		}
		defer c.Close(context.WithoutCancel(ctx))
		fmt.Fprintln(&out, user, first(t, c, "SELECT system_user"), first(t, c, "SHOW qvpgw.login"))
	}
	for _, options := range []string{"sslmode=disable", "sslmode=require"} {
		for _, user := range []string{"marked_server", "marked_proof", "marked_wrong", "marked_md5", "trusted", "nobody"} {
			for _, password := range []string{"marker'backend", "marker-proof", "marker-wrong", "marker-md5", "marker-unknown"} {
				try(user, password, options)
			}
		}
	}
	entered := out.String()
	for _, want := range []string{
		"marked_server scram-sha-256:marked_server scram-sha-256\n", "marked_proof scram-sha-256:marked_proof scram-sha-256\n",
		"marked_server scram-sha-256:marked_server scram-sha-256-plus TLS 1.3\n", "marked_md5 md5:marked_md5 md5\n", "marked_proof scram-sha-256:marked_proof password TLS 1.3\n", "28P01", "marked_wrong",
	} {
		if !strings.Contains(entered, want) {
			t.Errorf("no login gave %q:\n%s", want, entered)
		}
	}
	speaking, err := pgconn.Connect(t.Context(), "postgres://marked_server:marker%27backend@"+g.addr+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer speaking.Close(context.Background())
	for _, sql := range []string{
		"ALTER ROLE marked_proof PASSWORD 'marker-new'", "ALTER ROLE marked_proof PASWORD 'marker-typo'", "SELECT set_config('app.secret', 'marker-setting', false)",
		"DO $$ BEGIN EXECUTE $q$SELECT 'marker-code'$q$; END $$", "CREATE SUBSCRIPTION s CONNECTION 'password=marker-connection' PUBLICATION p WITH (connect = false)",
	} {
		for range 2 { // known the second time
			_, _ = speaking.Exec(t.Context(), sql).ReadAll()
		}
	}
	console, err := pgconn.Connect(t.Context(), "postgres://marked_server:marker%27backend@"+g.addr+"/qvpgw?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close(context.Background())
	for _, topic := range []string{"HELP", "CONFIG", "CLIENTS", "SERVERS", "POOLS", "USERS", "DATABASES", "STATS", "LISTS", "LOGINS", "PINS", "CACHE", "VERSION"} {
		results, err := console.Exec(t.Context(), "SHOW "+topic).ReadAll()
		fmt.Fprintln(&out, topic, err)
		for _, r := range results {
			for _, row := range r.Rows {
				fmt.Fprintf(&out, "%s\n", row)
			}
		}
	}
	if !strings.Contains(out.String(), "backend.password") {
		t.Error("SHOW CONFIG was not seen")
	}
	for _, path := range []string{"/metrics", "/api/status", "/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
		r, err := http.Get("http://" + httpAddr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		fmt.Fprintln(&out, path, string(body))
	}
	// Broken configurations, and the commands that log in by themselves.
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	good := fmt.Sprintf(text, "127.0.0.1:0")
	for name, edit := range map[string][2]string{
		"as it is":        {"", ""},
		"another host":    {"host: 127.0.0.1", "host: 127.0.0.9"},
		"wrong password":  {"marker'backend\"", "marker''\\\"wrong\""},
		"no such CA":      {"sslmode: require", "sslmode: verify-ca, sslrootcert: " + f.here + "/server.key"},
		"a broken user":   {"name: marked_md5, verifier: ", "name: marked_md5, verifier: marker"},
		"a line too many": {"users:", "users: marker\n  x:"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(strings.Replace(good, edit[0], edit[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"doctor"}, {"explain", "SELECT 1"}, {"migrate", "status"}} {
			cmd := exec.CommandContext(t.Context(), path, args...)
			cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
			said, err := cmd.CombinedOutput()
			fmt.Fprintf(&out, "%s, %v: %v\n%s\n", name, args, err, said)
		}
	}
	out.WriteString(g.stop(t))
	for _, line := range strings.Split(out.String(), "\n") {
		for _, s := range secrets {
			// The YAML reader quotes the line that it cannot read: its author sees it.
			if strings.Contains(line, s) {
				t.Errorf("%q is in: %s", s, line)
			}
		}
	}
}
