package main

import (
	"fmt"

	"qvpgw/internal/config"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

var poolModes = map[config.PoolMode]gateway.Mode{
	config.PoolTransaction: gateway.Transaction,
	config.PoolSession:     gateway.Session,
	config.PoolStatement:   gateway.Statement,
}

// policy is what the configuration says of a client's database and user.
func policy(cfg *config.Config, database, user string) (gateway.Policy, error) {
	c, err := served(cfg, database, user)
	if err != nil {
		return gateway.Policy{}, err
	}
	return gateway.Policy{
		Mode: poolModes[c.Pool.Mode],
		Pool: pool.Options{
			Target: pool.Target(c.Backend.TargetSessionAttrs), Balance: pool.Balance(c.Backend.LoadBalanceHosts),
			Resolve: c.Backend.DNSRefresh, ConnectTimeout: c.Backend.ConnectTimeout,
			Size: c.Pool.Size, Overflow: c.Pool.Overflow, Min: c.Pool.Min,
			Reserve: c.Pool.Reserve, ReserveTimeout: c.Pool.ReserveTimeout,
			Lifetime: c.Pool.ServerLifetime, IdleTimeout: c.Pool.ServerIdleTimeout,
			CheckDelay: c.Pool.ServerCheckDelay, Backoff: c.Pool.LoginBackoff, BackoffMax: c.Pool.LoginBackoffMax,
			WaitDown: c.Pool.OnLoginFailure == config.FailWait,
		},
		DatabaseClients: c.DatabaseClients, DatabaseServers: c.DatabaseServers,
		UserClients: c.UserClients, UserServers: c.UserServers,
	}, nil
}

// served is cfg.Policy, or why a database is not served. The gateway's own login
// always is.
func served(cfg *config.Config, database, user string) (config.Policy, error) {
	c, ok := cfg.Policy(database, user)
	if !ok && database == cfg.Backend.Database && user == cfg.Backend.User {
		own := *cfg
		own.Databases = nil
		c, ok = own.Policy(database, user)
	}
	if !ok {
		return c, notServed(database)
	}
	return c, nil
}

func notServed(database string) error {
	return &gateway.Error{
		Code: "3D000", Message: fmt.Sprintf("database %q is not served here", database), Fatal: true,
		Hint: "Add it to databases in the configuration, or an entry \"*\" for all that are not listed.",
	}
}
