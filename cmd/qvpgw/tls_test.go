package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/config"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
)

// tlsFiles are the certificates of a test, in the root and here.
type tlsFiles struct {
	here, inside string
	files        map[string][]byte
}

// newTLSFiles makes an authority with the certificates of a server and of the user
// that logs in by SCRAM, and a foreign authority with a certificate of the same name.
func newTLSFiles(t *testing.T, r *pgtest.Root) tlsFiles {
	t.Helper()
	own, foreign := pgtest.NewAuthority(t, "own"), pgtest.NewAuthority(t, "foreign")
	f := tlsFiles{files: map[string][]byte{"ca.crt": own.CertPEM, "foreign.crt": foreign.CertPEM}}
	f.files["server.crt"], f.files["server.key"] = own.Issue(t, "server", "127.0.0.1")
	f.files["user.crt"], f.files["user.key"] = own.Issue(t, pgtest.ScramUser)
	f.files["stranger.crt"], f.files["stranger.key"] = foreign.Issue(t, pgtest.ScramUser)
	f.here, f.inside = r.TempDir(t)
	r.WriteFiles(t, f.here, f.files)
	return f
}

// cluster is a server that takes TLS and plain connections, SCRAM for the one user.
func (f tlsFiles) cluster(t *testing.T, hba ...string) *pgtest.Cluster {
	t.Helper()
	options := []pgtest.Option{
		pgtest.Setting("ssl", "on"), pgtest.Setting("ssl_cert_file", "server.crt"),
		pgtest.Setting("ssl_key_file", "server.key"), pgtest.Setting("ssl_ca_file", "ca.crt"), pgtest.HBA(hba...),
	}
	for name, content := range f.files {
		options = append(options, pgtest.File(name, content))
	}
	return pgtest.Native(t, options...)
}

// matrix calls what for each way to ask for TLS and returns the results in order.
func matrix(what func(mode, negotiation, binding string) string) (rows [][4]string) {
	for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
		for _, negotiation := range []string{"postgres", "direct"} {
			for _, binding := range []string{"disable", "prefer", "require"} {
				rows = append(rows, [4]string{mode, negotiation, binding})
			}
		}
	}
	places := make(chan struct{}, 4)
	var all sync.WaitGroup
	for i := range rows {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			rows[i][3] = what(rows[i][0], rows[i][1], rows[i][2])
		})
	}
	all.Wait()
	return rows
}

// tlsTable writes two matrices side by side, as docs/tls.md has them.
func tlsTable(through, toServer [][4]string) string {
	var b strings.Builder
	b.WriteString("| sslmode | sslnegotiation | channel_binding | psql to the gateway | the gateway to the server |\n|---|---|---|---|---|\n")
	brief := func(outcome string) string {
		outcome, _, _ = strings.Cut(outcome, " (")
		outcome, _, _ = strings.Cut(outcome, ";")
		return outcome
	}
	for i, r := range through {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r[0], r[1], r[2], brief(r[3]), brief(toServer[i][3]))
	}
	return b.String()
}

// psqlPrefix is what psql says before the reason, with addresses and ports.
var psqlPrefix = regexp.MustCompile(`(?m)^psql: error: (connection to server at "[^"]*", port \d+ failed: )?`)

// TestTLSTable shows each combination of sslmode, sslnegotiation and
// channel_binding, with psql against the gateway and, beside it, against the server
// itself, which must come to the same; and from the gateway against the server.
func TestTLSTable(t *testing.T) {
	root := pgtest.Tools(t)
	f := newTLSFiles(t, root)
	cluster := f.cluster(t)
	_, addr := startGateway(t, fmt.Sprintf(`
listen: "%%s"
http: ""
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: verify-full, sslrootcert: %[3]s/ca.crt, sslnegotiation: direct}
schema: {migrate: false}
tls: {mode: allow, cert: %[3]s/server.crt, key: %[3]s/server.key, client_ca: %[3]s/ca.crt}
`, cluster.Port, pgtest.Superuser, f.here))
	psql := func(addr, sql, mode, negotiation, binding string) string {
		dsn := fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=%s&sslnegotiation=%s&channel_binding=%s&sslrootcert=%s/ca.crt",
			pgtest.ScramUser, pgtest.ScramPassword, addr, mode, negotiation, binding, f.inside)
		out, err := root.TryPsql(t, dsn, "-c", sql)
		text := strings.TrimSpace(psqlPrefix.ReplaceAllString(strings.TrimSpace(out), ""))
		text = strings.ReplaceAll(text, "\n", "; ")
		if err != nil {
			return "refused: " + text
		}
		return text
	}
	through := matrix(func(mode, negotiation, binding string) string {
		return psql(addr, "SHOW qvpgw.login", mode, negotiation, binding)
	})
	direct := matrix(func(mode, negotiation, binding string) string {
		// The server does not say whether the login was bound; libpq binds it wherever
		// it can, and refuses where it must and cannot.
		out := psql(cluster.Addr(), "SELECT CASE WHEN ssl THEN regexp_replace(version, 'v', ' ') ELSE '' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()", mode, negotiation, binding)
		if strings.HasPrefix(out, "refused") {
			return out
		}
		method := "scram-sha-256"
		if out != "" && binding != "disable" {
			method += "-plus"
		}
		if out != "" && negotiation == "direct" {
			out += " direct"
		}
		return strings.TrimSpace(method + " " + out)
	})
	for i := range through {
		if through[i] != direct[i] {
			t.Errorf("the gateway and the server differ: %q and %q", through[i], direct[i])
		}
	}
	toServer := matrix(func(mode, negotiation, binding string) string {
		return f.dial(t, cluster, fmt.Sprintf("sslmode: %s, sslnegotiation: %s, channel_binding: %s, sslrootcert: %s/ca.crt", mode, negotiation, binding, f.here))
	})
	for _, r := range toServer {
		want := "scram-sha-256"
		secure := r[0] != "disable" && r[0] != "allow" // allow tries without TLS first
		if secure && r[2] != "disable" {
			want += "-plus"
		}
		if secure {
			want += " TLS 1.3"
		}
		strict := strings.HasPrefix(r[0], "verify") || r[0] == "require"
		switch {
		case r[1] == "direct" && !strict:
			want = "refused by the configuration: backend.sslnegotiation: direct wants TLS"
		case r[0] == "disable" && r[2] == "require":
			want = "refused by the configuration: backend.channel_binding: require cannot hold without TLS"
		case r[0] == "allow" && r[2] == "require":
			want = "scram-sha-256-plus TLS 1.3" // the second attempt
		case r[1] == "direct":
			want += " direct"
		}
		if !strings.HasPrefix(r[3], want) {
			t.Errorf("from the gateway to the server with %q: want %q", r, want)
		}
	}
	text := tlsTable(through, toServer)
	t.Log("\n" + text)
	page, err := os.ReadFile(filepath.Join(repository, "docs", "tls.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), text) {
		t.Error("docs/tls.md has another table")
	}
}

// dial opens a server connection with settings of backend and says how it went.
func (f tlsFiles) dial(t *testing.T, cluster *pgtest.Cluster, settings string) string {
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf(`backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, password: %s, connect_timeout: 20s, %s}`,
		cluster.Port, pgtest.ScramUser, pgtest.ScramPassword, settings)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err.Error()
	}
	cfg, err := config.Load(path, func(string) (string, bool) { return "", false }, "")
	if err != nil {
		_, reason, _ := strings.Cut(err.Error(), "backend.")
		reason, _, _ = strings.Cut(reason, "\n")
		return "refused by the configuration: backend." + reason
	}
	to, err := backend(cfg, "postgres", pgtest.ScramUser)
	if err != nil {
		return "refused: " + err.Error()
	}
	p := pool.New(pool.Options{Server: to, Size: 1, ConnectTimeout: 20 * time.Second})
	defer p.Close()
	rows, err := p.Query("SELECT coalesce(version, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()", 20*time.Second)
	if err != nil {
		return "refused: " + err.Error()
	}
	how := p.Conns()[0].Login
	if got := strings.ReplaceAll(*rows[0][0], "v", " "); got != how.TLS {
		return fmt.Sprintf("the server says %q, the gateway %q", got, how.TLS)
	}
	out := strings.TrimSpace(how.Method + " " + how.TLS)
	if how.Direct {
		out += " direct"
	}
	return out
}

// TestWhatTheGatewayProvesToTheServerAndTheServerToIt is the rest of sslmode: whose
// certificates are taken.
func TestWhatTheGatewayProvesToTheServerAndTheServerToIt(t *testing.T) {
	f := newTLSFiles(t, pgtest.Tools(t))
	cluster := f.cluster(t, "hostssl all "+pgtest.ScramUser+" all cert", "hostnossl all "+pgtest.ScramUser+" all reject")
	certificate := fmt.Sprintf("sslcert: %[1]s/user.crt, sslkey: %[1]s/user.key", f.here)
	for _, c := range []struct{ settings, want string }{
		{"sslmode: require, " + certificate, "trust TLS 1.3"}, // the certificate is TLS's affair
		{"sslmode: prefer, " + certificate, "trust TLS 1.3"},
		{"sslmode: allow, " + certificate, "trust TLS 1.3"}, // the second attempt
		{"sslmode: verify-full, sslrootcert: " + f.here + "/ca.crt, " + certificate, "trust TLS 1.3"},
		{"sslmode: verify-ca, sslrootcert: " + f.here + "/foreign.crt, " + certificate, "refused"},
		{"sslmode: verify-full, sslrootcert: " + f.here + "/foreign.crt, " + certificate, "refused"},
		{"sslmode: require, sslrootcert: " + f.here + "/foreign.crt, " + certificate, "refused"}, // as verify-ca, libpq's rule
		{"sslmode: require, sslcert: " + f.here + "/stranger.crt, sslkey: " + f.here + "/stranger.key", "refused"},
		{"sslmode: require", "refused"},
		{"sslmode: disable", "refused"},
		{"sslmode: require, channel_binding: require, " + certificate, "refused"}, // nothing is bound
	} {
		if got := f.dial(t, cluster, c.settings); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.settings, got, c.want)
		}
	}
}

// TestClientTLSModes is tls.mode against psql with and without TLS, with the user's
// certificate and with a stranger's.
func TestClientTLSModes(t *testing.T) {
	root := pgtest.Tools(t)
	f := newTLSFiles(t, root)
	cluster := pgtest.Native(t)
	for _, c := range []struct{ mode, plain, tls, certificate, stranger string }{
		{"disable", "in", "does not support SSL", "does not support SSL", "does not support SSL"},
		{"allow", "in", "in", "in", "unknown ca"},
		{"prefer", "in", "in", "in", "unknown ca"},
		{"require", "TLS only", "in", "in", "unknown ca"},
		{"verify-ca", "TLS only", "certificate required", "in", "unknown ca"},
		{"verify-full", "TLS only", "certificate required", "in", "unknown ca"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			_, addr := startGateway(t, nativeConfig(t, cluster, fmt.Sprintf(
				"tls: {mode: %s, cert: %[2]s/server.crt, key: %[2]s/server.key, client_ca: %[2]s/ca.crt}", c.mode, f.here)))
			for options, want := range map[string]string{
				"sslmode=disable":                                            c.plain,
				"sslmode=require&sslcert=/none":                              c.tls,
				"sslmode=require&sslcert=@user.crt&sslkey=@user.key":         c.certificate,
				"sslmode=require&sslcert=@stranger.crt&sslkey=@stranger.key": c.stranger,
			} {
				dsn := fmt.Sprintf("postgres://%s@%s/postgres?%s", pgtest.Superuser, addr, strings.ReplaceAll(options, "@", f.inside+"/"))
				out, err := root.TryPsql(t, dsn, "-c", "SELECT 'in'")
				if !strings.Contains(out, want) || (err == nil) != (want == "in") {
					t.Errorf("%s: got %v %s, want %s", options, err, out, want)
				}
			}
		})
	}
}

// TestTheServersAuthorityIsReadAgainOnAReload has the gateway trust another authority
// than the server's, then the right one, then a file that is none.
func TestTheServersAuthorityIsReadAgainOnAReload(t *testing.T) {
	f := newTLSFiles(t, pgtest.Tools(t))
	cluster := f.cluster(t)
	authority := filepath.Join(t.TempDir(), "authority.crt")
	trust := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(authority, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(f.files["foreign.crt"])
	_, addr := startGateway(t, fmt.Sprintf(`
listen: "%%s"
http: ""
backend: {host: 127.0.0.1, port: %d, database: postgres, user: %s, sslmode: verify-full, sslrootcert: %s}
schema: {migrate: false}
auth: {method: trust}
`, cluster.Port, pgtest.Superuser, authority))
	dial := func(database string) (*pgconn.PgConn, error) {
		return pgconn.Connect(t.Context(), "postgres://"+pgtest.Superuser+"@"+addr+"/"+database+"?sslmode=disable")
	}
	console, err := dial("qvpgw")
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close(context.Background())
	reload := func() error {
		_, err := console.Exec(t.Context(), "RELOAD").ReadAll()
		return err
	}
	works := func() bool {
		t.Helper()
		c, err := dial("postgres")
		if err != nil {
			return false
		}
		defer c.Close(context.Background())
		return first(t, c, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"
	}
	if works() {
		t.Error("a server of another authority was trusted")
	}
	trust(f.files["ca.crt"])
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	if !works() {
		t.Error("the right authority was not read")
	}
	trust([]byte("no certificate"))
	if err := reload(); err == nil || errorCode(err) != "F0000" {
		t.Errorf("a reload with a broken file: %v", err)
	}
	if !works() {
		t.Error("a reload that failed changed something")
	}
}
