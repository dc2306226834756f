package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Peer is a client as the rules see it.
type Peer struct {
	Local          bool       // it comes over a Unix socket
	Addr           netip.Addr // else
	TLS            bool
	User, Database string
	Replication    bool // it asks for physical replication: it has no database
}

// Rule is one line of a Table.
type Rule struct {
	Method Method
	// Map names the map from certificates to users, "" for none: the names must be
	// the same.
	Map string
	// ClientCert is "", "verify-ca" (a certificate that the client CA signed) or
	// "verify-full" (and that is the user's), besides what Method asks for.
	ClientCert string
	// DN compares the certificate's distinguished name (RFC 2253), not its CN.
	DN bool
	// Cleartext lets the method password send it without TLS.
	Cleartext bool

	kind      string // local, host, hostssl, hostnossl
	databases []name
	users     []name
	nets      []netip.Prefix // nil: all
}

// name is one entry of a list of databases or users.
type name struct {
	text    string
	keyword string         // all, sameuser, replication; "" for none
	pattern *regexp.Regexp // of /pattern
}

// Table is an ordered list of rules, of which the first that matches holds.
type Table struct{ rules []Rule }

// ParseTable reads lines of pg_hba.conf (PostgreSQL 17, chapter 20.1). A failure
// says which line it is by a *LineError for each.
func ParseTable(lines []string) (Table, error) {
	var t Table
	var failed []error
	for i, line := range lines {
		r, err := parseRule(line)
		if err != nil {
			failed = append(failed, &LineError{i, err})
			continue
		}
		if r != nil {
			t.rules = append(t.rules, *r)
		}
	}
	return t, errors.Join(failed...)
}

// LineError is what is wrong with one of the lines given to ParseTable or
// ParseMaps.
type LineError struct {
	Line int // from 0
	Err  error
}

func (e *LineError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// DefaultTable is SCRAM for everybody; with trust, clients at loopback addresses
// and Unix sockets prove nothing.
func DefaultTable(trust bool) Table {
	var lines []string
	if trust {
		lines = []string{"local all,replication all trust", "host all,replication all 127.0.0.0/8 trust", "host all,replication all ::1/128 trust"}
	}
	t, err := ParseTable(append(lines, "local all,replication all scram-sha-256", "host all,replication all all scram-sha-256"))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return t
}

// Match returns the first rule for a client, or nil: it may not come in.
func (t *Table) Match(p Peer) *Rule {
	for i := range t.rules {
		if r := &t.rules[i]; r.matches(p) {
			return r
		}
	}
	return nil
}

// TrustsAnybody says whether a client that matches could have named itself as it
// liked.
func (r *Rule) TrustsAnybody() bool {
	all := func(n name) bool { return n.keyword == "all" }
	return r.Method == Trust && slices.ContainsFunc(r.databases, all) && slices.ContainsFunc(r.users, all)
}

// CertRules says whether a rule asks for a client certificate.
func (t *Table) CertRules() bool {
	return slices.ContainsFunc(t.rules, func(r Rule) bool { return r.Method == Cert || r.ClientCert != "" })
}

// Maps returns the names of the maps that the rules use.
func (t *Table) Maps() []string {
	var list []string
	for _, r := range t.rules {
		if r.Map != "" && !slices.Contains(list, r.Map) {
			list = append(list, r.Map)
		}
	}
	return list
}

func (r *Rule) matches(p Peer) bool {
	local := p.Local
	switch r.kind {
	case "local":
		if !local {
			return false
		}
	case "hostssl":
		if local || !p.TLS {
			return false
		}
	case "hostnossl":
		if local || p.TLS {
			return false
		}
	default:
		if local {
			return false
		}
	}
	addr := p.Addr.Unmap().WithZone("")
	if r.nets != nil && !slices.ContainsFunc(r.nets, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return false
	}
	return slices.ContainsFunc(r.databases, func(n name) bool { return n.database(p) }) &&
		slices.ContainsFunc(r.users, func(n name) bool { return n.is(p.User) })
}

// database says whether the entry means the client's database. Physical
// replication has none: only the word replication means it.
func (n name) database(p Peer) bool {
	switch {
	case n.keyword == "replication" || p.Replication:
		return n.keyword == "replication" && p.Replication
	case n.keyword == "sameuser":
		return p.Database == p.User
	}
	return n.is(p.Database)
}

func (n name) is(text string) bool {
	switch {
	case n.keyword != "":
		return n.keyword == "all"
	case n.pattern != nil:
		return n.pattern.MatchString(text)
	}
	return n.text == text
}

func parseRule(line string) (*Rule, error) {
	fields, err := tokens(line)
	if err != nil || len(fields) == 0 {
		return nil, err
	}
	r := &Rule{kind: fields[0].only()}
	want := 5
	switch r.kind {
	case "local":
		want = 4
	case "host", "hostssl", "hostnossl":
	case "hostnogssenc":
		r.kind = "host" // nothing here comes by GSSAPI
	default:
		return nil, fmt.Errorf("%q is not a type of connection; write local, host, hostssl or hostnossl", r.kind)
	}
	if len(fields) < want {
		return nil, fmt.Errorf("%q is incomplete; write %s", line, map[bool]string{
			true: "local DATABASE USER METHOD", false: r.kind + " DATABASE USER ADDRESS METHOD",
		}[r.kind == "local"])
	}
	if r.databases, err = names(fields[1], "all", "sameuser", "replication"); err != nil {
		return nil, err
	}
	if r.users, err = names(fields[2], "all"); err != nil {
		return nil, err
	}
	rest := fields[3:]
	if r.kind != "local" {
		if rest, err = r.address(rest); err != nil {
			return nil, err
		}
	}
	if len(rest) == 0 {
		return nil, fmt.Errorf("%q has no method", line)
	}
	r.Method = Method(rest[0].only())
	if !r.Method.known() {
		return nil, fmt.Errorf("%q is not a method; there are %v", r.Method, methods)
	}
	for _, f := range rest[1:] {
		if err := r.option(f.text()); err != nil {
			return nil, err
		}
	}
	return r, r.check()
}

// address reads ADDRESS, or ADDRESS and MASK, and returns the fields behind.
func (r *Rule) address(rest []field) ([]field, error) {
	text := rest[0].only()
	rest = rest[1:]
	switch {
	case text == "all":
		return rest, nil
	case text == "samehost" || text == "samenet":
		return nil, fmt.Errorf("%s is not known here; write the addresses", text)
	}
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address with a mask length; write as 10.0.0.0/8 or fd00::/8", text)
		}
		r.nets = []netip.Prefix{p.Masked()}
		return rest, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address; write as 10.0.0.0/8, fd00::/8 or all (names of hosts are not looked up)", text)
	}
	if len(rest) == 0 {
		return nil, fmt.Errorf("the address %s has no mask; write %s/%d for the one address", text, text, a.BitLen())
	}
	m, err := netip.ParseAddr(rest[0].only())
	if err != nil || m.BitLen() != a.BitLen() {
		return nil, fmt.Errorf("the address %s has no mask; write %s/%d for the one address", text, text, a.BitLen())
	}
	bits, ok := maskBits(m)
	if !ok {
		return nil, fmt.Errorf("%s is not a mask", m)
	}
	r.nets = []netip.Prefix{netip.PrefixFrom(a, bits).Masked()}
	return rest[1:], nil
}

// maskBits returns how many leading ones a mask is.
func maskBits(m netip.Addr) (bits int, ok bool) {
	ended := false
	for _, b := range m.AsSlice() {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && ended {
				return 0, false
			}
			if one {
				bits++
			} else {
				ended = true
			}
		}
	}
	return bits, true
}

func (r *Rule) option(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("the option %q is not name=value", text)
	}
	switch {
	case key == "map" && value != "":
		r.Map = value
	case key == "clientcert" && (value == "verify-ca" || value == "verify-full"):
		r.ClientCert = value
	case key == "clientname" && (value == "CN" || value == "DN"):
		r.DN = value == "DN"
	case key == "cleartext" && (value == "allow" || value == "tls"):
		r.Cleartext = value == "allow"
	default:
		return fmt.Errorf("unknown option %q; there are map=NAME, clientcert=verify-ca or verify-full, clientname=CN or DN, cleartext=tls or allow", text)
	}
	return nil
}

func (r *Rule) check() error {
	switch {
	case r.kind != "hostssl" && (r.Method == Cert || r.ClientCert != ""):
		return errors.New("a client certificate can be asked for over TLS alone; write hostssl")
	case r.kind != "hostssl" && r.Method == ScramPlus:
		return errors.New("channel binding is for TLS alone; write hostssl")
	case r.kind != "local" && r.Method == OSUser:
		return errors.New("the operating system knows who is at a Unix socket alone; write local")
	case r.Map != "" && r.Method != Cert && r.Method != OSUser && r.ClientCert != "verify-full":
		return errors.New("a map is for the methods cert and peer and for clientcert=verify-full")
	case r.DN && r.Method != Cert && r.ClientCert != "verify-full":
		return errors.New("clientname is for the method cert and for clientcert=verify-full")
	case r.Cleartext && r.Method != Password:
		return errors.New("cleartext is for the method password")
	case r.Method == Cert && r.ClientCert == "verify-ca":
		return errors.New("the method cert compares names: clientcert=verify-ca cannot hold with it")
	}
	return nil
}

// names reads a list of databases or users. keywords are the words that mean
// something unless quoted.
func names(f field, keywords ...string) ([]name, error) {
	var list []name
	for _, w := range f {
		n := name{text: w.text}
		switch {
		case w.quoted:
		case slices.Contains(keywords, w.text):
			n.keyword = w.text
		case w.text == "samerole" || w.text == "samegroup" || strings.HasPrefix(w.text, "+"):
			return nil, fmt.Errorf("%q: the gateway does not know the members of roles; list the users", w.text)
		case strings.HasPrefix(w.text, "@"):
			return nil, fmt.Errorf("%q: names are not read from files; list them", w.text)
		}
		if pattern, ok := strings.CutPrefix(w.text, "/"); ok {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return nil, fmt.Errorf("%q is not a regular expression: %w", pattern, err)
			}
			n.pattern = re
		}
		list = append(list, n)
	}
	return list, nil
}
