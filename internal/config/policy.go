package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Database is what holds for one database that clients ask for; what it leaves out
// is backend's, pool's and limits'.
type Database struct {
	Database string `yaml:"database"` // its name at the server; "": the same
	Host     string `yaml:"host"`     // as backend.host
	Port     int    `yaml:"port"`

	TargetSessionAttrs TargetSession `yaml:"target_session_attrs"`
	LoadBalanceHosts   LoadBalance   `yaml:"load_balance_hosts"`

	Mode       PoolMode `yaml:"mode"`
	Size       *int     `yaml:"size"`
	Overflow   *int     `yaml:"overflow"`
	Min        *int     `yaml:"min"`
	Reserve    *int     `yaml:"reserve"`
	MaxClients *int     `yaml:"max_clients"` // of all its users together; 0: no limit
	MaxServers *int     `yaml:"max_servers"`
}

// UserPolicy is what holds for one user; what it leaves out is its database's. Its
// limits are those of all databases together.
type UserPolicy struct {
	Mode       PoolMode `yaml:"mode"`
	Size       *int     `yaml:"size"`
	Overflow   *int     `yaml:"overflow"`
	Reserve    *int     `yaml:"reserve"`
	MaxClients *int     `yaml:"max_clients"` // 0: no limit
	MaxServers *int     `yaml:"max_servers"`
}

// Everything is the name of the entry that stands for all that have none.
const Everything = "*"

// Policy is what the configuration says of one database and user.
type Policy struct {
	Database string // its name at the server
	Backend  Backend
	Pool     Pool

	DatabaseClients, DatabaseServers int // limits of all users together; 0: none
	UserClients, UserServers         int // of all databases together
}

// Policy merges, in rising order, backend, pool and limits, the entry of databases
// and that of users; "*" is the entry of who has none. It says false for a
// database that is not served: databases has entries, but none for it and no "*".
func (c *Config) Policy(database, user string) (Policy, bool) {
	p := Policy{
		Database: database, Backend: c.Backend, Pool: c.Pool,
		DatabaseClients: c.Limits.MaxDatabaseClients, DatabaseServers: c.Limits.MaxDatabaseServers,
		UserClients: c.Limits.MaxUserClients, UserServers: c.Limits.MaxUserServers,
	}
	d, ok := c.Databases[database]
	if !ok {
		d, ok = c.Databases[Everything]
	}
	if !ok && len(c.Databases) > 0 {
		return Policy{}, false
	}
	override(&p.Database, d.Database)
	override(&p.Backend.Host, d.Host)
	override(&p.Backend.Port, d.Port)
	override(&p.Backend.TargetSessionAttrs, d.TargetSessionAttrs)
	override(&p.Backend.LoadBalanceHosts, d.LoadBalanceHosts)
	override(&p.Pool.Mode, d.Mode)
	set(&p.Pool.Size, d.Size)
	set(&p.Pool.Overflow, d.Overflow)
	set(&p.Pool.Min, d.Min)
	set(&p.Pool.Reserve, d.Reserve)
	set(&p.DatabaseClients, d.MaxClients)
	set(&p.DatabaseServers, d.MaxServers)

	u, ok := c.Users[user]
	if !ok {
		u = c.Users[Everything]
	}
	override(&p.Pool.Mode, u.Mode)
	set(&p.Pool.Size, u.Size)
	set(&p.Pool.Overflow, u.Overflow)
	set(&p.Pool.Reserve, u.Reserve)
	set(&p.UserClients, u.MaxClients)
	set(&p.UserServers, u.MaxServers)
	p.Pool.Min = min(p.Pool.Min, p.Pool.Size)
	return p, true
}

func override[T comparable](target *T, value T) {
	var zero T
	if value != zero {
		*target = value
	}
}

func set(target *int, value *int) {
	if value != nil {
		*target = *value
	}
}

// HostPort is one server.
type HostPort struct {
	Host string // name, address, or directory of a Unix socket
	Port int
}

// Socket says whether it is reached over a Unix socket.
func (h HostPort) Socket() bool { return strings.HasPrefix(h.Host, "/") }

func (h HostPort) String() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// Hosts are the servers that Host lists: "db1, db2:5433, [::1]:5434, /run/postgresql";
// one without a port has Port.
func (b Backend) Hosts() ([]HostPort, error) {
	var list []HostPort
	for part := range strings.SplitSeq(b.Host, ",") {
		h := HostPort{strings.TrimSpace(part), b.Port}
		switch {
		case h.Host == "":
			return nil, fmt.Errorf("%q has an empty entry; write as db1,db2:5433", b.Host)
		case h.Socket(), strings.Count(h.Host, ":") > 1 && h.Host[0] != '[':
		case strings.Contains(h.Host, ":"):
			host, port, err := net.SplitHostPort(h.Host)
			n, bad := strconv.Atoi(port)
			if err != nil || bad != nil || n < 1 || n > 65535 || host == "" {
				return nil, fmt.Errorf("%q is not a host, nor host:port; write as db1 or db2:5433", h.Host)
			}
			h = HostPort{host, n}
		}
		list = append(list, h)
	}
	return list, nil
}

// policies checks the entries of databases and users.
func (v *validator) policies() {
	for _, name := range slices.Sorted(maps.Keys(v.c.Databases)) {
		d, at := v.c.Databases[name], "databases."+name
		if name == "" {
			v.add(at, "an entry of databases has no name; write \"*\" for all that have none")
		}
		if name == "qvpgw" || name == "pgbouncer" {
			v.add(at, "databases.%s: the name is the console's; choose another", name)
		}
		if d.Host != "" {
			b := v.c.Backend
			b.Host = d.Host
			v.hosts(at, b)
		}
		if d.Port != 0 {
			v.between(at+".port", d.Port, 1, 65535)
		}
		v.numbers(at, d.Size, d.Overflow, d.Reserve, d.MaxClients, d.MaxServers)
		if d.Min != nil {
			size := v.c.Pool.Size
			set(&size, d.Size)
			v.between(at+".min", *d.Min, 0, size)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.c.Users)) {
		u, at := v.c.Users[name], "users."+name
		if name == "" {
			v.add(at, "an entry of users has no name; write \"*\" for all that have none")
		}
		v.numbers(at, u.Size, u.Overflow, u.Reserve, u.MaxClients, u.MaxServers)
	}
}

func (v *validator) numbers(at string, size, overflow, reserve, clients, servers *int) {
	for _, n := range []struct {
		key       string
		value     *int
		low, high int
	}{
		{"size", size, 1, 10000},
		{"overflow", overflow, 0, 10000},
		{"reserve", reserve, 0, 10000},
		{"max_clients", clients, 0, 1 << 20},
		{"max_servers", servers, 0, 1 << 20},
	} {
		if n.value != nil {
			v.between(at+"."+n.key, *n.value, n.low, n.high)
		}
	}
}
