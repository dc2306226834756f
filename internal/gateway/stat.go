package gateway

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
)

// ClientStat is one client as it is now.
type ClientStat struct {
	PID            uint32
	User, Database string
	Login          string // the user of its server connections
	PinSet         router.Pins
	App            string
	Addr, Local    net.Addr
	TLS            bool
	Method         string // of authentication
	Connected      time.Time
	Active         bool // a turn runs
	ServerPID      uint32
	Pins           []string
	LastRoute      string
}

// Clients returns the clients, oldest first.
func (s *Server) Clients() []ClientStat {
	var list []ClientStat
	for _, c := range s.all() {
		pins := router.Pins(c.pins.Load())
		x := ClientStat{
			PID: c.pid, User: c.user, Database: c.database, Login: c.login, PinSet: pins, Addr: c.raw.RemoteAddr(), Local: c.raw.LocalAddr(),
			TLS: c.net != c.raw, Method: string(c.method), Connected: c.started, Active: c.busy.Load()&1 == 1,
			Pins: pins.Names(), LastRoute: c.route.String(),
		}
		if app := c.app.Load(); app != nil {
			x.App = *app
		}
		if h := c.held.Load(); h != nil {
			x.ServerPID = h.PID
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b ClientStat) int { return a.Connected.Compare(b.Connected) })
	return list
}

// LoggingIn is how many connections have not logged in yet.
func (s *Server) LoggingIn() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entering)
}

// PoolStat is one pool as it is now.
type PoolStat struct {
	Database, User string
	Mode           Mode // of new clients
	pool.Stat
}

// Pools returns the pools, by database and user.
func (s *Server) Pools() []PoolStat {
	var list []PoolStat
	for _, d := range s.allDatabases() {
		d.mu.Lock()
		for user, p := range d.pools {
			policy, _ := s.policy(d.name, user) // an error: no new clients
			list = append(list, PoolStat{d.name, user, policy.Mode, p.Stat()})
		}
		d.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b PoolStat) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.User, b.User))
	})
	return list
}

func (s *Server) allDatabases() []*database {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq(make([]*database, 0, len(s.databases)), maps.Values(s.databases))
}

// Catalog returns the newest catalog of a database, or nil.
func (s *Server) Catalog(name string) *catalog.Snapshot {
	for _, d := range s.allDatabases() {
		if d.name == name {
			return d.catalog.Load()
		}
	}
	return nil
}

// ServerStat is one server connection as it is now.
type ServerStat struct {
	Database, User string
	Client         uint32 // virtual pid of the client that holds it, 0: none
	Use            string // what the gateway itself holds it for: "listener", "rounds" or "control", else ""
	Pinned         bool
	App            string
	pool.ConnStat
}

// Servers returns the server connections.
func (s *Server) Servers() []ServerStat {
	holders := map[uint64]*session{}
	for _, c := range s.all() {
		holders[c.owner] = c
	}
	var list []ServerStat
	for _, d := range s.allDatabases() {
		d.mu.Lock()
		pools := maps.Clone(d.pools)
		d.mu.Unlock()
		own := d.owners()
		for user, p := range pools {
			for _, c := range p.Conns() {
				x := ServerStat{Database: d.name, User: user, Use: own[c.Owner], ConnStat: c}
				if h := holders[c.Owner]; h != nil {
					x.Client, x.Pinned = h.pid, h.pins.Load() != 0
					if app := h.app.Load(); app != nil {
						x.App = *app
					}
				}
				list = append(list, x)
			}
		}
	}
	return list
}

// owners are those of a database that are no clients, and what they hold connections for.
func (d *database) owners() map[uint64]string {
	m := map[uint64]string{pool.ControlOwner: "control"}
	d.listener.mu.Lock()
	if d.listener.conn != nil {
		m[d.listener.owner] = "listener"
	}
	d.listener.mu.Unlock()
	d.memory.mu.Lock()
	if d.memory.link != nil {
		m[d.memory.link.owner] = "rounds"
	}
	d.memory.mu.Unlock()
	return m
}

// Query runs one statement of our own on a pooled server connection.
func (s *Server) Query(database, user, sql string) ([][]*string, error) {
	p, err := s.database(database).pool(user)
	if err != nil {
		return nil, err
	}
	return p.Query(sql, readTimeout)
}

// Ask runs one statement of our own with parameters; names in it without a schema
// are pg_catalog's.
func (s *Server) Ask(database, user, sql string, args ...string) ([][]*string, error) {
	p, err := s.database(database).pool(user)
	if err != nil {
		return nil, err
	}
	return p.Ask(sql, args, readTimeout)
}

// Spare runs work of our own that nobody waits for on a server connection that nobody
// needs now; false: there is none. timeout is that of each statement.
func (s *Server) Spare(database, user string, timeout time.Duration, work func(QueryFunc) error) (bool, error) {
	s.mu.Lock()
	d := s.databases[database]
	s.mu.Unlock()
	if d == nil {
		return false, nil // no client has asked for it yet
	}
	p, err := d.pool(user)
	if err != nil {
		return false, err
	}
	return p.Spare(timeout, func(query func(string) ([][]*string, error)) error { return work(query) })
}

// Ready says whether a database can be reached now, by one empty query.
func (s *Server) Ready(name, user string) error {
	p, err := s.database(name).pool(user)
	if err != nil {
		return err
	}
	_, err = p.Query("SELECT 1", 2*time.Second)
	return err
}
