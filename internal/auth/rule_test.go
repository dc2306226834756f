package auth

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func peer(addr, user, database string, tls bool) Peer {
	p := Peer{User: user, Database: database, TLS: tls}
	if addr == "local" {
		p.Local = true
	} else {
		p.Addr = netip.MustParseAddr(addr)
	}
	return p
}

func TestTheFirstRuleThatMatchesHolds(t *testing.T) {
	table, err := ParseTable([]string{
		"# a comment alone",
		"",
		"local all all trust # and one behind",
		`hostssl app,"all" "sameuser",alice 10.0.0.0/8 cert map=m`,
		"hostnossl app alice 10.0.0.0 255.0.0.0 reject",
		"host sameuser all fd00::/8 md5",
		"host replication repl 192.168.0.0/16 scram-sha-256",
		`host "/^log_[0-9]+$" /^r all password`,
		"hostnogssenc postgres , bank bob 127.0.0.1/32 scram-sha-256",
	})
	if err != nil {
		t.Fatal(err)
	}
	repl := peer("192.168.1.1", "repl", "postgres", false)
	repl.Replication = true
	for _, c := range []struct {
		peer Peer
		want Method // "" for none
	}{
		{peer("local", "x", "y", false), Trust},
		{peer("10.1.2.3", "alice", "app", true), Cert},
		{peer("::ffff:10.1.2.3", "alice", "app", true), Cert},
		{peer("10.1.2.3", "alice", "all", true), Cert}, // a database of that name
		{peer("10.1.2.3", "alice", "other", true), ""}, // "all" in quotes is no keyword
		{peer("10.1.2.3", "sameuser", "app", true), Cert},
		{peer("10.1.2.3", "alice", "app", false), Reject},
		{peer("11.1.2.3", "alice", "app", true), ""},
		{peer("fd12::1", "eve", "eve", false), MD5},
		{peer("fd12::1%eth0", "eve", "eve", false), MD5},
		{peer("fd12::1", "eve", "app", false), ""},
		{peer("192.168.1.1", "repl", "replication", false), ""}, // the name is not the keyword
		{repl, Scram},
		{peer("1.1.1.1", "reader", "log_7", false), Password},
		{peer("1.1.1.1", "writer", "log_7", false), ""},
		{peer("127.0.0.1", "bob", "bank", false), Scram},
		{peer("127.0.0.2", "bob", "bank", false), ""},
		{Peer{User: "bob", Database: "bank"}, ""}, // no address is not a Unix socket
	} {
		r := table.Match(c.peer)
		switch {
		case r == nil && c.want != "":
			t.Errorf("%+v: no rule, want %s", c.peer, c.want)
		case r != nil && r.Method != c.want:
			t.Errorf("%+v: %s, want %q", c.peer, r.Method, c.want)
		}
	}
}

func TestABadRuleSaysWhatWouldBeRight(t *testing.T) {
	for line, want := range map[string]string{
		"host all all trust":                            "is incomplete",
		"hst all all all trust":                         "is not a type of connection",
		"host all":                                      "is incomplete; write host DATABASE USER ADDRESS METHOD",
		"local all all":                                 "is incomplete; write local DATABASE USER METHOD",
		"host all all 10.0.0.0 trust":                   "has no mask; write 10.0.0.0/32",
		"host all all 10.0.0.0 255.0.255.0 trust":       "is not a mask",
		"host all all 10.0.0.0/33 trust":                "is not an address with a mask length",
		"host all all example.org trust":                "names of hosts are not looked up",
		"host all all samenet trust":                    "samenet is not known here",
		"host all all all":                              "is incomplete",
		"host all all 10.0.0.0 255.0.0.0":               "has no method",
		"host all all all gss":                          `"gss" is not a method`,
		"host all +admins all trust":                    "does not know the members of roles",
		"host samerole all all trust":                   "does not know the members of roles",
		"host @file all all trust":                      "not read from files",
		"host /( all all trust":                         "is not a regular expression",
		"host all all all cert":                         "write hostssl",
		"host all all all scram-sha-256-plus":           "write hostssl",
		"hostssl all all all trust map=m":               "a map is for the methods cert and peer",
		"hostssl all all all peer":                      "write local",
		"hostssl all all all trust clientname=DN":       "clientname is for",
		"hostssl all all all cert clientcert=verify-ca": "cannot hold",
		"host all all all md5 cleartext=allow":          "cleartext is for",
		"host all all all md5 x":                        "is not name=value",
		"host all all all md5 x=y":                      "unknown option",
		`host "all all all md5`:                         "a quotation mark is not closed",
	} {
		_, err := ParseTable([]string{"local all all trust", line})
		var l *LineError
		if !errors.As(err, &l) || l.Line != 1 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

func TestDefaultRules(t *testing.T) {
	for _, c := range []struct {
		trust bool
		addr  string
		want  Method
	}{
		{true, "local", Trust},
		{true, "127.0.0.9", Trust},
		{true, "::1", Trust},
		{true, "10.0.0.1", Scram},
		{false, "local", Scram},
		{false, "127.0.0.1", Scram},
		{false, "10.0.0.1", Scram},
	} {
		table := DefaultTable(c.trust)
		for _, replication := range []bool{false, true} {
			p := peer(c.addr, "u", "d", false)
			p.Replication = replication
			if r := table.Match(p); r == nil || r.Method != c.want || r.TrustsAnybody() != (c.want == Trust) {
				t.Errorf("trust %v from %s, replication %v: %+v", c.trust, c.addr, replication, r)
			}
		}
	}
	one, err := ParseTable([]string{"host all viewer all trust"})
	if err != nil {
		t.Fatal(err)
	}
	if r := one.Match(peer("10.0.0.1", "viewer", "d", false)); r.TrustsAnybody() {
		t.Error("a rule for one user trusts anybody")
	}
}

func TestMapsPermitWhatTheySay(t *testing.T) {
	m, err := ParseMaps([]string{
		"people alice app # one",
		`people /^(.*)@example\.org$ \1`,
		"people root all",
		`people "Max Muster" "all"`,
		"",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mapName, system, user string
		want                  bool
	}{
		{"", "alice", "alice", true},
		{"", "alice", "app", false},
		{"", "", "", false},
		{"people", "alice", "app", true},
		{"people", "alice", "alice", false},
		{"people", "bob@example.org", "bob", true},
		{"people", "bob@example.org", "alice", false},
		{"people", "bob@example.org.evil", "bob", false},
		{"people", "root", "anybody", true},
		{"people", "Max Muster", "all", true},
		{"people", "Max Muster", "x", false},
		{"other", "alice", "app", false},
	} {
		if got := m.Permit(c.mapName, c.system, c.user); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
	for _, line := range []string{"a b", "a b c d", "a /( c", `a /x \1`, `a "b c`} {
		var l *LineError
		if _, err := ParseMaps([]string{line}); !errors.As(err, &l) || l.Line != 0 {
			t.Errorf("%s: got %v", line, err)
		}
	}
}

func FuzzRule(f *testing.F) {
	f.Add(`hostssl app,"all" "same""user",alice 10.0.0.0 255.0.0.0 cert map=m # x`)
	f.Add("local all /^a,b$ trust")
	f.Fuzz(func(t *testing.T, line string) {
		table, err := ParseTable([]string{line})
		if err != nil {
			return
		}
		_ = table.Match(peer("10.0.0.1", "alice", "app", true))
		_, _ = ParseMaps([]string{line})
	})
}
