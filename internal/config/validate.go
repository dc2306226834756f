package config

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate returns everything that is wrong with the values, as Problems, or nil.
// Load has done it; who changes a Config (flags, tests) does it again.
func (c *Config) Validate() error {
	if p := c.problems(); len(p) > 0 {
		return p.sorted()
	}
	return nil
}

// CheckRules says which of rules' names are not in known, the rule set's names.
func (c *Config) CheckRules(known []string) error {
	v := validator{c: c}
	for _, name := range slices.Sorted(maps.Keys(c.Rules)) {
		if slices.Contains(known, name) {
			continue
		}
		guess := didYouMean(name, known)
		if guess == "" {
			guess = "; the rules are " + strings.Join(known, ", ")
		}
		v.add("rules."+name, "unknown rule %q%s", name, guess)
	}
	if len(v.problems) > 0 {
		return v.problems.sorted()
	}
	return nil
}

type validator struct {
	c        *Config
	problems Problems
}

// add reports a problem of key, at the line that set it.
func (v *validator) add(key, format string, args ...any) {
	v.problems = append(v.problems, Problem{v.c.where[key], fmt.Sprintf(format, args...)})
}

func (c *Config) problems() Problems {
	v := &validator{c: c}
	v.addresses()
	v.backend()
	v.engine()
	v.pool()
	v.limits()
	v.auth()
	v.tls()
	v.rest()
	v.schemaPolicies()
	return v.problems
}

func (v *validator) addresses() {
	c := v.c
	if p := c.ListenUnix; p != "" && (!filepath.IsAbs(p) || len(p) > maxSocketFolder) {
		v.add("listen_unix", "listen_unix: %q is not the path of a folder from /, of at most %d bytes; write as /run/qvpgw", p, maxSocketFolder)
	}
	if c.address("listen", c.Listen, v) == "0" {
		return // a free port is chosen: nothing can collide
	}
	if c.HTTP == "" {
		return
	}
	if c.address("http", c.HTTP, v) != "0" && c.Listen == c.HTTP {
		v.add("http", "http and listen are both %q; give them different ports", c.HTTP)
	}
}

// maxSocketFolder is the longest folder for a Unix socket, in bytes: with the socket's
// name it fits into sockaddr_un.
const maxSocketFolder = 107 - len("/.s.PGSQL.65535")

// address checks a host:port and returns the port, "0" when it is wrong.
func (c *Config) address(key, value string, v *validator) string {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		if n, bad := strconv.Atoi(port); bad == nil && n >= 0 && n <= 65535 {
			return port
		}
	}
	v.add(key, "%s: %q is not host:port; write as 127.0.0.1:6432, or :6432 for every address", key, value)
	return "0"
}

func (v *validator) backend() {
	b := v.c.Backend
	v.hosts("backend", b)
	v.filled("backend.database", b.Database, "the database to log in to")
	v.filled("backend.user", b.User, "the user to log in as")
	v.between("backend.port", b.Port, 1, 65535)
	v.duration("backend.connect_timeout", b.ConnectTimeout, time.Millisecond)
	v.file("backend.sslrootcert", b.SSLRootCert)
	if b.SSLNegotiation == SSLDirect && !slices.Contains([]SSLMode{SSLRequire, SSLVerifyCA, SSLVerifyFull}, b.SSLMode) {
		v.add("backend.sslnegotiation", "backend.sslnegotiation: direct wants TLS; write backend.sslmode: require, verify-ca or verify-full")
	}
	if b.ChannelBinding == BindRequire && b.SSLMode == SSLDisable {
		v.add("backend.channel_binding", "backend.channel_binding: require cannot hold without TLS; write backend.sslmode: require, verify-ca or verify-full")
	}
	v.together("backend.sslcert", b.SSLCert, "backend.sslkey", b.SSLKey)
	v.duration("backend.dns_refresh", b.DNSRefresh, 0)
}

// hosts checks the hosts of the section at.
func (v *validator) hosts(at string, b Backend) {
	if strings.TrimSpace(b.Host) == "" {
		v.add(at+".host", "%s.host is empty; give the server's name or address", at)
		return
	}
	list, err := b.Hosts()
	if err != nil {
		v.add(at+".host", "%s.host: %s", at, err)
		return
	}
	for _, h := range list {
		if (b.SSLMode == SSLVerifyCA || b.SSLMode == SSLVerifyFull) && h.Socket() {
			v.add("backend.sslmode", "backend.sslmode: %s cannot hold over the Unix socket %s; write disable", b.SSLMode, h.Host)
		}
	}
}

func (v *validator) engine() {
	v.between("engine.loops", v.c.Engine.Loops, 0, 256)
}

func (v *validator) pool() {
	p := v.c.Pool
	v.between("pool.size", p.Size, 1, 10000)
	v.between("pool.overflow", p.Overflow, 0, 10000)
	v.duration("pool.query_wait_timeout", p.QueryWaitTimeout, 0)
	v.duration("pool.server_lifetime", p.ServerLifetime, 0)
	v.duration("pool.server_idle_timeout", p.ServerIdleTimeout, 0)
	v.duration("pool.server_check_delay", p.ServerCheckDelay, 0)
	v.duration("pool.login_backoff", p.LoginBackoff, time.Millisecond)
	v.duration("pool.login_backoff_max", p.LoginBackoffMax, time.Millisecond)
	v.duration("pool.query_wait_notify", p.QueryWaitNotify, 0)
	v.duration("pool.reserve_timeout", p.ReserveTimeout, 0)
	v.between("pool.reserve", p.Reserve, 0, 10000)
	v.between("pool.min", p.Min, 0, p.Size)
	v.policies()
}

func (v *validator) limits() {
	l := v.c.Limits
	v.between("limits.max_logins", l.MaxLogins, 1, 1<<20)
	v.between("limits.max_clients", l.MaxClients, 1, 1<<20)
	v.between("limits.max_database_clients", l.MaxDatabaseClients, 0, 1<<20)
	v.between("limits.max_user_clients", l.MaxUserClients, 0, 1<<20)
	v.between("limits.max_database_servers", l.MaxDatabaseServers, 0, 1<<20)
	v.between("limits.max_user_servers", l.MaxUserServers, 0, 1<<20)
	if l.MaxStatement < 1<<10 || l.MaxStatement > 1<<30-1 {
		v.add("limits.max_statement", "limits.max_statement is %s; it must be from 1KiB to 1GiB less one byte", l.MaxStatement)
	}
	v.duration("limits.client_login_timeout", l.ClientLoginTimeout, time.Millisecond)
	v.duration("limits.client_idle_timeout", l.ClientIdleTimeout, 0)
	v.duration("limits.idle_in_transaction_timeout", l.IdleInTransactionTimeout, 0)
	v.duration("limits.slow_reader_timeout", l.SlowReaderTimeout, 0)
	v.duration("limits.cancel_timeout", l.CancelTimeout, time.Millisecond)
	v.duration("limits.shutdown_timeout", l.ShutdownTimeout, 0)
}

func (v *validator) auth() {
	a := v.c.Auth
	names := map[string]int{}
	for i, u := range a.Users {
		at := fmt.Sprintf("auth.users[%d]", i)
		switch first, twice := names[u.Name]; {
		case u.Name == "":
			v.add(at, "%s has no name", at)
		case twice:
			v.add(at, "user %q is listed twice, first as auth.users[%d]", u.Name, first)
		}
		names[u.Name] = i
		switch {
		case u.Password != "" && u.Verifier != "":
			v.add(at, "user %q has both password and verifier; keep one", u.Name)
		case u.Password == "" && u.Verifier == "":
			v.add(at, "user %q has neither password nor verifier; give one", u.Name)
		case u.Verifier != "" && !isVerifier(string(u.Verifier)) && !isMD5(string(u.Verifier)):
			v.add(at, "the verifier of user %q is not one; it looks like SCRAM-SHA-256$4096:<salt>$<stored key>:<server key> or md5<hash>, as in pg_authid.rolpassword", u.Name)
		}
	}
	for i, name := range a.Admins {
		if name == "" {
			v.add(fmt.Sprintf("auth.admins[%d]", i), "auth.admins[%d] is empty; give a user's name", i)
		}
	}
	if a.Query && !strings.Contains(a.QueryText, "$1") {
		v.add("auth.query_text", "auth.query_text has no $1 for the user's name")
	}
	if len(a.HBA) == 0 && a.Method == AuthSCRAM && !a.Query && len(v.c.ClientUsers()) == 0 {
		v.add("auth.query", "nobody could log in: auth.query is false, auth.users is empty and backend.password is not set; set one of them")
	}
}

// isVerifier reports whether s has the form that PostgreSQL stores:
// SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, base64.
func isVerifier(s string) bool {
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" || strings.ContainsAny(s, "\r\n") {
		return false
	}
	iterations, salt, ok := strings.Cut(parts[1], ":")
	if n, err := strconv.Atoi(iterations); !ok || err != nil || n < 1 || n > 1<<31-1 {
		return false
	}
	if b, err := base64.StdEncoding.DecodeString(salt); err != nil || len(b) == 0 {
		return false
	}
	stored, server, ok := strings.Cut(parts[2], ":")
	for _, key := range []string{stored, server} {
		if b, err := base64.StdEncoding.DecodeString(key); !ok || err != nil || len(b) != 32 {
			return false
		}
	}
	return true
}

// isMD5 reports whether s has the form that PostgreSQL stores for the method md5.
func isMD5(s string) bool {
	digest, ok := strings.CutPrefix(s, "md5")
	return ok && len(digest) == 32 && strings.Trim(digest, "0123456789abcdef") == ""
}

func (v *validator) tls() {
	t := v.c.TLS
	if t.Mode == TLSDisable {
		return
	}
	if t.Cert == "" && t.Key == "" {
		v.add("tls.mode", "tls.mode is %s but tls.cert and tls.key are not set; name the PEM files", t.Mode)
		return
	}
	v.together("tls.cert", t.Cert, "tls.key", t.Key)
	v.file("tls.client_ca", t.ClientCA)
	if t.Mode.Verified() && t.ClientCA == "" {
		v.add("tls.mode", "tls.mode is %s but tls.client_ca is not set; name the PEM file of who signs clients' certificates", t.Mode)
	}
}

func (v *validator) rest() {
	c := v.c
	if c.Cache.Bytes < 0 || c.Cache.MaxEntry < 0 || c.Cache.Enabled && c.Cache.MaxEntry > c.Cache.Bytes {
		v.add("cache.max_entry", "cache.max_entry is %s; it must be at most cache.bytes, %s", c.Cache.MaxEntry, c.Cache.Bytes)
	}
	v.duration("cache.max_age", c.Cache.MaxAge, time.Millisecond)
	if c.Cache.Changes < 1<<16 {
		v.add("cache.changes", "cache.changes is %s; it must be at least 64KiB", c.Cache.Changes)
	}
	v.duration("catalog.refresh", c.Catalog.Refresh, 100*time.Millisecond)
	v.duration("schema.change_log.keep", c.Schema.ChangeLog.Keep, time.Second)
	if c.Schema.ChangeLog.Rows < 1000 {
		v.add("schema.change_log.rows", "schema.change_log.rows is %d; it must be at least 1000", c.Schema.ChangeLog.Rows)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Rules)) {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			v.add("rules."+name, "%q cannot be a rule's name; they are of a-z, 0-9, _ and -", name)
		}
	}
}

func (v *validator) filled(key, value, what string) {
	if value == "" {
		v.add(key, "%s is empty; give %s", key, what)
	}
}

func (v *validator) between(key string, value, low, high int) {
	if value < low || value > high {
		v.add(key, "%s is %d; it must be from %d to %d", key, value, low, high)
	}
}

func (v *validator) duration(key string, value, least time.Duration) {
	if value < least {
		v.add(key, "%s is %s; it must be at least %s", key, value, least)
	}
}

func (v *validator) file(key, path string) {
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		v.add(key, "%s: cannot read %s: %s", key, path, reason(err))
		return
	}
	_ = f.Close() // opened for reading only
}

// together checks two files of which one is useless without the other.
func (v *validator) together(key1, path1, key2, path2 string) {
	if (path1 == "") != (path2 == "") {
		v.add(key1, "%s and %s belong together; set both or none", key1, key2)
	}
	v.file(key1, path1)
	v.file(key2, path2)
}
