package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"qvpgw/internal/admin"
	"qvpgw/internal/catalog"
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
			}
			return s
		},
		Cache: func() metrics.CacheStat {
			s := p.cache.Stat()
			return metrics.CacheStat{Entries: s.Entries, Bytes: s.Bytes, Budget: s.Budget, Evictions: s.Evictions, Rejections: s.Rejected}
		},
	})
}

// newConsole returns the virtual database's answers.
func (p *program) newConsole() *admin.Console {
	return &admin.Console{
		Version: versionText(),
		Pools:   p.poolRows,
		Clients: p.clientRows,
		Pins:    p.pinRows,
		Servers: p.serverRows,
		Stats:   p.statRows,
		Users:   p.userRows,
		Reload:  p.readAgain,

		Databases: p.databaseRows,
		Config: func() (rows []admin.ConfigRow) {
			for _, i := range p.cfg().Items() {
				rows = append(rows, admin.ConfigRow{Key: i.Key, Value: i.Value, Default: i.Default, Where: i.Where})
			}
			return rows
		},
	}
}

// answer is the console's answer as rows on the wire.
func (p *program) answer(text string) (gateway.Table, error) {
	t, err := p.console.Answer(text)
	if err != nil {
		var e *admin.Error
		if errors.As(err, &e) {
			return gateway.Table{}, &gateway.Error{Code: e.Code, Message: e.Message, Hint: e.Hint}
		}
		return gateway.Table{}, err
	}
	out := gateway.Table{Rows: t.Rows, Tag: "SHOW"}
	if len(t.Columns) == 0 {
		out.Tag = "RELOAD"
	}
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
			ServersActive: x.Active(), ServersIdle: x.Idle, ServersResting: x.Resting,
			Size: x.Size, Overflow: x.Overflow, OldestWait: x.OldestWait, Handovers: x.Handovers,
			Resets: x.Resets, LastError: x.LastDialError,
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
			Requested: x.Connected, PID: x.PID, ClientID: uint64(x.Client), App: x.App, Pinned: x.Pinned,
		}
		switch {
		case x.Idle:
			r.State = "idle"
		case x.Owner != 0:
			r.State = "active"
		}
		r.Addr, r.Port = hostPort(x.Remote)
		r.LocalAddr, r.LocalPort = hostPort(x.Local)
		rows = append(rows, r)
	}
	return rows
}

// statRows gives the figures of the process under the name of the backend's
// database; they are not kept apart for each.
func (p *program) statRows() []admin.StatsRow {
	m := p.metrics
	r := admin.StatsRow{
		Database: p.cfg().Backend.Database,
		Received: int64(metrics.Value(m.Received)), Sent: int64(metrics.Value(m.Sent)),
		SharedXacts: int64(metrics.Value(m.Transactions[metrics.Shared])),
		Routed:      int64(metrics.Value(m.Rewrites[metrics.Routed])),
		Cached:      int64(metrics.Value(m.CacheHits)),
		Refused:     int64(metrics.Value(m.Queries[metrics.Refused])),
	}
	r.Xacts = r.SharedXacts + int64(metrics.Value(m.Transactions[metrics.Pinned]))
	for _, q := range m.Queries {
		r.Queries += int64(metrics.Value(q))
	}
	for _, x := range p.gateway.Pools() {
		r.Assignments += x.Acquires
		r.WaitTime += time.Duration(x.Waited)
	}
	return []admin.StatsRow{r}
}

func (p *program) databaseRows() (rows []admin.DatabaseRow) {
	index := map[string]int{}
	for _, x := range p.gateway.Pools() {
		i, ok := index[x.Database]
		if !ok {
			i = len(rows)
			index[x.Database] = i
			state := "not read"
			if p.gateway.Catalog(x.Database) != nil {
				state = "read"
			}
			rows = append(rows, admin.DatabaseRow{
				Name: x.Database, Host: p.cfg().Backend.Host, Port: p.cfg().Backend.Port, Database: x.Database,
				Size: p.cfg().Pool.Size, Overflow: p.cfg().Pool.Overflow, Lifetime: p.cfg().Pool.ServerLifetime,
				Mode: x.Mode.String(), Catalog: state,
			})
		}
		rows[i].Servers += x.Open
	}
	for _, c := range p.gateway.Clients() {
		if i, ok := index[c.Database]; ok {
			rows[i].Clients++
		}
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
			rows = append(rows, admin.UserRow{Name: name, Mode: string(p.cfg().Users[name].Mode)})
		}
		return &rows[i]
	}
	for _, x := range p.gateway.Pools() {
		row(x.User).Servers += x.Open
	}
	for _, c := range p.gateway.Clients() {
		row(c.User).Clients++
	}
	return rows
}

func hostPort(a net.Addr) (string, int) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	n, _ := strconv.Atoi(port)
	return host, n
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
	for i, c := range p.metrics.Queries {
		s.Actions = append(s.Actions, admin.Count{Name: metrics.Action(i).String(), Count: metrics.Value(c)})
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
