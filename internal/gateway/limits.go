package gateway

import (
	"fmt"
	"time"

	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// userLimits counts what one user has in all databases together.
type userLimits struct {
	servers *pool.Limit
	clients int // under Server.mu
}

// userLimits returns those of a user.
func (s *Server) userLimits(user string) *userLimits {
	s.usersMu.Lock()
	defer s.usersMu.Unlock()
	u := s.users[user]
	if u == nil {
		u = &userLimits{servers: pool.NewLimit(0)}
		s.users[user] = u
	}
	return u
}

// admitLocked says why there may be no further client. The console is let in
// always.
func (s *Server) admitLocked(c *session, policy *Policy) error {
	if c.db == nil {
		return nil
	}
	full := func(limit, now int, what, key string) error {
		if limit <= 0 || now < limit {
			return nil
		}
		return fatal("53300", fmt.Sprintf("too many %s: %d are connected", what, now), "Close connections, or raise "+key+".")
	}
	if err := full(s.live.Load().MaxClients, len(s.sessions), "clients", "limits.max_clients"); err != nil {
		return err
	}
	if err := full(policy.DatabaseClients, c.db.clients, fmt.Sprintf("clients of database %q", c.database), "limits.max_database_clients, or max_clients of the database"); err != nil {
		return err
	}
	return full(policy.UserClients, s.userLimits(c.user).clients, fmt.Sprintf("clients of role %q", c.user), "limits.max_user_clients, or max_clients of the user")
}

// admitted says why there may be no further client before it takes a server connection
// of others to log in; whether there may be one is seen when it has.
func (s *Server) admitted(c *session, policy *Policy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admitLocked(c, policy)
}

// enterLocked counts a client, leaveLocked counts it no longer.
func (s *Server) enterLocked(c *session) {
	if c.db != nil {
		c.db.clients++
		s.userLimits(c.user).clients++
	}
}

func (s *Server) leaveLocked(c *session) {
	if c.db != nil {
		c.db.clients--
		s.userLimits(c.user).clients--
	}
}

// tellWaiting tells a client that waits for a server connection that it does. It
// holds none, so nothing that it was sent is incomplete.
func (s *session) tellWaiting() {
	b := wire.AppendNoticeResponse(s.out, &wire.ErrorFields{
		Severity: wire.SeverityNotice, SeverityV: wire.SeverityNotice, Code: "00000",
		Message: fmt.Sprintf("no server connection has become free for %s; waiting on", s.waiter.After),
		Detail:  fmt.Sprintf("Clients that wait for a connection to this database as this user: %d.", s.pool.Stat().Waiting),
		Hint:    "SHOW POOLS and SHOW PINS in the console say who holds them.",
	})
	_ = s.raw.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := s.net.Write(b)
	_ = s.raw.SetWriteDeadline(time.Time{})
	s.out = s.out[:0]
	if err != nil { // half a message may have gone out
		s.pool.Abort(&s.waiter, errHungUp)
	}
}
