package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"qvpgw/internal/admin"
	"qvpgw/internal/catalog"
	"qvpgw/internal/config"
	"qvpgw/internal/gateway"
	"qvpgw/internal/metrics"
	"qvpgw/internal/wire"
)

// watch has the metrics ask the parts at each scrape.
func (p *program) watch() {
	p.metrics.Watch(metrics.Sources{
		Clients: func() (s metrics.ClientStat) {
			for _, c := range p.gateway.Clients() {
				if c.Active {
					s.Active++
				} else {
					s.Idle++
				}
				for i := range s.Pinned {
					s.Pinned[i] += int(c.PinSet >> i & 1)
				}
			}
			return s
		},
		Servers: func() (s metrics.ServerStat) {
			for _, x := range p.gateway.Pools() {
				s.Idle += x.Idle
				s.Active += x.Active()
				s.Resting += x.Resting
				s.Waiting += x.Waiting
				s.OldestWait = max(s.OldestWait, x.OldestWait)
				s.Connects += x.Dials
				s.Failures += x.DialFailures
				s.Checkouts += x.Acquires
				s.Handovers += x.Handovers
				s.Timeouts += x.Timeouts
				s.Resets += x.Resets
				s.Dead += x.Dead
				s.ReserveUsed += x.ReserveUsed
				s.ReserveOpened += x.ReserveOpened
			}
			return s
		},
		Cache: p.cacheStat,
	})
}

// newConsole returns the virtual database's answers.
func (p *program) newConsole() *admin.Console {
	return &admin.Console{
		Version: versionText(),
		Pools:   p.poolRows,
		Clients: p.clientRows,
		Pins:    p.pinRows,
		Cache:   p.cacheRows,
		Logins:  p.loginRows,
		Login:   p.gateway.LoggingIn,
		Servers: p.serverRows,
		Stats:   p.statRows,
		Do:      p.do,
		Users:   p.userRows,
		Reload:  p.readAgain,

		Databases: p.databaseRows,
		Config: func() (rows []admin.ConfigRow) {
			for _, i := range p.cfg().Items() {
				rows = append(rows, admin.ConfigRow{Key: i.Key, Value: i.Value, Default: i.Default, Where: i.Where, Changeable: config.Reloadable(i.Key)})
			}
			return rows
		},
	}
}

// answer is the console's answer as rows on the wire.
func (p *program) answer(ctx context.Context, text string) (gateway.Table, error) {
	t, err := p.console.Answer(ctx, text)
	if err != nil {
		var e *admin.Error
		if errors.As(err, &e) {
			return gateway.Table{}, &gateway.Error{Code: e.Code, Message: e.Message, Hint: e.Hint}
		}
		return gateway.Table{}, err
	}
	out := gateway.Table{Rows: t.Rows, Tag: t.Tag}
	for _, c := range t.Columns {
		out.Columns = append(out.Columns, wire.Field{Name: c.Name, TypeOID: c.Type, TypeSize: -1, TypMod: -1})
	}
	return out, nil
}

func (p *program) poolRows() (rows []admin.PoolRow) {
	clients := p.gateway.Clients()
	for _, x := range p.gateway.Pools() {
		r := admin.PoolRow{
			Database: x.Database, User: x.User, Mode: x.Mode.String(), ClientsWaiting: x.Waiting,
			ServersActive: x.Active(), ServersIdle: x.Idle, ServersResting: x.Resting, ServersLogin: x.Login, Cancels: x.Cancels,
			Size: x.Size, Overflow: x.Overflow, OldestWait: x.OldestWait, Handovers: x.Handovers,
			Resets: x.Resets, LastError: x.LastDialError, Paused: x.Paused,
			Reserve: x.Reserve, ReserveUsed: x.ReserveUsed, ReservePeak: x.ReservePeak, ReserveOpened: x.ReserveOpened,
			Balance: string(p.policyOf(x.Database, x.User).Backend.LoadBalanceHosts),
		}
		for _, c := range clients {
			if c.Database != x.Database || c.Login != x.User {
				continue
			}
			if c.ServerPID != 0 {
				r.ClientsActive++
			}
			if len(c.Pins) > 0 {
				r.ClientsPinned++
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func (p *program) clientRows() (rows []admin.ClientRow) {
	for _, c := range p.gateway.Clients() {
		r := admin.ClientRow{
			ID: uint64(c.PID), User: c.User, Database: c.Database, State: "idle", Connected: c.Connected,
			Requested: c.Connected, ServerPID: c.ServerPID, App: c.App, Pins: c.Pins, LastRoute: c.LastRoute,
		}
		switch {
		case c.Active && c.ServerPID == 0:
			r.State = "waiting"
		case c.Active:
			r.State = "active"
		}
		r.Addr, r.Port = hostPort(c.Addr)
		r.LocalAddr, r.LocalPort = hostPort(c.Local)
		if c.TLS {
			r.TLS = "TLS"
		}
		rows = append(rows, r)
	}
	return rows
}

func (p *program) serverRows() (rows []admin.ServerRow) {
	for _, x := range p.gateway.Servers() {
		r := admin.ServerRow{
			ID: uint64(x.PID), User: x.User, Database: x.Database, State: "tested", Connected: x.Connected,
			Requested: x.Connected, PID: x.PID, ClientID: uint64(x.Client), Use: x.Use, App: x.App, Pinned: x.Pinned, CloseNeeded: x.Retired,
		}
		switch {
		case x.Idle:
			r.State = "idle"
		case x.Owner != 0:
			r.State, r.Requested = "active", x.Since
		}
		r.Addr, r.Port = hostPort(x.Remote)
		r.LocalAddr, r.LocalPort = hostPort(x.Local)
		rows = append(rows, r)
	}
	return rows
}

// statRows gives the figures of each database.
func (p *program) statRows() (rows []admin.StatsRow) {
	pools := p.gateway.Pools()
	for _, d := range p.gateway.Databases() {
		f := d.Figures
		r := admin.StatsRow{
			Database: d.Name, Xacts: f.SharedXacts + f.PinnedXacts, SharedXacts: f.SharedXacts, Queries: f.Queries,
			Received: f.Received, Sent: f.Sent, XactTime: f.XactTime, QueryTime: f.QueryTime,
			ClientParses: f.ClientParses, ServerParses: f.ServerParses, Binds: f.Binds,
			Routed: f.Routed, Cached: f.Cached, Refused: f.Refused,
		}
		for _, x := range pools {
			if x.Database == d.Name {
				r.Assignments += x.Acquires
				r.WaitTime += time.Duration(x.Waited)
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// policyOf is what the configuration says of a database and user; without an entry
// for them what holds for all.
func (p *program) policyOf(database, user string) config.Policy {
	c, err := served(p.cfg(), database, user)
	if err != nil {
		return config.Policy{Database: database, Backend: p.cfg().Backend, Pool: p.cfg().Pool}
	}
	return c
}

func (p *program) databaseRows() (rows []admin.DatabaseRow) {
	for _, d := range p.gateway.Databases() {
		c := p.policyOf(d.Name, "")
		r := admin.DatabaseRow{
			Name: d.Name, Host: c.Backend.Host, Port: c.Backend.Port, Database: c.Database,
			Size: c.Pool.Size, Overflow: c.Pool.Overflow, Min: c.Pool.Min, Reserve: c.Pool.Reserve,
			Lifetime: c.Pool.ServerLifetime, Mode: string(c.Pool.Mode), Balance: string(c.Backend.LoadBalanceHosts),
			Servers: d.Servers, Clients: d.Clients, MaxServers: c.DatabaseServers, MaxClients: c.DatabaseClients,
			Paused: d.Paused, Disabled: d.Disabled, Catalog: "not read",
		}
		if p.gateway.Catalog(d.Name) != nil {
			r.Catalog = "read"
		}
		rows = append(rows, r)
	}
	return rows
}

func (p *program) userRows() (rows []admin.UserRow) {
	index := map[string]int{}
	row := func(name string) *admin.UserRow {
		i, ok := index[name]
		if !ok {
			i = len(rows)
			index[name] = i
			own, listed := p.cfg().Users[name]
			if !listed {
				own = p.cfg().Users[config.Everything]
			}
			all := *p.cfg()
			all.Databases = nil
			c, _ := all.Policy("", name)
			rows = append(rows, admin.UserRow{
				Name: name, Mode: string(own.Mode), Size: optional(own.Size), Reserve: optional(own.Reserve),
				MaxServers: c.UserServers, MaxClients: c.UserClients,
			})
		}
		return &rows[i]
	}
	for _, x := range p.gateway.Pools() {
		row(x.User).Servers += x.Open
	}
	for _, c := range p.gateway.Clients() {
		if c.Login != "" { // the console's clients do not count
			row(c.User).Clients++
		}
	}
	return rows
}

// optional is a number that may be left out, "" without.
func optional(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func hostPort(a net.Addr) (string, int) {
	if a == nil {
		return "", 0 // its connection has ended
	}
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	n, _ := strconv.Atoi(port)
	return host, n
}

// loginRows are the logins that failed.
func (p *program) loginRows() (rows []admin.LoginRow) {
	for i, c := range p.metrics.LoginFailures {
		rows = append(rows, admin.LoginRow{Reason: metrics.LoginFailure(i).String(), Failed: int64(metrics.Value(c))})
	}
	return rows
}

func (p *program) pinRows() (rows []admin.PinRow) {
	for _, c := range p.gateway.Clients() {
		for _, reason := range c.Pins {
			rows = append(rows, admin.PinRow{
				ClientID: uint64(c.PID), User: c.User, Database: c.Database, Reason: reason,
				ServerPID: c.ServerPID, Since: c.Connected,
			})
		}
	}
	return rows
}

// status is what the operators' page shows.
func (p *program) status() admin.Status {
	st := p.cache.Stat()
	s := admin.Status{
		Version: versionText(), Started: p.started, Listen: p.cfg().Listen,
		Backend: admin.Backend{Address: net.JoinHostPort(p.cfg().Backend.Host, strconv.Itoa(p.cfg().Backend.Port))},
		Cache:   admin.CacheFigures{Entries: st.Entries, Bytes: st.Bytes, Budget: st.Budget, Hits: st.Hits, Misses: st.Misses, Evictions: st.Evictions},
		Pools:   p.poolRows(), Clients: p.clientRows(),
	}
	for i := range p.metrics.Queries {
		s.Actions = append(s.Actions, admin.Count{Name: metrics.Action(i).String(), Count: float64(p.metrics.Queries[i].Load())})
	}
	for _, r := range p.gateway.Routes() {
		s.Routes = append(s.Routes, admin.RouteRow{
			When: r.At, Database: r.Database, User: r.User, Text: r.Text,
			Action: r.Action, Reason: r.Reason, Source: r.What, Duration: r.Took,
		})
	}
	p.describeBackend(&s, p.gateway.Catalog(p.cfg().Backend.Database))
	return s
}

// describeBackend says what the server can do and which capabilities follow.
func (p *program) describeBackend(s *admin.Status, c *catalog.Snapshot) {
	if c == nil {
		s.Capabilities = []admin.Capability{{Name: "catalog", Reason: "not read yet: no client has asked for the database"}}
		return
	}
	s.Backend.Server = fmt.Sprintf("%d.%d", c.ServerVersion/10000, c.ServerVersion%10000)
	s.Backend.Timescale, s.Backend.Vector, s.Backend.InRecovery = c.Timescale, c.Vector, c.InRecovery
	if c.Timescale != "" {
		s.Backend.Edition = "apache"
		if c.Community {
			s.Backend.Edition = "community"
		}
	}
	route := admin.Capability{Name: "routing to continuous aggregates", On: true}
	switch {
	case !p.cfg().Route.Enabled:
		route.On, route.Reason = false, "route.enabled is false"
	case c.Timescale == "":
		route.On, route.Reason = false, "the server has no TimescaleDB"
	case !c.Community:
		route.On, route.Reason = false, "TimescaleDB's Apache edition has no continuous aggregates"
	default:
		route.Reason = fmt.Sprintf("%d continuous aggregates", len(c.Aggregates))
	}
	keep := admin.Capability{Name: "k-NN answers from memory", On: true, Reason: "pgvector " + c.Vector}
	switch {
	case !p.cfg().Cache.Enabled:
		keep.On, keep.Reason = false, "cache.enabled is false"
	case c.Vector == "":
		keep.On, keep.Reason = false, "the server has no pgvector"
	case c.InRecovery:
		keep.On, keep.Reason = false, "the server is a standby: answers cannot be validated there"
	}
	s.Capabilities = []admin.Capability{route, keep}
}
