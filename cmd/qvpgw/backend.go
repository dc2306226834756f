package main

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"qvpgw/internal/config"
)

// connString is a connection URI. A password in it is masked in the errors of who
// reads it, which one in a keyword/value string need not be.
func connString(b config.Backend, database, user, password string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Path: "/"}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	var names, ports []string
	hosts, _ := b.Hosts() // validated
	for _, h := range hosts {
		names, ports = append(names, h.Host), append(ports, strconv.Itoa(h.Port))
	}
	q := url.Values{}
	for key, value := range map[string]string{
		"host": strings.Join(names, ","), "port": strings.Join(ports, ","), "dbname": database,
		"sslmode":     string(b.SSLMode),
		"sslrootcert": b.SSLRootCert, "sslcert": b.SSLCert, "sslkey": b.SSLKey,
		"sslnegotiation": string(b.SSLNegotiation), "channel_binding": string(b.ChannelBinding),
		"connect_timeout": fmt.Sprint(max(1, int(b.ConnectTimeout/time.Second))),
	} {
		if value != "" {
			q.Set(key, value)
		}
	}
	// Blanks are written %20: a + is a plus in such a string.
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}

// dsn is the gateway's own login.
func (p *program) dsn() string {
	b := p.cfg().Backend
	return connString(b, b.Database, b.User, string(b.Password))
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
