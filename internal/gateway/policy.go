package gateway

import (
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// Mode is when a client gives its server connection back.
type Mode uint8

// The modes. In statement mode a client cannot open a transaction.
const (
	Transaction Mode = iota
	Session
	Statement
)

var modeNames = [...]string{"transaction", "session", "statement"}

func (m Mode) String() string { return modeNames[m] }

// Policy is what holds for one database and user.
type Policy struct {
	Mode Mode
	Pool pool.Options // Server and Limits are filled in

	// Limits of all users of the database, and of all databases of the user,
	// together; 0: none.
	DatabaseClients, DatabaseServers int
	UserClients, UserServers         int
}

// policy returns what holds for a database and user now.
func (s *Server) policy(database, user string) (Policy, error) {
	o := s.live.Load()
	if o.Policy == nil {
		return Policy{Mode: o.Mode, Pool: o.Pool}, nil
	}
	return o.Policy(database, user)
}

// poolOptions are those of the pool of a user, as they should be now.
func (d *database) poolOptions(user string) (pool.Options, Mode, error) {
	policy, err := d.srv.policy(d.name, user)
	if err != nil {
		return pool.Options{}, 0, err
	}
	policy.Pool.Loops = d.srv.loops
	policy.Pool.Keys = func() (wire.ScramKeys, bool) { return d.srv.keys.Get(user) }
	policy.Pool.Server, err = d.srv.live.Load().Backend(d.name, user)
	if err != nil {
		return pool.Options{}, 0, err
	}
	u := d.srv.userLimits(user)
	d.limit.Set(policy.DatabaseServers)
	u.servers.Set(policy.UserServers)
	policy.Pool.Limits = []*pool.Limit{d.limit, u.servers}
	return policy.Pool, policy.Mode, nil
}

// begins says whether a text leaves a transaction open behind it.
func begins(plan *router.Plan) bool {
	if !plan.Effects {
		return false
	}
	open := false
	for i := range plan.Statements {
		switch st := &plan.Statements[i]; st.Kind {
		case sqltext.Begin:
			open = true
		case sqltext.Commit, sqltext.Rollback, sqltext.PrepareTransaction:
			open = open && st.Chain
		}
	}
	return open
}

// errStatementMode is what a client in statement mode gets for BEGIN.
func errStatementMode() *Error {
	return &Error{
		Code: "0A000", Message: "transaction blocks not allowed in statement pooling mode",
		Hint: "Send the statements as one simple query, or choose pool.mode transaction for this database or user.",
	}
}
