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
	c, ok := cfg.Policy(database, user)
	if !ok {
		return gateway.Policy{}, notServed(database)
	}
	return gateway.Policy{
		Mode: poolModes[c.Pool.Mode],
		Pool: pool.Options{
			Size: c.Pool.Size, Overflow: c.Pool.Overflow, ConnectTimeout: c.Backend.ConnectTimeout,
			Lifetime: c.Pool.ServerLifetime, IdleTimeout: c.Pool.ServerIdleTimeout,
			CheckDelay: c.Pool.ServerCheckDelay, Backoff: c.Pool.LoginBackoff,
		},
	}, nil
}

func notServed(database string) error {
	return &gateway.Error{
		Code: "3D000", Message: fmt.Sprintf("database %q is not served here", database), Fatal: true,
		Hint: "Add it to databases in the configuration, or an entry \"*\" for all that are not listed.",
	}
}
