package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"qvpgw/internal/config"
	"qvpgw/internal/wire"
)

// connString is a keyword/value connection string.
func connString(b config.Backend, database, user, password string) string {
	var s strings.Builder
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&s, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	var names, ports []string
	hosts, _ := b.Hosts() // validated
	for _, h := range hosts {
		names, ports = append(names, h.Host), append(ports, strconv.Itoa(h.Port))
	}
	add("host", strings.Join(names, ","))
	add("port", strings.Join(ports, ","))
	add("dbname", database)
	add("user", user)
	add("password", password)
	add("sslmode", string(b.SSLMode))
	add("sslrootcert", b.SSLRootCert)
	add("sslcert", b.SSLCert)
	add("sslkey", b.SSLKey)
	add("connect_timeout", fmt.Sprint(max(1, int(b.ConnectTimeout/time.Second))))
	return s.String()
}

// dsn is the gateway's own login.
func (p *program) dsn() string {
	b := p.cfg.Backend
	return connString(b, b.Database, b.User, string(b.Password))
}

// users knows the passwords of clients: those of the configuration, and with
// auth.query those of the server.
type users struct {
	listed map[string]wire.Verifier
	query  func(sql string) ([][]*string, error) // nil: the server is not asked

	mu    sync.Mutex
	asked map[string]askedVerifier
}

type askedVerifier struct {
	verifier wire.Verifier
	known    bool
	at       time.Time
}

// askAgain is how long an answer of the server counts; a changed password works
// after it.
const askAgain = 10 * time.Second

// maxAsked bounds the answers kept: names are chosen by clients.
const maxAsked = 1000

func (p *program) users() (*users, error) {
	u := &users{listed: map[string]wire.Verifier{}, asked: map[string]askedVerifier{}}
	for _, c := range p.cfg.ClientUsers() {
		var v wire.Verifier
		var err error
		if c.Verifier != "" {
			v, err = wire.ParseVerifier(string(c.Verifier))
		} else {
			v, err = wire.NewVerifier(string(c.Password), 4096)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use the password of user %q: %w", c.Name, err)
		}
		u.listed[c.Name] = v
	}
	return u, nil
}

func (u *users) verifier(user string) (wire.Verifier, bool, error) {
	if v, ok := u.listed[user]; ok {
		return v, true, nil
	}
	if u.query == nil {
		return wire.Verifier{}, false, nil
	}
	u.mu.Lock()
	a, ok := u.asked[user]
	u.mu.Unlock()
	if ok && time.Since(a.at) < askAgain {
		return a.verifier, a.known, nil
	}
	rows, err := u.query("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now()) AND rolname = " + literal(user))
	if err != nil {
		return wire.Verifier{}, false, err
	}
	a = askedVerifier{at: time.Now()}
	if len(rows) == 1 && rows[0][0] != nil {
		if v, err := wire.ParseVerifier(*rows[0][0]); err == nil {
			a.verifier, a.known = v, true
		}
	}
	u.mu.Lock()
	if len(u.asked) >= maxAsked {
		clear(u.asked)
	}
	u.asked[user] = a
	u.mu.Unlock()
	return a.verifier, a.known, nil
}

// literal quotes text for SQL, whatever standard_conforming_strings says.
func literal(text string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// clientAddress is where a client on this machine reaches a listening address.
func clientAddress(listen string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("cannot use the address %q: %w", listen, err)
	}
	if port, err = strconv.Atoi(p); err != nil {
		return "", 0, fmt.Errorf("cannot use the address %q: %w", listen, err)
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return host, port, nil
}
