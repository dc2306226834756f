package gateway

import "maps"

// Reload has the server go on with other options; nobody is dropped. What it takes
// of opt: Guard, Backend, Policy, Mode, Pool, Rules, Admins, MaxClients, LoginTimeout,
// QueueTimeout, QueueNotify, CancelTimeout, IdleTimeout, IdleInTx,
// SlowReader, MaxEntry, Freshness, MaxAge and FreshTables. Modes hold for
// clients that log in from now on, all else for everybody; server connections to
// hosts that are not configured any more are closed when they are free.
func (s *Server) Reload(opt Options) {
	now := *s.live.Load()
	now.Backend, now.Policy, now.Mode, now.Pool, now.Rules, now.Admins = opt.Backend, opt.Policy, opt.Mode, opt.Pool, opt.Rules, opt.Admins
	now.Guard = opt.Guard
	now.MaxClients, now.LoginTimeout = opt.MaxClients, opt.LoginTimeout
	now.QueueTimeout, now.QueueNotify, now.CancelTimeout = opt.QueueTimeout, opt.QueueNotify, opt.CancelTimeout
	now.IdleTimeout, now.IdleInTx, now.SlowReader = opt.IdleTimeout, opt.IdleInTx, opt.SlowReader
	now.MaxEntry, now.Freshness, now.MaxAge, now.FreshTables = opt.MaxEntry, opt.Freshness, opt.MaxAge, opt.FreshTables
	s.live.Store(&now)
	for _, d := range s.allDatabases() {
		d.router.SetRules(now.Rules)
		d.mu.Lock()
		pools := maps.Clone(d.pools)
		d.mu.Unlock()
		for user, p := range pools {
			o, mode, err := d.poolOptions(user)
			if err != nil {
				s.log.Warn("cannot change a pool's options: its clients stay, new ones are refused", "database", d.name, "user", user, "error", err)
				continue
			}
			p.Reload(o)
			d.mu.Lock()
			d.readLocked(p, mode)
			d.mu.Unlock()
		}
	}
}

// ResizeCache has the memory of answers begin anew with another budget, in bytes. An error
// leaves it as it was.
func (s *Server) ResizeCache(bytes int64) error {
	for _, d := range s.allDatabases() {
		d.memory.near.forget()
	}
	return s.opt.Cache.Resize(bytes)
}
