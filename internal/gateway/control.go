package gateway

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"qvpgw/internal/pool"
)

// What follows is the console's: each takes the name of a database, "" for all that
// clients have asked for. Errors are *Error.

// named returns the databases meant; one that no client has asked for is there
// when it would be served.
func (s *Server) named(name string) ([]*database, error) {
	if name == "" {
		return s.allDatabases(), nil
	}
	if _, err := s.policy(name, ""); err != nil {
		return nil, &Error{Code: "3D000", Message: fmt.Sprintf("no such database: %s", name)}
	}
	return []*database{s.database(name)}, nil
}

func (d *database) all() []*pool.Pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.pools))
}

// Pause has clients wait and closes each server connection when it is free; it
// returns when none is open. When ctx ends before that, it is as it was.
func (s *Server) Pause(ctx context.Context, name string) error {
	list, err := s.hold(name)
	if err != nil {
		return err
	}
	if err := settled(ctx, list, func(st pool.Stat) bool { return st.Open == 0 }); err != nil {
		_ = s.Resume(name)
		return err
	}
	return nil
}

// hold begins a pause.
func (s *Server) hold(name string) ([]*database, error) {
	list, err := s.named(name)
	if err != nil {
		return nil, err
	}
	if name == "" && s.paused.Swap(true) || name != "" && list[0].paused.Load() {
		return nil, &Error{Code: "55000", Message: "already paused", Hint: "RESUME goes on."}
	}
	for _, d := range list {
		d.paused.Store(true)
		for _, p := range d.all() {
			p.Pause()
		}
	}
	return list, nil
}

// Resume ends Pause and Kill.
func (s *Server) Resume(name string) error {
	list, err := s.named(name)
	if err != nil {
		return err
	}
	was := name == "" && s.paused.Swap(false)
	for _, d := range list {
		was = d.paused.Swap(false) || was
		for _, p := range d.all() {
			p.Resume()
		}
	}
	if !was {
		return &Error{Code: "55000", Message: "not paused"}
	}
	return nil
}

// Disable refuses new clients of a database, Enable admits them again.
func (s *Server) Disable(name string) error { return s.disable(name, true) }

// Enable ends Disable.
func (s *Server) Enable(name string) error { return s.disable(name, false) }

func (s *Server) disable(name string, on bool) error {
	if name == "" {
		return &Error{Code: "42601", Message: "a database is required"}
	}
	list, err := s.named(name)
	if err != nil {
		return err
	}
	list[0].disabled.Store(on)
	return nil
}

// Kill drops the clients and server connections of a database at once; new clients
// wait until Resume.
func (s *Server) Kill(name string) error {
	list, err := s.hold(name)
	if err != nil {
		return err
	}
	for _, c := range s.all() {
		if c.db != nil && slices.Contains(list, c.db) {
			s.end(c)
		}
	}
	return nil
}

// KillClient ends the client with that id, the process id that it was told.
func (s *Server) KillClient(id uint32) error {
	s.mu.Lock()
	c := s.sessions[id]
	s.mu.Unlock()
	if c == nil {
		return &Error{Code: "22023", Message: fmt.Sprintf("no client has the id %d", id), Hint: "SHOW CLIENTS has them in the column id."}
	}
	s.end(c)
	return nil
}

// end ends a client: what it runs is cancelled, and it is told if it listens.
func (s *Server) end(c *session) {
	c.evicted.CompareAndSwap(nil, fatal("57P01", "terminating connection due to administrator command", ""))
	c.stop()
	time.AfterFunc(sweepEvery, func() {
		s.mu.Lock()
		there := s.sessions[c.pid] == c
		s.mu.Unlock()
		if there {
			_ = c.raw.Close()
		}
	})
}

// Reconnect closes each server connection when it is free; new ones take their
// place.
func (s *Server) Reconnect(name string) error {
	list, err := s.named(name)
	if err != nil {
		return err
	}
	for _, d := range list {
		for _, p := range d.all() {
			p.Reconnect()
		}
	}
	return nil
}

// WaitClose waits until no server connection is left that Reconnect, a reload or a
// changed name wants closed.
func (s *Server) WaitClose(ctx context.Context, name string) error {
	list, err := s.named(name)
	if err != nil {
		return err
	}
	return settled(ctx, list, func(st pool.Stat) bool { return st.Retired == 0 })
}

// settled waits until every pool is as asked for.
func settled(ctx context.Context, list []*database, is func(pool.Stat) bool) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		waiting := false
		for _, d := range list {
			for _, p := range d.all() {
				waiting = waiting || !is(p.Stat())
			}
		}
		if !waiting {
			return nil
		}
		select {
		case <-ctx.Done():
			return &Error{Code: "57014", Message: "the command was ended while it waited", Err: ctx.Err()}
		case <-t.C:
		}
	}
}

// DatabaseStat is one database as it is now.
type DatabaseStat struct {
	Name             string
	Figures          Figures
	Clients          int
	Servers          int
	ServerLimit      int // of all users together, 0: none
	Paused, Disabled bool
}

// Databases returns those that clients have asked for, by name.
func (s *Server) Databases() []DatabaseStat {
	var out []DatabaseStat
	for _, d := range s.allDatabases() {
		s.mu.Lock()
		clients := d.clients
		s.mu.Unlock()
		out = append(out, DatabaseStat{
			Name: d.name, Figures: d.figures.read(), Clients: clients, Servers: d.limit.Used(), ServerLimit: d.limit.Max(),
			Paused: d.paused.Load(), Disabled: d.disabled.Load(),
		})
	}
	slices.SortFunc(out, func(a, b DatabaseStat) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
